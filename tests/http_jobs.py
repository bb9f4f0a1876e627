"""A server for tests of what runs on images, its uploads and its jobs."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import tifffile

from biozoo import Settings

__all__ = ["BASE", "app_of", "ended", "opened", "settings_of", "uploaded"]

BASE = "http://127.0.0.1:7860"


def settings_of(home: Path) -> Settings:
    """A zoo that asks no network."""
    return Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)


def app_of(home: Path, **options: Any) -> Any:
    """An application without the pages."""
    from biozoo_ui.api import ServerSettings, create_app

    return create_app(ServerSettings(settings_of(home), **options), pages=False)


def opened(client: httpx.Client, path: Path, name: str = "cells.tif") -> dict[str, Any]:
    """A file as an image of the client's session."""
    answer = client.post(f"/api/images/uploads?name={name}", content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def uploaded(
    client: httpx.Client,
    pixels: np.ndarray[Any, Any],
    *,
    axes: str | None = None,
    pixel_size: Mapping[str, float] | None = None,
    name: str = "cells.tif",
) -> dict[str, Any]:
    """Pixels as a TIFF of the client's session; `axes`, `pixel_size`: as a user corrects them."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="minisblack")
    answer = client.post(f"/api/images/uploads?name={name}", content=file.getvalue())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    if axes or pixel_size:
        said = {"axes": axes, "pixel_size": dict(pixel_size) if pixel_size else None}
        answer = client.post(f"/api/images/{made['id']}/axes", json=said)
        assert answer.status_code == 200, answer.text
        made = answer.json()
    return made


def ended(client: httpx.Client, job: str) -> dict[str, Any]:
    """What the server says of a job once it neither waits nor runs."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        told: dict[str, Any] = client.get(f"/api/jobs/{job}").json()
        if told["state"] not in ("waiting", "running"):
            return told
        time.sleep(0.1)
    raise AssertionError("the job did not end")
