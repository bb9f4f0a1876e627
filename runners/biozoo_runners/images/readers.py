"""Which reader opens a path: the built-in ones, then those of installed plug-ins."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from biozoo.axes import SPACE
from biozoo.errors import ImageReadError, MissingFileError

from . import bioio_reader, npy, ome_zarr, raster, tiff
from .base import Image, ImageReader
from .decoding import reading

GROUP = "biozoo.images"
#: Also named as entry points; listed here so that opening a TIFF need not search all packages.
BUILT_IN: dict[str, ImageReader] = {
    "tiff": tiff.READER,
    "raster": raster.READER,
    "npy": npy.READER,
    "ome-zarr": ome_zarr.READER,
    "bioio": bioio_reader.READER,
}
_FORMATS = "TIFF, OME-TIFF, ImageJ hyperstack, PNG, JPEG, npy, OME-Zarr, CZI, LIF, ND2"
_HEAD = 512


def open_image(
    path: str | Path,
    *,
    axes: str | Sequence[str] | None = None,
    scene: int | None = None,
    pixel_size: Mapping[str, float] | None = None,
) -> Image:
    """Open an image file; pixels are read later, by `Image.read`.

    The reader is chosen by the file's content, not its name.

    Parameters
    ----------
    path
        A file, or an OME-Zarr folder.
    axes
        One axis per dimension, slowest first: "zyx" or axis ids. They win over the file's own.
        Needed where the file has more than two dimensions and does not name them.
    scene
        Which image of a file that holds several (OME series); the first by default.
    pixel_size
        Micrometres along z, y and x, in place of what the file says; empty for unknown.

    Raises
    ------
    MissingFileError
        Where there is no such file.
    ImageReadError
        For an unknown format, or a damaged or truncated file.
    AxesError
        Where axes are needed, or the given ones do not fit.
    UsageError
        For a scene that the file does not have.
    """
    path = Path(path).expanduser()
    with reading(path):
        found = path.exists()  # a folder that may not be looked into hides what it holds
    if not found:
        raise MissingFileError(what="The image", path=path, hint=similar(path))
    head = b""
    if not path.is_dir():
        with reading(path), path.open("rb") as file:
            head = file.read(_HEAD)
        if not head:
            raise ImageReadError(
                path=path, why="the file is empty (0 bytes).", hint="Copy or download it again."
            )
    for reader in _readers():
        if reader.claims(path, head):
            image = reader.open(path, axes=axes, scene=scene)
            return image if pixel_size is None else _with_pixel_size(image, pixel_size)
    raise _unknown(path, head)


def _with_pixel_size(image: Image, given: Mapping[str, float]) -> Image:
    """The image with these micrometres; what it says of time stays."""
    own = {a: float(v) for a, v in given.items() if a in image.axes}
    sizes = {a: v for a, v in image.pixel_size.items() if a not in SPACE}
    units = {a: v for a, v in image.unit.items() if a in sizes}
    return replace(image, pixel_size=sizes | own, unit=units | dict.fromkeys(own, "micrometer"))


def suffixes() -> tuple[str, ...]:
    """File name endings of every reader, lower case."""
    return tuple(s for reader in _readers() for s in reader.suffixes)


def _readers() -> Iterator[ImageReader]:
    """Built-in readers first: plug-ins are searched for only when no other claims a file."""
    yield from BUILT_IN.values()
    yield from _plugins()[0].values()


@cache
def _plugins() -> tuple[dict[str, ImageReader], dict[str, str]]:
    from biozoo.plugins import load_group

    found = load_group(GROUP)
    extra, failed = dict[str, ImageReader](), dict(found.failed)
    for name, plugin in found.loaded.items():
        if isinstance(plugin, ImageReader):
            extra[name] = plugin
        else:
            failed[name] = "it has no suffixes, claims and open"
    return {n: r for n, r in extra.items() if n not in BUILT_IN}, failed


def similar(path: Path) -> str:
    """A hint for a path that does not exist: files beside it of almost that name."""
    try:
        others = [p.name for p in path.parent.iterdir()]
    except OSError:
        return f"Nor does its folder, {path.parent}."
    near = difflib.get_close_matches(path.name, others, n=3, cutoff=0.7)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _unknown(path: Path, head: bytes) -> ImageReadError:
    failed = "".join(
        f" The plug-in {n} could not be loaded: {w}." for n, w in _plugins()[1].items()
    )
    ending = "".join(path.suffixes[-2:]).lower()
    if path.is_dir():
        return ImageReadError(
            path=path,
            why="it is a folder without OME-Zarr metadata.",
            hint="Name an image in it, or the folder with the .zattrs or zarr.json of the image."
            + failed,
        )
    if ending.endswith(suffixes()):
        page = head.lstrip()[:15].lower().startswith((b"<!doctype", b"<html"))
        kind = "a web page" if page else "something else, or damaged"
        return ImageReadError(
            path=path,
            why=f"its name ends in {path.suffix}, its content does not: it is {kind}.",
            hint="Download it again." if page else "Get it again from its source.",
        )
    return ImageReadError(
        path=path,
        why=f"its kind{f' ({path.suffix})' if path.suffix else ''} is not known. "
        f"These are read: {_FORMATS}.",
        hint=f"Open others in Fiji (Bio-Formats) and save as OME-TIFF.{failed}",
    )
