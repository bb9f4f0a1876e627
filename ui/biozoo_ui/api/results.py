"""What a finished run leaves: files to download, pictures to look at, and the words about it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import layers
from .layers import Layer

if TYPE_CHECKING:
    import xarray as xr

    from biozoo_runners import Image, Result

    from .runs import RunRequest

IMAGE = "image"
"""Key of the picture below the layers."""


@dataclass(frozen=True)
class Download:
    """A file of a result: its name in the run's folder, what it is, and its size in bytes."""

    file: str
    label: str
    size: int


@dataclass(frozen=True)
class Outcome:
    """The readable half of a result.

    Attributes
    ----------
    layers
        Pictures to lay over `image.png`, the first one is shown at first.
    size
        Width and height of the field shown, pixels of the image.
    shown
        Which part of a volume or series is shown, in words, empty for all.
    objects
        How many objects were found, None where the model makes none.
    downloads
        Files, the main one first.
    report
        The run report in words.
    command
        The same run on the command line.
    """

    layers: tuple[Layer, ...]
    size: tuple[int, int]
    shown: str
    objects: int | None
    downloads: tuple[Download, ...]
    report: str
    command: str


def write_outcome(result: Result, request: RunRequest, folder: Path) -> Outcome:
    """Write every tensor as OME-TIFF and the pictures as PNG into `folder`."""
    from biozoo_runners import open_image, write_image

    stem = image_stem(request.name)
    downloads: list[Download] = []
    shown: list[Layer] = []
    objects: int | None = None
    for name in sorted(result, key=lambda key: (key != "labels", key)):
        data = result[name]
        path = write_image(folder / f"{stem}.{name}.ome.tif", data)
        label = "Labels: each object has a number" if name == "labels" else f"Output: {name}"
        downloads.append(Download(path.name, label, path.stat().st_size))
        if not {"y", "x"} <= set(data.dims):
            continue
        if name == "labels":
            objects = layers.count_objects(data)
        shown += _write_layers(name, layers.plane(data), folder)

    if request.sample:  # so that the command line can be tried on it
        for file in request.files:
            copy = Path(shutil.copyfile(file, folder / file.name))
            downloads.append(Download(copy.name, "The sample image", copy.stat().st_size))
    image = open_image(request.files[0], axes=request.axes)
    (folder / f"{IMAGE}.png").write_bytes(picture_of(image))
    sizes = image.sizes
    return Outcome(
        layers=tuple(shown),
        size=(sizes["x"], sizes["y"]),
        shown=layers.where(sizes),
        objects=objects,
        downloads=tuple(downloads),
        report=str(result.report),
        command=request.command,
    )


def image_stem(name: str) -> str:
    """File name without its image ending: "cells.ome.tif" -> "cells"."""
    stem = Path(name).name
    for suffix in (".ome.tiff", ".ome.tif", ".ome.zarr"):
        if stem.lower().endswith(suffix):
            return stem[: -len(suffix)]
    return Path(stem).stem


def picture_of(image: Image) -> bytes:
    """PNG of the plane of an image that is shown; only its pixels are read."""
    from biozoo_runners.images import preview

    return layers.encode(preview(image.read(layers.selection(image.sizes))))


def _write_layers(name: str, plane: xr.DataArray, folder: Path) -> list[Layer]:
    made: list[tuple[Layer, bytes]] = []
    if name == "labels":
        labels = plane.transpose("y", "x").values
        made += [
            (Layer("labels", "Objects", "objects", 0.5), layers.objects(labels)),
            (Layer("outlines", "Outlines", "outlines", 1.0), layers.outlines(labels)),
        ]
    elif "channel" in plane.dims:
        for i in range(min(plane.sizes["channel"], layers.MAX_MAPS)):
            one = plane.isel(channel=i)
            title = str(one.coords["channel"].item()) if "channel" in one.coords else str(i)
            made.append(_one_channel(f"{name}-{i}", f"{name}: {title}", one, 0.6))
    else:
        made.append(_one_channel(name, name, plane, 1.0))  # as one looks at a restored image
    for layer, png in made:
        (folder / f"{layer.key}.png").write_bytes(png)
    return [layer for layer, _ in made]


def _one_channel(key: str, label: str, plane: xr.DataArray, opacity: float) -> tuple[Layer, bytes]:
    """A map where the values are floats from 0 to 1, else a grey image of that opacity."""
    from biozoo_runners.images import preview

    values = plane.transpose("y", "x").values
    if values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        return Layer(key, label, "map", 0.7), layers.value_map(values)
    return Layer(key, label, "image", opacity), layers.encode(preview(plane))
