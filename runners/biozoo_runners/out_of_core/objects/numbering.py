"""Numbers for the whole map: each block's objects come after those of all blocks before it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import UsageError

from ...instances import consecutive
from .files import Scratch
from .grid import BlockGrid, Region, sizes, starts, within
from .large import FLOODED, JOINED
from .parts import OWNED
from .windows import WINDOWS, Rules, pieces_of

NUMBERS, TOTAL = "numbers", "total"
MOST = 2**31 - 1

Write = Callable[[Region, NDArray[np.int32]], None]


def number_objects(grid: BlockGrid, scratch: Scratch, rules: Rules, most: int = MOST) -> None:
    """Settle the numbers of all objects.

    For each block: what is added to the labels of its windows (`offset`), and the numbers of its
    pieces of large parts by their label (`large`). For the whole map: `count`.

    Raises
    ------
    UsageError
        There are more objects than int32 can number.
    """
    counts = [int(scratch.load(WINDOWS, n, "count")[0]) for n in range(len(grid))]
    offsets = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
    (seeds,) = scratch.load(JOINED, None, "count")
    flooded = {n for n in range(len(grid)) if scratch.has(FLOODED, n)}
    pixels = np.zeros(int(seeds) + 1, np.int64)
    for n in flooded:
        numbers, here = scratch.load(FLOODED, n, "numbers", "pixels")
        pixels[numbers] += here
    final = consecutive(pixels, rules.min_size).astype(np.int64)
    count = int(offsets[-1] + final.max())
    if count > most:
        raise UsageError(
            f"{count} objects were found, and an image of labels can number {most}. Keep fewer, "
            "with a larger --min-size, or run a part of the image."
        )
    final[final > 0] += offsets[-1]
    for n in range(len(grid)):
        numbers = scratch.load(FLOODED, n, "numbers")[0] if n in flooded else np.zeros(1, int)
        scratch.save(NUMBERS, n, offset=offsets[n], large=final[numbers].astype(np.int32))
    scratch.save(TOTAL, count=np.array(count, np.int64))


def write_labels(grid: BlockGrid, scratch: Scratch, block: int, write: Write) -> None:
    """Put together the labels of one block and write them."""
    region = grid.region(block)
    labels = np.zeros(sizes(region), np.int32)
    (sources,) = scratch.load(OWNED, block, "sources")
    for source in (*sources.tolist(), block):
        (offset,) = scratch.load(NUMBERS, source, "offset")
        for place, piece in pieces_of(scratch, source, block):
            found = piece > 0
            labels[within(place, starts(region))][found] = piece[found].astype(np.int32) + np.int32(
                offset
            )
    if scratch.has(FLOODED, block):
        (numbers,) = scratch.load(NUMBERS, block, "large")
        (flooded,) = scratch.load(FLOODED, block, "labels")
        np.copyto(labels, numbers[flooded], where=labels == 0)
    write(region, labels)
