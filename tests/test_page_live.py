"""Live mode in a real Chromium: a model that is wrong learns from five strokes of a mouse."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from biozoo.samples import simulate_nuclei
from page_server import Server, browser, visit
from page_steps import settle, upload

pytest.importorskip("gradio")
pytest.importorskip("onnx")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

Array = np.ndarray[Any, Any]
PICTURES = Path(__file__).parents[1] / "build" / "pictures"
BACKGROUND, OBJECT = "1", "2"
"""Keys of the classes."""
RADIUS = 2.5

# From the end of a stroke to the frame that shows what the model makes of it.
TIMER = """
(refit) => new Promise((done, fail) => {
  const said = () => document.querySelector('[data-step=live]').innerText;
  setTimeout(() => fail(new Error('no refit ' + refit + ': ' + said())), 20000);
  const ready = () => {
    const told = document.querySelector('[data-refit]');
    const shown = document.querySelector('.zv').ariaBusy === 'false';
    if (told && Number(told.dataset.refit) >= refit && shown) {
      requestAnimationFrame(() => done(performance.now() - window.released));
    } else requestAnimationFrame(ready);
  };
  // What was renewed is asked for in the next frame.
  requestAnimationFrame(() => requestAnimationFrame(ready));
})
"""
LISTEN = """
document.querySelector('.zv-stage').addEventListener(
  'pointerup', () => (window.released = performance.now()), true)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("home")) as server:
        yield server


class Painter:
    """Somebody at the page: knows where the pixels of the image are, and paints."""

    def __init__(self, page: Any, server: Server, model: str) -> None:
        self.page, self.server = page, server
        self.lines: list[tuple[tuple[float, float], tuple[float, float]]] = []
        page.click(f"[data-suggested={model}]")
        page.wait_for_selector("[data-verdict]")

    def start(self) -> None:
        """Begin live mode, with a thin brush."""
        page = self.page
        page.click("[data-key=live]")
        page.wait_for_selector("[data-refit='1']")
        page.wait_for_selector(".zv-edit")
        settle(page)
        for _ in range(4):
            page.keyboard.press("[")
        page.evaluate(LISTEN)
        self.measure()

    def measure(self) -> None:
        """Where the pixels of the image are on the screen."""
        box = self.page.locator(".zv-stage").bounding_box()
        places = [(box["x"] + part * box["width"], box["y"] + part * box["height"])
                  for part in (0.35, 0.65)]  # fmt: skip
        found = []
        for left, top in places:
            self.page.mouse.move(left, top)
            self.page.wait_for_timeout(100)
            words = self.page.inner_text(".zv-status")
            place = re.search(r"x (-?\d+), y (-?\d+)", words)
            assert place is not None, words
            found.append((int(place[2]) + 0.5, int(place[1]) + 0.5))
        (y0, x0), (y1, x1) = found
        (left0, top0), (left1, top1) = places
        scale = ((left1 - left0) / (x1 - x0) + (top1 - top0) / (y1 - y0)) / 2
        self.scale, self.left, self.top = scale, left0 - x0 * scale, top0 - y0 * scale
        self.box = box

    def free(self, shape: tuple[int, ...]) -> Array:
        """Pixels that lie under no button."""
        y, x = np.indices(shape)
        across = self.left + x * self.scale - self.box["x"]
        down = self.top + y * self.scale - self.box["y"]
        inside: Array = (across > 70) & (across < self.box["width"] - 70)
        return inside & (down > 10) & (down < self.box["height"] - 40)

    def stroke(self, key: str, begin: tuple[float, float], end: tuple[float, float]) -> float:
        """Paint a line; the milliseconds from its end to the overlay that follows it."""
        page = self.page
        page.keyboard.press(key)
        refit = int(page.get_attribute("[data-refit]", "data-refit"))
        places = [(self.left + x * self.scale, self.top + y * self.scale) for y, x in (begin, end)]
        page.mouse.move(*places[0])
        page.mouse.down()
        page.mouse.move(*places[1], steps=3)
        page.mouse.up()
        return float(page.evaluate(TIMER, refit + 1))

    def found(self) -> Array:
        """Where the overlay has objects."""
        live = re.search(r"live=(\w+)", self.page.url)
        assert live is not None
        ask = self.page.context.request.get
        labels = ask(self.server.url(f"api/live/{live[1]}")).json()["layers"][0]
        assert labels["kind"] == "labels"
        sizes, v = labels["image"]["sizes"], labels["image"]["v"]
        tile = ask(self.server.url(f"{labels['url'][1:]}/tiles/0/0/0/0/0/0?v={v}")).body()
        found: Array = np.frombuffer(tile, labels["image"]["pixels"]) > 0
        return found.reshape(sizes["y"], sizes["x"])

    def correct(self, truth: Array) -> float:
        """One stroke, of background and of an object by turns: in the middle of the largest part
        that is wrong, or where nothing is, just of what it is. Milliseconds until it is followed.
        """
        found, free = self.found(), self.free(truth.shape) & ~self.near(truth.shape)
        objects = len(self.lines) % 2 == 1
        own = (truth if objects else ~truth) & free
        wrong = own & (found != truth)
        line = _line(wrong if wrong.sum() > 200 else own)
        self.lines.append(line)
        return self.stroke(OBJECT if objects else BACKGROUND, *line)

    def near(self, shape: tuple[int, ...]) -> Array:
        """Pixels beside a stroke: what was said there need not be said again."""
        near = np.zeros(shape, bool)
        for (y0, x0), (y1, x1) in self.lines:
            for part in np.linspace(0, 1, 40):
                near[int(y0 + part * (y1 - y0)), int(x0 + part * (x1 - x0))] = True
        return np.asarray(ndimage.distance_transform_edt(~near) < 8)


def _line(wrong: Array) -> tuple[tuple[float, float], tuple[float, float]]:
    """A short line well inside of the largest part."""
    parts, count = ndimage.label(wrong)
    inside = ndimage.distance_transform_edt(np.pad(wrong, 1))[1:-1, 1:-1]
    room = np.asarray(ndimage.maximum(inside, parts, range(1, count + 1)))
    sizes = np.asarray(ndimage.sum(wrong, parts, range(1, count + 1)))
    part = int(np.argmax(np.where(room > RADIUS + 0.5, sizes, 0))) + 1
    own = np.where(parts == part, inside, 0)
    y, x = np.unravel_index(own.argmax(), own.shape)
    best = (y, x)
    for angle in np.linspace(0, 2 * np.pi, 16, endpoint=False):
        for length in range(1, 30):
            at = (round(y + length * np.sin(angle)), round(x + length * np.cos(angle)))
            if not (0 <= at[0] < own.shape[0] and 0 <= at[1] < own.shape[1]):
                break
            if own[at] <= RADIUS + 0.5:
                break
            if np.hypot(at[0] - y, at[1] - x) > np.hypot(best[0] - y, best[1] - x):
                best = at
    return (y + 0.5, x + 0.5), (best[0] + 0.5, best[1] + 0.5)


def test_five_strokes_teach_it_another_world(browser: Any, server: Server, tmp_path: Path) -> None:
    """Dark nuclei on bright, the opposite of what the model was made for; kept, used and undone."""
    sample = simulate_nuclei((256, 288), seed=5, diameter=24)
    truth = sample.labels > 0
    image = sample.image.astype(np.float32)
    path = tmp_path / "dark.tif"
    tifffile.imwrite(path, (4000 - image.clip(0, 4000)).astype(np.uint16))
    with visit(browser, server, "#/run") as page:
        upload(page, path)
        painter = Painter(page, server, "nuclei-fluo")
        painter.start()
        before = (painter.found() != truth).mean()
        for _ in range(5):
            painter.correct(truth)
        after = (painter.found() != truth).mean()
        assert after < before * 2 / 3, (before, after)
        page.mouse.move(0, 0)
        side = "(step) => step.scrollIntoView({block: 'end'})"
        page.locator("[data-step=live]").evaluate(side)
        settle(page)
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / "live.png")
        # A reload finds all of it: the strokes, the session, what it says.
        shown = painter.found()
        page.reload()
        page.wait_for_selector("[data-refit]")
        settle(page)
        assert (painter.found() == shown).all()
        page.fill("[data-key=live-name]", "Dark nuclei")
        page.click("[data-key=keep-live]")
        page.wait_for_selector("[data-kept=dark-nuclei]")
        page.click("[data-key=use]")
        page.wait_for_selector("[data-model=dark-nuclei]")
        page.wait_for_selector("[data-verdict=yes]")
        assert "live=" not in page.url
        page.click("[data-key=preview]")
        page.wait_for_selector("[data-preview]:not([data-preview=''])")
        count = int(page.get_attribute("[data-preview]", "data-preview"))
        assert abs(count - ndimage.label(shown)[1]) < 0.5 * count


def test_undo_takes_the_model_back_to_what_it_was_and_stop_ends_it(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    sample = simulate_nuclei((256, 256), seed=7, diameter=24)
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, sample.image.astype(np.uint16))
    with visit(browser, server, "#/run") as page:
        upload(page, path)
        painter = Painter(page, server, "nuclei-fluo")
        painter.start()
        as_it_is = painter.found()
        assert (as_it_is == (sample.labels > 0)).mean() > 0.9
        y, x = np.unravel_index(ndimage.distance_transform_edt(as_it_is).argmax(), as_it_is.shape)
        painter.stroke(BACKGROUND, (y, x), (y, x + 3))
        assert (painter.found() != as_it_is).any()
        page.keyboard.press("Control+z")
        page.wait_for_selector("[data-refit='3']")
        assert (painter.found() == as_it_is).all()
        page.click("[data-key=end]")
        page.wait_for_selector("[data-key=live]")
        assert "live=" not in page.url
        page.click("[data-key=live]")
        page.wait_for_selector("[data-refit]")


def test_live_mode_waits_until_a_channel_is_chosen(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "colour.tif"
    gray = simulate_nuclei((128, 160), seed=7, diameter=24).image
    tifffile.imwrite(path, np.stack([np.uint8(gray.clip(0, 2550) / 10)] * 3, -1), photometric="rgb")
    with visit(browser, server, "#/run") as page:
        upload(page, path)
        page.click("[data-suggested=nuclei-fluo]")
        page.wait_for_selector("[data-verdict]")
        page.wait_for_selector("[data-key=live]:disabled")
        assert "see the step Check" in page.inner_text("[data-step=live]")
        page.click("label:has-text('gray')")
        page.click("[data-key=live]:enabled")
        page.wait_for_selector("[data-refit]")


@pytest.mark.shared
def test_five_strokes_on_a_stained_image(
    browser: Any, server: Server, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "data" / "nuclei" / "stained"
    path = sorted((folder / "images").glob("*.png"))[0]
    [labels] = (folder / "labels").glob(f"{path.stem}*")
    import skimage.io

    truth = skimage.io.imread(labels) > 0
    with visit(browser, server, "#/run") as page:
        upload(page, path)
        painter = Painter(page, server, "nuclei-fluo")
        page.click("[data-key=channel]:has-text('gray'), label:has-text('gray') >> nth=0")
        page.wait_for_selector("[data-verdict=yes]")
        painter.start()
        before = (painter.found() != truth).mean()
        spent = [painter.correct(truth) for _ in range(5)]
        after = (painter.found() != truth).mean()
        with capsys.disabled():
            told = ", ".join(f"{one:.0f}" for one in spent)
            print(f"\nwrong pixels {before:.1%} -> {after:.1%}; ms per stroke: {told}")
        assert after < before * 2 / 3
