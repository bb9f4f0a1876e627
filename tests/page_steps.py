"""What the tests of the page do again and again: open an image, look at the canvas, download."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from biozoo.samples import simulate_nuclei
from packages import make_package

__all__ = [
    "cells",
    "choose",
    "coloured",
    "download",
    "seen",
    "settle",
    "slow_model",
    "slowed",
    "upload",
    "value",
]

# Only jobs: a preview beside one is as quick as ever.
SLOW = """
import os, threading, time
from onnxruntime import InferenceSession
run = InferenceSession.run
def paused(*arguments):
    job = threading.current_thread().name.startswith("biozoo-job")
    time.sleep(0.2 if job and os.path.exists(os.environ["SLOW_WHILE"]) else 0)
    return run(*arguments)
InferenceSession.run = paused
"""


def slow_model(folder: Path) -> Path:
    """A package "slow" of small tiles: 484 of them for 1024 x 1024 pixels."""
    return make_package(
        folder, id="slow", name="Slow blur", size=64, halo=8, kernel=15, out_channels=4,
        validate=False,
    )  # fmt: skip


def slowed(folder: Path) -> dict[str, str]:
    """Variables for a server whose jobs take 0.2 s for each tile while `folder / "slow"` exists.

    So a test does not depend on how fast the machine is: it takes the file away when it has seen
    what it wanted to see of a run.
    """
    folder.mkdir()
    (folder / "slow").touch()
    (folder / "sitecustomize.py").write_text(SLOW)
    paths = (str(folder), os.environ.get("PYTHONPATH", ""))
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "SLOW_WHILE": str(folder / "slow"),
    }


def cells(shape: tuple[int, int] = (160, 192)) -> np.ndarray[Any, Any]:
    """Simulated nuclei, y by x, 16 bit."""
    return simulate_nuclei(shape, seed=3, diameter=26).image.astype(np.uint16)


def upload(page: Any, path: Path) -> None:
    """Open a file as a person does who chooses it, and wait until it is described and shown."""
    page.set_input_files("input[type=file]", path)
    page.wait_for_selector(f".work-facts:has-text('{path.name}')")
    settle(page)


def choose(page: Any, model: str) -> None:
    """Choose a model from those that are suggested, and wait for the check."""
    page.click(f"[data-suggested='{model}']")
    page.wait_for_selector("[data-verdict]")


def settle(page: Any) -> None:
    """Wait until all that is seen in the viewers is drawn."""
    page.wait_for_selector(".zv-stage:not([aria-label='No image yet'])")
    page.wait_for_function(
        "[...document.querySelectorAll('.zv')].every((v) => v.ariaBusy === 'false')"
    )
    page.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")


def seen(page: Any, viewer: int = 0) -> np.ndarray[Any, Any]:
    """The canvas as a monitor shows it: y, x, 3; without what lies over its edges."""
    settle(page)
    box = page.locator(".zv-stage").nth(viewer).bounding_box()
    middle = {
        "x": box["x"] + box["width"] * 0.2,
        "y": box["y"] + box["height"] * 0.25,
        "width": box["width"] * 0.55,
        "height": box["height"] * 0.5,
    }
    picture = Image.open(io.BytesIO(page.screenshot(clip=middle)))
    return np.asarray(picture.convert("RGB")).astype(int)


def coloured(page: Any, viewer: int = 0) -> int:
    """How many pixels of the canvas are of a colour: of a gray image those are its overlay."""
    shot = seen(page, viewer)
    return int(((shot.max(-1) - shot.min(-1)) > 60).sum())


def value(page: Any) -> tuple[int, int, int]:
    """The pixel in the middle of the view as the status line tells it: y, x, its value."""
    box = page.locator(".zv-stage").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.wait_for_function("/ \\d+$/.test(document.querySelector('.zv-values').textContent)")
    words = page.inner_text(".zv-status")
    place = re.search(r"x (\d+), y (\d+)", words)
    assert place is not None
    found = page.inner_text(".zv-values b >> nth=0")
    return int(place[2]), int(place[1]), int(found)


def download(page: Any, selector: str, folder: Path) -> Path:
    """Click on a download and keep the file."""
    with page.expect_download() as waiting:
        page.click(selector)
    path: Path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    return path
