"""Runs jobs, one after the other, and what is known of those not ended.

A `Live` job is written by the thread that runs it and read by others. What happens to it is told to
`Jobs` through `on_change`; this module knows neither the database nor owners.
"""

from __future__ import annotations

import json
import logging
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.closing import Closing
from biozoo.errors import BiozooError, Cancelled, MissingFileError, NotFoundError, UsageError
from biozoo.files import writing

from .images import open_images
from .loaded import LoadedModels
from .model import Job, State, now
from .overlay import overlays
from .results import Writer
from .turns import Turns

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Progress

Find = Callable[[str, str | None], "ModelPackage"]
"""The package of an id and version; raises NotFoundError where there is none."""


@dataclass
class Live:
    """A job that waits or runs in this process."""

    job: Job
    ended: threading.Event = field(default_factory=threading.Event, repr=False)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _reason: State = "cancelled"
    _since: tuple[float, int] | None = field(default=None, repr=False)

    def stop(self, reason: State) -> None:
        """Ask it to stop, before its next tile; the first reason counts."""
        if not self._stop.is_set():
            self._reason = reason
            self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was asked to."""
        return self._stop.is_set()

    def look(self) -> Job:
        """The job as it is now."""
        return replace(self.job, stopping=self.stopping, seconds_left=self._seconds_left())

    def report(self, progress: Progress) -> None:
        """Take note of how far the runner is."""
        computed = progress.done - progress.kept
        if self._since is None and computed > 0:
            # The first tile is slower than the rest: it warms the framework up.
            self._since = (time.monotonic(), computed)
        self.job = replace(
            self.job,
            tiles_done=progress.done,
            tiles_total=progress.total,
            tiles_kept=progress.kept,
            stage=progress.stage,
        )

    def stopped(self) -> Job:
        """The job ended by `stop`."""
        done = f"{self.job.tiles_done} of {self.job.tiles_total} tiles are kept"
        kept = f" {done}: resume it to compute the others." if self.job.tiles_done else ""
        why = {"cancelled": "was cancelled", "interrupted": "stopped as the server ended"}
        return end(self.job, self._reason, f"The job {why[self._reason]}.{kept}")

    def _seconds_left(self) -> float | None:
        """Estimate from the tiles computed so far; None while there is nothing to go by."""
        job, since = self.job, self._since
        if since is None or job.tiles_done - job.tiles_kept <= since[1]:
            return None
        per_tile = (time.monotonic() - since[0]) / (job.tiles_done - job.tiles_kept - since[1])
        return max(0.0, per_tile * (job.tiles_total - job.tiles_done))


class Worker(Closing):
    """Runs jobs in their order.

    Parameters
    ----------
    folder
        Each job has its own below it, by id.
    find
        Finds the model at the time of the run: it may have been removed while the job waited.
    models
        Loads it.
    write
        Writes the result.
    on_change
        Called from the thread with a job that began, got on, or ended; must not raise.
    """

    def __init__(
        self,
        folder: Path,
        *,
        find: Find,
        models: LoadedModels,
        write: Writer,
        on_change: Callable[[Live], None],
    ) -> None:
        self._folder, self._find, self._models = folder, find, models
        self._write, self._on_change = write, on_change
        # One thread: two models at once would only share the same cores and memory.
        self._turns = Turns("biozoo-job")

    def add(self, live: Live) -> None:
        """Run a waiting job after those before it; returns at once."""
        self._turns.add(lambda: self._do(live))

    def close(self) -> None:
        """Wait for the job at hand; the caller has stopped the jobs."""
        self._turns.close()

    def _do(self, live: Live) -> None:
        if not live.job.active:  # it was cancelled while it waited
            return
        try:
            if live.stopping:
                raise Cancelled
            live.job = replace(live.job, state="running", started=now(), ended=None)
            self._on_change(live)
            live.job = self._run(live)
        except Cancelled:
            live.job = live.stopped()
        except BiozooError as exc:
            live.job = end(live.job, "failed", exc.message)
        except Exception as exc:  # a thread must not end without telling the reader
            told = f"The job failed in a way nobody foresaw: {type(exc).__name__}: {exc}"
            live.job = end(live.job, "failed", told)
            logging.getLogger(__name__).exception("job %s of %s", live.job.id, live.job.model)
        finally:
            self._on_change(live)

    def _run(self, live: Live) -> Job:
        """Compute and write; the job as it is then."""
        from biozoo_runners.kept_tiles import TileFolder, model_digest

        job, folder = live.job, self._folder / live.job.id
        try:
            package = self._find(job.model, job.version)
            digest = model_digest(package)
        except (NotFoundError, MissingFileError) as exc:
            raise NotFoundError(
                kind="model",
                got=job.model,
                known=(),
                hint="It was removed after this job was made. Add it again, then resume the job: "
                "finished tiles are kept.",
            ) from exc
        if job.digest not in ("", digest):
            raise UsageError(
                f"Model '{job.model}' is another one than when this job began: it was replaced, "
                "and tiles of both would not fit together. Start a new job."
            )
        live.job = job = replace(job, digest=digest)
        images, chosen = open_images(job.images, job.choices.region), job.choices

        def on_progress(progress: Progress) -> None:
            live.report(progress)
            self._on_change(live)

        with self._models.lend(package, digest) as runner:
            result = runner(
                images,
                channel=chosen.channel,
                tile=chosen.tile,
                scale=chosen.scale,
                min_size=chosen.min_size,
                fill_holes=chosen.fill_holes,
                on_progress=on_progress,
                cancelled=lambda: live.stopping,
                kept=TileFolder(folder / "tiles"),
            )
            origin = {axis: start for axis, (start, _) in (chosen.region or {}).items()}
            lying = overlays(runner, images, result, origin)
        if live.stopping:
            raise Cancelled
        results = folder / "results"
        shutil.rmtree(results, ignore_errors=True)  # of an attempt that ended while it wrote
        with writing(results):
            results.mkdir(parents=True)
            files = self._write(result, live.job, lying, results)
        report = json.dumps(result.report.to_dict() | {"text": str(result.report)})
        return replace(end(live.job, "done"), files=files, report=json.loads(report))


def count_tiles(folder: Path, job: Job) -> int:
    """How many finished tiles of a job are kept."""
    from biozoo_runners.kept_tiles import TileFolder

    return len(TileFolder(folder / job.id / "tiles"))


def end(job: Job, state: State, error: str = "") -> Job:
    """The job ended now, in this state."""
    return replace(job, state=state, error=error, ended=now(), stage="")
