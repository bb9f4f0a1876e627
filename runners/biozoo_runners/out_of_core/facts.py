"""What must be known of a whole item before its first tile, found in bounded memory.

`measure_item` finds what a run in memory finds by `replace_not_finite`, `is_flat` and
`measure_whole`: an input of 8 or 16 bits is read once. Others are read once for mean and standard
deviation; quantiles take two readings of 32 bits and four of 64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

from ..not_finite import Replacement
from ..not_finite import find_replacement as find_in_memory
from ..run import is_flat
from ..statistics import Measure, Statistic, Stats, measure_tensor
from ..steps import kept_axes
from .groups import Groups, find_replacement
from .reading import Region, item_bytes, piece_regions, pixel_dtype

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..prepare import FittedInput, Fitting
    from ..processing import Processing

__all__ = ["PIECE_BYTES", "ItemFacts", "measure_item"]

PIECE_BYTES = 64 * 2**20  # of pixels read at once

Pieces = Iterator[tuple["Region", "NDArray[Any]"]]


@dataclass(frozen=True)
class ItemFacts:
    """What is known of one item before its tiles.

    Attributes
    ----------
    stats
        All statistics of the inputs that the processing needs.
    replaced
        By tensor id, what stands in for pixels that are not finite; absent where all are finite.
    flat
        Ids of the inputs whose pixels all have one value.
    """

    stats: Stats = field(default_factory=Stats)
    replaced: Mapping[str, Replacement] = field(default_factory=dict)
    flat: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Pixels that are not finite."""
        return sum(r.count for r in self.replaced.values())

    def to_dict(self) -> dict[str, Any]:
        """For JSON; `from_dict` gives the same numbers to the last bit."""
        return {
            "stats": [
                {"measure": asdict(m), "kept": list(s.axes), "values": s.values.tolist()}
                for m, s in self.stats.values.items()
            ],
            "replaced": {tensor: asdict(r) for tensor, r in self.replaced.items()},
            "flat": list(self.flat),
        }

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> ItemFacts:
        """The facts that `to_dict` gave."""
        stats = {}
        for entry in saved["stats"]:
            axes = entry["measure"]["axes"]
            measure = Measure(**entry["measure"] | {"axes": None if axes is None else tuple(axes)})
            stats[measure] = Statistic(tuple(entry["kept"]), np.array(entry["values"], np.float64))
        replaced = {tensor: Replacement(**r) for tensor, r in saved["replaced"].items()}
        return cls(Stats(stats), replaced, tuple(saved["flat"]))


def measure_item(
    fitting: Fitting,
    at: Mapping[str, int],
    before: Processing,
    after: Processing,
    *,
    piece_bytes: int = PIECE_BYTES,
    on_piece: Callable[[], None] | None = None,
) -> ItemFacts:
    """The facts of one item, with no more than about `piece_bytes` of its pixels in memory.

    Values equal those of a run in memory to the last bit where an input fits into one piece, and
    for quantiles, and for integers of 8 and 16 bits (a standard deviation over fewer than 16,384
    pixels of 16 bits may differ by rounding). Means and standard deviations of other types agree
    to rounding, about 1e-12.

    Parameters
    ----------
    at
        The item: position along the looped axes.
    before, after
        Pre- and postprocessing, which say what statistics are needed.
    piece_bytes
        Bytes of pixels to read at once. A chunk of the file that is larger is read whole.
    on_piece
        Called before each piece is read; raises to stop.

    Raises
    ------
    ImageMismatchError
        An input has no finite pixel.
    UsageError
        A statistic that cannot be found in pieces; it is named.
    """
    stats = Stats()
    replaced: dict[str, Replacement] = {}
    flat: list[str] = []
    for fitted in fitting.inputs:
        tensor = fitted.tensor.id
        measures = _needed(tensor, before, after)

        def read(fitted: FittedInput = fitted) -> Pieces:
            for region in piece_regions(fitted, piece_bytes):
                if on_piece is not None:
                    on_piece()
                yield region, fitted.read(at, region)

        if item_bytes(fitted) <= piece_bytes:
            if on_piece is not None:
                on_piece()
            found = _in_memory(fitted, measures, fitted.read(at))
        else:
            found = _in_pieces(fitted, measures, read)
        stats |= Stats(found.statistics)
        if found.replaced is not None:
            replaced[tensor] = found.replaced
        if found.flat and math.prod(fitted.sizes.values()) > 1:
            flat.append(tensor)
    return ItemFacts(stats, replaced, tuple(flat))


@dataclass(frozen=True)
class _Found:
    """The facts of one input."""

    statistics: Mapping[Measure, Statistic]
    replaced: Replacement | None
    flat: bool


def _needed(tensor: str, before: Processing, after: Processing) -> list[Measure]:
    """The statistics of an input that either side looks up."""
    both = dict.fromkeys((*before.required_measures, *after.required_measures))
    mine = [m for m in both if m.tensor == tensor]
    for measure in mine:
        if measure.step:
            raise UsageError(
                f"The {measure} cannot be found while the image is read in pieces: it is of "
                "pixels that are processed already. Run it with the whole image in memory."
            )
    return mine


def _in_memory(fitted: FittedInput, measures: Sequence[Measure], pixels: NDArray[Any]) -> _Found:
    """Of an input that fits into one piece."""
    replaced = find_in_memory(pixels)
    if replaced is not None:
        pixels = replaced.apply(pixels)
    found = measure_tensor(pixels, fitted.tensor.dims, measures)
    return _Found(found, replaced, is_flat(pixels))


def _in_pieces(
    fitted: FittedInput, measures: Sequence[Measure], read: Callable[[], Pieces]
) -> _Found:
    """Of an input that is read as often as its measures need."""
    dtype, sizes = pixel_dtype(fitted), fitted.sizes
    by_kept: dict[tuple[str, ...], list[Measure]] = {}
    for measure in measures:
        by_kept.setdefault(kept_axes(measure, fitted.tensor.dims), []).append(measure)
    if not by_kept and dtype.kind != "f":
        return _Found({}, None, _all_one(read()))
    if not by_kept:
        by_kept = {(): []}  # what is not finite is looked for
    groups = [Groups(sizes, kept, dtype, mine) for kept, mine in by_kept.items()]
    _feed(groups, read())
    replaced = find_replacement(groups[0])
    for group in groups:
        group.end(replaced)
    while left := [group for group in groups if not group.done]:
        _feed(left, read())
        for group in left:
            group.end(replaced)
    found = dict(entry for group in groups for entry in group.statistics())
    return _Found(found, replaced, groups[0].is_flat)


def _feed(groups: Sequence[Groups], pieces: Pieces) -> None:
    """One reading."""
    for region, pixels in pieces:
        for group in groups:
            group.add(pixels, region)
        del pixels  # before the next is read


def _all_one(pieces: Pieces) -> bool:
    """Whether all pixels have one value; reading ends at the first that differs."""
    first = None
    for _, pixels in pieces:
        first = pixels.flat[0] if first is None else first
        if (pixels != first).any():
            return False
    return True
