"""Takes the activation off a network's output, and puts tensors into one order of axes.

Losses want the numbers before the sigmoid or softmax: computed from these they are exact where a
probability is close to 0 or 1, and have a gradient there. Where the last operation of the network
is the activation, it is switched off. Where it is not to be reached (TorchScript, or more comes
after it), it is undone: ``log(p / (1 - p))``, or ``log p`` of a softmax, with p kept 1e-6 from the
ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from biozoo.package import ModelPackage
    from biozoo_runners.sizes import TensorGeometry

    from .recipe import Recipe
    from .targets.base import Activation

__all__ = ["LogitsModule", "activated", "logits_module"]

EPS = 1e-6


class Switch(torch.nn.Module):
    """An activation that can be left out."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.off = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Activate, unless switched off."""
        made: torch.Tensor = x if self.off else self.inner(x)
        return made


class LogitsModule(torch.nn.Module):
    """A network's one output as logits, tensors in the order b c and spatial axes.

    Parameters
    ----------
    network
        One tensor per input, axes as described.
    input, output
        Axes of the tensor that it is given and of the one that is taken.
    index
        Which of its outputs that is.
    undo
        Per channel what is undone: "sigmoid", "softmax" or "none"; one word for all channels.
    switch
        The activation that is left out, where there is one to be had.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        input: Sequence[str],
        output: Sequence[str],
        index: int,
        undo: Activation | tuple[Activation, ...],
        switch: Switch | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self._index, self._undo = index, undo
        self._switch = [switch]  # in a list: it is registered in the network already
        self._spatial = tuple(a for a in input if a not in ("batch", "channel"))
        self._input, self._output = tuple(input), tuple(output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (b c spatial) of preprocessed pixels (b c spatial)."""
        with self._without_activation():
            if "batch" in self._input:
                made = self._one(x)
            else:  # a network of single images
                made = torch.cat([self._one(x[n : n + 1]) for n in range(len(x))])
        return made if self._switch[0] is not None else _undone(made, self._undo)

    def to_standard(self, array: np.ndarray) -> np.ndarray:
        """An input tensor with axes as described, as float32 (b c spatial)."""
        wanted = ("batch", "channel", *self._spatial)
        added = [a for a in wanted if a not in self._input]
        array = array.reshape((1,) * len(added) + array.shape)
        have = (*added, *self._input)
        return np.ascontiguousarray(
            array.transpose([have.index(a) for a in wanted]).astype(np.float32)
        )

    @contextmanager
    def _without_activation(self) -> Iterator[None]:
        switch = self._switch[0]
        if switch is None:
            yield
            return
        switch.off = True
        try:
            yield
        finally:
            switch.off = False

    def _one(self, x: torch.Tensor) -> torch.Tensor:
        order = ("batch", "channel", *self._spatial)
        given = _arranged(x, order, self._input)
        made = self.network(given)
        if isinstance(made, tuple):
            made = made[self._index]
        result: torch.Tensor = _arranged(made, self._output, order)
        return result


def logits_module(
    package: ModelPackage,
    recipe: Recipe,
    network: torch.nn.Module,
    activation: Activation | tuple[Activation, ...],
    real: Mapping[str, np.ndarray],
) -> tuple[LogitsModule, tuple[str, ...]]:
    """The module that gives logits, and a note where the activation had to be undone.

    Parameters
    ----------
    activation
        Of the target's channels.
    real
        An input of the package, as its network takes it.
    """
    from biozoo_runners.program import program_of

    model = program_of(package).geometry
    given, taken = model.tensor(recipe.input), model.tensor(recipe.output)
    index = [t.id for t in model.outputs].index(recipe.output)
    if recipe.activation != "network" or activation == "none":
        return _module(network, given, taken, index, "none", None), ()
    switch = None
    if isinstance(activation, str):
        switch = _switched(network, index, real[recipe.input], activation, taken)
    module = _module(network, given, taken, index, activation, switch)
    if switch is not None:
        return module, ()
    what = activation if isinstance(activation, str) else "activation"
    return module, (f"the network's own {what} is undone for the loss, not switched off",)


def activated(
    logits: torch.Tensor, activation: Activation | tuple[Activation, ...]
) -> torch.Tensor:
    """Maps (b c spatial) of logits, one activation for all channels or one per channel."""
    if activation == "softmax":
        return torch.softmax(logits, 1)
    if activation == "sigmoid":
        return torch.sigmoid(logits)
    if activation == "none":
        return logits
    chosen = [n for n, a in enumerate(activation) if a == "softmax"]
    maps = [torch.sigmoid(logits[:, n]) if a == "sigmoid" else logits[:, n]
            for n, a in enumerate(activation)]  # fmt: skip
    if chosen:
        for n, plane in zip(chosen, torch.softmax(logits[:, chosen], 1).unbind(1), strict=True):
            maps[n] = plane
    return torch.stack(maps, 1)


def _undone(maps: torch.Tensor, undo: Activation | tuple[Activation, ...]) -> torch.Tensor:
    if undo == "none":
        return maps
    kept = maps.clamp(EPS, 1 - EPS)
    if undo == "sigmoid":
        return torch.logit(kept)
    if undo == "softmax":
        return torch.log(kept)
    parts = []
    for n, kind in enumerate(undo):
        plane = kept[:, n]
        parts.append({"sigmoid": torch.logit, "softmax": torch.log}.get(kind, lambda p: p)(plane))
        if kind == "none":
            parts[-1] = maps[:, n]
    return torch.stack(parts, 1)


def _module(
    network: torch.nn.Module,
    given: TensorGeometry,
    taken: TensorGeometry,
    index: int,
    undo: Activation | tuple[Activation, ...],
    switch: Switch | None,
) -> LogitsModule:
    return LogitsModule(network, given.dims, taken.dims, index, undo, switch).eval()


def _switched(
    network: torch.nn.Module,
    index: int,
    sample: np.ndarray,
    activation: Activation,
    taken: TensorGeometry,
) -> Switch | None:
    """The network's last operation made a switch, where it is this activation and nothing else.

    It must have been called once and have made the very tensor that the network returned.
    """
    calls: dict[str, list[tuple[torch.Tensor, torch.Tensor]]] = {}
    handles = []
    for name, part in network.named_modules():
        if type(part).__name__.lower() == activation and not _is_script(part):
            calls[name] = []

            def note(_: Any, given: Any, made: Any, seen: Any = calls[name]) -> None:
                seen.append((given[0], made))

            handles.append(part.register_forward_hook(note))
    try:
        with torch.no_grad():
            made = network(torch.from_numpy(np.array(sample)))
    finally:
        for handle in handles:
            handle.remove()
    made = made[index] if isinstance(made, tuple) else made
    for name, seen in calls.items():
        if len(seen) != 1 or seen[0][1] is not made:
            continue
        standard = _arranged(seen[0][0], taken.dims, ("batch", "channel"))
        expected = _arranged(made, taken.dims, ("batch", "channel"))
        if not torch.allclose(activated(standard, activation), expected, atol=1e-5):
            continue  # a softmax along another axis
        path, _, last = name.rpartition(".")
        switch = Switch(network.get_submodule(name))
        setattr(network.get_submodule(path), last, switch)
        return switch
    return None


def _is_script(part: torch.nn.Module) -> bool:
    return isinstance(part, torch.jit.ScriptModule)


def _arranged(x: torch.Tensor, have: Sequence[str], first: Sequence[str]) -> torch.Tensor:
    """With the axes `first` in front (those that are missing added, others that are one and not
    wanted taken out), the rest as they are.
    """
    order = [*first, *(a for a in have if a not in first and a not in ("batch", "channel"))]
    named = list(have)
    for axis in ("batch", "channel"):
        if axis in named and axis not in order:
            place = named.index(axis)
            x, named = x.squeeze(place), named[:place] + named[place + 1 :]
    for axis in [a for a in order if a not in named]:
        x, named = x.unsqueeze(0), [axis, *named]
    return x.permute([named.index(a) for a in order])
