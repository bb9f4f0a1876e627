"""Something that goes on, as server-sent events: jobs, trainings, downloads of models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fastapi import Request
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from biozoo.errors import NotFoundError, StorageError

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_OF_SILENCE = 15.0
"""After which a stream says that it lives; proxies close what is silent for longer."""


class Active(Protocol):
    """What a stream ends with."""

    @property
    def active(self) -> bool:
        """Whether it goes on."""


T = TypeVar("T", bound=Active)


@dataclass(frozen=True)
class Look:
    """How something stands: the event's name, its data as JSON, whether it is the last one."""

    event: str
    data: str
    last: bool


async def followed(
    request: Request,
    event: str,
    get: Callable[[], T],
    describe: Callable[[T], BaseModel],
    closed: Callable[[], bool],
) -> StreamingResponse:
    """Events of something that is described, until it or the server ends, or it is deleted.

    Parameters
    ----------
    event
        What its events are called.
    get
        As it is now; raises NotFoundError where it is not, or not any more.
    closed
        Whether the server ends.
    """

    def look() -> Look | None:
        try:
            now = get()
        except NotFoundError:
            return Look("deleted", "{}", True)
        except StorageError:  # another program holds the list: look again later
            return None
        return Look(event, describe(now).model_dump_json(), not now.active or closed())

    await run_in_threadpool(get)  # 404 before the stream begins
    first = await run_in_threadpool(look)
    return event_stream(first, lambda: run_in_threadpool(look), request)


def event_stream(
    first: Look | None, look: Callable[[], Awaitable[Look | None]], request: Request
) -> StreamingResponse:
    """Events whenever something stands otherwise than before, and signs of life between.

    Parameters
    ----------
    first
        How it stands now; asked for before, so that what is not there is no stream.
    look
        How it stands; None where that cannot be told for now.
    """
    return StreamingResponse(
        _told(first, look, request),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _told(
    now: Look | None, look: Callable[[], Awaitable[Look | None]], request: Request
) -> AsyncIterator[str]:
    told, silent = "", 0.0
    while True:
        if now is not None and now.data != told:
            told, silent = now.data, 0.0
            yield f"event: {now.event}\ndata: {now.data}\n\n"
        elif silent >= SECONDS_OF_SILENCE:
            silent = 0.0
            yield ": alive\n\n"
        if (now is not None and now.last) or await request.is_disconnected():
            return
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        silent += SECONDS_BETWEEN_LOOKS
        now = await look()
