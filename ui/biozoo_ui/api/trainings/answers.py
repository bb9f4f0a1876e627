"""What the routes of trainings are asked, and what is said of a training."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from ...jobs import JobImage
from ...trainings import Decision, Layer, Training
from ..asked import OneChannel, page_words
from ..layers import LayerAnswer
from ..previews import SeenPart
from ..standing import Standing, standing_of


class _Asked(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewSample(_Asked):
    """An image and what is to be learned from it: a painted annotation, or an opened image of
    labels; neither where the model teaches itself.
    """

    image: str
    annotation: str | None = None
    labels: str | None = None


class NewFolders(_Asked):
    """Folders of the server's machine, whose files are paired by name."""

    images: str
    labels: str | None = None


class NewSeen(_Asked):
    """What is looked at after each epoch."""

    image: str
    view: SeenPart


class NewTraining(_Asked):
    """A model, images with what a person says of them, and the user's choices.

    `steps`, `learning_rate`: in place of the recipe's. `held_out`: part of the images
    that is never trained on. `split_masks`: number the connected parts of labels that are a mask.
    `name`: what the new model is to be called.
    """

    model: str = Field(max_length=1024)
    samples: list[NewSample] = Field(default_factory=list, max_length=10_000)
    folders: NewFolders | None = None
    channel: OneChannel | None = None
    steps: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    learning_rate: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    held_out: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_masks: bool = False
    name: str = Field("", max_length=128)
    seen: NewSeen | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> NewTraining:
        if bool(self.samples) == (self.folders is not None):
            raise ValueError("give samples, or folders, and not both")
        return self


class NewCheck(_Asked):
    """Whether a model can be retrained here."""

    model: str = Field(max_length=1024)


class CheckAnswer(BaseModel):
    """Whether a model can be retrained here, and how.

    `why`: why not, and what can be done instead; `install`: the line that installs what is missing,
    "" where nothing is. `supplies`: what a person gives: "instances",
    "classes", "image" or "nothing". `recipe` as in `config.biozoo.training`; where the package has
    none (`declared` is false), `reasons` says how it was inferred.
    """

    possible: bool
    why: str
    install: str
    declared: bool
    supplies: str
    steps: int
    learning_rate: float
    recipe: dict[str, Any]
    reasons: list[str]


class NamedSample(BaseModel):
    """An image that is learned from, and what its labels are."""

    id: str | None
    name: str
    labels: str


class StepsAnswer(BaseModel):
    """How far something is: so many of so many."""

    done: int
    total: int


class EpochAnswer(BaseModel):
    """One point of the curves."""

    number: int
    step: int
    loss: float
    score: float | None


class FileLayer(LayerAnswer):
    """A layer; `POST /api/trainings/ID/files/FILE/image` opens its `file`."""

    file: str


class TrainingDescription(Standing):
    """A training as it is now.

    `gate` is the verdict (see docs/retraining.md) once it is there; `child` whether there is a new
    model; `decision` what became of it, and `kept` the id under which it is in the zoo.
    """

    samples: list[NamedSample]
    folders: list[str]
    steps: StepsAnswer
    loss: float | None
    device: str
    metric: str
    epochs: list[EpochAnswer]
    preview_epoch: int
    preview: list[FileLayer]
    before: list[FileLayer]
    after: list[FileLayer]
    seen: str | None
    recipe: dict[str, Any]
    reasons: list[str]
    gate: dict[str, Any] | None
    notes: list[str]
    child: bool
    decision: Decision
    kept: str


class TrainingList(BaseModel):
    """The trainings of a session, the newest first."""

    trainings: list[TrainingDescription]


def describe_training(training: Training) -> TrainingDescription:
    """What is said of a training; no path but those of folders that its owner named."""
    now = training.progress
    return TrainingDescription(
        **standing_of_training(training),
        samples=[
            NamedSample(
                id=s.image.id or None, name=s.image.name, labels=s.labels.name if s.labels else ""
            )
            for s in training.samples
        ],
        folders=[str(path) for path in training.folders or () if path is not None],
        steps=StepsAnswer(done=now.step, total=now.steps),
        loss=now.loss,
        device=now.device,
        metric=now.metric,
        epochs=[EpochAnswer(**asdict(epoch)) for epoch in now.epochs],
        preview_epoch=now.preview_epoch,
        preview=[_layer(layer) for layer in now.preview],
        before=[_layer(layer) for layer in now.before],
        after=[_layer(layer) for layer in now.after],
        seen=training.seen.image.id if training.seen is not None else None,
        recipe=dict(now.recipe),
        reasons=list(now.reasons),
        gate=None if now.gate is None else dict(now.gate),
        notes=[words for note in now.notes if (words := page_words(note, _images(training)))],
        child=new_model(training),
        decision=training.decision,
        kept=training.kept,
    )


def standing_of_training(training: Training) -> dict[str, Any]:
    """How it stands."""
    now, at_work = training.progress, training.state in ("running", "paused")
    return standing_of(
        training,
        _images(training),
        stage=now.stage if at_work else "",
        seconds_left=now.seconds_left if training.state == "running" else None,
    )


def new_model(training: Training) -> bool:
    """Whether it made a model that was not discarded."""
    made = bool(training.progress.child) and training.state == "done"
    return made and training.decision != "discarded"


def _images(training: Training) -> dict[str, JobImage]:
    """By which names their owner knows them."""
    return {str(n): sample.image for n, sample in enumerate(training.samples)}


def _layer(layer: Layer) -> FileLayer:
    scale = None if layer.scale is None else dict(layer.scale)
    return FileLayer(
        file=layer.file, kind=layer.kind, name=layer.name, at=dict(layer.at), scale=scale
    )
