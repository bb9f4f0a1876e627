"""An annotation as a file for other programs."""

from __future__ import annotations

import re
import shutil
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from biozoo.errors import UsageError
from biozoo.files import writing

from .annotation import Annotation
from .geojson import write_geojson
from .imagej import write_rois
from .outlined import outlined

Format = Literal["tiff", "zarr", "rois", "geojson"]

_ENDINGS: dict[Format, str] = {
    "tiff": ".ome.tif",
    "zarr": ".ome.zarr.zip",
    "rois": ".rois.zip",
    "geojson": ".geojson",
}
_IMAGE = re.compile(r"(\.ome)?\.(tiff?|zarr|png|jpe?g|npy|czi|lif|nd2)(\.zip)?$", re.IGNORECASE)


@dataclass(frozen=True)
class Exported:
    """A file, and what to call it where it is kept."""

    path: Path
    name: str


def export(annotation: Annotation, kind: Format, folder: Path) -> Exported:
    """Write an annotation into a folder that exists.

    - "tiff": OME-TIFF of the numbers, 8 or 16 bits where these do.
    - "zarr": zipped OME-Zarr 0.5 with `image-label`.
    - "rois": ImageJ ROI set.
    - "geojson": as QuPath imports it.

    Raises
    ------
    UsageError
        Nothing is painted, and the format holds outlines only.
    StorageError
        It cannot be written.
    """
    what = "labels" if annotation.kind == "instances" else "classes"
    name = f"{_IMAGE.sub('', annotation.facts.image) or 'image'}.{what}{_ENDINGS[kind]}"
    path = folder / f"exported{_ENDINGS[kind]}"
    with writing(folder):
        if kind == "tiff":
            _write_pixels(annotation, path)
        elif kind == "zarr":
            _write_zarr(annotation, path, name.removesuffix(".zip"))
        else:
            if not annotation.numbers():
                raise UsageError("Nothing is painted yet, so there are no outlines to export.")
            if kind == "rois":
                write_rois(path, outlined(annotation), annotation.facts.sizes)
            else:
                write_geojson(path, outlined(annotation), annotation.id)
    return Exported(path, name)


def _write_pixels(annotation: Annotation, path: Path) -> None:
    from biozoo_runners import write_image

    data = annotation.read()
    # Many programs read no 32 bits.
    if annotation.kind == "instances" and int(data.max()) < 2**16:
        data = data.astype(np.uint16)
    write_image(path, data)


def _write_zarr(annotation: Annotation, path: Path, top: str) -> None:
    import zarr

    folder = path.with_suffix("")
    _write_pixels(annotation, folder)
    own: Any = zarr.open_group(annotation.path, mode="r").attrs["ome"]
    group: Any = zarr.open_group(folder, mode="r+")
    group.attrs["ome"] = {**group.attrs["ome"], "image-label": own["image-label"]}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:  # chunks are compressed
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                packed.write(file, f"{top}/{file.relative_to(folder).as_posix()}")
    shutil.rmtree(folder)
