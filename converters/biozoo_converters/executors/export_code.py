"""A trusted package's network in a confined child: run, and exported to ONNX there.

The facts are those of `biozoo_runners.executors.torch_code`, and ``who``, the network's name for
messages. A call's first array is JSON as bytes and says what to do with the others:
``{"do": "run"}``, or ``{"do": "export", "strategy": ..., "input_names": ..., "output_names": ...,
"free": ..., "opset": ...}``, which gives two arrays of bytes: the graph, and as JSON what makes it
doubtful (`Network.doubts`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import BiozooError
from biozoo_runners.executors.torch_code import TorchCode
from biozoo_runners.executors.torch_code import _ordered as ordered
from biozoo_runners.isolated.executor import NotFitting

from ..exporting.export import strategies_of
from ..networks.network import ExportRequest
from ..networks.torch_network import TorchNetwork

__all__ = ["ExportCode", "command", "request_of"]


class ExportCode(TorchCode):
    """A network with its weights, that can also be exported."""

    def __init__(self, facts: Mapping[str, Any], scratch: Path) -> None:
        """Build the network and load its weights, as for running it."""
        super().__init__(facts, scratch)
        self._network = self._network.float()  # as for packing: float16 is slow on the CPU
        self._who = str(facts["who"])
        self._made: TorchNetwork | None = None

    def describe(self) -> dict[str, Any]:
        """What the backend tells, and the ways to export."""
        return {**super().describe(), "strategies": list(strategies_of(self._network))}

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Do what the first array says."""
        asked = json.loads(np.asarray(arrays[0]).tobytes())
        given = [np.array(a) for a in arrays[1:] if a is not None]
        try:
            made = self._made = self._made or self._opened(given)
            if asked["do"] == "run":
                return made.run(given)
            strategy = asked["strategy"]
            data = made.export(request_of(asked, given), strategy)
        except BiozooError as exc:
            raise NotFitting(str(exc)) from exc
        doubts = json.dumps(made.doubts.get(strategy, ())).encode()
        return [np.frombuffer(data, np.uint8), np.frombuffer(doubts, np.uint8)]

    def _opened(self, given: list[npt.NDArray[Any]]) -> TorchNetwork:
        """The network with the outputs that the description names, as the backend takes them."""
        ids = self._output_ids
        plain = TorchNetwork(self._network, name=self._who, sha256="-")  # the parent has the hash
        value = plain.call(given)
        ordered(value, ids)  # raises where the names are others
        kept: list[Any] = ids if isinstance(value, Mapping) else list(range(len(ids)))
        return TorchNetwork(self._network, name=self._who, sha256="-", outputs=kept)


def command(do: str, **facts: Any) -> npt.NDArray[np.uint8]:
    """What to do, as the array that a call begins with."""
    return np.frombuffer(json.dumps({"do": do, **facts}).encode(), np.uint8)


def request_of(asked: Mapping[str, Any], inputs: list[npt.NDArray[Any]]) -> ExportRequest:
    """A request as it came through JSON, whose keys are text."""
    free = [{int(axis): tuple(rule) for axis, rule in axes.items()} for axes in asked["free"]]
    return ExportRequest(
        inputs=tuple(inputs),
        input_names=tuple(asked["input_names"]),
        output_names=tuple(asked["output_names"]),
        free=tuple(free),
        opset=asked["opset"],
    )
