"""The list of jobs in SQLite, through SQLAlchemy: the one module that knows of them.

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

import sqlalchemy as sa
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from biozoo.errors import StorageError
from biozoo.files import writing

from .model import ACTIVE, Choices, Job, JobFile, JobImage, JobImages, JobsBusyError, State

_VERSION = 2  # 1 held one image per job; such rows are still read


class _Plain(sa.types.TypeDecorator[Any]):
    """A value kept as text, written and read by functions; None stays None."""

    impl = sa.Text
    cache_ok = True

    def __init__(self, write: Callable[[Any], str], read: Callable[[str], Any]) -> None:
        super().__init__()
        self.write, self.read = write, read

    def process_bind_param(self, value: Any, dialect: sa.Dialect) -> str | None:
        return None if value is None else self.write(value)

    def process_result_value(self, value: Any, dialect: sa.Dialect) -> Any:
        return None if value is None else self.read(value)


def _write_images(images: JobImages) -> str:
    return json.dumps({"images": {tensor: image.to_dict() for tensor, image in images.items()}})


def _read_images(text: str) -> dict[str, JobImage]:
    plain = json.loads(text)
    if "images" not in plain:  # version 1: a path per tensor, all else once
        paths = plain.pop("path")
        plain = {"images": {tensor: plain | {"path": path} for tensor, path in paths.items()}}
    return {tensor: JobImage.from_dict(image) for tensor, image in plain["images"].items()}


def _write_files(files: Collection[JobFile]) -> str:
    return json.dumps([asdict(file) for file in files])


def _read_files(text: str) -> tuple[JobFile, ...]:
    return tuple(JobFile(**file) for file in json.loads(text))


def _write_choices(choices: Choices) -> str:
    return json.dumps(choices.to_dict())


def _read_choices(text: str) -> Choices:
    return Choices.from_dict(json.loads(text))


_Time = _Plain(datetime.isoformat, datetime.fromisoformat)
_Images = _Plain(_write_images, _read_images)
_ChoicesText = _Plain(_write_choices, _read_choices)
_Files = _Plain(_write_files, _read_files)
_Json = _Plain(json.dumps, json.loads)

_TABLES = sa.MetaData()
_JOBS = sa.Table(
    "jobs",
    _TABLES,
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("id", sa.Text, nullable=False, unique=True),
    sa.Column("owner", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("version", sa.Text),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("image", _Images, nullable=False, key="images"),
    sa.Column("choices", _ChoicesText, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("created", _Time, nullable=False),
    sa.Column("started", _Time),
    sa.Column("ended", _Time),
    sa.Column("tiles_done", sa.Integer, nullable=False),
    sa.Column("tiles_total", sa.Integer, nullable=False),
    sa.Column("tiles_kept", sa.Integer, nullable=False),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("report", _Json),
    sa.Column("files", _Files, nullable=False),
    sa.Column("server", sa.Text, nullable=False),
    sa.Index("jobs_of_owner", "owner"),
    sqlite_autoincrement=True,
)
_FIELDS = [column for column in _JOBS.columns if column.key != "number"]


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
        self._engine = sa.create_engine(
            "sqlite://", creator=lambda: sqlite3.connect(path), poolclass=NullPool
        )
        self._ready = False

    def add(self, job: Job) -> None:
        """Keep a new job."""
        with self._open() as db:
            db.execute(sa.insert(_JOBS).values({c.key: getattr(job, c.key) for c in _FIELDS}))

    def get(self, job_id: str) -> Job | None:
        """The job of this id, None where there is none."""
        return next(iter(self._select(_JOBS.c.id == job_id)), None)

    def of_owner(self, owner: str) -> list[Job]:
        """All jobs of a session, the newest first."""
        return self._select(_JOBS.c.owner == owner)

    def active(self) -> list[Job]:
        """All jobs that wait or run, of any server."""
        return self._select(_JOBS.c.state.in_(ACTIVE))

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
        wanted = (_JOBS.c.id == job_id) & _JOBS.c.state.in_(only)
        with self._open(patience) as db:
            done = db.execute(sa.update(_JOBS).where(wanted).values(dict(fields)))
            return bool(done.rowcount == 1)

    def remove(self, job_id: str) -> None:
        """Forget a job; nothing happens where it is not there."""
        with self._open() as db:
            db.execute(sa.delete(_JOBS).where(_JOBS.c.id == job_id))

    def _select(self, where: sa.ColumnElement[bool]) -> list[Job]:
        wanted = sa.select(*_FIELDS).where(where).order_by(_JOBS.c.number.desc())
        with self._open() as db:
            rows = db.execute(wanted).all()
        names = [column.key for column in _FIELDS]
        return [Job(**dict(zip(names, row, strict=True))) for row in rows]

    @contextlib.contextmanager
    def _open(self, patience: float | None = None) -> Iterator[sa.Connection]:
        """A connection for one transaction, kept if the block ends well."""
        wait = self._patience if patience is None else patience
        self._ready = self._ready and self.path.exists()  # a damaged one may be moved away
        try:
            with self._engine.connect() as db:
                db.exec_driver_sql(f"PRAGMA busy_timeout = {round(1000 * wait)}")
                db.commit()
                with db.begin():
                    if not self._ready:
                        self._prepare(db)
                    yield db
        except SQLAlchemyError as exc:
            raise _told(self.path, getattr(exc, "orig", None) or exc) from exc

    def _prepare(self, db: sa.Connection) -> None:
        found = db.exec_driver_sql("PRAGMA user_version").scalar_one()
        if found > _VERSION:
            raise StorageError(
                path=self.path,
                why="it was made by a newer biozoo",
                hint="Install the newest biozoo, or use another BIOZOO_HOME.",
            )
        _TABLES.create_all(db)
        db.exec_driver_sql(f"PRAGMA user_version = {_VERSION}")
        self._ready = True


def _told(path: Path, exc: BaseException) -> StorageError:
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
