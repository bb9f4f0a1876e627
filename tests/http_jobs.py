"""A job of the server, waited for."""

from __future__ import annotations

import time
from typing import Any

import httpx

__all__ = ["ended"]


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """What the server says of a job once it neither waits nor runs."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        told: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
        if told["state"] not in ("waiting", "running"):
            return told
        time.sleep(0.1)
    raise AssertionError("the job did not end")
