"""Parts of the foreground that are too large for memory: tissue where everything touches.

Their seeds are labelled block by block and put together as parts are, so seeds, their sizes and
their numbers are those of the whole. Then each block is flooded together with what is around it
(`margin`), and keeps its own pixels. An object may differ from that of the whole where its pixels
are further from its seed than that, or where a flood from beyond would have come first. A pixel
that no seed within the margin reaches stays background. Holes are filled where they and the
object around them lie within the margin.
"""

from __future__ import annotations

from math import prod

import numpy as np

from .files import Scratch, smallest
from .grid import BlockGrid, as_box, grown, shared, sizes, starts, within
from .joining import faces, join
from .maps import Maps
from .parts import MERGED, OWNED
from .windows import Rules, fill_around

SEEDS, NUMBERED, JOINED, FLOODED = "seeds", "numbered", "joined", "flooded"


def margin(block: tuple[int, ...], most: int) -> int:
    """Pixels around a block that are flooded with it.

    256 in 2D and 64 in 3D, several diameters of most cells; less, down to an eighth of that, where
    block and margin have more than `most` pixels.
    """
    wanted = 64 if len(block) > 2 else 256
    found = wanted
    while found > wanted // 8 and prod(n + 2 * found for n in block) > most:
        found //= 2
    return found


def find_seeds(maps: Maps, grid: BlockGrid, scratch: Scratch, block: int, rules: Rules) -> None:
    """Label the seeds of large parts in one block, if it has any.

    Keeps maps of the block, `large` (numbers of large parts) and `seeds`; for each seed its
    number of pixels (`pixels`) and its part (`part`); and the faces of `seeds`.
    """
    from scipy import ndimage as ndi

    number, anchors = scratch.load(OWNED, block, "large", "large_anchors")
    if len(number) == 0:
        return
    region = grid.region(block)
    parts, n_parts = ndi.label(maps.inside(region), output=np.int32)
    of_part = np.zeros(n_parts + 1, np.int64)
    of_part[parts[tuple((anchors - starts(region)).T)]] = number
    large = of_part[parts]
    peaks = (large > 0) & (maps.core(region) > rules.seed_threshold)
    seeds, count = ndi.label(peaks, output=np.int32)
    part = np.zeros(count + 1, np.int64)
    part[seeds[peaks]] = large[peaks]
    scratch.save(
        SEEDS,
        block,
        large=smallest(large),
        seeds=smallest(seeds),
        pixels=np.bincount(seeds.ravel(), minlength=count + 1)[1:],
        part=part[1:],
        **faces(seeds, grid, block),
    )


def join_seeds(grid: BlockGrid, scratch: Scratch, rules: Rules) -> None:
    """Put seeds together, drop those that are too small, and number the others from 1.

    For each block with seeds: `numbers` of its labels 0, 1, ... (0 for none). For the whole map:
    `count`, and `single`, for each large part the number of its seed if it has but one, else 0.
    """
    (large_boxes,) = scratch.load(MERGED, None, "large_boxes")
    here = [scratch.has(SEEDS, n) for n in range(len(grid))]
    none = np.zeros(0, np.int64)
    read = [
        scratch.load(SEEDS, n, "pixels", "part") if has else [none, none]
        for n, has in enumerate(here)
    ]
    counts = np.array([len(pixels) for pixels, _ in read], np.int64)
    seed = join(grid, counts, scratch, SEEDS)
    total = int(seed.max(initial=-1)) + 1
    pixels = np.zeros(total, np.int64)
    np.add.at(pixels, seed, np.concatenate([p for p, _ in read]))
    part = np.zeros(total, np.int64)
    part[seed] = np.concatenate([p for _, p in read])
    largest = np.zeros(len(large_boxes) + 1, np.int64)
    np.maximum.at(largest, part, pixels)
    keep = (pixels >= rules.min_seed_size) | (pixels == largest[part])
    number = np.where(keep, np.cumsum(keep), 0)
    single = np.zeros(len(largest), np.int64)
    single[part[keep]] = number[keep]
    single[np.bincount(part[keep], minlength=len(single)) != 1] = 0
    ends = np.cumsum(counts)
    for n in np.flatnonzero(here):
        numbers = number[seed[ends[n] - counts[n] : ends[n]]]
        scratch.save(NUMBERED, int(n), numbers=np.concatenate([[0], numbers]))
    scratch.save(JOINED, count=np.array(keep.sum(), np.int64), single=single)


def flood_block(
    maps: Maps, grid: BlockGrid, scratch: Scratch, block: int, rules: Rules, most: int
) -> None:
    """Flood large parts in one block, if there are any within its margin.

    Keeps `labels` of the block, the number of the seed of each (`numbers`, of 0, 1, ...), and how
    many pixels it has here (`pixels`).
    """
    from scipy import ndimage as ndi
    from skimage.segmentation import watershed

    (boxes,) = scratch.load(MERGED, None, "large_boxes")
    if len(boxes) == 0:
        return
    own = grid.region(block)
    wide = grown(own, margin(grid.largest, most), grid.shape)
    near = [n for n in grid.overlapping(as_box(wide)) if scratch.has(SEEDS, n)]
    if not near:
        return
    (single,) = scratch.load(JOINED, None, "single")
    tables = [scratch.load(NUMBERED, n, "numbers")[0] for n in near]
    numbers = np.unique(np.concatenate([[0], single, *tables]))  # labels here are places in this
    large = np.zeros(sizes(wide), np.int32)
    labels = np.zeros(sizes(wide), np.int32)
    for n, table in zip(near, tables, strict=True):
        part = shared(wide, grid.region(n))
        assert part is not None
        there, here = within(part, starts(grid.region(n))), within(part, starts(wide))
        parts, seeds = scratch.load(SEEDS, n, "large", "seeds")
        large[here] = parts[there]
        labels[here] = np.searchsorted(numbers, table)[seeds[there]]
    # A part with one seed is one object, however far it goes.
    whole = np.searchsorted(numbers, single).astype(np.int32)[large]
    core = maps.core(wide)
    mask = (large > 0) & (whole == 0)
    flooded = watershed(-core, labels, mask=mask)  # type: ignore[no-untyped-call]
    labels = np.where(whole > 0, whole, flooded)
    if rules.fill_holes:
        parts, n_parts = ndi.label(maps.inside(wide) & (large == 0), output=np.int32)
        others = np.zeros(n_parts + 1, bool)
        others[parts[core > rules.seed_threshold]] = True
        others[0] = False
        fill_around(labels, others[parts], len(numbers))
    labels = labels[within(own, starts(wide))]
    scratch.save(
        FLOODED,
        block,
        labels=smallest(labels),
        numbers=numbers,
        pixels=np.bincount(labels.ravel(), minlength=len(numbers)),
    )


def note(grid: BlockGrid, scratch: Scratch) -> str:
    """What a user should know of large parts; empty if there are none."""
    (boxes,) = scratch.load(MERGED, None, "large_boxes")
    if len(boxes) == 0:
        return ""
    extent = " x ".join(str(n) for n in (boxes[:, :, 1] - boxes[:, :, 0]).max(axis=0))
    which = (
        "1 part of the foreground spans"
        if len(boxes) == 1
        else (f"{len(boxes)} parts of the foreground span up to")
    )
    those = "it was" if len(boxes) == 1 else "they were"
    return (
        f"{which} {extent} pixels, more than memory allows: {those} divided into pieces; objects "
        "where pieces meet may differ. More memory (--memory) divides less."
    )
