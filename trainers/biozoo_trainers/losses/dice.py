"""Soft Dice: the overlap of what is found with what is there, each channel as a whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from biozoo.errors import UsageError

from .base import Loss, activated, check_activation

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Dice"]


class Dice(Loss):
    """1 - (2 * sum(p t) + s) / (sum(p + t) + s), the mean over channels (Drozdzal et al. 2016).

    Milletari et al. (2016) have the squares of p and t in the denominator. The sums run over the
    pixels of the whole batch. A weight says here only whether a pixel counts: an overlap is one of
    areas. A channel without any pixel that counts is left out.

    Parameters
    ----------
    activation
        What makes p from the logits: "sigmoid", "softmax" or "none".
    channels
        The channels whose overlap counts, by index; all without it. A softmax is one over all.
    smooth
        s: above 0, so that a channel that is empty and stays empty has no loss.

    Raises
    ------
    UsageError
        If an option is none of those.
    """

    def __init__(
        self,
        *,
        activation: Literal["sigmoid", "softmax", "none"] = "sigmoid",
        channels: Sequence[int] | None = None,
        smooth: float = 1.0,
    ) -> None:
        super().__init__()
        check_activation("dice", activation)
        if not smooth > 0:
            raise UsageError(f"Loss 'dice' got smooth {smooth}. Expected more than 0.")
        self.activation, self.smooth = activation, smooth
        self.channels = None if channels is None else list(channels)

    def value(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The mean over the channels that have pixels that count."""
        counts = (weight > 0).float()
        chance = activated(logits, self.activation) * counts
        target = target * counts
        if self.channels is not None:
            chance, target, counts = (a[:, self.channels] for a in (chance, target, counts))
        axes = [0, *range(2, logits.ndim)]
        overlap = (chance * target).sum(dim=axes)
        total = (chance + target).sum(dim=axes)
        dice = 1 - (2 * overlap + self.smooth) / (total + self.smooth)
        here = (counts.sum(dim=axes) > 0).float()
        return (dice * here).sum() / here.sum().clamp(min=1)
