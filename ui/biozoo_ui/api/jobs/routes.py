"""The HTTP routes of jobs: made, listed, watched, cancelled, resumed and deleted by a session."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, StreamingResponse
from pydantic import Field

from biozoo.errors import BiozooError

from ...jobs import Choices, JobImage, Jobs
from ...jobs.downloads import ALL
from ..answers import sends
from ..asked import FindImage, FindModel, OnImage, Session, images_of, told_here
from ..events import followed
from ..images.answers import ImageAnswer, ImagesAnswer
from .description import JobDescription, JobList, describe_job

OpenFile = Callable[[str, Path, str, Literal["image", "labels"]], dict[str, Any]]
"""Opens a file of a result as an image of a session: session, path, name, kind; its description."""

OpenImage = Callable[[str, JobImage], dict[str, Any]]
"""Opens a job's own image as an image of a session; its description."""

_FILE = sends("application/octet-stream", "The file.")
_EVENTS = sends(
    "text/event-stream", "`event: job` with the job as by `GET /api/jobs/ID`; `event: deleted`."
)


class NewJob(OnImage):
    """What is to be run: a model on images of this session, and the user's choices."""

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
    open_image: OpenImage,
) -> APIRouter:
    """The routes of one server's jobs, below /api/jobs.

    Another session's job is answered as one that does not exist. Plain functions run in threads;
    the stream of events holds none while it waits.
    """
    router = APIRouter(prefix="/api/jobs", tags=["jobs"])

    @router.get("")
    def jobs_of_session(request: Request) -> JobList:
        """List the jobs of this session, the newest first."""
        return JobList(jobs=[describe_job(job) for job in jobs.of_owner(session(request))])

    @router.post("", status_code=201)
    def new_job(asked: NewJob, request: Request) -> JobDescription:
        """Make a job; it runs after those before it."""
        owner = session(request)
        choices = Choices(**asked.model_dump(exclude={"model", "image"}))
        images = images_of(asked, find_image, owner)
        try:
            job = jobs.submit(find_model(asked.model), images, choices, owner=owner)
        except BiozooError as exc:
            raise told_here(exc, images) from exc
        return describe_job(job, whole=True)

    @router.get("/{job_id}")
    def one_job(job_id: str, request: Request) -> JobDescription:
        """Describe a job, with its report once it is done."""
        return describe_job(jobs.get(job_id, session(request)), whole=True)

    @router.post("/{job_id}/cancel")
    def cancel(job_id: str, request: Request) -> JobDescription:
        """Stop a job before its next tile; one that has ended stays as it is."""
        return describe_job(jobs.cancel(job_id, session(request)), whole=True)

    @router.post("/{job_id}/resume")
    def resume(job_id: str, request: Request) -> JobDescription:
        """Run a job on from its kept tiles; one that waits or runs stays as it is."""
        return describe_job(jobs.resume(job_id, session(request)), whole=True)

    @router.delete("/{job_id}", status_code=204)
    def delete(job_id: str, request: Request) -> None:
        """Forget a job that does not run, and remove its files."""
        jobs.delete(job_id, session(request))

    @router.post("/{job_id}/image", status_code=201, response_model=ImagesAnswer)
    def image(job_id: str, request: Request) -> dict[str, Any]:
        """Open the image that a job ran on, as its user had corrected it; also after a restart.

        The answer is its description; of several the first's, and `images` has all by tensor id.
        """
        owner = session(request)
        job = jobs.get(job_id, owner)
        opened = {t: open_image(owner, one) for t, one in job.images.items()}
        first = next(iter(opened.values()))
        return first | {"images": None if "" in opened else opened}

    @router.get("/{job_id}/all.zip", response_class=FileResponse, responses=_FILE)
    def everything(job_id: str, request: Request) -> FileResponse:
        """Download all results of a job, its tables and its report in one file."""
        from biozoo_runners.batch import stem

        owner = session(request)
        path = jobs.download(job_id, ALL, owner)
        job = jobs.get(job_id, owner)
        name = f"{stem(Path(job.image.name))}.{job.model.replace('/', '-')}.zip"
        return FileResponse(path, filename=name, media_type="application/zip")

    @router.get("/{job_id}/downloads/{name}", response_class=FileResponse, responses=_FILE)
    def download(job_id: str, name: str, request: Request) -> FileResponse:
        """Download a result in another format, made when it is first asked for."""
        path = jobs.download(job_id, name, session(request))
        kind = "text/csv" if name.endswith(".csv") else "application/zip"
        return FileResponse(path, filename=name, media_type=kind)

    @router.get("/{job_id}/files/{name}", response_class=FileResponse, responses=_FILE)
    def file(job_id: str, name: str, request: Request) -> FileResponse:
        """Download a file of a job's result."""
        path = jobs.file(job_id, name, session(request))
        return FileResponse(path, filename=name, media_type="image/tiff")

    @router.post("/{job_id}/files/{name}/image", status_code=201, response_model=ImageAnswer)
    def opened(job_id: str, name: str, request: Request) -> dict[str, Any]:
        """Open a file of a job's result as an image, so that its tiles can be looked at."""
        owner = session(request)
        path = jobs.file(job_id, name, owner)
        found = next(f for f in jobs.get(job_id, owner).files if f.name == name)
        return open_file(owner, path, name, "labels" if found.kind == "labels" else "image")

    @router.get("/{job_id}/events", response_class=StreamingResponse, responses=_EVENTS)
    async def events(job_id: str, request: Request) -> StreamingResponse:
        """Stream the job as server-sent events, one per change, until it has ended."""
        owner = session(request)
        return await followed(
            request,
            "job",
            lambda: jobs.get(job_id, owner),
            lambda job: describe_job(job, whole=not job.active),
            lambda: jobs.closed,
        )

    return router
