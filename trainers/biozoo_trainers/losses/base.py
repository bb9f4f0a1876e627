"""What a loss is, and how ignored pixels are kept out of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Literal

import torch

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ACTIVATIONS", "Loss", "activated", "check_activation", "weighted_mean"]

ACTIVATIONS = ("sigmoid", "softmax", "none")


class Loss(torch.nn.Module, ABC):
    """From logits, target and weight to one number, smaller being better.

    `forward` sees to the rules that all losses share and calls `value`:

    - Where the weight is 0, neither logits nor target are looked at: changing them changes
      nothing, NaN included, and the gradient there is exactly 0.
    - Without any pixel that counts the loss is 0, with a gradient of 0.
    - It is computed in float32, whatever the network computes in.
    """

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The loss.

        Parameters
        ----------
        logits
            The network's output before its activation (b c, then the spatial axes).
        target
            Of the same shape: the channels after their activation.
        weight
            How much each pixel counts, 0 where it is ignored (b, 1 or c, then the spatial axes).

        Returns
        -------
        Tensor
            One number, with a gradient.

        Raises
        ------
        UsageError
            If the shapes do not belong together.
        """
        if logits.shape != target.shape or not _fits(weight, logits):
            raise UsageError(
                f"{type(self).__name__} got logits {tuple(logits.shape)}, target "
                f"{tuple(target.shape)} and weight {tuple(weight.shape)}. Expected logits and "
                "target of one shape, and a weight of that shape or with one channel."
            )
        weight = weight.float().expand_as(logits)
        counts = weight > 0
        if not bool(counts.all()):
            # Chosen, not multiplied: 0 times NaN is NaN, in the value and in the gradient.
            zero = logits.new_zeros((), dtype=torch.float32)
            logits = torch.where(counts, logits.float(), zero)
            target = torch.where(counts, target.float(), zero)
        return self.value(logits.float(), target.float(), weight)

    @abstractmethod
    def value(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The loss of tensors of one shape in float32, 0 in logits and target where ignored."""


def weighted_mean(losses: Tensor, weight: Tensor) -> Tensor:
    """The mean of losses per pixel, each counted as often as its weight says; 0 for no weight."""
    total = weight.sum()
    return (losses * weight).sum() / total.clamp(min=torch.finfo(torch.float32).tiny)


def activated(logits: Tensor, activation: str) -> Tensor:
    """The channels (axis 1) after their activation."""
    if activation == "sigmoid":
        return torch.sigmoid(logits)
    return torch.softmax(logits, dim=1) if activation == "softmax" else logits


def check_activation(loss: str, got: str, known: tuple[str, ...] = ACTIVATIONS) -> None:
    """Raise a `UsageError` unless the activation is one that this loss can take."""
    if got not in known:
        raise UsageError(
            f"Loss '{loss}' has no activation {got!r}. Expected {' or '.join(map(repr, known))}."
        )


def _fits(weight: Tensor, logits: Tensor) -> bool:
    one: Literal[1] = 1
    return (
        weight.ndim == logits.ndim
        and weight.shape[1] in (one, logits.shape[1])
        and weight.shape[:1] + weight.shape[2:] == logits.shape[:1] + logits.shape[2:]
    )
