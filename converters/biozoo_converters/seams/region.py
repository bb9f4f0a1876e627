"""Which part of an image is run whole and in tiles: all settled before a pixel is read.

The part ends where the image ends, because there the last tile is not a whole step from the one
before, and is as many of the run's last tiles as fit into memory as a whole. Where a network takes
one size only there is no whole: a window of that size with a seam in its middle stands for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from biozoo.errors import BiozooError, UsageError
from biozoo_runners.retile import halved
from biozoo_runners.sizes import FixedSize, ModelGeometry
from biozoo_runners.tiling import TilePlan, plan_tiles

__all__ = ["Part", "settle"]

Sizes = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Part:
    """What is run twice.

    Attributes
    ----------
    model
        What the plans were made for.
    start
        Per grid axis, its first pixel in the image.
    sizes
        Of the part, by input tensor and axis id.
    tiles
        The plan of the part in tiles, as a run lays them.
    whole
        The plan of the part in one piece; None where the network takes one size only.
    forced
        Whether a run would take all of the image in one tile, so that smaller ones were taken.
    smaller
        Whether tiles are smaller than a run's, for the whole to fit into memory.
    """

    model: ModelGeometry
    start: Mapping[str, int]
    sizes: Sizes
    tiles: TilePlan
    whole: TilePlan | None
    forced: bool
    smaller: bool


def settle(
    model: ModelGeometry, sizes: Sizes, tile: Mapping[str, int] | None, *, most: int
) -> Part:
    """Choose the part of an image.

    Parameters
    ----------
    sizes
        Of the whole image, by input tensor and axis id.
    tile
        Of the run, by axis id; None: what a run chooses.
    most
        Pixels that the network may see at once, for the whole.

    Raises
    ------
    UsageError
        The model cannot be run in tiles, or the image is too small for two.
    """
    plan = plan_tiles(model, sizes, tile=tile)
    forced = len(plan) == 1
    if forced:
        plan = _two_tiles(model, sizes, plan)
    first = plan
    while True:
        longest = max(len(g.starts) for g in plan.grid)
        counts = range(longest, 1, -1) if _whole(model, sizes) is not None else (3, 2)
        for count in counts:
            part = _last(model, sizes, plan, count)
            if part is None:
                continue
            made, start, tiles = part
            whole = _whole(model, made)
            seen = prod(g.tile for g in (whole or tiles).grid)
            if seen <= most:
                return Part(model, start, made, tiles, whole, forced, plan is not first)
        smaller = halved(model, sizes, plan)
        if smaller is None:
            raise UsageError(
                f"Two tiles of this model ({plan.summary}) do not fit into memory as one piece, so "
                "they cannot be compared with it here."
            )
        plan = smaller


def _two_tiles(model: ModelGeometry, sizes: Sizes, plan: TilePlan) -> TilePlan:
    """Two tiles along every axis that can be cut, for an image that a run takes in one."""
    able = [g for g in plan.grid if model.tensor(g.tensor).axis(g.id).can_tile]
    asked: dict[str, int] = {}
    for g in able:
        if isinstance(model.tensor(g.tensor).axis(g.id).size, FixedSize):
            continue
        half = -(-g.size // 2) + 2 * g.halo
        for least in range(half, g.tile):
            try:
                found = plan_tiles(model, sizes, tile={**asked, g.id: least})
            except BiozooError:
                continue
            if any(x.id == g.id and len(x.starts) > 1 for x in found.grid):
                asked[g.id] = least
            break
    if asked and len(found := plan_tiles(model, sizes, tile=asked)) > 1:
        return found
    shape = ", ".join(f"{g.id} {g.size}" for g in plan.grid)
    raise UsageError(
        f"The image ({shape}) goes through this model in one tile and is too small for two, or the "
        "model cannot be cut: there is nothing to compare. Give a larger image."
    )


def _last(
    model: ModelGeometry, sizes: Sizes, plan: TilePlan, count: int
) -> tuple[dict[str, dict[str, int]], dict[str, int], TilePlan] | None:
    """The last `count` tiles along each axis; None where they are not laid the same alone."""
    starts = [g.starts[-min(count, len(g.starts))] for g in plan.grid]
    made = {
        t.id: {
            a.id: int(a.size - (0 if a.grid is None else starts[a.grid] * a.ratio))
            for a in t.axes
            if a.size is not None
        }
        for t in plan.inputs
    }
    tile = {g.id: g.tile for g in plan.grid}
    try:
        tiles = plan_tiles(model, made, tile=tile)
    except BiozooError:
        return None
    laid = [
        tuple(s - f for s in g.starts if s >= f) for g, f in zip(plan.grid, starts, strict=True)
    ]
    if [g.starts for g in tiles.grid] != laid:
        return None
    return made, {g.id: s for g, s in zip(plan.grid, starts, strict=True)}, tiles


def _whole(model: ModelGeometry, sizes: Sizes) -> TilePlan | None:
    """The part in one piece, None where a fixed size forbids it."""
    whole = plan_tiles(model, sizes, max_tile_pixels=2**62)
    return whole if len(whole) == 1 else None
