"""Jobs over HTTP: their routes, what is said of one, and its progress as events."""

from __future__ import annotations

from .description import describe_job
from .routes import job_routes

__all__ = ["describe_job", "job_routes"]
