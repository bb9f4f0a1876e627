"""The networks of a package: its weights of one format, to be run and exported."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from biozoo.errors import BackendError, NetworkError, OutOfMemoryError
from biozoo.files import sha256_of
from biozoo_runners.base import described
from biozoo_runners.devices import usable_cores
from biozoo_runners.isolated.client import Child, ForeignError, first_line
from biozoo_runners.state_dict import StateDictBackend

from ..executors.export_code import command
from .network import ExportRequest, Network
from .opening import open_weights

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.base import Backend

__all__ = ["Executed", "package_network"]

_EXPORT_SECONDS = 1800.0


def package_network(package: ModelPackage, weights_format: str) -> Network:
    """The network of a package's weights, on the CPU.

    A state dict is built by its author's code: that must have been allowed, and runs and is
    exported in a confined child. TorchScript and ONNX are looked at before they are loaded. What
    else the runners execute (keras_v3, keras_hdf5, ...) can be run and has no ONNX export here.

    Raises
    ------
    UntrustedCodeError
        Nobody has allowed the package's code.
    NetworkError
        The weights cannot be loaded.
    NoBackendError, MissingDependencyError
        Nothing here runs such weights.
    """
    entry = package.raw["weights"].get(weights_format)
    if entry is None:
        have = ", ".join(package.raw["weights"])
        raise NetworkError(f"Model '{package.id}' has no {weights_format} weights; it has {have}.")
    ids = described(package)
    if weights_format == "pytorch_state_dict":
        return _StateDict(package)
    path = package.path(entry["source"])
    if weights_format == "torchscript":
        from .torchscript_network import open_torchscript

        script = open_torchscript(path)
        script.output_names = ids["output_ids"]
        return script
    if weights_format == "onnx":
        from .onnx_network import OnnxNetwork

        return OnnxNetwork(path, root=package.root)
    return Executed(package, weights_format, open_weights(package, weights_format))


class _StateDict(Network):
    """A state dict and its architecture, in a confined child."""

    format = "pytorch_state_dict"

    def __init__(self, package: ModelPackage):
        threads = usable_cores()[1]
        request = StateDictBackend.request(
            package, self.format, device="cpu", threads=threads
        )  # raises where the code was not allowed
        ids = described(package)
        self.name = str(request.weights_name)
        self.input_names, self.output_names = ids["input_ids"], ids["output_ids"]
        self.sha256 = sha256_of(package.path(package.raw["weights"][self.format]["source"]))
        self._id = package.id
        facts = {
            **request.facts,
            "device": "cpu",
            "threads": threads,
            "input_ids": list(self.input_names),
            "output_ids": list(self.output_names),
            "who": f"{request.facts['source']}:{request.facts['callable']}",
        }
        try:
            self._child = Child.start(
                "biozoo_converters.executors.export_code:ExportCode",
                facts,
                model=package.id,
                doing=f"load its weights {self.name}",
                threads=threads,
                readable=request.readable,
            )
        except ForeignError as exc:
            raise self._told(exc, "load") from exc
        told = self._child.facts.get("strategies")
        self.strategies = tuple(str(s) for s in told) if isinstance(told, list) else ()
        self.notes = self._child.code_notes

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Call it once; see `Network.run`."""
        return self._ask("run", [command("run"), *inputs])

    def export(self, request: ExportRequest, strategy: str) -> bytes:
        """The network as an ONNX graph, made in the child; see `Network.export`."""
        free = [{str(k): list(v) for k, v in axes.items()} for axes in request.free]
        asked = command(
            "export",
            strategy=strategy,
            input_names=request.input_names,
            output_names=request.output_names,
            free=free,
            opset=request.opset,
        )
        made = self._ask("export", [asked, *request.inputs], seconds=_EXPORT_SECONDS)
        try:
            data, told = (part.tobytes() for part in made)
            doubts = tuple(str(d)[:400] for d in json.loads(told))
        except (ValueError, TypeError) as exc:  # its author's code runs there: nothing is certain
            raise NetworkError(f"Model '{self._id}': its process gave no graph.") from exc
        self.doubts = {**self.doubts, strategy: doubts}
        return data

    def close(self) -> None:
        """End the child; may be called twice."""
        self._child.close()

    def _ask(
        self,
        doing: str,
        arrays: Sequence[npt.NDArray[Any]],
        *,
        seconds: float | None = None,
    ) -> list[npt.NDArray[Any]]:
        self._child.doing = f"{doing} its weights {self.name}"
        try:
            return self._child.run(arrays, seconds=seconds)
        except ForeignError as exc:
            raise self._told(exc, doing) from exc

    def _told(self, error: ForeignError, doing: str) -> NetworkError | OutOfMemoryError:
        if error.kind in ("MemoryError", "OutOfMemoryError"):
            return OutOfMemoryError(f"Model '{self._id}': {first_line(error.text)}.")
        if error.kind == "NotFitting":
            return NetworkError(f"Model '{self._id}': {error.text}")
        at = f" ({error.where})" if error.where else ""
        return NetworkError(
            f"Model '{self._id}' failed to {doing} its weights {self.name}: its author's code"
            f"{at} raised {error.kind}: {first_line(error.text)}. Ask the package's author."
        )


class Executed(Network):
    """Weights that a runner's backend executes, and nothing here exports."""

    def __init__(self, package: ModelPackage, weights_format: str, backend: Backend):
        """`backend` has these weights open; closing the network closes it."""
        self.format = weights_format
        ids = described(package)
        self.input_names, self.output_names = ids["input_ids"], ids["output_ids"]
        source = package.path(package.raw["weights"][weights_format]["source"])
        self.name = source.name
        self.sha256 = sha256_of(source) if source.is_file() else ""
        self._backend = backend
        self.notes = self._backend.info.notes

    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Execute it once; see `Network.run`."""
        feed: Mapping[str, npt.NDArray[Any]] = dict(zip(self.input_names, inputs, strict=True))
        try:
            made = self._backend.run(feed)
        except BackendError as exc:
            raise NetworkError(str(exc)) from exc
        return [made[i] for i in self.output_names]

    def close(self) -> None:
        """Free the backend."""
        self._backend.close()
