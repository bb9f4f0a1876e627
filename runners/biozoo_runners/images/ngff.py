"""What makes a Zarr group an OME-Zarr 0.5 image: https://ngff.openmicroscopy.org/0.5/.

Whoever writes one makes an array per level (`create_level`), fills them, and puts `metadata` into
the group's attribute "ome".

Pixels are compressed by zstd, at zarr's own level, and every chunk carries zstd's checksum: any
reader notices a chunk that was damaged. Zarr's default has no checksum, and then a flipped bit
mostly reads as other pixels. (Of shards, the index has a CRC-32C of its own.)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .ome_layout import Facts
from .pyramid import Level

_NAMES = {"time": "t", "channel": "c", "z": "z", "y": "y", "x": "x"}
_TYPES = {"time": "time", "channel": "channel", "z": "space", "y": "space", "x": "space"}
_COLOURS = ("00FF00", "FF00FF", "00FFFF", "FFFF00", "FF4040", "4060FF")


def create_level(
    group: Any,
    number: int,
    facts: Facts,
    level: Level,
    dtype: np.dtype[Any],
    chunks: Sequence[int],
    shards: Sequence[int] | None = None,
) -> Any:
    """The array of one level, without pixels; what is never written reads as 0.

    Parameters
    ----------
    chunks, shards
        Shape of what is compressed, and of what is one file (None: each chunk).
    """
    from zarr.codecs import ZstdCodec

    return group.create_array(
        str(number),
        shape=level.shape,
        chunks=tuple(chunks),
        shards=None if shards is None else tuple(shards),
        dtype=dtype.newbyteorder("="),
        compressors=[ZstdCodec(level=0, checksum=True)],
        fill_value=0,
        dimension_names=[_NAMES[a] for a in facts.axes],
    )


def metadata(
    facts: Facts,
    levels: Sequence[Level],
    *,
    centred: bool,
    shown: tuple[float, float] | None = None,
) -> dict[str, Any]:
    """The group's attribute "ome".

    Parameters
    ----------
    centred
        Whether a pixel of a level lies at the centre of those it was made of, as means do.
    shown
        Values to show as black and white, of all channels; None says nothing of channels.
    """
    axes = []
    for axis in facts.axes:
        entry = {"name": _NAMES[axis], "type": _TYPES[axis]}
        if axis in facts.unit:
            entry["unit"] = facts.unit[axis]
        axes.append(entry)
    found: dict[str, Any] = {
        "version": "0.5",
        "multiscales": [
            {
                "name": facts.name,
                "axes": axes,
                "datasets": [
                    {
                        "path": str(number),
                        "coordinateTransformations": _transforms(facts, level, centred),
                    }
                    for number, level in enumerate(levels)
                ],
            }
        ],
    }
    if shown is not None and has_channels(facts):
        low, high = shown
        found["omero"] = {
            "channels": [
                {
                    "label": name,
                    "color": _COLOURS[i % len(_COLOURS)],
                    "active": True,
                    "window": {"min": low, "max": high, "start": low, "end": high},
                }
                for i, name in enumerate(facts.channel_names)
            ]
        }
    return found


def has_channels(facts: Facts) -> bool:
    """Whether the metadata describe channels: there is an axis of them, and they have names."""
    return bool(facts.channel_names) and "channel" in facts.axes


def _transforms(facts: Facts, level: Level, centred: bool) -> list[dict[str, Any]]:
    """Scale of a level; a mean of pixels lies at their centre, half a pixel further in."""
    sizes = [facts.pixel_size.get(axis, 1.0) for axis in facts.axes]
    pairs = list(zip(sizes, level.factors, strict=True))
    scale = {"type": "scale", "scale": [s * f for s, f in pairs]}
    if not centred or all(f == 1 for f in level.factors):
        return [scale]
    return [scale, {"type": "translation", "translation": [s * (f - 1) / 2 for s, f in pairs]}]


def display_range(dtype: np.dtype[Any], parts: Iterable[NDArray[Any]]) -> tuple[float, float]:
    """What to show as black and white: the range of the type for 8 and 16 bits, else of values.

    Parameters
    ----------
    parts
        The values in pieces; not looked at where the type decides.
    """
    if dtype.kind in "iu" and dtype.itemsize <= 2:
        info = np.iinfo(dtype)
        return float(info.min), float(info.max)
    ends = []
    for values in parts:
        finite = values[np.isfinite(values)]
        ends += [float(finite.min()), float(finite.max())] if finite.size else []
    return min(ends, default=0.0), max(ends, default=1.0)
