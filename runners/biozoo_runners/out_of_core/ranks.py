"""The values at given ranks of pixels that are seen piece by piece, exact, in several readings.

Radix selection: every pixel has an unsigned key that sorts as the pixels do. The first reading
counts the 16 leading bits of all keys, each further one the next 16 bits of those keys that begin
as a wanted one does. 32-bit pixels take two readings, 64-bit ones four.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

from ..statistics import sortable_keys

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BITS", "RankSearch"]

BITS = 16  # told apart in one reading; a table of their counts takes 512 KiB


class RankSearch:
    """Finds values by their ranks (from 0, were all sorted).

    In each reading every value is given to `count` or `add`; `narrow` ends it.

    Attributes
    ----------
    done
        Whether the last reading has ended.
    found
        Then: rank -> value.
    """

    def __init__(self, dtype: np.dtype[Any], ranks: Iterable[int]) -> None:
        self.done = False
        self.found: dict[int, float] = {}
        self._dtype = dtype
        self._left = self._first = 8 * dtype.itemsize - BITS  # bits right of those counted now
        # Per beginning of a wanted key: its ranks, here and among the keys that begin so.
        self._wanted = {0: {rank: rank for rank in ranks}}
        self._tables = {0: np.zeros(2**BITS, np.int64)}

    def count(self, values: NDArray[Any]) -> None:
        """Take note of values (one dimension, none is NaN)."""
        keys = sortable_keys(values)
        keys = keys >> keys.dtype.type(self._left)
        for begin, table in self._tables.items():
            if self._left < self._first:
                digits = keys[keys >> keys.dtype.type(BITS) == begin] & (2**BITS - 1)
            else:
                digits = keys
            if digits.size:
                table += np.bincount(digits.astype(np.intp), minlength=2**BITS)

    def add(self, value: float, times: int) -> None:
        """Take note of one value that occurs many times."""
        key = int(sortable_keys(np.array([value], self._dtype))[0]) >> self._left
        begin, digit = divmod(key, 2**BITS)
        if begin in self._tables:
            self._tables[begin][digit] += times

    def narrow(self) -> None:
        """End a reading: what was counted says how the wanted keys go on."""
        wanted: dict[int, dict[int, int]] = {}
        for begin, ranks in self._wanted.items():
            table = self._tables[begin]
            ends = np.cumsum(table)
            for rank, among in ranks.items():
                digit = int(np.searchsorted(ends, among, side="right"))
                below = int(ends[digit] - table[digit])
                wanted.setdefault((begin << BITS) + digit, {})[rank] = among - below
        self._wanted = wanted
        self.done = self._left == 0
        if self.done:
            self._tables = {}
            self.found = {
                rank: _value(key, self._dtype) for key, ranks in wanted.items() for rank in ranks
            }
        else:
            self._left -= BITS
            self._tables = {begin: np.zeros(2**BITS, np.int64) for begin in wanted}


def _value(key: int, dtype: np.dtype[Any]) -> float:
    """The value that `statistics.sortable_keys` gives this key."""
    bits = 8 * dtype.itemsize
    sign = 1 << (bits - 1)
    if dtype.kind == "i" or (dtype.kind == "f" and key & sign):
        key ^= sign
    elif dtype.kind == "f":
        key ^= (1 << bits) - 1
    return float(np.array([key], f"u{dtype.itemsize}").view(dtype)[0])
