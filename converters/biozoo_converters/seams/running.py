"""One part of an image through a loaded model, in tiles and in one piece, as a run does it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from biozoo_runners.run import postprocess_tiles, preprocess_tiles
from biozoo_runners.sizes import FixedSize
from biozoo_runners.stitch import Canvas, run_tiles
from biozoo_runners.tiling import InputBlock, TilePlan, cut, plan_tiles

from .differences import ObjectSeams, OutputSeams, compare_labels, compare_values

if TYPE_CHECKING:
    from typing import Any

    from numpy.typing import NDArray

    from biozoo_runners.contexts import KnownContext
    from biozoo_runners.pipeline import Runner
    from biozoo_runners.statistics import Stats

    from .region import Part

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Scene", "compare"]

#: Where a network takes one size only, a window starts a multiple of this from a tile: its strides,
#: if they are not known.
STRIDES = 32


@dataclass(frozen=True)
class Scene:
    """What all runs share: the model, its whole inputs unprocessed, and their statistics."""

    runner: Runner
    pixels: Arrays
    stats: Stats


@dataclass(frozen=True)
class _Window:
    """What stands for the whole: per grid axis, its `start` in the part, and what to leave out."""

    plan: TilePlan
    start: tuple[int, ...]
    margin: tuple[int, ...]


def compare(
    scene: Scene, part: Part, known: KnownContext | None
) -> tuple[tuple[OutputSeams, ...], tuple[ObjectSeams, ...]]:
    """Run a part in tiles and in one piece.

    Parameters
    ----------
    known
        The network's context, for a window that stands for the whole.

    Returns
    -------
    tuple
        Per output its differences (but for those that are labels), per label image its objects.

    Raises
    ------
    BackendError, OutOfMemoryError
        The network failed.
    """
    here = _cropped(scene.pixels, part)
    starts = {
        t.id: {a.id: int(part.start[g.id] * a.ratio) for a in t.axes for g in _grid(part, a.grid)}
        for t in (*part.tiles.inputs, *part.tiles.outputs)
    }
    tiled = _run(scene, part.tiles, here, starts)
    if part.whole is not None:
        none = tuple(0 for _ in part.tiles.grid)
        window = _Window(part.whole, none, none)
        whole = _run(scene, part.whole, here, starts)
    else:
        window = _window(part, known)
        whole = _run(scene, window.plan, _through(window, part, here), starts)
    values, labels = [], []
    rest = scene.runner.postprocessing.split()[1]
    for t in part.tiles.outputs:
        boxes = {a.id: _box(window, part, t.id, a.id) for a in t.axes}
        a = tiled[t.id][tuple(slice(lo, hi) for lo, hi, _ in boxes.values())]
        b = whole[t.id][
            tuple(slice(lo - s, None if hi is None else hi - s) for lo, hi, s in boxes.values())
        ]
        chain = rest.chains[t.id]
        if chain.steps:
            a, b = (chain.finish(x, t.dims, scene.stats) for x in (a, b))
        if chain.makes_labels or scene.runner.postprocessing.chains[t.id].makes_labels:
            labels.append(compare_labels(t.id, a, b))
            continue
        origin = {d: boxes[d][0] + starts[t.id].get(d, 0) for d in t.dims}
        seams = {
            x.id: [n for s in g.starts[1:] if (n := int(s * x.ratio) - boxes[x.id][0]) > 0]
            for x in t.axes
            for g in _grid(part, x.grid)
        }
        values.append(compare_values(t.id, a, b, t.dims, origin, seams))
        if scene.runner.instances is not None and scene.runner.instances.output == t.id:
            labels.append(_instances(scene.runner, t.dims, a, b))
    return tuple(values), tuple(labels)


def _grid(part: Part, number: int | None) -> tuple[Any, ...]:
    return () if number is None else (part.tiles.grid[number],)


def _cropped(pixels: Arrays, part: Part) -> dict[str, NDArray[Any]]:
    """The part of every input; it ends where the image ends."""
    made = {}
    for t in part.tiles.inputs:
        index = tuple(
            slice(
                0 if a.grid is None else int(part.start[part.tiles.grid[a.grid].id] * a.ratio), None
            )
            for a in t.axes
        )
        made[t.id] = pixels[t.id][index]
    return made


def _run(
    scene: Scene, plan: TilePlan, pixels: Arrays, starts: Mapping[str, Mapping[str, int]]
) -> dict[str, NDArray[Any]]:
    """The outputs over a plan, stitched, before steps that need the whole."""
    runner = scene.runner
    canvases = {t.id: Canvas(t, ()) for t in plan.outputs}
    run_tiles(
        runner.backend,
        plan,
        pixels,
        preprocess_tiles(runner.preprocessing, plan, scene.stats, starts),
        postprocess_tiles(runner.postprocessing.split()[0], plan, scene.stats, starts),
        {t: (canvas, ()) for t, canvas in canvases.items()},
        on_tile=lambda: None,
    )
    return {t: c.data for t, c in canvases.items() if c.data is not None}


# -------------------------------------------------------------------------- networks of fixed size


def _window(part: Part, known: KnownContext | None) -> _Window:
    """One call of the network with the last seam in its middle, along axes of fixed size."""
    start, margin = [], []
    fixed = {
        i
        for i, g in enumerate(part.tiles.grid)
        if isinstance(part.model.tensor(g.tensor).axis(g.id).size, FixedSize)
    }
    for i, g in enumerate(part.tiles.grid):
        if i not in fixed or len(g.starts) == 1:
            start.append(-g.halo if i in fixed else 0)
            margin.append(g.halo if i in fixed else 0)
            continue
        step = known.unit.get(g.id, STRIDES) if known is not None else STRIDES
        need = known.halo.get(g.id, 0) if known is not None else 0
        ideal = g.starts[-1] - g.tile // 2 + g.halo  # from the first pixel of the first tile
        start.append(round(ideal / step) * step - g.halo)
        margin.append(min(max(g.tile // 4, need), g.tile // 2 - 1))
    bare = replace(
        part.model,
        outputs=tuple(
            replace(
                t,
                axes=tuple(
                    replace(a, halo=0)
                    if any(x.id == a.id and x.grid in fixed for x in _axes(part, t.id))
                    else a
                    for a in t.axes
                ),
            )
            for t in part.model.outputs
        ),
    )
    sizes = {
        t.id: {
            a.id: int(part.tiles.grid[a.grid].tile * a.ratio) if a.grid in fixed else a.size or 1
            for a in t.axes
        }
        for t in part.tiles.inputs
    }
    return _Window(plan_tiles(bare, sizes, max_tile_pixels=2**62), tuple(start), tuple(margin))


def _axes(part: Part, output: str) -> tuple[Any, ...]:
    return next(t.axes for t in part.tiles.outputs if t.id == output)


def _through(window: _Window, part: Part, pixels: Arrays) -> dict[str, NDArray[Any]]:
    """What a window shows of every input, filled up beyond the part as tiles are."""
    made = {}
    for t, seen in zip(part.tiles.inputs, window.plan.inputs, strict=True):
        slices, pads = [], []
        for a, b in zip(t.axes, seen.axes, strict=True):
            assert a.size is not None
            assert b.size is not None
            start = 0 if a.grid is None else int(window.start[a.grid] * a.ratio)
            inside = slice(max(0, start), min(a.size, start + b.size))
            slices.append(inside)
            pads.append((inside.start - start, start + b.size - inside.stop))
        made[t.id] = cut(pixels[t.id], InputBlock(tuple(slices), tuple(pads)), t.pad)
    return made


def _box(window: _Window, part: Part, output: str, axis: str) -> tuple[int, int | None, int]:
    """First pixel and the one after the last that are compared, and where the window starts."""
    a = next(x for x in _axes(part, output) if x.id == axis)
    b = next(x for t in window.plan.outputs if t.id == output for x in t.axes if x.id == axis)
    if a.grid is None or a.size is None or b.size is None:
        return 0, a.size, 0
    start = int(window.start[a.grid] * a.ratio)
    margin = int(window.margin[a.grid] * a.ratio)
    first, last = max(0, start + margin), min(a.size, start + b.size - margin)
    starts = part.tiles.grid[a.grid].starts
    if window.plan is not part.whole and len(starts) > 1:
        # Edges of the image are no seams: beyond them a tile is filled up less than the window.
        seam = int(starts[-1] * a.ratio)
        first = max(first, min(margin, seam // 2))
        last = min(last, a.size - min(margin, (a.size - seam) // 2))
    return first, last, start


# ----------------------------------------------------------------------------------------- objects


def _instances(
    runner: Runner, dims: tuple[str, ...], tiled: NDArray[Any], whole: NDArray[Any]
) -> ObjectSeams:
    import xarray as xr

    from biozoo_runners.instances import instances

    assert runner.instances is not None
    config = runner.instances
    one, other = (instances(xr.DataArray(x, dims=dims), config).to_numpy() for x in (tiled, whole))
    return compare_labels("labels", one, other)
