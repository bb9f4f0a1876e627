"""Writing so that a kill, a full disk or a second process never leaves something half-done.

A folder is filled under a hidden name beside its place (`Staging`) and renamed into it; a file is
written beside its place and renamed. Who died before the rename left a staging folder whose lock
nobody holds; the next one to stage there removes it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import BiozooError, StorageError

__all__ = [
    "CHUNK",
    "LITTER",
    "Staging",
    "check_space",
    "clean_staging",
    "copy_file",
    "sha256_of",
    "size_text",
    "write_atomic",
    "writing",
]

CHUNK = 2**20

#: Files that operating systems leave in folders which somebody looked at.
LITTER = (".DS_Store", "Thumbs.db", "desktop.ini")

STAGING = ".staging-"
_LOCK = ".lock"
_LOCK_LIFETIME = 3600  # seconds after which a lock file without a folder is litter


def size_text(n_bytes: float) -> str:
    """Bytes in the unit people read: 1830 -> "1.83 kB"."""
    size = float(n_bytes)
    for unit in ("B", "kB", "MB"):
        if size < 999.5:
            return f"{size:.0f} B" if unit == "B" else f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"


def sha256_of(path: Path) -> str:
    """Hex sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def copy_file(source: IO[bytes], target: Path, *, limit: int | None = None) -> tuple[int, str]:
    """Copy a stream into a new file; its size in bytes and its sha256.

    With `limit`, copying stops after the first byte beyond it (size is then limit + 1 or more).
    """
    digest, size = hashlib.sha256(), 0
    with target.open("xb") as out:
        while chunk := source.read(CHUNK):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
            if limit is not None and size > limit:
                break
    return size, digest.hexdigest()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell what the system refuses to write below `path` as a StorageError."""
    shown = path.parent if path.name.startswith(STAGING) else path
    try:
        yield
    except BiozooError:
        raise
    except OSError as exc:
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StorageError(
                path=shown,
                why="no space is left on the disk",
                hint="Free some space, or choose another folder with BIOZOO_HOME.",
            ) from exc
        if exc.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST):
            raise StorageError(
                path=shown,
                why=f"it is not a folder one may write to ({exc.strerror})",
                hint="Choose another folder with BIOZOO_HOME, or ask for the permission.",
            ) from exc
        raise StorageError(path=shown, why=exc.strerror or str(exc)) from exc


def check_space(folder: Path, wanted: int) -> None:
    """Refuse before writing what cannot fit.

    Raises
    ------
    StorageError
        Where fewer than `wanted` bytes are free at `folder` (or its nearest existing parent).
    """
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    free = shutil.disk_usage(place).free
    if wanted > free:
        raise StorageError(
            path=folder,
            why=f"{wanted / 2**20:,.0f} MB are needed, {free / 2**20:,.0f} MB are free",
            hint="Free some space, or choose another folder with BIOZOO_HOME.",
        )


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with writing(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


class Staging:
    """A folder below `parent` that is filled first and then renamed to its place.

        with Staging(models) as staging:
            ...                                  # fill staging.path
            placed = staging.place(models / "id" / "1.0")

    Leaving without `place` removes what was filled. A lock file, released by the system when its
    process ends in whatever way, tells a staging folder in use from a leftover.
    """

    def __init__(self, parent: Path) -> None:
        self.parent = parent
        self.path = parent

    def __enter__(self) -> Staging:
        from filelock import FileLock

        with writing(self.parent):
            self.parent.mkdir(parents=True, exist_ok=True)
            clean_staging(self.parent)
            self.path = self.parent / f"{STAGING}{uuid.uuid4().hex}"
            self._lock = FileLock(f"{self.path}{_LOCK}")
            self._lock.acquire()
            self.path.mkdir()
        return self

    def place(self, target: Path) -> bool:
        """Rename to `target`; False where something already stands there (it is left alone)."""
        with writing(target):
            while True:
                try:
                    target.parent.mkdir(parents=True, exist_ok=True)
                    os.rename(self.path, target)
                    return True
                except FileNotFoundError:  # a removal took the parent away in between
                    if not self.path.exists():
                        raise
                except FileExistsError:
                    if target.is_dir():
                        return False
                    if target.parent.exists():  # else that removal came amid mkdir
                        raise
                except OSError as exc:
                    if exc.errno in (errno.EEXIST, errno.ENOTEMPTY) or target.is_dir():
                        return False
                    raise

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()  # first: Windows deletes no file that is open
        with contextlib.suppress(OSError):
            Path(self._lock.lock_file).unlink(missing_ok=True)


def clean_staging(parent: Path) -> int:
    """Remove what processes that are gone left unfinished; how many folders that were.

    A process locks first and makes its folder then, so a folder whose lock can be had has no
    owner. Lock files without a folder are left for an hour: their owner may be about to make it.
    """
    from filelock import FileLock, Timeout

    removed = 0
    for entry in list(parent.glob(f"{STAGING}*")):
        is_lock = entry.name.endswith(_LOCK)
        if is_lock and (_age(entry) < _LOCK_LIFETIME or entry.with_suffix("").exists()):
            continue
        lock = FileLock(entry if is_lock else f"{entry}{_LOCK}")
        try:
            with lock.acquire(timeout=0):
                if not is_lock:
                    shutil.rmtree(entry, ignore_errors=True)
                    removed += 1
            with contextlib.suppress(OSError):
                Path(lock.lock_file).unlink(missing_ok=True)
        except Timeout:
            continue
    return removed


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
