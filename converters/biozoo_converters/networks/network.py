"""A network before it is a package: numpy in, numpy out, on the CPU.

`zoo pack` and the converters see a torch module, a TorchScript archive, an ONNX graph and a trusted
package's state dict through this one seam; what they are made of stays behind it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy.typing as npt

from biozoo.closing import Closing

__all__ = ["ExportRequest", "Named", "Network", "Progress", "Reference"]

#: Called with (what, done, total or None).
Progress = Callable[[str, int, int | None], None]


@dataclass(frozen=True)
class ExportRequest:
    """What an ONNX graph has to look like.

    Attributes
    ----------
    inputs
        One array per input, axes as described: what the exporter traces with.
    input_names, output_names
        What the graph calls them: the tensor ids of the description.
    free
        Per input, axis number -> (name, step, least): the axes whose size varies, in which steps
        and from which size. All others are fixed at the size in `inputs`.
    opset
        Version of ONNX's operators.
    """

    inputs: tuple[npt.NDArray[Any], ...]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    free: tuple[Mapping[int, tuple[str, int, int]], ...] = field(default=())
    opset: int = 18


class Network(Closing, ABC):
    """Something that computes arrays from arrays.

    Attributes
    ----------
    format
        The weights format of bioimageio.spec that it comes from, ``"pytorch_state_dict"`` say.
    name
        For messages and the certificate, ``"net.py:Net"`` or ``"weights.onnx"``.
    input_names
        What it calls its inputs, in order.
    sha256
        Of its weights file, or where it has none of its tensors' names, shapes and values.
    strategies
        The ways it can be exported to ONNX, best first; empty where there is none.
    notes
        What its author should know of how it was opened: random weights, another precision.
    output_names
        What it calls its outputs, in order: keys of a dict, names of a graph, else "output",
        "output1", ...; empty before the first `run` where only that tells.
    doubts
        Strategy -> decisions of the network that its last export has frozen: what to tell the
        author where the graph turns out to be wrong at another size.
    """

    format: str
    name: str
    input_names: tuple[str, ...]
    sha256: str = ""
    strategies: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    output_names: tuple[str, ...] = ()
    doubts: Mapping[str, tuple[str, ...]] = {}

    @abstractmethod
    def run(self, inputs: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Call it once, in inference mode.

        Raises
        ------
        NetworkError
            It refuses these sizes, or gives something that is no tensor.
        OutOfMemoryError
            Memory ended.
        """

    def export(self, request: ExportRequest, strategy: str) -> bytes:
        """The network as an ONNX graph, nothing beside it.

        Raises
        ------
        NetworkError
            This strategy does not manage; says at which operator and in which submodule.
        """
        raise NotImplementedError(f"{type(self).__name__} has no export {strategy}")

    @property
    def module(self) -> Any:
        """The `torch.nn.Module` in evaluation mode, or None where there is none in this process."""
        return None

    def close(self) -> None:
        """Free what it holds; may be called twice."""


@dataclass(frozen=True)
class Named:
    """A network called by tensor ids, as a `biozoo_runners.base.Backend` is."""

    network: Network
    input_ids: tuple[str, ...]
    output_ids: tuple[str, ...]

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Arrays by tensor id."""
        made = self.network.run([inputs[i] for i in self.input_ids])
        return dict(zip(self.output_ids, made, strict=False))


class Reference(Protocol):
    """What a conversion has to agree with: the original network, called by tensor ids.

    `Named` and every `biozoo_runners.base.Backend` are one.
    """

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Arrays by tensor id, axes as described."""
