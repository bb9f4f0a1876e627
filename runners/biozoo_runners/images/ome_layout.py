"""How an array is laid out in OME formats: axes tczyx, numbers of a type they know."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biozoo.axes import letters, parse_axes
from biozoo.errors import ImageMismatchError

from .preview import channel_names

if TYPE_CHECKING:
    import xarray as xr

_ORDER = ("time", "channel", "z", "y", "x")
# What XML 1.0 cannot hold, and lone surrogates, which no encoding can.
_UNWRITABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True, eq=False)
class Facts:
    """What an OME format is told about an image besides its pixels; axes are ids in OME's order."""

    axes: tuple[str, ...]
    name: str
    channel_names: tuple[str, ...]
    pixel_size: dict[str, float]
    unit: dict[str, str]


@dataclass(frozen=True, eq=False)
class Layout(Facts):
    """An image ready to be written: `values` is a view, one dimension per axis."""

    values: NDArray[Any]


def ome_layout(path: Path, data: xr.DataArray) -> Layout:
    """Order the axes as OME does and leave out what it has no place for.

    Raises
    ------
    ImageMismatchError
        For more than one position along batch or index, or for an image without y and x.
    """
    axes = parse_axes([str(d) for d in data.dims])
    extra = [a for a in axes if a not in _ORDER]
    if many := [a for a in extra if data.sizes[a] > 1]:
        sizes = " and ".join(f"{data.sizes[a]} positions along {a}" for a in many)
        raise ImageMismatchError(
            f"Cannot write {path}: the image has {sizes}, and OME formats know time, channel, z, "
            "y and x only. Write one file for each, or .npy."
        )
    ordered = tuple(a for a in _ORDER if a in axes)
    names = channel_names(data)
    if not names and "channel" not in axes and data.attrs.get("channel"):
        names = (str(data.attrs["channel"]),)
    facts = ome_facts(
        path,
        ordered,
        data.dtype,
        name=str(data.attrs.get("name") or data.name or "image"),
        channel_names=names,
        pixel_size=dict(data.attrs.get("pixel_size") or {}),
        unit=dict(data.attrs.get("unit") or {}),
    )
    values = data.isel(dict.fromkeys(extra, 0)).transpose(*ordered).values
    return Layout(**vars(facts), values=values)


def ome_facts(
    path: Path,
    axes: Sequence[str],
    dtype: np.dtype[Any],
    *,
    name: str,
    channel_names: Sequence[str],
    pixel_size: Mapping[str, float],
    unit: Mapping[str, str],
) -> Facts:
    """The facts as OME formats can hold them: what is unknown or cannot be written is left out.

    Raises
    ------
    ImageMismatchError
        For axes other than some of time, channel, z, y and x in this order, without y and x, or
        for pixels of a type that OME formats do not hold.
    """
    ordered = tuple(a for a in _ORDER if a in axes)
    if not {"y", "x"} <= set(axes):
        raise ImageMismatchError(
            f"Cannot write {path}: the array has axes {letters(axes)}, an image needs y and x. "
            "Write .npy."
        )
    if ordered != tuple(axes):
        raise ImageMismatchError(
            f"Cannot write {path}: the array has axes {letters(axes)}, OME formats hold some of "
            f"{letters(_ORDER)} in this order. Write .npy."
        )
    if dtype.kind not in "biuf" or dtype.itemsize > 8:
        raise ImageMismatchError(
            f"Cannot write {path}: the pixels are of type {dtype}, OME formats hold integers "
            "and real numbers of up to 64 bits. Write .npy."
        )
    sizes = {
        a: float(v)
        for a, v in pixel_size.items()
        if a in ordered and a != "channel" and math.isfinite(v) and v > 0
    }
    return Facts(
        axes=ordered,
        name=_clean(name),
        channel_names=tuple(map(_clean, channel_names)),
        pixel_size=sizes,
        unit={a: str(u) for a, u in unit.items() if a in sizes and u},
    )


def _clean(text: str) -> str:
    return _UNWRITABLE.sub("?", text)


def planes(values: NDArray[Any], dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """Each yx plane in order, as contiguous pixels of `dtype`."""
    for place in np.ndindex(values.shape[:-2]):
        yield np.ascontiguousarray(values[place], dtype)
