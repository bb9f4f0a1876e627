"""Losses for values that are no probabilities: squared, absolute, and between the two."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from torch.nn import functional

from biozoo.errors import UsageError

from .base import Loss, activated, check_activation, weighted_mean

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["L1", "MSE", "Huber"]


class _Difference(Loss):
    """The weighted mean of something of the difference.

    Parameters
    ----------
    activation
        What makes the values from the logits: "none" or "sigmoid".

    Raises
    ------
    UsageError
        If it is neither.
    """

    name = ""

    def __init__(self, *, activation: Literal["none", "sigmoid"] = "none") -> None:
        super().__init__()
        check_activation(self.name, activation, ("none", "sigmoid"))
        self.activation = activation

    def value(self, logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
        """The weighted mean over channels and pixels."""
        return weighted_mean(self.each(activated(logits, self.activation), target), weight)

    @abstractmethod
    def each(self, values: Tensor, target: Tensor) -> Tensor:
        """The loss of each pixel."""


class MSE(_Difference):
    """The squared difference."""

    name = "mse"

    def each(self, values: Tensor, target: Tensor) -> Tensor:
        """(a - b)^2."""
        return functional.mse_loss(values, target, reduction="none")


class L1(_Difference):
    """The absolute difference."""

    name = "l1"

    def each(self, values: Tensor, target: Tensor) -> Tensor:
        """|a - b|."""
        return functional.l1_loss(values, target, reduction="none")


class Huber(_Difference):
    """Half the squared difference up to `delta`, from there on rising in a straight line.

    Parameters
    ----------
    delta
        Where the one turns into the other, in the units of the target.
    activation
        What makes the values from the logits: "none" or "sigmoid".

    Raises
    ------
    UsageError
        If `delta` is not above 0.
    """

    name = "huber"

    def __init__(
        self, *, delta: float = 1.0, activation: Literal["none", "sigmoid"] = "none"
    ) -> None:
        super().__init__(activation=activation)
        if not delta > 0:
            raise UsageError(f"Loss 'huber' got delta {delta}. Expected more than 0.")
        self.delta = delta

    def each(self, values: Tensor, target: Tensor) -> Tensor:
        """Huber (1964)."""
        return functional.huber_loss(values, target, reduction="none", delta=self.delta)
