"""What stands in for pixels that are NaN or infinite.

One NaN would otherwise spread over every pixel whose context holds it, and through a mean or a
standard deviation over the whole image. The mean is what normalisation turns into 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import ImageMismatchError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Replacement", "find_replacement", "replacement"]


@dataclass(frozen=True, slots=True)
class Replacement:
    """Values for the pixels of one tensor that are not finite: its mean and its extremes.

    Attributes
    ----------
    mean
        Of the finite pixels, in place of NaN.
    low, high
        The extremes of the finite pixels, in place of infinities.
    count
        Pixels that are not finite.
    """

    mean: float
    low: float
    high: float
    count: int

    def apply(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """A copy of `pixels`, or of a part of them, in which all are finite."""
        filled = np.nan_to_num(pixels, nan=self.mean, posinf=self.high, neginf=self.low)
        return np.asarray(filled)


def replacement(mean: float, low: float, high: float, count: int) -> Replacement:
    """Put a mean, as it was computed, between the extremes: rounding may have led out of them, and
    the sum of huge pixels overflows.
    """
    if not math.isfinite(mean):
        mean = low / 2 + high / 2
    return Replacement(min(max(mean, low), high), low, high, count)


def find_replacement(pixels: NDArray[Any]) -> Replacement | None:
    """What replaces the pixels that are not finite; None where all are.

    Raises
    ------
    ImageMismatchError
        If no pixel is finite.
    """
    if pixels.dtype.kind != "f":
        return None
    with np.errstate(all="ignore"):
        if np.isfinite(pixels.sum()):  # one fast pass, no temporary; false alarms are harmless
            return None
    finite = np.isfinite(pixels)
    count = pixels.size - int(finite.sum())
    if count == pixels.size:
        raise nothing_finite()
    if not count:
        return None
    good = pixels[finite]
    with np.errstate(over="ignore"):
        mean = float(good.mean(dtype=np.float64))
    return replacement(mean, float(good.min()), float(good.max()), count)


def nothing_finite() -> ImageMismatchError:
    """The error for an image of which nothing can be seen."""
    return ImageMismatchError(
        "The image has no finite pixel: all are NaN or infinite. Check how it was saved."
    )
