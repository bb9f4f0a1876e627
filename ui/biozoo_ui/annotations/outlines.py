"""Labels as outlines along the edges of their pixels, and back; exact both ways."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .shapes import Mask

Ring = NDArray[np.int64]
"""Corners (y, x), edges of pixels, closed by itself: the last is not the first again."""


@dataclass(frozen=True, eq=False)
class Patch:
    """Pixels that hang together edge to edge: their outline, and the outlines of their holes."""

    outer: Ring
    holes: tuple[Ring, ...] = ()


def patches(mask: Mask, y: int = 0, x: int = 0) -> Iterator[Patch]:
    """The outlines of a mask whose first pixel is (y, x) of the image.

    Patches that touch at a corner only are apart, so that no outline touches itself.
    """
    from scipy import ndimage

    parts, _ = ndimage.label(mask)
    for number, box in enumerate(ndimage.find_objects(parts), 1):
        corner = np.array([box[0].start + y, box[1].start + x])
        rings = [ring + corner for ring in _rings(parts[box] == number)]
        # The outer one is that around all others.
        rings.sort(key=lambda ring: -abs(_area(ring)))
        yield Patch(rings[0], tuple(rings[1:]))


def _area(ring: Ring) -> float:
    y, x = ring[:, 0], ring[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def _rings(mask: Mask) -> list[Ring]:
    """All closed outlines of a mask, the inside on the right hand of who walks along.

    Where four pixels meet of which two at opposite corners are inside, the walk turns left. Both
    are of one patch, so elsewhere a way leads from one to the other around what lies between: that
    becomes a hole which touches the outline at this corner, and no outline touches itself.
    """
    wide = np.pad(mask, 1)
    # Steps of one pixel from corner (y, x); inside is on the right: east along an upper side.
    east = wide[1:, 1:] & ~wide[:-1, 1:]
    west = wide[:-1, 1:] & ~wide[1:, 1:]
    south = wide[1:, :-1] & ~wide[1:, 1:]
    north = wide[1:, 1:] & ~wide[1:, :-1]
    steps: dict[tuple[int, int], list[int]] = {}
    ways = ((0, 1), (1, 0), (0, -1), (-1, 0))  # east, south, west, north: each right of the last
    starts = (
        np.argwhere(east),
        np.argwhere(south),
        np.argwhere(west) + np.array([0, 1]),
        np.argwhere(north) + np.array([1, 0]),
    )
    for way, corners in enumerate(starts):
        for y, x in corners.tolist():
            steps.setdefault((y, x), []).append(way)
    rings = []
    while steps:
        start = at = next(iter(steps))
        way = steps[at][0]
        corners_of: list[tuple[int, int]] = []
        before = -1
        while True:
            here = steps[at]
            left = (before - 1) % 4
            way = left if len(here) > 1 and before >= 0 else here[0]
            here.remove(way)
            if not here:
                del steps[at]
            if way != before:
                corners_of.append(at)
            before = way
            at = (at[0] + ways[way][0], at[1] + ways[way][1])
            if at == start and (before - 1) % 4 not in steps.get(at, ()):
                break
        # Where the walk began in the middle of a side, that is no corner.
        ring = np.array(corners_of, np.int64)
        if len(ring) > 2 and _straight(ring[-1], ring[0], ring[1]):
            ring = ring[1:]
        rings.append(ring)
    return rings


def _straight(a: Ring, b: Ring, c: Ring) -> bool:
    return bool((a[0] == b[0] == c[0]) or (a[1] == b[1] == c[1]))
