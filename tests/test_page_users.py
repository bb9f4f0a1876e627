"""Two people on one server in a real Chromium, and files that are too large for it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from page_server import PATIENCE, READY, Server, browser

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

WORDS = {"ada": "correct horse battery", "ben": "staple of another kind"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server for two users, made as the documentation says, that takes 1 MB."""
    home = tmp_path_factory.mktemp("home")
    users = home / "users.txt"
    code = "import sys; from biozoo_ui.cli import main; sys.exit(main())"
    for name, password in WORDS.items():
        words = ["user", "add", name, "--file", str(users), "--password-stdin"]
        subprocess.run([sys.executable, "-c", code, *words], input=password, text=True, check=True)
    with Server(home, ["--users", str(users), "--max-upload", "1MB"]) as server:
        yield server


@pytest.fixture
def people(browser: Any) -> Iterator[Any]:
    """Makes a page with cookies of its own."""
    contexts = []

    def visitor() -> Any:
        contexts.append(browser.new_context())
        contexts[-1].set_default_timeout(PATIENCE)
        return contexts[-1].new_page()

    yield visitor
    for context in contexts:
        context.close()


def _sign_in(page: Any, server: Server, name: str, password: str) -> None:
    page.goto(server.url("#/run"))
    page.wait_for_selector("input[type=password]")
    page.fill("input[name=name]", name)
    page.fill("input[type=password]", password)
    page.keyboard.press("Enter")


def _upload(page: Any, path: Path) -> None:
    page.set_input_files("input[type=file]", path)


def test_a_second_user_cannot_fetch_the_tiles_of_the_first(
    people: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "secret.tif"
    tifffile.imwrite(path, np.arange(64 * 64, dtype=np.uint16).reshape(64, 64))
    ada, ben = people(), people()
    _sign_in(ada, server, "ada", WORDS["ada"])
    ada.wait_for_selector(READY)
    assert ada.url.endswith("#/run"), "one comes back to where one was"
    tiles: list[str] = []
    ada.on("response", lambda answer: tiles.extend(u for u in [answer.url] if "/tiles/" in u))
    _upload(ada, path)
    ada.wait_for_selector("text=secret.tif")
    ada.wait_for_function("location.hash.includes('image=')")
    ada.wait_for_timeout(500)
    assert tiles
    assert ada.request.get(tiles[0]).status == 200

    _sign_in(ben, server, "ben", WORDS["ada"])
    ben.wait_for_selector("text=do not belong together")
    _sign_in(ben, server, "ben", WORDS["ben"])
    ben.wait_for_selector(READY)
    assert ben.request.get(tiles[0]).status == 404
    assert "secret" not in ben.inner_text("body")
    ben.goto(ada.url)
    ben.wait_for_selector("text=not open any more")

    ada.click("text=Log out")
    ada.wait_for_selector("input[type=password]")
    assert ada.request.get(tiles[0]).status == 401


def test_a_file_that_is_too_large_is_refused_and_the_page_goes_on(
    people: Any, server: Server, tmp_path: Path
) -> None:
    large, small = tmp_path / "large.tif", tmp_path / "small.tif"
    tifffile.imwrite(large, np.zeros((1500, 1500), np.uint16))
    tifffile.imwrite(small, np.eye(64, dtype=np.uint16))
    page = people()
    _sign_in(page, server, "ben", WORDS["ben"])
    page.wait_for_selector(READY)
    _upload(page, large)
    page.wait_for_selector("[role=alert]")
    said = page.inner_text("[role=alert]")
    assert "'large.tif' has 4.5 MB, and this server takes files of up to 1.0 MB" in said
    _upload(page, small)
    page.wait_for_function("location.hash.includes('image=')")
    page.wait_for_selector("text=small.tif")
    assert "large.tif" not in page.inner_text("body")
