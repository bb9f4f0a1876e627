"""One edit in the making: blocks as they would be, until it is known that all of it can be done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import UsageError

from .blocks import Blocks, Key, Pixels
from .model import Plane, Range
from .shapes import Mask
from .tally import Tally

MOST_BYTES = 2**29
"""Of the blocks that one edit may change; as much again is what they were before."""


class Draft:
    """What an edit would make of the blocks; nothing is written.

    Attributes
    ----------
    changed
        The blocks that are not as before.
    tally
        Which numbers are in which blocks before the edit.
    """

    def __init__(self, blocks: Blocks, tally: Tally) -> None:
        self._blocks, self.tally = blocks, tally
        self.sizes = blocks.sizes
        self.changed: dict[Key, Pixels] = {}
        self.made: list[int] = []
        self._bytes = 0

    def get(self, key: Key) -> Pixels:
        """A block as the edit has left it so far, read-only."""
        found = self.changed.get(key)
        return self._blocks.get(key) if found is None else found

    def set(self, key: Key, mask: Mask, value: int | Pixels) -> None:
        """Give pixels of a block a number each, or all one."""
        before = self.get(key)
        after = before.copy()
        after[mask] = value
        if not np.array_equal(before, after):
            if key not in self.changed:
                self._bytes += after.nbytes
            if self._bytes > MOST_BYTES:
                raise UsageError(
                    f"This would change more than {MOST_BYTES // after.itemsize / 1e6:,.0f} "
                    "million pixels at once. Draw it in parts."
                )
            self.changed[key] = after

    def at(self, plane: Plane, row: int, column: int) -> int:
        """The number of a pixel; 0 outside of the image."""
        if not (0 <= row < self.sizes["y"] and 0 <= column < self.sizes["x"]):
            return 0
        key = next(self._blocks.keys(plane, (row, row + 1), (column, column + 1)))
        (top, _), (left, _) = self._blocks.place(key)
        return int(self.get(key)[row - top, column - left])

    def keys(self, plane: Plane, y: Range, x: Range) -> Iterator[Key]:
        """The blocks of a plane that a box touches."""
        return self._blocks.keys(plane, y, x)

    def place(self, key: Key) -> tuple[Range, Range]:
        """Rows and columns of a block."""
        return self._blocks.place(key)

    def holding(self, number: int, time: int) -> list[Key]:
        """The blocks of a time point in which a number is."""
        return sorted(key for key in self.tally.where(number) if key.time == time)

    def window(self, keys: Iterable[Key]) -> Window:
        """All of the blocks in one array of z, y and x, and the way back."""
        return Window(self, list(keys))

    def new_number(self) -> int:
        """A number that no object ever had."""
        number = max(self.tally.last, *self.made) + 1 if self.made else self.tally.last + 1
        self.made.append(number)
        return number


class Window:
    """The box around some blocks of a time point as one array, z by y by x."""

    def __init__(self, draft: Draft, keys: list[Key]) -> None:
        self._draft, self._keys = draft, keys
        places = [draft.place(key) for key in keys]
        self.z = (min(key.z for key in keys), max(key.z for key in keys) + 1)
        self.y = (min(y for (y, _), _ in places), max(y for (_, y), _ in places))
        self.x = (min(x for _, (x, _) in places), max(x for _, (_, x) in places))

    @property
    def size(self) -> int:
        """Its pixels."""
        return int(np.prod([b - a for a, b in (self.z, self.y, self.x)]))

    def mask(self, number: int) -> Mask:
        """Where a number is."""
        out = np.zeros([b - a for a, b in (self.z, self.y, self.x)], bool)
        for key in self._keys:
            out[self._part(key)] = self._draft.get(key) == number
        return out

    def set(self, mask: NDArray[np.bool_], value: int) -> None:
        """Give pixels a number."""
        for key in self._keys:
            part = mask[self._part(key)]
            if part.any():
                self._draft.set(key, part, value)

    def _part(self, key: Key) -> tuple[int, slice, slice]:
        (top, bottom), (left, right) = self._draft.place(key)
        return (
            key.z - self.z[0],
            slice(top - self.y[0], bottom - self.y[0]),
            slice(left - self.x[0], right - self.x[0]),
        )
