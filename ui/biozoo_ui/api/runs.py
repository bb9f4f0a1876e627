"""Runs that a page starts: one at a time in a thread of their own, so that the server answers on.

A run is asked for (`RunRequest`), watched (`Run`) and leaves a folder of files. Models stay loaded
between runs, the few last used; cancelling reaches the runner between two tiles.
"""

from __future__ import annotations

import secrets
import shlex
import shutil
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from biozoo.errors import BiozooError, Cancelled, NotFoundError

from .results import Outcome, write_outcome

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Progress, Runner

State = Literal["waiting", "running", "done", "failed", "cancelled"]

FINISHED: tuple[State, ...] = ("done", "failed", "cancelled")


@dataclass(frozen=True)
class RunRequest:
    """What is to be run.

    Attributes
    ----------
    package
        The model.
    image
        The image file, or one per input tensor id.
    name
        What the user calls the image.
    axes, channel
        Where the image does not say, or has more than the model takes.
    sample, sample_command
        Whether the image is the model's sample, and how the command line gets the same one.
    """

    package: ModelPackage
    image: Path | Mapping[str, Path]
    name: str
    axes: str | None = None
    channel: int | str | tuple[int, ...] | None = None
    sample: bool = False
    sample_command: str = ""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every image file of it."""
        return tuple(self.image.values()) if isinstance(self.image, Mapping) else (self.image,)

    @property
    def command(self) -> str:
        """The same run on the command line, and before it how to get a sample."""
        images = [self.name]
        if isinstance(self.image, Mapping):
            images = [f"{tensor}={path.name}" for tensor, path in self.image.items()]
        words = ["zoo", "run", self.package.id, *images, "-o", "out/"]
        if self.axes:
            words += ["--axes", self.axes]
        if self.channel is not None:
            chosen = self.channel if isinstance(self.channel, tuple) else (self.channel,)
            words += ["--channel", ",".join(map(str, chosen))]
        return "\n".join(filter(None, (self.sample_command, shlex.join(words))))


@dataclass
class Run:
    """One run: asked for, under way or finished. Written by its thread, read by others."""

    id: str
    request: RunRequest
    folder: Path
    state: State = "waiting"
    progress: Progress | None = None
    outcome: Outcome | None = None
    error: str = ""
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _finished: threading.Event = field(default_factory=threading.Event, repr=False)
    _tiles_since: tuple[float, int] | None = field(default=None, repr=False)

    def cancel(self) -> None:
        """Ask the run to stop; it does before its next tile."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it is finished; False where `seconds` passed first."""
        return self._finished.wait(seconds)

    def report(self, progress: Progress) -> None:
        """Take note of how far the runner is."""
        if self._tiles_since is None and progress.done > 0:
            # The first tile is slower than the rest: it warms the framework up.
            self._tiles_since = (time.monotonic(), progress.done)
        self.progress = progress

    @property
    def seconds_left(self) -> float | None:
        """Estimate from the tiles done so far; None while there is nothing to go by."""
        progress, since = self.progress, self._tiles_since
        if progress is None or since is None or progress.done <= since[1]:
            return None
        per_tile = (time.monotonic() - since[0]) / (progress.done - since[1])
        return max(0.0, per_tile * (progress.total - progress.done))


class Runs:
    """The runs of one server.

    Parameters
    ----------
    folder
        Where each run gets its folder; the caller removes it after `close`.
    loaded
        How many models stay loaded.
    kept
        How many finished runs keep their files.
    load
        Loads a package; `biozoo_runners.load` unless a test says otherwise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        loaded: int = 2,
        kept: int = 20,
        load: Callable[[ModelPackage], Runner] | None = None,
    ) -> None:
        self._folder, self._kept = folder, kept
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._lock = threading.Lock()
        # One thread: two models at once would only share the same cores and memory.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="biozoo-run")
        self._runners = _Loaded(loaded, load or _load)

    def start(self, request: RunRequest) -> Run:
        """Queue a run and return at once."""
        name = secrets.token_hex(8)  # nobody can guess the address of another's result
        run = Run(name, request, self._folder / name)
        with self._lock:
            self._runs[name] = run
            stale = [r for r in self._runs.values() if r.state in FINISHED][: -self._kept]
            for old in stale:
                del self._runs[old.id]
        for old in stale:
            shutil.rmtree(old.folder, ignore_errors=True)
        self._thread.submit(self._do, run)
        return run

    def get(self, run_id: str) -> Run:
        """The run of this id.

        Raises
        ------
        NotFoundError
            Where there is none, or not any more.
        """
        with self._lock:
            if run_id in self._runs:
                return self._runs[run_id]
        raise NotFoundError(
            kind="run", got=run_id, known=(), hint="Older runs are removed; run it again."
        )

    def close(self) -> None:
        """Stop every run and unload every model."""
        with self._lock:
            runs = list(self._runs.values())
        for run in runs:
            run.cancel()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._runners.close()

    def _do(self, run: Run) -> None:
        try:
            if run.stopping:
                raise Cancelled
            run.state = "running"
            run.outcome = self._compute(run)
            run.state = "done"
        except Cancelled as exc:
            run.error, run.state = exc.message, "cancelled"
        except BiozooError as exc:
            run.error, run.state = exc.message, "failed"
        except Exception as exc:  # a thread must not end without telling the reader
            run.error = f"The run failed in a way nobody foresaw: {type(exc).__name__}: {exc}"
            run.state = "failed"
            _log_unforeseen(run)
        finally:
            if run.state != "done":
                shutil.rmtree(run.folder, ignore_errors=True)
            run._finished.set()

    def _compute(self, run: Run) -> Outcome:
        request = run.request
        runner = self._runners.get(request.package)
        run.folder.mkdir(parents=True)
        result = runner(
            request.image,
            axes=request.axes,
            channel=request.channel,
            on_progress=run.report,
            cancelled=lambda: run.stopping,
        )
        if run.stopping:
            raise Cancelled
        return write_outcome(result, request, run.folder)


class _Loaded:
    """The last used runners, closed when others take their place. Used by one thread only."""

    def __init__(self, most: int, load: Callable[[ModelPackage], Runner]) -> None:
        self._most, self._load = most, load
        self._runners: OrderedDict[tuple[str, str | None], tuple[Runner, ExitStack]] = OrderedDict()

    def get(self, package: ModelPackage) -> Runner:
        key = (package.id, package.version)
        if key in self._runners:
            self._runners.move_to_end(key)
            return self._runners[key][0]
        while len(self._runners) >= self._most:  # before loading: two may not fit in memory
            self._runners.popitem(last=False)[1][1].close()
        stack = ExitStack()
        runner = stack.enter_context(self._load(package))
        self._runners[key] = (runner, stack)
        return runner

    def close(self) -> None:
        while self._runners:
            self._runners.popitem()[1][1].close()


def _load(package: ModelPackage) -> Runner:
    from biozoo_runners import load

    return load(package)


def _log_unforeseen(run: Run) -> None:
    import logging

    request = run.request
    logging.getLogger(__name__).exception("run of %s on %s", request.package.id, request.name)
