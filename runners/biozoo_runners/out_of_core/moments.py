"""Mean and standard deviation of pixels that are seen piece by piece, once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Moments"]


@dataclass(frozen=True, slots=True)
class Moments:
    """How many values, their mean, and the sum of their squared distances from it, in float64."""

    n: int = 0
    mean: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: NDArray[Any]) -> Moments:
        """Those of an array of at least one value, in two readings."""
        with np.errstate(over="ignore", invalid="ignore"):  # they may be asked for nothing
            mean = float(values.sum(dtype=np.float64)) / values.size
            centred = np.subtract(values, mean, dtype=np.float64)
            return cls(values.size, mean, float(np.square(centred, out=centred).sum()))

    def __add__(self, other: Moments) -> Moments:
        """Those of both together.

        Chan, Golub and LeVeque (1983), "Algorithms for computing the sample variance: analysis
        and recommendations", The American Statistician 37, 242-247, equations 2.1.
        """
        if not self.n or not other.n:
            return self if self.n else other
        n = self.n + other.n
        apart, share = other.mean - self.mean, other.n / n
        between = apart * apart * self.n * share
        return Moments(n, self.mean + apart * share, self.squares + other.squares + between)

    @property
    def std(self) -> float:
        """Standard deviation of the population, divided by n."""
        return math.sqrt(self.squares / self.n)
