"""Which servers live: each holds a lock file that the system releases when its process ends."""

from __future__ import annotations

import contextlib
import secrets
from pathlib import Path

from filelock import FileLock, Timeout

from biozoo.closing import Closing
from biozoo.files import writing


class Server(Closing):
    """One server of those that share a folder of jobs; `id` is its name in their records."""

    def __init__(self, folder: Path) -> None:
        """Begin to live.

        Raises
        ------
        StorageError
            The folder may not be written to.
        """
        self.id = secrets.token_hex(8)
        self._folder = folder
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Not of one thread: who ends a server is not who began it.
            self._lock = FileLock(self._path(self.id), thread_local=False)
            self._lock.acquire()

    def lives(self, server: str) -> bool:
        """Whether the server of this id does; one that has ended loses its lock file."""
        if server == self.id:
            return True
        path = self._path(server)
        if not server.isalnum() or not path.exists():
            return False
        lock = FileLock(path)
        try:
            with lock.acquire(timeout=0):
                pass
        except Timeout:
            return True
        except OSError:  # not ours to open: do not take from it what it may be running
            return True
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        return False

    def close(self) -> None:
        """End; may be called twice."""
        self._lock.release()
        with contextlib.suppress(OSError):
            self._path(self.id).unlink(missing_ok=True)

    def _path(self, server: str) -> Path:
        return self._folder / f"{server}.lock"
