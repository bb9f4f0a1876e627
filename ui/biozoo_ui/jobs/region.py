"""Which part of an image a preview runs on: what is seen, cut to a size that takes a second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from biozoo_runners import Image
    from biozoo_runners.sizes import AxisGeometry, ModelGeometry

    Images = Image | Mapping[str, Image]

MOST = 2**20
"""Pixels of a region, of a volume all planes counted."""

LEAST = 256
"""Pixels along a side of a region where the image has them: less is no context for a model."""

Range = tuple[int, int]


@dataclass(frozen=True)
class View:
    """What is seen of an image, in its pixels: first and the one after the last of y and x.

    `z` and `time` are positions; None is the middle of z, the first time point.
    """

    y: tuple[float, float]
    x: tuple[float, float]
    z: int | None = None
    time: int | None = None


def region_of(model: ModelGeometry, images: Images, view: View) -> dict[str, Range]:
    """The region of the (first) image, by its own axes: y, x, z and time.

    The view is clipped to the image, enlarged to `LEAST` around its middle where it shows less,
    and cut to `MOST` pixels around its middle. Along z and time it is the position that is seen,
    or as many around it as the model needs.

    Raises
    ------
    UsageError
        The view holds no part of the image.
    """
    image = next(iter(images.values())) if isinstance(images, Mapping) else images
    sizes = image.sizes
    found: dict[str, Range] = {}
    for axis, seen in (("time", view.time), ("z", view.z)):
        if axis in sizes:
            middle = sizes[axis] // 2 if axis == "z" else 0
            at = middle if seen is None else min(max(seen, 0), sizes[axis] - 1)
            found[axis] = _around(at, at + 1, _needed(model, axis), sizes[axis])
    plane = {"y": _clipped(view.y, sizes["y"]), "x": _clipped(view.x, sizes["x"])}
    if not all(a < b for a, b in plane.values()):
        raise UsageError(
            f"The view shows no part of the image, which has {sizes['y']} x {sizes['x']} pixels. "
            "Move back to the image, then try again."
        )
    for axis, (a, b) in plane.items():
        plane[axis] = _around(a, b, max(LEAST, b - a), sizes[axis])
    most = MOST / math.prod(b - a for a, b in found.values())
    tall, wide = (b - a for a, b in plane.values())
    if tall * wide > most:
        tall, wide = _within(tall, wide, most)
        for axis, side in (("y", tall), ("x", wide)):
            a, b = plane[axis]
            plane[axis] = (a + (b - a - side) // 2, a + (b - a - side) // 2 + side)
    return {**found, **plane}


def same_region(region: Mapping[str, Range], of: Image, image: Image) -> dict[str, Range]:
    """The region of one image in another one of the same field, by that one's own axes."""
    found = {}
    for axis, (a, b) in region.items():
        if axis in image.sizes:
            n, m = of.sizes[axis], image.sizes[axis]
            first = min(a * m // n, m - 1)
            found[axis] = (first, max(first + 1, b * m // n))
    return found


def _clipped(seen: tuple[float, float], size: int) -> Range:
    return max(0, math.floor(seen[0])), min(size, math.ceil(seen[1]))


def _around(first: int, last: int, wanted: int, size: int) -> Range:
    """`wanted` positions around a range, moved into the image where they reach beyond it."""
    wanted = min(wanted, size)
    start = min(max(0, (first + last - wanted) // 2), size - wanted)
    return start, start + wanted


def _within(tall: int, wide: int, most: float) -> tuple[int, int]:
    """Sides of at most so many pixels, the longer one shortened first until both are the same."""
    side = math.isqrt(int(most))
    if min(tall, wide) <= side:
        short = min(tall, wide)
        long = int(most // short)
        return (short, long) if tall <= wide else (long, short)
    return side, side


def _needed(model: ModelGeometry, axis: str) -> int:
    """Positions along an axis of which a model needs several, 1 where it sees one at a time."""
    from biozoo_runners.sizes import FixedSize

    needed = 1
    halo = max((a.halo for t in model.outputs for a in t.axes if a.id == axis), default=0)
    own = next((a for t in model.inputs for a in t.axes if a.id == axis), None)
    if own is None:
        return needed
    if isinstance(own.size, FixedSize):
        return own.size.size
    return _allowed(own, 1 + 2 * halo)


def _allowed(axis: AxisGeometry, least: int) -> int:
    from biozoo_runners.sizes import ParameterizedSize

    if not isinstance(axis.size, ParameterizedSize):
        return least
    steps = max(0, -(-(least - axis.size.min) // max(1, axis.size.step)))
    return axis.size.min + steps * axis.size.step
