"""Tiles of every level of an image.

A tile of a level that the file holds is read; one of up to two halvings more is made from it on
request (16 tiles at most); coarser levels are made for the whole plane in one pass and kept, which
takes 2 % of the plane's size. So no tile reads more than a megapixel, and no pixel is read twice
for an overview.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import NotFoundError

from .building import Plan, block_size, build
from .planes import Planes
from .reduce import as_sent, halve
from .source import Place, Source

TILE = 256
KEPT_FROM = 3
"""So many halvings below a stored level, levels are kept."""


class Pyramid:
    """All levels of one image.

    Parameters
    ----------
    dtype
        Of the tiles.
    labels
        Whether coarse levels take the nearest pixel. A file's own levels are then not used: they
        may be means, and a mean of two numbers is a third object.
    folder
        Where kept levels are written, of this image alone.
    """

    def __init__(
        self, source: Source, dtype: np.dtype[Any], *, labels: bool, folder: Path, planes: Planes
    ) -> None:
        self.source, self.dtype, self.labels = source, dtype, labels
        self.folder, self._planes = folder, planes
        self.sizes = level_sizes(source.sizes["y"], source.sizes["x"])
        stored = (0,) if labels else tuple(sorted(source.stored))
        #: Per level, the stored level it is made from.
        self._from = [max(s for s in stored if s <= n) for n in range(len(self.sizes))]

    def check(self, level: int, place: Place, row: int, column: int) -> None:
        """Whether there is such a tile.

        Raises
        ------
        NotFoundError
            Where there is none.
        """
        sizes = self.source.sizes
        if 0 <= level < len(self.sizes):
            tall, wide = self.sizes[level]
            inside = (
                0 <= row * TILE < tall
                and 0 <= column * TILE < wide
                and 0 <= place.time < sizes["time"]
                and 0 <= place.channel < sizes["channel"]
                and 0 <= place.z < sizes["z"]
            )
            if inside:
                return
        got = f"{level}/{place.time}/{place.channel}/{place.z}/{row}/{column}"
        raise NotFoundError(kind="tile", got=got, known=())

    def prepare(self, level: int, place: Place) -> Future[None] | None:
        """Have what a level needs made; None where nothing has to be waited for."""
        if not self._is_kept(level):
            return None
        base = self._from[level]
        return self._planes.ensure(self._path(base, place), self._builder(base, place))

    def tile(self, level: int, place: Place, row: int, column: int) -> NDArray[Any]:
        """Pixels of one tile, (y, x) of at most 256 x 256; waits where a level has to be made."""
        self.check(level, place, row, column)
        y, x = _span(row, self.sizes[level][0]), _span(column, self.sizes[level][1])
        if self._is_kept(level):
            return self._kept(level, place, y, x)
        base = self._from[level]
        times = 2 ** (level - base)
        tall, wide = self.sizes[base]
        pixels = self._read(
            base,
            place,
            slice(y.start * times, min(tall, y.stop * times)),
            slice(x.start * times, min(wide, x.stop * times)),
        )
        for _ in range(level - base):
            pixels = halve(pixels, nearest=self.labels)
        return pixels

    def _read(self, base: int, place: Place, y: slice, x: slice) -> NDArray[Any]:
        return as_sent(self.source.read(base, place, y, x), self.dtype)

    def _is_kept(self, level: int) -> bool:
        return level - self._from[level] >= KEPT_FROM

    def _path(self, base: int, place: Place) -> Path:
        return self.folder / f"{place.time}-{place.channel}-{place.z}-{base}.levels"

    def _offsets(self, base: int) -> dict[int, int]:
        """Kept levels made from `base` -> where in its file each begins, in pixels."""
        offsets, at = {}, 0
        for level, (tall, wide) in enumerate(self.sizes):
            if self._from[level] == base and self._is_kept(level):
                offsets[level] = at
                at += tall * wide
        return offsets

    def _kept(self, level: int, place: Place, y: slice, x: slice) -> NDArray[Any]:
        base = self._from[level]
        path = self._path(base, place)
        while True:
            if (made := self.prepare(level, place)) is not None:
                made.result()
            try:
                stored = np.memmap(
                    path,
                    self.dtype,
                    "r",
                    offset=self._offsets(base)[level] * self.dtype.itemsize,
                    shape=self.sizes[level],
                )
            except FileNotFoundError:  # removed to make room since: make it again
                self._planes.forget(path)
            else:
                return np.array(stored[y, x])

    def _builder(self, base: int, place: Place) -> Callable[[Path], None]:
        return lambda path: self._build(path, base, place)

    def _build(self, path: Path, base: int, place: Place) -> None:
        """Write all kept levels made from `base`."""
        plan = Plan(
            base=base,
            sizes=self.sizes,
            offsets=self._offsets(base),
            nearest=self.labels,
            block=block_size(self.sizes[base][1], self.source.grain),
        )
        build(path, lambda y, x: self._read(base, place, y, x), plan, self._planes.blocks)


def level_sizes(tall: int, wide: int) -> list[tuple[int, int]]:
    """(y, x) of every level: halves, rounded up, until both fit into one tile."""
    sizes = [(tall, wide)]
    while max(sizes[-1]) > TILE:
        sizes.append((-(-sizes[-1][0] // 2), -(-sizes[-1][1] // 2)))
    return sizes


def _span(number: int, size: int) -> slice:
    return slice(number * TILE, min(size, (number + 1) * TILE))
