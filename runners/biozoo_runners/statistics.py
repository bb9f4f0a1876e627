"""Statistics of whole tensors: mean, standard deviation and quantiles, exact and in little memory.

A statistic is always of the whole image, never of a tile. Images of 8 and 16 bits are read once
into a histogram, from which every value follows exactly as numpy would compute it; other types are
read in pieces (mean, standard deviation) or partially sorted (quantiles). Values are float64.

A pixel that is not a number makes every statistic of its tensor not a number, and so the whole
result: `prepare.replace_not_finite` comes before.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from biozoo.errors import UsageError

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "Measure",
    "Statistic",
    "Stats",
    "collect",
    "count_values",
    "counts_all_values",
    "from_counts",
    "measure_tensor",
    "pieces",
    "quantile",
    "ranks",
    "sortable_keys",
]

Array = npt.NDArray[Any]
Method = Literal["linear", "inverted_cdf"]

_PIECE = 2**18  # elements read at a time: their float64 copy (2 MB) stays in a core's cache
_FEW = 2**14  # below this many elements of 16 bits, sorting beats a histogram of 65,536 bins
_MANY_GROUPS = 4096  # above, one vectorised numpy call beats a loop over the groups


@dataclass(frozen=True, slots=True)
class Measure:
    """One statistic that a processing step needs.

    Attributes
    ----------
    tensor
        Id of the tensor it is taken of.
    step
        The tensor as it is before this step of its own processing; 0 is the unprocessed tensor.
    kind
        ``"mean"``, ``"std"`` (of the population: divided by n) or ``"quantile"``.
    axes
        Axes to reduce; None reduces all. The others are kept: one value per channel, say.
    q
        For a quantile, 0 to 1.
    method
        For a quantile, numpy's name for what is done between two values.
    """

    tensor: str
    step: int
    kind: Literal["mean", "std", "quantile"]
    axes: tuple[str, ...] | None
    q: float = 0.0
    method: Method = "linear"

    def __str__(self) -> str:
        name = f"percentile {100 * self.q:g}" if self.kind == "quantile" else self.kind
        return f"{name} of {self.tensor}{f' before step {self.step + 1}' if self.step else ''}"


@dataclass(frozen=True, slots=True)
class Statistic:
    """A measure's value: float64, one dimension per kept axis."""

    axes: tuple[str, ...]
    values: npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stats:
    """Measure -> value; grows with ``|``."""

    values: Mapping[Measure, Statistic] = field(default_factory=dict)

    def __contains__(self, measure: Measure) -> bool:
        return measure in self.values

    def __getitem__(self, measure: Measure) -> Statistic:
        try:
            return self.values[measure]
        except KeyError:
            raise UsageError(
                f"The {measure} is needed and was not collected. Collect the statistics of the "
                "whole tensor first."
            ) from None

    def __or__(self, other: Stats) -> Stats:
        return Stats({**self.values, **other.values})

    def __str__(self) -> str:
        parts = []
        for measure, statistic in self.values.items():
            low, high = statistic.values.min(), statistic.values.max()
            parts.append(f"{measure}: {low:.6g}" + (f" to {high:.6g}" if high > low else ""))
        return ", ".join(parts) or "no statistics"


def collect(tensors: Mapping[str, xr.DataArray], measures: Iterable[Measure]) -> Stats:
    """The statistics of unprocessed tensors.

    Parameters
    ----------
    tensors
        Whole tensors by id, dims = axis ids, any real dtype.
    measures
        What to compute; measures of other tensors, or of a later step, are left out.
    """
    found: dict[Measure, Statistic] = {}
    wanted = list(dict.fromkeys(measures))
    for tensor, data in tensors.items():
        mine = [m for m in wanted if m.tensor == tensor and m.step == 0]
        found |= measure_tensor(np.asarray(data.data), tuple(map(str, data.dims)), mine)
    return Stats(found)


def measure_tensor(
    array: Array, axes: Sequence[str], measures: Iterable[Measure]
) -> dict[Measure, Statistic]:
    """Compute measures of one tensor; those that reduce the same axes share their reading.

    Parameters
    ----------
    array
        The whole tensor, any real dtype.
    axes
        Its axis ids, one per dimension. An axis of a measure that the tensor lacks is ignored.
    measures
        What to compute; `Measure.tensor` and `Measure.step` are not looked at.

    Raises
    ------
    UsageError
        The tensor is empty.
    """
    by_kept: dict[tuple[str, ...], list[Measure]] = {}
    for measure in measures:
        kept = () if measure.axes is None else tuple(a for a in axes if a not in measure.axes)
        by_kept.setdefault(kept, []).append(measure)
    found: dict[Measure, Statistic] = {}
    for kept, group in by_kept.items():
        if array.size == 0:
            raise UsageError(f"A tensor of shape {array.shape} is empty and has no {group[0]}.")
        # kept axes first: each of their indices is one group of pixels
        view = np.moveaxis(array, [list(axes).index(a) for a in kept], range(len(kept)))
        values = _per_group(view, len(kept), group)
        for measure, value in zip(group, values, strict=True):
            found[measure] = Statistic(kept, value)
    return found


def _per_group(
    view: Array, kept: int, measures: Sequence[Measure]
) -> list[npt.NDArray[np.float64]]:
    """Per measure one array of the kept axes' shape."""
    shape = view.shape[:kept]
    if math.prod(shape) > _MANY_GROUPS:
        return [_vectorised(view, tuple(range(kept, view.ndim)), m) for m in measures]
    out = [np.empty(shape, np.float64) for _ in measures]
    for index in np.ndindex(shape):
        for values, value in zip(out, _one_group(view[index], measures), strict=True):
            values[index] = value
    return out


def _vectorised(view: Array, axes: tuple[int, ...], measure: Measure) -> npt.NDArray[np.float64]:
    """One measure of very many small groups."""
    if measure.kind == "mean":
        return np.asarray(np.mean(view, axis=axes, dtype=np.float64))
    if measure.kind == "std":
        return np.asarray(np.std(view, axis=axes, dtype=np.float64))
    # numpy subtracts in the array's own type, which overflows in a small one
    floats = view.astype(np.result_type(view.dtype, np.float32), copy=False)
    q = np.float64(measure.q)
    return np.asarray(np.quantile(floats, q, axis=axes, method=measure.method), np.float64)


def _one_group(view: Array, measures: Sequence[Measure]) -> list[float]:
    """The measures of all elements of `view`."""
    if counts_all_values(view.dtype) and (view.dtype.itemsize == 1 or view.size >= _FEW):
        counts = np.zeros(2 ** (8 * view.dtype.itemsize), np.int64)
        count_values(view, counts)
        return from_counts(counts, view.dtype, measures)
    out = []
    moments: tuple[float, float] | None = None
    points = _order_statistics(view, ranks(view.size, measures))
    for measure in measures:
        if measure.kind == "quantile":
            out.append(quantile(points, view.size, measure))
        else:
            moments = moments or _moments(view)
            out.append(moments[0] if measure.kind == "mean" else moments[1])
    return out


def counts_all_values(dtype: np.dtype[Any]) -> bool:
    """Whether a type has so few values that each is counted: integers of 8 and 16 bits."""
    return dtype.kind in "bui" and dtype.itemsize <= 2


def _lowest(dtype: np.dtype[Any]) -> int:
    return int(np.iinfo(dtype).min) if dtype.kind == "i" else 0


def count_values(view: Array, counts: npt.NDArray[np.int64]) -> None:
    """Add to `counts`, one for every possible value in ascending order, how often it occurs."""
    lowest = _lowest(view.dtype)
    for piece in pieces(view):
        flat = piece.astype(np.intp) - lowest if lowest else piece.astype(np.intp)
        counts += np.bincount(flat, minlength=len(counts))


def from_counts(
    counts: npt.NDArray[np.int64], dtype: np.dtype[Any], measures: Sequence[Measure]
) -> list[float]:
    """The measures from the counts of every possible value of `dtype`."""
    lowest = _lowest(dtype)
    values = np.arange(lowest, lowest + len(counts))
    n = int(counts.sum())
    mean = int(values @ counts) / n  # exact: whole numbers up to the division
    ends = np.cumsum(counts)
    points = {
        rank: float(values[np.searchsorted(ends, rank, side="right")])
        for rank in ranks(n, measures)
    }
    std = math.sqrt(float((values - mean) ** 2 @ counts) / n)
    simple = {"mean": mean, "std": std}
    return [quantile(points, n, m) if m.kind == "quantile" else simple[m.kind] for m in measures]


def _moments(view: Array) -> tuple[float, float]:
    """Mean and standard deviation in two readings, summed in float64."""
    n = view.size
    mean = sum(float(piece.sum(dtype=np.float64)) for piece in pieces(view)) / n
    squares = 0.0
    for piece in pieces(view):
        centred = np.subtract(piece, mean, dtype=np.float64)
        squares += float(np.square(centred, out=centred).sum())
    return mean, math.sqrt(squares / n)


def _position(n: int, measure: Measure) -> tuple[int, int, float]:
    """Ranks (from 0) of the two values around a quantile, and how far between them it lies.

    Hyndman and Fan (1996), The American Statistician 50: definition 7 is "linear", definition 1
    is "inverted_cdf"; written as numpy.quantile computes them.
    """
    if measure.method == "inverted_cdf":
        rank = min(n - 1, max(0, math.ceil(n * measure.q - 1)))
        return rank, rank, 0.0
    virtual = (n - 1) * measure.q
    below = min(n - 1, math.floor(virtual))
    return below, min(n - 1, below + 1), virtual - below


def ranks(n: int, measures: Sequence[Measure]) -> list[int]:
    """All ranks that the quantiles among `measures` need, ascending."""
    found = (_position(n, m)[:2] for m in measures if m.kind == "quantile")
    return sorted({rank for pair in found for rank in pair})


def quantile(points: Mapping[int, float], n: int, measure: Measure) -> float:
    """A quantile from the values at its ranks."""
    below, above, share = _position(n, measure)
    a, b = points[below], points[above]
    # numpy's two-sided form, exact at both ends
    return b - (b - a) * (1 - share) if share >= 0.5 else a + (b - a) * share


def _order_statistics(view: Array, wanted: Sequence[int]) -> dict[int, float]:
    """The values that would stand at `wanted` ranks were all elements sorted; NaN if one is NaN.

    Large tensors are not sorted: their elements are counted by the 16 leading bits of a key that
    sorts as they do, and only those that share these bits with a wanted one are looked at.
    """
    if not wanted:
        return {}
    if view.dtype.kind == "f" and any(np.isnan(piece).any() for piece in pieces(view)):
        return dict.fromkeys(wanted, math.nan)
    if view.size < _FEW:
        return _partition([view.reshape(-1)], dict.fromkeys(wanted), 0)
    counts = np.zeros(2**16, np.int64)
    for piece in pieces(view):
        counts += np.bincount(_leading_bits(piece), minlength=2**16)
    ends = np.cumsum(counts)
    found: dict[int, float] = {}
    by_bits: dict[int, dict[int, None]] = {}
    for rank in wanted:
        by_bits.setdefault(int(np.searchsorted(ends, rank, side="right")), {})[rank] = None
    for bits, of_bits in by_bits.items():
        same = [piece[_leading_bits(piece) == bits] for piece in pieces(view)]
        found |= _partition(same, of_bits, int(ends[bits] - counts[bits]))
    return found


def _partition(parts: Sequence[Array], wanted: Iterable[int], before: int) -> dict[int, float]:
    """The elements of `parts` at ranks that count `before` smaller elements elsewhere."""
    flat = np.concatenate(parts)
    flat.partition([rank - before for rank in wanted])
    return {rank: float(flat[rank - before]) for rank in wanted}


def _leading_bits(piece: Array) -> npt.NDArray[np.intp]:
    """The first 16 bits of the elements' sortable keys."""
    keys = sortable_keys(piece)
    return np.asarray(keys >> keys.dtype.type(8 * keys.dtype.itemsize - 16), np.intp)


def sortable_keys(piece: Array) -> npt.NDArray[np.unsignedinteger[Any]]:
    """Unsigned integers, of the elements' size, that sort as the elements do (none is NaN).

    Signed integers sort when their sign bit is turned over; floats when, besides, all other bits
    of negative ones are.
    """
    native = piece.astype(piece.dtype.newbyteorder("="), copy=False)
    size = native.dtype.itemsize
    keys = native.view(f"u{size}")
    sign = keys.dtype.type(1 << (8 * size - 1))
    if native.dtype.kind == "i":
        keys = keys ^ sign
    elif native.dtype.kind == "f":
        negative = (native.view(f"i{size}") >> (8 * size - 1)).view(keys.dtype)  # all ones or none
        keys = keys ^ (negative | sign)
    return np.asarray(keys)


def pieces(view: Array) -> Iterator[Array]:
    """All elements as one-dimensional arrays of about `_PIECE` elements; large copies are made
    for none of them, whatever the strides.
    """
    if view.flags.c_contiguous:
        flat = view.reshape(-1)
        for start in range(0, flat.size, _PIECE):
            yield flat[start : start + _PIECE]
        return
    rest = math.prod(view.shape[1:])
    if rest > _PIECE:
        for part in view:
            yield from pieces(part)
        return
    step = max(1, _PIECE // max(1, rest))
    for start in range(0, view.shape[0], step):
        yield view[start : start + step].reshape(-1)
