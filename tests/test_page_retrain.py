"""Retraining in a real Chromium: set up, watched, paused, killed, resumed, judged, kept, undone."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from learnable import blobs, learner
from packages import make_package, zip_package
from page_server import NARROW, Server, browser, visit
from page_steps import seen, settle, upload
from training_process import faked, let

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

TRAINING = "[data-training]"
RECIPE = {
    "version": 1, "input": "raw", "output": "prediction", "target": {"kind": "image"},
    "patch": {"size": {"y": 32, "x": 32}},
}  # fmt: skip
NO = {"version": 1, "trainable": "no", "why": "Its output depends on the data"}
GONE = r"Failed to load resource|ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|Connection"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from biozoo import Settings, Zoo

    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(Settings(home=home, offline=True))
    for name, recipe in (("teachable", RECIPE), ("fixed", NO)):
        config = {"biozoo": {"training": recipe}}
        made = make_package(home / name, id=name, name=name.title(), config=config, validate=False)
        zoo.add(made)
    zip_package(make_package(home / "child", id="teachable-mine", kernel=5))
    zoo.add(learner(home / "learner", steps=40))
    for folder in ("images", "labels"):
        (home / "mine" / folder).mkdir(parents=True)
    for name, image, labels in blobs(4):
        tifffile.imwrite(home / "mine" / "images" / f"{name}.tif", image)
        tifffile.imwrite(home / "mine" / "labels" / f"{name}.tif", labels)
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    environ = faked(home / "faked", home / "child.zip")
    with Server(home, ["--images", str(home / "mine")], environ) as server:
        yield server


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    """An even image, so that whatever has a colour is an overlay."""
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.full((120, 160), 100, np.uint8))
    return path


def paint(page: Any) -> None:
    """An object on the image, by a stroke of the brush."""
    page.click("[data-key=correct-instances]")
    page.wait_for_selector(".zv-edit")  # the layer to paint on is there
    settle(page)
    box = page.locator(".zv-stage").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 2 + 60, box["y"] + box["height"] / 2, steps=4)
    page.mouse.up()
    page.wait_for_selector("[data-count='1']")
    page.click("[data-key=done]")


def begin(page: Any, seed: int) -> str:
    """Start a training from the form; its id."""
    page.click("[data-key=setup]")
    page.wait_for_selector("[data-train-form]")
    page.route("**/api/trainings", lambda route: route.continue_(
        post_data={**route.request.post_data_json, "seed": seed}
        if route.request.method == "POST" else None
    ))  # fmt: skip
    page.click("[data-key=train]")
    page.wait_for_selector(TRAINING)
    return str(page.get_attribute(TRAINING, "data-training"))


def state(page: Any, wanted: str) -> None:
    page.wait_for_selector(f"{TRAINING}[data-state={wanted}]")


def bands(page: Any) -> list[list[bool]]:
    """Whether there is an overlay above and below, left and right of the middle."""
    shot = seen(page)
    coloured = (shot.max(-1) - shot.min(-1)) > 60
    tall, wide = coloured.shape
    rows = (slice(0, tall // 2), slice(tall // 2, tall))
    columns = (slice(0, wide // 2 - 20), slice(wide // 2 + 20, wide))
    return [[bool(coloured[y, x].any()) for x in columns] for y in rows]


def test_from_a_painted_object_to_a_kept_model_and_back(
    browser: Any, server: Server, home: Path, gray: Path
) -> None:
    with visit(browser, server, "#/run?model=teachable&channel=0") as page:
        upload(page, gray)
        page.click("[data-key=setup]")
        page.wait_for_selector("[data-train-form]:has-text('nothing is painted yet')")
        page.click("[data-key=train]")
        page.wait_for_selector("[data-train-form] [role=alert]:has-text('Choose at least one')")
        page.reload()
        page.wait_for_selector(".work-facts")
        paint(page)
        page.click("[data-key=setup]")
        page.wait_for_selector("[data-sample]:has-text('1 corrected object')")
        assert page.input_value("[data-sample]").startswith("a:")
        assert "pairs of images" in page.inner_text("[data-train-form]")
        page.fill("[data-key=train-name]", "Mine")
        page.click("[data-key=train]")
        state(page, "done")
        assert "It is better than its parent." in page.inner_text("[data-gate=passed]")
        scores = page.locator(".work-scores")
        assert (scores.get_attribute("data-before"), scores.get_attribute("data-after")) == (
            "0.2", "0.7",
        )  # fmt: skip
        curves = page.locator("[data-curve]")
        assert [one.get_attribute("data-points") for one in curves.all()] == ["2", "2"]
        # Left of the line what was found before, right of it what is found now.
        page.wait_for_selector(".zv-name:has-text('Labels after')")
        assert bands(page) == [[True, False], [False, True]]
        page.click("[data-key=keep]")
        page.wait_for_selector("[data-kept=teachable-mine]")
        page.click("[data-key=use]")
        page.wait_for_selector("[data-model=teachable-mine]")
        assert "channel=0" in page.url, "the new model sees the image as its parent does"
        page.reload()
        page.wait_for_selector("[data-kept=teachable-mine]")
        page.click("[data-key=undo-keep]")
        page.wait_for_selector("[data-model=teachable]")
        page.wait_for_selector("[data-key=keep]")
        page.click("[data-key=discard]")
        page.click("[data-step=retrain] .danger")
        page.wait_for_selector("[data-step=retrain]:has-text('was discarded')")
        assert page.locator("[data-key=keep]").count() == 0


def test_paused_killed_and_resumed_while_the_page_watches(
    browser: Any, server: Server, home: Path, gray: Path
) -> None:
    with visit(browser, server, "#/run?model=teachable") as page:
        upload(page, gray)
        paint(page)
        training = begin(page, seed=3)
        folder = home / "trainings" / training
        let(folder, 3)
        page.wait_for_selector("[data-training-said]:has-text('3 of 1000 steps')")
        page.wait_for_selector("[data-training-said]:has-text('after round 1')")
        page.wait_for_selector(".zv-name:has-text('Labels')")
        assert bands(page)[0] == [True, True]
        page.click("[data-key=pause]")
        state(page, "paused")
        page.click("[data-key=pause]")
        state(page, "running")
        os.kill(_pid(folder), signal.SIGKILL)
        state(page, "interrupted")
        assert "ended from outside" in page.inner_text("[data-training-said]")
        page.reload()
        state(page, "interrupted")
        page.click("[data-key=resume-training]")
        let(folder, 6)
        page.wait_for_selector("[data-training-said]:has-text('6 of 1000 steps')")
        page.wait_for_selector("[data-points='2']")
        page.click("[data-key=cancel-training]")
        state(page, "cancelled")
        page.click("[data-key=delete-training]")
        page.click("[data-step=retrain] .danger")
        page.wait_for_selector("[data-key=setup]")
        assert not folder.exists()


def test_a_refused_model_and_a_failure_are_told(browser: Any, server: Server, gray: Path) -> None:
    with visit(browser, server, "#/run?model=teachable", size=NARROW) as page:
        upload(page, gray)
        paint(page)
        begin(page, seed=4)
        state(page, "done")
        told = page.inner_text("[data-gate=refused]")
        assert "It is worse than its parent. It was not kept" in told
        assert page.locator("[data-key=keep]").count() == 0
        page.click("[data-key=again]")
        begin(page, seed=1)
        state(page, "failed")
        assert "All labels are empty." in page.inner_text("[data-training-said] [role=alert]")
        wide = "document.documentElement.scrollWidth <= innerWidth"
        assert page.evaluate(wide)


def test_trainings_stand_in_the_list_of_jobs(
    browser: Any, server: Server, home: Path, gray: Path
) -> None:
    with visit(browser, server, "#/run?model=teachable") as page:
        upload(page, gray)
        paint(page)
        done = begin(page, seed=0)
        state(page, "done")
        page.click("[data-key=again]")
        running = begin(page, seed=3)
        let(home / "trainings" / running, 2)
        page.evaluate("location.hash = '#/jobs'")
        page.wait_for_selector(f"[data-training='{running}']:has-text('2 of 1000 steps')")
        rows = page.locator(".jobs-row")
        told = rows.evaluate_all("(all) => all.map((row) => row.dataset.training)")
        assert told == [running, done]
        words = page.inner_text(f"[data-training='{done}']")
        for part in ("teachable retrained on 1 image", "Done", "better than its parent", "Open it"):
            assert part in words
        page.click(f"[data-training='{running}'] [data-key=act]")
        page.wait_for_selector(f"[data-training='{running}'][data-state=cancelled]")
        page.click(f"[data-training='{running}'] [data-key=delete]")
        page.click("text=Delete it and its files")
        page.wait_for_selector(f"[data-training='{running}']", state="detached")
        page.click(f"[data-training='{done}'] [data-key=open]")
        page.wait_for_selector(f"{TRAINING}[data-state=done]")
        page.wait_for_selector(".work-facts:has-text('cells.tif')")
        page.wait_for_selector(".zv-name:has-text('Labels after')")
        page.wait_for_function(IN_VIEW)


# The link leads to the step itself.
IN_VIEW = """() => {
  const [side, step] = [".work-side", "[data-step=retrain]"].map((one) =>
    document.querySelector(one).getBoundingClientRect());
  return step.top >= side.top - 2 && step.top < side.bottom;
}"""


# `monai` as if it were not installed.
WITHOUT = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *more: None if name == "monai" else found(name, *more)
"""


def test_where_its_libraries_are_missing_the_page_says_what_to_type_and_where(
    browser: Any, gray: Path, tmp_path: Path
) -> None:
    (tmp_path / "without").mkdir()
    (tmp_path / "without" / "sitecustomize.py").write_text(WITHOUT)
    paths = (str(tmp_path / "without"), os.environ.get("PYTHONPATH", ""))
    environ = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    with (
        Server(tmp_path / "home", environ=environ) as server,
        visit(browser, server, "#/run?model=nuclei-fluo", size=NARROW) as page,
    ):
        upload(page, gray)
        page.click("[data-key=setup]")
        line = page.inner_text("[data-step=retrain] .zoo-code code")
        assert " install " in line
        assert line.endswith(("[train]", "[train]'", '[train]"'))
        told = page.inner_text("[data-step=retrain] .zoo-notice")
        for words in ("not installed here: MONAI.", "open a terminal", "reload", "Live mode"):
            assert words in told
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        page.click("[data-key=to-live]")
        page.wait_for_function("document.activeElement.textContent === 'Live'")


def test_a_model_that_cannot_be_retrained_says_why_and_offers_live_mode(
    browser: Any, server: Server, gray: Path
) -> None:
    with visit(browser, server, "#/run?model=fixed") as page:
        upload(page, gray)
        page.click("[data-key=setup]")
        told = page.inner_text("[data-step=retrain] .zoo-notice")
        assert "Its output depends on the data. Live mode may work" in told
        page.click("[data-key=to-live]")
        page.wait_for_function("document.activeElement.textContent === 'Live'")


@pytest.mark.timeout(600)
def test_a_model_really_learns_killed_in_the_middle(
    browser: Any, server: Server, home: Path
) -> None:
    """The trainer itself: from a folder, killed after its second round, resumed, kept, undone."""
    pytest.importorskip("torch")
    pytest.importorskip("monai")
    (home / "faked" / "on").unlink()
    with visit(browser, server, "#/run?model=learner") as page:
        page.set_default_timeout(240_000)
        upload(page, home / "mine" / "images" / "cells-0.tif")
        page.click("[data-key=setup]")
        page.wait_for_selector("[data-train-form]")
        page.click("[data-key=train-folders] summary")
        page.fill("[data-key=train-images]", "images")
        page.fill("[data-key=train-labels]", "labels")
        page.click("[data-key=train]")
        page.wait_for_selector(TRAINING)
        folder = home / "trainings" / page.get_attribute(TRAINING, "data-training")
        pid = _pid(folder)
        limit = time.monotonic() + 240
        # The checkpoint of a round is written after it was told.
        while len(rounds := _told(folder, "epoch", "step")) < 2:
            assert time.monotonic() < limit, (folder / "log.txt").read_text()
            time.sleep(0.005)
        os.kill(pid, signal.SIGKILL)
        state(page, "interrupted")
        page.click("[data-key=resume-training]")
        state(page, "done")
        # What was learned in the first round was not learned again.
        begun = [one["step"] for one in _told(folder, "facts", "device")]
        assert begun[0] == 0
        assert begun[1] >= rounds[0]["step"] > 0
        assert page.get_attribute("[data-gate]", "data-gate") == "passed"
        scores = page.locator(".work-scores")
        before, after = (float(scores.get_attribute(f"data-{n}")) for n in ("before", "after"))
        assert after > before + 0.3
        page.click("[data-key=keep]")
        page.wait_for_selector("[data-kept=learner-retrained]")
        page.click("[data-key=use]")
        page.wait_for_selector("[data-model=learner-retrained]")
        page.wait_for_selector("[data-verdict=yes]")
        page.click("[data-key=preview]")
        page.wait_for_selector("[data-preview='16']")
        page.click("[data-key=undo-keep]")
        page.wait_for_selector("[data-model=learner]")


def _told(folder: Path, event: str, name: str) -> list[dict[str, Any]]:
    """The events of a training of this kind that have this fact."""
    path = folder / "events.jsonl"
    text = path.read_text() if path.exists() else ""
    lines = map(json.loads, text[: text.rfind("\n") + 1].splitlines())
    return [line for line in lines if line["event"] == event and name in line]


def _pid(folder: Path) -> int:
    """The process that works in a training's folder."""
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if str(folder).encode() in words:
                return int(process.name)
    raise AssertionError("no process works in the folder")
