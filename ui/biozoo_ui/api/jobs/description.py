"""What is said of a job: no path of this machine, no option of the command line in its errors."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any
from urllib.parse import quote

from pydantic import BaseModel

from ...jobs import Job, JobFile, JobImage
from ...jobs.commands import python_code, shell_command
from ...jobs.downloads import formats
from ...jobs.model import Kind
from ..layers import LayerAnswer
from ..standing import Standing, standing_of


class NamedImage(BaseModel):
    """An image of a job: its id as it was when the job was made, and its name."""

    id: str | None
    name: str


class Tiles(BaseModel):
    """How far a job is; of the tiles that are done `kept` are of an earlier attempt."""

    done: int
    total: int
    kept: int


class FileFormat(BaseModel):
    """One way to get a result; it is made when it is first asked for."""

    label: str
    url: str
    name: str


class File(BaseModel):
    """A file of a result; `at` and `scale` as for a layer."""

    name: str
    label: str
    size: int
    kind: Kind
    at: dict[str, float]
    scale: dict[str, float] | None
    volume: bool
    url: str
    formats: list[FileFormat]


class Layer(LayerAnswer):
    """A result over the image; `POST /api/jobs/ID/files/FILE/image` opens its `file`."""

    file: str


class Commands(BaseModel):
    """The same run in a terminal (empty where it has no options for it) and in Python."""

    shell: str
    python: str


class JobDescription(Standing):
    """A job as it is now.

    `images` has each image by input tensor id for a model with several inputs, else it is None.
    `report` is there once the job is done, where it is asked for by itself.
    """

    digest: str | None
    image: NamedImage
    images: dict[str, NamedImage] | None
    tiles: Tiles
    objects: int | None
    files: list[File]
    layers: list[Layer]
    all: str | None
    commands: Commands
    report: dict[str, Any] | None = None


class JobList(BaseModel):
    """The jobs of a session, the newest first."""

    jobs: list[JobDescription]


def describe_job(job: Job, *, whole: bool = False) -> JobDescription:
    """What is said of a job; its report only where `whole`."""
    several = "" not in job.images
    return JobDescription(
        **standing_of_job(job),
        digest=job.digest or None,
        image=_named(job.image),
        images={t: _named(image) for t, image in job.images.items()} if several else None,
        tiles=Tiles(done=job.tiles_done, total=job.tiles_total, kept=job.tiles_kept),
        objects=(job.report or {}).get("objects"),
        files=[_file(job, file) for file in job.files],
        layers=[_layer(file) for file in job.files],
        all=f"/api/jobs/{job.id}/all.zip" if job.files else None,
        commands=Commands(shell=shell_command(job), python=python_code(job)),
        report=dict(job.report) if whole and job.report is not None else None,
    )


def standing_of_job(job: Job) -> dict[str, Any]:
    """How it stands; what was said of its first image counts among the choices."""
    told = standing_of(job, job.images, stage=job.stage, seconds_left=job.seconds_left)
    first = job.image
    named = {"axes": first.axes, "scene": first.scene, "pixel_size": first.pixel_size}
    return told | {"choices": told["choices"] | {n: v for n, v in named.items() if v is not None}}


def _named(image: JobImage) -> NamedImage:
    return NamedImage(id=image.id or None, name=image.name)


def _file(job: Job, file: JobFile) -> File:
    base = f"/api/jobs/{job.id}"
    ways = [
        FileFormat(
            label=way.label,
            url=f"{base}/{'downloads' if way.made else 'files'}/{quote(way.name)}",
            name=way.name,
        )
        for way in formats(file)
    ]
    url = f"{base}/files/{quote(file.name)}"
    return File(**asdict(file), url=url, formats=ways)


def _layer(file: JobFile) -> Layer:
    name = file.label.partition(":")[0]
    at, scale = dict(file.at), None if file.scale is None else dict(file.scale)
    return Layer(file=file.name, kind=file.kind, name=name, at=at, scale=scale)
