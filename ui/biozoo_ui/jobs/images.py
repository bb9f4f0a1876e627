"""A job's image: kept where it would go away, opened as the user described it, cut to a region."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import AxesError, MissingFileError, UsageError
from biozoo.files import writing

from .model import JobImage, JobImages

if TYPE_CHECKING:
    from biozoo_runners import Image
    from biozoo_runners.images.base import Index

Region = Mapping[str, tuple[int, int]]


def keep_images(images: JobImages, folder: Path) -> dict[str, JobImage]:
    """The same images, those that are to be kept with files of the job's own below `folder`.

    Files are linked where they lie on one disk, so nothing is copied; else they are copied.

    Raises
    ------
    StorageError
        They cannot be written.
    MissingFileError
        One has gone.
    """
    kept = dict(images)
    for number, (tensor, image) in enumerate(images.items()):
        if not image.keep:
            continue
        path = folder / str(number) / image.path.name
        _check_there(image)
        with writing(folder):
            path.parent.mkdir(parents=True)
            if image.path.is_dir():
                shutil.copytree(image.path, path, copy_function=_link)
            else:
                _link(image.path, path)
        kept[tensor] = replace(image, path=path)
    return kept


def open_images(images: JobImages, region: Region | None = None) -> Image | dict[str, Image]:
    """The image of a job, or one per input tensor id; no pixels are read.

    Raises
    ------
    ImageReadError, MissingFileError, AxesError
        See `biozoo_runners.open_image`.
    UsageError
        The region is not in the image.
    """
    from biozoo_runners import open_image

    opened = {}
    for tensor, image in images.items():
        _check_there(image)
        one = open_image(
            image.path, axes=image.axes, scene=image.scene, pixel_size=image.pixel_size
        )
        opened[tensor] = cut_region(one, region) if region else one
    return opened.get("", opened)


def cut_region(image: Image, region: Region) -> Image:
    """The part of an image from the first pixel to before the last, by axis id, as an image.

    Raises
    ------
    AxesError
        For an axis that the image does not have.
    UsageError
        For a region that is empty or not inside the image.
    """
    sizes = image.sizes
    for axis, (start, stop) in region.items():
        if axis not in sizes:
            raise AxesError(
                f"The region names the axis '{axis}'; {image.name or 'the image'} has "
                f"{', '.join(sizes)}. Leave it out."
            )
        if not 0 <= start < stop <= sizes[axis]:
            raise UsageError(
                f"The region {axis} {start} to {stop} is not inside the image, which has "
                f"{sizes[axis]} pixels along {axis}. Choose a region between 0 and {sizes[axis]}."
            )
    if "channel" in region:
        raise AxesError("A region has no channels. Choose them by their names or numbers.")
    starts = [region.get(axis, (0, 0))[0] for axis in sizes]

    def read(index: tuple[Index, ...]) -> Any:
        shifted = (
            slice(i.start + first, i.stop + first, i.step) if isinstance(i, slice) else i + first
            for i, first in zip(index, starts, strict=True)
        )
        return image.reader(tuple(shifted))

    bounds = [region.get(axis, (0, size)) for axis, size in sizes.items()]
    told = ", ".join(f"{axis} {a} to {b}" for axis, (a, b) in region.items())
    return replace(
        image,
        shape=tuple(b - a for a, b in bounds),
        reader=read,
        notes=(*image.notes, f"only the region {told} was run"),
    )


def _check_there(image: JobImage) -> None:
    """Told by the name that its user knows: where a server keeps it is nobody's business."""
    if not image.path.exists():
        raise MissingFileError(
            what="The image", path=image.name, hint="Its file was removed; open it again."
        )


def _link(source: str | Path, target: str | Path) -> str:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one that knows no links
        shutil.copyfile(source, target)
    return str(target)
