"""Models side by side in a real Chromium: linked, timed, and one of them taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from packages import make_package
from page_server import NARROW, Server, browser, visit
from page_steps import cells, coloured, seen, settle, upload

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

REFUSED = r"Failed to load resource: the server responded with a status of 4\d\d"
COUNT = ".compare-column >> nth={} >> .compare-count"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    from biozoo import Settings, Zoo

    home = tmp_path_factory.mktemp("home")
    Zoo(Settings(home=home, offline=True)).add(make_package(
        home / "two", id="two-channels", name="Two channels", channels=2, validate=False
    ))  # fmt: skip
    with Server(home) as server:
        yield server


def opened(page: Any, server: Server, path: Path, models: str) -> None:
    """Compare on an image that another program of the same session sent."""
    send = page.context.request.post
    sent = send(server.url("api/images/uploads?name=cells.tif"), data=path.read_bytes())
    page.evaluate(f"location.hash = '#/compare?image={sent.json()['id']}&models={models}'")
    page.wait_for_selector(".compare-column")
    settle(page)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, cells((256, 256)))
    return path


def test_two_models_look_at_the_same_part_and_one_is_taken(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/jobs") as page:
        opened(page, server, image, "nuclei-fluo,em-membrane")
        assert page.locator("canvas").count() == 2
        page.wait_for_selector(".compare-said:has-text('Ready') >> nth=1")
        page.click("[data-key=look]")
        for column in (0, 1):
            page.wait_for_selector(COUNT.format(column))
            assert re.search(r"\d+ objects? in [\d.]+ m?s", page.inner_text(COUNT.format(column)))
            assert coloured(page, column) > 100
        page.click("[data-column=nuclei-fluo] [data-key=use]")
        page.wait_for_selector("[data-model=nuclei-fluo]")
        assert page.url.split("?")[0].endswith("#/run")
        page.wait_for_selector("[data-verdict=yes]")
        assert page.locator("canvas").count() == 1


def test_the_viewers_move_together(browser: Any, server: Server, image: Path) -> None:
    with visit(browser, server, "#/jobs") as page:
        opened(page, server, image, "nuclei-fluo,em-membrane")
        before = seen(page, 1)
        page.locator(".zv-stage").first.focus()
        for _ in range(3):
            page.keyboard.press("+")
        assert np.abs(seen(page, 1) - before).max() > 30
        zooms = [zoom.inner_text() for zoom in page.locator(".zv-zoom").all()]
        assert zooms[0] == zooms[1]


def test_scales_of_one_model_stand_beside_each_other_and_in_the_address(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/jobs") as page:
        opened(page, server, image, "nuclei-fluo,nuclei-fluo")
        scale = page.locator(".compare-column").nth(1).get_by_label("Scale of this column")
        page.wait_for_function(
            "document.querySelectorAll('[aria-label=\"Scale of this column\"]')[1].length > 2"
        )
        scale.select_option(index=2)
        page.wait_for_function("location.hash.includes('scales=%2C')")
        page.wait_for_selector(".compare-said:has-text('Ready') >> nth=1")
        chosen = scale.locator("option:checked").inner_text()
        assert "of the size" in chosen
        page.reload()
        page.wait_for_selector(".compare-said:has-text('Ready') >> nth=1")
        assert scale.locator("option:checked").inner_text() == chosen
        page.click("[data-key=look]")
        page.wait_for_selector(COUNT.format(1))


def test_a_model_that_does_not_fit_says_why_in_its_column_and_columns_come_and_go(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/jobs", expected=REFUSED) as page:
        opened(page, server, image, "nuclei-fluo,two-channels")
        refused = page.locator("[data-column=two-channels] .zoo-notice")
        refused.wait_for()
        assert "channel" in refused.inner_text()
        page.click("[data-key=look]")
        page.wait_for_selector(COUNT.format(0))
        page.click("[data-column=two-channels] [data-key=remove]")
        assert page.locator(".compare-column").count() == 1
        assert page.locator(COUNT.format(0)).is_visible()  # what was found stays
        for _ in range(3):
            page.click("[data-key=add]")
        assert page.locator(".compare-column").count() == 4
        assert page.locator("[data-key=add]").is_disabled()
        assert page.locator("canvas").count() == 4


def test_from_a_result_another_model_is_put_beside_it(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, image)
        page.wait_for_selector("[data-verdict=yes]")
        page.click("[data-key=run]")
        page.click("[data-key=compare]")
        page.wait_for_selector(".compare-column >> nth=1")
        models = page.locator(".compare-column").evaluate_all(
            "(all) => all.map((c) => c.dataset.column)"
        )
        assert models[0] == "nuclei-fluo"
        assert models[1] != "nuclei-fluo"
        page.click("[data-column=nuclei-fluo] ~ .compare-column [data-key=remove]")
        page.reload()
        page.wait_for_selector(".compare-column")
        settle(page)
        assert page.locator(".compare-column").count() == 1  # as it was left


def test_without_an_image_it_leads_to_one(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/compare", size=NARROW) as page:
        page.wait_for_selector("text=Open an image")
        page.click("[data-key=nuclei]")
        page.wait_for_selector(".compare-column >> nth=1")
        settle(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        models = page.locator(".compare-column").evaluate_all(
            "(all) => all.map((c) => c.dataset.column)"
        )
        assert "nuclei-histology" not in models  # two that fit are there to begin with


def test_an_image_that_is_gone_is_told(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/compare?image=gone", expected=REFUSED) as page:
        page.wait_for_selector(".zoo-notice.no:has-text('not open any more')")
        assert page.locator("text=Or a sample").is_visible()
