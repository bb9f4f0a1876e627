"""What a finished job leaves in its folder, unless the server is given another writer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .model import Job, JobFile
from .overlay import Overlay, in_order

if TYPE_CHECKING:
    from biozoo_runners import Result

Writer = Callable[["Result", Job, Mapping[str, Overlay], Path], tuple[JobFile, ...]]
"""Writes a result into an empty folder and says what it wrote, the main file first."""


def write_files(
    result: Result, job: Job, overlays: Mapping[str, Overlay], folder: Path
) -> tuple[JobFile, ...]:
    """Write every tensor as OME-TIFF, labels first.

    Raises
    ------
    StorageError
        They cannot be written.
    """
    from biozoo_runners import write_image
    from biozoo_runners.batch import stem

    name = stem(Path(Path(job.image.name).name or "image"))
    made = []
    for tensor in in_order(result):
        path = write_image(folder / f"{name}.{tensor}.ome.tif", result[tensor])
        lies = overlays[tensor]
        label = label_of(tensor)
        if lies.kind == "labels":
            label += ": each object has a number"
        size = path.stat().st_size
        made.append(JobFile(path.name, label, size, lies.kind, lies.at, lies.scale, lies.volume))
    return tuple(made)


def label_of(tensor: str) -> str:
    """A result's id as a heading."""
    return tensor[:1].upper() + tensor[1:]
