"""A job as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.concurrency import run_in_threadpool

from biozoo.errors import NotFoundError, StorageError

from ...jobs import Job, Jobs
from .description import describe_job

SECONDS_BETWEEN_LOOKS = 0.25
SECONDS_OF_SILENCE = 15.0
"""After which a stream says that it lives; proxies close what is silent for longer."""


async def job_events(jobs: Jobs, job: Job, request: Request) -> AsyncIterator[str]:
    """The job whenever it is another than before, and signs of life between."""
    told, silent = "", 0.0
    while True:
        now = describe_job(job, whole=not job.active).model_dump_json()
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
