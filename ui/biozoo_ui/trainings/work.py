"""What the process of a training does: it retrains as was asked, and shows before and after."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from biozoo.errors import Cancelled
from biozoo_runners import Image
from biozoo_trainers.hooks import End, Hook, Preview, Start, Step

from ..jobs.images import cut_region, open_images
from ..jobs.model import JobImage, Kind
from ..jobs.overlay import in_order, overlays
from ..jobs.results import label_of
from .events import Events
from .folder import Folder
from .model import Layer, Sample, Seen, Training

if TYPE_CHECKING:
    import xarray as xr

    from biozoo import ModelPackage
    from biozoo_trainers.training import Control

CHILD = "child.zip"

_SHOWN = 2  # epochs whose previews stay: a page may be opening that of the one before
_TOLD = 0.25  # seconds between two told steps


def work(training: Training, place: Folder, events: Events, control: Control) -> None:
    """Do a training.

    Raises
    ------
    Cancelled
        It was told to end.
    BiozooError
        As `biozoo_trainers.retrain`.
    """
    from biozoo import Zoo
    from biozoo_trainers.inference import recipe_of
    from biozoo_trainers.retraining import Naming, retrain
    from biozoo_trainers.training import TrainOptions

    package = Zoo().get(training.model, training.version)
    found = recipe_of(package)
    events.tell("facts", recipe=found.recipe.plain(), reasons=found.reasons)
    stages = _Stages(events, control)
    stages("reading the images", 0, None)
    chosen, child = training.choices, place.path / CHILD
    report = retrain(
        package,
        *_given(training),
        output=child,
        options=TrainOptions(
            steps=chosen.steps,
            learning_rate=chosen.learning_rate,
            seed=chosen.seed,
        ),
        hooks=[Teller(training, place, events)],
        channel=chosen.channel,
        held_out=chosen.held_out,
        # Painted classes are kept as 0 unpainted, 1 background, 2 and on objects or classes.
        scribbles=any(sample.kind == "classes" for sample in training.samples),
        split_masks=chosen.split_masks,
        folder=place.work,
        resume=place.work.exists(),
        control=control,
        overwrite=True,
        naming=Naming(name=chosen.name, id=chosen.id),
        progress=stages,
    )
    events.tell("facts", trained=report.images, held_out=report.held_out)
    for note in report.notes:
        events.tell("note", text=note)
    events.tell("gate", report=report.gate.to_dict())
    if training.seen is not None:
        events.tell("stage", words="Runs the model before and after on what you see")
        _show(package, training, place, events, "before")
        if child.exists():
            import biozoo

            _show(biozoo.open(str(child)), training, place, events, "after")
    if child.exists():
        events.tell("facts", child=CHILD)


_STAGES = {
    "reading the images": "Reads the images",
    "comparing the network": "Makes the network ready to learn",
    "measuring the parent": "Measures the model as it is",
    "training": "",  # its steps are told by themselves
    "measuring the child": "Measures the new model on the images that were held out",
    "mixing with the parent": "Mixes the new weights with the old",
    "measuring what was kept": "Measures what was kept",
    "running the parent": "Runs the model on images that it is to keep",
    "testing": "Tests the new model",
}
"""How what the trainer says that it does begins -> what a reader is told."""

_PACKING = "Packs the new model"


class _Stages:
    """Tells what is being done, as it is called with (what, done, total or None).

    Between two of these a training ends that was cancelled: it looks itself only between steps, and
    to measure and to pack takes minutes.
    """

    def __init__(self, events: Events, control: Control) -> None:
        self._events, self._control, self._last = events, control, ""

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if self._control.cancelled:
            raise Cancelled("The training")
        found = (words for begin, words in _STAGES.items() if what.startswith(begin))
        words = next(found, _PACKING)
        if words and words != _PACKING and total is not None and total > 1:
            words += f", {done} of {total}"
        if words and words != self._last:
            self._last = words
            self._events.tell("stage", words=words)


class Teller(Hook):
    """Tells the server how far a training is, and what the network says of what is seen."""

    def __init__(self, training: Training, place: Folder, events: Events) -> None:
        self._training, self._place, self._events = training, place, events
        self._spent: deque[float] = deque(maxlen=30)  # seconds of the last steps
        self._last = self._told = time.monotonic()

    def on_start(self, start: Start) -> None:
        """Say what is planned."""
        self._last = time.monotonic()
        self._events.tell(
            "facts",
            step=start.step,
            steps=start.steps,
            metric=start.metric,
            device=start.device,
        )
        for note in start.notes:
            self._events.tell("note", text=note)
        self._events.tell("stage", words="Trains")

    def on_step(self, step: Step) -> None:
        """Say how far it is, a few times a second at most."""
        now = time.monotonic()
        self._spent.append(now - self._last)
        self._last = now
        if now - self._told < _TOLD and step.step < step.steps:
            return
        self._told = now
        left = (step.steps - step.step) * median(self._spent)  # a pause is no step
        self._events.tell(
            "facts", step=step.step, steps=step.steps, loss=step.loss, seconds_left=left
        )

    def on_preview(self, preview: Preview) -> None:
        """Add a point to the curves, and show what is seen."""
        self._events.tell(
            "epoch",
            number=preview.epoch,
            step=preview.step,
            loss=preview.loss,
            score=preview.score,
        )
        if self._training.seen is not None:
            layers = self._look(preview, self._training.seen)
            self._events.layers("preview", layers, epoch=preview.epoch)
        self._last = time.monotonic()

    def on_end(self, end: End) -> None:
        """Say what is to be known."""
        for note in end.notes:
            self._events.tell("note", text=note)

    def _look(self, preview: Preview, seen: Seen) -> tuple[Layer, ...]:
        image = cut_region(opened(seen.image), seen.region)
        maps = preview.predict(image, channel=self._training.choices.channel)
        found = []
        with contextlib.suppress(Exception):  # of a target that no labels can be made of here
            labels = preview.labels(maps)
            found = [("labels", labels)] if labels.dtype.kind in "iu" else []
        for old in self._place.files.glob("preview-*"):
            number = int(old.name.split(".")[0].removeprefix("preview-"))
            if number <= preview.epoch - _SHOWN or number > preview.epoch:
                old.unlink(missing_ok=True)
        stem = f"preview-{preview.epoch}"
        return tuple(
            _written(self._place.files, f"{stem}.{name}.ome.tif", name, data, seen)
            for name, data in [*found, ("maps", maps)]
        )


def opened(image: JobImage) -> Image:
    """An image of a sample; no pixels are read."""
    found = open_images({"": image})
    assert not isinstance(found, dict)
    return found


def _given(training: Training) -> tuple[str | list[Image], str | list[Image] | None]:
    """Images and labels as `retrain` takes them: folders, paired by name, or one by one."""
    if training.folders is not None:
        images, labels = training.folders
        return str(images), None if labels is None else str(labels)
    return [opened(sample.image) for sample in training.samples], labels_of(training.samples)


def labels_of(samples: tuple[Sample, ...]) -> list[Image] | None:
    """The labels of samples as training takes them; None where no sample has any."""
    found = [opened(sample.labels) for sample in samples if sample.labels is not None]
    return found or None


def _show(
    package: ModelPackage, training: Training, place: Folder, events: Events, name: str
) -> None:
    """Run a model on what is seen, and tell its layers."""
    from biozoo_runners import load, write_image

    seen = training.seen
    assert seen is not None
    cut = cut_region(opened(seen.image), seen.region)
    origin = {axis: first for axis, (first, _) in seen.region.items()}
    layers = []
    with load(package) as runner:
        result = runner(cut, channel=training.choices.channel)
        lying = overlays(runner, cut, result, origin)
    for tensor in in_order(result):
        if {"y", "x"} <= set(map(str, result[tensor].dims)):
            path = write_image(place.files / f"{name}.{tensor}.ome.tif", result[tensor])
            lies = lying[tensor]
            layers.append(Layer(path.name, label_of(tensor), lies.kind, lies.at, lies.scale))
    events.layers(name, tuple(layers))


def _written(folder: Path, file: str, name: str, data: xr.DataArray, seen: Seen) -> Layer:
    """A tensor of what is seen as a file, and how it lies over the image."""
    from biozoo_runners import write_image

    path = write_image(folder / file, data)
    at: dict[str, float] = {
        axis: seen.region[axis][0] for axis in ("time", "z", "y", "x") if axis in seen.region
    }
    covers = {
        axis: (seen.region[axis][1] - seen.region[axis][0]) / data.sizes[axis]
        for axis in ("y", "x")
    }
    return Layer(
        path.name,
        label_of(name),
        _kind(data),
        at,
        None if set(covers.values()) == {1.0} else covers,
    )


def _kind(data: xr.DataArray) -> Kind:
    values: Any = data.values
    if values.dtype.kind in "iu":
        return "labels"
    return "probability" if values.size and values.min() >= 0 and values.max() <= 1 else "image"
