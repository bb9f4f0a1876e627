"""An OME-Zarr in a zip, as a browser can send it: unpacked, with nothing outside of its folder."""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from biozoo.archive import is_zip, members
from biozoo.errors import ImageReadError, UnsafeArchiveError
from biozoo.files import check_space, copy_file, writing

from .keeping import Share
from .paths import safe_name

_MARKERS = ("zarr.json", ".zgroup", ".zattrs", ".zarray")
_MOST_FILES = 500_000
_BROKEN = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, OSError)


def is_zipped(path: Path) -> bool:
    """Whether a file is a zip, by its name or its content."""
    return path.is_file() and is_zip(path)


class NoZarrError(ImageReadError):
    """A zip that holds no OME-Zarr."""


def unpack_zarr(path: Path, folder: Path, share: Share) -> Path:
    """Unpack the one OME-Zarr of a zip below `folder`; where it lies then.

    Parameters
    ----------
    share
        Grows by its size, as far as its session may.

    Raises
    ------
    ImageReadError
        The zip is damaged, may not be unpacked, or holds no Zarr or several.
    TooMuchKeptError, StorageError
        There is no room for it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            found = members(archive, name=path.name, max_bytes=2**62, max_files=_MOST_FILES)
            top = _the_zarr(path, found)
            inside = {
                str(PurePosixPath(name).relative_to(top)): info
                for name, info in found.items()
                if PurePosixPath(name).is_relative_to(top)
            }
            total = sum(info.file_size for info in inside.values())
            check_space(folder, total)
            share.add(total, path.name)
            target = folder / "unpacked" / _name(path, top)
            with writing(folder):
                for name, info in inside.items():
                    place = target / name
                    place.parent.mkdir(parents=True, exist_ok=True)
                    with _decoding(path), archive.open(info) as member:
                        size, _ = copy_file(member, place, limit=info.file_size)
                    if size != info.file_size:
                        raise _broken(path, f"{name} is not of the size that it says")
    except UnsafeArchiveError as exc:
        raise ImageReadError(
            path=path.name,
            why=f"it was not unpacked, since in it {exc.member} {exc.why}.",
            hint="Zip the OME-Zarr folder anew.",
        ) from exc
    except zipfile.BadZipFile as exc:
        raise _broken(path, str(exc)) from exc
    return target


@contextmanager
def _decoding(path: Path) -> Iterator[None]:
    """Tell what a damaged member makes its decoder raise from what the disk refuses."""
    try:
        yield
    except _BROKEN as exc:
        if isinstance(exc, OSError) and exc.errno is not None:
            raise
        raise _broken(path, str(exc)) from exc


def _broken(path: Path, why: str) -> ImageReadError:
    return ImageReadError(
        path=path.name,
        why=f"it is no complete zip file ({why.rstrip('.')}).",
        hint="Copy or download it again, or zip the OME-Zarr folder anew.",
    )


def _the_zarr(path: Path, names: Iterable[str]) -> PurePosixPath:
    """The folder in the zip that is the one Zarr in it."""
    nodes = {PurePosixPath(n).parent for n in names if PurePosixPath(n).name in _MARKERS}
    tops = sorted(node for node in nodes if nodes.isdisjoint(node.parents))
    if not tops:
        raise NoZarrError(
            path=path.name,
            why="it is a zip without an OME-Zarr in it.",
            hint="Unpack it and open its images one by one.",
        )
    if len(tops) > 1:
        listed = ", ".join(map(str, tops[:5])) + (", ..." if len(tops) > 5 else "")
        raise ImageReadError(
            path=path.name,
            why=f"it is a zip of {len(tops)} OME-Zarr images: {listed}.",
            hint="Zip the one that you want to open by itself.",
        )
    return tops[0]


def _name(path: Path, top: PurePosixPath) -> str:
    """What the folder is called: as in the zip, else as the zip; with an ending that says it."""
    name = top.name or (path.stem if path.suffix.lower() == ".zip" else path.name)
    return safe_name(name if name.lower().endswith(".zarr") else f"{name}.zarr")
