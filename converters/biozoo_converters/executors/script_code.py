"""A trusted package's network in a confined child, compiled or traced to TorchScript there.

The facts are those of `biozoo_runners.executors.torch_code`. A call's first array is JSON as bytes,
``{"strategy": "script" | "trace"}``, the others are the inputs; it gives one array of bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import NetworkError
from biozoo_runners.executors.torch_code import TorchCode
from biozoo_runners.isolated.executor import NotFitting

from ..conversion.to_torchscript import script

__all__ = ["ScriptCode"]


class ScriptCode(TorchCode):
    """A network with its weights, that is made TorchScript."""

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """The archive as bytes."""
        strategy = json.loads(np.asarray(arrays[0]).tobytes())["strategy"]
        inputs = [np.array(a) for a in arrays[1:] if a is not None]
        module = self._network
        with self._torch.no_grad():
            made = module(*[self._tensor(a) for a in inputs])
        if isinstance(made, Mapping) or (isinstance(made, tuple | list) and len(made) == 1):
            if strategy == "script":
                raise NotFitting("the network gives no plain tensors, which TorchScript would keep")
            module = self._in_order(module)
        try:
            return [np.frombuffer(script(module, inputs, strategy), np.uint8)]
        except NetworkError as exc:
            raise NotFitting(str(exc)) from exc

    def _in_order(self, module: Any) -> Any:
        """The module with its outputs as a tuple, in the order of the description."""
        ids = self._output_ids

        class InOrder(self._torch.nn.Module):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.network = module

            def forward(self, *inputs: Any) -> Any:
                made = self.network(*inputs)
                values = [made[i] for i in ids] if isinstance(made, Mapping) else list(made)
                return tuple(values) if len(values) > 1 else values[0]

        return InOrder().eval()
