"""Half the size: the mean of 2 x 2 pixels of an image, the nearest pixel of labels.

All coarse levels come from these two functions, each from the one below it, so that a level is the
same however it was made.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

_AT_ONCE = 2**18
"""Bytes that are reduced at once: few enough for a core's cache."""


def halve(pixels: NDArray[Any], *, nearest: bool) -> NDArray[Any]:
    """Reduce both sides by two, rounded up.

    Parameters
    ----------
    pixels
        (y, x) of uint8, uint16 or float32; of any type where `nearest`.
    nearest
        Take the pixel at the upper left of each 2 x 2 instead of their mean. Means of integers are
        rounded, half up; pixels that are not numbers (NaN) do not count; beyond an odd edge the
        last pixel is repeated.
    """
    if nearest:
        return np.ascontiguousarray(pixels[::2, ::2])
    tall, wide = pixels.shape
    if tall % 2 or wide % 2:
        pixels = np.pad(pixels, ((0, tall % 2), (0, wide % 2)), mode="edge")
    pixels = np.ascontiguousarray(pixels)
    out = np.empty((pixels.shape[0] // 2, pixels.shape[1] // 2), pixels.dtype)
    rows = max(1, _AT_ONCE // (2 * pixels.shape[1] * pixels.itemsize))
    mean = _float_mean if pixels.dtype.kind == "f" else _integer_mean
    for top in range(0, len(out), rows):
        part = pixels[2 * top : 2 * (top + rows)]
        out[top : top + rows] = mean(part[::2], part[1::2])
    return out


def _integer_mean(upper: NDArray[Any], lower: NDArray[Any]) -> NDArray[Any]:
    """Neighbours in x are taken as the halves of one number of twice the width: without strides."""
    bits = 8 * upper.itemsize
    wider = np.dtype(f"u{2 * upper.itemsize}")
    low = (1 << bits) - 1
    one, two = upper.view(wider), lower.view(wider)
    total: NDArray[Any] = (one & low) + (one >> bits)
    total += two & low
    total += two >> bits
    total += 2
    total >>= 2
    return total


def _float_mean(upper: NDArray[Any], lower: NDArray[Any]) -> NDArray[Any]:
    with np.errstate(invalid="ignore", over="ignore"):
        total: NDArray[Any] = upper[:, ::2] + upper[:, 1::2]
        total += lower[:, ::2]
        total += lower[:, 1::2]
        total *= 0.25
    holes = np.isnan(total)
    if holes.any():
        four = np.stack([upper[:, ::2], upper[:, 1::2], lower[:, ::2], lower[:, 1::2]])[:, holes]
        numbers = ~np.isnan(four)
        with np.errstate(invalid="ignore", over="ignore"):  # nothing of nothing stays NaN
            total[holes] = np.where(numbers, four, 0).sum(0) / numbers.sum(0)
    return total


def as_sent(pixels: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Pixels of a file as the type that they are sent in; negative labels are background."""
    if pixels.dtype == dtype:
        return pixels
    if dtype == np.uint32 and pixels.dtype.kind == "i":
        pixels = np.maximum(pixels, 0)
    with np.errstate(over="ignore"):
        return pixels.astype(dtype)


def little_endian(pixels: NDArray[Any]) -> bytes:
    """The bytes of pixels as they are sent, in C order."""
    if sys.byteorder == "big":
        pixels = pixels.byteswap()
    return pixels.tobytes()
