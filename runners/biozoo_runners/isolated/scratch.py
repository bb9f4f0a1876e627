"""The child's own folder: removed whole, whatever its code has put into it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

__all__ = ["remove"]


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, as far as the system lets.

    Folders may be nested deeper than a path or a recursion can be, or closed to their own owner.
    So each one found is emptied into `folder` itself, one level at a time. Links are not followed.
    """
    moved = 0
    with contextlib.suppress(OSError):
        while inner := _only_folders(folder):
            removed = False
            for path in inner:
                for below in _only_folders(path):
                    moved += 1
                    with contextlib.suppress(OSError):
                        below.rename(folder / f"moved {moved}")
                with contextlib.suppress(OSError):
                    path.rmdir()
                    removed = True
            if not removed:
                return
        folder.rmdir()


def _only_folders(folder: Path) -> list[Path]:
    """Unlink the files of a folder; the folders in it."""
    found = []
    with contextlib.suppress(OSError):
        if stat.S_IMODE(folder.lstat().st_mode) & stat.S_IRWXU != stat.S_IRWXU:
            folder.chmod(stat.S_IRWXU)
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    found.append(Path(entry.path))
                    continue
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
    return found
