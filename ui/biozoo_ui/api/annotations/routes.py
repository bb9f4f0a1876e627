"""The HTTP routes of annotations, all below /api/annotations."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.responses import FileResponse

from biozoo.errors import NotFoundError

from ...annotations import Annotation, Annotations, Done, Plane, copied
from ...annotations.exporting import Format, export
from ...annotations.importing import import_file
from ..answers import sends
from ..images import session_of
from ..images.reduce import little_endian
from ..images.tiles import packed, sent
from .answers import AnnotationAnswer, ClassAnswer, DoneAnswer, NewAnnotation, NewEdit
from .images import ImageKeys, OpenedLabels, facts_of
from .receiving import received

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...annotations.blocks import Key, Pixels
    from ..images import ImageStore

_MEDIA = {
    "tiff": "image/tiff",
    "zarr": "application/zip",
    "rois": "application/zip",
    "geojson": "application/geo+json",
}
_BYTES: dict[str, Any] = {"type": "string", "format": "binary"}
_UPLOAD = {"requestBody": {"content": {"application/octet-stream": {"schema": _BYTES}}}}
Since = Annotated[int | None, Query(description="The version that the sender has seen.")]


class NewClasses(BaseModel):
    """All classes that there are to be."""

    model_config = ConfigDict(extra="forbid")

    classes: list[ClassAnswer]


def annotation_routes(
    annotations: Annotations, images: ImageStore, *, passing: tuple[Path, ...], max_upload: int
) -> APIRouter:
    """The routes of one server's annotations.

    Parameters
    ----------
    passing
        Folders whose files go with the server: images in them are known by their content.
    max_upload
        Largest file that is imported, bytes.
    """
    router = APIRouter(prefix="/api/annotations", tags=["annotations"])
    keys = ImageKeys(passing)

    def find(request: Request, annotation_id: str) -> Annotation:
        return annotations.get(annotation_id, session_of(request))

    @router.post("", status_code=201)
    def start(request: Request, asked: NewAnnotation) -> AnnotationAnswer:
        """Begin an annotation of an image, or go on with the one that is there."""
        owner = session_of(request)
        image = images.get(asked.image, owner)
        first = None
        if asked.start is not None:
            labels = OpenedLabels(images.get(asked.start.image, owner))
            lying = asked.start.lying()

            def first(annotation: Annotation) -> Iterator[tuple[Key, Pixels]]:
                return copied(labels, lying, annotation)

        classes = [one.label() for one in asked.classes] if asked.classes else None
        found = annotations.start(
            owner,
            keys.of(image),
            facts_of(image, asked.kind, classes),
            first=first,
            again=asked.again,
        )
        return AnnotationAnswer.about(found)

    @router.get("")
    def of_image(request: Request, image: str) -> list[AnnotationAnswer]:
        """Describe the annotations of an image, also those of an earlier visit."""
        owner = session_of(request)
        key = keys.of(images.get(image, owner))
        return [AnnotationAnswer.about(one) for one in annotations.of(owner, key)]

    @router.get("/{annotation_id}")
    def one(request: Request, annotation_id: str) -> AnnotationAnswer:
        """Describe one annotation, as an image of labels."""
        return AnnotationAnswer.about(find(request, annotation_id))

    @router.delete("/{annotation_id}", status_code=204)
    def remove(request: Request, annotation_id: str) -> Response:
        """Delete an annotation with its history; this cannot be undone."""
        annotations.remove(annotation_id, session_of(request))
        return Response(status_code=204)

    @router.put("/{annotation_id}/classes")
    def classes(request: Request, annotation_id: str, asked: NewClasses) -> AnnotationAnswer:
        """Add, rename and recolour classes; one that is painted cannot be left out."""
        found = find(request, annotation_id)
        found.set_classes([one.label() for one in asked.classes])
        return AnnotationAnswer.about(found)

    @router.post("/{annotation_id}/edits")
    def edit(request: Request, annotation_id: str, asked: NewEdit) -> DoneAnswer:
        """Paint, erase, fill, outline, delete, merge or split; saved when this answers."""
        found = find(request, annotation_id)
        return _answer(found, found.edit(asked.edit(), since=asked.since))

    @router.post("/{annotation_id}/undo")
    def undo(request: Request, annotation_id: str, since: Since = None) -> DoneAnswer:
        """Take back the last step."""
        found = find(request, annotation_id)
        return _answer(found, found.undo(since=since))

    @router.post("/{annotation_id}/redo")
    def redo(request: Request, annotation_id: str, since: Since = None) -> DoneAnswer:
        """Do the step again that was taken back last."""
        found = find(request, annotation_id)
        return _answer(found, found.redo(since=since))

    @router.get("/{annotation_id}/changes")
    def changes(request: Request, annotation_id: str, since: Since = None) -> DoneAnswer:
        """Tell what changed since a version, in this tab or another."""
        found = find(request, annotation_id)
        return _answer(found, found.stands(since))

    @router.get(
        "/{annotation_id}/tiles/{level}/{time}/{channel}/{z}/{row}/{column}",
        response_class=Response,
        responses=sends("application/octet-stream", "Numbers as uint32, little-endian, y by x."),
    )
    def tile(
        request: Request,
        annotation_id: str,
        level: int,
        time: int,
        channel: int,
        z: int,
        row: int,
        column: int,
    ) -> Response:
        """Pixels of one tile as they are now, at most 256 by 256; channel is 0."""
        if channel:
            raise NotFoundError(kind="channel of an annotation", got=str(channel), known=())
        pixels = find(request, annotation_id).tile(level, Plane(time, z), row, column)
        return sent(request, packed(little_endian(pixels)), "no-store")

    @router.get(
        "/{annotation_id}/files/{kind}",
        response_class=FileResponse,
        responses=sends("application/octet-stream", "OME-TIFF, a zip, or GeoJSON."),
    )
    def download(request: Request, annotation_id: str, kind: Format) -> FileResponse:
        """Export: a label TIFF, zipped OME-Zarr labels, an ImageJ ROI set, QuPath GeoJSON."""
        found = find(request, annotation_id)
        images.folder.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix="export-", dir=images.folder))
        gone = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        try:
            made = export(found, kind, folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return FileResponse(made.path, media_type=_MEDIA[kind], filename=made.name, background=gone)

    @router.post("/{annotation_id}/files", openapi_extra=_UPLOAD)
    async def upload(
        request: Request,
        annotation_id: str,
        name: str,
        add: bool = False,
        z: int = 0,
        time: int = 0,
        since: Since = None,
    ) -> DoneAnswer:
        """Import labels or outlines, the file's raw bytes in the body; they can be undone."""
        found = await run_in_threadpool(find, request, annotation_id)
        owner = session_of(request)
        here = Plane(time, z)
        async with received(request, images, owner=owner, name=name, most=max_upload) as file:
            path, kept = file
            made = await run_in_threadpool(
                lambda: import_file(found, path, kept, here=here, add=add, since=since)
            )
        return _answer(found, made.done, made.notes)

    return router


def _answer(annotation: Annotation, done: Done, notes: tuple[str, ...] = ()) -> DoneAnswer:
    return DoneAnswer.of(done, annotation.facts.last, notes)
