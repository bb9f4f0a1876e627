"""Connected parts across blocks: each block is labelled alone, the faces say what belongs together.

A block that was labelled leaves the labels on each face that meets another block, as arrays
`face_<axis>_<side>` of its file. Two labels that face each other are one connected part.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .files import Scratch
from .grid import BlockGrid

Faces = dict[str, NDArray[np.int32]]


def faces(labels: NDArray[np.int32], grid: BlockGrid, block: int) -> Faces:
    """Labels on each face of a block that meets another."""
    return {
        f"face_{axis}_{side}": np.ascontiguousarray(labels.take(-side, axis=axis))
        for axis, side in grid.inner_faces(block)
    }


def join(
    grid: BlockGrid, counts: NDArray[np.int64], scratch: Scratch, kind: str
) -> NDArray[np.int64]:
    """Number connected parts across all blocks.

    Parameters
    ----------
    counts
        Labels of each block; they are 1..count.
    kind
        Whose files have the faces. Two are read at a time.

    Returns
    -------
    NDArray
        The part (0, 1, ...) of each label: those of the first block, then the second, ...
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    before = np.concatenate([[0], np.cumsum(counts)])
    edges = [np.zeros((2, 0), np.int64)]
    for block, following, axis in _neighbours(grid):
        if counts[block] and counts[following]:
            pairs = _facing(scratch, kind, block, following, axis)
            edges.append(pairs - 1 + before[[block, following]][:, None])
    first, second = np.concatenate(edges, axis=1)
    total = int(before[-1])
    graph = coo_array((np.ones(len(first), np.int8), (first, second)), shape=(total, total))
    _, part = connected_components(graph, directed=False)
    return np.asarray(part, np.int64)


def _neighbours(grid: BlockGrid) -> Iterator[tuple[int, int, int]]:
    for block in range(len(grid)):
        for axis in range(grid.ndim):
            if (following := grid.following(block, axis)) is not None:
                yield block, following, axis


def _facing(
    scratch: Scratch, kind: str, block: int, following: int, axis: int
) -> NDArray[np.int64]:
    """Pairs (2, n) of labels that face each other, each once."""
    (last,) = scratch.load(kind, block, f"face_{axis}_1")
    (first,) = scratch.load(kind, following, f"face_{axis}_0")
    both = (last > 0) & (first > 0)
    base = int(first.max(initial=0)) + 1
    pairs = np.unique(last[both].astype(np.int64) * base + first[both])
    return np.stack(np.divmod(pairs, base))
