"""From what a person typed to a list of image paths: files, globs and folders."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from biozoo.errors import ImageReadError, MissingFileError

from .ome_zarr import is_zarr
from .readers import similar, suffixes


def is_image(path: str | Path) -> bool:
    """Whether `path` is a file or folder that biozoo would read, judged by name and markers."""
    path = Path(path)
    if path.is_dir():
        return is_zarr(path)
    return path.is_file() and path.name.lower().endswith(suffixes())


def find_images(patterns: Sequence[str | Path]) -> list[Path]:
    """Image paths, in the order asked for, each once.

    A file is taken as it is, so that opening it can say why it is no image. A folder gives the
    images directly in it, sorted, hidden ones left out; an OME-Zarr folder is one image. A glob
    that the shell left alone is expanded and gives the images among its matches. Results of
    earlier runs (cells.labels.ome.tif) are images like any other: keep them in another folder.

    Raises
    ------
    MissingFileError
        For a pattern that leads to nothing.
    ImageReadError
        For a folder that may not be looked into.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern).expanduser()
        try:
            found.update(dict.fromkeys(_matches(path)))
        except PermissionError as exc:
            raise ImageReadError(path=path, why="there is no permission to read it.") from exc
    return list(found)


def _matches(path: Path) -> list[Path]:
    """The images that one argument stands for; never none."""
    if path.is_dir() and not is_zarr(path):
        matches, what = _listing(path), "An image in the folder"
        hint = "Folders in it are not searched. "
    elif path.exists():
        return [path]
    elif glob.has_magic(str(path)):
        hits = sorted(glob.glob(str(path), recursive=True))
        matches = [p for p in map(Path, hits) if is_image(p) and not _within_zarr(p)]
        what, hint = "An image that matches", ""
    else:
        raise MissingFileError(what="The image", path=path, hint=similar(path))
    if not matches:
        raise MissingFileError(
            what=what,
            path=path,
            hint=f"{hint}Names of images end in {', '.join(_endings())}.",
        )
    return matches


def _listing(folder: Path) -> list[Path]:
    return sorted(p for p in folder.iterdir() if not p.name.startswith(".") and is_image(p))


def _within_zarr(path: Path) -> bool:
    """Whether a recursive glob walked into an OME-Zarr folder."""
    return any(parent.name.lower().endswith(".zarr") for parent in path.parents)


def _endings() -> list[str]:
    return sorted({"." + s.rsplit(".", 1)[-1] for s in suffixes()})
