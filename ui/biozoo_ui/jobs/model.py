"""What a job is, as plain frozen values, and its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, Self

from biozoo.errors import StorageError, UsageError

State = Literal["waiting", "running", "done", "failed", "cancelled", "interrupted"]

Kind = Literal["image", "probability", "labels"]
"""What a result is shown as."""

ACTIVE: tuple[State, ...] = ("waiting", "running")
RESUMABLE: tuple[State, ...] = ("failed", "cancelled", "interrupted")


class JobStateError(UsageError):
    """What was asked of a job is not possible in the state it is in."""

    http_status = 409


class JobsBusyError(StorageError):
    """Another program holds the list of jobs for longer than one may wait."""

    http_status = 503


def now() -> datetime:
    """The time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True)
class JobImage:
    """An image of a job.

    Attributes
    ----------
    path
        The file or OME-Zarr folder.
    name
        What the user calls it.
    id
        Its id on the server, empty where it has none.
    axes
        The image's axes, slowest first ("zyx"), where the user said them.
    pixel_size
        In micrometres by axis id, where the user corrected it.
    scene
        Which image of a file of several, where the user chose it.
    keep
        Whether the job keeps the file for itself, as uploads go with the server.
    command
        How to get the same file on the command line, where it is a sample.
    """

    path: Path
    name: str
    id: str = ""
    axes: str | None = None
    pixel_size: Mapping[str, float] | None = None
    scene: int | None = None
    keep: bool = False
    command: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"path": str(self.path)}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_dict` was made of."""
        return cls(**{**plain, "path": Path(plain["path"])})


JobImages = Mapping[str, JobImage]
"""The images of a job by input tensor id; that of a model with one input has the id ""."""


@dataclass(frozen=True)
class Choices:
    """What the user chose for a run; None leaves it to biozoo.

    Attributes
    ----------
    channel
        Number, name, "gray", or several of them; by tensor id for several inputs.
    scale
        Factor, factor per axis, or "auto".
    tile
        Pixels by axis id, halo included.
    region
        First pixel and the one after the last, by axis id; absent axes are whole. The run sees
        nothing outside of it: statistics are those of the region.
    min_size, fill_holes
        For the objects.
    """

    channel: int | str | list[int | str] | dict[str, int | str | list[int | str]] | None = None
    scale: float | str | dict[str, float] | None = None
    tile: dict[str, int] | None = None
    region: dict[str, tuple[int, int]] | None = None
    min_size: int | None = None
    fill_holes: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; what was not chosen is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Self:
        """What `to_dict` was made of."""
        values = {f.name: plain.get(f.name) for f in fields(cls)}
        if region := values["region"]:
            values["region"] = {axis: (start, stop) for axis, (start, stop) in region.items()}
        return cls(**values)


@dataclass(frozen=True)
class JobFile:
    """A file of a result.

    Attributes
    ----------
    name
        In the job's folder.
    label
        What it is, in words.
    size
        Bytes.
    kind
        "labels", "probability" (real numbers from 0 to 1) or "image".
    at
        Where it begins in the image, in the image's pixels by axis id.
    scale
        How many pixels of the image one of its own covers, None where they are the same.
    volume
        Whether objects go through the planes of a stack.
    """

    name: str
    label: str
    size: int
    kind: Kind = "image"
    at: Mapping[str, float] = field(default_factory=lambda: {"y": 0, "x": 0})
    scale: Mapping[str, float] | None = None
    volume: bool = False


@dataclass(frozen=True)
class Job:
    """One job as it is at a moment.

    Attributes
    ----------
    id
        Random, safe in an address.
    owner
        The session that made it; no other one sees it.
    model, version, digest
        What runs; the digest (`biozoo_runners.kept_tiles.model_digest`) is empty until it began.
    state
        See the package.
    created, started, ended
        In UTC; `started` of the latest attempt.
    tiles_done, tiles_total, tiles_kept
        Progress; of those done, `tiles_kept` are of an earlier attempt.
    error
        What happened and what to do, empty where nothing did.
    report
        `RunReport.to_dict()` and the same in words as "text"; None until it is done.
    files
        Of the result, the main one first.
    server
        Which server runs it.
    stage, seconds_left, stopping
        While it runs in this process: what is done now, an estimate, whether it was asked to stop.
    """

    id: str
    owner: str
    model: str
    version: str | None
    images: JobImages
    choices: Choices
    created: datetime
    state: State = "waiting"
    digest: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    tiles_done: int = 0
    tiles_total: int = 0
    tiles_kept: int = 0
    error: str = ""
    report: Mapping[str, Any] | None = field(default=None, repr=False)
    files: tuple[JobFile, ...] = ()
    server: str = ""
    stage: str = ""
    seconds_left: float | None = None
    stopping: bool = False

    @property
    def image(self) -> JobImage:
        """The image, of several the first; results are named after it."""
        return next(iter(self.images.values()))

    @property
    def active(self) -> bool:
        """Whether it waits or runs."""
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        """Whether `Jobs.resume` takes it."""
        return self.state in RESUMABLE
