"""Coarse levels of planes on disk: each made once, the newest asked for first, the oldest removed.

They are written with plain writes, not through a memory map: on a full disk a write is an error
that can be told, a touched page of a map ends the process.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from biozoo.errors import BiozooError, Cancelled, StorageError

Build = Callable[[Path], None]
"""Writes the file of the path it is given."""


class Planes:
    """Files that are made on demand.

    Parameters
    ----------
    most_bytes
        What they may take together; the one last used longest ago goes first.
    """

    def __init__(self, *, most_bytes: int = 4 * 2**30) -> None:
        self._most = most_bytes
        self._lock = threading.Lock()
        self._ready: OrderedDict[Path, int] = OrderedDict()
        self._waiting: OrderedDict[Path, tuple[Build, Future[None]]] = OrderedDict()
        self._running: dict[Path, Future[None]] = {}
        #: Reads and reduces what the makers of files below ask for; they only wait for it.
        self.blocks = ThreadPoolExecutor(os.cpu_count() or 1, "biozoo-blocks")
        self._threads = ThreadPoolExecutor(max(2, os.cpu_count() or 2), "biozoo-planes")
        self._closed = False

    def ensure(self, path: Path, build: Build) -> Future[None] | None:
        """None where the file is there; else a future of when it is, or of why it cannot be."""
        with self._lock:
            if path in self._ready:
                self._ready.move_to_end(path)
                return None
            if path in self._running:
                return self._running[path]
            if path in self._waiting:
                self._waiting.move_to_end(path)
                return self._waiting[path][1]
            future: Future[None] = Future()
            future.set_running_or_notify_cancel()
            if self._closed:
                future.set_exception(Cancelled("The image"))
                return future
            self._waiting[path] = (build, future)
        self._threads.submit(self._next)
        return future

    def forget(self, path: Path) -> None:
        """Take note that the file is gone."""
        with self._lock:
            self._ready.pop(path, None)

    def forget_below(self, folder: Path) -> None:
        """Take note that all files of a folder are gone, and make no more of those that wait."""
        with self._lock:
            for path in [p for p in self._ready if folder in p.parents]:
                del self._ready[path]
            dropped = [p for p in self._waiting if folder in p.parents]
            futures = [self._waiting.pop(p)[1] for p in dropped]
        for future in futures:
            future.set_exception(Cancelled("The image"))

    def close(self) -> None:
        """Make no more; the files stay with whoever owns their folder."""
        with self._lock:
            self._closed = True
            futures = [future for _, future in self._waiting.values()]
            self._waiting.clear()
        for future in futures:
            future.set_exception(Cancelled("The image"))
        self._threads.shutdown(wait=True)
        self.blocks.shutdown(wait=True)

    def _next(self) -> None:
        """Make the file that was asked for last: whoever moves on wants that one."""
        with self._lock:
            if not self._waiting:
                return
            path, (build, future) = self._waiting.popitem()
            self._running[path] = future
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            build(part)
            part.replace(path)
            size = path.stat().st_size
        except BaseException as exc:
            part.unlink(missing_ok=True)
            with self._lock:
                del self._running[path]
            future.set_exception(_told(path, exc))
            return
        with self._lock:
            del self._running[path]
            self._ready[path] = size
            gone = self._surplus()
        for old in gone:
            old.unlink(missing_ok=True)
        future.set_result(None)

    def _surplus(self) -> list[Path]:
        gone = []
        total = sum(self._ready.values())
        while total > self._most and len(self._ready) > 1:
            path, size = self._ready.popitem(last=False)
            total -= size
            gone.append(path)
        return gone


def _told(path: Path, exc: BaseException) -> BaseException:
    if isinstance(exc, FileNotFoundError) and not isinstance(exc, BiozooError):
        return Cancelled("The image")  # removed while this was under way
    if isinstance(exc, OSError) and not isinstance(exc, BiozooError):
        return StorageError(
            path=path.parent,
            why=str(exc.strerror or exc),
            hint="Make room on the disk of the server.",
        )
    return exc
