"""How two results of one part of an image differ: by how much, where, how far from a seam."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from biozoo_runners.comparison.scores import average_precision

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

__all__ = [
    "ALLOWED",
    "PER_MILLION",
    "ObjectSeams",
    "OutputSeams",
    "compare_labels",
    "compare_values",
]

#: A value differs where it is off by more than this part of the output's range.
ALLOWED = 1e-3
#: Of a million values so many may; as in a certificate.
PER_MILLION = 100.0


@dataclass(frozen=True)
class OutputSeams:
    """One output in tiles against the same in one piece.

    Attributes
    ----------
    largest, relative
        The largest absolute difference, in the output's own units and as a part of its range.
    low, high
        The range of the output in one piece.
    at
        Where the largest difference is: axis id -> pixel of the whole result.
    to_seam
        Its distance from the nearest seam in pixels, 0 beside it; None without a seam.
    off_per_million
        Values that differ by more than `ALLOWED` of the range.
    reach
        The distance from a seam, or from an edge of what was compared, within which 99 of 100 of
        those lie; None where there are none.
    """

    output: str
    largest: float
    relative: float
    low: float
    high: float
    at: Mapping[str, int]
    to_seam: int | None
    off_per_million: float
    reach: int | None

    @property
    def ok(self) -> bool:
        """Whether no more values differ than may."""
        return self.off_per_million <= PER_MILLION

    def __str__(self) -> str:
        if not self.largest:
            return f"{self.output}: no value differs"
        where = ", ".join(f"{a} {n}" for a, n in self.at.items())
        far = "" if self.to_seam is None else f", {_pixels(self.to_seam)} from the nearest seam"
        line = (
            f"{self.output}: largest difference {self.largest:.2g} ({self.relative:.2g} of its "
            f"range, {self.low:.4g} to {self.high:.4g}) at {where}{far}; "
            f"{self.off_per_million:,.0f} per million differ by more than {ALLOWED:g} of the range"
        )
        if self.reach is not None:
            line += f", 99 % of them within {_pixels(self.reach)} of a seam or an edge"
        return line


@dataclass(frozen=True)
class ObjectSeams:
    """Objects of one label image in tiles against those in one piece.

    `same` have the very same pixels, `moved` overlap by half or more (of both together), all others
    are in one of the two only: lost, made up, cut or merged.
    """

    output: str
    whole: int
    tiled: int
    same: int
    moved: int

    @property
    def other(self) -> int:
        """Objects without a partner, on either side."""
        return self.whole + self.tiled - 2 * (self.same + self.moved)

    @property
    def ok(self) -> bool:
        """Whether every object has its partner."""
        return self.other == 0

    def __str__(self) -> str:
        line = f"{self.output}: {self.whole} objects whole, {self.tiled} in tiles: "
        if self.same == self.whole == self.tiled:
            return line + "the same, but for their numbers"
        return line + (
            f"{self.same} the same but for their numbers, {self.moved} with other pixels at their "
            f"edges, {self.other} in one of the two only (lost, made up, cut or merged)"
        )


def compare_values(
    output: str,
    tiled: NDArray[Any],
    whole: NDArray[Any],
    dims: Sequence[str],
    origin: Mapping[str, int],
    seams: Mapping[str, Sequence[int]],
) -> OutputSeams:
    """Compare an output.

    Parameters
    ----------
    tiled, whole
        Arrays of one shape, axes as in `dims`.
    origin
        Per axis id, the first pixel of the arrays in the whole result; 0 where it says nothing.
    seams
        Per axis id, pixels of the arrays where another tile begins.
    """
    a, b = tiled.astype(np.float64), whole.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(a - b))
    error[np.isnan(error)] = np.inf
    finite = b[np.isfinite(b)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    span = high - low or 1.0
    distance = [_distance(n, seams.get(d, ())) for d, n in zip(dims, a.shape, strict=True)]
    place = np.unravel_index(int(error.argmax()), error.shape)
    far = min(int(d[i]) for d, i in zip(distance, place, strict=True))
    off = error > ALLOWED * span
    reach = None
    if off.any() and any(seams.values()):
        # At an edge, too, a tile sees less than the whole, which is filled up to a size that fits.
        deep = [
            np.minimum(d, np.minimum(np.arange(d.size), np.arange(d.size)[::-1]))
            if seams.get(name)
            else d
            for name, d in zip(dims, distance, strict=True)
        ]
        depths = np.minimum.reduce([d[i] for d, i in zip(deep, np.nonzero(off), strict=True)])
        reach = int(np.quantile(depths, 0.99))
    largest = float(error.max(initial=0.0))
    return OutputSeams(
        output,
        largest,
        largest / span,
        low,
        high,
        {d: int(i) + origin.get(d, 0) for d, i in zip(dims, place, strict=True) if d != "batch"},
        far if any(seams.values()) else None,
        float(off.mean() * 1e6) if off.size else 0.0,
        reach,
    )


def compare_labels(output: str, tiled: NDArray[Any], whole: NDArray[Any]) -> ObjectSeams:
    """Compare label images of one shape, 0 for background; numbers do not matter."""
    score = average_precision(whole, tiled, thresholds=(0.5, 1.0))
    some, same = (int(n) for n in score.true_positives)
    return ObjectSeams(output, score.n_true, score.n_predicted, same, some - same)


def _distance(size: int, seams: Sequence[int]) -> NDArray[np.int64]:
    """Of every pixel along an axis, from the nearest seam; beside it 0, and far where none is."""
    at = np.arange(size)
    nearest = np.full(size, np.iinfo(np.int32).max, np.int64)
    for s in seams:
        nearest = np.minimum(nearest, np.where(at >= s, at - s, s - 1 - at))
    return nearest


def _pixels(count: int) -> str:
    return f"{count} pixel" if count == 1 else f"{count} pixels"
