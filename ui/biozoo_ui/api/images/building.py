"""The coarse levels of one plane, all in one pass: read block by block on every core, reduced while
it is in the core's cache, written band by band from top to bottom.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .reduce import halve

Pixels = NDArray[Any]
Read = Callable[[slice, slice], Pixels]
"""Pixels of the plane, (y, x), of the type of the levels."""

_SIDE = 1024  # of a block: whole tiles of most files
_ROWS = 256  # of a block from side to side, where any number will do
_BAND_BYTES = 2**28
_AHEAD = 2 * (os.cpu_count() or 1)  # blocks that may be under way


@dataclass(frozen=True)
class Plan:
    """What is to be made.

    Attributes
    ----------
    base
        The level that is read.
    sizes
        (y, x) of every level.
    offsets
        Level to be kept -> where in the file it begins, in pixels.
    nearest
        See `reduce.halve`.
    block
        Pixels along y and x that are read at once; powers of two, or the whole width.
    """

    base: int
    sizes: Sequence[tuple[int, int]]
    offsets: Mapping[int, int]
    nearest: bool
    block: tuple[int, int]

    @property
    def deepest(self) -> int:
        """As far as blocks are halved by themselves; further levels are made of all of them."""
        return min(max(self.offsets), self.base + self.block[0].bit_length() - 1)


def block_size(wide: int, grain: tuple[int, int] | None, side_bytes: int = 8) -> tuple[int, int]:
    """How much of a plane to read at once, so that little is decoded twice.

    Parameters
    ----------
    wide
        Of the plane.
    grain
        What the file decodes at once; None: any part.
    side_bytes
        Bytes per pixel in memory, at most.
    """
    if grain is not None and max(grain) <= 2 * _SIDE and grain[1] < wide:
        side = max(_SIDE, *grain)
        if side % grain[0] == side % grain[1] == 0 and side & (side - 1) == 0:
            return side, side
    rows = _ROWS if grain is None or _ROWS % grain[0] == 0 else _SIDE
    while rows > 64 and rows * wide * side_bytes > _BAND_BYTES:
        rows //= 2
    return rows, wide


def build(path: Path, read: Read, plan: Plan, threads: Executor) -> None:
    """Write all levels of a plan into a file, one after the other.

    Raises
    ------
    OSError
        It cannot be written.
    BiozooError
        As `read`.
    """
    tall, _ = plan.sizes[plan.base]
    waiting: deque[tuple[int, _Band]] = deque()
    last_rows: list[Pixels] = []
    with path.open("wb") as file:

        def write(level: int, row: int, pixels: Pixels) -> None:
            at = plan.offsets[level] + row * plan.sizes[level][1]
            file.seek(at * pixels.itemsize)
            file.write(np.ascontiguousarray(pixels).data)

        def finish() -> None:
            top, band = waiting.popleft()
            for level in range(plan.base + 1, plan.deepest + 1):
                if level in plan.offsets or level == plan.deepest:
                    pixels = band.level(level)
                    if level in plan.offsets:
                        write(level, top >> (level - plan.base), pixels)
            last_rows.append(pixels)

        try:
            for top in range(0, tall, plan.block[0]):
                waiting.append((top, _Band(read, plan, top, threads)))
                while sum(len(band.blocks) for _, band in waiting) > _AHEAD and len(waiting) > 1:
                    finish()
            while waiting:
                finish()
        finally:
            for _, band in waiting:
                band.cancel()
        pixels = np.concatenate(last_rows)
        for level in range(plan.deepest + 1, max(plan.offsets) + 1):
            pixels = halve(pixels, nearest=plan.nearest)
            if level in plan.offsets:
                write(level, 0, pixels)


class _Band:
    """The blocks of some rows, under way."""

    def __init__(self, read: Read, plan: Plan, top: int, threads: Executor) -> None:
        tall, wide = plan.sizes[plan.base]
        rows = slice(top, min(tall, top + plan.block[0]))
        self.blocks: list[Future[dict[int, Pixels]]] = [
            threads.submit(_reduced, read, plan, rows, slice(left, min(wide, left + plan.block[1])))
            for left in range(0, wide, plan.block[1])
        ]

    def level(self, number: int) -> Pixels:
        """One level of these rows; waits for it."""
        return np.concatenate([block.result()[number] for block in self.blocks], axis=1)

    def cancel(self) -> None:
        for block in self.blocks:
            block.cancel()


def _reduced(read: Read, plan: Plan, rows: slice, columns: slice) -> dict[int, Pixels]:
    pixels = read(rows, columns)
    found = {}
    for level in range(plan.base + 1, plan.deepest + 1):
        pixels = halve(pixels, nearest=plan.nearest)
        if level in plan.offsets or level == plan.deepest:
            # A copy: of labels it would be a view that keeps the whole block.
            found[level] = np.array(pixels)
    return found
