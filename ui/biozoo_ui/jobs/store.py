"""The list of jobs in SQLite: the one module that knows of it (standard library).

A connection per call: calls come from many threads and last a millisecond. The database keeps its
rollback journal, as the write-ahead log does not work on network disks. Who finds it locked waits
for `patience` seconds and is then told so.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from biozoo.errors import StorageError
from biozoo.files import writing

from .model import ACTIVE, Choices, Job, JobFile, JobImage, JobsBusyError, State

_VERSION = 1

_TABLE = """
CREATE TABLE IF NOT EXISTS jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL, model TEXT NOT NULL, version TEXT, digest TEXT NOT NULL,
    image TEXT NOT NULL, choices TEXT NOT NULL, state TEXT NOT NULL,
    created TEXT NOT NULL, started TEXT, ended TEXT,
    tiles_done INTEGER NOT NULL, tiles_total INTEGER NOT NULL, tiles_kept INTEGER NOT NULL,
    error TEXT NOT NULL, report TEXT, files TEXT NOT NULL, server TEXT NOT NULL
)"""
_INDEX = "CREATE INDEX IF NOT EXISTS jobs_of_owner ON jobs (owner)"


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text)


#: Column -> how a value is written and read; None stays None.
_COLUMNS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    **dict.fromkeys(("id", "owner", "model", "version", "digest", "state"), (str, str)),
    "image": (lambda v: json.dumps(v.to_dict()), lambda t: JobImage.from_dict(json.loads(t))),
    "choices": (lambda v: json.dumps(v.to_dict()), lambda t: Choices.from_dict(json.loads(t))),
    **dict.fromkeys(("created", "started", "ended"), (datetime.isoformat, _time)),
    **dict.fromkeys(("tiles_done", "tiles_total", "tiles_kept"), (int, int)),
    "error": (str, str),
    "report": (json.dumps, json.loads),
    "files": (
        lambda v: json.dumps([asdict(file) for file in v]),
        lambda t: tuple(JobFile(**file) for file in json.loads(t)),
    ),
    "server": (str, str),
}


class JobStore:
    """Jobs in one file.

    Parameters
    ----------
    path
        The database; made where it is missing.
    patience
        Seconds to wait for another program that holds it.

    Raises
    ------
    StorageError
        Here and in every method: the file cannot be used, the disk is full.
    JobsBusyError
        Likewise: another program holds it.
    """

    def __init__(self, path: Path, *, patience: float = 2.0) -> None:
        self.path, self._patience = path, patience
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
        self._ready = False

    def add(self, job: Job) -> None:
        """Keep a new job."""
        values = _write({name: getattr(job, name) for name in _COLUMNS})
        marks = ", ".join("?" * len(values))
        with self._open() as db:
            db.execute(
                f"INSERT INTO jobs ({', '.join(values)}) VALUES ({marks})", [*values.values()]
            )

    def get(self, job_id: str) -> Job | None:
        """The job of this id, None where there is none."""
        return next(iter(self._select("id = ?", job_id)), None)

    def of_owner(self, owner: str) -> list[Job]:
        """All jobs of a session, the newest first."""
        return self._select("owner = ?", owner)

    def active(self) -> list[Job]:
        """All jobs that wait or run, of any server."""
        return self._select(f"state IN ({', '.join('?' * len(ACTIVE))})", *ACTIVE)

    def change(
        self,
        job_id: str,
        fields: Mapping[str, Any],
        *,
        only: Collection[State],
        patience: float | None = None,
    ) -> bool:
        """Set fields of a job if its state is one of `only`; False where it is not.

        Asking and setting are one step: of two that want the same change one gets it.
        """
        values = _write(fields)
        sets = ", ".join(f"{name} = ?" for name in values)
        states = ", ".join("?" * len(only))
        with self._open(patience) as db:
            done = db.execute(
                f"UPDATE jobs SET {sets} WHERE id = ? AND state IN ({states})",
                [*values.values(), job_id, *only],
            )
            return done.rowcount == 1

    def remove(self, job_id: str) -> None:
        """Forget a job; nothing happens where it is not there."""
        with self._open() as db:
            db.execute("DELETE FROM jobs WHERE id = ?", [job_id])

    def _select(self, where: str, *values: str) -> list[Job]:
        names = ", ".join(_COLUMNS)
        with self._open() as db:
            rows = db.execute(
                f"SELECT {names} FROM jobs WHERE {where} ORDER BY number DESC", values
            ).fetchall()
        return [_read(row) for row in rows]

    @contextlib.contextmanager
    def _open(self, patience: float | None = None) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, kept if the block ends well."""
        wait = self._patience if patience is None else patience
        self._ready = self._ready and self.path.exists()  # a damaged one may be moved away
        try:
            with contextlib.closing(sqlite3.connect(self.path, timeout=wait)) as db, db:
                if not self._ready:
                    self._prepare(db)
                yield db
        except sqlite3.Error as exc:
            raise _told(self.path, exc) from exc

    def _prepare(self, db: sqlite3.Connection) -> None:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found > _VERSION:
            raise StorageError(
                path=self.path,
                why="it was made by a newer biozoo",
                hint="Install the newest biozoo, or use another BIOZOO_HOME.",
            )
        db.execute(_TABLE)
        db.execute(_INDEX)
        db.execute(f"PRAGMA user_version = {_VERSION}")
        self._ready = True


def _write(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {n: None if v is None else _COLUMNS[n][0](v) for n, v in fields.items()}


def _read(row: tuple[Any, ...]) -> Job:
    pairs = zip(_COLUMNS.items(), row, strict=True)
    fields: dict[str, Any] = {n: None if v is None else read(v) for (n, (_, read)), v in pairs}
    return Job(**fields)


def _told(path: Path, exc: sqlite3.Error) -> StorageError:
    """The error that a person is told of one of SQLite's."""
    code = getattr(exc, "sqlite_errorcode", 0) & 0xFF  # the rest of it says in which call
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return JobsBusyError(
            path=path,
            why="another program holds the list of jobs",
            hint="Close what has this file open, or try again in a moment.",
        )
    if code == sqlite3.SQLITE_FULL:
        return StorageError(path=path, why="the disk is full", hint="Free some space, then retry.")
    if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
        return StorageError(
            path=path,
            why="the list of jobs is damaged",
            hint="Move this file away; a new list is begun, results stay in the folders beside it.",
        )
    return StorageError(path=path, why=str(exc), hint="Set BIOZOO_HOME to another folder.")
