"""Measurements of the objects in a label image: one row each, by scikit-image's regionprops.

    measured = measure("cells.labels.ome.tif", "cells.ome.tif")
    write_table("cells.csv", measured)

Each plane (or volume, see `measure`) is read and measured by itself, so memory holds one of them.
"""

from __future__ import annotations

import csv
import itertools
import math
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import AxesError, ImageMismatchError, ImageReadError, UsageError

from .images.atomic import written_beside
from .images.units import MICROMETERS
from .prepare import as_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .images.base import Image
    from .prepare import ImageLike

__all__ = ["Measurements", "measure", "write_table"]

Value = int | float

#: What regionprops calls a length in a plane -> what a column is called.
_LENGTHS = {
    "perimeter": "perimeter",
    "axis_major_length": "major_axis",
    "axis_minor_length": "minor_axis",
}
_SHAPES = ("eccentricity", "solidity")  # without a unit
_INTENSITIES = ("mean", "min", "max")


@dataclass(frozen=True)
class Measurements:
    """A table whose rows are made as they are asked for, once.

    Attributes
    ----------
    columns
        Their names end in their unit: `_px` pixels (voxels of a volume), `_um`, `_um2` and `_um3`
        micrometres, their squares and cubes. `time` and `z` count from 0, as do positions: the
        middle of the first pixel is at 0. A bounding box goes from the first pixel (`_min`) to
        the one after the last (`_max`). `eccentricity` is 0 for a circle and towards 1 for a line,
        `solidity` is the share that the object has of its convex hull. Intensities are those of
        the image, per channel.
    rows
        Values in the order of `columns`.
    """

    columns: tuple[str, ...]
    rows: Iterator[tuple[Value, ...]] = field(repr=False)


def measure(
    labels: ImageLike, image: ImageLike | None = None, *, volume: bool | None = None
) -> Measurements:
    """Measure every object of a label image.

    Parameters
    ----------
    labels
        Whole numbers, 0 for background; a path, an array, or an `Image`.
    image
        For intensities: of the same size along y and x, and along z and time where it has these.
    volume
        Whether an object goes through the planes of a stack (True) or each plane has numbers of
        its own, as a 2D model gives them (False). Has to be said where there are several planes.

    Returns
    -------
    Measurements
        A row per object and time point (and plane). Lengths in micrometres are there where the
        labels, or else the image, say how large a pixel is; those that need square pixels only
        where pixels are square. Volumes have no perimeter, axes, eccentricity and solidity.

    Raises
    ------
    UsageError
        Several planes and nobody said what they are.
    AxesError, ImageMismatchError
        The labels are no plane, volume or series of these, or the image does not fit them.
    ImageReadError, MissingFileError
        A file cannot be read, or holds no labels.
    """
    found = as_image(labels)
    pixels = None if image is None else as_image(image)
    if found.dtype.kind not in "iu":
        raise ImageReadError(
            path=_who(found),
            why=f"its values are {found.dtype}, and labels are whole numbers.",
            hint="Give the labels of a run, 0 for background and one number per object.",
        )
    many = [a for a, n in found.sizes.items() if a not in ("time", "z", "y", "x") and n > 1]
    if many or not {"y", "x"} <= set(found.axes):
        raise AxesError(
            f"{_who(found)} has the axes {', '.join(found.axes)}; labels are planes (y, x), "
            "volumes (z, y, x) or a series of these (time)."
        )
    if pixels is not None:
        _check_fit(found, pixels)
    planes = found.sizes.get("z", 1)
    if volume is None and planes > 1:
        raise UsageError(
            f"{_who(found)} has {planes} planes. Say whether an object goes through them "
            "(--volume) or each has numbers of its own (--planes)."
        )
    plan = _Plan(found, pixels, volume=bool(volume) and "z" in found.axes)
    return Measurements(plan.columns, plan.rows())


def write_table(path: str | Path, measured: Measurements) -> int:
    """Write measurements as CSV (UTF-8, commas, decimal points); how many rows there are.

    Raises
    ------
    StorageError
        It cannot be written; nothing half-written stays.
    """
    count = 0
    with written_beside(Path(path)) as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(measured.columns)
        for row in measured.rows:
            table.writerow([v if isinstance(v, int) else f"{v:.6g}" for v in row])
            count += 1
    return count


class _Plan:
    """What is measured and in which order, settled before a pixel is read."""

    def __init__(self, labels: Image, image: Image | None, *, volume: bool) -> None:
        self.labels, self.image, self.volume = labels, image, volume
        self.space = ("z", "y", "x") if volume else ("y", "x")
        self.loops: list[str] = [
            a for a in ("time", "z") if a in labels.axes and a not in self.space
        ]
        self.shown = [a for a in self.loops if a == "z" or labels.sizes[a] > 1]
        self.size = _pixel_size(labels, self.space) or (
            _pixel_size(image, self.space) if image is not None else None
        )
        self.channels = _channel_names(image) if image is not None else []

    @property
    def square(self) -> float | None:
        """Micrometres of a pixel in a plane, None where not known or not square."""
        if self.volume or self.size is None or not math.isclose(*self.size, rel_tol=1e-6):
            return None
        return self.size[0]

    @property
    def columns(self) -> tuple[str, ...]:
        what, power = ("volume", 3) if self.volume else ("area", 2)
        names = ["label", *self.shown, f"{what}_px"]
        names += [f"{what}_um{power}"] if self.size else []
        names += [f"centroid_{a}_px" for a in self.space]
        names += [f"centroid_{a}_um" for a in self.space] if self.size else []
        names += [f"bbox_{end}_{a}_px" for end in ("min", "max") for a in self.space]
        if not self.volume:
            names += [f"{column}_px" for column in _LENGTHS.values()]
            names += [f"{column}_um" for column in _LENGTHS.values()] if self.square else []
            names += _SHAPES
        names += [f"intensity_{kind}{name}" for name in self.channels for kind in _INTENSITIES]
        return tuple(names)

    def rows(self) -> Iterator[tuple[Value, ...]]:
        """Every object, in the order of time, z and number."""
        for place in itertools.product(*(range(self.labels.sizes[a]) for a in self.loops)):
            at: dict[str, int] = dict(zip(self.loops, place, strict=True))
            numbers = self._read(self.labels, at, self.space)
            if numbers.min(initial=0) < 0:
                raise ImageReadError(
                    path=_who(self.labels),
                    why="it holds numbers below 0, and labels count from 1.",
                )
            if numbers.any():
                image = self.image
                shown = None if image is None else self._read(image, at, (*self.space, "channel"))
                yield from self._of(numbers, shown, [at[a] for a in self.shown])

    def _read(self, image: Image, at: dict[str, int], order: Sequence[str]) -> NDArray[Any]:
        """A plane or volume, its axes in this order; one that it lacks is added."""
        chosen: dict[str, int | slice] = {
            a: at.get(a, 0) for a in image.axes if a not in (*self.space, "channel")
        }
        if "channel" in image.axes and "channel" not in order:
            chosen["channel"] = 0
        read = image.read(chosen)
        read = read.expand_dims([a for a in order if a not in read.dims])
        return np.asarray(read.transpose(*order).values)

    def _of(
        self, numbers: NDArray[Any], shown: NDArray[Any] | None, place: list[int]
    ) -> Iterator[tuple[Value, ...]]:
        """The objects of one plane or volume."""
        from skimage.measure import regionprops_table

        names, numbers = _in_sequence(numbers)
        wanted = ["label", "area", "centroid", "bbox"]
        wanted += [] if self.volume else [*_LENGTHS, *_SHAPES]
        if shown is not None:
            wanted += [f"intensity_{kind}" for kind in _INTENSITIES]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of objects of a few pixels, which have no hull
            table: dict[str, NDArray[Any]] = regionprops_table(  # type: ignore[no-untyped-call]
                numbers, shown, properties=wanted
            )
        n, size = len(self.space), self.size
        centre = [table[f"centroid-{i}"] for i in range(n)]
        columns = [names[table["label"]], *([p] * len(names[1:]) for p in place)]
        area = np.asarray(table["area"])
        columns += [area.astype(np.int64), *([area * math.prod(size)] if size else [])]
        columns += [*centre, *([c * s for c, s in zip(centre, size, strict=True)] if size else [])]
        columns += [table[f"bbox-{i}"] for i in range(2 * n)]
        if not self.volume:
            lengths = [table[prop] for prop in _LENGTHS]
            columns += [*lengths, *([v * self.square for v in lengths] if self.square else [])]
            columns += [table[prop] for prop in _SHAPES]
        if shown is not None:
            columns += [
                table[f"intensity_{kind}-{c}"]
                for c in range(shown.shape[-1])
                for kind in _INTENSITIES
            ]
        for row in zip(*columns, strict=True):
            yield tuple(int(v) if isinstance(v, int | np.integer) else float(v) for v in row)


def _in_sequence(numbers: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Labels numbered 1, 2, ... and what each was called before; 0 stays.

    regionprops makes a list as long as the largest number, which a mask of one huge number would
    turn into gigabytes.
    """
    highest = int(numbers.max())
    if highest <= numbers.size:
        present = np.bincount(numbers.ravel(), minlength=1) > 0
        present[0] = True
        names = np.flatnonzero(present)
        return names, (np.cumsum(present, dtype=np.int32) - 1)[numbers]
    names, inverse = np.unique(numbers, return_inverse=True)
    shift = int(names[0] != 0)  # no background
    names = np.concatenate([np.zeros(shift, names.dtype), names])
    return names, (inverse.reshape(numbers.shape) + shift).astype(np.int32)


def _check_fit(labels: Image, image: Image) -> None:
    for axis in ("y", "x", "z", "time"):
        have, wanted = image.sizes.get(axis, 1), labels.sizes.get(axis, 1)
        if have != wanted:
            raise ImageMismatchError(
                f"{_who(image)} has {have} positions along {axis}, the labels {_who(labels)} have "
                f"{wanted}. Give the image that the labels were made from."
            )
    if not {"y", "x"} <= set(image.axes):
        raise AxesError(f"{_who(image)} has the axes {', '.join(image.axes)}: y or x is missing.")


def _pixel_size(image: Image, axes: Sequence[str]) -> tuple[float, ...] | None:
    """Micrometres along each axis, None where one is not known."""
    factors = [MICROMETERS.get(image.unit.get(a, "")) for a in axes]
    if any(f is None or a not in image.pixel_size for f, a in zip(factors, axes, strict=True)):
        return None
    return tuple(image.pixel_size[a] * (f or 0) for f, a in zip(factors, axes, strict=True))


def _channel_names(image: Image) -> list[str]:
    """What is put behind the name of an intensity, different for each channel."""
    names = image.channel_names or ("",)
    if len(names) == 1:
        return [""]
    words = ["_" + "_".join(name.split()) for name in names]
    return [w if words.count(w) == 1 else f"{w}_{i}" for i, w in enumerate(words)]


def _who(image: Image) -> str:
    return str(image.path) if image.path is not None else f"The array '{image.name}'"
