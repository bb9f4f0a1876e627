"""One opened image of a session: its file, its description, its levels."""

from __future__ import annotations

import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from biozoo.errors import BiozooError

from .description import Description, Kind, describe
from .errors import told_as
from .keeping import Share
from .planes import Planes
from .pyramid import Pyramid
from .source import Source, open_source


@dataclass(frozen=True, eq=False)
class OpenedImage:
    """An image of a session.

    Attributes
    ----------
    path
        The file or folder.
    axes
        One letter per dimension where the user corrected them; a run must be told the same.
    pixel_size
        Micrometres per axis where the user corrected them.
    scene
        Which image of a file of several, where the user chose it.
    owned
        Folder to be removed with the image, None where the file is not the server's.
    share
        What it takes of what its session may keep.
    """

    id: str
    owner: str
    path: Path
    source: Source
    pyramid: Pyramid
    description: Description
    axes: str | None = None
    kind: Kind | None = None
    pixel_size: Mapping[str, float] | None = None
    scene: int | None = None
    owned: Path | None = None
    share: Share | None = None


@dataclass(frozen=True)
class Said:
    """What a user says about an image; None leaves it to the file."""

    axes: str | None = None
    kind: Kind | None = None
    pixel_size: Mapping[str, float] | None = None
    scene: int | None = None


def open_as(
    path: Path,
    said: Said,
    *,
    image_id: str,
    owner: str,
    name: str,
    levels: Path,
    planes: Planes,
    allowed: Sequence[Path] = (),
    owned: Path | None = None,
    share: Share | None = None,
    version: int = 1,
    result: bool = False,
) -> OpenedImage:
    """Open and describe a file.

    Parameters
    ----------
    levels
        Folder for the image's coarse levels; one of its own is made in it.
    allowed
        Where further files of the image may lie.
    result
        Whether a run or a preview made it.

    Raises
    ------
    BiozooError
        As `open_source`, in terms of the image's name.
    """
    scratch = levels / secrets.token_hex(4)
    try:
        source = open_source(path, scratch, axes=said.axes, allowed=allowed, scene=said.scene)
        description = describe(
            source,
            image_id=image_id,
            name=name,
            kind=said.kind,
            pixel_size=said.pixel_size,
            version=version,
            result=result,
        )
    except BaseException as exc:
        shutil.rmtree(scratch, ignore_errors=True)
        if isinstance(exc, BiozooError):
            told_as(told_as(exc, scratch / "pixels.npy", name), path, name)
        raise
    pyramid = Pyramid(
        source,
        np.dtype(description.pixels),
        labels=description.kind == "labels",
        folder=scratch,
        planes=planes,
    )
    return OpenedImage(
        image_id,
        owner,
        path,
        source,
        pyramid,
        description,
        axes=said.axes,
        kind=said.kind,
        pixel_size=said.pixel_size,
        scene=said.scene,
        owned=owned,
        share=share,
    )
