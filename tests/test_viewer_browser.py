"""The viewer in a real Chromium, on synthetic images: what a person would see and read.

Pixels are those of a screenshot, as a monitor would show them.
"""

from __future__ import annotations

import io
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from page_server import CHROMIUM, PATIENCE, browser
from viewer_server import images

pytest.importorskip("fastapi")
playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
__all__ = ["browser"]

playwright.expect.set_options(timeout=PATIENCE)
SERVER = Path(__file__).with_name("viewer_server.py")

Open = Callable[..., "View"]


class View:
    """A page with viewers on it, and what a person would do and see there."""

    def __init__(self, page: Any, address: str) -> None:
        self.page, self.address = page, address
        self.stage = page.locator(".zv-stage").first
        self.status = page.locator(".zv-status").first

    def settle(self) -> None:
        """Wait until nothing is on its way and it is drawn."""
        self.page.wait_for_function(
            "viewers.every((v) => v.root.getAttribute('aria-busy') === 'false')"
        )
        self.page.evaluate(
            "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))"
        )

    def at(self, y: float, x: float, viewer: int = 0) -> tuple[float, float]:
        """Where an image pixel's middle is on the page: left, top."""
        found = self.page.evaluate(
            """([i, y, x]) => {
              const v = viewers[i], box = v.parts.stage.getBoundingClientRect(), see = v.look();
              return [box.left + box.width / 2 + (x + 0.5 - see.x) * see.scale,
                      box.top + box.height / 2 + (y + 0.5 - see.y) * see.scale];
            }""",
            [viewer, y, x],
        )
        return float(found[0]), float(found[1])

    def shot(self) -> np.ndarray:
        self.settle()
        picture = Image.open(io.BytesIO(self.page.screenshot()))
        return np.asarray(picture.convert("RGB")).astype(int)

    def colour(self, y: float, x: float, viewer: int = 0) -> list[int]:
        """What the image pixel (y, x) looks like."""
        left, top = self.at(y, x, viewer)
        ratio = self.page.evaluate("devicePixelRatio")
        shot = self.shot()
        return [int(part) for part in shot[int(top * ratio), int(left * ratio)]]

    def zoom_to(self, y: float, x: float, scale: float) -> None:
        self.page.evaluate("([y, x, scale]) => viewers[0].zoomTo({ y, x, scale })", [y, x, scale])
        self.settle()

    def press(self, *keys: str) -> None:
        self.stage.focus()
        for key in keys:
            self.page.keyboard.press(key)
        self.settle()

    def look(self, viewer: int = 0) -> dict[str, float]:
        found: dict[str, float] = self.page.evaluate("(i) => viewers[i].look()", viewer)
        return found

    def control(self, **settings: Any) -> list[str]:
        """Change how the server behaves; the tiles it was asked for so far."""
        answer = httpx.post(f"{self.address}/control", json=settings)
        asked: list[str] = answer.json()["asked"]
        return asked


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, str(SERVER), str(port)])
    found = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                httpx.get(f"{found}/api/images/exact")
                break
            except httpx.TransportError:
                assert server.poll() is None, "the server of the test ended"
                time.sleep(0.1)
        yield found
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Open]:
    """Open a page of viewers; at its end none of them has made a mistake."""
    contexts: list[Any] = []
    mistakes: list[str] = []

    def go(layers: str, wait: bool = True, theme: str = "dark", **context: Any) -> View:
        httpx.post(f"{address}/control", json={"status": 200, "delay": 0, "asked": []})
        context.setdefault("viewport", {"width": 1000, "height": 640})
        contexts.append(browser.new_context(**context))
        contexts[-1].set_default_timeout(PATIENCE)
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto(f"{address}/page?theme={theme}&layers={layers}")
        page.wait_for_function("window.viewers?.length")
        view = View(page, address)
        if wait:
            page.wait_for_function("log.some(([, event]) => event === 'ready')")
            view.settle()
        return view

    yield go
    for context in contexts:
        context.close()
    assert mistakes == []


def exact(y: int, x: int, z: int, channel: int, time: int = 0) -> int:
    return 10000 * time + 1000 * z + 10 * channel + (y + x) % 7


def test_pixels_have_the_colour_of_their_values(visit: Open) -> None:
    view = visit("exact")
    view.zoom_to(100, 100, 20)
    # The middle plane, contrast 0 to 5000, red and green added up.
    expected = [round(255 * exact(100, 100, 2, c) / 5000) for c in (0, 1)]
    assert view.colour(100, 100) == pytest.approx([*expected, 0], abs=1)


def test_the_true_value_is_told_also_where_a_coarser_level_is_on_the_screen(visit: Open) -> None:
    view = visit("exact", viewport={"width": 700, "height": 440})
    assert view.look()["scale"] < 0.8
    view.zoom_to(150, 300, 0.4)
    view.page.mouse.move(*view.at(33, 451))
    view.page.wait_for_function("document.querySelector('.zv-values').textContent.match(/\\d{4}/)")
    y, x = view.page.evaluate(
        "(({ y, x }) => [y, x])(log.filter(([, event]) => event === 'pointer').at(-1)[2])"
    )
    y, x = int(y), int(x)
    assert abs(y - 33) <= 2
    assert abs(x - 451) <= 2
    words = view.status.inner_text()
    assert f"x {x}, y {y}" in words
    assert f"Channel 1 {exact(y, x, 2, 0)}" in words
    assert f"Channel 2 {exact(y, x, 2, 1)}" in words


@pytest.mark.parametrize(
    ("image", "colour", "value"),
    [("bytes", (100 + 100) % 7 % 7 * 30, "120"), ("ramp", round(255 * 100 / 600), "0.1667")],
)
def test_bytes_and_floats_are_shown_and_told(
    visit: Open, image: str, colour: int, value: str
) -> None:
    view = visit(image)
    view.zoom_to(100, 100, 20)
    assert view.colour(100, 100) == pytest.approx([colour] * 3, abs=1)
    view.page.mouse.move(*view.at(100, 100))
    playwright.expect(view.status).to_contain_text(f"Channel 1 {value}")


def test_a_colour_picture_keeps_its_colours(visit: Open) -> None:
    view = visit("colour")
    view.zoom_to(450, 550, 20)
    red, green, blue = images()["colour"].data[0, :, 0, 450, 550]
    assert view.colour(450, 550) == pytest.approx([red, green, blue], abs=1)
    assert view.page.get_by_role("button", name="Auto").count() == 1, "one contrast for all three"


def test_slider_and_keys_change_plane_and_time(visit: Open) -> None:
    view = visit("exact")
    view.zoom_to(100, 100, 20)
    view.page.get_by_label("Plane (z)").fill("4")
    assert view.colour(100, 100)[0] == round(255 * exact(100, 100, 4, 0) / 5000)
    playwright.expect(view.page.locator(".zv-live")).to_have_text("plane 5 of 5, time point 1 of 2")
    view.press("[", "[", "[")
    assert view.colour(100, 100)[0] == pytest.approx(255 * exact(100, 100, 1, 0) / 5000, abs=1)
    view.press(".")
    assert view.colour(100, 100)[0] == 255, "10000 is brighter than the contrast's end"


def test_channels_are_hidden_by_key_and_contrast_is_set_by_number(visit: Open) -> None:
    view = visit("exact")
    view.zoom_to(100, 100, 20)
    view.press("2")
    red, green, _ = view.colour(100, 100)
    assert (red, green) == (pytest.approx(102, abs=1), 0)
    view.page.get_by_label("Channel 1: brightest from value").fill("2500")
    view.page.keyboard.press("Enter")
    assert view.colour(100, 100)[0] == pytest.approx(255 * 2004 / 2500, abs=1)
    view.page.get_by_role("button", name="Auto: Channel 1").click()
    shot = view.shot()[40:500, 40:600, 0]
    assert shot.max() == 255, "automatic: the brightest in view is bright"
    assert np.median(shot) > 60
    view.page.get_by_label("Channel 1: black from", exact=True).press("ArrowRight")
    assert int(view.page.get_by_label("Channel 1: black from value").input_value()) >= 2000


def test_an_outline_runs_around_a_label_also_along_a_tiles_edge(visit: Open) -> None:
    view = visit("exact,squares:labels")
    view.zoom_to(150, 200, 3)
    inside = view.colour(150, 190)
    assert inside[2] == 0, "outlines: the image is seen within"
    plain = visit("exact")
    plain.zoom_to(150, 200, 3)
    assert inside == plain.colour(150, 190)
    # 128 and 256 are the sides; the right one lies at the edge of two tiles.
    for y, x in [(150, 128), (150, 255), (100, 190), (199, 190)]:
        assert abs(np.subtract(view.colour(y, x), plain.colour(y, x))).max() > 60, (y, x)
    assert view.colour(150, 256) == plain.colour(150, 256), "nothing outside of it"
    view.press("l")
    assert abs(np.subtract(view.colour(150, 190), inside)).max() > 60, "filled"
    view.page.mouse.move(*view.at(150, 190))
    playwright.expect(view.status).to_contain_text("squares 7")


def test_opacity_of_a_map_and_the_big_number_of_a_label(visit: Open) -> None:
    view = visit("cells,cells-map:probability,squares:labels")
    shown = view.colour(450, 550)
    view.page.evaluate("viewers[0].setOpacity('Probability', 0)")
    plain = visit("cells").colour(450, 550)
    assert view.colour(450, 550) == plain
    assert shown != plain
    view.page.get_by_label("Opacity of Probability").fill("100")
    playwright.expect(view.page.locator("output", has_text="100 %")).to_have_count(1)
    # squares is stretched over the larger image: 450 of 600 is 825 of 1100, 40 of 300 is 120 of 900
    view.page.mouse.move(*view.at(120, 825))
    playwright.expect(view.status).to_contain_text("squares 70000")


def test_keyboard_alone_moves_zooms_and_reads(visit: Open) -> None:
    view = visit("exact")
    fitted = view.look()
    view.press("+", "+")
    assert view.look()["scale"] == pytest.approx(fitted["scale"] * 1.25**2)
    view.press("ArrowRight", "ArrowDown")
    moved = view.look()
    assert moved["x"] > fitted["x"]
    assert moved["y"] > fitted["y"]
    value = exact(int(moved["y"]), int(moved["x"]), 2, 0)
    playwright.expect(view.status).to_contain_text(f"Channel 1 {value}")
    view.press("0")
    assert view.look() == fitted
    view.press("?")
    keys = view.page.get_by_role("dialog", name="Keys")
    assert keys.is_visible()
    view.page.keyboard.press("Escape")
    assert keys.is_hidden()
    assert view.page.evaluate("document.activeElement.className") == "zv-stage"


def test_on_a_narrow_screen_a_fitted_image_lies_below_the_tools(visit: Open) -> None:
    view = visit("cells&panel=false", viewport={"width": 390, "height": 440})
    tools = view.page.locator(".zv-tools").bounding_box()
    assert view.at(0, 0)[1] >= tools["y"] + tools["height"]


def test_the_wheel_zooms_to_the_cursor_and_dragging_moves(visit: Open) -> None:
    view = visit("exact")
    left, top = (round(place) for place in view.at(60, 90))  # the browser tells whole pixels
    under = view.at(60, 90)
    view.page.mouse.move(left, top)
    for _ in range(3):
        view.page.mouse.wheel(0, -200)
    view.settle()
    assert view.look()["scale"] > 3
    assert view.at(60, 90) == pytest.approx(under, abs=3)
    held = view.at(60, 90)
    view.page.mouse.down()
    view.page.mouse.move(left + 50, top + 30, steps=3)
    view.page.mouse.up()
    view.settle()
    assert view.at(60, 90) == pytest.approx((held[0] + 50, held[1] + 30), abs=2)
    before = view.look()["scale"]
    view.page.mouse.dblclick(left, top)
    view.settle()
    assert view.look()["scale"] == pytest.approx(2 * before)


def test_two_fingers_pinch(visit: Open) -> None:
    view = visit("exact", has_touch=True, viewport={"width": 390, "height": 700})
    before = view.look()["scale"]
    session = view.page.context.new_cdp_session(view.page)

    def touch(kind: str, *places: tuple[int, int]) -> None:
        points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(places)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    touch("touchStart", (150, 200), (200, 200))
    touch("touchMove", (125, 200), (225, 200))
    touch("touchMove", (100, 200), (250, 200))
    touch("touchEnd")
    view.settle()
    assert view.look()["scale"] == pytest.approx(3 * before, rel=0.1)


def test_wipe_and_holding_show_the_image_alone(visit: Open) -> None:
    view = visit("exact,squares:labels")
    plain = view.colour(5, 5)
    view.press("l", "w")
    line = view.page.get_by_role("slider", name="Wipe: the image alone is left of the line")
    assert line.get_attribute("aria-valuenow") == "50"
    # The square of label 7 reaches from 128 to 256, left of the middle at 300.
    alone = view.colour(150, 200)
    assert max(abs(a - b) for a, b in zip(alone, plain, strict=True)) < 5
    line.focus()
    line.press("Home")
    labelled = view.colour(150, 200)
    assert np.abs(np.subtract(labelled, alone)).max() > 60
    view.stage.focus()
    view.page.keyboard.down("h")
    assert view.colour(150, 200) == alone
    view.page.keyboard.up("h")
    assert view.colour(150, 200) == labelled


def test_linked_viewers_move_together(visit: Open) -> None:
    view = visit("exact|exact,squares:labels", viewport={"width": 1280, "height": 640})
    view.page.evaluate("viewers[0].zoomTo({ y: 150, x: 200, scale: 4 })")
    view.press("]")
    assert view.look(1) == view.look(0)
    assert view.page.evaluate("viewers[1].visible().z") == 3
    view.page.evaluate("viewers[1].zoomTo({ y: 100, x: 250, scale: 6 })")
    view.settle()
    assert view.look(0) == pytest.approx({"y": 100, "x": 250, "scale": 6})
    assert view.colour(100, 270, 0) == view.colour(100, 270, 1)


def test_a_failing_server_is_told_in_words_and_recovered_from(visit: Open) -> None:
    view = visit("exact")
    view.zoom_to(100, 100, 20)
    before = view.colour(100, 100)
    view.control(status=500)
    view.page.get_by_label("Plane (z)").fill("0")  # neighbours are fetched ahead, this one is not
    message = view.page.get_by_role("alert")
    playwright.expect(message).to_contain_text("The disk of the server is full.")
    assert view.colour(100, 100) == before, "what was there stays"
    view.control(status=200)
    message.get_by_role("button", name="Try again").click()
    playwright.expect(message).to_be_hidden()
    assert view.colour(100, 100)[0] == pytest.approx(255 * exact(100, 100, 0, 0) / 5000, abs=1)
    events = view.page.evaluate("log.map(([, event]) => event)")
    assert events.count("error") == 1


def test_an_image_that_is_gone_is_told_in_words(visit: Open) -> None:
    view = visit("missing", wait=False)
    message = view.page.get_by_role("alert")
    playwright.expect(message).to_contain_text("There is no image missing. Open it again.")
    view.page.evaluate("viewers[0].setLayers([{ url: '/api/images/exact' }])")
    playwright.expect(message).to_be_hidden()
    view.settle()
    view.zoom_to(100, 100, 20)
    assert view.colour(100, 100)[0] == pytest.approx(102, abs=1)


def test_a_slow_finer_level_leaves_no_hole(visit: Open) -> None:
    view = visit("huge")
    assert not any("/tiles/0/" in path for path in view.control()), (
        "the overview needs no full zoom"
    )
    view.control(delay=3)
    view.page.evaluate("viewers[0].zoomTo({ y: 4096, x: 4096, scale: 1 })")
    view.page.wait_for_timeout(400)
    shot = np.asarray(Image.open(io.BytesIO(view.page.screenshot())).convert("RGB"))
    middle = shot[100:400, 100:600].reshape(-1, 3).astype(int)
    assert middle.sum(1).max() > 150, "the coarser level stands in"
    assert np.median(middle.sum(1)) > 0
    view.control(delay=0)


def test_the_card_may_be_reset(visit: Open) -> None:
    view = visit("exact")
    view.zoom_to(100, 100, 20)
    before = view.colour(100, 100)
    view.page.evaluate(
        "window.lose = viewers[0].graphics.gl.getExtension('WEBGL_lose_context');"
        " lose.loseContext()"
    )
    message = view.page.get_by_role("alert")
    playwright.expect(message).to_contain_text("The graphics card was reset")
    view.page.evaluate("lose.restoreContext()")
    playwright.expect(message).to_be_hidden()
    assert view.colour(100, 100) == before


def test_fine_screens_are_drawn_in_their_own_pixels(visit: Open) -> None:
    view = visit("exact", device_scale_factor=2)
    canvas, box = view.page.evaluate(
        "(c => [c.width, c.getBoundingClientRect().width])(document.querySelector('.zv-canvas'))"
    )
    assert canvas == pytest.approx(2 * box, abs=1)
    view.zoom_to(100, 100, 10)
    assert view.colour(100, 100)[0] == pytest.approx(102, abs=1)


def test_scale_bar_and_theme(visit: Open) -> None:
    view = visit("cells", theme="light")
    bar = view.page.locator(".zv-scale")
    assert bar.inner_text().endswith("µm")
    view.zoom_to(450, 550, 10)
    length = float(bar.inner_text().removesuffix(" µm"))
    drawn = view.page.evaluate("document.querySelector('.zv-scale i').offsetWidth")
    assert drawn == pytest.approx(length / 0.1 * 10, abs=1)
    card = view.page.evaluate(
        "getComputedStyle(document.querySelector('.zv-frame')).backgroundColor"
    )
    assert card == "rgb(255, 255, 255)"
    # The page around says dark: the viewer follows.
    auto = visit("cells", theme="auto", color_scheme="light")
    assert auto.page.locator(".zv").get_attribute("data-theme") == "light"
    auto.page.evaluate("document.body.classList.add('dark')")
    auto.page.wait_for_selector(".zv[data-theme=dark]")


def test_a_result_laid_over_keeps_the_place_and_the_contrast(visit: Open) -> None:
    view = visit("exact")
    view.zoom_to(100, 100, 20)
    view.press("2", "]")
    before = (view.look(), view.colour(100, 100))
    view.page.evaluate(
        "viewers[0].setLayers([{ url: '/api/images/exact' },"
        " { url: '/api/images/squares', kind: 'labels', at: { y: 200, x: 300 } }])"
    )
    view.page.wait_for_selector("[aria-label='Show squares']")
    assert (view.look(), view.colour(100, 100)) == before
    # Placed at (200, 300), its label 70000 begins at (220, 700): beyond the image; 7 at (300, 428).
    view.page.evaluate("viewers[0].zoomTo({ y: 299, x: 500, scale: 4 })")
    view.settle()
    view.page.mouse.move(*view.at(290, 440))
    playwright.expect(view.status).to_contain_text("squares none")


def test_nothing_is_drawn_while_nothing_changes(visit: Open) -> None:
    view = visit("exact")
    view.page.wait_for_timeout(400)
    view.page.evaluate(
        "(() => { const g = viewers[0].graphics, f = g.begin.bind(g); window.drawn = 0;"
        " g.begin = (...given) => { window.drawn += 1; f(...given); }; })()"
    )
    view.page.wait_for_timeout(500)
    assert view.page.evaluate("drawn") == 0
    view.page.evaluate("for (let i = 0; i < 50; i++) viewers[0].setOpacity(0, 1)")
    view.page.wait_for_timeout(300)
    assert view.page.evaluate("drawn") == 1
