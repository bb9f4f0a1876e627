"""A task as a worker of a cluster does it: the job is opened there, and kept for the next task."""

from __future__ import annotations

import pickle
import socket
import traceback
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from biozoo.errors import BackendError, BiozooError, MissingFileError

from ..memory import trim_heap
from .stages import JobKeeper

if TYPE_CHECKING:
    from .stages import JobSpec

__all__ = ["TaskFailure", "close_job", "run_task"]

_KEEPER = JobKeeper()


class TaskFailure(Exception):
    """An error of a task in a form that reaches the caller whatever it is.

    Most of biozoo's errors cannot be pickled, as they are made from facts by name. One that no
    pickle takes arrives as its text.
    """

    def __init__(self, packed: bytes | None, told: str, trace: str, host: str) -> None:
        super().__init__(packed, told, trace, host)
        self.packed, self.told, self.trace, self.host = packed, told, trace, host

    @classmethod
    def of(cls, error: Exception) -> TaskFailure:
        """What a task raised on this machine."""
        told = f"{type(error).__name__}: {error}"
        trace = "".join(traceback.format_exception(error))
        return cls(_packed(error), told, trace, socket.gethostname())

    def error(self) -> Exception:
        """The error as it was raised, with the worker's traceback as a note."""
        if self.packed is None:
            error: Exception = BackendError(f"A worker failed with {self.told}.")
        else:
            error = _unpacked(self.packed)
        error.add_note(f"On {self.host}:\n{self.trace}")
        return error


def run_task(spec: JobSpec, stage: str, task: int, threads: int | None, token: str) -> None:
    """Do one task.

    Parameters
    ----------
    threads
        CPU threads of the network; None takes what this worker was given.
    token
        Name of a file in the working folder that shows that it is the caller's: a worker on another
        disk would write results where nobody looks for them.

    Raises
    ------
    TaskFailure
        Whatever the task raised.
    """
    try:
        if not Path(spec.folder, token).is_file():
            raise MissingFileError(what="The working folder", path=spec.folder)
        here = replace(cast(Any, spec), threads=threads or _own_threads())
        with _KEEPER.using(here) as job:
            job.stage(stage).run(task)
        trim_heap()
    except Exception as error:
        raise TaskFailure.of(error) from None


def close_job() -> None:
    """Free the model that this worker keeps, unless a task is using it."""
    _KEEPER.close()


def _own_threads() -> int:
    from distributed import get_worker

    return max(1, int(get_worker().state.nthreads))


def _packed(error: Exception) -> bytes | None:
    known = isinstance(error, BiozooError)
    try:
        packed = pickle.dumps((type(error), error.args, vars(error)) if known else error)
        _unpacked(packed)
    except Exception:  # a pickle fails in many ways
        return None
    return packed


def _unpacked(packed: bytes) -> Exception:
    content = pickle.loads(packed)
    if isinstance(content, Exception):
        return content
    kind, args, facts = content
    error = cast(Exception, kind.__new__(kind))
    error.args = args
    vars(error).update(facts)
    return error
