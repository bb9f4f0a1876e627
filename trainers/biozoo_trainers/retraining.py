"""Retraining by one rule for every model.

    report = retrain("nuclei-fluo", "images/", "labels/", channel="gray", output="mine.zip")
    print(report)

One way: open -> recipe (declared or inferred) -> pairs checked -> held-out part fixed -> network
proven equal to the package -> parent measured -> trained -> mixed with the parent where that
lessens forgetting -> child measured -> gate -> package. At `output` there is a whole package that
is better than its parent on the held-out images, or nothing new.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import UsageError

from .child import make_child
from .child_facts import Naming, child_facts
from .learning import Learned, Wishes, learn, measure_parent
from .lineage import called
from .mixing import parse_share
from .prepared import Prepared, Progress, opened, place_of, prepare, recipe_for, replayed
from .report import RetrainReport
from .splits import split
from .training.options import TrainOptions

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_converters.packing.packed import PackReport
    from biozoo_runners.prepare import Channel

    from .hooks import HookLike
    from .pairs import Source
    from .recipe import Recipe
    from .training.control import Control

__all__ = ["Naming", "report_of", "retrain"]


def retrain(
    package: ModelPackage | str | Path,
    images: Source,
    labels: Source | None = None,
    *,
    output: Path | str | None = None,
    recipe: Recipe | None = None,
    options: TrainOptions | None = None,
    hooks: Sequence[HookLike | str] = (),
    channel: Channel | None = None,
    axes: str | Sequence[str] | None = None,
    held_out: float = 0.2,
    scribbles: bool = False,
    split_masks: bool = False,
    replay: Source | None = None,
    interpolate: str | float = "auto",
    folder: Path | None = None,
    resume: bool = False,
    control: Control | None = None,
    overwrite: bool = False,
    naming: Naming | None = None,
    progress: Progress | None = None,
) -> RetrainReport:
    """Train a model on with a person's own images, and keep the result if it is better.

    Parameters
    ----------
    package
        The parent: a package, or what `biozoo.open` takes.
    images, labels
        A folder each, paired by name; or lists of paths or arrays, paired by place. What labels
        are (numbered objects, classes, clean images, nothing) is up to the recipe's target.
    output
        Where the child goes, ``.zip`` or a folder; None writes none.
    recipe
        In place of the package's own or the inferred one.
    options
        Steps, patch, device, seed, ...; see `TrainOptions`.
    hooks
        Hooks, callables ``f(event, info)``, or names of installed ones; see `hooks`.
    channel, axes
        Which channel(s) the model gets, and the images' axes where they do not say; as for a run.
    held_out
        Part of the images that is never learned from. Which ones is decided by their content, and
        stays so in later rounds.
    scribbles
        Whether the labels are painted in part (0 unpainted, 1 background, 2 object or class).
    split_masks
        Whether masks are cut into objects where objects are needed.
    replay
        Images that the parent does well on, without labels: its own results on them are learned
        too, so that less is forgotten.
    interpolate
        Part of the trained weights in the child, the rest being the parent's. "auto" mixes only
        where more is forgotten than the recipe allows.
    folder
        Of the checkpoints; a temporary one where None. Stays after a stop, to be resumed.
    resume
        Go on from the checkpoint in `folder`.
    control
        Through which the training can be paused and stopped.
    overwrite
        Replace what stands at `output` even where it is no package.
    naming
        Of the child.
    progress
        Called with (what, done, total or None).

    Raises
    ------
    NotTrainableError
        The package cannot be retrained; says why.
    IncompleteError
        Images or labels that cannot be used, all at once.
    UsageError
        Other wrong arguments.
    Cancelled
        Stopped by `control`; the checkpoint stays in `folder`.
    BiozooError
        What else can stand in the way: missing libraries, memory, no space.
    """
    share = parse_share(interpolate)
    target = place_of(output, overwrite=overwrite)
    if resume and folder is None:
        raise UsageError("To go on with a training its folder must be given.")
    start = time.perf_counter()
    parent = opened(package)
    ready = prepare(
        parent,
        recipe_for(parent, recipe),
        images,
        labels,
        channel=channel,
        axes=axes,
        scribbles=scribbles,
        split_masks=split_masks,
        progress=progress,
    )
    sides = split(ready.pairs, held_out, ready.lineage.held_out, ready.lineage.trained)
    wishes = Wishes(options or TrainOptions(), hooks, control, share, resume, progress)
    looked = time.perf_counter()
    before = measure_parent(ready, sides.held_out, wishes)
    seconds = {"network": ready.seconds, "parent": time.perf_counter() - looked}
    with contextlib.ExitStack() as stack:
        if folder is None:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="biozoo-training-"))
            folder = Path(made)
        done = learn(
            ready,
            sides.train,
            sides.held_out,
            before,
            folder,
            wishes,
            replay=() if replay is None else replayed(ready, replay, progress=progress),
        )
        seconds |= done.seconds
        package_made = None
        if done.gate.passed and target is not None:
            packing = time.perf_counter()
            facts = child_facts(ready, done, naming or Naming())
            network, described = ready.network.module_for_export(), done.trained.package
            package_made = make_child(described, network, facts, target, progress=progress)
            seconds["packing"] = time.perf_counter() - packing
    seconds["total"] = time.perf_counter() - start
    return report_of(ready, done, package_made, seconds, notes=sides.notes)


def report_of(
    ready: Prepared,
    done: Learned,
    made: PackReport | None,
    seconds: Mapping[str, float],
    *,
    notes: Sequence[str] = (),
) -> RetrainReport:
    """What to tell of a finished retraining."""
    told = [*ready.notes, *notes, *done.trained.notes, *done.gate.notes]
    return RetrainReport(
        model=called(ready.package),
        recipe=ready.recipe,
        reasons=ready.inferred.reasons,
        declared=ready.inferred.declared,
        images=tuple(p.stem for p in done.train),
        held_out=tuple(p.stem for p in done.held_out),
        gate=done.gate,
        package=made,
        outcome=done.trained.outcome,
        steps=done.trained.steps,
        seconds=dict(seconds),
        history=done.trained.history,
        share=done.mixed.share,
        device=done.device,
        channel="" if ready.channel is None else _channel_text(ready.channel),
        notes=tuple(dict.fromkeys([*told, *(made.notes if made is not None else ())])),
    )


def _channel_text(channel: Channel) -> str:
    """As the command line takes it."""
    return str(channel) if isinstance(channel, str | int) else ",".join(map(str, channel))
