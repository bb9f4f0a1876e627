"""A run as tasks of stages, and what does them.

    run_stages(spec, job, journal, LocalExecutor())

A task's result lies on disk when it returns, and depends on nothing but the job and the stages
before. So tasks may be done in any order, anywhere, and again. What is done is noted in a journal,
and a later call does only the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from biozoo.errors import BackendError, BiozooError, Cancelled

__all__ = [
    "Executor",
    "Job",
    "JobKeeper",
    "JobSpec",
    "Journal",
    "SplitStage",
    "Stage",
    "Work",
    "naming",
    "run_stages",
    "tell_task",
]


@runtime_checkable
class Stage(Protocol):
    """Tasks that may be done in any order, once all stages before are done.

    What earlier stages wrote is read when a task runs, never when the job is opened: a process that
    keeps the job open has opened it before that was there.
    """

    @property
    def name(self) -> str:
        """What the journal and messages call it."""

    def __len__(self) -> int:
        """How many tasks there are; asked for when the stages before are done."""

    def run(self, task: int) -> None:
        """Do the task of this number; may be repeated, and each of its files is written whole."""


@runtime_checkable
class SplitStage(Stage, Protocol):
    """A stage whose reading, computing and writing may overlap: each part in a thread of its own.

    `run` is all three, one after the other.
    """

    def prepare(self, task: int) -> Any:
        """Read what the task takes."""

    def compute(self, task: int, prepared: Any) -> Any:
        """Compute; in the thread that runs the stages."""

    def write(self, task: int, made: Any) -> None:
        """Write what was computed."""


class Job(Protocol):
    """An opened run: the model, the images, and the stages that do it."""

    @property
    def stages(self) -> Iterable[Stage]:
        """In their order; the next is asked for when those before are done."""

    def stage(self, name: str) -> Stage:
        """The stage of this name."""

    def close(self) -> None:
        """Free what it holds."""


class JobSpec(Protocol):
    """What any process needs to open the job: a small frozen dataclass of plain values.

    It can be pickled, and two of the same job are equal. All paths are absolute.
    """

    @property
    def folder(self) -> str:
        """The working folder; it is there before the first task."""

    @property
    def threads(self) -> int | None:
        """CPU threads of the network. A worker opens the job with its own share of the cores."""

    def open(self) -> Job:
        """Open it in this process."""


class Journal(Protocol):
    """What is done, kept on disk."""

    def done(self, stage: str) -> Collection[int]:
        """The tasks of a stage that are done."""

    def mark(self, stage: str, task: int) -> None:
        """Note a task as done; called by one thread at a time."""


@dataclass(frozen=True)
class Work:
    """Tasks of one stage that are to be done, and the job as this and other processes open it."""

    spec: JobSpec
    stage: Stage
    tasks: Sequence[int]


class Executor(Protocol):
    """What does tasks: `LocalExecutor` in this process, `DaskExecutor` on a cluster."""

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know, once the work is done."""

    def run(
        self, work: Work, on_done: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> None:
        """Do all tasks; returns when they are done.

        Parameters
        ----------
        on_done
            Called with a task as soon as it is done, by one thread at a time, not always the
            caller's.
        cancelled
            Asked between tasks and while waiting; True stops.

        Raises
        ------
        Cancelled
            Stopped. For tasks that were done before this, `on_done` was called.
        Exception
            What the first failing task raised, with the task named, see `tell_task`.
        """

    def close(self) -> None:
        """End what it started; may be called twice."""


def run_stages(
    spec: JobSpec,
    job: Job,
    journal: Journal,
    executor: Executor,
    *,
    on_progress: Callable[[str, int, int], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> None:
    """Do all tasks of a job that its journal does not list, stage after stage.

    Parameters
    ----------
    spec, job
        The job, as other processes open it and as it is open here. It is not closed.
    journal
        Each task is marked in it as soon as it is done.
    executor
        What does the tasks. It is not closed.
    on_progress
        Called with a stage's name, how many of its tasks are done, and how many it has: before the
        first task and after each, by one thread at a time.
    cancelled
        Asked between tasks and while waiting; True stops.

    Raises
    ------
    Cancelled
        Stopped by `cancelled`.
    Exception
        What a task raised, with the task named. What was done before is in the journal.
    """
    stopped = cancelled or (lambda: False)
    for stage in job.stages:
        if stopped():
            raise Cancelled
        _run_stage(spec, stage, journal, executor, on_progress or (lambda *_: None), stopped)


def _run_stage(
    spec: JobSpec,
    stage: Stage,
    journal: Journal,
    executor: Executor,
    on_progress: Callable[[str, int, int], None],
    cancelled: Callable[[], bool],
) -> None:
    total, before = len(stage), journal.done(stage.name)
    tasks = [task for task in range(total) if task not in before]
    done = total - len(tasks)
    on_progress(stage.name, done, total)
    if not tasks:
        return

    def on_done(task: int) -> None:
        nonlocal done
        journal.mark(stage.name, task)
        done += 1
        on_progress(stage.name, done, total)

    executor.run(Work(spec, stage, tasks), on_done, cancelled)
    if done != total:
        raise BackendError(
            f"{total - done} of {total} tasks of '{stage.name}' were not done, though nothing "
            "failed. Go on with --resume."
        )


def tell_task(error: BaseException, stage: str, task: int, where: str = "") -> None:
    """Say in an error which task raised it: in its message, for an unforeseen one in a note."""
    place = f" on {where}" if where else ""
    told = f"This was task {task} of '{stage}'{place}; what was finished is kept for --resume."
    if isinstance(error, BiozooError):
        error.args = (f"{error.message}\n{told}",)
    else:
        error.add_note(told)


@contextmanager
def naming(stage: str, task: int) -> Iterator[None]:
    """What is raised inside names the task; a stop is no fault of the task."""
    try:
        yield
    except Cancelled:
        raise
    except Exception as error:
        tell_task(error, stage, task)
        raise


class JobKeeper:
    """The one job that a process has open, kept from task to task; used by one task at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spec: JobSpec | None = None
        self._job: Job | None = None

    @contextmanager
    def using(self, spec: JobSpec) -> Iterator[Job]:
        """The job of this spec: the one that is open, or opened in its place.

        After an error it is closed: whatever broke is loaded anew for the next task.
        """
        with self._lock:
            if self._job is None or self._spec != spec:
                self._close()
                self._spec, self._job = spec, spec.open()
            try:
                yield self._job
            except BaseException:
                self._close()
                raise

    def close(self) -> bool:
        """Close what is open; False where a task is using it."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._close()
            return True
        finally:
            self._lock.release()

    def _close(self) -> None:
        job, self._spec, self._job = self._job, None, None
        if job is not None:
            job.close()
