"""The running average of the weights, which is what a training gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch

__all__ = ["Average"]


class Average:
    """Exponential moving average of a module's values (Polyak and Juditsky 1992).

    Parameters
    ----------
    module
        Its floating-point values are averaged, counters are copied.
    keep
        Part of the average that one step keeps; less in the first steps, so that the start does
        not weigh on it. 0: the average is the module.
    """

    def __init__(self, module: torch.nn.Module, keep: float) -> None:
        self._module, self._keep = module, keep
        self._steps = 0
        self._changing = [n for n, v in module.state_dict().items() if isinstance(v, torch.Tensor)]
        self.values = {n: module.state_dict()[n].detach().clone() for n in self._changing}

    @torch.no_grad()
    def update(self) -> None:
        """Move every value towards the module's."""
        self._steps += 1
        keep = min(self._keep, self._steps / (self._steps + 9))
        now = self._module.state_dict()
        old = [v for v in self.values.values() if v.is_floating_point()]
        new = [now[n] for n, v in self.values.items() if v.is_floating_point()]
        torch._foreach_lerp_(old, new, 1 - keep)
        for name, value in self.values.items():
            if not value.is_floating_point():
                value.copy_(now[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The module has the averaged values meanwhile."""
        own = {n: self._module.state_dict()[n].detach().clone() for n in self._changing}
        _set(self._module, self.values)
        try:
            yield
        finally:
            _set(self._module, own)

    def state(self) -> dict[str, Any]:
        """What `load` takes."""
        return {"steps": self._steps, "values": dict(self.values)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state` gave."""
        self._steps = int(state["steps"])
        for name, value in state["values"].items():
            self.values[name].copy_(value)


@torch.no_grad()
def _set(module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    own = module.state_dict()
    for name, value in values.items():
        own[name].copy_(value)
