"""The mutex watershed (Wolf et al. 2018, "The Mutex Watershed"), on affinities in steps of 1/255.

Within a step pairs that join come before pairs that forbid. Parts that the surest pairs join before
anything is forbidden are found at once by connected components; only what is left is gone through
pair by pair.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .offsets import ahead, behind

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Ints = NDArray[np.int64]

__all__ = ["mutex_watershed"]

STEPS = 255


def mutex_watershed(
    affinities: NDArray[np.float32],
    offsets: Sequence[Sequence[int]],
    *,
    inside: NDArray[np.bool_] | None = None,
    threshold: float = 0.5,
    min_size: int = 0,
) -> NDArray[np.int32]:
    """Number objects.

    Parameters
    ----------
    affinities
        Per offset the chance that a pixel and its partner are of one object, 0..1 (offsets, then
        the spatial axes).
    offsets
        The step to the partner. Steps of one pixel along one axis join; others forbid.
    inside
        Where objects may be; without it where a pixel has a neighbour that it belongs to.
    threshold
        Pairs of neighbours above it may join, longer pairs below it forbid.
    min_size
        Smallest object to keep, in pixels.

    Returns
    -------
    NDArray
        int32 over the spatial axes, 0 background.
    """
    shape = affinities.shape[1:]
    if inside is None:
        inside = _has_neighbour(affinities, offsets, threshold)
    joins, forbids = _edges(affinities, offsets, inside, threshold)
    n = int(inside.size)
    level = int(forbids[2].max(initial=-1))
    sure = joins[2] >= level  # ties join first
    part = _components(n, joins[0][sure], joins[1][sure])
    joins = _between(part, tuple(e[~sure] for e in joins))
    forbids = _between(part, forbids)
    part = _go_through(part, joins, forbids)
    labels = np.where(inside, part.reshape(shape) + 1, 0)
    values, numbers, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    keep = (sizes >= max(min_size, 1)) & (values > 0)
    final = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    found: NDArray[np.int32] = final[numbers.reshape(shape)]
    return found


def _has_neighbour(
    affinities: NDArray[np.float32], offsets: Sequence[Sequence[int]], threshold: float
) -> NDArray[np.bool_]:
    found = np.zeros(affinities.shape[1:], bool)
    for channel, offset in zip(affinities, offsets, strict=True):
        if _is_near(offset):
            joined = channel[ahead(offset)] > threshold
            found[ahead(offset)] |= joined
            found[behind(offset)] |= joined
    return found


def _is_near(offset: Sequence[int]) -> bool:
    return sum(map(abs, offset)) == 1


def _edges(
    affinities: NDArray[np.float32],
    offsets: Sequence[Sequence[int]],
    inside: NDArray[np.bool_],
    threshold: float,
) -> tuple[tuple[Ints, ...], tuple[Ints, ...]]:
    """Pairs that join, and pairs that forbid: first pixel, second pixel, how sure (0..255)."""
    index = np.arange(inside.size).reshape(inside.shape)
    joins: list[tuple[Ints, Ints, Ints]] = []
    forbids: list[tuple[Ints, Ints, Ints]] = []
    for channel, offset in zip(affinities, offsets, strict=True):
        here, there = ahead(offset), behind(offset)
        value = np.clip(channel[here], 0, 1)
        both = inside[here] & inside[there]
        near = _is_near(offset)
        both &= (value > threshold) if near else (value < threshold)
        sure = np.rint((value if near else 1 - value)[both] * STEPS).astype(np.int64)
        (joins if near else forbids).append((index[here][both], index[there][both], sure))
    return _joined(joins), _joined(forbids)


def _joined(parts: list[tuple[Ints, Ints, Ints]]) -> tuple[Ints, ...]:
    empty = np.zeros(0, np.int64)
    return tuple(np.concatenate([empty, *columns]) for columns in zip(*parts, strict=True)) or (
        empty,
        empty,
        empty,
    )


def _components(n: int, first: Ints, second: Ints) -> Ints:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(first.size, bool), (first, second)), shape=(n, n))
    part: Ints = connected_components(graph, directed=False)[1].astype(np.int64)
    return part


def _between(part: Ints, edges: tuple[Ints, ...]) -> tuple[Ints, ...]:
    """Edges between parts, the surest of each pair of parts only."""
    first, second = part[edges[0]], part[edges[1]]
    low, high = np.minimum(first, second), np.maximum(first, second)
    real = low != high
    low, high, sure = low[real], high[real], edges[2][real]
    order = np.lexsort((-sure, high, low))
    low, high, sure = low[order], high[order], sure[order]
    new = np.ones(low.size, bool)
    new[1:] = (low[1:] != low[:-1]) | (high[1:] != high[:-1])
    return low[new], high[new], sure[new]


def _go_through(part: Ints, joins: tuple[Ints, ...], forbids: tuple[Ints, ...]) -> Ints:
    """Take the pairs between parts, the surest first, and return the part of each pixel."""
    if not joins[0].size:
        return part
    root = list(range(int(part.max()) + 1))
    apart: dict[int, set[int]] = {}

    def find(a: int) -> int:
        while root[a] != a:
            root[a] = root[root[a]]
            a = root[a]
        return a

    first = np.concatenate([joins[0], forbids[0]])
    second = np.concatenate([joins[1], forbids[1]])
    sure = np.concatenate([joins[2], forbids[2]])
    forbidding = np.arange(first.size) >= joins[0].size
    order = np.lexsort((forbidding, -sure))
    rows = zip(
        first[order].tolist(), second[order].tolist(), forbidding[order].tolist(), strict=True
    )
    for a, b, forbid in rows:
        a, b = find(a), find(b)
        if a == b:
            continue
        if forbid:
            apart.setdefault(a, set()).add(b)
            apart.setdefault(b, set()).add(a)
        elif b not in apart.get(a, ()):
            kept, gone = (a, b) if len(apart.get(a, ())) >= len(apart.get(b, ())) else (b, a)
            root[gone] = kept
            for other in apart.pop(gone, ()):
                apart[other].discard(gone)
                apart[other].add(kept)
                apart.setdefault(kept, set()).add(other)
    roots = np.array([find(a) for a in range(len(root))], np.int64)
    return roots[part]
