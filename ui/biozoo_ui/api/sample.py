"""An image to try a model on: simulated, or the one that the package was tested with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from biozoo import ModelPackage

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
    image
        One file, or one per input tensor id.
    name
        What the page calls it.
    command
        How to get the same file on the command line, empty where there is no way.
    about
        Where it comes from, in words.
    """

    image: Path | Mapping[str, Path]
    name: str
    command: str
    about: str


def sample_image(package: ModelPackage, folder: Path) -> SampleImage:
    """Write the sample of a package below `folder`, once, and say what it is."""
    name = package.id.rpartition("/")[2]
    folder = folder / f"{name}-{package.version or 0}"
    folder.mkdir(parents=True, exist_ok=True)
    if package.origin == "built-in" and package.id in SIMULATED:
        return _simulated(*SIMULATED[package.id], folder)
    return _tested(package, name, folder)


def _simulated(kind: str, name: str, folder: Path) -> SampleImage:
    path = folder / name
    if not path.exists():
        from biozoo.samples import simulate
        from biozoo_runners import write_image

        write_image(path, simulate(kind).to_xarray()[0])
    command = f"zoo sample {kind} -o {path.name}"
    return SampleImage(path, path.name, command, ABOUT[kind])


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
    first = next(iter(files.values()))
    about = "the image that the model was tested with"
    names = ", ".join(path.name for path in files.values())
    return SampleImage(first if len(files) == 1 else files, names, "", about)
