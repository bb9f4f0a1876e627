"""Connected parts of the foreground: found block by block, then put together.

Most parts lie in one block. Those on a face are *open*: only they are put together, so that takes
memory in proportion to their number. A part is known by its *anchor*, any one of its pixels, and
belongs to its *owner*, the first block (in raster order) that has pixels of it.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from .files import Scratch
from .grid import BlockGrid, Boxes, starts, volumes
from .joining import faces, join
from .maps import Maps

LOCAL, OWNED, MERGED = "parts", "owned", "merged"


def find_parts(maps: Maps, grid: BlockGrid, scratch: Scratch, block: int) -> None:
    """Label the foreground of one block.

    Keeps `boxes` and `anchors` (parts, axes) of what lies in this block alone, `open_boxes` and
    `open_anchors` of open parts, and the faces, with open parts numbered in this order from 1.
    """
    from scipy import ndimage as ndi

    region = grid.region(block)
    labels, count = ndi.label(maps.inside(region), output=np.int32)
    start = np.array(starts(region))
    boxes = _boxes(ndi.find_objects(labels), grid.ndim) + start[:, None]
    anchors = _anchors(labels, count) + start
    on_faces = faces(labels, grid, block)
    is_open = np.zeros(count + 1, bool)
    for face in on_faces.values():
        is_open[face] = True
    is_open[0] = False
    number = np.where(is_open, np.cumsum(is_open), 0).astype(np.int32)
    scratch.save(
        LOCAL,
        block,
        boxes=boxes[~is_open[1:]],
        anchors=anchors[~is_open[1:]],
        open_boxes=boxes[is_open[1:]],
        open_anchors=anchors[is_open[1:]],
        **{name: number[face] for name, face in on_faces.items()},
    )


def merge_parts(grid: BlockGrid, scratch: Scratch, most: int) -> None:
    """Put open parts together, and tell each block what is its own.

    For each block: `boxes` and `anchors` of the open parts that it owns; `sources`, earlier blocks
    whose parts may hang over into it; and of parts whose box has more than `most` pixels, which
    are too large to be flooded at once, `large` (their numbers, from 1) and `large_anchors`, one in
    this block. For the whole map: `large_boxes`.
    """
    read = [scratch.load(LOCAL, n, "open_boxes", "open_anchors") for n in range(len(grid))]
    counts = np.array([len(boxes) for boxes, _ in read], np.int64)
    boxes = np.concatenate([b for b, _ in read])
    anchors = np.concatenate([a for _, a in read])
    del read
    block = np.repeat(np.arange(len(grid)), counts)
    part = join(grid, counts, scratch, LOCAL)

    whole, first = _joined(boxes, part)
    owner = block[first]
    is_large = volumes(whole) > most
    large = np.where(is_large, np.cumsum(is_large), 0)
    source, target = _hanging_over(grid, owner[~is_large], whole[~is_large])
    own = _of_blocks(np.where(is_large, -1, owner), len(grid))
    large_here = _of_blocks(np.where(large[part] > 0, block, -1), len(grid))
    sources = _of_blocks(target, len(grid))
    for n in range(len(grid)):
        scratch.save(
            OWNED,
            n,
            boxes=whole[own[n]],
            anchors=anchors[first[own[n]]],
            sources=source[sources[n]],
            large=large[part[large_here[n]]],
            large_anchors=anchors[large_here[n]],
        )
    scratch.save(MERGED, large_boxes=whole[is_large])


def _boxes(found: list[tuple[slice, ...]], ndim: int) -> Boxes:
    corners = [[(s.start, s.stop) for s in region] for region in found]
    return np.array(corners, np.int64).reshape(-1, ndim, 2)


def _anchors(labels: NDArray[np.int32], count: int) -> NDArray[np.int64]:
    """A pixel of each label: (labels, axes)."""
    pixels = np.flatnonzero(labels)
    one = np.zeros(count + 1, np.int64)
    one[labels.ravel()[pixels]] = pixels
    return np.stack(np.unravel_index(one[1:], labels.shape), axis=1).astype(np.int64)


def _joined(boxes: Boxes, part: NDArray[np.int64]) -> tuple[Boxes, NDArray[np.int64]]:
    """The box of each part, and which of its pieces comes first."""
    _, first = np.unique(part, return_index=True)
    whole = boxes[first]
    np.minimum.at(whole[:, :, 0], part, boxes[:, :, 0])
    np.maximum.at(whole[:, :, 1], part, boxes[:, :, 1])
    return whole, first


def _hanging_over(
    grid: BlockGrid, owner: NDArray[np.int64], boxes: Boxes
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a block and another into which the boxes of its parts reach, each once."""
    pairs = {
        (int(n), other)
        for n, box in zip(owner, boxes, strict=True)
        for other in grid.overlapping(box)
        if other != n
    }
    both = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _of_blocks(block: NDArray[np.int64], count: int) -> list[NDArray[np.int64]]:
    """Which entries are of block 0, 1, ...; -1 is of none."""
    order = np.argsort(block, kind="stable")
    ends = np.searchsorted(block[order], np.arange(-1, count), side="right")
    return [order[a:b] for a, b in pairwise(ends)]
