"""What is noted of groups of pixels, piece by piece, until their statistics are known.

A measure has one value per index of the axes that it keeps, so one per channel, say: the pixels
of each are a group. All pieces of an image are given to `Groups.add`, then `Groups.end` ends the
reading; this is repeated while not `Groups.done`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

from ..not_finite import Replacement, nothing_finite, replacement
from ..statistics import (
    Measure,
    Statistic,
    count_values,
    counts_all_values,
    from_counts,
    pieces,
    quantile,
    ranks,
)
from .moments import Moments
from .ranks import BITS, RankSearch

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .reading import Region

__all__ = ["Counts", "Groups", "Sums", "find_replacement"]

_TABLES = 2**27  # bytes of counts at most: 256 tables of 16 bits
_MOST = 4096  # groups at most: each piece is looked through group by group


class Counts:
    """A group of 8 or 16 bits: how often each value occurs. All follows from it as in memory."""

    done = True  # after one reading

    def __init__(self, dtype: np.dtype[Any], size: int, measures: Sequence[Measure]) -> None:
        self._dtype, self._measures = dtype, measures
        self._counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)

    def add(self, view: NDArray[Any]) -> None:
        """Take note of a part of the pixels."""
        count_values(view, self._counts)

    def end(self, instead: Replacement | None) -> None:
        """End the reading."""

    @property
    def range(self) -> tuple[float, float]:
        """The extremes, as places in the order of values."""
        found = self._counts.nonzero()[0]
        return int(found[0]), int(found[-1])

    def values(self) -> list[float]:
        """The measures, in their order."""
        return from_counts(self._counts, self._dtype, self._measures)


class Sums:
    """A group of any other type.

    Attributes
    ----------
    moments, range
        Of the pixels that are finite; the range of none is (inf, -inf).
    lost
        How many are NaN, -inf and inf.
    """

    def __init__(self, dtype: np.dtype[Any], size: int, measures: Sequence[Measure]) -> None:
        self.moments = Moments()
        self.range: tuple[float, float] = (math.inf, -math.inf)
        self.lost = (0, 0, 0)
        self._dtype, self._size, self._measures = dtype, size, measures
        wanted = ranks(size, measures)
        self._search = RankSearch(dtype, wanted) if wanted else None
        self._again = False

    @property
    def done(self) -> bool:
        """Whether no further reading is needed."""
        return self._search is None or self._search.done

    def add(self, view: NDArray[Any]) -> None:
        """Take note of a part of the pixels."""
        for values in pieces(view):
            finite = self._finite(values) if self._dtype.kind == "f" else values
            if finite.size and not self._again:
                low, high = self.range
                self.range = min(low, finite.min().item()), max(high, finite.max().item())
                self.moments += Moments.of(finite)
            if self._search is not None:
                self._search.count(finite)

    def _finite(self, values: NDArray[Any]) -> NDArray[Any]:
        with np.errstate(all="ignore"):
            if np.isfinite(values.sum()):  # false alarms are harmless
                return values
        if not self._again:
            signs = (np.isnan(values), values == -np.inf, values == np.inf)
            nan, low, high = (n + int(s.sum()) for n, s in zip(self.lost, signs, strict=True))
            self.lost = nan, low, high
        return np.asarray(values[np.isfinite(values)])

    def end(self, instead: Replacement | None) -> None:
        """End a reading; pixels that are not finite count as what stands in for them."""
        if instead is not None:
            for number, times in zip((math.nan, -math.inf, math.inf), self.lost, strict=True):
                value = float(instead.apply(np.array(number, self._dtype)))
                if not self._again:
                    self.moments += Moments(times, value)
                if self._search is not None:
                    self._search.add(value, times)
        if self._search is not None:
            self._search.narrow()
        self._again = True

    def values(self) -> list[float]:
        """The measures, in their order."""
        simple = {"mean": self.moments.mean, "std": self.moments.std}
        points = self._search.found if self._search is not None else {}
        return [
            quantile(points, self._size, m) if m.kind == "quantile" else simple[m.kind]
            for m in self._measures
        ]


class Groups:
    """The groups of pixels of the measures that keep the same axes.

    Parameters
    ----------
    sizes
        Size of every axis of the tensor, in its order.
    kept
        Axes with one value per index, in the tensor's order.
    measures
        What to find; there may be none, where only what is not finite is looked for.

    Raises
    ------
    UsageError
        There are too many groups to count the values of each in little memory.
    """

    def __init__(
        self,
        sizes: Mapping[str, int],
        kept: tuple[str, ...],
        dtype: np.dtype[Any],
        measures: Sequence[Measure],
    ) -> None:
        self._axes, self._kept, self._measures = tuple(sizes), kept, measures
        self._shape = tuple(sizes[a] for a in kept)
        size = math.prod(n for a, n in sizes.items() if a not in kept)
        self._check(dtype, size, [a for a in kept if sizes[a] > 1])
        kind = Counts if counts_all_values(dtype) else Sums
        self.members: dict[tuple[int, ...], Counts | Sums] = {
            index: kind(dtype, size, measures) for index in np.ndindex(self._shape)
        }

    def _check(self, dtype: np.dtype[Any], size: int, along: Sequence[str]) -> None:
        bits = 8 * dtype.itemsize
        small = counts_all_values(dtype)
        tables = 1 if small else len(ranks(size, self._measures))
        number = math.prod(self._shape)
        why = ""
        if number > _MOST or number * tables * 8 * 2 ** min(bits, BITS) > _TABLES:
            why = f"it has one value for each of {number} positions along {', '.join(along)}"
        elif tables and bits > 64:
            why = f"the pixels are {dtype}"
        if why:
            raise UsageError(
                f"The {self._measures[0]} cannot be found while the image is read in pieces: "
                f"{why}. Run it with the whole image in memory."
            )

    def add(self, pixels: NDArray[Any], region: Region) -> None:
        """Take note of a piece of the tensor, which lies at `region`."""
        places = [self._axes.index(a) for a in self._kept]
        view = np.moveaxis(pixels, places, range(len(places)))
        starts = [region[p].start for p in places]
        for here in np.ndindex(view.shape[: len(places)]):
            index = tuple(i + start for i, start in zip(here, starts, strict=True))
            self.members[index].add(view[here])

    def end(self, instead: Replacement | None) -> None:
        """End a reading."""
        for member in self.members.values():
            member.end(instead)

    @property
    def done(self) -> bool:
        """Whether no further reading is needed."""
        return all(member.done for member in self.members.values())

    @property
    def is_flat(self) -> bool:
        """Whether all finite pixels have one value."""
        found = [member.range for member in self.members.values()]
        return min(low for low, _ in found) == max(high for _, high in found)

    def statistics(self) -> Iterator[tuple[Measure, Statistic]]:
        """The values of the measures."""
        found = np.array([member.values() for member in self.members.values()], np.float64)
        for measure, values in zip(self._measures, found.T, strict=True):
            yield measure, Statistic(self._kept, values.reshape(self._shape))


def find_replacement(groups: Groups) -> Replacement | None:
    """What stands in for the pixels that are not finite, after the first reading.

    Raises
    ------
    ImageMismatchError
        If no pixel is finite.
    """
    members = [m for m in groups.members.values() if isinstance(m, Sums)]
    count = sum(sum(m.lost) for m in members)
    if not count:
        return None
    moments = sum((m.moments for m in members), Moments())
    if not moments.n:
        raise nothing_finite()
    low, high = min(m.range[0] for m in members), max(m.range[1] for m in members)
    return replacement(moments.mean, low, high, count)
