"""OME-Zarr 0.5 (zarr v3), as https://ngff.openmicroscopy.org/0.5/ has it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .atomic import written_beside
from .ome_layout import Layout, ome_layout
from .preview import is_labels, shrink

if TYPE_CHECKING:
    import xarray as xr

_NAMES = {"time": "t", "channel": "c", "z": "z", "y": "y", "x": "x"}
_TYPES = {"time": "time", "channel": "channel", "z": "space", "y": "space", "x": "space"}
_CHUNK = 512  # side of a chunk; a chunk has about as many pixels, in z too where planes are small
_LEVELS_FROM = 1024  # larger sides get smaller levels, until one fits
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF4040", "4060FF")


def write_zarr(path: Path, data: xr.DataArray) -> None:
    """Write one multiscale image; labels are reduced by picking pixels, others by their mean.

    An existing folder is replaced once the new one is complete.
    """
    import zarr

    layout = ome_layout(path, data)
    nearest = is_labels(data)
    with written_beside(path, folder=True) as part:
        group: Any = zarr.open_group(part, mode="w-", zarr_format=3)
        level = _create(group, "0", layout.values.shape, layout)
        for block in _blocks(level.shape, level.chunks):
            level[block] = np.ascontiguousarray(layout.values[block])
        factors = [1]
        while max(level.shape[-2:]) > _LEVELS_FROM:
            shape = (*level.shape[:-2], *(max(1, n // 2) for n in level.shape[-2:]))
            below = _create(group, str(len(factors)), shape, layout)
            for block in _blocks(below.shape, below.chunks):
                source = (*block[:-2], *(slice(2 * b.start, 2 * b.stop) for b in block[-2:]))
                below[block] = shrink(level[source], 2, nearest=nearest)
            level = below
            factors.append(2 * factors[-1])
        group.attrs["ome"] = _metadata(layout, factors, centred=not nearest)


def _create(group: Any, name: str, shape: Sequence[int], layout: Layout) -> Any:
    tall, wide = (min(_CHUNK, n) for n in shape[-2:])
    deep = max(1, _CHUNK * _CHUNK // (tall * wide))
    chunks = tuple(
        {"y": tall, "x": wide, "z": min(deep, n)}.get(axis, 1)
        for axis, n in zip(layout.axes, shape, strict=True)
    )
    return group.create_array(
        name,
        shape=tuple(shape),
        chunks=chunks,
        dtype=layout.values.dtype.newbyteorder("="),
        dimension_names=[_NAMES[a] for a in layout.axes],
    )


def _blocks(shape: Sequence[int], chunks: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Every chunk's place, cut at the array's end."""
    for place in np.ndindex(*(math.ceil(n / c) for n, c in zip(shape, chunks, strict=True))):
        yield tuple(
            slice(p * c, min(p * c + c, n)) for p, c, n in zip(place, chunks, shape, strict=True)
        )


def _metadata(layout: Layout, factors: Sequence[int], *, centred: bool) -> dict[str, Any]:
    axes = []
    for axis in layout.axes:
        entry = {"name": _NAMES[axis], "type": _TYPES[axis]}
        if axis in layout.unit:
            entry["unit"] = layout.unit[axis]
        axes.append(entry)
    facts: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": layout.name,
                "axes": axes,
                "datasets": [
                    {
                        "path": str(number),
                        "coordinateTransformations": _transforms(layout, factor, centred),
                    }
                    for number, factor in enumerate(factors)
                ],
            }
        ],
    }
    if layout.channel_names and "channel" in layout.axes:
        low, high = _window(layout.values)
        facts["omero"] = {
            "channels": [
                {
                    "label": name,
                    "color": _COLOURS[i % len(_COLOURS)],
                    "active": True,
                    "window": {"min": low, "max": high, "start": low, "end": high},
                }
                for i, name in enumerate(layout.channel_names)
            ]
        }
    return facts


def _transforms(layout: Layout, factor: int, centred: bool) -> list[dict[str, Any]]:
    """Scale of a level; a mean of pixels lies at their centre, half a pixel further in."""
    size = [layout.pixel_size.get(axis, 1.0) for axis in layout.axes]
    step = [factor if axis in ("y", "x") else 1 for axis in layout.axes]
    scale = {"type": "scale", "scale": [s * f for s, f in zip(size, step, strict=True)]}
    if factor == 1 or not centred:
        return [scale]
    shift = [s * (f - 1) / 2 for s, f in zip(size, step, strict=True)]
    return [scale, {"type": "translation", "translation": shift}]


def _window(values: NDArray[Any]) -> tuple[float, float]:
    """Display range: of the type for 8 and 16 bits, else of the values."""
    if values.dtype.kind in "iu" and values.dtype.itemsize <= 2:
        info = np.iinfo(values.dtype)
        return float(info.min), float(info.max)
    ends = []
    for place in np.ndindex(values.shape[:-2]):
        finite = values[place][np.isfinite(values[place])]
        ends += [float(finite.min()), float(finite.max())] if finite.size else []
    return min(ends, default=0.0), max(ends, default=1.0)
