"""The work of one call: every item read, measured, tiled and stitched into labelled arrays."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .layout import layout_of
from .prepare import Fitting, replace_not_finite
from .sizes import ModelGeometry, TensorGeometry
from .statistics import Stats
from .stitch import Canvas
from .tiling import InputBlock, OutputBlock, TensorPlan, TilePlan, positions

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from .processing import Processing
    from .retile import Tiles


def run_items(
    model: ModelGeometry,
    steps: tuple[Processing, Processing],
    fitting: Fitting,
    tiles: Tiles,
    on_tile: Callable[[], None],
) -> tuple[dict[str, xr.DataArray], dict[str, float], list[str]]:
    """Run all items of a fitted image.

    Parameters
    ----------
    steps
        Pre- and postprocessing.
    tiles
        The plan to begin with; memory that ends puts a smaller one in its place.
    on_tile
        Called before each tile; raises to stop.

    Returns
    -------
    tuple
        Outputs by tensor id, seconds by "read" and "compute", and notes on the pixels.
    """
    before, after = steps
    plan = tiles.plan  # what is used of it here is the same for every size of a tile
    per_tile, rest = after.split()
    loops = tuple(fitting.loops.values())
    stitched = [t for t in plan.outputs if rest.chains[t.id].steps]
    # A step that takes the whole may change its shape: what it gives is known when it is there.
    canvases = {t.id: Canvas(_open_sizes(t) if t in stitched else t, loops) for t in plan.outputs}
    final = model.final
    results = {t.id: _result_region(final, t, fitting) for t in model.results}
    seconds = {"read": 0.0, "compute": 0.0}
    replaced = flat = 0
    for at in fitting.items():
        start = time.perf_counter()
        pixels = {f.tensor.id: f.read(at) for f in fitting.inputs}
        seconds["read"] += time.perf_counter() - start
        for tensor, array in pixels.items():
            pixels[tensor], count = replace_not_finite(array)
            replaced += count
            flat += is_flat(pixels[tensor])
        stats = measure_whole(fitting, pixels, before, after)
        here = tuple(at.values())
        whole = {t.id: Canvas(t, ()) for t in stitched}  # of this item, before the rest of steps
        targets = {t.id: whole.get(t.id, canvases[t.id]) for t in plan.outputs}
        seconds["compute"] += tiles.run(
            pixels,
            preprocess_tiles(before, plan, stats),
            postprocess_tiles(per_tile, plan, stats),
            {t: (c, () if t in whole else here) for t, c in targets.items()},
            on_tile=on_tile,
        )
        for t in stitched:
            data = whole[t.id].data
            assert data is not None
            done = rest.chains[t.id].finish(data, t.dims, stats)
            everything = tuple(slice(None) for _ in t.dims)
            kept = done[results.get(t.id, everything)]
            canvases[t.id].put(here, OutputBlock(everything, everything), kept)
    notes = []
    if replaced:
        notes.append(
            f"{replaced} pixels are NaN or infinite: replaced by the mean (NaN) or extreme "
            "(infinite) of the others"
        )
    if flat:
        where = "the image" if len(fitting) == 1 else f"the image at {flat} positions"
        notes.append(f"{where} is all one value: there is nothing to see in it")
    return (
        {t.id: _label(final, t, canvases[t.id].data, fitting) for t in final.outputs},
        seconds,
        notes,
    )


def is_flat(pixels: NDArray[Any]) -> bool:
    """Whether all pixels have one value (a full pass only where a few samples agree)."""
    if pixels.size < 2:
        return False
    few = pixels[tuple(slice(None, None, max(1, n // 3)) for n in pixels.shape)]
    return bool((few == few.flat[0]).all() and pixels.min() == pixels.max())


def measure_whole(
    fitting: Fitting, pixels: Mapping[str, NDArray[Any]], before: Processing, after: Processing
) -> Stats:
    """Statistics of the whole inputs that either side needs."""
    if not before.required_measures and not after.reference_measures:
        return Stats()
    import xarray as xr

    arrays = {
        f.tensor.id: xr.DataArray(pixels[f.tensor.id], dims=f.tensor.dims) for f in fitting.inputs
    }
    return after.collect(arrays, before.collect(arrays))


def _open_sizes(tensor: TensorPlan) -> TensorPlan:
    return replace(tensor, axes=tuple(replace(a, size=None) for a in tensor.axes))


def _result_region(
    model: ModelGeometry, tensor: TensorGeometry, fitting: Fitting
) -> tuple[slice, ...]:
    """The part of a result that the image covers: StarDist's labels end with a whole grid cell."""
    roots = {(t, a): n for t, sizes in fitting.sizes.items() for a, n in sizes.items()}
    return tuple(slice(model.size(tensor.id, a.id, roots)) for a in tensor.axes)


def preprocess_tiles(
    steps: Processing,
    plan: TilePlan,
    stats: Stats,
    starts: Mapping[str, Mapping[str, int]] | None = None,
) -> Callable[[str, NDArray[Any], InputBlock], NDArray[Any]]:
    """Preprocessing of a tile; positions are told for axes whose parameters differ along them.

    `starts` says, per tensor and axis id, where a plan of a part of the image begins in the whole.
    """
    planned = {t.id: t for t in plan.inputs}
    indexed = {t: set(steps.indexed_axes(t)) for t in planned}

    def process(tensor: str, tile: NDArray[Any], block: InputBlock) -> NDArray[Any]:
        dims, first = planned[tensor].dims, (starts or {}).get(tensor, {})
        at = {
            a: positions(s, p, planned[tensor].pad) + first.get(a, 0)
            for a, s, p in zip(dims, block.slices, block.pad, strict=True)
            if a in indexed[tensor]
        }
        return steps.apply(tensor, tile, dims, stats, at)

    return process


def postprocess_tiles(
    steps: Processing,
    plan: TilePlan,
    stats: Stats,
    starts: Mapping[str, Mapping[str, int]] | None = None,
) -> Callable[[str, NDArray[Any], OutputBlock], NDArray[Any]]:
    """Postprocessing of a tile's cropped result; `starts` as for `preprocess_tiles`."""
    dims = {t.id: t.dims for t in plan.outputs}
    indexed = {t: set(steps.indexed_axes(t)) for t in dims}

    def process(tensor: str, tile: NDArray[Any], block: OutputBlock) -> NDArray[Any]:
        first = (starts or {}).get(tensor, {})
        at = {
            a: slice(s.start + first.get(a, 0), s.stop + first.get(a, 0))
            for a, s in zip(dims[tensor], block.place, strict=True)
            if a in indexed[tensor] and s.stop is not None
        }
        return steps.apply(tensor, tile, dims[tensor], stats, at)

    return process


def _label(
    model: ModelGeometry, tensor: TensorGeometry, data: NDArray[Any] | None, fitting: Fitting
) -> xr.DataArray:
    """The result with its axes, channel names and pixel sizes."""
    import xarray as xr

    assert data is not None
    layout = layout_of(model, tensor, fitting)
    coords = {"channel": list(layout.channel_names)} if "channel" in layout.dims else {}
    return xr.DataArray(
        layout.arranged(data),
        dims=layout.dims,
        coords=coords if layout.channel_names else {},
        attrs=layout.attrs,
        name=tensor.id,
    )
