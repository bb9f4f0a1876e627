"""The HTTP routes of live mode: begun, moved, refitted after each stroke, kept, ended."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool

from biozoo.errors import BiozooError

from ...jobs import Choices, JobImage
from ...jobs.newest import Wish
from ...jobs.previews import View
from ...live import LiveSession, LiveSessions, ReadPainted, Refit
from ..answers import sends
from ..asked import FindImage, FindModel, Session, told_here
from ..images.answers import ImageAnswer
from ..images.source import Place
from ..images.tiles import sent
from ..waiting import granted
from .answers import LiveAnswer, NewKeeping, NewLive, NewRefit, NewView, describe_live
from .shelf import LiveShelf

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_trainers.live import ChildFacts

Install = Callable[[Path], "ModelPackage"]
"""Adds a package to the zoo."""

FactsOf = Callable[[LiveSession, str], "ChildFacts"]
"""What is said of the model that is made of a session, which its user called so."""

_TILE = sends("application/octet-stream", "Pixels, little-endian.")


def live_routes(
    sessions: LiveSessions,
    *,
    session: Session,
    find_image: FindImage,
    find_model: FindModel,
    read_painted: ReadPainted,
    install: Install,
    facts_of: FactsOf,
) -> APIRouter:
    """The routes of one server's live sessions, below /api/live.

    A session belongs to who began it; to another one it does not exist.
    """
    router = APIRouter(prefix="/api/live", tags=["live"])
    shelf = LiveShelf()

    def told(found: LiveSession, refit: Refit | None = None) -> LiveAnswer:
        now = refit or found.current
        return describe_live(found, now, shelf.put(found, now))

    async def waited(wish: Wish[LiveSession], request: Request, image: JobImage) -> LiveAnswer:
        try:
            found = await granted(wish, request)
        except BiozooError as exc:
            raise told_here(exc, {"": image}) from exc
        return await run_in_threadpool(told, found)

    @router.post("", status_code=201)
    async def begin(asked: NewLive, request: Request) -> LiveAnswer:
        """Compute the features of what is seen, cut to about a megapixel, and show the model on it.

        One session per person: an earlier one ends. Asked for again before it is there, the older
        wish gives up with 409.
        """
        owner = session(request)
        package, image = await run_in_threadpool(
            lambda: (find_model(asked.model), find_image(asked.image, owner))
        )
        choices = Choices(channel=asked.channel, scale=asked.scale)
        view = View(**asked.view.model_dump())
        wish = sessions.open(package, image, view, choices, owner=owner)
        return await waited(wish, request, image)

    @router.get("/{live_id}")
    def one(live_id: str, request: Request) -> LiveAnswer:
        """Describe a session: its overlays as they are, and what was asked to be kept."""
        return told(sessions.get(live_id, session(request)))

    @router.post("/{live_id}/views")
    async def view(live_id: str, asked: NewView, request: Request) -> LiveAnswer:
        """See another part of the image; what was painted elsewhere still counts."""
        owner = session(request)
        seen, image = View(**asked.view.model_dump()), sessions.get(live_id, owner).image
        return await waited(sessions.show(live_id, seen, owner=owner), request, image)

    @router.post("/{live_id}/refits")
    def refit(live_id: str, asked: NewRefit, request: Request) -> LiveAnswer:
        """Fit the last layer to what is painted now; the answer has the overlays that follow."""
        found = sessions.get(live_id, session(request))
        try:
            done = found.refit(asked.annotation, read_painted)
        except BiozooError as exc:
            raise told_here(exc, {"": found.image}) from exc
        return told(found, done)

    @router.post("/{live_id}/keep", status_code=202)
    def keep(live_id: str, asked: NewKeeping, request: Request) -> LiveAnswer:
        """Pack the refitted model and add it to the zoo; `keeping` tells how far that is."""
        found = sessions.get(live_id, session(request))
        found.keep(facts_of(found, asked.name.strip()), install)
        return told(found)

    @router.delete("/{live_id}", status_code=204)
    def end(live_id: str, request: Request) -> None:
        """End a session; what was painted stays with the annotation."""
        sessions.remove(live_id, session(request))

    @router.get("/{live_id}/layers/{place}/{tensor}")
    def layer(live_id: str, place: int, tensor: str, request: Request) -> ImageAnswer:
        """Describe an overlay as it is now."""
        found = sessions.get(live_id, session(request))
        now = found.current
        shelf.put(found, now)
        return shelf.get(found, place, tensor, now.number).answer

    @router.get(
        "/{live_id}/layers/{place}/{tensor}/tiles/{level}/{time}/{channel}/{z}/{row}/{column}",
        response_class=Response,
        responses=_TILE,
    )
    def tile(
        live_id: str,
        place: int,
        tensor: str,
        level: int,
        time: int,
        channel: int,
        z: int,
        row: int,
        column: int,
        request: Request,
        v: Annotated[int, "the version in the description"],
    ) -> Response:
        """Pixels of an overlay, as those of an image."""
        found = sessions.get(live_id, session(request))
        picture = shelf.get(found, place, tensor, v)
        return sent(request, picture.tile(level, Place(time, channel, z), row, column))

    return router
