"""OME-TIFF."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import ImageMismatchError

from .atomic import written_beside
from .base import RGB
from .ome_layout import Layout, ome_layout, planes
from .units import SYMBOLS

if TYPE_CHECKING:
    import xarray as xr

_LETTERS = {"time": "T", "channel": "C", "z": "Z", "y": "Y", "x": "X"}
_TILED_FROM, _TILE = 2048, 512
_BIG = 2**31  # beyond 2 GB some readers misread the offsets of a classic TIFF


def write_tiff(path: Path, data: xr.DataArray) -> None:
    """Write OME-TIFF: integers compressed without loss, real numbers plain.

    Real numbers shrink by a tenth or so, and plain ones are mapped from disk when read again.
    int64 and uint64, which OME does not know, become 32-bit where every value fits; float16
    becomes float32, booleans uint8.
    """
    import tifffile

    layout = ome_layout(path, data)
    dtype = _stored_type(path, layout.values)
    values, axes = layout.values, "".join(_LETTERS[a] for a in layout.axes)
    rgb = layout.channel_names == RGB and dtype in (np.uint8, np.uint16)
    if rgb:  # colour as viewers expect it: the samples of a pixel side by side
        values = np.moveaxis(values, layout.axes.index("channel"), -1)
        axes = axes.replace("C", "") + "S"
    tall, wide = values.shape[-3:-1] if rgb else values.shape[-2:]
    tiled = max(tall, wide) > _TILED_FROM and min(tall, wide) > _TILE // 2
    if rgb:
        frames: Iterator[NDArray[Any]] = (
            np.ascontiguousarray(values[place], dtype) for place in np.ndindex(values.shape[:-3])
        )
    else:
        frames = planes(values, dtype)
    with written_beside(path) as part, part.open("wb") as file:
        tifffile.imwrite(
            file,
            _tiles(frames) if tiled else frames,
            shape=values.shape,
            dtype=dtype,
            ome=True,
            photometric="rgb" if rgb else "minisblack",
            planarconfig="contig" if rgb else None,
            tile=(_TILE, _TILE) if tiled else None,
            compression=None if dtype.kind == "f" else "zlib",
            predictor=2 if dtype in (np.uint8, np.uint16) else None,
            bigtiff=values.size * dtype.itemsize > _BIG,
            metadata={"axes": axes, **_metadata(layout, rgb)},
        )


def _tiles(frames: Iterator[NDArray[Any]]) -> Iterator[NDArray[Any]]:
    for frame in frames:
        for y in range(0, frame.shape[0], _TILE):
            for x in range(0, frame.shape[1], _TILE):
                yield np.ascontiguousarray(frame[y : y + _TILE, x : x + _TILE])


def _metadata(layout: Layout, rgb: bool) -> dict[str, Any]:
    facts: dict[str, Any] = {"Name": layout.name}
    for axis, key in (
        ("x", "PhysicalSizeX"),
        ("y", "PhysicalSizeY"),
        ("z", "PhysicalSizeZ"),
        ("time", "TimeIncrement"),
    ):
        if axis in layout.pixel_size:
            facts[key] = layout.pixel_size[axis]
            # Without a unit the schema would assume micrometers; this one says "unknown".
            # There is no such unit of time, so an interval without a unit is left out.
            facts[key + "Unit"] = SYMBOLS.get(layout.unit.get(axis, ""), "reference frame")
    if facts.get("TimeIncrementUnit") == "reference frame":
        del facts["TimeIncrement"], facts["TimeIncrementUnit"]
    if layout.channel_names and not rgb:
        facts["Channel"] = {"Name": list(layout.channel_names)}
    return facts


def _stored_type(path: Path, values: NDArray[Any]) -> np.dtype[Any]:
    """The OME pixel type that holds every value."""
    dtype = values.dtype.newbyteorder("=")
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype == np.float16:
        return np.dtype(np.float32)
    if dtype not in (np.int64, np.uint64):
        return dtype
    low = min(int(p.min()) for p in planes(values, dtype))
    high = max(int(p.max()) for p in planes(values, dtype))
    for narrow in (np.int32, np.uint32):
        if np.iinfo(narrow).min <= low and high <= np.iinfo(narrow).max:
            return np.dtype(narrow)
    raise ImageMismatchError(
        f"Cannot write {path}: OME-TIFF holds integers of up to 32 bits, the values go from {low} "
        f"to {high}. Write .ome.zarr or .npy."
    )
