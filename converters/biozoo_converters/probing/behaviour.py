"""Does a network give the same each time, in the same shapes, each image by itself?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import NetworkError

from .scenes import Lab
from .size_rules import Found
from .trials import Trials

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Batch", "batches", "check_steady", "differ"]


@dataclass(frozen=True)
class Batch:
    """Whether several images may go in at once; per output, the number of its batch axis."""

    free: bool
    axes: tuple[int | None, ...]
    notes: tuple[str, ...] = ()


def differ(a: NDArray[Any], b: NDArray[Any], part: float) -> bool:
    """Whether two arrays differ by more than a part of their size anywhere."""
    if a.shape != b.shape:
        return True
    x, y = a.astype(np.float64), b.astype(np.float64)
    same = (x == y) | (np.isnan(x) & np.isnan(y))
    size = np.abs(np.nan_to_num(y, posinf=0, neginf=0))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(x - y))
    level = float(np.sqrt(np.mean(size**2))) if size.size else 0.0
    return bool((~(error <= part * (size + level))).any())


def check_steady(trials: Trials, found: Found, ids: Sequence[str] | None) -> None:
    """Raise where a network answers differently to the same, or in another shape to other pixels.

    Raises
    ------
    NetworkError
        Names the output, and the axis where a size depends on the data.
    """
    name = trials.network.name
    arrays = trials.grown(trials.lengths(found.groups, found.base))
    first, again = trials.run(arrays), trials.run(arrays)
    for n, (a, b) in enumerate(zip(first, again, strict=False)):
        output = _name(ids, n)
        if a.dtype.kind not in "biuf":
            raise NetworkError(
                f"{output} of {name} has the type {a.dtype}; a package's outputs are real numbers "
                "or booleans. Give its parts as channels instead."
            )
        if a.shape == b.shape and differ(a, b, 1e-4):
            raise NetworkError(
                f"{name} is random: called twice with the same input, {output} differs. Dropout "
                "or noise is drawn in inference too; switch it off (self.training), or draw it "
                "with a fixed seed."
            )
    for other in (again, *_answers(trials, found, arrays)):
        if len(other) != len(first):
            raise NetworkError(
                f"{name} gave {len(first)} outputs, then {len(other)} for another image of the "
                "same size. A package's network gives the same outputs for every image."
            )
        for n, (a, b) in enumerate(zip(first, other, strict=True)):
            if a.shape != b.shape:
                axis = next(
                    (i for i, (p, q) in enumerate(zip(a.shape, b.shape, strict=False)) if p != q),
                    a.ndim,
                )
                raise NetworkError(
                    f"{_name(ids, n)} of {name} has a data-dependent shape: {a.shape} for the "
                    f"sample, {b.shape} for another image of the same size (axis number {axis}). "
                    "Its result cannot be tiled or tested. Let the network end before the step "
                    "that selects (non-maximum suppression, nonzero, masks), and do that after."
                )


def _answers(
    trials: Trials, found: Found, arrays: Sequence[NDArray[Any]]
) -> list[list[NDArray[Any]]]:
    """Outputs for other contents: shuffled, turned around, empty."""
    lab = Lab(trials, found.groups, ())
    shuffled = lab.scene(1, found.base)
    turned = [np.ascontiguousarray(np.flip(a)) for a in arrays]
    empty = [np.full_like(a, a.min()) for a in arrays]
    return [trials.run(c) for c in (shuffled, turned, empty)]


def _name(ids: Sequence[str] | None, n: int) -> str:
    return f"Output '{ids[n]}'" if ids is not None and n < len(ids) else f"Output {n + 1}"


def batches(trials: Trials, found: Found) -> Batch:
    """Run two images at once and one by one."""
    name = trials.network.name
    one = trials.grown(trials.lengths(found.groups, found.base))
    two = list(Lab(trials, found.groups, ()).scene(1, found.base))
    alone = [trials.run(one), trials.run(two)]
    numbers = [s.number("batch") for s in trials.samples]
    first = next((n for n in numbers if n is not None), None)
    if first is None:
        return Batch(False, (None,) * len(alone[0]))
    guess = tuple(first if o.ndim > first and o.shape[first] == 1 else None for o in alone[0])
    both = [
        a if n is None else np.concatenate([a, b], axis=n)
        for a, b, n in zip(one, two, numbers, strict=True)
    ]
    try:
        made = trials.run(both)
    except NetworkError:
        note = (
            f"{name} takes one image at a time: it refuses a batch of two. The batch is fixed at 1."
        )
        return Batch(False, guess, (note,))
    axes: list[int | None] = []
    for n, (a, b) in enumerate(zip(alone[0], made, strict=False)):
        more = [i for i, (p, q) in enumerate(zip(a.shape, b.shape, strict=False)) if q == 2 * p]
        if a.ndim != b.ndim or len(more) != 1:
            note = (
                f"Output {n + 1} of {name} has no axis that grows with the batch; "
                "the batch is fixed at 1."
            )
            return Batch(False, guess, (note,))
        axes.append(more[0])
    for n, (a, b, joined) in enumerate(zip(*alone, made, strict=True)):
        number = axes[n]
        assert number is not None
        parts = np.split(joined, 2, axis=number)
        if differ(parts[0], a, 1e-3) or differ(parts[1], b, 1e-3):
            note = (
                f"{name} mixes the images of a batch: output {n + 1} is another one where two "
                "images go in together (statistics over the batch?). The batch is fixed at 1."
            )
            return Batch(False, tuple(axes), (note,))
    return Batch(True, tuple(axes))
