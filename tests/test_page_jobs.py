"""The list of jobs in a real Chromium: what ran, runs and waits, and what can be done with it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from page_server import NARROW, Server, browser, visit
from page_steps import cells, slowed

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    environ = slowed(home / "slowed")
    (home / "slowed" / "slow").unlink()
    with Server(home, environ=environ) as server:
        yield server


def submit(page: Any, server: Server, path: Path, tile: int = 0) -> str:
    """A job as another program of the same session makes it; small tiles make it last."""
    send = page.context.request.post
    sent = send(server.url(f"api/images/uploads?name={path.name}"), data=path.read_bytes())
    asked = {"model": "nuclei-fluo", "image": sent.json()["id"]}
    made = send(
        server.url("api/jobs"), data=asked | ({"tile": {"y": tile, "x": tile}} if tile else {})
    )
    assert made.ok, made.text()
    job: str = made.json()["id"]
    return job


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.tif"
    tifffile.imwrite(path, cells((96, 96)))
    return path


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.tif"
    tifffile.imwrite(path, np.tile(cells((128, 128)), (4, 4)))
    return path


def test_an_empty_list_leads_to_a_run(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/jobs") as page:
        page.wait_for_selector("text=Nothing has run yet")
        page.click("text=Run a model on an image")
        page.wait_for_selector("[data-key=choose]")


def test_a_job_is_seen_to_run_and_to_end_and_is_opened(
    browser: Any, server: Server, small: Path
) -> None:
    with visit(browser, server, "#/jobs", size=NARROW) as page:
        job = submit(page, server, small)
        row = f"[data-job='{job}']"
        page.wait_for_selector(f"{row}[data-state=done]")
        told = page.inner_text(row)
        for words in ("nuclei-fluo on small.tif", "Done", "object", "today"):
            assert words in told
        page.click(f"{row} summary")
        page.wait_for_selector(f"{row} .jobs-report:has-text('nuclei-fluo')")
        page.wait_for_timeout(1500)
        assert page.locator(f"{row} .jobs-report").is_visible()  # it stays unfolded
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        page.click(f"{row} [data-key=open]")
        page.wait_for_selector("[data-objects]")
        assert "small.tif" in page.inner_text(".work-facts")


def test_jobs_are_cancelled_resumed_and_deleted_newest_first(
    browser: Any, server: Server, small: Path, large: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        slow = server.home / "slowed" / "slow"
        slow.touch()
        first = submit(page, server, large, tile=160)
        second = submit(page, server, small)
        page.evaluate("location.hash = '#/jobs'")
        page.wait_for_selector(f"[data-job='{first}']:has-text('tiles done')")
        rows = page.locator(".jobs-row").evaluate_all("(all) => all.map((row) => row.dataset.job)")
        assert rows == [second, first]
        assert "Waits until the run before it is done" in page.inner_text(f"[data-job='{second}']")
        page.click(f"[data-job='{first}'] [data-key=act]")
        page.wait_for_selector(f"[data-job='{first}'][data-state=cancelled]")
        slow.unlink()
        page.wait_for_selector(f"[data-job='{second}'][data-state=done]")
        page.click(f"[data-job='{first}'] [data-key=act]")  # go on
        page.wait_for_selector(f"[data-job='{first}']:is([data-state=running], [data-state=done])")
        page.click(f"[data-job='{second}'] [data-key=delete]")
        page.click("text=Keep")
        assert page.locator(".jobs-row").count() == 2
        page.click(f"[data-job='{second}'] [data-key=delete]")
        page.click("text=Delete it and its files")
        page.wait_for_selector(f"[data-job='{second}']", state="detached")
        assert page.locator(".jobs-row").count() == 1
        # It would keep the jobs of the next tests waiting; where it has ended, that is well.
        page.context.request.post(server.url(f"api/jobs/{first}/cancel"))


def test_another_person_sees_nothing_of_it(browser: Any, server: Server, small: Path) -> None:
    with visit(browser, server, "#/jobs") as page:
        job = submit(page, server, small)
        page.wait_for_selector(f"[data-job='{job}'][data-state=done]")
        with visit(browser, server, f"#/run?job={job}", expected="404") as other:
            other.wait_for_selector(".zoo-notice.no:has-text('not there any more')")
            other.evaluate("location.hash = '#/jobs'")
            other.wait_for_selector("text=Nothing has run yet")
