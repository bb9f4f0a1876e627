"""A run of any size: from an image on disk to OME-Zarr, in memory that does not grow with either.

    run_out_of_core(runner, image, {"labels": Path("out.zarr")}, memory=2**30, resume=True)

Statistics, results, objects and smaller levels are made task by task (`job`), each noted in a
journal once its files are written, so that a run may be killed at any time and continued.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import Cancelled, UsageError

from ..images.write import check_place
from ..memory import HostMemory
from ..pipeline import plan_notes
from ..prepare import Channel, Fitting, fit
from ..report import RunReport
from ..result import Progress
from ..retile import halved
from .budget import default_memory, fitting_plan
from .facts import measure_item
from .identity import check_unchanged, fingerprints, identity
from .job import RunJob, RunSpec, plan_digest
from .journal import Journal, known_identity
from .local import LocalExecutor
from .stages import run_stages

if TYPE_CHECKING:
    from ..images.base import Image
    from ..pipeline import Runner
    from ..statistics import Stats
    from ..tiling import TilePlan
    from .stages import Executor

__all__ = ["Written", "run_out_of_core", "why_in_memory"]


@dataclass(frozen=True)
class Written:
    """What a run wrote: paths of the results by id, and its report."""

    paths: Mapping[str, Path]
    report: RunReport


def why_in_memory(runner: Runner, image: Image | Mapping[str, Image], channel: Any = None) -> str:
    """Why a model cannot be run out of core on an image; "" where it can."""
    fitting = fit(runner.geometry, image, channel)
    return _why_not(runner, runner.plan_of(fitting, None)[1])


def _why_not(runner: Runner, plan: TilePlan) -> str:
    rest = runner.postprocessing.split()[1]
    for tensor in plan.outputs:
        if rest.chains[tensor.id].steps:
            return f"the postprocessing of its output '{tensor.id}' takes the whole result"
        if any(n is None for n in tensor.shape):
            return f"the size of its output '{tensor.id}' depends on the data"
        if tensor.shape and "time" in tensor.dims:
            return f"its output '{tensor.id}' has a time axis"
    return ""


def run_out_of_core(
    runner: Runner,
    image: Image | Mapping[str, Image],
    where: Mapping[str, Path],
    *,
    channel: Channel | Mapping[str, Channel] | None = None,
    tile: Mapping[str, int] | None = None,
    min_size: int | None = None,
    fill_holes: bool | None = None,
    opened_with: Mapping[str, Any] | None = None,
    memory: int | None = None,
    resume: bool = False,
    executor: Executor | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> Written:
    """Run a model on an image of any size and write its results as OME-Zarr.

    Parameters
    ----------
    runner
        The loaded model.
    image
        An opened image, or one per input tensor id.
    where
        Result id ("labels" too) and the path of its OME-Zarr, each. What is not asked for is
        written only as far as it is needed, and removed.
    channel, tile, min_size, fill_holes
        As for `Runner`.
    opened_with
        `axes`, `scene`, `pixel_size` that the image was opened with, for other processes.
    memory
        Bytes that this process should not exceed (of workers: each of them); None takes a quarter
        of what is free.
    resume
        Go on with a run that was stopped, where there is one.
    executor
        What does the tasks; None does them in this process.
    on_progress
        Called with what is done of each stage.
    cancelled
        Asked often; True stops the run, and what is finished stays for `resume`.

    Raises
    ------
    UsageError
        The model cannot be run this way (`why_in_memory`), or an unfinished run is in the way.
    ImageReadError
        The image is damaged, or was changed meanwhile.
    OutOfMemoryError
        Not even the smallest tile fits.
    PrecisionError
        The precision that the model was loaded for does not agree with float32 on this image.
    StorageError
        Results cannot be written; what was finished stays for `resume`.
    Cancelled
        Stopped by `cancelled`.
    """
    runner.check_objects(min_size, fill_holes)
    start, host = time.perf_counter(), HostMemory()
    where = {result: path.absolute() for result, path in where.items()}
    first = next(iter(where.values()))
    folder = first.with_name(f"{first.name}.part")
    # A run keeps to the memory that it began with: tiles and numbers of objects depend on it.
    begun = known_identity(folder).get("memory") if resume else None
    memory = memory or (int(begun) if begun else default_memory())
    fitting = fit(runner.geometry, image, channel)
    geometry, plan, context = runner.plan_of(fitting, tile)
    if why := _why_not(runner, plan):
        raise UsageError(
            f"Model '{runner.package.id}' cannot be run out of core: {why}. Run it in memory, on "
            "an image or a region that fits, and write .ome.tif."
        )
    asked_plan = plan
    plan = fitting_plan(plan, memory, lambda p: halved(geometry, fitting.sizes, p))
    decision = runner.settle(fitting, plan, lambda: _middle_stats(runner, fitting))
    images = {f.tensor.id: f.image for f in fitting.inputs}
    prints = fingerprints(images)
    spec = RunSpec(
        model=str(runner.package.root),
        images=tuple((t, str(i.path and i.path.absolute())) for t, i in images.items()),
        folder=str(folder),
        wanted=tuple(where),
        memory=memory,
        tile=tuple((g.id, g.tile) for g in plan.grid),
        plan=plan_digest(plan),
        **_plain(opened_with or {}),
        channel=channel,
        device=runner.info.device,
        weights=runner.info.weights_format,
        backend=runner.info.backend,
        threads=runner.info.threads,
        precision=runner.info.precision,
        min_size=min_size,
        fill_holes=fill_holes,
    )
    options = {
        "results": sorted(where),
        "channel": channel,
        "smallest object": min_size,
        "holes": fill_holes,
        "memory": memory,
    }
    parts = identity(runner.digest, runner.info, images, prints, plan, options)
    tiles = len(plan) * len(fitting)
    done_tiles = 0

    def look() -> None:
        host.look()
        if cancelled is not None and cancelled():
            raise Cancelled

    def on_tile() -> None:
        nonlocal done_tiles
        look()
        if on_progress is not None:
            on_progress(Progress(done_tiles, tiles, "running"))
        done_tiles += 1

    def on_task(stage: str, done: int, total: int) -> None:
        nonlocal done_tiles
        if stage == "results":
            done_tiles = max(done_tiles, done * tiles // max(1, total))
            stage, done, total = "running", min(done_tiles, tiles), tiles
        if on_progress is not None:
            on_progress(Progress(done, total, stage))

    executor = executor or LocalExecutor()
    job = RunJob(spec, runner, fitting, plan, on_step=look)
    job.results.on_tile = on_tile
    for path in where.values():
        check_place(path)
    objects = None
    with Journal.begin(folder, parts, resume=resume) as journal:
        found = journal.count
        notes = [*runner.notes, *fitting.notes, *(decision.notes if decision else ())]
        if journal.finished:
            notes.append("an earlier run had ended but for this: its results are in place now")
        else:
            try:
                run_stages(spec, job, journal, executor, on_progress=on_task, cancelled=cancelled)
                check_unchanged(images, prints)
            except BaseException as stop:
                if not journal.count:  # there is nothing to go on with
                    journal.close(remove=True)
                elif isinstance(stop, KeyboardInterrupt):
                    stop.add_note(f"what was finished is in {folder}; go on with --resume.")
                raise
            for result in where:
                job.stores.of(result).finish()
            notes += [context, *plan_notes(plan), *_notes(job, found, smaller=plan != asked_plan)]
            notes += executor.notes
            if runner.instances is not None and "labels" in where:
                objects = sum(job.objects(i).count() for i in range(len(fitting)))
            journal.finish({job.stores.path(result): path for result, path in where.items()})
        notes += journal.notes
    host.look()
    if on_progress is not None:
        on_progress(Progress(tiles, tiles, "done"))
    report = RunReport(
        model=runner.package.id,
        version=runner.package.version,
        asked=replace(runner.asked, tile=tile, channel=None if channel is None else str(channel)),
        ran=runner.info,
        plan=plan.summary,
        tiles=len(plan),
        items=len(fitting),
        seconds={
            "load": runner.load_seconds,
            **job.results.seconds,
            "total": time.perf_counter() - start,
        },
        megapixels=plan.pixels * len(fitting) / 1e6,
        peak_memory=host.peak,
        added_memory=host.added,
        child_memory=runner.child_memory,
        device_memory=runner.backend.peak_device_memory,
        objects=objects,
        precision=decision,
        notes=tuple(filter(None, notes)),
    )
    return Written(dict(where), report)


def _middle_stats(runner: Runner, fitting: Fitting) -> Stats:
    at = next(islice(fitting.items(), len(fitting) // 2, None))
    return measure_item(fitting, at, runner.preprocessing, runner.postprocessing).stats


def _plain(opened_with: Mapping[str, Any]) -> dict[str, Any]:
    """What an image is opened with, hashable."""
    size = opened_with.get("pixel_size")
    axes = opened_with.get("axes")
    return {
        "axes": axes if axes is None or isinstance(axes, str) else tuple(axes),
        "scene": opened_with.get("scene"),
        "pixel_size": None if size is None else tuple(sorted(size.items())),
    }


def _notes(job: RunJob, found: int, *, smaller: bool) -> list[str]:
    """What a user should know of the work; `found` tasks were finished before."""
    notes = []
    if smaller:
        notes.append("smaller tiles than usual are used, so that the memory is enough")
    if found:
        tasks = "1 task was" if found == 1 else f"{found} tasks were"
        notes.append(f"{tasks} finished by an earlier run")
    facts = list(job.facts())
    if replaced := sum(f.count for f in facts):
        notes.append(
            f"{replaced} pixels are NaN or infinite: replaced by the mean (NaN) or extreme "
            "(infinite) of the others"
        )
    if flat := sum(bool(f.flat) for f in facts):
        where = "the image" if len(facts) == 1 else f"the image at {flat} positions"
        notes.append(f"{where} is all one value: there is nothing to see in it")
    if "labels" in job.layouts:
        for item in range(len(facts)):
            notes += job.objects(item).notes()
    return list(dict.fromkeys(notes))
