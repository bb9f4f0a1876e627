"""The HTTP routes of trainings: checked, made, watched, paused, decided on by a session."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse

from biozoo.errors import BiozooError, MissingDependencyError, NotFoundError, UsageError

from ...jobs import JobImage
from ...jobs.previews import View
from ...live.place import place_of
from ...trainings import Choices, Sample, Seen, Training, Trainings
from ...trainings.model import Hold, LabelsKind
from ..answers import sends
from ..asked import FindImage, FindModel, Session, told_here
from ..events import followed
from ..images.answers import ImageAnswer
from ..jobs.routes import OpenFile
from .answers import (
    CheckAnswer,
    NewCheck,
    NewFolders,
    NewSample,
    NewTraining,
    TrainingDescription,
    TrainingList,
    describe_training,
)
from .check import INSTALL, check_training, lacking

if TYPE_CHECKING:
    from biozoo import ModelPackage

FindAnnotation = Callable[[str, str], tuple[JobImage, LabelsKind, Hold]]
"""What is painted, as an image, what its numbers mean, and how to keep it from changing:
annotation id, session.
"""

AllowedFolder = Callable[[str], Path]
"""A folder of this machine that its owner allowed; raises RefusedPathError."""

Call = Callable[["ModelPackage", str], tuple[str, str]]
"""Name and id of a model that is made of this one, as its user wishes to call it; the id is new."""

Forget = Callable[[str, str], None]
"""Forgets an opened image: its id, the session."""

Act = Callable[[str, str], Training]
"""Does something with a training of an owner: its id, the session."""

_SHOWN = 8  # previews of one training that stay open as images

_FILE = sends("application/octet-stream", "The file.")
_EVENTS = sends(
    "text/event-stream",
    "`event: training` with the training as by `GET /api/trainings/ID`; `event: deleted`.",
)


def training_routes(
    trainings: Trainings,
    *,
    session: Session,
    find_image: FindImage,
    find_model: FindModel,
    find_annotation: FindAnnotation,
    allowed_folder: AllowedFolder,
    call: Call,
    open_file: OpenFile,
    forget: Forget,
) -> APIRouter:
    """The routes of one server's trainings, below /api/trainings.

    Another session's training is answered as one that does not exist.
    """
    router = APIRouter(prefix="/api/trainings", tags=["trainings"])
    previews = _Opened(forget)

    def one(training_id: str, request: Request) -> Training:
        return trainings.get(training_id, session(request))

    @router.get("")
    def list_of_session(request: Request) -> TrainingList:
        """List the trainings of this session, the newest first."""
        found = trainings.of_owner(session(request))
        return TrainingList(trainings=[describe_training(training) for training in found])

    @router.post("/checks")
    def check(asked: NewCheck) -> CheckAnswer:
        """Tell whether a model can be retrained here, and by which recipe."""
        return check_training(find_model(asked.model))

    @router.post("", status_code=201)
    def new_training(asked: NewTraining, request: Request) -> TrainingDescription:
        """Ask for a training; it begins when the one before it has ended."""
        owner = session(request)
        package = find_model(asked.model)
        if names := lacking():
            raise MissingDependencyError(what="Retraining", library=names, install=INSTALL)
        told = check_training(package)
        if not told.possible:
            raise UsageError(f"Model '{package.id}' cannot be retrained: {told.why}")
        samples = [_sample(one, owner, find_image, find_annotation) for one in asked.samples]
        if len({sample.kind for sample in samples}) > 1:
            raise UsageError(
                "Some of these images have scribbles and others whole objects. Choose images with "
                "one kind of labels."
            )
        images = {str(n): sample.image for n, sample in enumerate(samples)}
        seen = None
        try:
            if asked.seen is not None:
                image = find_image(asked.seen.image, owner)
                images["seen"] = image
                place = place_of(package, image, View(**asked.seen.view.model_dump()))
                seen = Seen(image, place.region)
            training = trainings.submit(
                package,
                samples,
                lambda: _choices(asked, *call(package, asked.name.strip())),
                owner=owner,
                folders=_folders(asked.folders, allowed_folder),
                seen=seen,
            )
        except BiozooError as exc:
            raise told_here(exc, images) from exc
        return describe_training(training)

    @router.get("/{training_id}")
    def describe(training_id: str, request: Request) -> TrainingDescription:
        """Describe a training: its curves, what it says of the image, the gate's verdict."""
        return describe_training(one(training_id, request))

    def acting(verb: str, act: Act, words: str) -> None:
        """A route that does something with a training and answers how it is then."""

        @router.post(f"/{{training_id}}/{verb}", name=verb, description=words)
        def route(training_id: str, request: Request) -> TrainingDescription:
            return describe_training(act(training_id, session(request)))

    acting("pause", trainings.pause, "Let it wait after its next step.")
    acting(
        "resume",
        trainings.resume,
        "Let a paused one go on, or one that did not end well, from its last checkpoint.",
    )
    acting("cancel", trainings.cancel, "Stop it; what it learned stays for a resume.")
    acting("keep", trainings.keep, "Add the new model to the zoo; `kept` is its id.")
    acting("discard", trainings.discard, "Remove the new model's files.")
    acting(
        "undo",
        trainings.undo,
        "Go back to the parent: the new model leaves the zoo, and can be kept again.",
    )

    @router.delete("/{training_id}", status_code=204)
    def delete(training_id: str, request: Request) -> None:
        """Forget a training that does not run, and remove its files; a kept model stays."""
        trainings.delete(training_id, session(request))

    @router.get("/{training_id}/files/{name}", response_class=FileResponse, responses=_FILE)
    def file(training_id: str, name: str, request: Request) -> FileResponse:
        """Download what the training says of the image that is seen."""
        path = trainings.file(training_id, name, session(request))
        return FileResponse(path, filename=name, media_type="image/tiff")

    @router.post("/{training_id}/files/{name}/image", status_code=201, response_model=ImageAnswer)
    def opened(training_id: str, name: str, request: Request) -> dict[str, Any]:
        """Open such a file as an image, so that its tiles can be looked at."""
        owner = session(request)
        path = trainings.file(training_id, name, owner)
        now = one(training_id, request).progress
        layers = (*now.preview, *now.before, *now.after)
        kind = next((layer.kind for layer in layers if layer.file == name), "image")
        made = open_file(owner, path, name, "labels" if kind == "labels" else "image")
        if name.startswith("preview"):
            previews.add(owner, training_id, made["id"])
        return made

    @router.get("/{training_id}/events", response_class=StreamingResponse, responses=_EVENTS)
    async def events(training_id: str, request: Request) -> StreamingResponse:
        """Stream the training as server-sent events, one per change, until it has ended."""
        owner = session(request)
        return await followed(
            request,
            "training",
            lambda: trainings.get(training_id, owner),
            describe_training,
            lambda: trainings.closed,
        )

    return router


def _choices(asked: NewTraining, name: str, model_id: str) -> Choices:
    left_out = {"model", "samples", "folders", "seen", "name"}
    return Choices(**asked.model_dump(exclude=left_out), name=name, id=model_id)


def _folders(asked: NewFolders | None, allowed: AllowedFolder) -> tuple[Path, Path | None] | None:
    if asked is None:
        return None
    return allowed(asked.images), None if asked.labels is None else allowed(asked.labels)


def _sample(
    asked: NewSample, owner: str, find_image: FindImage, find_annotation: FindAnnotation
) -> Sample:
    image = find_image(asked.image, owner)
    if asked.annotation is not None and asked.labels is not None:
        raise UsageError(
            f"'{image.name}' has both a painted annotation and an image of labels. Give one."
        )
    if asked.annotation is not None:
        return Sample(image, *find_annotation(asked.annotation, owner))
    if asked.labels is not None:
        return Sample(image, find_image(asked.labels, owner))
    return Sample(image, None)


class _Opened:
    """The previews of each training that are open as images: older ones are forgotten."""

    def __init__(self, forget: Forget) -> None:
        self._forget = forget
        self._lock = Lock()
        self._of: OrderedDict[tuple[str, str], deque[str]] = OrderedDict()

    def add(self, owner: str, training_id: str, image_id: str) -> None:
        """Take note of one that is open."""
        with self._lock:
            mine = self._of.setdefault((owner, training_id), deque())
            self._of.move_to_end((owner, training_id))
            if image_id not in mine:
                mine.append(image_id)
            gone = [mine.popleft() for _ in range(len(mine) - _SHOWN)]
            while len(self._of) > 1000:
                self._of.popitem(last=False)
        for one in gone:
            with suppress(NotFoundError):
                self._forget(one, owner)
