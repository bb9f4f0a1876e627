"""What a page has to know about its visitor and its server."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from .guard import user_of
from .settings import ServerSettings


class Me(BaseModel):
    """Who asks, and what this server lets them do."""

    name: str | None = Field(description="The signed-in user; null without users.")
    users: bool = Field(description="Whether people sign in here, and so can sign out.")
    max_upload: int = Field(description="The largest file that is taken, bytes.")
    keep_hours: float = Field(description="How long an unused image is kept.")
    image_folders: bool = Field(description="Whether images can be opened by a path.")
    version: str = Field(description="biozoo's version.")


def me_routes(settings: ServerSettings) -> APIRouter:
    """GET /api/me."""
    router = APIRouter(prefix="/api", tags=["users"])
    installed = version("biozoo")

    @router.get("/me")
    async def me(request: Request) -> Me:
        """Say who asks, and what the limits are."""
        return Me(
            name=user_of(request),
            users=settings.users is not None,
            max_upload=settings.max_upload,
            keep_hours=settings.keep_hours,
            image_folders=bool(settings.image_folders),
            version=installed,
        )

    return router
