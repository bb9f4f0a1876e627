"""A model on what is seen of an image, at once: `POST /api/previews`."""

from __future__ import annotations

import secrets
import shutil
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import suppress
from threading import Lock
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from starlette.concurrency import run_in_threadpool

from biozoo.errors import BiozooError, NotFoundError
from biozoo.files import writing

from ..jobs import Choices, JobImages
from ..jobs.model import Kind
from ..jobs.overlay import in_order
from ..jobs.previews import Preview, Previews, View
from ..jobs.results import label_of
from .asked import FindImage, FindModel, OnImage, Session, images_of, page_words, told_here
from .images.answers import ImageAnswer
from .images.errors import told_as
from .layers import LayerAnswer
from .waiting import granted

if TYPE_CHECKING:
    import xarray as xr

    from .images.store import ImageStore

KEPT = 12
"""Previews of one session whose results stay."""


class SeenPart(BaseModel):
    """What is seen of an image: pixels along y and x, the positions along z and time."""

    model_config = ConfigDict(extra="forbid")

    y: tuple[FiniteFloat, FiniteFloat]
    x: tuple[FiniteFloat, FiniteFloat]
    z: int | None = None
    time: int | None = None


class NewPreview(OnImage):
    """A model on the visible part of an image."""

    view: SeenPart
    min_size: Annotated[int, Field(ge=0)] | None = None


class PreviewLayer(LayerAnswer):
    """A result over the previewed image; `image` is its description."""

    image: ImageAnswer


class PreviewAnswer(BaseModel):
    """What a preview found. `seconds` and `load_seconds`: of the run, of loading the model."""

    id: str
    seconds: float
    load_seconds: float
    objects: int | None
    region: dict[str, tuple[int, int]]
    layers: list[PreviewLayer]
    notes: list[str]
    report: str


def preview_routes(
    previews: Previews,
    *,
    session: Session,
    find_image: FindImage,
    find_model: FindModel,
    shelf: Shelf,
) -> APIRouter:
    """The route of previews; their results are put on `shelf`."""
    router = APIRouter(prefix="/api/previews", tags=["jobs"])

    @router.post("")
    async def preview(asked: NewPreview, request: Request) -> PreviewAnswer:
        """Run a model on what is seen, cut to about a megapixel; beside a running job, at once.

        A newer preview of the same session makes an older one give up, with 409.
        """
        owner = session(request)
        package, images = await run_in_threadpool(
            lambda: (find_model(asked.model), images_of(asked, find_image, owner))
        )
        choices = Choices(channel=asked.channel, scale=asked.scale, min_size=asked.min_size)
        view = View(**asked.view.model_dump())
        wish = previews.ask(package, images, view, choices, owner=owner)
        try:
            found = await granted(wish, request)
        except BiozooError as exc:
            raise told_here(exc, images) from exc
        return await run_in_threadpool(_answer, shelf, owner, found, images)

    return router


def _answer(shelf: Shelf, owner: str, found: Preview, images: JobImages) -> PreviewAnswer:
    report = found.result.report
    layers = shelf.put(owner, list(_layers(found)))
    return PreviewAnswer(
        id=secrets.token_hex(8),
        seconds=round(found.seconds, 3),
        load_seconds=round(found.load_seconds, 3),
        objects=report.objects,
        region={axis: found.region.get(axis, (0, 1)) for axis in ("y", "x", "z", "time")},
        layers=layers,
        notes=list(_notes(found, images)),
        report=str(report),
    )


def _notes(found: Preview, images: JobImages) -> Iterator[str]:
    if not found.whole:
        yield (
            "This is a part of the image: brightness is judged by what is in it, and objects at "
            "its edge are cut. The run on the whole image can differ a little."
        )
    for note in found.result.report.notes:
        if not note.startswith("only the region") and (words := page_words(note, images)):
            yield words


def _layers(found: Preview) -> Iterator[tuple[xr.DataArray, str, Kind, dict[str, Any]]]:
    for tensor in in_order(found.result):
        data, lies = found.result[tensor], found.overlays[tensor]
        if {"y", "x"} <= set(map(str, data.dims)):
            yield data, label_of(tensor), lies.kind, {"at": lies.at, "scale": lies.scale}


class Shelf:
    """The results of previews as images of their sessions; of each session the last few stay."""

    def __init__(self, images: ImageStore, *, kept: int = KEPT) -> None:
        self._images, self._kept = images, kept
        self._lock = Lock()
        self._of: OrderedDict[str, deque[list[str]]] = OrderedDict()

    def put(
        self, session: str, layers: list[tuple[xr.DataArray, str, Kind, dict[str, Any]]]
    ) -> list[PreviewLayer]:
        """Keep the results of one preview, and let go of the oldest.

        Raises
        ------
        StorageError
            The disk is full; nothing is kept then.
        """
        made: list[PreviewLayer] = []
        try:
            for data, name, kind, place in layers:
                image = self._keep(session, data, name, kind)
                made.append(PreviewLayer(image=image, kind=kind, name=name, **place))
        except BaseException:
            self._remove(session, [layer.image.id for layer in made])
            raise
        with self._lock:
            mine = self._of.setdefault(session, deque())
            self._of.move_to_end(session)
            mine.append([layer.image.id for layer in made])
            gone = [mine.popleft() for _ in range(len(mine) - self._kept)]
            while len(self._of) > 1000:  # of sessions that are long over: their images are too
                self._of.popitem(last=False)
        for ids in gone:
            self._remove(session, ids)
        return made

    def _keep(self, session: str, data: xr.DataArray, name: str, kind: Kind) -> ImageAnswer:
        from biozoo_runners import write_image

        with writing(self._images.folder):
            folder, file = self._images.upload_path(f"{name}.ome.tif")
        try:
            path = write_image(folder / file, data)
        except BaseException as exc:
            shutil.rmtree(folder, ignore_errors=True)
            if isinstance(exc, BiozooError):
                told_as(exc, folder / file, "the preview")
            raise
        kept = self._images.add(
            session,
            path,
            name=name,
            kind="labels" if kind == "labels" else "image",
            owned=folder,
            result=True,
        )
        return ImageAnswer(**kept.description.to_dict())

    def _remove(self, session: str, ids: list[str]) -> None:
        for image_id in ids:
            with suppress(NotFoundError):  # forgotten already
                self._images.remove(image_id, session)
