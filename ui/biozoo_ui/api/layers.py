"""Pictures of images and results for a browser: 8-bit PNGs of one plane, all of the same field.

What is shown is never what is computed on: the plane is thinned to a screen's size and stretched.
"""

from __future__ import annotations

import colorsys
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import PIL.Image
    import xarray as xr

MAX_SIDE = 1600
"""Longest side of a picture in pixels; a larger plane is thinned."""

MAX_MAPS = 6
"""Most channels of one output that are shown."""

Kind = Literal["objects", "outlines", "map", "image"]


@dataclass(frozen=True)
class Layer:
    """One picture that can be laid over the image.

    Attributes
    ----------
    key
        File name without suffix, unique in a run.
    label
        What the reader chooses it by.
    kind
        "objects" (filled), "outlines", "map" (values 0 to 1 in colour) or "image" (grey).
    opacity
        How strongly it is shown at first, 0 to 1.
    """

    key: str
    label: str
    kind: Kind
    opacity: float


def selection(sizes: Mapping[str, int]) -> dict[str, int | slice]:
    """What to read of an image of these sizes to show it: one plane, thinned to a screen's size.

    The middle of z, the first of time, batch and index; every n-th pixel of y and x.
    """
    chosen: dict[str, int | slice] = {}
    for axis, size in sizes.items():
        if axis in ("y", "x"):
            chosen[axis] = slice(None, None, step(sizes))
        elif axis != "channel":
            chosen[axis] = size // 2 if axis == "z" else 0
    return chosen


def plane(data: xr.DataArray) -> xr.DataArray:
    """The part of `data` that is shown; dims (channel) y x in the data's order."""
    return data.isel(selection({str(k): v for k, v in data.sizes.items()}))


def step(sizes: Mapping[str, int]) -> int:
    """Every how many pixels of y and x one is shown."""
    return max(1, -(-max(sizes.get("y", 1), sizes.get("x", 1)) // MAX_SIDE))


def where(sizes: Mapping[str, int]) -> str:
    """In words, which part of the data the plane is, empty where it is all of it."""
    parts = []
    if sizes.get("z", 1) > 1:
        parts.append(f"plane {sizes['z'] // 2 + 1} of {sizes['z']}")
    if sizes.get("time", 1) > 1:
        parts.append(f"the first of {sizes['time']} time points")
    whole = " of ".join(parts)
    if step(sizes) > 1:
        thinned = f"one of every {step(sizes)} x {step(sizes)} pixels"
        return f"{thinned} of {whole}" if whole else thinned
    return whole


def encode(picture: np.ndarray) -> bytes:
    """PNG of uint8 grey (y x) or colour (y x 3)."""
    from PIL import Image

    return _png(Image.fromarray(np.ascontiguousarray(picture)))


def objects(labels: np.ndarray) -> bytes:
    """PNG of labels (y x), one colour each, clear where there is no object."""
    return _indexed(_colour_index(labels), _label_palette(), bytes([0] + [255] * 255))


def outlines(labels: np.ndarray) -> bytes:
    """PNG of the rims of labels (y x), as thick as the picture's size asks for."""
    thickness = max(1, round(max(labels.shape) / 600))
    rim = np.zeros(labels.shape, bool)
    inner = labels
    for _ in range(thickness):
        edge = _edges(inner)
        rim |= edge
        inner = np.where(edge, 0, inner)
    return _indexed(
        np.where(rim, _colour_index(labels), 0).astype(np.uint8),
        _label_palette(),
        bytes([0] + [255] * 255),
    )


def value_map(values: np.ndarray) -> bytes:
    """PNG of values from 0 to 1 (y x): clear and dark at 0, solid and bright at 1."""
    clean = np.nan_to_num(values.astype(np.float32), nan=0.0)
    index = (np.clip(clean, 0, 1) * 255).astype(np.uint8)
    return _indexed(index, _heat_palette(), bytes(range(256)))


def count_objects(labels: xr.DataArray, axes: Collection[str]) -> list[int]:
    """How many objects there are at each position.

    Along an axis that is not among the model's own `axes` the model ran once per position, and
    the numbers begin anew at each.
    """
    own = [dim for dim in labels.dims if dim in axes]
    positions = labels.transpose(..., *own).values
    positions = positions.reshape(-1, *positions.shape[labels.ndim - len(own) :])
    return [int(np.count_nonzero(np.unique(one) > 0)) for one in positions]


def _edges(labels: np.ndarray) -> np.ndarray:
    """Where a label (y x) touches something else, also the picture's end."""
    padded = np.pad(labels, 1)
    centre = padded[1:-1, 1:-1]
    neighbours = (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:])
    differs = np.zeros(labels.shape, bool)
    for other in neighbours:
        differs |= other != centre
    return differs & (centre > 0)


def _colour_index(labels: np.ndarray) -> np.ndarray:
    whole = labels.astype(np.int64)
    return np.where(whole > 0, (whole - 1) % 255 + 1, 0).astype(np.uint8)


@cache
def _label_palette() -> bytes:
    colours = [(0, 0, 0)]
    for i in range(255):
        # Steps of the golden ratio: labels that follow each other get far hues.
        rgb = colorsys.hsv_to_rgb((i * 0.618034) % 1, (0.62, 0.8, 0.95)[i % 3], (1.0, 0.92)[i % 2])
        colours.append((round(rgb[0] * 255), round(rgb[1] * 255), round(rgb[2] * 255)))
    return bytes(value for colour in colours for value in colour)


@cache
def _heat_palette() -> bytes:
    stops = np.array([0, 0.25, 0.5, 0.75, 1])
    # Dark violet to pale yellow, rising evenly in lightness: readable without colour vision.
    colours = np.array(
        [[20, 11, 52], [114, 31, 129], [205, 64, 113], [253, 154, 106], [252, 253, 191]]
    )
    steps = np.linspace(0, 1, 256)
    rgb = np.stack([np.interp(steps, stops, colours[:, i]) for i in range(3)], axis=1)
    return rgb.round().astype(np.uint8).tobytes()


def _indexed(index: np.ndarray, palette: bytes, alpha: bytes) -> bytes:
    from PIL import Image

    picture = Image.fromarray(np.ascontiguousarray(index))
    picture.putpalette(palette)
    return _png(picture, transparency=alpha)


def _png(picture: PIL.Image.Image, **options: bytes) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4, **options)
    return buffer.getvalue()
