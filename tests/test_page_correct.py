"""Painting corrections in a real Chromium: strokes, tools, undo, reload, files, other tabs."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from page_server import NARROW, WIDE, Server, browser, visit
from page_steps import cells, download, settle, upload

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

GONE = r"Failed to load resource|ERR_CONNECTION|ERR_EMPTY|ERR_INCOMPLETE|Connection"
HALF = {"width": 900, "height": 700}  # half of a large screen, or a small one
PICTURES = Path(__file__).parents[1] / "build" / "pictures"
OBJECT, BACKGROUND = (245, 158, 11), (59, 130, 246)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("home")) as server:
        yield server


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.zeros((400, 500), np.uint16))
    return path


class Painter:
    """What a person does with the mouse, told in pixels of the image."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.look()

    def look(self) -> None:
        """Learn from the status line where the image lies on the screen."""
        settle(self.page)
        box = self.page.locator(".zv-stage").bounding_box()
        seen = []
        for part in (0.3, 0.7):
            left, top = box["x"] + part * box["width"], box["y"] + part * box["height"]
            self.page.mouse.move(left, top)
            self.page.wait_for_function(
                "/x \\d+/.test(document.querySelector('.zv-status').textContent)"
            )
            self.page.evaluate(
                "new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))"
            )
            words = re.search(r"x (\d+), y (\d+)", self.page.inner_text(".zv-status"))
            assert words is not None
            seen.append((left, top, int(words[1]) + 0.5, int(words[2]) + 0.5))
        (left, top, x, y), (right, bottom, x2, y2) = seen
        self.scale = ((right - left) / (x2 - x), (bottom - top) / (y2 - y))
        self.origin = (left - x * self.scale[0], top - y * self.scale[1])

    def at(self, y: float, x: float) -> tuple[float, float]:
        """Where a point of the image is on the page: left, top."""
        return self.origin[0] + x * self.scale[0], self.origin[1] + y * self.scale[1]

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=6)
        self.page.mouse.up(button=button)

    def click(self, y: float, x: float) -> None:
        self.drag((y, x))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def saved(self, version: int) -> None:
        """Wait until the server has it and it is drawn."""
        self.page.wait_for_selector(f".correct-saved[data-unsaved='0'][data-version='{version}']")
        settle(self.page)

    def colour(self, y: float, x: float) -> tuple[int, ...]:
        """What a pixel of the image looks like."""
        picture = Image.open(io.BytesIO(self.page.screenshot())).convert("RGB")
        left, top = self.at(y, x)
        return tuple(picture.getpixel((round(left), round(top))))  # type: ignore[arg-type]

    def pixels(self) -> np.ndarray[Any, Any]:
        """What is saved, as the export has it."""
        address = self.page.get_attribute("[data-key=export-tiff]", "href")
        answer = self.page.request.get(address)
        assert answer.ok
        return np.asarray(tifffile.imread(io.BytesIO(answer.body())))


def begin(page: Any, image: Path, kind: str) -> Painter:
    """Open an image and begin to paint on it."""
    upload(page, image)
    page.click(f"[data-correct={kind}]")
    page.wait_for_selector(f"[data-painting={kind}]")
    page.wait_for_selector(".zv-edit")
    return Painter(page)


def near(found: tuple[int, ...], colour: tuple[int, ...], part: float = 0.55) -> bool:
    """Whether a black pixel lies under a colour of this opacity."""
    return all(abs(a - part * b) < 25 for a, b in zip(found, colour, strict=True))


def test_scribbles_are_painted_undone_and_there_after_a_reload(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        painter.press("1")  # the first class: background
        painter.drag((200, 100), (200, 300))
        painter.saved(2)
        assert near(painter.colour(100, 200), OBJECT)
        assert near(painter.colour(200, 200), BACKGROUND)
        found = painter.pixels()
        assert (found[100, 200], found[200, 200], found[150, 200]) == (2, 1, 0)
        assert 9 <= (found[:, 200] == 2).sum() <= 15, "the width of the brush"
        painter.press("Control+z")
        painter.saved(3)
        assert painter.colour(200, 200) == painter.colour(300, 200)
        painter.press("Control+Shift+z")
        painter.saved(4)
        page.reload()
        page.wait_for_selector("[data-painting=classes]")
        painter.look()
        assert np.array_equal(painter.pixels(), found)
        assert near(painter.colour(100, 200), OBJECT)
        painter.press("Control+z")  # the history is there too
        painter.saved(5)
        assert not (painter.pixels() == 1).any()


def test_a_stroke_is_seen_at_once_and_stays_until_its_tiles_have_come(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        held: list[Any] = []
        tiles = re.compile("/api/annotations/.*/tiles/")
        page.route(tiles, lambda route: held.append(route))
        page.mouse.move(*painter.at(200, 100))
        page.mouse.down()
        page.mouse.move(*painter.at(200, 300), steps=5)
        page.evaluate("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        assert near(painter.colour(200, 200), OBJECT), "while it is drawn"
        page.mouse.up()
        page.wait_for_selector(".correct-saved[data-unsaved='0'][data-version='2']")
        for _ in range(100):
            if held:
                break
            page.wait_for_timeout(50)
        assert held, "the tiles are asked for anew"
        page.locator(".zv-stage").focus()
        painter.press("h")  # the image is drawn anew, twice
        page.wait_for_timeout(300)
        assert near(painter.colour(200, 200), OBJECT), "saved, its tiles on their way"
        assert near(painter.colour(100, 200), OBJECT), "what was there before stays"
        assert page.evaluate(INK) > 100
        page.route(tiles, lambda route: route.continue_())
        for route in held:
            route.continue_()
        settle(page)
        assert near(painter.colour(200, 200), OBJECT)
        assert page.evaluate(INK) == 0, "and now it is in the tiles"


# How many pixels of the canvas over the image are drawn on, the pointer's ring aside.
INK = """() => {
  const canvas = document.querySelector(".zv-ink");
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  let drawn = 0;
  for (let i = 0; i < data.length; i += 4)
    drawn += data[i] > 200 && data[i + 2] < 60 && data[i + 3] > 0;
  return drawn;
}"""


def test_objects_of_a_result_are_split_merged_deleted_and_added(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, cells((256, 320)))
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, path)
        page.wait_for_selector("[data-verdict=yes]")
        page.click("[data-key=preview]")
        page.wait_for_selector("[data-preview]")
        objects = int(page.get_attribute("[data-preview]", "data-preview"))
        assert objects > 3
        page.click("[data-correct=instances]:has-text('Correct the objects')")
        page.wait_for_selector(f"[data-count='{objects}']")
        painter = Painter(page)
        labels = painter.pixels()
        sizes = np.bincount(labels.ravel())
        number = int(sizes[1:].argmax()) + 1
        y, x = (int(v.mean()) for v in np.nonzero(labels == number))
        side = int(np.sqrt(sizes[number]))
        painter.press("s")
        painter.drag((y - side, x), (y + side, x))
        page.wait_for_selector(f"[data-count='{objects + 1}']")
        settle(page)
        PICTURES.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURES / "correct.png")
        painter.press("m")
        painter.drag((y, x - side // 4), (y, x + side // 4))
        page.wait_for_selector(f"[data-count='{objects}']")
        painter.press("d")
        painter.click(y, x)
        page.wait_for_selector(f"[data-count='{objects - 1}']")
        painter.press("a")
        painter.drag((y - 4, x - 4), (y - 4, x + 4), (y + 4, x + 4), (y + 4, x - 4))
        page.wait_for_selector(f"[data-count='{objects}']")
        found = painter.pixels()
        assert found[y, x] > labels.max(), "a number of its own"
        assert 40 <= (found == found[y, x]).sum() <= 90
        version = int(page.get_attribute(".correct-saved", "data-version"))
        for _ in range(4):
            page.click("button[data-tool=undo]")
        painter.saved(version + 4)
        assert page.is_disabled("button[data-tool=undo]")
        assert np.array_equal(painter.pixels(), labels)


def test_a_picked_label_is_painted_and_other_objects_are_left_alone(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "instances")
        painter.press("a")
        painter.drag((50, 50), (50, 150), (150, 150), (150, 50))
        painter.saved(1)
        painter.drag((50, 200), (50, 300), (150, 300), (150, 200))
        painter.saved(2)
        painter.press("p")
        painter.click(100, 100)
        page.wait_for_selector("[data-value='1']")
        assert page.get_attribute("button[data-tool=brush]", "aria-pressed") == "true"
        painter.drag((200, 250), (100, 250))  # from beside it, into the other object
        painter.saved(3)
        found = painter.pixels()
        assert (found[200, 250], found[100, 250]) == (1, 2)
        page.uncheck("[data-key=keep]")
        painter.drag((200, 280), (100, 280))
        painter.saved(4)
        assert painter.pixels()[100, 280] == 1
        page.click("[data-key=any]")
        painter.drag((300, 100), (300, 140))
        painter.saved(5)
        assert painter.pixels()[300, 120] == 3


def test_classes_are_added_named_and_coloured(browser: Any, server: Server, image: Path) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        page.click("[data-key=add-class]")
        page.wait_for_selector("[data-key=class-3]:checked")
        page.fill("[data-key=name-3]", "Debris")
        page.keyboard.press("Enter")
        page.wait_for_selector("[aria-label='Paint Debris']")
        page.evaluate("""() => {
          const input = document.querySelector("[data-key=colour-3]");
          input.value = "#00ff00";
          input.dispatchEvent(new Event("change"));
        }""")
        page.wait_for_function("document.querySelector('[data-key=colour-3]').value === '#00ff00'")
        settle(page)
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        assert near(painter.colour(100, 200), (0, 255, 0))
        page.mouse.move(*painter.at(100, 250))
        page.wait_for_selector(".zv-values:has-text('Scribbles Debris')")
        page.reload()
        page.wait_for_selector("[aria-label='Paint Debris']")


def test_strokes_wait_for_a_server_that_is_away(browser: Any, server: Server, image: Path) -> None:
    with visit(browser, server, "#/run", expected=GONE) as page:
        painter = begin(page, image, "classes")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        server.kill()
        try:
            painter.drag((200, 100), (200, 300))
            painter.drag((300, 100), (300, 300))
            page.wait_for_selector(".correct-saved[data-unsaved='2']:has-text('Not saved yet')")
            assert near(painter.colour(300, 200), OBJECT), "they stay on the screen"
        finally:
            server.start()
        painter.saved(3)
        found = painter.pixels()
        assert (found[100, 200], found[200, 200], found[300, 200]) == (2, 2, 2)


def test_two_tabs_paint_on_one_annotation(browser: Any, server: Server, image: Path) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        other = page.context.new_page()
        other.goto(page.url)
        other.wait_for_selector("[data-painting=classes]")
        second = Painter(other)
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        second.drag((200, 100), (200, 300))
        second.saved(2)
        assert near(second.colour(100, 200), OBJECT), "told with the answer to its own stroke"
        # Nobody comes back to this tab: it is told by the other one.
        page.wait_for_selector(".correct-saved[data-version='2']")
        page.bring_to_front()
        painter.saved(2)
        assert near(painter.colour(200, 200), OBJECT)
        other.close()


def test_what_was_painted_on_another_computer_is_seen_when_one_comes_back(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        edits = page.evaluate(EDITS)
        stroke = {
            "tool": "brush", "plane": {"z": 0, "time": 0}, "points": [[200, 100], [200, 300]],
            "radius": 6, "value": 2, "over": True, "key": "elsewhere", "since": 1,
        }  # fmt: skip
        assert page.request.post(edits, data=stroke).ok
        page.evaluate("dispatchEvent(new Event('focus'))")
        painter.saved(2)
        assert near(painter.colour(200, 200), OBJECT)


# Where edits are sent to.
EDITS = """() => document.querySelector("[data-key=export-tiff]").href
  .replace(/files\\/tiff$/, "edits")"""


@pytest.mark.parametrize("size", [WIDE, HALF], ids=["wide", "half"])
def test_the_image_lies_beside_the_tools_also_in_another_window(
    browser: Any, server: Server, image: Path, size: dict[str, int]
) -> None:
    with visit(browser, server, "#/run", size=size) as page:
        painter = begin(page, image, "instances")
        corners = [(1, 1), (1, 498), (398, 1), (398, 498)]
        under = [page.evaluate(UNDER, painter.at(*corner)) for corner in corners]
        assert under == [True] * 4, "no button lies over what is to be painted"
        assert page.evaluate(CUT) == [], "and no button is cut off"
        first = painter.origin
        page.click("button[data-tool=split]")
        page.wait_for_selector("[data-tool-told=split]:has-text('right across')")
        painter.look()
        assert painter.origin == pytest.approx(first, abs=1), "a tool does not move the image"
        painter.press("b")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        page.set_viewport_size({"width": size["width"] + 40, "height": size["height"] + 60})
        painter.look()
        found = np.array([painter.colour(y, 200) for y in range(80, 121)])
        assert (found.max(axis=1) > 120).any(), "drawn again in the new size"
        height = "document.documentElement.scrollHeight - innerHeight"
        page.click("[data-step=correct] summary:has-text('Import')")
        assert page.evaluate(height) == 0, "the page is as high as its window"


# Whether the image lies on top at a point of the page.
UNDER = "([x, y]) => document.elementFromPoint(x, y).matches('.zv-stage *')"
# Tools that are not whole within the view.
CUT = """() => {
  const view = document.querySelector(".zv-view").getBoundingClientRect();
  return [...document.querySelectorAll(".zv-edit button, .zv-edit input")]
    .filter((one) => {
      const box = one.getBoundingClientRect();
      return box.left < view.left || box.right > view.right || box.bottom > view.bottom;
    })
    .map((one) => one.ariaLabel);
}"""


def test_the_result_that_is_corrected_stays_hidden_after_a_reload(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "nuclei.tif"
    tifffile.imwrite(path, cells((128, 160)))
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, path)
        page.wait_for_selector("[data-verdict=yes]")
        page.click("[data-key=run]")
        shown = "input[aria-label='Show Labels']"
        page.wait_for_selector(f"{shown}:checked")
        page.click("[data-correct=instances]:has-text('Correct the objects')")
        page.wait_for_selector("input[aria-label='Show Corrected objects']:checked")
        page.wait_for_selector(f"{shown}:not(:checked)")
        page.reload()
        page.wait_for_selector("input[aria-label='Show Corrected objects']:checked")
        page.wait_for_selector(shown)
        settle(page)
        assert not page.is_checked(shown), "what was deleted would be seen there"
        page.wait_for_function(IN_VIEW)
        page.click("[data-key=done]")
        page.wait_for_selector(f"{shown}:checked")


# The step that one was at is seen again.
IN_VIEW = """() => {
  const [side, step] = [".work-side", "[data-step=correct]"].map((one) =>
    document.querySelector(one).getBoundingClientRect());
  return step.top >= side.top - 2 && step.top < side.bottom;
}"""


def test_an_image_that_a_new_server_does_not_know_is_opened_again(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run", expected=f"{GONE}|status of 4") as page:
        painter = begin(page, image, "classes")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        server.kill()
        server.start()
        painter.drag((200, 100), (200, 300))
        painter.saved(2)
        page.click("[data-key=switch-instances]")
        page.wait_for_selector(".work-nothing .zoo-notice.no:has-text('what you painted')")
        upload(page, image)
        page.click("[data-correct=classes]:has-text('Go on with the scribbles')")
        page.wait_for_selector("[data-painting=classes]")
        painter.look()
        found = painter.pixels()
        assert (found[100, 200], found[200, 200]) == (2, 2)


def test_space_the_middle_button_and_no_tool_move_the_image(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        page.locator(".zv-stage").focus()

        def moved(how: Any) -> float:
            before = painter.origin[0]
            how()
            painter.look()
            return painter.origin[0] - before

        across, back = ((200, 200), (200, 300)), ((200, 300), (200, 200))
        wide = 100 * painter.scale[0]
        assert abs(moved(lambda: painter.drag(*across, button="middle")) - wide) < 4
        page.keyboard.down(" ")
        assert abs(moved(lambda: painter.drag(*back)) + wide) < 4
        page.keyboard.up(" ")
        page.click("button[data-tool=move]")
        assert abs(moved(lambda: painter.drag(*across)) - wide) < 4
        assert page.get_attribute(".correct-saved", "data-version") == "0"


def test_one_finger_paints_and_two_move(browser: Any, server: Server, image: Path) -> None:
    with visit(browser, server, "#/run", size=NARROW, has_touch=True) as page:
        painter = begin(page, image, "classes")
        touch = page.context.new_cdp_session(page)

        def fingers(kind: str, *points: tuple[float, float]) -> None:
            places = [dict(zip("xy", painter.at(*point), strict=True)) for point in points]
            for i, place in enumerate(places):
                place["id"] = i
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

        fingers("touchStart", (100, 100))
        for x in range(120, 320, 20):
            fingers("touchMove", (100, x))
        fingers("touchEnd")
        painter.saved(1)
        assert painter.pixels()[100, 200] == 2
        before = painter.origin
        fingers("touchStart", (200, 100))
        fingers("touchMove", (200, 120))
        fingers("touchStart", (200, 120), (250, 120))
        for step in range(1, 8):
            fingers("touchMove", (200, 120 + 10 * step), (250, 120 + 10 * step))
        fingers("touchEnd")
        painter.look()
        assert painter.origin[0] - before[0] > 40 * painter.scale[0]
        assert page.get_attribute(".correct-saved", "data-version") == "1", "it painted nothing"
        assert page.evaluate(INK) == 0
        for width, height in ((390, 844), (820, 1180), (1280, 800)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            bar, stage = (page.locator(s).bounding_box() for s in (".zv-edit", ".zv-stage"))
            assert bar["x"] >= stage["x"]
            assert bar["x"] + bar["width"] <= stage["x"] + stage["width"]
            assert bar["y"] + bar["height"] <= stage["y"] + stage["height"] + 1


def test_the_keyboard_alone_paints_and_outlines_are_set_corner_by_corner(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "instances")
        page.mouse.move(5, 5)
        page.locator(".zv-stage").focus()
        painter.press("b", "]", "]", "]", "Enter")
        painter.saved(1)
        found = painter.pixels()
        assert found[200, 250] == 1
        wide = int((found[200] == 1).sum())
        assert 20 <= wide <= 28, "three times a quarter more than 12"
        painter.press("a")
        for key in ("ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"):
            painter.press("Enter", key)  # a square of 60 by 60 on the screen, back to its begin
        assert page.get_attribute(".correct-saved", "data-version") == "1"
        painter.press("Enter", "Enter")
        painter.saved(2)
        painter.look()
        wide = 60 / painter.scale[0]
        assert abs(int((painter.pixels() == 2).sum()) - wide**2) < 0.1 * wide**2 + 600
        painter.press("a")
        page.locator(".zv-stage").focus()
        painter.press("Enter", "Escape", "e", "Enter")
        painter.saved(3)
        painter.look()
        painter.press("a")
        for corner in ((50, 150), (50, 250), (150, 250), (150, 150), (51, 151)):
            painter.click(*corner)  # the last one closes it
        painter.saved(4)
        assert abs(int((painter.pixels() == 3).sum()) - 10_000) < 500
        painter.press("s")
        painter.click(100, 120)
        painter.click(100, 280)
        painter.saved(5)
        assert painter.pixels().max() == 4


def test_an_export_is_imported_again_and_bad_files_are_told(
    browser: Any, server: Server, image: Path, tmp_path: Path
) -> None:
    bad = tmp_path / "empty.geojson"
    bad.write_text(json.dumps({"type": "FeatureCollection", "features": []}))
    with visit(browser, server, "#/run", expected="status of 4") as page:
        painter = begin(page, image, "instances")
        assert page.locator("[data-key=export-tiff]").count() == 0, "there is nothing yet"
        painter.press("d")
        painter.click(100, 100)
        page.wait_for_selector("[data-step=correct] .zoo-notice.no:has-text('no object')")
        painter.press("a")
        painter.drag((50, 150), (50, 250), (150, 250), (150, 150))
        painter.saved(1)
        page.wait_for_selector("[data-step=correct] .zoo-notice.no", state="detached")
        before = painter.pixels()
        file = download(page, "[data-key=export-geojson]", tmp_path)
        assert file.name == "cells.labels.geojson"
        painter.press("Control+z")
        painter.saved(2)
        page.click("summary:has-text('Import')")
        page.set_input_files("[data-import]", bad)
        page.wait_for_selector("[data-step=correct] .zoo-notice.no:has-text('holds no shapes')")
        page.set_input_files("[data-import]", file)
        page.wait_for_selector("[data-step=correct] .zoo-notice:has-text('is imported')")
        painter.saved(3)
        assert np.array_equal(painter.pixels(), before)
        painter.press("Control+z")
        painter.saved(4)


def test_leaving_and_coming_back_finds_both_kinds(
    browser: Any, server: Server, image: Path
) -> None:
    with visit(browser, server, "#/run") as page:
        painter = begin(page, image, "classes")
        painter.drag((100, 100), (100, 300))
        painter.saved(1)
        page.click("[data-key=switch-instances]")
        page.wait_for_selector("[data-painting=instances]")
        page.click("[data-key=done]")
        page.wait_for_selector("[data-correct=classes]:has-text('Go on with the scribbles')")
        page.wait_for_selector("[data-correct=instances]:has-text('0 objects')")
        assert page.locator(".zv-edit").count() == 0
        painter.look()
        before = painter.origin[0]
        painter.drag((200, 200), (200, 300))  # moves the image again
        painter.look()
        assert painter.origin[0] - before > 90 * painter.scale[0]
        page.click("[data-correct=classes]")
        page.wait_for_selector("[data-painting=classes]")
        page.click("summary:has-text('Begin again, or delete')")
        page.click("[data-key=again-empty]")
        page.wait_for_selector(".correct-saved:has-text('nothing painted yet')")
        painter.look()
        assert painter.colour(100, 200) == painter.colour(300, 200)
        painter.press("Control+z")
        page.wait_for_selector(".correct-saved:has-text('pixels of 1 class')")
        settle(page)
        assert near(painter.colour(100, 200), OBJECT)
        page.click("[data-key=discard]")
        page.click("text=Delete it for good")
        page.wait_for_selector("[data-correct=classes]:has-text('Scribble')")
