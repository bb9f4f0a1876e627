"""The card's page in a real Chromium: nothing is fetched or blocked, nothing is wider than it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biozoo.package import ModelPackage, builtin_packages
from biozoo_model_cards import Sheet
from packages import make_package
from page_server import CHROMIUM, browser
from test_card_sheet import _dressed

pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
__all__ = ["browser"]


def _cards(folder: Path) -> Iterator[Path]:
    for package in builtin_packages():
        yield _written(Sheet.of(package), folder / f"{package.id}.html")
    for name, words in (("long", "W" * 300), ("attack", "<img src=x onerror='window.pwned=1'>")):
        made = _dressed(make_package(folder / name, validate=False), words)
        sheet = Sheet.of(ModelPackage.from_folder(made))
        yield _written(sheet, folder / f"{name}.html")


def _written(sheet: Sheet, path: Path) -> Path:
    path.write_text(sheet.to_html(), encoding="utf-8")
    return path


def test_a_card_stands_alone_at_every_width(browser: Any, tmp_path: Path) -> None:
    for path in _cards(tmp_path):
        for width, scheme in ((360, "light"), (1280, "dark")):
            context = browser.new_context(
                viewport={"width": width, "height": 800}, color_scheme=scheme
            )
            page = context.new_page()
            said: list[str] = []
            asked: list[str] = []
            page.on("console", lambda message, said=said: said.append(message.text))
            page.on("request", lambda request, asked=asked: asked.append(request.url))
            page.goto(path.as_uri())
            assert page.evaluate("document.documentElement.scrollWidth") <= width, path.name
            assert said == [], path.name
            assert [a for a in asked if not a.startswith("data:")] == [path.as_uri()]
            drawn = "Array.from(document.querySelectorAll('img[src]')).every(i => i.naturalWidth)"
            assert page.evaluate(drawn), path.name
            assert page.evaluate("window.pwned") is None
            back = page.evaluate("getComputedStyle(document.body).backgroundColor")
            assert back == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(16, 22, 28)")
            context.close()


def test_a_card_prints_on_paper(browser: Any, tmp_path: Path) -> None:
    path = next(_cards(tmp_path))
    page = browser.new_page()
    page.goto(path.as_uri())
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    after = "getComputedStyle(document.querySelector('#training a'), '::after').content"
    assert "http" in page.evaluate(after)
    assert page.pdf(prefer_css_page_size=True).startswith(b"%PDF")
    page.close()
