"""An array in memory as OME-Zarr 0.5 (zarr v3); see `ngff` and `pyramid`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import pyramid
from .atomic import written_beside
from .ngff import create_level, display_range, has_channels, metadata
from .ome_layout import Layout, ome_layout
from .preview import is_labels

if TYPE_CHECKING:
    import xarray as xr

_CHUNK = 512  # side of a chunk; a chunk has about as many pixels, in z too where planes are small


def write_zarr(path: Path, data: xr.DataArray) -> None:
    """Write one multiscale image; labels are reduced by picking pixels, others by their mean.

    An existing folder is replaced once the new one is complete.
    """
    import zarr

    layout = ome_layout(path, data)
    nearest = is_labels(data)
    levels = pyramid.levels(layout, layout.values.shape)
    with written_beside(path, folder=True) as part:
        group: Any = zarr.open_group(part, mode="w-", zarr_format=3)
        arrays = [
            create_level(
                group, n, layout, level, layout.values.dtype, _chunks(layout.axes, level.shape)
            )
            for n, level in enumerate(levels)
        ]
        for region in _chunk_regions(arrays[0]):
            arrays[0][region] = np.ascontiguousarray(layout.values[region])
        for n in range(1, len(levels)):
            steps = levels[n].step(levels[n - 1])
            for region in _chunk_regions(arrays[n]):
                source = arrays[n - 1][pyramid.below(region, steps)]
                arrays[n][region] = pyramid.halve(source, steps, nearest=nearest)
        shown = _shown(layout) if has_channels(layout) else None
        group.attrs["ome"] = metadata(layout, levels, centred=not nearest, shown=shown)


def _chunks(axes: Sequence[str], shape: Sequence[int]) -> tuple[int, ...]:
    tall, wide = (min(_CHUNK, n) for n in shape[-2:])
    deep = max(1, _CHUNK * _CHUNK // (tall * wide))
    return tuple(
        {"y": tall, "x": wide, "z": min(deep, n)}.get(axis, 1)
        for axis, n in zip(axes, shape, strict=True)
    )


def _chunk_regions(array: Any) -> list[pyramid.Region]:
    return list(pyramid.pieces(pyramid.whole(array.shape), array.chunks))


def _shown(layout: Layout) -> tuple[float, float]:
    planes = (layout.values[place] for place in np.ndindex(layout.values.shape[:-2]))
    return display_range(layout.values.dtype, planes)
