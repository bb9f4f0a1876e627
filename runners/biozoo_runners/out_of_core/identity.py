"""What must be the same for a stopped run to go on, and for an image to be the one that it was."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import ImageReadError

if TYPE_CHECKING:
    from ..base import BackendInfo
    from ..images.base import Image
    from ..tiling import TilePlan

__all__ = ["check_unchanged", "fingerprint", "fingerprints", "identity"]


def fingerprint(path: Path) -> str:
    """Of a file, or all files of a folder: names, sizes and times of the last change.

    What is read is not hashed: that would take as long as the run's reading.
    """
    if path.is_file():
        found = path.stat()
        return f"{found.st_size} bytes of {found.st_mtime_ns}"
    digest = hashlib.sha256()
    for folder, folders, files in os.walk(path):
        folders.sort()
        for name in sorted(files):
            file = Path(folder, name)
            found = file.stat()
            where = file.relative_to(path).as_posix()
            digest.update(f"{where}\0{found.st_size}\0{found.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def fingerprints(images: Mapping[str, Image]) -> dict[str, str]:
    """Of every input that comes from a file, by tensor id."""
    return {t: fingerprint(i.path) for t, i in images.items() if i.path is not None}


def check_unchanged(images: Mapping[str, Image], before: Mapping[str, str]) -> None:
    """Refuse an image that is not the one that the run began with.

    Raises
    ------
    ImageReadError
        A file was changed, or is gone.
    """
    for tensor, image in images.items():
        if image.path is None:
            continue
        try:
            same = fingerprint(image.path) == before[tensor]
            why = "it was changed while it was read, so its result would be of two images."
        except OSError as exc:
            same, why = False, f"it cannot be looked at any more: {exc.strerror or exc}."
        if not same:
            raise ImageReadError(
                path=image.path,
                why=why,
                hint="Wait until nothing writes to it, and run it again from the start.",
            )


def identity(
    model: str,
    info: BackendInfo,
    images: Mapping[str, Image],
    prints: Mapping[str, str],
    plan: TilePlan,
    options: Mapping[str, object],
) -> dict[str, str]:
    """The parts that say whether a run is another one's continuation, in words."""
    ran = replace(info, notes=())
    return {
        "model": model,
        "backend": repr(ran),
        "image": repr([(t, i.axes, i.shape, str(i.dtype)) for t, i in sorted(images.items())]),
        "image files": repr(sorted(prints.items())),
        "tiles": hashlib.sha256(repr(plan).encode()).hexdigest(),
        **{name: repr(value) for name, value in options.items()},
    }
