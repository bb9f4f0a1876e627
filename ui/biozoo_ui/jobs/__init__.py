"""Runs that outlive the server: kept in a database, their finished tiles on disk.

    jobs = Jobs(settings.zoo.home / "jobs", find=Zoo(settings.zoo).get)
    job = jobs.submit(package, JobImage(path, "cells.tif"), Choices(channel=0), owner=session)

A job is `waiting`, `running`, and then `done`, `failed`, `cancelled` or, where its server ended,
`interrupted`; what is not done can be resumed and computes only the tiles that are missing.
"""

from __future__ import annotations

from .jobs import Jobs
from .model import Choices, Job, JobFile, JobImage, JobImages, JobsBusyError, JobStateError, State

__all__ = [
    "Choices",
    "Job",
    "JobFile",
    "JobImage",
    "JobImages",
    "JobStateError",
    "Jobs",
    "JobsBusyError",
    "State",
]
