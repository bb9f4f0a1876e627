"""Zip packages: every member is checked before the first byte is written.

Refused are absolute paths, `..`, drive letters, backslashes, links and other special files,
encrypted members, two members of one name on whatever file system, and archives that are too many
files, too large, or that unpack to far more than they are (zip bombs). Sizes in the archive are
claims: what is really unpacked is counted again.
"""

from __future__ import annotations

import errno
import lzma
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePath, PurePosixPath

from .errors import BiozooError, InvalidPackageError, MissingFileError, UnsafeArchiveError
from .files import LITTER, check_space, copy_file, writing
from .rdf import is_rdf_name, safe_relative
from .records import RECORD

__all__ = ["extract", "is_zip", "members"]

#: An archive of more than BOMB_BYTES may not grow by more than BOMB_RATIO when unpacked. Weights
#: hardly shrink; all-zero test tensors shrink a thousandfold but are small.
BOMB_RATIO = 100
BOMB_BYTES = 256 * 2**20

#: What a broken or truncated zip makes `zipfile` and its decompressors raise.
_BROKEN = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    NotImplementedError,
    OSError,
    UnicodeDecodeError,
    OverflowError,
)

#: Litter of operating systems, and the record of a model that was zipped out of a zoo.
_LEFT_OUT = (*LITTER, RECORD)

Step = Callable[[int, int], None]


def is_zip(path: Path) -> bool:
    """Whether a file is named or looks like a zip."""
    if path.suffix.lower() == ".zip":
        return True
    try:
        with path.open("rb") as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except OSError:
        return False


def members(
    archive: zipfile.ZipFile, *, name: str, max_bytes: int, max_files: int
) -> dict[str, zipfile.ZipInfo]:
    """The files of an archive by their relative path, all of them safe to write.

    Raises
    ------
    UnsafeArchiveError
        For the first member that may not be written, or for the archive as a whole.
    """
    found: dict[str, zipfile.ZipInfo] = {}
    folded: set[str] = set()
    total = packed = 0
    for info in archive.infolist():
        member = info.filename
        if member.startswith("__MACOSX/") or PurePosixPath(member).name in _LEFT_OUT:
            continue
        path = safe_relative(info.orig_filename.rstrip("/"))
        if path is None:
            raise UnsafeArchiveError(archive=name, member=member, why="would leave the folder")
        kind = stat.S_IFMT(info.external_attr >> 16)
        if kind == stat.S_IFLNK:
            raise UnsafeArchiveError(archive=name, member=member, why="is a link")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise UnsafeArchiveError(archive=name, member=member, why="is a special file")
        if info.is_dir():
            continue
        if info.flag_bits & 0x1:
            raise UnsafeArchiveError(archive=name, member=member, why="is encrypted")
        if (key := _folded(path)) in folded:
            raise UnsafeArchiveError(archive=name, member=member, why="is there twice")
        folded.add(key)
        found[str(path)] = info
        total += info.file_size
        packed += info.compress_size
        if len(found) > max_files:
            raise UnsafeArchiveError(
                archive=name, member=member, why=f"is beyond the {max_files:,} files allowed"
            )
        if total > max_bytes:
            raise UnsafeArchiveError(
                archive=name,
                member=member,
                why=f"is beyond the {max_bytes / 2**30:g} GB allowed (BIOZOO_MAX_GB)",
            )
    for below in found:
        if any(_folded(parent) in folded for parent in PurePosixPath(below).parents):
            raise UnsafeArchiveError(archive=name, member=below, why="lies in a file")
    packed = min(packed, archive.start_dir)  # members that overlap claim the same bytes again
    if total > BOMB_BYTES and total > BOMB_RATIO * max(packed, 1):
        largest = max(found, key=lambda path: found[path].file_size)
        raise UnsafeArchiveError(
            archive=name,
            member=largest,
            why=f"makes it unpack to {total / max(packed, 1):.0f} times its size (a zip bomb)",
        )
    return found


def extract(
    path: Path,
    target: Path,
    *,
    max_bytes: int,
    max_files: int,
    step: Step | None = None,
    source: str | None = None,
) -> dict[str, tuple[int, str]]:
    """Unpack a zip package into the existing folder `target`.

    Parameters
    ----------
    step
        Called with (bytes done, bytes in all) after each member.
    source
        How messages name the archive; default its path.

    Returns
    -------
    dict
        Relative path -> (size in bytes, sha256) of every file written. Where the archive holds one
        folder with the description in it, paths are relative to that folder.

    Raises
    ------
    MissingFileError, InvalidPackageError, UnsafeArchiveError, StorageError
    """
    name = source or str(path)
    try:
        with zipfile.ZipFile(path) as archive:
            found = members(archive, name=name, max_bytes=max_bytes, max_files=max_files)
            inside = _package_folder(found, name)
            total = sum(info.file_size for info in found.values())
            check_space(target, total)
            written: dict[str, tuple[int, str]] = {}
            done = 0
            for relative, info in found.items():
                below = relative.removeprefix(inside)
                written[below] = _unpack_one(archive, info, target / below)
                done += info.file_size
                if written[below][0] != info.file_size:
                    raise UnsafeArchiveError(
                        archive=name, member=relative, why="is not of the size the archive claims"
                    )
                if step is not None:
                    step(done, total)
            return written
    except BiozooError:
        raise
    except FileNotFoundError as exc:
        raise MissingFileError(what="The package", path=path) from exc
    except PermissionError as exc:
        raise MissingFileError(what="The package", path=path, hint="It may not be read.") from exc
    except _BROKEN as exc:
        raise InvalidPackageError(
            source=name,
            why=f"it is no complete zip file ({exc}); it may be truncated.",
            hint="Fetch it again.",
        ) from exc


def _unpack_one(archive: zipfile.ZipFile, info: zipfile.ZipInfo, place: Path) -> tuple[int, str]:
    """Write one member; its size and sha256."""
    with writing(place.parent):
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(info) as member:
                return copy_file(member, place, limit=info.file_size)
        except OSError as exc:
            if exc.errno in (None, errno.EINVAL):  # bz2's "Invalid data stream", a seek to nowhere
                raise EOFError(str(exc)) from exc
            raise


def _folded(path: PurePath) -> str:
    """The name as file systems may see it that know no case and compose letters."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _package_folder(found: dict[str, zipfile.ZipInfo], name: str) -> str:
    """Prefix of the members that are the package: "" where it is flat, else "folder/"."""
    if any(is_rdf_name(path) for path in found):
        return ""
    tops = {path.split("/", 1)[0] for path in found}
    inner = [p for p in found if p.count("/") == 1 and is_rdf_name(p.split("/", 1)[1])]
    if len(tops) == 1 and inner:
        return f"{tops.pop()}/"
    raise InvalidPackageError(
        source=name,
        why="it holds no description (rdf.yaml), neither at its top nor in one folder.",
        hint="Expected a bioimage.io package; if it is one, zip it again with its rdf.yaml.",
    )
