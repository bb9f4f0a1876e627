"""A new annotation: what it is of, and a label image as its first pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import UsageError

from .annotation import Annotation
from .blocks import Key, Pixels
from .model import SIDE, Plane, Range


class Labels(Protocol):
    """A label image, read region by region."""

    @property
    def sizes(self) -> Mapping[str, int]:
        """Pixels along time, z, y and x, 1 where it has no such axis."""

    def read(self, plane: Plane, y: Range, x: Range) -> NDArray[Any]:
        """Pixels of a box within it, (y, x)."""


@dataclass(frozen=True)
class Lying:
    """How a label image lies over the image, as the viewer's layers do.

    Attributes
    ----------
    at
        Where it begins, in pixels of the image by axis; it is everywhere along an axis of one
        position that is not named.
    scale
        How many pixels of the image one of its own covers along y and x. Without `at` and `scale`
        it is stretched over the image.
    """

    at: Mapping[str, float] | None = None
    scale: Mapping[str, float] | None = None


def copied(labels: Labels, lying: Lying, annotation: Annotation) -> Iterator[tuple[Key, Pixels]]:
    """A label image as blocks of an annotation: each pixel the label under its middle.

    Raises
    ------
    UsageError
        It lies beside the image, or holds what is no number of an object.
    """
    sizes, own = annotation.facts.sizes, labels.sizes
    at, scale = _settled(lying, own, sizes)
    some = False
    for time in range(sizes["time"]):
        for z in range(sizes["z"]):
            plane = _plane(lying.at or {}, own, time, z)
            if plane is None:
                continue
            columns = _under(0, sizes["x"], at["x"], scale["x"], own["x"], sizes["x"])
            for row in range(-(-sizes["y"] // SIDE)):
                # A whole row of blocks is read at once: many files decode it all for each of them.
                rows = _under(row * SIDE, sizes["y"], at["y"], scale["y"], own["y"], SIDE)
                pixels = _picked(labels, plane, rows, columns)
                if pixels is None:
                    continue
                some = True
                for column in range(-(-sizes["x"] // SIDE)):
                    part = pixels[:, column * SIDE : (column + 1) * SIDE]
                    yield Key(time, z, row, column), np.ascontiguousarray(part)
    if not some:
        raise UsageError("That result lies beside this image. Run the model on it again.")


def _settled(
    lying: Lying, own: Mapping[str, int], sizes: Mapping[str, int]
) -> tuple[dict[str, float], dict[str, float]]:
    if lying.at is None and lying.scale is None:
        scale = {axis: sizes[axis] / own[axis] for axis in ("y", "x")}
        return {"y": 0.0, "x": 0.0}, scale
    at = {axis: float((lying.at or {}).get(axis, 0.0)) for axis in ("y", "x")}
    scale = {axis: float((lying.scale or {}).get(axis, 1.0)) for axis in ("y", "x")}
    if not all(math.isfinite(v) and v > 0 for v in scale.values()):
        raise UsageError(f"A result cannot lie over the image at a scale of {scale}.")
    return at, scale


def _plane(at: Mapping[str, float], own: Mapping[str, int], time: int, z: int) -> Plane | None:
    """The plane of the labels over one of the image; None where they have none."""
    found = {}
    for axis, position in (("time", time), ("z", z)):
        everywhere = own[axis] == 1 and axis not in at
        index = 0 if everywhere else position - int(at.get(axis, 0))
        if not 0 <= index < own[axis]:
            return None
        found[axis] = index
    return Plane(**found)


def _under(
    first: int, size: int, at: float, scale: float, own: int, count: int
) -> NDArray[np.int64]:
    """For some pixels along an axis each that of the labels under its middle, -1 beside them."""
    middles = np.arange(first, min(first + count, size)) + 0.5
    found: NDArray[np.int64] = np.floor((middles - at) / scale).astype(np.int64)
    found[(found < 0) | (found >= own)] = -1
    return found


def _picked(
    labels: Labels, plane: Plane, rows: NDArray[np.int64], columns: NDArray[np.int64]
) -> Pixels | None:
    inside, within = rows >= 0, columns >= 0
    if not inside.any() or not within.any():
        return None
    y = (int(rows[inside].min()), int(rows.max()) + 1)
    x = (int(columns[within].min()), int(columns.max()) + 1)
    found = as_numbers(labels.read(plane, y, x))
    out = np.zeros((len(rows), len(columns)), np.uint32)
    out[np.ix_(inside, within)] = found[np.ix_(rows[inside] - y[0], columns[within] - x[0])]
    return out


def as_numbers(pixels: NDArray[Any]) -> Pixels:
    """Pixels as numbers of objects; what is negative (ignored, by some programs) is background.

    Raises
    ------
    UsageError
        They are no whole numbers, or larger than fits.
    """
    if pixels.dtype.kind == "f":
        whole = np.nan_to_num(pixels, nan=0.0)
        if not np.array_equal(whole, np.floor(whole)):
            raise UsageError(
                "These values are no whole numbers, so they do not number objects. They may be "
                "probabilities: save the labels instead."
            )
        pixels = whole.astype(np.int64)
    if pixels.dtype.kind == "b":
        return pixels.astype(np.uint32)
    if pixels.dtype.kind not in "iu":
        raise UsageError(f"Pixels of the type {pixels.dtype} do not number objects.")
    if pixels.size and int(pixels.max()) >= 2**32:
        raise UsageError("A number is larger than 4,294,967,295. Number the objects anew.")
    numbers: Pixels = np.maximum(pixels, 0).astype(np.uint32)
    return numbers
