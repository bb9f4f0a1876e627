"""What a finished job leaves in its folder, unless the server is given another writer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .model import Job, JobFile

if TYPE_CHECKING:
    from biozoo_runners import Result

Writer = Callable[["Result", Job, Path], tuple[JobFile, ...]]
"""Writes a result into an empty folder and says what it wrote, the main file first."""


def write_files(result: Result, job: Job, folder: Path) -> tuple[JobFile, ...]:
    """Write every tensor as OME-TIFF, labels first.

    Raises
    ------
    StorageError
        They cannot be written.
    """
    from biozoo_runners import write_image
    from biozoo_runners.batch import stem

    labelled = result.label_images
    name = stem(Path(Path(job.image.name).name or "image"))
    made = []
    for tensor in sorted(result, key=lambda t: (t not in labelled, t != "labels", t)):
        path = write_image(folder / f"{name}.{tensor}.ome.tif", result[tensor])
        label = tensor[:1].upper() + tensor[1:]
        kind = "labels" if tensor in labelled else "image"
        if kind == "labels":
            label += ": each object has a number"
        made.append(JobFile(path.name, label, path.stat().st_size, kind))
    return tuple(made)
