"""A file that describes the jobs of a batch system, and the dask cluster made of them.

slurm: {cores: 8, memory: 32GB, queue: gpu, walltime: "02:00:00"}
workers: 10
"""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from biozoo.errors import BackendError, MissingDependencyError, MissingFileError, UsageError
from biozoo.install import install_line

__all__ = ["BatchJobs", "ClusterFile", "close_cluster", "read_cluster_file", "start_batch"]

#: Batch systems, and the classes of dask-jobqueue that talk to them.
SYSTEMS = {"slurm": "SLURMCluster", "pbs": "PBSCluster", "sge": "SGECluster", "lsf": "LSFCluster"}

#: What these call the account that is charged.
_ACCOUNT = {"slurm": "account", "pbs": "account", "sge": "project", "lsf": "project"}

# A worker whose memory is nearly full stops taking tasks: dask expects data of its own there, which
# it could move to disk. Here it is the network's, and the worker would never go on.
_NO_PAUSE = [
    f"export DASK_DISTRIBUTED__WORKER__MEMORY__{name}=False"
    for name in ("TARGET", "SPILL", "PAUSE")
]

_EXAMPLE = 'slurm: {cores: 8, memory: 32GB, queue: gpu, walltime: "02:00:00"}\nworkers: 10'


class BatchJobs(BaseModel):
    """What one job of the batch system asks for; names and meanings are dask-jobqueue's.

    What is left out is taken from dask-jobqueue's own configuration.
    """

    model_config = ConfigDict(extra="forbid")

    cores: Annotated[int, Field(ge=1)]
    memory: str
    processes: Annotated[int, Field(ge=1)] = 1
    """workers per job, which share its cores and memory"""
    queue: str | None = None
    account: str | None = None
    walltime: str | None = None
    interface: str | None = None
    """network that scheduler and workers talk over, such as ib0"""
    local_directory: str | None = None
    log_directory: str | None = None
    python: str | None = None
    job_extra_directives: list[str] = []
    job_script_prologue: list[str] = []

    @field_validator("memory")
    @classmethod
    def _is_memory(cls, text: str) -> str:
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)? ?([kMGT]i?)?B", text):
            raise ValueError("is no amount of memory; write for example 32GB")
        return text

    @field_validator("walltime", mode="before")
    @classmethod
    def _is_text(cls, value: Any) -> Any:
        if isinstance(value, int):  # YAML reads 2:00:00 as the number 7200
            raise ValueError('needs quotation marks: "02:00:00"')
        return value


class ClusterFile(BaseModel):
    """One batch system and how many workers are wanted of it."""

    model_config = ConfigDict(extra="forbid")

    slurm: BatchJobs | None = None
    pbs: BatchJobs | None = None
    sge: BatchJobs | None = None
    lsf: BatchJobs | None = None
    workers: Annotated[int, Field(ge=1)]

    def batch(self) -> tuple[str, BatchJobs]:
        """The batch system that the file names, and its jobs."""
        named = {name: jobs for name in SYSTEMS if (jobs := getattr(self, name)) is not None}
        if len(named) != 1:
            found = " and ".join(named) or "none"
            raise ValueError(f"names {found} of {', '.join(SYSTEMS)}; exactly one is expected")
        return next(iter(named.items()))


def read_cluster_file(path: Path) -> ClusterFile:
    """Read and check the file.

    Raises
    ------
    MissingFileError
        It does not exist.
    UsageError
        It says something else than what is expected; all faults at once.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "The file that describes the cluster,"
        raise MissingFileError(
            what=what, path=path, hint=f"It holds for example:\n{_EXAMPLE}"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as exc:
        raise _unusable(path, f"it cannot be read as YAML: {exc}") from exc
    try:
        file = ClusterFile.model_validate(content)
        file.batch()
    except ValidationError as exc:
        raise _unusable(path, "".join(map(_fault, exc.errors()))) from exc
    except ValueError as exc:
        raise _unusable(path, f"it {exc}") from exc
    return file


def start_batch(file: ClusterFile, *, allowed_failures: int) -> Any:
    """Start a dask cluster of jobs of the batch system; jobs that end are replaced.

    Raises
    ------
    MissingDependencyError
        dask-jobqueue is not installed.
    BackendError
        The batch system refuses, or its commands are not here.
    """
    system, jobs = file.batch()
    try:
        import dask_jobqueue
    except ImportError as exc:
        raise MissingDependencyError(
            what=f"Running on {system}", library="dask-jobqueue", install=install_line("dask")
        ) from exc
    options = jobs.model_dump(exclude_none=True)
    if account := options.pop("account", None):
        options[_ACCOUNT[system]] = account
    options["job_script_prologue"] = [*_NO_PAUSE, *jobs.job_script_prologue]
    cluster = None
    try:
        cluster = getattr(dask_jobqueue, SYSTEMS[system])(
            **options,
            scheduler_options={"dashboard_address": ":0", "allowed_failures": allowed_failures},
        )
        _submit(cluster, jobs, file.workers)
    except (OSError, RuntimeError, ValueError) as exc:
        if cluster is not None:
            close_cluster(cluster)
        said = " ".join(str(exc).split())
        raise BackendError(
            f"No jobs can be started on {system}: {said} Start from a machine on which its "
            "commands work, and ask for what it has."
        ) from exc
    return cluster


def close_cluster(cluster: Any) -> None:
    """End a cluster and its workers, in whatever state it is."""
    with suppress(Exception):  # one whose jobs were never begun fails an assertion of dask
        cluster.close(timeout=5)


def _submit(cluster: Any, jobs: BatchJobs, workers: int) -> None:
    """Submit the first jobs, and have those that end replaced.

    The first are waited for: what `adapt` (or `scale`) cannot submit it tries again and again, and
    a run would wait for ever.
    """

    async def submitted() -> None:
        await cluster

    while len(cluster.worker_spec) * jobs.processes < workers:
        cluster.worker_spec.update(cluster.new_worker_spec())
    cluster.sync(submitted)
    cluster.adapt(minimum=workers, maximum=workers)


def _fault(error: Any) -> str:
    where = ".".join(map(str, error["loc"])) or "the file"
    said = str(error["msg"]).removeprefix("Value error, ")
    return f"\n  {where}: {said[:1].lower()}{said[1:]}"


def _unusable(path: Path, why: str) -> UsageError:
    example = f"Expected is for example:\n{_EXAMPLE}"
    return UsageError(f"{path} does not describe a cluster: {why}\n{example}")
