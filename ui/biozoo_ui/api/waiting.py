"""Answers that take seconds: waited for as long as somebody does."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from fastapi import Request

from ..jobs.newest import Wish

T = TypeVar("T")

_LOOK = 0.25  # seconds between looks whether anyone still waits for an answer


async def granted(wish: Wish[T], request: Request) -> T:
    """What comes of a wish; it is given up when who asked has left.

    Raises
    ------
    Exception
        As the wish does; SupersededError where it was given up.
    """
    waiting = asyncio.wrap_future(wish.answer)
    try:
        while not waiting.done():
            await asyncio.wait([waiting], timeout=_LOOK)
            if not waiting.done() and await request.is_disconnected():
                wish.give_up()
        return waiting.result()
    finally:
        wish.give_up()  # where this was stopped from outside; else nothing is left to stop
