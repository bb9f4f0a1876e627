"""Focal loss: a cross-entropy that turns from what is easy to what is hard."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from biozoo.errors import UsageError

from .base import Loss, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Focal"]


class Focal(Loss):
    """Binary cross-entropy times (1 - p)^gamma, p being the chance of the truth (Lin et al. 2017).

    Parameters
    ----------
    gamma
        How strongly easy pixels lose; 0 gives the cross-entropy itself.

    Raises
    ------
    UsageError
        If it is negative.
    """

    def __init__(self, *, gamma: float = 2.0) -> None:
        super().__init__()
        if not gamma >= 0:
            raise UsageError(f"Loss 'focal' got gamma {gamma}. Expected 0 or more.")
        self.gamma = gamma

    def value(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The weighted mean over channels and pixels."""
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        chance = torch.sigmoid(logits)
        missed = chance + target - 2 * chance * target  # 1 - p, for soft targets too
        # At 0 the power has no slope of its own below gamma 1: kept off it.
        hard = missed.clamp(min=1e-8) ** self.gamma
        return weighted_mean(hard * entropy, weight)
