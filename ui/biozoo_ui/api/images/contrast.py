"""What a first look at the pixels tells: contrast per channel, and whether they number objects."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reduce import as_sent
from .source import Place, Source

_WHOLE = 2**20  # pixels of a plane that is looked at as a whole
_ALL = 2**23  # pixels of all channels together that are
_SIDE = 128  # of a block of a larger one
_BLOCKS = 64  # of all channels together: what can be decoded while a person waits
_LOW, _HIGH = 0.1, 99.9  # percentiles
_MOST = 2**18  # pixels of one channel that are sorted
_ALIKE = 0.6  # share of equal neighbours from which on numbers are objects


def look(source: Source, channel: int) -> NDArray[Any]:
    """A subsample of a channel, of the file's own type, (n, y, x): whole pixels side by side.

    Of the first time point and the middle of z. Blocks rather than every n-th pixel: of a
    compressed file only the tiles under them are decoded.
    """
    sizes = source.sizes
    place = Place(0, channel, sizes["z"] // 2)
    tall, wide = sizes["y"], sizes["x"]
    if tall * wide <= min(_WHOLE, _ALL // sizes["channel"]):
        return source.read(0, place, slice(0, tall), slice(0, wide))[None]
    grid = max(1, min(4, math.isqrt(_BLOCKS // sizes["channel"] or 1)))
    height, width = min(tall, _SIDE), min(wide, _WHOLE // tall if tall < _SIDE else _SIDE)
    strips = source.grain is not None and source.grain[1] >= wide
    blocks = []
    for row in range(grid):
        top = _at(row, grid, tall, height)
        y = slice(top, top + height)
        # Of strips, which go from side to side, all blocks of a row are decoded together.
        whole = source.read(0, place, y, slice(0, wide)) if strips else None
        for column in range(grid):
            left = _at(column, grid, wide, width)
            x = slice(left, left + width)
            blocks.append(source.read(0, place, y, x) if whole is None else whole[:, x])
    return np.stack(blocks)


def _at(number: int, count: int, size: int, side: int) -> int:
    """Where the block of this number begins: in the middle of its part of `size`, and at a multiple
    of its side, so that it lies within one tile of most files.
    """
    return (size - side) * (2 * number + 1) // (2 * count) // side * side


def numbers_objects(name: str, seen: NDArray[Any]) -> bool:
    """Whether pixels number objects: integers, mostly equal to their neighbour, and of a name or a
    type that says so.
    """
    if seen.dtype.kind not in "iu" or seen.min() < 0:
        return False
    named = any(word in name.lower() for word in ("label", "mask"))
    if not named and seen.dtype.itemsize < 4:
        return False
    if seen.shape[-1] < 2:
        return named
    return bool(np.mean(seen[..., 1:] == seen[..., :-1]) >= _ALIKE)


@dataclass(frozen=True)
class Contrast:
    """`range`: what the values can be; `shown`: what black and full colour should be at first."""

    range: tuple[float, float]
    shown: tuple[float, float]


def contrast(seen: NDArray[Any], dtype: np.dtype[Any], *, rgb: bool = False) -> Contrast:
    """Contrast of a channel from its subsample; `dtype`: of the tiles.

    8 and 16 bits range over what they can hold, others over what was seen. Shown is from the 0.1th
    to the 99.9th percentile, all that was seen where these are equal; a colour picture as it is.
    Always finite, the second above the first.
    """
    values = as_sent(seen, dtype).ravel()
    values = values[:: max(1, len(values) // _MOST)]
    values = values[np.isfinite(values)]
    if not len(values):
        values = np.zeros(1, dtype)
    low, high = float(values.min()), float(values.max())
    if seen.dtype.kind in "iu" and seen.dtype.itemsize <= 2:
        info = np.iinfo(seen.dtype)
        whole = (float(info.min), float(info.max))
    else:
        whole = _apart(low, high)
    if rgb:
        return Contrast(whole, whole)
    dark, bright = (float(v) for v in np.percentile(values.astype(np.float64), (_LOW, _HIGH)))
    if seen.dtype.kind in "iu":
        dark, bright = float(math.floor(dark)), float(math.ceil(bright))
    return Contrast(whole, (dark, bright) if dark < bright else _apart(low, high))


def _apart(low: float, high: float) -> tuple[float, float]:
    """The same where they differ, else a range that begins there."""
    return (low, high) if low < high else (low, low + max(1.0, abs(low) * 1e-6))
