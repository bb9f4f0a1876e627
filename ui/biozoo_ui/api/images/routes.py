"""The HTTP routes of images, all below /api/images."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, Field

from biozoo.errors import NotFoundError

from ..sample import simulated_file
from .answers import ImageAnswer
from .session import session_of
from .source import Place
from .store import ImageStore
from .tiles import sent
from .uploads import take

_BYTES: dict[str, Any] = {"type": "string", "format": "binary"}
_UPLOAD = {"requestBody": {"content": {"application/octet-stream": {"schema": _BYTES}}}}
_TILE: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {"application/octet-stream": {"schema": _BYTES}},
        "description": "Pixels of the type `pixels`, little-endian, y by x, at most 256 by 256.",
    }
}


class PathRequest(BaseModel):
    """A file or an OME-Zarr folder on the machine of the server."""

    path: str = Field(max_length=4096)


class SampleRequest(BaseModel):
    """One of the simulated images."""

    kind: str = Field(max_length=64)


class Correction(BaseModel):
    """What the user knows better than the file; what is left out stays as it is.

    `axes`: one letter per dimension, slowest first, of b, t, c, z, y, x. `pixel_size`:
    micrometres along z, y, x; empty for unknown. `kind`: what the pixels are. `scene`: which image
    of a file that holds several; what was said about another one is forgotten.
    """

    axes: str | None = Field(default=None, min_length=1, max_length=64)
    pixel_size: dict[str, float] | None = None
    kind: Literal["image", "labels"] | None = None
    scene: int | None = Field(default=None, ge=0)


def image_routes(store: ImageStore, *, max_upload: int) -> APIRouter:
    """The routes of one server's images.

    Parameters
    ----------
    max_upload
        Largest file that is taken, bytes.
    """
    router = APIRouter(prefix="/api/images", tags=["images"])

    @router.post("/uploads", status_code=201, openapi_extra=_UPLOAD, response_model=ImageAnswer)
    async def upload(request: Request, name: str = "image") -> dict[str, Any]:
        """Take a file, its raw bytes in the body, and open it; an OME-Zarr as a zip."""
        owner = session_of(request)
        opened = await take(request, store, owner=owner, name=name, most=max_upload)
        return opened.description.to_dict()

    @router.post("/paths", status_code=201, response_model=ImageAnswer)
    def path(request: Request, asked: PathRequest) -> dict[str, Any]:
        """Open an image of this machine, within the folders that the owner allowed."""
        found = store.allowed_path(asked.path)
        return store.add(session_of(request), found).description.to_dict()

    @router.post("/samples", status_code=201, response_model=ImageAnswer)
    def sample(request: Request, asked: SampleRequest) -> dict[str, Any]:
        """Open a simulated image."""
        found = simulated_file(asked.kind, store.folder / "samples")
        return store.add(session_of(request), found).description.to_dict()

    @router.get("", response_model=list[ImageAnswer])
    def images(request: Request) -> list[dict[str, Any]]:
        """Describe the images of this session."""
        return [image.description.to_dict() for image in store.of(session_of(request))]

    @router.get("/{image_id}", response_model=ImageAnswer)
    def image(request: Request, image_id: str) -> dict[str, Any]:
        """Describe one image."""
        return store.get(image_id, session_of(request)).description.to_dict()

    @router.delete("/{image_id}", status_code=204)
    def remove(request: Request, image_id: str) -> Response:
        """Forget an image; an uploaded file is removed."""
        store.remove(image_id, session_of(request))
        return Response(status_code=204)

    @router.post("/{image_id}/axes", response_model=ImageAnswer)
    def correct(request: Request, image_id: str, asked: Correction) -> dict[str, Any]:
        """Correct axes, pixel size, or what the pixels are; or choose another image of the file."""
        return store.correct(
            image_id,
            session_of(request),
            axes=asked.axes,
            pixel_size=asked.pixel_size,
            kind=asked.kind,
            scene=asked.scene,
        ).description.to_dict()

    @router.get(
        "/{image_id}/tiles/{level}/{time}/{channel}/{z}/{row}/{column}",
        response_class=Response,
        responses=_TILE,
    )
    async def tile(
        request: Request,
        image_id: str,
        level: int,
        time: int,
        channel: int,
        z: int,
        row: int,
        column: int,
        v: Annotated[int, "the version in the description"] = 1,
    ) -> Response:
        """Pixels of one tile; what an address answers never changes."""
        found = store.get(image_id, session_of(request))
        if v != found.description.version:
            raise NotFoundError(
                kind="version of this image",
                got=str(v),
                known=(),
                hint="It was corrected since; ask for its description again.",
            )
        place = Place(time, channel, z)
        return sent(request, await store.tile(found, level, place, row, column))

    return router
