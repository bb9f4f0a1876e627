"""One training and what came of it: mixed with the parent where asked, measured, judged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from biozoo.errors import Cancelled

from .gate import Forgetting, GateReport, GateRule, Measured, judge
from .hooks import Hook
from .mixing import Mixed, Weights, choose
from .network import runner_of
from .splits import place

if TYPE_CHECKING:
    from biozoo_runners.pipeline import Runner

    from .hooks import HookLike, Start, Step
    from .pairs import Pair
    from .prepared import Prepared, Progress
    from .training.control import Control
    from .training.options import Trained, TrainOptions

__all__ = ["Learned", "Wishes", "learn", "measure_parent"]

#: So many of the images that were learned from tell which mixture of weights is good.
_FEW = 4

#: One of so many replayed images is kept to measure what was forgotten.
_KEPT_OF_REPLAY = 5


@dataclass(frozen=True)
class Wishes:
    """How to train, for `learn`.

    Attributes
    ----------
    options
        Steps, device, seed, ...
    hooks
        Told of the training.
    control
        Through which it can be stopped.
    share
        Part of the trained weights in the child; None chooses.
    resume
        Whether a checkpoint is gone on from.
    progress
        Called with (what, done, total or None).
    """

    options: TrainOptions
    hooks: Sequence[HookLike | str] = ()
    control: Control | None = None
    share: float | None = 1.0
    resume: bool = False
    progress: Progress | None = None

    @property
    def device(self) -> str:
        """Where models are measured: the device of the training, as a runner is asked for it."""
        return self.options.device

    def cancelled(self) -> bool:
        """Whether somebody stopped it."""
        return self.control is not None and self.control.cancelled


@dataclass(frozen=True)
class Learned:
    """What one training gave; the network holds the child's weights.

    Attributes
    ----------
    trained
        Steps, curves, notes.
    weights
        To put the parent's back.
    mixed
        How much of the trained weights the child has.
    gate
        The verdict on the held-out images.
    train, held_out
        The person's images.
    replayed
        Images with the parent's results as labels that were learned too.
    seconds
        By stage: "training", "child".
    device
        Where it was trained.
    """

    trained: Trained
    weights: Weights
    mixed: Mixed
    gate: GateReport
    train: tuple[Pair, ...]
    held_out: tuple[Pair, ...]
    replayed: tuple[Pair, ...]
    seconds: dict[str, float]
    device: str


def measure_parent(ready: Prepared, pairs: Sequence[Pair], wishes: Wishes) -> Measured:
    """The parent on the held-out images, by its own weights in the package."""
    from biozoo_runners import load

    with load(ready.package, device=wishes.device) as runner:
        return ready.scorer.measure(
            runner,
            pairs,
            what="measuring the parent",
            progress=wishes.progress,
            cancelled=wishes.cancelled,
        )


def learn(
    ready: Prepared,
    train_on: Sequence[Pair],
    held_out: Sequence[Pair],
    before: Measured,
    folder: Path,
    wishes: Wishes,
    *,
    replay: Sequence[Pair] = (),
) -> Learned:
    """Train, mix, measure, judge.

    Parameters
    ----------
    train_on, held_out
        Images to learn from, and to measure on.
    before
        The parent on the held-out ones.
    folder
        Of the checkpoint.
    replay
        Images with the parent's results as labels; a part of them is kept to measure on.

    Raises
    ------
    Cancelled
        Stopped; the checkpoint stays in the folder.
    """
    from .training import train

    start = time.perf_counter()
    ordered = sorted(replay, key=lambda p: place(p.digest))
    kept, repeated = _divided(ordered)
    watch = _Watch(wishes.progress)
    trained = train(
        ready.package,
        ready.recipe,
        (*train_on, *repeated),
        folder=folder,
        options=wishes.options,
        channel=ready.channel,
        hooks=[*wishes.hooks, watch],
        control=wishes.control,
        resume=wishes.resume,
        network=ready.network,
    )
    if trained.outcome == "cancelled":
        raise Cancelled("The training")
    taught = time.perf_counter()
    weights = Weights(trained.module, trained.before)
    rule = _rule(ready)
    with _Family(ready, trained, weights, kept, wishes) as family:
        mixed = family.mixed(train_on)
        child = family.measure(held_out, "measuring the child")
        forgetting = [*family.forgetting(), *_earlier(ready, held_out, before, child, rule)]
    ready.network.module_for_export()  # back on the CPU
    notes = [mixed.note] if mixed.note else []
    verdict = judge(before, child, rule, forgetting=forgetting, notes=notes)
    seconds = {"training": taught - start, "child": time.perf_counter() - taught}
    return Learned(
        trained,
        weights,
        mixed,
        verdict,
        tuple(train_on),
        tuple(held_out),
        tuple(repeated),
        seconds,
        watch.device,
    )


def _rule(ready: Prepared) -> GateRule:
    gate = ready.recipe.gate
    return GateRule(ready.scorer.metric, gate.margin, gate.forgetting)


def _divided(pairs: Sequence[Pair]) -> tuple[list[Pair], list[Pair]]:
    """Replayed images to measure on, and to learn from."""
    count = max(1, len(pairs) // _KEPT_OF_REPLAY) if len(pairs) > 1 else 0
    return list(pairs[:count]), list(pairs[count:])


def _earlier(
    ready: Prepared, pairs: Sequence[Pair], before: Measured, child: Measured, rule: GateRule
) -> list[Forgetting]:
    """What was lost on images that an earlier round held out."""
    known = ready.lineage.held_out
    places = [n for n, p in enumerate(pairs) if p.digest in known]
    if not places or len(places) == len(pairs):  # then that is the verdict itself
        return []
    means = [sum(m.values[n] for n in places) / len(places) for m in (before, child)]
    on = f"{len(places)} images that an earlier round held out"
    return [Forgetting(rule.metric, on, means[0], means[1], rule.forgetting)]


class _Family:
    """The child and its parent: one network, whose weights are set to be the one or the other.

    Each has its own description, as the child's may invert the image first.

    Parameters
    ----------
    trained
        The child, and the description that it works with.
    weights
        Of the network.
    kept
        Replayed images that were not learned from.
    """

    def __init__(
        self,
        ready: Prepared,
        trained: Trained,
        weights: Weights,
        kept: Sequence[Pair],
        wishes: Wishes,
    ) -> None:
        self._ready, self._weights, self._kept, self._wishes = ready, weights, kept, wishes
        network, device = ready.network.network, _torch_device(wishes)
        with ExitStack() as opening:
            self._parent = opening.enter_context(runner_of(ready.package, network, device=device))
            self._child = opening.enter_context(runner_of(trained.package, network, device=device))
            if trained.rule is not None:
                self._child.instances = trained.rule
            with weights.parent():
                self._truth = ready.scorer.own_result(self._parent)
            self._opened = opening.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def measure(self, pairs: Sequence[Pair], what: str) -> Measured:
        """The child on labelled images."""
        return self._measure(self._child, pairs, what)

    def _measure(self, runner: Runner, pairs: Sequence[Pair], what: str) -> Measured:
        return self._ready.scorer.measure(
            runner,
            pairs,
            what=what,
            progress=self._wishes.progress,
            cancelled=self._wishes.cancelled,
        )

    def forgetting(self) -> list[Forgetting]:
        """On the package's test image, and on the replayed images that were kept aside."""
        limit, found = self._ready.recipe.gate.forgetting, []
        if self._truth is not None:
            found.append(self._ready.scorer.kept(self._truth, self._child, limit))
        if self._kept:
            made = self.measure(self._kept, "measuring what was kept")
            on = f"{len(self._kept)} of the images given to be kept"
            found.append(Forgetting(made.metric, on, 1.0, made.mean, limit))
        return found

    def mixed(self, train_on: Sequence[Pair]) -> Mixed:
        """The asked mixture of old and new weights, or a chosen one; it is set then."""
        share = self._wishes.share
        if share is not None:
            self._weights.set(share)
            return Mixed(share, f"{share:.0%} of the new weights, as asked" if share < 1 else "")
        few = sorted(train_on, key=lambda p: place(p.digest))[-_FEW:]

        def score() -> float:
            return self.measure(few, "mixing with the parent").mean

        def parents() -> float:
            with self._weights.parent():
                return self._measure(self._parent, few, "mixing with the parent").mean

        return choose(self._weights, self.forgetting, score, parents)


def _torch_device(wishes: Wishes) -> str:
    """Where the trained module is measured."""
    import torch

    if wishes.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return wishes.device


class _Watch(Hook):
    """Remembers where a training runs, and draws its steps with the loss."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self.device = ""

    def on_start(self, start: Start) -> None:
        self.device = start.device

    def on_step(self, step: Step) -> None:
        if self._progress is not None:
            self._progress(f"training, loss {step.loss:.3f}", step.step, step.steps)
