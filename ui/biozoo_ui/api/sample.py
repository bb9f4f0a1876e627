"""An image to try a model on: simulated, or the one that the package was tested with."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from fastapi import APIRouter, Request
from pydantic import BaseModel

from biozoo.errors import NotFoundError
from biozoo.files import writing

from .asked import FindModel, Session

if TYPE_CHECKING:
    from biozoo import ModelPackage

OpenSample = Callable[[str, Path], dict[str, Any]]
"""Opens a file of the server as an image of a session; its description."""

SIMULATED = {
    "nuclei-fluo": ("nuclei", "cells.ome.tif"),
    "nuclei-histology": ("histology", "tissue.ome.tif"),
    "em-membrane": ("em", "slice.ome.tif"),
}
"""Built-in model -> sample of `biozoo.samples` it is made for, and what its file is called; in the
order in which a newcomer is shown them."""

ABOUT = {
    "nuclei": "simulated nuclei under a fluorescence microscope",
    "histology": "simulated tissue, stained with haematoxylin and eosin",
    "em": "simulated cells under an electron microscope",
}


@dataclass(frozen=True)
class SampleImage:
    """A sample as image files.

    Attributes
    ----------
    files
        One per input tensor id.
    command
        How to get the same file on the command line, empty where there is no way.
    about
        Where it comes from, in words.
    """

    files: dict[str, Path]
    command: str
    about: str


class OpenedSample(BaseModel):
    """A model's sample, opened as images of this session.

    `images`: a description (as of `GET /api/images/ID`) per input tensor id. `about`: where it
    comes from. `command`: how to get the same file on the command line, empty where there is no
    way.
    """

    images: dict[str, dict[str, Any]]
    about: str
    command: str


def sample_routes(
    folder: Path, *, session: Session, find_model: FindModel, open_sample: OpenSample
) -> APIRouter:
    """The route of models' samples, which are written below `folder` when first asked for."""
    router = APIRouter(prefix="/api/models", tags=["models"])

    @router.post("/{model_id:path}/sample", status_code=201)
    def sample(model_id: str, request: Request) -> OpenedSample:
        """Open the image that a model can be tried on, one per input tensor."""
        found = sample_image(find_model(model_id), folder)
        owner = session(request)
        images = {tensor: open_sample(owner, path) for tensor, path in found.files.items()}
        return OpenedSample(images=images, about=found.about, command=found.command)

    return router


_WRITING = threading.Lock()


def sample_image(package: ModelPackage, folder: Path) -> SampleImage:
    """Write the sample of a package below `folder`, once, and say what it is.

    Raises
    ------
    StorageError
        It cannot be written.
    ImageMismatchError
        The model's input is no image.
    """
    name = package.id.rpartition("/")[2]
    folder = folder / f"{name}-{package.version or 0}"
    if package.origin == "built-in" and package.id in SIMULATED:
        kind, _ = SIMULATED[package.id]
        path = simulated_file(kind, folder)
        tensor = package.summary.inputs[0].id
        return SampleImage({tensor: path}, f"zoo sample {kind} -o {path.name}", ABOUT[kind])
    with _writing_once(folder):
        return _tested(package, name, folder)


def simulated_file(kind: str, folder: Path) -> Path:
    """A simulated image, written into `folder` when first asked for.

    Raises
    ------
    NotFoundError
        There is none of this kind.
    StorageError
        It cannot be written.
    """
    names = dict(SIMULATED.values())
    if kind not in names:
        raise NotFoundError(kind="sample", got=kind, known=names)
    path = folder / names[kind]
    with _writing_once(folder):
        if not path.exists():
            from biozoo.samples import simulate
            from biozoo_runners import write_image

            write_image(path, simulate(kind).to_xarray()[0])
    return path


def sample_command(path: Path, folder: Path) -> str:
    """How to get a file of the server's samples on the command line, empty for any other."""
    for kind, name in SIMULATED.values():
        if path.name == name and path.is_relative_to(folder):
            return f"zoo sample {kind} -o {name}"
    return ""


@contextmanager
def _writing_once(folder: Path) -> Iterator[None]:
    """The folder is there; two that ask at once get one file."""
    with _WRITING, writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        yield


def _tested(package: ModelPackage, name: str, folder: Path) -> SampleImage:
    import xarray as xr

    from biozoo_runners import write_image

    files: dict[str, Path] = {}
    for tensor in package.descr.inputs:
        path = folder / f"{name}.{tensor.id}.ome.tif"
        if not path.exists():
            axes = tuple(str(axis.id) for axis in tensor.axes)
            pixels = np.load(package.path(tensor.test_tensor), allow_pickle=False)
            data = xr.DataArray(pixels, dims=axes, attrs={"name": path.name})
            if "batch" in axes:
                data = data.isel(batch=0)
            write_image(path, data)
        files[str(tensor.id)] = path
    return SampleImage(files, "", "the image that the model was tested with")
