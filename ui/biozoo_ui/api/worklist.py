"""Everything that a session has asked for and that takes its time, in one list: jobs, trainings."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from ..jobs import Job, Jobs
from ..trainings import Decision, Training, Trainings
from .asked import Session
from .jobs.description import standing_of_job
from .standing import Standing
from .trainings.answers import StepsAnswer, new_model, standing_of_training

Verb = Literal["pause", "resume", "cancel", "delete", "keep", "discard", "undo"]


class WorkItem(Standing):
    """A job or a training, as much of it as a list shows."""

    kind: Literal["job", "training"]
    url: str = Field(description="Where all of it is told; below it `/events` and each of `can`.")
    on: str = Field(description="What it works on, in words: an image, '12 images', a folder.")
    progress: StepsAnswer
    unit: Literal["tiles", "steps"] = Field(description="What `progress` counts.")
    can: list[Verb] = Field(
        description="What can be asked of it now: `POST url/VERB`; of 'delete' `DELETE url`."
    )
    objects: int | None = Field(description="Found by a job that is done; null where none are.")
    better: bool | None = Field(description="A training's verdict; null until it is there.")
    child: bool = Field(description="Whether there is a new model to keep or discard.")
    decision: Decision
    kept: str = Field(description="Id of the new model in the zoo, else empty.")


class WorkList(BaseModel):
    """Jobs and trainings of a session, the newest first."""

    work: list[WorkItem]


def work_list_routes(jobs: Jobs, trainings: Trainings, *, session: Session) -> APIRouter:
    """GET /api/work."""
    router = APIRouter(prefix="/api/work", tags=["jobs", "trainings"])

    @router.get("")
    def everything(request: Request) -> WorkList:
        """List jobs and trainings of this session together, the newest first."""
        owner = session(request)
        items = [
            *map(_of_job, jobs.of_owner(owner)),
            *map(_of_training, trainings.of_owner(owner)),
        ]
        return WorkList(work=sorted(items, key=lambda item: item.created, reverse=True))

    return router


def _of_job(job: Job) -> WorkItem:
    can: list[Verb] = [] if job.stopping else ["cancel"]
    if not job.active:
        can = ["resume", "delete"] if job.resumable else ["delete"]
    return WorkItem(
        **standing_of_job(job),
        kind="job",
        url=f"/api/jobs/{job.id}",
        on=", ".join(dict.fromkeys(image.name for image in job.images.values())),
        progress=StepsAnswer(done=job.tiles_done, total=job.tiles_total),
        unit="tiles",
        can=can,
        objects=(job.report or {}).get("objects"),
        better=None,
        child=False,
        decision="",
        kept="",
    )


def _of_training(one: Training) -> WorkItem:
    now = one.progress
    return WorkItem(
        **standing_of_training(one),
        kind="training",
        url=f"/api/trainings/{one.id}",
        on=_images(one),
        progress=StepsAnswer(done=now.step, total=now.steps),
        unit="steps",
        can=_can(one),
        objects=None,
        better=None if now.gate is None else bool(now.gate.get("passed")),
        child=new_model(one),
        decision=one.decision,
        kept=one.kept,
    )


def _can(one: Training) -> list[Verb]:
    """What the state of a training lets its owner ask."""
    if one.stopping:
        return []
    if one.decision == "kept":
        return ["undo", "delete"]
    if new_model(one):
        return ["keep", "discard", "delete"]
    verbs: dict[str, list[Verb]] = {
        "waiting": ["cancel"],
        "running": ["pause", "cancel"],
        "paused": ["resume", "cancel"],
        "done": ["delete"],
    }
    return verbs.get(one.state, ["resume", "delete"])


def _images(one: Training) -> str:
    if one.folders is not None:
        return one.folders[0].name
    names = [sample.image.name for sample in one.samples]
    return names[0] if len(names) == 1 else f"{len(names)} images"
