"""What a server does with a model on an image: checks, samples, previews, jobs, live mode and
trainings, as routes.

Here these meet the server's opened images and its models; they do not know each other otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fastapi import APIRouter

from ..jobs import JobImage
from .checks import check_routes
from .images import session_of
from .jobs import job_routes
from .learning import Learning
from .live import live_routes
from .previews import Shelf, preview_routes
from .sample import sample_command, sample_routes
from .trainings import training_routes
from .worklist import work_list_routes

if TYPE_CHECKING:
    from biozoo import ModelPackage

    from .state import ServerState


def work_routes(state: ServerState) -> Iterator[APIRouter]:
    """The routes of one server."""
    work = _Work(state)
    yield check_routes(session=session_of, find_image=work.image, find_model=work.model)
    yield sample_routes(
        work.samples, session=session_of, find_model=work.model, open_sample=work.open_sample
    )
    yield preview_routes(
        state.previews,
        session=session_of,
        find_image=work.image,
        find_model=work.model,
        shelf=Shelf(state.images),
    )
    yield job_routes(
        state.jobs,
        session=session_of,
        find_image=work.image,
        find_model=work.model,
        open_file=work.open_result,
        open_image=work.open_again,
    )
    learning = Learning(state)
    yield live_routes(
        state.live,
        session=session_of,
        find_image=work.image,
        find_model=work.model,
        read_painted=learning.painted,
        install=learning.install,
        facts_of=learning.facts,
    )
    yield training_routes(
        state.trainings,
        session=session_of,
        find_image=work.image,
        find_model=work.model,
        find_annotation=learning.annotation,
        allowed_folder=state.images.allowed_path,
        call=learning.call,
        open_file=work.open_result,
        forget=state.images.remove,
    )
    yield work_list_routes(state.jobs, state.trainings, session=session_of)


class _Work:
    """Images and models of a server, as the routes ask for them."""

    def __init__(self, state: ServerState) -> None:
        self._state, self._images = state, state.images
        self.samples = state.folder / "samples"

    def model(self, model_id: str) -> ModelPackage:
        return self._state.catalog.package(model_id)

    def image(self, image_id: str, session: str) -> JobImage:
        """An opened image with what its user corrected; a job keeps what goes with the server."""
        image = self._images.get(image_id, session)
        passing = (self._state.folder, self._state.settings.zoo.home / "jobs")
        return JobImage(
            image.path,
            name=image.description.name,
            id=image_id,
            axes=image.axes,
            pixel_size=image.pixel_size,
            scene=image.scene,
            keep=any(image.path.is_relative_to(folder) for folder in passing),
            command=sample_command(image.path, self._state.folder),
        )

    def open_sample(self, session: str, path: Path) -> dict[str, Any]:
        """A sample as an image; the one of before, where nothing was corrected on it."""
        for known in self._images.of(session):
            said = (known.axes, known.pixel_size, known.kind, known.scene)
            if known.path == path and said == (None,) * 4:
                return known.description.to_dict()
        return self._images.add(session, path).description.to_dict()

    def open_result(
        self, session: str, path: Path, name: str, kind: Literal["image", "labels"]
    ) -> dict[str, Any]:
        """A file of a result; the image of before, where it is open already."""
        for known in self._images.of(session):
            if (known.path, known.kind, known.description.result) == (path, kind, True):
                return known.description.to_dict()
        opened = self._images.add(session, path, name=name, kind=kind, result=True)
        return opened.description.to_dict()

    def open_again(self, session: str, image: JobImage) -> dict[str, Any]:
        """A job's own image, as its user had corrected it; the one of before where it is open."""
        for known in self._images.of(session):
            if known.id == image.id or known.path == image.path:
                return known.description.to_dict()
        opened = self._images.add(
            session, image.path, name=image.name, axes=image.axes, scene=image.scene
        )
        if image.pixel_size is not None:
            size = image.pixel_size
            opened = self._images.correct(opened.id, session, pixel_size=size)
        return opened.description.to_dict()
