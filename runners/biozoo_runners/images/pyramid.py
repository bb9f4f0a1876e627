"""The smaller levels of a large image: which there are, and how one is made of the one before.

- Levels are added until y and x fit 1024 pixels, and z 256 where it is halved.
- y and x are halved by each. So is z where it has more than 64 planes and they lie about as close
  as pixels do: at most 1.5 times as far apart at that level (what is not known counts as equal).
  A thin or coarse stack keeps its planes.
- An odd last row is left out; a side of one pixel stays.
- Intensities are means, made in one step of the 4 or 8 pixels below; of labels one is picked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ome_layout import Facts

Region = tuple[slice, ...]

LARGEST_PLANE = 1024
"""Pixels of y and x that need no smaller level."""
LARGEST_DEPTH = 256
"""Planes that need no smaller level, where z is halved at all."""
THIN = 64
"""Planes of a stack that is not halved along z."""
COARSE = 1.5
"""Distance of planes per pixel of y from which z is not halved."""


@dataclass(frozen=True, slots=True)
class Level:
    """One level: its shape, and pixels of the image per pixel of it, along each axis."""

    shape: tuple[int, ...]
    factors: tuple[int, ...]

    def step(self, below: Level) -> tuple[int, ...]:
        """Pixels of the level below per pixel of this one: 1 or 2 along each axis."""
        return tuple(own // other for own, other in zip(self.factors, below.factors, strict=True))


def levels(facts: Facts, shape: Sequence[int]) -> tuple[Level, ...]:
    """All levels of an image of this shape, itself first."""
    made = [Level(tuple(shape), (1,) * len(shape))]
    while halved := _halved(facts, made[-1]):
        sides = zip(facts.axes, made[-1].shape, made[-1].factors, strict=True)
        new = [(n // 2, 2 * f) if a in halved else (n, f) for a, n, f in sides]
        made.append(Level(tuple(n for n, _ in new), tuple(f for _, f in new)))
    return tuple(made)


def _halved(facts: Facts, level: Level) -> set[str]:
    """The axes along which the next level is smaller; none where there is no next one."""
    sizes = dict(zip(facts.axes, level.shape, strict=True))
    factors = dict(zip(facts.axes, level.factors, strict=True))
    size, unit = facts.pixel_size, facts.unit
    deep = sizes.get("z", 1) > THIN
    if deep and "z" in size and "y" in size and unit.get("z") == unit.get("y"):
        deep = size["z"] * factors["z"] <= COARSE * size["y"] * factors["y"]
    large = max(sizes["y"], sizes["x"]) > LARGEST_PLANE
    if not large and not (deep and sizes["z"] > LARGEST_DEPTH):
        return set()
    return {a for a in ("y", "x") if sizes[a] > 1} | ({"z"} if deep else set())


def halve(values: NDArray[Any], steps: Sequence[int], *, nearest: bool) -> NDArray[Any]:
    """A part of a level, made of the part below it.

    Parameters
    ----------
    values
        Pixels of the level below: an even number along each axis that is halved.
    steps
        2 for each axis that is halved, else 1.
    nearest
        Pick the first of these pixels rather than taking their mean. Means of integers are
        rounded.
    """
    if nearest or values.dtype.kind == "b":
        return values[tuple(slice(None, None, step) for step in steps)]
    # Pixel by pixel, in a fixed order: the same bits however a level is cut into parts.
    sums: NDArray[np.floating[Any]] = values.astype(
        np.float64 if values.dtype.itemsize > 2 else np.float32
    )
    with np.errstate(invalid="ignore"):  # opposite infinities have no mean
        for axis, step in enumerate(steps):
            if step == 2:
                every = (slice(None),) * axis
                sums = sums[*every, slice(0, None, 2)] + sums[*every, slice(1, None, 2)]
    means = sums / prod(steps)
    rounded: NDArray[Any] = np.rint(means) if values.dtype.kind in "iu" else means
    return rounded.astype(values.dtype)


def below(region: Region, steps: Sequence[int]) -> Region:
    """Where the pixels are, in the level below, that a region of a level is made of."""
    return tuple(slice(r.start * s, r.stop * s) for r, s in zip(region, steps, strict=True))


def pieces(region: Region, sizes: Sequence[int]) -> Iterator[Region]:
    """A region cut into pieces of at most these sizes, slowest axis first."""
    starts = (range(r.start, r.stop, n) for r, n in zip(region, sizes, strict=True))
    for corner in product(*starts):
        yield tuple(
            slice(p, min(p + n, r.stop)) for p, n, r in zip(corner, sizes, region, strict=True)
        )


def whole(shape: Sequence[int]) -> Region:
    """The region that is all of an array."""
    return tuple(slice(0, n) for n in shape)
