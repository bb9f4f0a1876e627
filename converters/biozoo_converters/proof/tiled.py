"""A network over tiles and over the whole, both as a run lays them, without processing.

One small plan per way of cutting: along all axes that may be cut where that is few pixels, else
along one after the other. Axes that are not cut get no halo: the whole and the tiles see the same
borders there, and in 3D this saves most of the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil
from typing import TYPE_CHECKING, Any, cast

from biozoo.errors import BiozooError
from biozoo_runners.sizes import ModelGeometry
from biozoo_runners.stitch import Canvas, run_tiles
from biozoo_runners.tiling import TilePlan, plan_tiles

from .cases import BASE, LARGE, FreeAxis, dimensions, free_axes, pixels_of, shapes_for

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.base import Backend

    from ..networks.network import Reference

__all__ = ["Cut", "plan_cuts", "run_plan"]


@dataclass(frozen=True)
class Cut:
    """An image that is run twice: in tiles, and in one piece."""

    axes: tuple[str, ...]
    shapes: Mapping[str, tuple[int, ...]]
    tiles: TilePlan
    whole: TilePlan


def plan_cuts(model: ModelGeometry, shapes: Mapping[str, Sequence[int]]) -> tuple[Cut, ...]:
    """How the network is cut to compare tiles with the whole; none where it cannot be.

    Parameters
    ----------
    shapes
        Of the sample, by input tensor id.
    """
    free = free_axes(model, shapes)
    ids = [a.id for a in free]
    able = [a for a in free if ids.count(a.id) == 1 and model.tensor(a.lead[0]).axis(a.id).can_tile]
    able = [a for a in able if _cut(model, shapes, free, [a]) is not None]
    together = _cut(model, shapes, free, able) if len(able) > 1 else None
    if together is not None and _pixels(model, together) <= LARGE[dimensions(model)]:
        return (together,)
    single = [c for a in able if (c := _cut(model, shapes, free, [a])) is not None]
    single.sort(key=lambda c: _pixels(model, c))
    limit = 2 * LARGE[dimensions(model)]
    # A halo of 32 makes the least volume large, too: one axis says more than none.
    cheap = [c for c in single if _pixels(model, c) <= limit]
    return tuple(cheap or [c for c in single[:1] if _pixels(model, c) <= 2 * limit])


def run_plan(
    reference: Reference, plan: TilePlan, pixels: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """The outputs of a network over a plan's tiles, stitched.

    Raises
    ------
    BiozooError
        The network refuses, or gives another shape than the description says.
    """
    canvases = {t.id: Canvas(t, ()) for t in plan.outputs}
    run_tiles(
        cast("Backend", reference),  # only `run` is called
        plan,
        pixels,
        lambda _, tile, __: tile,
        lambda _, tile, __: tile,
        {t: (canvas, ()) for t, canvas in canvases.items()},
        on_tile=lambda: None,
    )
    return {t: c.data for t, c in canvases.items() if c.data is not None}


def _cut(
    model: ModelGeometry,
    shapes: Mapping[str, Sequence[int]],
    free: Sequence[FreeAxis],
    axes: Sequence[FreeAxis],
) -> Cut | None:
    """The smallest image of two or more tiles along each of `axes`, small along the others."""
    small = BASE[dimensions(model)]
    inner_only = _halo_on(model, axes)
    tile, whole, sizes = {}, {}, []
    for a in free:
        if a not in axes:
            sizes.append(a.at_most(max(small, a.rule.min)))
            continue
        found = _two_tiles(inner_only, a)
        if found is None:
            return None
        tile[a.id], whole[a.id], size = found
        sizes.append(size)
    made = shapes_for(model, shapes, free, tuple(sizes), 1)
    by_axis = {i: dict(zip(model.tensor(i).dims, s, strict=True)) for i, s in made.items()}
    try:
        tiles = plan_tiles(inner_only, by_axis, tile=tile)
        one = plan_tiles(inner_only, by_axis, tile=whole)
    except BiozooError:  # sizes of several inputs that do not go together
        return None
    if len(tiles) < 2 or len(one) != 1:
        return None
    return Cut(tuple(a.id for a in axes), made, tiles, one)


def _halo_on(model: ModelGeometry, axes: Sequence[FreeAxis]) -> ModelGeometry:
    """The model with the halo of these axes only."""
    cut = {root for a in axes for root in a.members}
    outputs = tuple(
        replace(
            t,
            axes=tuple(
                b if model.referenced(t.id, b.id)[0] in cut else replace(b, halo=0) for b in t.axes
            ),
        )
        for t in model.outputs
    )
    return replace(model, outputs=outputs)


def _two_tiles(model: ModelGeometry, axis: FreeAxis) -> tuple[int, int, int] | None:
    """Sizes of a tile, of the whole with its halo, and of the image, along one axis."""
    halo = _halo(model, axis)
    for tile in islice(axis.sizes(2 * halo + max(16, 2 * axis.rule.step)), 64):
        inner = tile - 2 * halo
        for whole in islice(axis.sizes(2 * halo + 2 * inner), 1):
            return tile, whole, whole - 2 * halo
    return None


def _halo(model: ModelGeometry, axis: FreeAxis) -> int:
    """Pixels of the leading axis that the outputs ask for on each side."""
    need = 0
    for t in model.outputs:
        for b in t.axes:
            root, ratio = model.referenced(t.id, b.id)
            if root in axis.members:
                need = max(need, ceil(b.halo / (ratio * axis.members[root])))
    return need


def _pixels(model: ModelGeometry, cut: Cut) -> int:
    """Of the whole with its halo."""
    return max(pixels_of(model, t.id, [n or 1 for n in t.tile]) for t in cut.whole.inputs)


def pieces(cuts: Sequence[Cut]) -> Iterator[str]:
    """What was cut, for the certificate."""
    for cut in cuts:
        yield f"along {', '.join(cut.axes)}: {cut.tiles.summary}"
