"""What a finished run leaves: files to download, pictures to look at, and the words about it."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
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
    stem
        The image's name without what says its format; the files' names begin with it.
    layers
        Pictures to lay over `image.png`, the first one is shown at first.
    size
        Width and height of the field shown, pixels of the image.
    shown
        Which part of a volume or series is shown, in words, empty for all.
    objects
        How many objects were found, None where the model makes none.
    positions
        In how many planes or time points they were counted, each by itself.
    downloads
        Files, the main one first.
    report
        The run report in words.
    command
        The same run on the command line.
    """

    stem: str
    layers: tuple[Layer, ...]
    size: tuple[int, int]
    shown: str
    objects: int | None
    positions: int
    downloads: tuple[Download, ...]
    report: str
    command: str


def write_outcome(result: Result, request: RunRequest, folder: Path) -> Outcome:
    """Write every tensor as OME-TIFF and the pictures as PNG into `folder`."""
    from biozoo_runners import open_image, write_image
    from biozoo_runners.batch import stem as stem_of

    stem = stem_of(Path(request.name) if isinstance(request.image, Path) else request.files[0])
    own_axes = {axis for tensor in request.package.summary.inputs for axis in tensor.axes}
    labelled = result.label_images
    alone = sum({"y", "x"} <= set(result[n].dims) for n in result if n not in labelled) == 1
    downloads: list[Download] = []
    shown: list[Layer] = []
    objects: int | None = None
    positions = 1
    for name in sorted(result, key=lambda key: (key not in labelled, key != "labels", key)):
        data = result[name]
        path = write_image(folder / f"{stem}.{name}.ome.tif", data)
        what = "Labels" if name == "labels" else _capital(name)
        label = f"{what}: each object has a number" if name in labelled else what
        downloads.append(Download(path.name, label, path.stat().st_size))
        if not {"y", "x"} <= set(data.dims):
            continue
        if name in labelled:
            data = data.squeeze([d for d in data.dims if d == "channel"])
            if objects is None:  # the main one comes first
                counts = layers.count_objects(data, own_axes)
                objects, positions = sum(counts), len(counts)
        is_labels = name in labelled
        shown += _write_layers(name, layers.plane(data), folder, alone=alone, is_labels=is_labels)

    if request.sample:  # so that the command line can be tried on it
        for file in request.files:
            copy = Path(shutil.copyfile(file, folder / file.name))
            of = "" if len(request.files) == 1 else f" {len(downloads) - len(result) + 1}"
            downloads.append(Download(copy.name, f"The sample image{of}", copy.stat().st_size))
    image = open_image(request.files[0], axes=request.axes)
    (folder / f"{IMAGE}.png").write_bytes(picture_of(image))
    sizes = image.sizes
    return Outcome(
        stem=stem,
        layers=tuple(shown),
        size=(sizes["x"], sizes["y"]),
        shown=layers.where(sizes),
        objects=objects,
        positions=positions,
        downloads=tuple(downloads),
        report=str(result.report),
        command=request.command,
    )


def zip_files(folder: Path, outcome: Outcome) -> Path:
    """Pack every file of a run into one, at the first call."""
    path = folder / "all.zip"
    if not path.exists():
        # Written beside: a second request must not get half a file.
        with (
            tempfile.NamedTemporaryFile(dir=folder, suffix=".part", delete=False) as beside,
            zipfile.ZipFile(beside, "w") as packed,  # OME-TIFFs are compressed already
        ):
            for download in outcome.downloads:
                packed.write(folder / download.file, download.file)
        Path(beside.name).replace(path)
    return path


def picture_of(image: Image) -> bytes:
    """PNG of the plane of an image that is shown; only its pixels are read."""
    from biozoo_runners.images import preview

    return layers.encode(preview(image.read(layers.selection(image.sizes)), max_size=None))


def _write_layers(
    name: str, plane: xr.DataArray, folder: Path, *, alone: bool, is_labels: bool
) -> list[Layer]:
    """Pictures of one tensor; `alone` says that no other has channels to be told apart from."""
    made: list[tuple[Layer, bytes]] = []
    if is_labels:
        labels = plane.transpose("y", "x").values
        own = name == "labels"
        outlines = "outlines" if own else f"{name}-outlines"
        of = "" if own else f" of {name}"
        made += [
            (Layer(name, f"Objects{of}", "objects", 0.5), layers.objects(labels)),
            (Layer(outlines, f"Outlines{of}", "outlines", 1.0), layers.outlines(labels)),
        ]
    elif "channel" in plane.dims:
        for i in range(min(plane.sizes["channel"], layers.MAX_MAPS)):
            one = plane.isel(channel=i)
            title = _channel_title(plane, i)
            label = name if not title else title if alone else f"{name}: {title}"
            made.append(_one_channel(f"{name}-{i}", _capital(label), one, 0.6))
    else:
        made.append(
            _one_channel(name, _capital(name), plane, 1.0)
        )  # as one looks at a restored image
    for layer, png in made:
        (folder / f"{layer.key}.png").write_bytes(png)
    return [layer for layer, _ in made]


def _channel_title(plane: xr.DataArray, i: int) -> str:
    """What a channel is called, empty where its tensor's name says it all."""
    if plane.sizes["channel"] == 1:
        return ""
    title = str(plane.coords["channel"].values[i]) if "channel" in plane.coords else ""
    return f"channel {i}" if title in ("", str(i), f"channel{i}") else title


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _one_channel(key: str, label: str, plane: xr.DataArray, opacity: float) -> tuple[Layer, bytes]:
    """A map where the values are floats from 0 to 1, else a grey image of that opacity."""
    from biozoo_runners.images import preview

    values = plane.transpose("y", "x").values
    if values.dtype.kind == "f" and values.min() >= 0 and values.max() <= 1:
        return Layer(key, label, "map", 0.7), layers.value_map(values)
    return Layer(key, label, "image", opacity), layers.encode(preview(plane, max_size=None))
