"""The blocks of one map as a grid, and boxes of pixels in it.

A *region* is a tuple of slices, one for each spatial axis. *Boxes* are many regions at once: int64
of shape (regions, axes, 2) with the first pixel and the one after the last, counted in the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

Region = tuple[slice, ...]
Boxes = NDArray[np.int64]


@dataclass(frozen=True)
class BlockGrid:
    """Blocks in raster order: the last axis runs fastest.

    Attributes
    ----------
    edges
        Along each axis where blocks begin, and at last where the map ends, in pixels.
    """

    edges: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, blocks: Sequence[Region], shape: Sequence[int]) -> BlockGrid:
        """The grid that these regions form.

        Raises
        ------
        ValueError
            They are no grid in raster order that covers the shape.
        """
        starts: list[set[int]] = [set() for _ in shape]
        for number in range(len(blocks)):
            for found, along in zip(starts, blocks[number], strict=True):
                found.add(along.start)
        edges = ((*sorted(found), size) for found, size in zip(starts, shape, strict=True))
        grid = cls(tuple(edges))
        if len(grid) != len(blocks) or any(
            grid.region(n) != tuple(slice(s.start, s.stop) for s in blocks[n])
            for n in range(len(blocks))
        ):
            raise ValueError("the blocks are no grid in raster order that covers the whole map")
        return grid

    def __len__(self) -> int:
        return prod(self.counts)

    @property
    def ndim(self) -> int:
        """Number of spatial axes."""
        return len(self.edges)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole map, in pixels."""
        return tuple(along[-1] for along in self.edges)

    @property
    def counts(self) -> tuple[int, ...]:
        """Number of blocks along each axis."""
        return tuple(len(along) - 1 for along in self.edges)

    @property
    def largest(self) -> tuple[int, ...]:
        """Pixels of the longest block along each axis."""
        return tuple(int(np.diff(along).max()) for along in self.edges)

    def region(self, block: int) -> Region:
        """Pixels of a block."""
        place = np.unravel_index(block, self.counts)
        return tuple(
            slice(along[i], along[i + 1]) for along, i in zip(self.edges, place, strict=True)
        )

    def following(self, block: int, axis: int) -> int | None:
        """The block behind this one along an axis, None for the last."""
        counts = self.counts
        if np.unravel_index(block, counts)[axis] + 1 == counts[axis]:
            return None
        return block + prod(counts[axis + 1 :])

    def inner_faces(self, block: int) -> Iterator[tuple[int, int]]:
        """Axis and side (0 its first pixels, 1 its last) of each face that meets a block."""
        place = np.unravel_index(block, self.counts)
        for axis, (i, count) in enumerate(zip(place, self.counts, strict=True)):
            if i > 0:
                yield axis, 0
            if i + 1 < count:
                yield axis, 1

    def overlapping(self, box: NDArray[Any]) -> list[int]:
        """Blocks that have pixels of a box (axes, 2), in raster order."""
        spans = [
            range(
                int(np.searchsorted(along, start, side="right")) - 1,
                int(np.searchsorted(along, stop, side="left")),
            )
            for along, (start, stop) in zip(self.edges, box, strict=True)
        ]
        counts = self.counts
        return [int(np.ravel_multi_index(place, counts)) for place in product(*spans)]


def grown(region: Region, margin: int, shape: Sequence[int]) -> Region:
    """The region and `margin` pixels around it, as far as the map goes."""
    return tuple(
        slice(max(s.start - margin, 0), min(s.stop + margin, size))
        for s, size in zip(region, shape, strict=True)
    )


def within(region: Region, start: Sequence[int]) -> Region:
    """A region of the whole as one of an array that begins at `start`."""
    return tuple(slice(s.start - at, s.stop - at) for s, at in zip(region, start, strict=True))


def shared(one: Region, other: Region) -> Region | None:
    """Pixels that two regions have in common, None for none."""
    both = tuple(
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return both if all(s.start < s.stop for s in both) else None


def starts(region: Region) -> tuple[int, ...]:
    """The first pixel of a region."""
    return tuple(s.start for s in region)


def sizes(region: Region) -> tuple[int, ...]:
    """Pixels of a region along each axis."""
    return tuple(s.stop - s.start for s in region)


def as_box(region: Region) -> Boxes:
    """One region as an array (axes, 2)."""
    return np.array([(s.start, s.stop) for s in region], np.int64)


def as_region(box: NDArray[Any]) -> Region:
    """One box (axes, 2) as slices."""
    return tuple(slice(int(start), int(stop)) for start, stop in box)


def around(boxes: Boxes) -> Boxes:
    """The box (axes, 2) that holds all of these."""
    return np.stack([boxes[:, :, 0].min(axis=0), boxes[:, :, 1].max(axis=0)], axis=1)


def volumes(boxes: Boxes) -> NDArray[np.int64]:
    """Pixels of each box."""
    return np.asarray((boxes[:, :, 1] - boxes[:, :, 0]).prod(axis=1), np.int64)
