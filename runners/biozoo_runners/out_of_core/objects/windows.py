"""Objects of the parts that a block owns, each part flooded as it is in the whole map.

A *window* is a region that holds some parts wholly. There they get the objects that
`instances.label_objects` finds in the whole map:

- Seeds, their sizes, and flooding are matters of one part, and its core map is that of the whole.
- A hole of an object is enclosed by it, so it lies inside the box of its part and touches none of
  the window's faces. Parts within the hole lie inside that box too: whether they have a seed is
  seen here. What another part that the window cuts would look like in the whole changes nothing:
  it reaches a face of the window, so no hole of an object here has a pixel of it.

Other parts are therefore not flooded here, only looked at for seeds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...instances import consecutive, fill_enclosed, flood_parts
from .files import Scratch, smallest
from .grid import (
    BlockGrid,
    Boxes,
    Region,
    around,
    as_box,
    as_region,
    shared,
    sizes,
    starts,
    volumes,
    within,
)
from .maps import Maps
from .parts import LOCAL, OWNED

WINDOWS = "windows"


@dataclass(frozen=True)
class Rules:
    """What decides which objects are kept; see `InstancesConfig`."""

    seed_threshold: float
    min_seed_size: int
    min_size: int
    fill_holes: bool


def label_windows(
    maps: Maps, grid: BlockGrid, scratch: Scratch, block: int, rules: Rules, most: int
) -> None:
    """Find the objects of the parts that a block owns; windows have up to about `most` pixels.

    Keeps how many objects there are (`count`), and pieces of labels 1..count: `piece_<i>` belongs
    to block `targets[i]` and begins at `corners[i]`.
    """
    boxes, anchors = (
        np.concatenate(both)
        for both in zip(
            scratch.load(LOCAL, block, "boxes", "anchors"),
            scratch.load(OWNED, block, "boxes", "anchors"),
            strict=True,
        )
    )
    count = 0
    targets, corners, pieces = [], [], []
    for members in windows(boxes, most):
        window = as_region(around(boxes[members]))
        labels, found = label_window(maps, window, anchors[members], rules)
        labels[labels > 0] += count
        count += found
        for target in grid.overlapping(as_box(window)) if found else ():
            region = shared(window, grid.region(target))
            assert region is not None
            piece = labels[within(region, starts(window))]
            if piece.any():
                targets.append(target)
                corners.append(starts(region))
                pieces.append(smallest(piece))
    scratch.save(
        WINDOWS,
        block,
        count=np.array(count, np.int64),
        targets=np.array(targets, np.int64),
        corners=np.array(corners, np.int64).reshape(-1, grid.ndim),
        **{f"piece_{i}": piece for i, piece in enumerate(pieces)},
    )


def pieces_of(
    scratch: Scratch, source: int, target: int
) -> Iterator[tuple[Region, NDArray[np.unsignedinteger]]]:
    """Labels that the windows of one block found in another (or itself), each with its region."""
    with np.load(scratch.path(WINDOWS, source), allow_pickle=False) as file:
        corners = file["corners"]
        for i in np.flatnonzero(file["targets"] == target):
            piece = file[f"piece_{i}"]
            yield (
                tuple(
                    slice(int(start), int(start) + size)
                    for start, size in zip(corners[i], piece.shape, strict=True)
                ),
                piece,
            )


def label_window(
    maps: Maps, window: Region, anchors: NDArray[np.int64], rules: Rules
) -> tuple[NDArray[np.int32], int]:
    """The objects of the parts that these pixels belong to: labels of the window, and how many."""
    from scipy import ndimage as ndi

    parts, n_parts = ndi.label(maps.inside(window), output=np.int32)
    mine = np.zeros(n_parts + 1, bool)
    mine[parts[tuple((anchors - starts(window)).T)]] = True
    core = maps.core(window)
    peaks = core > rules.seed_threshold
    seeds, n_seeds = ndi.label(peaks & mine[parts], output=np.int32)
    if n_seeds == 0:
        return np.zeros(sizes(window), np.int32), 0
    others = np.zeros(n_parts + 1, bool)  # which have objects, too
    others[parts[peaks]] = True
    others &= ~mine
    others[0] = False
    del peaks
    labels = flood_parts(parts, n_parts, seeds, n_seeds, core, rules.min_seed_size)
    del seeds, core
    if rules.fill_holes:
        fill_around(labels, others[parts], n_seeds + 1)
    numbers = consecutive(np.bincount(labels.ravel()), rules.min_size)
    return numbers[labels], int(numbers.max())


def fill_around(labels: NDArray[np.int32], others: NDArray[np.bool_], unused: int) -> None:
    """Fill holes of objects, except where there are objects of `others` within the hole.

    Parameters
    ----------
    labels
        Changed in place.
    others
        Pixels of objects that have no label here, and get none.
    unused
        A number that is no label.
    """
    labels[others] = unused
    fill_enclosed(labels)
    labels[labels == unused] = 0


def windows(boxes: Boxes, most: int) -> Iterator[NDArray[np.int64]]:
    """Divide parts into groups whose common box has at most `most` pixels, or one part.

    A part that takes most of that alone would only make the windows of others larger.
    """
    large = volumes(boxes) > most // 2
    for number in np.flatnonzero(large):
        yield np.array([number])
    groups = [np.flatnonzero(~large)]
    while groups:
        members = groups.pop()
        if len(members) == 0:
            continue
        box = around(boxes[members])
        if len(members) == 1 or (box[:, 1] - box[:, 0]).prod() <= most:
            yield members
            continue
        middle = boxes[members].sum(axis=2)
        axis = int(np.argmax(np.ptp(middle, axis=0)))
        order = np.argsort(middle[:, axis], kind="stable")
        half = len(members) // 2
        groups += [np.sort(members[order[half:]]), np.sort(members[order[:half]])]
