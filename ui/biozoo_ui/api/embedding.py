"""The application within another one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fastapi import FastAPI


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[FastAPI]:
    """Run an application that is mounted in another one, and end it: what `create_app` returned.

    Starlette does not tell a mounted application that the server starts and ends. So the outer one
    says it, in its own lifespan; else jobs are not stopped and uploads not removed at the end.
    """
    async with app.router.lifespan_context(app):
        yield app
