"""The HTTP routes of jobs: made, listed, watched, cancelled, resumed and deleted by a session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from biozoo.errors import NotFoundError, StorageError

from ..jobs import Choices, Job, JobImage, Jobs

if TYPE_CHECKING:
    from biozoo import ModelPackage

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_OF_SILENCE = 15.0
"""After which a stream says that it lives; proxies close what is silent for longer."""

Session = Callable[[Request], str]
"""The session that a request is of."""

FindImage = Callable[[str, str], JobImage]
"""The image of an id and a session; raises NotFoundError where the session has none of this id."""

OpenFile = Callable[[str, Path, str, Literal["image", "labels"]], dict[str, Any]]
"""Opens a file of a result as an image of a session: session, path, name, kind; its description."""

FindModel = Callable[[str], "ModelPackage"]
"""The package of a model id; raises NotFoundError."""


class NewJob(BaseModel):
    """What is to be run: a model on an image of this session, and the user's choices."""

    model_config = ConfigDict(extra="forbid")

    model: str
    image: str
    channel: int | str | list[int | str] | dict[str, int | str] | None = None
    scale: float | str | dict[str, float] | None = None
    tile: dict[str, Annotated[int, Field(gt=0)]] | None = None
    region: dict[str, tuple[int, int]] | None = None
    min_size: Annotated[int, Field(ge=0)] | None = None
    fill_holes: bool | None = None


def job_routes(
    jobs: Jobs,
    *,
    session: Session,
    find_image: FindImage,
    find_model: FindModel,
    open_file: OpenFile,
) -> APIRouter:
    """The routes of one server's jobs, below /api/jobs.

    Another session's job is answered as one that does not exist. Plain functions run in threads;
    the stream of events holds none while it waits.
    """
    router = APIRouter(prefix="/api/jobs", tags=["jobs"])

    @router.get("")
    def jobs_of_session(request: Request) -> dict[str, Any]:
        """List the jobs of this session, the newest first."""
        return {"jobs": [describe_job(job) for job in jobs.of_owner(session(request))]}

    @router.post("", status_code=201)
    def new_job(asked: NewJob, request: Request) -> dict[str, Any]:
        """Make a job; it runs after those before it."""
        owner = session(request)
        choices = Choices(**asked.model_dump(exclude={"model", "image"}))
        image = find_image(asked.image, owner)
        job = jobs.submit(find_model(asked.model), image, choices, owner=owner)
        return describe_job(job, whole=True)

    @router.get("/{job_id}")
    def one_job(job_id: str, request: Request) -> dict[str, Any]:
        """Describe a job, with its report once it is done."""
        return describe_job(jobs.get(job_id, session(request)), whole=True)

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str, request: Request) -> dict[str, Any]:
        """Stop a job before its next tile; one that has ended stays as it is."""
        return describe_job(jobs.cancel(job_id, session(request)), whole=True)

    @router.post("/{job_id}/resume")
    def resume(job_id: str, request: Request) -> dict[str, Any]:
        """Run a job on from its kept tiles; one that waits or runs stays as it is."""
        return describe_job(jobs.resume(job_id, session(request)), whole=True)

    @router.delete("/{job_id}", status_code=204)
    def delete(job_id: str, request: Request) -> None:
        """Forget a job that does not run, and remove its files."""
        jobs.delete(job_id, session(request))

    @router.get("/{job_id}/files/{name}")
    def file(job_id: str, name: str, request: Request) -> FileResponse:
        """Download a file of a job's result."""
        return FileResponse(jobs.file(job_id, name, session(request)), filename=name)

    @router.post("/{job_id}/files/{name}/image", status_code=201)
    def opened(job_id: str, name: str, request: Request) -> dict[str, Any]:
        """Open a file of a job's result as an image, so that its tiles can be looked at."""
        owner = session(request)
        path = jobs.file(job_id, name, owner)
        found = next(f for f in jobs.get(job_id, owner).files if f.name == name)
        return open_file(owner, path, name, "labels" if found.kind == "labels" else "image")

    @router.get("/{job_id}/events", response_class=StreamingResponse)
    async def events(job_id: str, request: Request) -> StreamingResponse:
        """Stream the job as server-sent events, one per change, until it has ended."""
        owner = session(request)
        first = await run_in_threadpool(jobs.get, job_id, owner)  # 404 before the stream begins
        return StreamingResponse(
            _events(jobs, first, request),
            media_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    return router


def describe_job(job: Job, *, whole: bool = False) -> dict[str, Any]:
    """A job in plain values; its report only where `whole`. It names no path of this machine."""
    described: dict[str, Any] = {
        "id": job.id,
        "model": job.model,
        "version": job.version,
        "digest": job.digest or None,
        "image": {"id": job.image.id or None, "name": job.image.name},
        "choices": job.choices.to_dict() | ({"axes": job.image.axes} if job.image.axes else {}),
        "state": job.state,
        "stage": job.stage or None,
        "stopping": job.stopping,
        "resumable": job.resumable,
        "created": _time(job.created),
        "started": _time(job.started),
        "ended": _time(job.ended),
        "tiles": {"done": job.tiles_done, "total": job.tiles_total, "kept": job.tiles_kept},
        "seconds_left": job.seconds_left,
        "error": job.error,
        "objects": (job.report or {}).get("objects"),
        "files": [
            asdict(file) | {"url": f"/api/jobs/{job.id}/files/{quote(file.name)}"}
            for file in job.files
        ],
    }
    return described | {"report": job.report} if whole else described


async def _events(jobs: Jobs, job: Job, request: Request) -> AsyncIterator[str]:
    """The job whenever it is another than before, and signs of life between."""
    told, silent = "", 0.0
    while True:
        now = json.dumps(describe_job(job, whole=not job.active))
        if now != told:
            told, silent = now, 0.0
            yield f"event: job\ndata: {now}\n\n"
        elif silent >= SECONDS_OF_SILENCE:
            silent = 0.0
            yield ": alive\n\n"
        if not job.active or jobs.closed or await request.is_disconnected():
            return
        await asyncio.sleep(SECONDS_BETWEEN_LOOKS)
        silent += SECONDS_BETWEEN_LOOKS
        try:
            job = await run_in_threadpool(jobs.get, job.id, job.owner)
        except NotFoundError:
            yield "event: deleted\ndata: {}\n\n"
            return
        except StorageError:  # another program holds the list: look again later
            continue


def _time(moment: datetime | None) -> str | None:
    """As JavaScript reads it: 2026-11-23T06:40:53.123Z."""
    if moment is None:
        return None
    return f"{moment.replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"
