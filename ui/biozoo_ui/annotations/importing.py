"""A file of another program as the pixels of an annotation; one step that can be undone."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.axes import letters
from biozoo.errors import AxesError, ImageReadError, UsageError
from biozoo_runners import Image, open_image

from .annotation import Annotation
from .blocks import Key, Pixels
from .facts import check_plane
from .geojson import read_geojson
from .imagej import BROKEN_ZIP, read_rois
from .model import SIDE, ClassLabel, Done, Plane, Range
from .outlined import Shape, drawn, kind_words, new_class, refuse_more
from .starting import Lying, copied

_TAKEN = "TIFF, PNG, OME-Zarr, ImageJ ROIs (.roi, .zip), QuPath GeoJSON"


_MOST_APART = 2**28  # pixels of a mask whose parts are numbered: 1.3 GB


@dataclass(frozen=True)
class Imported:
    """How an annotation stands after an import, and what one should know of it."""

    done: Done
    notes: tuple[str, ...]


def holds_rois(path: Path) -> bool:
    """Whether a file is a zip of ImageJ ROIs."""
    if not zipfile.is_zipfile(path):
        return False
    try:
        with zipfile.ZipFile(path) as packed:
            return any(name.lower().endswith(".roi") for name in packed.namelist())
    except BROKEN_ZIP:  # whoever opens it says so
        return False


def import_file(
    annotation: Annotation,
    path: Path,
    name: str,
    *,
    here: Plane | None = None,
    add: bool = False,
    since: int | None = None,
) -> Imported:
    """Take labels or outlines from a file or an OME-Zarr folder.

    Parameters
    ----------
    name
        What its user calls the file; its ending tells the format.
    here
        Where shapes and single planes go that name no plane; None: the first.
    add
        Lay them over what is painted; else they take its place.

    Raises
    ------
    ImageReadError
        It is damaged, or of no format that is taken.
    UsageError
        It does not fit this image, or holds no labels.
    """
    here = here or Plane()
    check_plane(annotation.facts, here)
    ending = name.lower()
    if ending.endswith((".geojson", ".json")):
        shapes, other = read_geojson(path)
        return _shapes(annotation, shapes, other, name, here, add=add, since=since)
    if ending.endswith(".roi") or holds_rois(path):
        shapes, other = read_rois(path, name, annotation.facts.sizes)
        return _shapes(annotation, shapes, other, name, here, add=add, since=since)
    return _labels(annotation, path, name, here, add=add, since=since)


def _shapes(
    annotation: Annotation,
    shapes: list[Shape],
    other: int,
    name: str,
    here: Plane,
    *,
    add: bool,
    since: int | None,
) -> Imported:
    if not shapes:
        holds = f"holds {_lines(other)} and no areas" if other else "holds no shapes"
        raise UsageError(f"{name} {holds}. Draw polygons, then export it again.")
    found = drawn(annotation, shapes, here, add=add, name=name)
    notes = list(found.notes)
    if other:
        left = "is" if other == 1 else "are"
        notes.insert(0, f"{_lines(other)} {left} left out: only areas can be labels.")
    return _written(annotation, found.blocks, found.classes, notes, since)


def _lines(count: int) -> str:
    return "1 line or point" if count == 1 else f"{count} lines or points"


# ------------------------------------------------------------------------------- label images


def _labels(
    annotation: Annotation,
    path: Path,
    name: str,
    here: Plane,
    *,
    add: bool,
    since: int | None,
) -> Imported:
    labels = _Stack(_opened(path, name, annotation), name, annotation)
    lying = labels.lying(here)
    before = dict(annotation.filled())
    blocks: dict[Key, Pixels] = {}
    try:
        for key, pixels in copied(labels, lying, annotation):
            if pixels.any() or key in before:
                refuse_more(len(blocks), "It")
                blocks[key] = pixels
    except UsageError as exc:
        raise UsageError(f"{name}: {exc.message}") from exc
    if not any(pixels.any() for pixels in blocks.values()):
        raise UsageError(f"{name} holds no labels: all its pixels are 0.")
    notes: list[str] = []
    classes: tuple[ClassLabel, ...] = ()
    if annotation.kind == "classes":
        classes = _classes(annotation, blocks, name)
    elif (parts := _apart(annotation, blocks, name)) > 1:
        notes.append(
            f"{name} holds one value only, so its {parts} separate patches became objects. Split "
            "those that touch."
        )
    shift = annotation.facts.last if add and annotation.kind == "instances" else 0
    for key, pixels in blocks.items():
        if add and key in before:
            new = np.where(pixels > 0, pixels + np.uint32(shift), 0)
            blocks[key] = np.where(new > 0, new, before[key]).astype(np.uint32)
        elif shift:
            blocks[key] = np.where(pixels > 0, pixels + np.uint32(shift), 0).astype(np.uint32)
    return _written(annotation, blocks, classes, notes, since)


def _written(
    annotation: Annotation,
    blocks: Mapping[Key, Pixels],
    classes: tuple[ClassLabel, ...],
    notes: list[str],
    since: int | None,
) -> Imported:
    if classes and classes != annotation.facts.classes:
        new = [label.name for label in classes[len(annotation.facts.classes) :]]
        annotation.set_classes(classes)
        notes.append(f"New classes: {', '.join(new)}.")
    return Imported(annotation.write(iter(blocks.items()), since=since), tuple(notes))


def _opened(path: Path, name: str, annotation: Annotation) -> Image:
    """The file as an image; where it does not name its axes, those of the annotation."""
    try:
        return open_image(path)
    except AxesError:
        for dims in (annotation.facts.dims, ("y", "x")):
            try:
                return open_image(path, axes=dims)
            except AxesError:
                continue
        own = letters(annotation.facts.dims)
        raise UsageError(
            f"{name} has more dimensions than this image, whose axes are {own}. Save a label "
            "image of the same axes."
        ) from None
    except ImageReadError as exc:
        raise ImageReadError(
            path=name,
            why=exc.message.partition(": ")[2] or "it is no image.",
            hint=f"Taken are {_TAKEN}.",
        ) from exc


class _Stack:
    """A file as labels, read region by region."""

    def __init__(self, image: Image, name: str, annotation: Annotation) -> None:
        self._image, self._name = image, name
        self.sizes = {axis: image.sizes.get(axis, 1) for axis in ("time", "z", "y", "x")}
        channels = image.sizes.get("channel", 1)
        if channels > 1:
            what = "is a colour picture" if image.rgb else f"has {channels} channels"
            raise UsageError(
                f"{name} {what}. Labels have one number per pixel: save the labels, not a picture "
                "of them."
            )
        for axis, size in image.sizes.items():
            if axis not in (*self.sizes, "channel") and size > 1:
                raise UsageError(f"{name} has {size} positions along {axis}. Save one of them.")
        wanted = annotation.facts.sizes
        if any(self.sizes[axis] != wanted[axis] for axis in ("y", "x")):
            raise UsageError(
                f"{name} has {self.sizes['y']} x {self.sizes['x']} pixels (y x), this image "
                f"{wanted['y']} x {wanted['x']}. Labels lie pixel on pixel: save them at the "
                "image's own size."
            )
        for axis, what in (("z", "planes"), ("time", "time points")):
            if self.sizes[axis] not in (1, wanted[axis]):
                raise UsageError(
                    f"{name} has {self.sizes[axis]} {what}, this image {wanted[axis]}."
                )
        self._wanted = wanted

    def lying(self, here: Plane) -> Lying:
        """A single plane lies on the plane that is looked at."""
        at = {"y": 0.0, "x": 0.0}
        for axis, position in (("z", here.z), ("time", here.time)):
            if self.sizes[axis] == 1 and self._wanted[axis] > 1:
                at[axis] = position
        return Lying(at=at)

    def read(self, plane: Plane, y: Range, x: Range) -> NDArray[Any]:
        chosen: dict[str, int | slice] = {
            axis: {"time": plane.time, "z": plane.z}.get(axis, 0)
            for axis in self._image.axes
            if axis not in ("y", "x")
        }
        chosen |= {"y": slice(*y), "x": slice(*x)}
        return np.asarray(self._image.read(chosen).transpose("y", "x"))


def _classes(
    annotation: Annotation, blocks: Mapping[Key, Pixels], name: str
) -> tuple[ClassLabel, ...]:
    """The classes with those that the file has beside them."""
    classes = list(annotation.facts.classes)
    found = sorted({int(n) for pixels in blocks.values() for n in np.unique(pixels) if n})
    if found[-1] > 255:
        raise UsageError(
            f"{name} holds {len(found)} different numbers up to {found[-1]}: these are objects, "
            f"not {kind_words('classes')}. Choose objects, then import it."
        )
    for value in found:
        if value not in {label.value for label in classes}:
            classes.append(new_class(classes, f"Class {value}", value=value))
    return tuple(classes)


def _apart(annotation: Annotation, blocks: dict[Key, Pixels], name: str) -> int:
    """Number the patches of a mask of one value one by one; how many there are, 0: no mask."""
    from scipy import ndimage

    values = {int(n) for pixels in blocks.values() for n in np.unique(pixels) if n}
    if len(values) != 1:
        return 0
    count = 0
    sizes = annotation.facts.sizes
    touching = np.ones((3, 3, 3), bool)
    for time in sorted({key.time for key in blocks}):
        own = {key: pixels for key, pixels in blocks.items() if key.time == time}
        planes = sorted({key.z for key in own})
        if len(planes) * sizes["y"] * sizes["x"] > _MOST_APART:
            raise UsageError(
                f"{name} is a mask of one value, too large to be cut into objects here. Number its "
                "objects first, in Fiji for example, and import that."
            )
        mask = np.zeros((len(planes), sizes["y"], sizes["x"]), bool)
        for key, pixels in own.items():
            mask[(planes.index(key.z), *_box(key, pixels))] = pixels > 0
        parts, found = ndimage.label(mask, touching)
        parts[parts > 0] += count
        count += found
        for key, pixels in own.items():
            blocks[key] = parts[(planes.index(key.z), *_box(key, pixels))].astype(np.uint32)
    return count


def _box(key: Key, pixels: Pixels) -> tuple[slice, slice]:
    top, left = key.row * SIDE, key.column * SIDE
    return slice(top, top + pixels.shape[0]), slice(left, left + pixels.shape[1])
