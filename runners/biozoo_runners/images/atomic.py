"""Write beside, then rename: a reader never sees half a file, and nothing half-written stays."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from biozoo.errors import BiozooError, StorageError

_WHY = {
    errno.ENOSPC: ("the disk is full", "Free some space, or choose a folder on another disk."),
    errno.EFBIG: ("it would be larger than a file may be here", ""),
    errno.EDQUOT: ("your disk quota is used up", "Free some space, or choose another folder."),
    errno.EACCES: ("there is no permission to write there", ""),
    errno.EPERM: ("there is no permission to write there", ""),
    errno.EROFS: ("that disk can only be read", ""),
    errno.ENAMETOOLONG: ("its name is too long", "Choose a shorter name."),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", ""),
    errno.EEXIST: ("a part of the path is a file, not a folder", ""),
}


@contextlib.contextmanager
def written_beside(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A hidden path in the same folder, renamed to `path` at the end, removed on any failure.

    The parent folders are made where they are missing. An existing file, or folder where `folder`
    says that the output is one, is replaced only once the new one is complete.

    Raises
    ------
    StorageError
        For no space, no permission, or something else in the way.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    with storage_errors(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir() and not folder:
                raise StorageError(
                    path=path, why="it is a folder", hint="Choose another file name."
                )
            yield part
            if folder and path.exists():
                _swap(part, path)
            else:
                os.replace(part, path)
        except BaseException:  # Ctrl-C too
            remove(part)
            raise


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Failures of writing, told as a `StorageError` of `path` that says what to do."""
    try:
        yield
    except BiozooError:
        raise
    except OSError as exc:
        # numpy tells of a part that was written by a bare OSError without a number.
        number = exc.errno or errno.ENOSPC
        why, hint = _WHY.get(number, (str(exc.strerror or exc).lower(), ""))
        raise StorageError(path=path, why=why, hint=hint) from exc


def flush(path: Path) -> None:
    """Wait until a file, and its name in its folder, are on the disk: a loss of power is survived.

    Nothing is done for a file that does not exist.
    """
    with contextlib.suppress(FileNotFoundError):
        for node in (path, path.parent):
            if os.name != "posix" and node.is_dir():  # Windows opens no folders
                continue
            handle = os.open(node, os.O_RDONLY if os.name == "posix" else os.O_RDWR)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)


def check_folder(folder: Path) -> None:
    """Ask before long work whether files can be written into a folder; makes nothing.

    Raises
    ------
    StorageError
        If it, or the nearest folder above it that exists, may not be written to.
    """
    existing = next((p for p in (folder, *folder.absolute().parents) if os.path.lexists(p)), folder)
    if not existing.is_dir():
        raise StorageError(path=folder, why=_WHY[errno.ENOTDIR][0])
    if not os.access(existing, os.W_OK | os.X_OK):
        raise StorageError(path=folder, why=_WHY[errno.EACCES][0])


def _swap(part: Path, path: Path) -> None:
    """Put a complete folder (or file) in the place of an existing one."""
    old = path.with_name(f".{path.name}.{secrets.token_hex(4)}.old")
    os.rename(path, old)
    try:
        os.rename(part, path)
    except BaseException:
        os.rename(old, path)
        raise
    remove(old)


def remove(path: Path) -> None:
    """Remove a file or a folder with all that is in it, as far as that is possible."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
