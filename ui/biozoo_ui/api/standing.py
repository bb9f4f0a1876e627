"""How something stands that is worked on, a job or a training: what is said of both."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import BaseModel, Field

from ..jobs import Job, JobImages
from ..trainings import State, Training
from .asked import said_here


class Standing(BaseModel):
    """What a job and a training tell alike; times are in UTC, ISO 8601."""

    id: str
    model: str
    version: str | None
    choices: dict[str, Any]
    state: State
    stage: str | None = Field(description="What is done now.")
    stopping: bool = Field(description="Whether it was asked to stop and has not yet.")
    resumable: bool
    created: str
    started: str | None
    ended: str | None
    seconds_left: float | None
    error: str


def standing_of(
    one: Job | Training, images: JobImages, *, stage: str, seconds_left: float | None
) -> dict[str, Any]:
    """The fields of `Standing`; its error in words of the page, with these images' names."""
    return {
        "id": one.id,
        "model": one.model,
        "version": one.version,
        "choices": one.choices.to_dict(),
        "state": one.state,
        "stage": stage or None,
        "stopping": one.stopping,
        "resumable": one.resumable,
        "created": moment(one.created),
        "started": moment(one.started),
        "ended": moment(one.ended),
        "seconds_left": seconds_left,
        "error": said_here(one.error, images),
    }


def moment(time: datetime | None) -> str | None:
    """As JavaScript reads it: 2026-11-23T06:40:53.123Z."""
    if time is None:
        return None
    return f"{time.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
