"""Networks to ONNX: what the graph has to look like, and the attempts to make it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy.typing as npt

from biozoo.errors import NetworkError
from biozoo.install import install_line
from biozoo_runners.base import Availability
from biozoo_runners.devices import importable

from ..networks.network import ExportRequest
from .base import Attempt, Converter, Job

if TYPE_CHECKING:
    from biozoo_runners.sizes import ModelGeometry

    from ..networks.network import Network

__all__ = ["NAME", "OPSET", "TorchToOnnx", "export_request", "onnx_attempts", "onnx_entry"]

#: The weights' file in a package.
NAME = "weights.onnx"

#: Old enough for the tools of bioimage.io, new enough for every exporter.
OPSET = 18


def export_request(
    geometry: ModelGeometry,
    inputs: Mapping[str, npt.NDArray[Any]],
    *,
    batch: bool,
    opset: int = OPSET,
) -> ExportRequest:
    """What a graph for a model of this geometry has to look like: variable is what is described so.

    Parameters
    ----------
    geometry
        Of the description (`biozoo_runners.sizes.geometry`, or what was probed).
    inputs
        Per input tensor id an array as the network takes it; axes as described.
    batch
        Whether batches of any size are allowed.

    Raises
    ------
    NetworkError
        An input has no array.
    """
    from biozoo_runners.sizes import ParameterizedSize, SizeReference

    if missing := [t.id for t in geometry.inputs if t.id not in inputs]:
        raise NetworkError(
            f"Input {' and '.join(map(repr, missing))} has no test tensor: a graph is made with an "
            "array for each input. Give the package a test tensor for it."
        )
    free: list[dict[int, tuple[str, int, int]]] = []
    named: dict[tuple[str, str], tuple[str, int, int]] = {}
    for tensor in geometry.inputs:
        axes: dict[int, tuple[str, int, int]] = {}
        for number, axis in enumerate(tensor.axes):
            # Axes of two inputs are two lengths, unless the description ties one to the other.
            taken = {name for name, _, _ in named.values()}
            name = f"{tensor.id}_{axis.id}" if axis.id in taken else axis.id
            match axis.size:
                case _ if axis.kind == "batch":
                    if batch:
                        axes[number] = ("batch", 1, 1)
                case ParameterizedSize(least, step):
                    axes[number] = named[tensor.id, axis.id] = (name, step, least)
                case SizeReference(offset=0):
                    root, ratio = geometry.referenced(tensor.id, axis.id)
                    same = named.get(root) if ratio == 1 else None
                    axes[number] = named[tensor.id, axis.id] = same or (name, 1, 1)
                case SizeReference():
                    axes[number] = named[tensor.id, axis.id] = (name, 1, 1)
                case _:
                    pass
        free.append(axes)
    return ExportRequest(
        inputs=tuple(inputs[t.id] for t in geometry.inputs),
        input_names=tuple(t.id for t in geometry.inputs),
        output_names=tuple(t.id for t in geometry.outputs),
        free=tuple(free),
        opset=opset,
    )


def onnx_attempts(
    network: Network, request: ExportRequest, *, name: str = NAME
) -> Iterator[Attempt]:
    """One attempt per way in which the network can be exported, best first, tidied.

    Parameters
    ----------
    network
        What is exported.
    request
        What the graph has to look like; see `export_request`.
    name
        The weights' file in the package.
    """
    for strategy in network.strategies:
        yield Attempt(
            strategy,
            partial(_exported, network, request, strategy, name),
            doubts=partial(_doubts, network, strategy),
        )


def onnx_entry(folder: Path, name: str = NAME) -> dict[str, Any]:
    """The description's entry of a graph that lies in a folder."""
    from .onnx_tidy import import_onnx, opset_of

    content = (folder / name).read_bytes()
    model = import_onnx().load_model_from_string(content)
    return {
        "source": name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "opset_version": opset_of(model),
    }


def _exported(
    network: Network, request: ExportRequest, strategy: str, name: str, folder: Path
) -> dict[str, Any]:
    from .onnx_tidy import tidy

    (folder / name).write_bytes(tidy(network.export(request, strategy), request))
    return onnx_entry(folder, name)


def _doubts(network: Network, strategy: str) -> tuple[str, ...]:
    return network.doubts.get(strategy, ())


class TorchToOnnx(Converter):
    """PyTorch state dicts and TorchScript archives to ONNX."""

    name: ClassVar[str] = "torch-onnx"
    sources: ClassVar[tuple[str, ...]] = ("pytorch_state_dict", "torchscript")
    target: ClassVar[str] = "onnx"

    @classmethod
    def available(cls) -> Availability:
        """Whether torch and onnx are installed."""
        missing = [n for n in ("torch", "onnx", "onnxscript") if not importable(n)]
        reason = f"{' and '.join(missing)} is not installed" if missing else ""
        return Availability(not missing, reason, ("cpu",), install_line("pack"))

    @classmethod
    def attempts(cls, job: Job) -> Iterable[Attempt]:
        """The exporters of torch, one after the other."""
        from ..networks.package_network import package_network

        with package_network(job.package, job.source) as network:
            yield from onnx_attempts(network, job.request)
