"""Every view with something in it, in both sizes and themes: nothing sticks out, nothing complains.

The pictures are left in build/pictures, to be looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from page_server import NARROW, PATIENCE, WIDE, Server, browser, visit

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

FOLDER = Path(__file__).parents[1] / "build" / "pictures"

#: Height of the page apart, nothing is wider than the window.
WIDER = """() => [...document.querySelectorAll(".zoo-app *")]
  .filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && e.checkVisibility())
  .filter((e) => !e.closest("pre, .zoo-nav, table, .zoo-live, [class*=scroll]"))
  .map((e) => e.tagName + "." + e.className).slice(0, 5)"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without a network."""
    with Server(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.mark.parametrize(
    ("kind", "size", "scheme"),
    [("wide", WIDE, "light"), ("narrow", NARROW, "dark")],
    ids=["wide", "narrow"],
)
def test_every_view_fits_its_window(
    browser: Any, server: Server, kind: str, size: Any, scheme: str
) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    with visit(browser, server, "#/", size=size, color_scheme=scheme) as page:

        def picture(name: str) -> None:
            page.screenshot(path=FOLDER / f"{name}-{kind}.png")
            assert page.evaluate(WIDER) == [], name
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name

        page.wait_for_selector("[data-choose], .browse-card")
        picture("models")
        page.click("text=Try it on a sample image")
        page.wait_for_selector("text=/\\d+ objects/", timeout=2 * PATIENCE)
        page.wait_for_function("document.querySelector('.zv canvas')?.width > 0")
        page.wait_for_timeout(800)  # the outlines
        picture("run")
        image = page.evaluate("new URLSearchParams(location.hash.split('?')[1]).get('image')")
        page.goto(server.url(f"#/compare?image={image}&models=nuclei-fluo,em-membrane"))
        page.click("text=Compare what you see")
        page.wait_for_function(
            "document.querySelectorAll('.zoo-compare').length && "
            "(document.body.innerText.match(/\\d+ objects/g) ?? []).length >= 2",
            timeout=2 * PATIENCE,
        )
        found = page.evaluate("document.body.innerText.match(/\\d+ objects/g)")
        assert found[0] == "68 objects", "asked for at once, the whole image is looked at"
        page.wait_for_timeout(800)
        picture("compare")
        page.goto(server.url("#/jobs"))
        page.wait_for_selector("text=nuclei-fluo")
        picture("jobs")
        page.goto(server.url("#/models/nuclei-fluo"))
        page.wait_for_selector("text=Use on my image")
        page.wait_for_selector("text=Test output")
        picture("model")
        page.goto(server.url("#/run"))
        page.wait_for_selector(".zoo-run")
        page.wait_for_timeout(500)
        picture("open")
