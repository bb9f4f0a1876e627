"""A finished package to its place: a zip whose bytes depend on its content alone, or a folder.

Zipped twice, on another day or by another person, the same files give the same bytes: members in
one order, one date, one permission, one level of compression, nothing about the machine.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from biozoo import rdf as rdfs
from biozoo.errors import BiozooError, InvalidPackageError, StorageError
from biozoo.files import CHUNK, LITTER
from biozoo.records import RECORD
from biozoo_runners.images.atomic import written_beside

__all__ = ["check_target", "is_archive", "package_files", "write_package"]

#: The earliest date that a zip can hold.
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_PLAIN_FILE = 0o100644 << 16
_LEVEL = 6

#: What is never part of a package.
_LEFT_OUT = (*LITTER, RECORD, "__pycache__")

#: So many files that would be lost are looked for: a home folder is not read to its end.
_SHOWN = 4


def write_package(folder: Path, target: Path) -> None:
    """Put the package that was made in `folder` at `target`, whole or not at all.

    Parameters
    ----------
    folder
        A package: its description and files; stays as it is.
    target
        What ends in ``.zip`` becomes a zip, everything else a folder. What stands there is replaced
        once the new one is complete and on the disk; a folder only where it holds nothing but a
        package.

    Raises
    ------
    InvalidPackageError
        `folder` holds no description, or a link.
    StorageError
        No space, no permission, or something else stands there.
    """
    check_target(target)
    names = package_files(folder)
    if is_archive(target):
        with written_beside(target) as part, part.open("wb") as file:
            _zip(folder, names, file)
            _to_disk(file.fileno())
    else:
        with written_beside(target, folder=True) as part:
            part.mkdir()
            for name in names:
                place = part / name
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(folder / name, place)
                with place.open("rb+") as file:
                    _to_disk(file.fileno())
    _folder_to_disk(target.parent)


def is_archive(target: Path) -> bool:
    """Whether a path names a zip; else it names a folder."""
    return target.suffix.lower() == ".zip"


def check_target(target: Path) -> None:
    """Ask before long work whether a package may stand at `target`; makes nothing.

    Raises
    ------
    StorageError
        A folder is in the way of a zip, a file in the way of a folder, or a folder that holds more
        than a package, which would be lost.
    """
    from biozoo_runners.images.atomic import check_folder

    check_folder(target.absolute().parent)
    if is_archive(target):
        if target.is_dir():
            raise StorageError(path=target, why="it is a folder", hint="Choose another name.")
        return
    if not os.path.lexists(target):
        return
    if not target.is_dir():
        raise StorageError(
            path=target, why="it is a file", hint="Name a folder, or a file that ends in .zip."
        )
    if others := _not_of_package(target):
        shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
        raise StorageError(
            path=target,
            why=f"the folder holds files that are no part of a package ({shown})",
            hint="They would be lost. Choose an empty folder or another name.",
        )


def package_files(folder: Path) -> list[str]:
    """The relative paths of a package's files: the description first, then by name.

    Raises
    ------
    InvalidPackageError
        There is no description, or a link or other special file among them.
    """
    first = rdfs.find_rdf(folder).name
    names = []
    for path in _below(folder):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink() or not path.is_file():
            why = f"'{name}' is a link or no plain file."
            raise InvalidPackageError(source=folder, why=why, hint="Put the file itself there.")
        names.append(name)
    return sorted(names, key=lambda name: (name != first, name))


def _zip(folder: Path, names: list[str], file: object) -> None:
    with zipfile.ZipFile(file, "w") as archive:  # type: ignore[call-overload]
        for name in names:
            source = folder / name
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system, info.external_attr = _UNIX, _PLAIN_FILE
            info.compress_type = zipfile.ZIP_DEFLATED
            info._compresslevel = _LEVEL  # type: ignore[attr-defined]  # compress_level from 3.13
            info.file_size = source.stat().st_size  # known: no field for sizes to come
            with source.open("rb") as content, archive.open(info, "w") as member:
                shutil.copyfileobj(content, member, CHUNK)


def _below(folder: Path) -> Iterator[Path]:
    """Every file and link below a folder but for what is left out; links are not followed."""
    folders = [folder]
    while folders:  # not by recursion: somebody's folder may be deep
        for entry in folders.pop().iterdir():
            if entry.name in _LEFT_OUT:
                continue
            if entry.is_dir() and not entry.is_symlink():
                folders.append(entry)
            else:
                yield entry


def _not_of_package(folder: Path) -> list[str]:
    """Some of the files in a folder that its own description does not name."""
    try:
        found = rdfs.find_rdf(folder)
        refs = rdfs.file_refs(rdfs.read(found))
        known = {str(PurePosixPath(ref.source)) for ref in refs} | {found.name}
    except BiozooError:
        known = set()
    there = (path.relative_to(folder).as_posix() for path in _below(folder))
    try:
        return sorted(itertools.islice((n for n in there if n not in known), _SHOWN))
    except OSError as exc:
        return [f"{exc.filename}, which cannot be read"]


def _to_disk(number: int) -> None:
    os.fsync(number)


def _folder_to_disk(folder: Path) -> None:
    """Make a rename last; not every system can, and none must."""
    with contextlib.suppress(OSError):
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)
