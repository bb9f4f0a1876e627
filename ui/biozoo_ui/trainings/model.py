"""What a training is, as plain frozen values, and its errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Self

from biozoo.errors import UsageError

from ..jobs.model import JobImage, Kind

State = Literal["waiting", "running", "paused", "done", "failed", "cancelled", "interrupted"]

Decision = Literal["", "kept", "discarded"]
"""What its owner made of a new model; "" where that is open."""

LabelsKind = Literal["instances", "classes", "image"]
"""What the labels of a sample hold: numbered objects, scribbles of classes (0 unpainted, 1
background, 2 and on classes), or whatever the model's target says of a file."""

Hold = Callable[[], AbstractContextManager[None]]

Folders = tuple[Path, Path | None]
"""A folder of images, and one of labels; None where the model teaches itself."""

ACTIVE: tuple[State, ...] = ("waiting", "running", "paused")
RESUMABLE: tuple[State, ...] = ("failed", "cancelled", "interrupted")

ENDED_FULL = 4
"""Exit status of a process that could not tell how it ended, as the disk is full."""


class TrainingStateError(UsageError):
    """What was asked of a training is not possible in the state it is in."""

    http_status = 409


@dataclass(frozen=True)
class Sample:
    """An image and what a person says of it.

    Attributes
    ----------
    image
        As it was opened; a training keeps what goes with the server.
    labels
        Of the same size; None where the model teaches itself. What is painted is copied when the
        training is asked for.
    kind
        What the labels hold.
    hold
        While it is entered the labels do not change; of what is being painted.
    """

    image: JobImage
    labels: JobImage | None
    kind: LabelsKind = "image"
    hold: Hold = field(default=nullcontext, repr=False, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        labels = None if self.labels is None else self.labels.to_dict()
        return {"image": self.image.to_dict(), "labels": labels, "kind": self.kind}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_dict` was made of."""
        labels = None if plain["labels"] is None else JobImage.from_dict(plain["labels"])
        return cls(JobImage.from_dict(plain["image"]), labels, plain["kind"])


@dataclass(frozen=True)
class Seen:
    """What is looked at after each epoch: a part of one of the images.

    Attributes
    ----------
    image
        The image, as it was opened.
    region
        First and the one after the last position, by axis of the image.
    """

    image: JobImage
    region: Mapping[str, tuple[int, int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "image": self.image.to_dict(),
            "region": {a: list(r) for a, r in self.region.items()},
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_dict` was made of."""
        region = {axis: (first, last) for axis, (first, last) in plain["region"].items()}
        return cls(JobImage.from_dict(plain["image"]), region)


@dataclass(frozen=True)
class Choices:
    """What the user chose; None leaves it to the recipe.

    Attributes
    ----------
    channel
        Number, name, "gray", or several of them.
    steps, learning_rate, seed
        Of the training.
    held_out
        Part of the images that is kept to measure with.
    split_masks
        Number the connected parts of labels that are one mask.
    name, id
        Of the new model.
    """

    channel: int | str | list[int | str] | None = None
    steps: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    held_out: float = 0.2
    split_masks: bool = False
    name: str = ""
    id: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not chosen is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Epoch:
    """One point of the curves; `score` is None where no images are kept for it."""

    number: int
    step: int
    loss: float
    score: float | None


@dataclass(frozen=True)
class Layer:
    """A file that lies over an image; `at` and `scale` in the image's pixels, as for a job's."""

    file: str
    name: str
    kind: Kind
    at: Mapping[str, float]
    scale: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Progress:
    """How far a training is, as its process tells it.

    Attributes
    ----------
    stage
        What is being done, in words.
    step, steps
        Of the training; 0 before it begins.
    loss
        Of the last step.
    seconds_left
        An estimate, None where there is nothing to go by.
    metric
        What scores are.
    epochs
        The curves.
    preview
        What the network says of what is seen, after `preview_epoch`.
    before, after
        What parent and child say of it.
    recipe
        How the model is retrained, and why in that way: `Recipe.plain()` and sentences.
    gate
        `GateReport.to_dict()`, None until it is there.
    notes
        What the user should know.
    child
        Name of the new package in the training's folder; empty where there is none.
    held_out, trained
        Names of the images on either side.
    """

    stage: str = ""
    step: int = 0
    steps: int = 0
    loss: float | None = None
    seconds_left: float | None = None
    metric: str = ""
    device: str = ""
    epochs: tuple[Epoch, ...] = ()
    preview: tuple[Layer, ...] = ()
    preview_epoch: int = 0
    before: tuple[Layer, ...] = ()
    after: tuple[Layer, ...] = ()
    recipe: Mapping[str, Any] = field(default_factory=dict)
    reasons: tuple[str, ...] = ()
    gate: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    child: str = ""
    held_out: tuple[str, ...] = ()
    trained: tuple[str, ...] = ()


@dataclass(frozen=True)
class Training:
    """One training as it is at a moment.

    Attributes
    ----------
    id, owner
        Random, safe in an address; the session that made it: no other one sees it.
    model, version
        What is retrained.
    samples, folders
        With what: images one by one, or a folder of images and one of labels of the same names.
    choices, seen
        How, and what is looked at meanwhile.
    state
        See the package.
    created, started, ended
        In UTC; `started` of the latest attempt.
    error
        What happened and what to do, empty where nothing did.
    server
        Which server runs it.
    decision, kept
        What its owner made of the new model, and the id under which it is in the zoo.
    progress
        How far it is.
    stopping
        Whether it was asked to stop.
    """

    id: str
    owner: str
    model: str
    version: str | None
    samples: tuple[Sample, ...]
    choices: Choices
    created: datetime
    folders: Folders | None = None
    seen: Seen | None = None
    state: State = "waiting"
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    server: str = ""
    decision: Decision = ""
    kept: str = ""
    progress: Progress = field(default_factory=Progress)
    stopping: bool = False

    @property
    def active(self) -> bool:
        """Whether it waits, runs or is paused."""
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        """Whether `Trainings.resume` takes it."""
        return self.state in RESUMABLE
