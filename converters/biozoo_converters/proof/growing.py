"""Inputs of any size from one sample: mirrored where it is too small, its middle where too large.

Mirroring keeps the values and the structure of an image without a seam; plain repetition would put
edges into it that no microscope makes, and a network would answer to those.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["grow", "mirrored"]


def mirrored(size: int, own: int, *, start: int | None = None) -> NDArray[np.intp]:
    """Which of `own` pixels stand in a line of `size`: 0 1 2 3 2 1 0 1 ... (own = 4).

    Parameters
    ----------
    size, own
        Pixels wanted and pixels there are; `own` at least 1.
    start
        First pixel; default 0, or what leaves the middle where `size` is smaller than `own`.
    """
    if own < 1:
        raise ValueError("An axis without pixels cannot be grown.")
    first = max(0, (own - size) // 2) if start is None else start
    if own == 1:
        return np.zeros(size, np.intp)
    phase = np.arange(first, first + size) % (2 * (own - 1))
    return np.minimum(phase, 2 * (own - 1) - phase)


def grow(array: NDArray[Any], sizes: Mapping[int, int]) -> NDArray[Any]:
    """`array` with other sizes along some axes; never computes a value, only repeats them.

    Parameters
    ----------
    array
        Any shape and dtype, at least one pixel along the axes named.
    sizes
        Axis number -> pixels wanted.

    Returns
    -------
    NDArray
        A contiguous copy; the other axes as they were.
    """
    grown = array
    for axis, size in sizes.items():
        grown = grown.take(mirrored(size, grown.shape[axis]), axis=axis)
    return np.ascontiguousarray(grown)
