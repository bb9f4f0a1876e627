"""How many pixels each number has, and in which blocks it is: kept up to date edit by edit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Set
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .blocks import Key, Pixels
from .model import SIDE, Counts, Kind, Plane, Range

_FEW = 2**16  # numbers up to which counting in bins is quicker than sorting


class Tally:
    """The numbers of one annotation; 0 is not counted.

    Parameters
    ----------
    found
        Every block in which something is.
    last
        The highest number that an object ever had, as far as was kept.
    """

    def __init__(self, found: Iterable[tuple[Key, Pixels]], *, last: int = 0) -> None:
        self.last = last
        self._pixels: dict[int, int] = defaultdict(int)
        self._where: dict[int, set[Key]] = defaultdict(set)
        for key, pixels in found:
            self._add(key, pixels)

    def change(self, key: Key, before: Pixels, after: Pixels) -> None:
        """Take note that a block has changed."""
        other = before != after
        for number, count in numbers(before[other]):
            self._pixels[number] -= count
            if not self._pixels[number]:
                del self._pixels[number]
        for number, count in numbers(after[other]):
            self._pixels[number] += count
            self._where[number].add(key)
            self.last = max(self.last, number)
        for number, _ in numbers(before[other]):
            if not (after == number).any():
                self._where[number].discard(key)
                if not self._where[number]:
                    del self._where[number]

    def where(self, number: int) -> Set[Key]:
        """The blocks in which a number is."""
        return self._where.get(number, set())

    def pixels(self, number: int) -> int:
        """How many pixels have a number."""
        return self._pixels.get(number, 0)

    @property
    def numbers(self) -> list[int]:
        """All that occur, ascending."""
        return sorted(self._pixels)

    def counts(self, kind: Kind) -> Counts:
        """What is painted."""
        if kind == "instances":
            return Counts(objects=len(self._pixels), pixels=None)
        return Counts(objects=None, pixels=dict(sorted(self._pixels.items())))

    def _add(self, key: Key, pixels: Pixels) -> None:
        for number, count in numbers(pixels):
            self._pixels[number] += count
            self._where[number].add(key)
            self.last = max(self.last, number)


def boxes_of(found: Iterable[tuple[Key, Pixels]]) -> dict[tuple[int, Plane], tuple[Range, Range]]:
    """The rows and columns that each number takes on each plane, from all blocks."""
    from scipy import ndimage

    boxes: dict[tuple[int, Plane], tuple[Range, Range]] = {}
    for key, pixels in found:
        values, order = np.unique(pixels, return_inverse=True)
        order = order.reshape(pixels.shape) + (values[0] != 0)  # 0 is not looked for
        top, left, plane = key.row * SIDE, key.column * SIDE, Plane(key.time, key.z)
        for value, (rows, columns) in zip(
            values[values > 0], ndimage.find_objects(order), strict=True
        ):
            y = (top + rows.start, top + rows.stop)
            x = (left + columns.start, left + columns.stop)
            known = boxes.get((int(value), plane), (y, x))
            boxes[int(value), plane] = (_both(known[0], y), _both(known[1], x))
    return boxes


def _both(one: Range, other: Range) -> Range:
    return min(one[0], other[0]), max(one[1], other[1])


def numbers(pixels: NDArray[Any]) -> list[tuple[int, int]]:
    """(number, how many pixels) of all but 0."""
    if not pixels.size:
        return []
    if pixels.max() < _FEW:
        counts = np.bincount(pixels.ravel())
        found = np.flatnonzero(counts)
        values, many = found, counts[found]
    else:
        values, many = np.unique(pixels, return_counts=True)
    return [(int(v), int(n)) for v, n in zip(values, many, strict=True) if v]
