"""The loss of a recipe: the sum of its parts, each on its channels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from ..patches import Batch
    from ..recipe import Recipe
    from ..targets.base import Target

__all__ = ["Objective"]


class Objective(torch.nn.Module):
    """Called with logits (b c, spatial axes) and a batch; gives one number.

    `parts` holds each summand by name after a call, before its factor.

    Raises
    ------
    UsageError
        A part looks at a channel that the target does not have.
    NotFoundError
        A loss that is not installed.
    """

    def __init__(self, recipe: Recipe, target: Target, ndim: int) -> None:
        from ..losses import make_loss

        super().__init__()
        names = target.channels(ndim)
        terms: Any = recipe.losses or target.default_losses(ndim)
        self._terms: list[tuple[str, float, slice | list[int] | None]] = []
        losses = []
        for term in terms:
            channels = None if term.channels is None else list(term.channels)
            if channels and max(channels) >= len(names):
                raise UsageError(
                    f"The recipe's loss '{term.kind}' looks at channel {max(channels)}; the target "
                    f"has {len(names)}: {', '.join(names)}, counted from 0."
                )
            of = "" if channels is None else f" {'+'.join(names[c] for c in channels)}"
            self._terms.append((f"{term.kind}{of}", float(term.weight), _picked(channels)))
            losses.append(make_loss(term.kind, term.options))
        self.losses = torch.nn.ModuleList(losses)
        self.parts: dict[str, torch.Tensor] = {}

    def forward(self, logits: torch.Tensor, batch: Batch) -> torch.Tensor:
        """The weighted sum."""
        total = logits.new_zeros(())
        self.parts = {}
        for (name, factor, channels), loss in zip(self._terms, self.losses, strict=True):
            weight = batch.weight
            given, target = logits, batch.target
            if channels is not None:
                given, target = given[:, channels], target[:, channels]
                weight = weight if weight.shape[1] == 1 else weight[:, channels]
            value = loss(given, target, weight)
            self.parts[name] = value.detach()
            total = total + factor * value
        return total


def _picked(channels: list[int] | None) -> slice | list[int] | None:
    """What takes these channels of a tensor: without a copy where they follow each other."""
    if not channels or channels != list(range(channels[0], channels[-1] + 1)):
        return channels
    return slice(channels[0], channels[-1] + 1)
