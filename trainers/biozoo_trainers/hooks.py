"""What others may do while a model is trained: look, log, show a preview; never break it.

A hook is a `Hook` with some methods of its own, or a callable ``f(event, info)`` that is told every
event by name ("start", "step", "preview", "checkpoint", "end"). Both get frozen facts. Named ones
come from the entry-point group ``biozoo.hooks`` (a class or a function). A hook that raises is
noted once and not called again; the training goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr


__all__ = [
    "Checkpoint",
    "End",
    "Event",
    "Hook",
    "HookLike",
    "Hooks",
    "Preview",
    "Start",
    "Step",
    "hook_named",
]


@dataclass(frozen=True)
class Start:
    """A training begins, or goes on.

    Attributes
    ----------
    model
        Id of the package.
    steps, steps_per_epoch
        What is planned; an epoch is the time between two looks at the validation images.
    step
        Steps that are done already (0, or where a stopped training goes on).
    images, validation
        How many images are trained on, and how many of the training images are kept to look at the
        score between epochs.
    metric
        What `Step.score` of the last step of an epoch and `End.score` are, higher is better.
    device, patch, batch
        Where it runs, with what pieces.
    notes
        What the person should know.
    """

    model: str
    steps: int
    steps_per_epoch: int
    step: int
    images: int
    validation: int
    metric: str
    device: str
    patch: Mapping[str, int]
    batch: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Step:
    """One step is done; `losses` are the summands by name, before their weights."""

    step: int
    steps: int
    epoch: int
    loss: float
    losses: Mapping[str, float]
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class Preview:
    """An epoch is over: its curves, and the network as it is now.

    Attributes
    ----------
    epoch, step, steps
        Where the training is.
    loss
        Mean of the epoch's steps.
    score
        On the validation images, None where there are none.
    predict
        ``predict(image, axes=None, channel=None)``: the output's maps for an image, as the
        package's own runner would give them: dims ``channel`` and the spatial axes, postprocessing
        done. Valid only while the hook runs.
    labels
        ``labels(maps)``: what the target makes of maps: numbered objects, classes, or an image.
    """

    epoch: int
    step: int
    steps: int
    loss: float
    score: float | None
    predict: Callable[..., xr.DataArray]
    labels: Callable[[xr.DataArray], xr.DataArray]


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on was written."""

    path: Path
    step: int
    best: bool


@dataclass(frozen=True)
class End:
    """The training is over: "done", "early" (it had become worse), "cancelled" or "failed"."""

    outcome: str
    step: int
    seconds: float
    score: float | None
    notes: tuple[str, ...] = ()


Event = Start | Step | Preview | Checkpoint | End


class Hook:
    """Does nothing; override what is wanted."""

    def on_start(self, start: Start) -> None:
        """Called once, before the first step."""

    def on_step(self, step: Step) -> None:
        """Called after each step."""

    def on_preview(self, preview: Preview) -> None:
        """Called after each epoch."""

    def on_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Called after a checkpoint was written."""

    def on_end(self, end: End) -> None:
        """Called once, also where the training was stopped or failed."""


HookLike = Hook | Callable[[str, Any], None]


class Hooks:
    """All hooks of a training; `notes` says which failed."""

    def __init__(self, hooks: Sequence[HookLike | str] = ()) -> None:
        self.notes: list[str] = []
        self._hooks: list[tuple[str, HookLike]] = []
        for given in hooks:
            hook = hook_named(given) if isinstance(given, str) else given
            self._hooks.append((given if isinstance(given, str) else _name(hook), hook))

    def __bool__(self) -> bool:
        return bool(self._hooks)

    def tell(self, event: Event) -> None:
        """Tell every hook; one that raises is noted and left out from then on."""
        kind = type(event).__name__.lower()
        kept = []
        for name, hook in self._hooks:
            try:
                if isinstance(hook, Hook):
                    getattr(hook, f"on_{kind}")(event)
                else:
                    hook(kind, event)
            except (Exception, SystemExit) as exc:  # someone else's code: whatever it raises
                self.notes.append(
                    f"hook {name} failed at {kind} and was not called again: "
                    f"{type(exc).__name__}: {exc}"
                )
            else:
                kept.append((name, hook))
        self._hooks = kept


def hook_named(name: str) -> HookLike:
    """The hook that an entry point of the group biozoo.hooks names; a class is instantiated.

    Raises
    ------
    NotFoundError
        No entry point has this name.
    BackendError
        Its module fails to import.
    UsageError
        It is no hook.
    """
    from biozoo.errors import UsageError
    from biozoo.plugins import load_one

    found = load_one("biozoo.hooks", name)
    try:
        made = found() if isinstance(found, type) else found
    except (Exception, SystemExit) as exc:  # it is someone else's code: whatever it raises
        raise UsageError(
            f"Hook '{name}' cannot be made: {type(exc).__name__}: {exc}. A class that is a hook is "
            "called without arguments."
        ) from exc
    if isinstance(made, Hook) or callable(made):
        return made
    raise UsageError(
        f"Hook '{name}' is {type(made).__name__}, neither a biozoo_trainers.Hook nor a function of "
        "(event, info)."
    )


def _name(hook: HookLike) -> str:
    name = getattr(hook, "__name__", None)
    return f"'{name}'" if isinstance(name, str) else f"'{type(hook).__name__}'"
