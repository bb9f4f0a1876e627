"""Binary cross-entropy: each channel on its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from .base import Loss, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["BCE"]


class BCE(Loss):
    """Binary cross-entropy of the sigmoid of each channel; targets may lie between 0 and 1."""

    def value(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The weighted mean over channels and pixels."""
        entropy = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
        return weighted_mean(entropy, weight)
