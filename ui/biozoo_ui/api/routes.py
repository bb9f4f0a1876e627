"""The HTTP routes that answer for the server itself."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from biozoo.errors import NotFoundError

from .state import ServerState


class Health(BaseModel):
    """The server answers; `models` are on its machine."""

    status: Literal["ok"]
    models: int


def routes(state: ServerState) -> APIRouter:
    """The routes of one server, all below /api.

    Plain functions, not coroutines: FastAPI runs them in threads, so a slow disk blocks nobody.
    """
    router = APIRouter(prefix="/api")
    catalog = state.catalog

    @router.get("/health", tags=["server"])
    def health() -> Health:
        """Tell that the server answers, and how many models are on its machine."""
        return Health(status="ok", models=len(catalog.packages()))

    @router.api_route(
        "/{rest:path}", methods=["GET", "POST", "PUT", "DELETE"], include_in_schema=False
    )
    def unknown(rest: str) -> None:
        """Answer as every other error here; else the pages would, in words of their own."""
        raise NotFoundError(kind="route", got=f"/api/{rest}", known=())

    return router
