"""Reading a region of one TIFF page: decode only the tiles or strips that overlap it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Index

_JPEG = {6, 7, 34892, 33007}  # compressions whose tiles need the page's tables to be decoded
_PLACE = {"YX": (2, 3), "YXS": (2, 3, 4), "SYX": (0, 2, 3)}


class PageRegion:
    """The part of a page that an index selects.

    tifffile's segments lie in a normalized space (separate sample, depth, row, column,
    contiguous sample); `box` is the selection's bounding box there, None where the whole page is
    decoded instead: it is one segment, or nearly all of it is asked for.
    """

    def __init__(self, page: Any, index: tuple[Index, ...]) -> None:
        self.index = index
        self.shape = tuple(
            len(range(*i.indices(n))) for i, n in zip(index, page.shape, strict=True)
            if isinstance(i, slice)
        )  # fmt: skip
        self.box: list[tuple[int, int]] | None = None
        if not _in_parts(page):
            return
        place = _PLACE[page.axes]
        box = [(0, n) for n in page.shaped]
        for dim, i in zip(place, index, strict=True):
            box[dim] = (i.start, i.stop) if isinstance(i, slice) else (i, i + 1)
        if 2 * math.prod(b - a for a, b in box) < math.prod(page.shaped):
            self.box, self._place = box, place

    def cut(self, buffer: NDArray[Any]) -> NDArray[Any]:
        """The selection out of the box's pixels."""
        assert self.box is not None
        keep = tuple(slice(None) if d in self._place else 0 for d in range(5))
        inside = tuple(
            slice(0, i.stop - i.start, i.step) if isinstance(i, slice) else 0 for i in self.index
        )
        return np.asarray(buffer[keep][inside])


def _in_parts(page: Any) -> bool:
    """Whether a page can be decoded in parts."""
    return page.axes in _PLACE and page.jpegheader is None and math.prod(page.chunked) > 1


def segment_shape(page: Any) -> tuple[int, ...]:
    """Pixels along each axis of a page that are decoded at once: a tile, a strip, or all."""
    if not _in_parts(page):
        return tuple(page.shape)
    tall, wide = _segment(page)
    if page.axes == "YXS":
        return tall, wide, int(page.shape[-1])
    return (1, tall, wide) if page.axes == "SYX" else (tall, wide)


def _segment(page: Any) -> tuple[int, int]:
    """Rows and columns of a tile or a strip."""
    if page.is_tiled:
        return int(page.tilelength), int(page.tilewidth)
    return int(page.rowsperstrip), int(page.imagewidth)


def read_boxed(page: Any, region: PageRegion) -> NDArray[Any]:
    """The selected pixels of `page`, whose file is open, for a region that has a box."""
    assert region.box is not None
    key = page.keyframe
    options = {"_fullsize": False}
    if key.compression in _JPEG:
        options |= {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
    (s0, s1), _, (y0, y1), (x0, x1), (c0, c1) = region.box
    out = np.full([b - a for a, b in region.box], key.nodata, key.dtype)
    if out.size == 0:
        return region.cut(out)
    tall, wide = _segment(key)
    down, across = math.ceil(key.imagelength / tall), math.ceil(key.imagewidth / wide)
    wanted = [
        (s * down + row) * across + column
        for s in range(s0, s1)
        for row in range(y0 // tall, (y1 - 1) // tall + 1)
        for column in range(x0 // wide, (x1 - 1) // wide + 1)
    ]
    for data, number in page.parent.filehandle.read_segments(
        [page.dataoffsets[n] for n in wanted], [page.databytecounts[n] for n in wanted], wanted
    ):
        pixels, (s, _d, y, x, _c), _shape = key.decode(data, number, **options)
        if pixels is None:  # a tile that the writer left out because it is empty
            continue
        top, left = max(y, y0), max(x, x0)
        bottom, right = min(y + pixels.shape[1], y1), min(x + pixels.shape[2], x1)
        out[s - s0, 0, top - y0 : bottom - y0, left - x0 : right - x0] = pixels[
            0, top - y : bottom - y, left - x : right - x, c0:c1
        ]
    return region.cut(out)
