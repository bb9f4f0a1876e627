"""An image of one's own in the viewer, from the real server, in a real Chromium."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import tifffile

from biozoo import Settings
from biozoo.samples import simulate_nuclei
from http_jobs import ended
from page_server import CHROMIUM, PATIENCE, chromium

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]


#: Where the middle of an image pixel (y, x) is on the page.
POINT = """([y, x]) => {
  const box = viewer.parts.stage.getBoundingClientRect(), see = viewer.look();
  return [box.left + box.width / 2 + (x + 0.5 - see.x) * see.scale,
          box.top + box.height / 2 + (y + 0.5 - see.y) * see.scale];
}"""


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """A server of this process, without Gradio's pages."""
    from biozoo_ui.api import ServerSettings, create_app

    listening = socket.create_server(("127.0.0.1", 0))
    port = listening.getsockname()[1]
    zoo = Settings(home=tmp_path / "home", index_url="http://127.0.0.1:9/x", offline=True)
    app = create_app(ServerSettings(zoo, port=port), pages=False)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(60)
    listening.close()


def test_true_values_and_found_nuclei_of_ones_own_image(address: str, tmp_path: Path) -> None:
    sample = simulate_nuclei((300, 400), seed=8, diameter=26)
    image = sample.image.astype(np.uint16) + 1000  # no 8-bit picture could hold it
    tifffile.imwrite(
        tmp_path / "cells.ome.tif", image,
        metadata={"axes": "YX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5,
                  "PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"},
    )  # fmt: skip
    with httpx.Client(base_url=address, timeout=60) as client:
        opened = client.post(
            "/api/images/uploads?name=cells.ome.tif",
            content=(tmp_path / "cells.ome.tif").read_bytes(),
        ).json()
        made = client.post("/api/jobs", json={"model": "nuclei-fluo", "image": opened["id"]}).json()
        job = ended(client, made["id"])
        assert job["state"] == "done", job["error"]
        [file] = [f for f in job["files"] if f["kind"] == "labels"]
        labels = client.post(f"{file['url']}/image").json()
        found = tifffile.imread(_saved(client, file["url"], tmp_path)).squeeze()
        session = client.cookies["biozoo_session"]
    y, x = (int(v) for v in np.argwhere(found > 0)[0])
    with chromium() as browser:
        context = browser.new_context(viewport={"width": 1000, "height": 700})
        context.add_cookies([{"name": "biozoo_session", "value": session, "url": address}])
        page = context.new_page()
        mistakes: list[str] = []
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        foreign: list[str] = []
        page.on("request", lambda r: None if r.url.startswith(address) else foreign.append(r.url))
        page.goto(f"{address}/view?image={opened['id']}&over={labels['id']}")
        page.wait_for_selector("body[data-ready]", timeout=PATIENCE)
        page.wait_for_function("viewer.root.getAttribute('aria-busy') === 'false'")
        left, top = page.evaluate(POINT, [y, x])
        page.mouse.move(left, top)
        says = "text => document.querySelector('.zv-status').textContent.includes(text)"
        for text in (f"x {x}, y {y}", str(image[y, x])):
            page.wait_for_function(says, arg=text, timeout=PATIENCE)
        assert str(found[y, x]) in page.inner_text(".zv-status")
        assert "µm" in page.inner_text(".zv-scale")
        assert not mistakes
        assert not foreign
        stranger = browser.new_context().new_page()
        stranger.goto(f"{address}/view?image={opened['id']}")
        stranger.get_by_role("alert").wait_for(timeout=PATIENCE)


def _saved(client: httpx.Client, url: str, folder: Path) -> Path:
    path = folder / "labels.tif"
    path.write_bytes(client.get(url).content)
    return path
