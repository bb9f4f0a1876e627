"""Cross-entropy over classes of which each pixel has exactly one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional

from .base import Loss, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CrossEntropy"]


class CrossEntropy(Loss):
    """Cross-entropy of the softmax over channels; targets are the probability of each class.

    A pixel counts if it does so in every channel, and as much as in the one where it counts least.
    """

    def value(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The weighted mean over pixels."""
        entropy = functional.cross_entropy(logits, target, reduction="none")
        return weighted_mean(entropy, weight.amin(dim=1))
