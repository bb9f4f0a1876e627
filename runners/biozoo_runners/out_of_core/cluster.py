"""Tasks done by dask: on worker processes of this machine, a running cluster, or a batch system.

    with DaskExecutor.connect("local:4") as executor:
        run_stages(spec, job, journal, executor)

A task is sent as the job's spec, a stage's name and a number. Workers read and write files by
themselves, so no pixels pass the scheduler.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any
from uuid import uuid4

from biozoo.closing import Closing
from biozoo.errors import (
    BackendError,
    Cancelled,
    MissingDependencyError,
    MissingFileError,
    UsageError,
)
from biozoo.install import install_line

from ..devices import usable_cores
from .cluster_file import close_cluster, read_cluster_file, start_batch
from .stages import Work, tell_task
from .worker import TaskFailure, close_job, run_task

__all__ = ["DaskExecutor"]

#: A task is given up when this many workers have died while doing it.
DEATHS = 3

#: Seconds between two looks at whether to stop, while waiting.
LOOK = 0.2

#: Seconds for which the number of workers is taken to be the same.
COUNTED = 1.0

#: Seconds within which a scheduler must answer.
ANSWER = 15

_FORMS = (
    "local:N (N processes on this machine), tcp://HOST:8786 (a running scheduler), or a file.yaml "
    "that describes jobs of a batch system"
)


_ONE_DISK = (
    "Workers read and write files by themselves: all paths must lead to the same disk on every "
    "machine."
)


class DaskExecutor(Closing):
    """Does tasks on the workers of a dask cluster, one at a time on each.

    As each worker has one task, the death of a worker costs that task alone, which another one
    does. Made by `connect`; ended, with a cluster that it started, by `close` or `with`.

    Parameters
    ----------
    client
        A connected `distributed.Client`.
    cluster
        What is closed with it; None for a cluster that others started.
    threads
        CPU threads of the network on each worker; None takes the threads that dask gives it.
    """

    def __init__(self, client: Any, cluster: Any = None, *, threads: int | None = None) -> None:
        self._client, self._cluster, self._threads = client, cluster, threads
        self._prefix = f"biozoo-{uuid4().hex[:8]}"
        self._died: list[str] = []
        self._workers, self._counted = 1, -COUNTED
        client.subscribe_topic("all", self._on_event)

    @classmethod
    def connect(cls, text: str, *, threads: int | None = None, cuda: bool = False) -> DaskExecutor:
        """Start or find a cluster.

        Parameters
        ----------
        text
            `local:4`, `tcp://host:8786`, or the path of a YAML file (see `ClusterFile`).
        threads
            CPU threads of the network on each worker; None divides the cores of this machine
            among local workers, and takes what dask gives to others.
        cuda
            The network runs on NVIDIA cards: local workers get one card each.

        Raises
        ------
        UsageError
            The text, or the file, cannot be understood.
        MissingFileError
            The file does not exist.
        MissingDependencyError
            dask, or what this cluster needs besides, is not installed.
        BackendError
            The workers cannot be started, or no scheduler answers.
        """
        if found := re.fullmatch(r"local:([1-9][0-9]*)", text):
            count = int(found[1])
            cluster = _local(count, cuda=cuda)
            share = threads or max(1, usable_cores()[1] // count)
            return cls._of(cluster, threads=share)
        if re.fullmatch(r"tcp://[^/\s]+:[0-9]+", text):
            return cls(_client(text), threads=threads)
        if text.endswith((".yaml", ".yml")):
            file = read_cluster_file(Path(text).expanduser())
            _distributed()
            return cls._of(start_batch(file, allowed_failures=DEATHS - 1), threads=threads)
        raise UsageError(f"--dask {text}: that is no cluster. Expected is {_FORMS}.")

    @classmethod
    def _of(cls, cluster: Any, *, threads: int | None) -> DaskExecutor:
        try:
            return cls(_client(cluster), cluster, threads=threads)
        except BaseException:
            close_cluster(cluster)
            raise

    @property
    def notes(self) -> tuple[str, ...]:
        """Which workers died at work."""
        if not self._died:
            return ()
        count = len(self._died)
        died = "1 worker" if count == 1 else f"{count} workers"
        listed = ", ".join(dict.fromkeys(self._died))
        return (f"{died} died at work ({listed}); their tasks were done again by others",)

    def run(
        self, work: Work, on_done: Callable[[int], None], cancelled: Callable[[], bool]
    ) -> None:
        """See `Executor.run`. At an end that is none, tasks under way are not waited for."""
        finished: SimpleQueue[Any] = SimpleQueue()
        waiting: dict[str, tuple[Any, int]] = {}
        left = iter(work.tasks)
        with _token(work.spec.folder) as token:
            try:
                more = True
                while True:
                    while more and len(waiting) < self._places():
                        task = next(left, None)
                        if task is None:
                            more = False
                            break
                        future = self._submit(work, task, token)
                        waiting[future.key] = future, task
                        future.add_done_callback(finished.put)
                    if not waiting:
                        return
                    with suppress(Empty):
                        self._settle(finished.get(timeout=LOOK), waiting, work, on_done)
                    if cancelled():
                        raise Cancelled
            except BaseException:
                self._give_up(finished, waiting, on_done)
                raise

    def close(self) -> None:
        """Disconnect; end the cluster if it was started here."""
        client, cluster = self._client, self._cluster
        self._client = self._cluster = None
        if client is None:
            return
        try:
            with suppress(Exception):  # whatever dask meets here, nothing is left to be done
                if client.status == "running":  # else it would wait for the scheduler
                    client.unsubscribe_topic("all")
                    if cluster is None:
                        client.run(close_job, on_error="ignore")
                client.close(timeout=2)
        finally:
            if cluster is not None:
                close_cluster(cluster)

    def _places(self) -> int:
        """How many tasks may be with the cluster: one for each worker."""
        now = time.monotonic()
        if now - self._counted >= COUNTED:
            try:
                self._workers = len(self._client.nthreads())
            except Exception as exc:  # dask raises many kinds when a connection breaks
                raise _lost() from exc
            self._counted = now
        return max(1, self._workers)

    def _submit(self, work: Work, task: int, token: str) -> Any:
        stage = work.stage.name
        # A key of its own each time: dask would take the result of an earlier try for this one's.
        key = f"{self._prefix}-{uuid4().hex[:8]}-{stage}-{task}"
        return self._client.submit(
            run_task, work.spec, stage, task, self._threads, token, key=key, pure=False
        )

    def _settle(
        self,
        future: Any,
        waiting: dict[str, tuple[Any, int]],
        work: Work,
        on_done: Callable[[int], None],
    ) -> None:
        task = waiting.pop(future.key)[1]
        if future.status == "finished":
            on_done(task)
            return
        if future.status != "error":
            raise _lost()
        raised = future.exception()
        where = ""
        if isinstance(raised, TaskFailure):
            error, where = raised.error(), raised.host
            if isinstance(error, MissingFileError):
                error.args = (f"{error.message} {_ONE_DISK}",)
        else:
            error = _dask_error(raised)
        tell_task(error, work.stage.name, task, where)
        raise error

    def _give_up(
        self,
        finished: SimpleQueue[Any],
        waiting: dict[str, tuple[Any, int]],
        on_done: Callable[[int], None],
    ) -> None:
        """Note what is done already, and take back the rest."""
        with suppress(Empty):
            while waiting:
                future = finished.get_nowait()
                task = waiting.pop(future.key)[1]
                if future.status == "finished":
                    on_done(task)
        with suppress(Exception):  # the scheduler may be gone
            self._client.cancel([future for future, _ in waiting.values()])

    def _on_event(self, event: tuple[float, Any]) -> None:
        said = event[1]
        if not isinstance(said, dict) or said.get("action") != "remove-worker":
            return
        ours = any(str(key).startswith(self._prefix) for key in said.get("processing-tasks", ()))
        if ours and not said.get("expected"):
            self._died.append(str(said.get("worker")))


def _distributed() -> Any:
    try:
        import distributed
    except ImportError as exc:
        raise MissingDependencyError(
            what="--dask", library="distributed", install=install_line("dask")
        ) from exc
    return distributed


def _client(cluster: Any) -> Any:
    """A client of a cluster, or of the scheduler at an address."""
    distributed = _distributed()
    try:
        return distributed.Client(cluster, set_as_default=False, timeout=ANSWER)
    except OSError as exc:
        raise BackendError(
            f"No dask scheduler answers at {cluster}: {exc}. Start one (dask scheduler) and "
            "workers (dask worker), and check the address."
        ) from exc


def _local(count: int, *, cuda: bool) -> Any:
    distributed = _distributed()
    import dask

    kind = _cuda_cluster() if cuda and count > 1 else distributed.LocalCluster
    # A dead worker is started anew, however long a busy machine takes: else, after 15 seconds, it
    # would be given up, and a run whose workers all died once would wait for ever.
    dask.config.set({"distributed.deploy.lost-worker-timeout": "1 day"})
    try:
        return kind(
            n_workers=count,
            threads_per_worker=1,
            dashboard_address=None,
            memory_limit=None,  # at its limit a worker takes no more tasks, and nothing goes on
            silence_logs=logging.CRITICAL,
            scheduler_kwargs={
                "allowed_failures": DEATHS - 1,
                "dashboard_address": "127.0.0.1:0",  # not the port that everybody's takes
            },
        )
    except (OSError, RuntimeError, ValueError) as exc:
        raise BackendError(f"{count} dask workers cannot be started here: {exc}.") from exc


def _cuda_cluster() -> Any:
    """Of dask-cuda: it gives each worker a card of its own."""
    try:
        from dask_cuda import LocalCUDACluster
    except ImportError as exc:
        raise MissingDependencyError(
            what="Several local workers on NVIDIA cards",
            library="dask-cuda",
            install="pip install dask-cuda. Or use --dask local:1, or --device cpu.",
        ) from exc
    return LocalCUDACluster


def _dask_error(raised: Any) -> Exception:
    """What dask itself says of a task, in words."""
    from distributed.scheduler import KilledWorker

    if isinstance(raised, KilledWorker):
        return BackendError(
            f"{raised.allowed_failures + 1} workers died one after the other while doing the same "
            f"task, the last one at {raised.last_worker.address}. Mostly memory has run out: give "
            "less --memory, or take fewer workers on a machine."
        )
    return BackendError(
        f"A worker could not take a task: {type(raised).__name__}: {raised}. The same biozoo, with "
        "what the model needs, must be installed on all workers and the scheduler."
    )


def _lost() -> BackendError:
    return BackendError(
        "The dask scheduler was lost. What was finished is kept: see that it runs, and go on with "
        "--resume."
    )


@contextmanager
def _token(folder: str) -> Iterator[str]:
    """A file in the working folder by which workers know it; its name."""
    name = f"here-{uuid4().hex}"
    path = Path(folder, name)
    path.touch()
    try:
        yield name
    finally:
        path.unlink(missing_ok=True)
