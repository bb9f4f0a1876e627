"""The jobs of a server: made, looked at, cancelled, resumed and deleted by their owners.

The database holds what must outlive the process; what waits or runs here is read from memory, so
a locked database or a full disk neither stops a job nor hides it. A job that ended while nothing
could be written is held until it can be.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo.errors import MissingFileError, NotFoundError, StorageError

from .downloads import Downloads
from .images import keep_images
from .ledger import Ledger, fields_of, recover
from .loaded import Load, LoadedModels
from .model import ACTIVE, RESUMABLE, Choices, Job, JobImage, JobImages, JobStateError, now
from .results import Writer, write_files
from .servers import Server
from .store import JobStore
from .trash import clean_trash, throw_away
from .worker import Find, Live, Worker

if TYPE_CHECKING:
    from biozoo import ModelPackage

PROGRESS_SECONDS = 1.0
"""How often progress is written."""


class Jobs(Closing):
    """The jobs of one server; several may share a folder.

    Parameters
    ----------
    folder
        Holds the list (`jobs.db`) and a folder per job: its image where it keeps it, its tiles
        until it is done, its results.
    find
        The package of a model id and version; `Zoo(settings).get`.
    load
        Loads a package; `biozoo_runners.load` unless a test says otherwise.
    write
        Writes a result.
    loaded
        How many models stay loaded.
    kept
        How many ended jobs of one owner are kept; older ones are deleted with their files.
    patience
        Seconds to wait for another program that holds the list.

    Attributes
    ----------
    closed
        Whether the server ends.
    models
        The loaded ones; previews borrow them too.

    Raises
    ------
    StorageError
        The folder cannot be written to.
    """

    def __init__(
        self,
        folder: Path,
        *,
        find: Find,
        load: Load | None = None,
        write: Writer = write_files,
        loaded: int = 2,
        kept: int = 50,
        patience: float = 2.0,
    ) -> None:
        self._folder, self._kept = folder, kept
        self._store = JobStore(folder / "jobs.db", patience=patience)
        self._server = Server(folder / "servers")
        self._live: dict[str, Live] = {}
        self._downloads = Downloads(folder)
        self._lock = threading.Lock()  # of every change of a job's state by a request
        self._ledger = Ledger(self._store, folder)  # its lock is taken after this, never before
        self._written = 0.0
        self.closed = self._recovered = False
        self.models = LoadedModels(loaded, load)
        self._worker = Worker(
            folder, find=find, models=self.models, write=write, on_change=self._changed
        )
        self._catch_up()
        clean_trash(folder)

    def get(self, job_id: str, owner: str | None = None) -> Job:
        """A job as it is now; None as owner sees all.

        Raises
        ------
        NotFoundError
            There is none, or it is another owner's.
        StorageError
            The list cannot be read.
        """
        job = self._here(job_id)
        if job is None:
            self._catch_up()
            job = self._here(job_id) or self._store.get(job_id)
        if job is None or owner not in (None, job.owner):
            raise NotFoundError(kind="job", got=job_id, known=(), hint="It may be deleted.")
        return job

    def of_owner(self, owner: str) -> list[Job]:
        """All jobs of an owner, the newest first."""
        self._catch_up()
        return [self._here(job.id) or job for job in self._store.of_owner(owner)]

    def file(self, job_id: str, name: str, owner: str | None = None) -> Path:
        """The path of a file of a job's result.

        Raises
        ------
        MissingFileError
            The result has no such file.
        """
        job = self.get(job_id, owner)
        path = self._folder / job.id / "results" / name
        if name not in (file.name for file in job.files) or not path.is_file():
            raise MissingFileError(what="The file", path=name)
        return path

    def download(self, job_id: str, name: str, owner: str | None = None) -> Path:
        """The path of a result in another format, or of all in one; see `Downloads.get`."""
        return self._downloads.get(self.get(job_id, owner), name)

    def wait(self, job_id: str, seconds: float | None = None) -> Job:
        """The job once it has ended, or after `seconds`."""
        live = self._live.get(job_id)
        if live is not None:
            live.ended.wait(seconds)
        return self.get(job_id)

    def submit(
        self,
        package: ModelPackage,
        image: JobImage | JobImages,
        choices: Choices | None = None,
        *,
        owner: str,
    ) -> Job:
        """Make a job; it runs after those before it.

        Parameters
        ----------
        image
            One, or one per input tensor id for a model with several inputs.

        Raises
        ------
        StorageError
            It cannot be written down.
        MissingFileError
            An image that the job is to keep has gone.
        JobStateError
            The server ends.
        """
        self._catch_up()
        self._prune(owner)
        job_id = secrets.token_hex(8)
        folder = self._folder / job_id
        images = {"": image} if isinstance(image, JobImage) else image
        try:
            job = Job(
                id=job_id,
                owner=owner,
                model=package.id,
                version=package.version,
                images=keep_images(images, folder / "image"),
                choices=choices or Choices(),
                created=now(),
                server=self._server.id,
            )
            with self._lock:
                self._refuse_when_closed()
                self._store.add(job)
                return self._queue(job)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise

    def cancel(self, job_id: str, owner: str | None = None) -> Job:
        """Stop a job before its next tile; one that has ended stays as it is.

        Raises
        ------
        JobStateError
            It runs in another server.
        """
        job = self.get(job_id, owner)
        with self._lock:
            live = self._live.get(job_id)
            if live is not None:
                live.stop("cancelled")
                if live.job.state == "waiting":
                    live.job = live.stopped()
                    self._settle(live)
                return live.look()
        job = self.get(job_id, owner)
        if job.active:
            raise JobStateError(f"Job {job_id} runs in another biozoo server. Cancel it there.")
        return job

    def resume(self, job_id: str, owner: str | None = None) -> Job:
        """Run a job again that did not end well; its kept tiles are not computed again.

        A job that waits or runs already stays as it is: of two requests the second changes nothing.

        Raises
        ------
        JobStateError
            It is done, or the server ends.
        StorageError
            It cannot be written down.
        """
        self._catch_up()
        job = self.get(job_id, owner)
        with self._lock:
            self._refuse_when_closed()
            if live := self._live.get(job_id):
                return live.look()
            if job.state == "done":
                raise JobStateError(f"Job {job_id} is done. Start a new job to run it again.")
            self._ledger.write()
            again = replace(job, state="waiting", error="", ended=None, server=self._server.id)
            fields = fields_of(again, "state", "error", "ended", "server")
            # Another server may have been faster, or this one between the two looks.
            if self._store.change(job_id, fields, only=RESUMABLE):
                return self._queue(again)
        return self.get(job_id, owner)

    def delete(self, job_id: str, owner: str | None = None) -> None:
        """Forget a job and remove its files.

        Raises
        ------
        JobStateError
            It runs.
        StorageError
            Its files cannot be removed, or the list not be written.
        """
        job = self.get(job_id, owner)
        if job.state == "waiting":
            job = self.cancel(job_id, owner)
        if job.active:
            raise JobStateError(f"Job {job_id} runs. Cancel it first, then delete it.")
        self._remove(job_id)

    def close(self) -> None:
        """End: what runs stops before its next tile and, like what waits, can be resumed."""
        with self._lock:
            self.closed = True
            for live in list(self._live.values()):
                live.stop("interrupted")
        self._worker.close()
        self.models.close()
        self._catch_up()
        self._server.close()

    def _here(self, job_id: str) -> Job | None:
        """A job that this process knows better than the list does."""
        live = self._live.get(job_id)
        return live.look() if live is not None else self._ledger.get(job_id)

    def _refuse_when_closed(self) -> None:
        if self.closed:
            raise JobStateError("The server is ending and takes no more jobs. Start it again.")

    def _queue(self, job: Job) -> Job:
        self._live[job.id] = live = Live(job)
        self._worker.add(live)
        return job

    def _changed(self, live: Live) -> None:
        """A job began, got on or ended; from the worker's thread."""
        job = live.job
        if not job.active:
            self._settle(live)
            return
        due = time.monotonic() > self._written + PROGRESS_SECONDS
        if self._live.get(job.id) is live and (due or job.tiles_done == 0):
            names = ("state", "started", "digest", "tiles_done", "tiles_total", "tiles_kept")
            # Memory knows it too: no reason to stop, or to wait for long.
            with contextlib.suppress(StorageError):
                self._store.change(job.id, fields_of(job, *names), only=ACTIVE, patience=0.05)
            self._written = time.monotonic()

    def _settle(self, live: Live) -> None:
        """Write down how a job ended, now or when it can be."""
        with self._ledger.lock:
            if self._live.get(live.job.id) is live:  # else it was cancelled while it waited
                self._ledger.hold(live.job)
                del self._live[live.job.id]
        try:
            with contextlib.suppress(StorageError):
                self._ledger.write()
        finally:
            live.ended.set()

    def _catch_up(self) -> None:
        """Write what could not be before; find the jobs of servers that were killed."""
        with contextlib.suppress(StorageError):  # who asks for the list is told that it is held
            self._ledger.write()
            if not self._recovered:
                recover(self._store, self._server, self._folder)
                self._recovered = True

    def _prune(self, owner: str) -> None:
        """Delete the oldest ended jobs above the number that is kept."""
        for job in [j for j in self.of_owner(owner) if not j.active][max(0, self._kept - 1) :]:
            with contextlib.suppress(StorageError, JobStateError):
                self._remove(job.id)

    def _remove(self, job_id: str) -> None:
        with self._lock:
            if job_id in self._live:
                raise JobStateError(f"Job {job_id} was resumed. Cancel it first, then delete it.")
            self._ledger.write()
            self._store.remove(job_id)
        throw_away(self._folder / job_id)  # resume finds it no more
