"""How jobs ended, written down now or when it can be; and jobs whose server was killed."""

from __future__ import annotations

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from .model import ACTIVE, Job
from .servers import Server
from .store import JobStore
from .worker import count_tiles, end

INTERRUPTED = (
    "The server ended first. {} of {} tiles are kept: resume the job to compute the others."
)


class Ledger:
    """Jobs that ended here and are not in the list yet: it may be held, or the disk full.

    Attributes
    ----------
    lock
        Held while one is put here and taken from where it ran.
    """

    def __init__(self, store: JobStore, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._ended: dict[str, Job] = {}
        self.lock = threading.Lock()

    def get(self, job_id: str) -> Job | None:
        """A job that is held here."""
        return self._ended.get(job_id)

    def hold(self, job: Job) -> None:
        """Keep how a job ended; the caller has the lock."""
        self._ended[job.id] = job

    def write(self) -> None:
        """Write all of it down; a job that is done loses its tiles.

        Raises
        ------
        StorageError
            That is not possible yet.
        """
        names = ("state", "digest", "started", "ended", "error", "report", "files")
        tiles = ("tiles_done", "tiles_total", "tiles_kept")
        done = []
        try:
            with self.lock:
                for job in list(self._ended.values()):
                    self._store.change(job.id, fields_of(job, *names, *tiles), only=ACTIVE)
                    del self._ended[job.id]
                    done += [job.id] if job.state == "done" else []
        finally:  # only now: a kill before this line leaves them resumable
            for job_id in done:
                shutil.rmtree(self._folder / job_id / "tiles", ignore_errors=True)


def recover(store: JobStore, server: Server, folder: Path) -> None:
    """Write down that the jobs of servers that have ended are interrupted.

    Raises
    ------
    StorageError
        The list cannot be used.
    """
    for job in store.active():
        if not server.lives(job.server):
            there = min(count_tiles(folder, job), job.tiles_total)
            told = INTERRUPTED.format(there, job.tiles_total)
            over = replace(end(job, "interrupted", told), tiles_done=there)
            store.change(
                job.id, fields_of(over, "state", "ended", "error", "tiles_done"), only=ACTIVE
            )


def fields_of(job: Job, *names: str) -> dict[str, Any]:
    """Some fields of a job by name."""
    return {name: getattr(job, name) for name in names}
