"""The workspace in a real Chromium: from an image to its result, through whatever comes between."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from packages import make_package
from page_server import NARROW, Server, browser, visit
from page_steps import (
    cells,
    choose,
    coloured,
    download,
    seen,
    settle,
    slow_model,
    slowed,
    upload,
    value,
)

pytest.importorskip("gradio")
pytestmark = pytest.mark.browser
__all__ = ["browser"]

HOSTILE = "${window.pwned = 1} {{value}} <img src=x onerror='window.pwned = 1'>"
DONE = "[data-objects]"
RUNNING = "[data-running]:has-text('tiles done')"
READY = "[data-verdict=yes]"
REFUSED = r"Failed to load resource: the server responded with a status of 4\d\d"
GONE = r"Failed to load resource|ERR_CONNECTION|ERR_INCOMPLETE|ERR_EMPTY|Connection"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo with a model of many small tiles, one with hostile words, one of two channels."""
    from biozoo import Settings, Zoo

    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(Settings(home=home, offline=True))
    zoo.add(slow_model(home / "slow"))
    zoo.add(make_package(
        home / "hostile", id="hostile", name="Hostile", fields={"description": HOSTILE},
        validate=False,
    ))  # fmt: skip
    zoo.add(make_package(
        home / "two", id="two-channels", name="Two channels", channels=2,
        channel_names=["nuclei", "membrane"], validate=False,
    ))  # fmt: skip
    zoo.add(make_package(
        home / "inputs", id="two-inputs", name="Two inputs", inputs=2, validate=False
    ))  # fmt: skip
    return home


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[Server]:
    environ = slowed(home / "slowed")
    (home / "slowed" / "slow").unlink()
    with Server(home, environ=environ) as server:
        yield server


@pytest.fixture
def slow(home: Path, server: Server) -> Iterator[Path]:
    """While this file is there, runs take their time."""
    path = home / "slowed" / "slow"
    path.touch()
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An image on which the slow model is busy for some seconds."""
    path = tmp_path_factory.mktemp("images") / "large.tif"
    tifffile.imwrite(path, np.tile(cells((128, 128)), (8, 8)))
    return path


def start(page: Any, large: Path) -> None:
    """Run the slow model on the large image, until its first tiles are done."""
    upload(page, large)
    page.wait_for_selector(READY)
    page.click("[data-key=run]")
    page.wait_for_selector("[data-running]:has-text('tiles done')")
    page.wait_for_function("+/(\\d+) of \\d+ tiles/.exec(document.body.innerText)?.[1] > 3")


def test_the_sample_runs_in_one_click_and_its_labels_lie_on_the_image(
    browser: Any, server: Server
) -> None:
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        page.click("[data-key=own]")
        page.wait_for_selector(READY)
        assert coloured(page) == 0
        page.click("[data-key=run]")
        page.wait_for_selector(DONE)
        assert int(page.get_attribute(DONE, "data-objects")) > 10
        page.wait_for_selector(".zv-name:has-text('Labels')")
        assert coloured(page) > 300
        page.locator(".zv-stage").focus()
        page.keyboard.down("h")
        assert coloured(page) == 0  # held: the image alone
        page.keyboard.up("h")
        assert coloured(page) > 300
        page.get_by_label("Opacity of Labels").fill("0")
        assert coloured(page) == 0


def test_sample_in_the_address_runs_at_once_and_a_reload_does_not_run_it_again(
    browser: Any, server: Server
) -> None:
    with visit(browser, server, "#/run?model=nuclei-fluo&sample=1") as page:
        page.wait_for_selector(DONE)
        assert "sample" not in page.url
        page.reload()
        page.wait_for_selector(DONE)
        assert len(page.evaluate("fetch('api/jobs').then((a) => a.json())")["jobs"]) == 1


def test_a_16_bit_stack_is_read_to_the_last_bit_and_its_z_slider_changes_what_is_seen(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    nuclei, other = cells(), cells((192, 160)).T
    planes = [np.stack([40_000 + nuclei // (z + 1), other]) for z in range(3)]
    stack = np.stack(planes).astype(np.uint16)
    path = tmp_path / "stack.ome.tif"
    metadata = {"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    sizes = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.25, "PhysicalSizeZ": 1.5}
    tifffile.imwrite(path, stack, ome=True, metadata=metadata | sizes)
    with visit(browser, server, "#/run") as page:
        upload(page, path)
        facts = page.inner_text(".work-facts")
        for words in ("192 × 160 pixels, 3 planes, 16 bit", "DAPI", "GFP", "0.25 µm per pixel"):
            assert words in facts
        y, x, told = value(page)
        assert told == stack[1, 0, y, x]
        before = seen(page)
        page.get_by_label("Plane (z)").fill("0")
        page.wait_for_selector("output:has-text('1 / 3')")
        page.mouse.move(0, 0)
        y, x, told = value(page)
        assert told == stack[0, 0, y, x]
        assert np.abs(seen(page) - before).max() > 20


def test_guessed_axes_and_pixel_size_are_corrected(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, np.stack([cells()] * 3), photometric="minisblack")
    with visit(browser, server, "#/run?model=nuclei-fluo", expected=REFUSED) as page:
        upload(page, path)
        page.wait_for_selector(".work-body:has-text('Is that right?')")
        assert page.locator("[data-key=run]").is_disabled()
        page.click("[data-key=guess]")
        page.select_option("[data-dimension='0']", "y")
        page.click("text=Save")
        page.wait_for_selector(".work-refused .zoo-notice")  # two axes of one name
        page.select_option("[data-dimension='0']", "z")
        page.fill("[data-size=x]", "0.5")
        page.fill("[data-size=y]", "0.5")
        page.click("text=Save")
        page.wait_for_selector(".work-facts:has-text('0.5 µm per pixel')")
        assert "192 × 160 pixels, 3 planes" in page.inner_text(".work-facts")
        page.wait_for_selector(READY)
        assert page.get_by_label("Plane (z)").is_visible()
        assert page.locator("[data-key=run]").is_enabled()


def test_a_preview_shows_what_a_run_would_find_before_the_run(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, cells((320, 400)))
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, path)
        page.wait_for_selector(READY)
        page.click("[data-key=preview]")
        page.wait_for_selector("[data-preview]")
        assert int(page.get_attribute("[data-preview]", "data-preview")) > 10
        assert "The whole image was looked at" in page.inner_text("[data-preview]")
        assert page.locator(DONE).is_hidden() or page.locator(DONE).count() == 0
        page.wait_for_selector(".zv-name:has-text('Labels')")
        assert coloured(page) > 300
        page.click("[data-key=hide]")
        assert coloured(page) == 0
        page.click("[data-key=run]")
        page.wait_for_selector(DONE)
        page.wait_for_selector(".zv-name:has-text('Labels')")
        assert coloured(page) > 300


def test_a_run_is_cancelled_and_gone_on_with(
    browser: Any, server: Server, large: Path, slow: Path
) -> None:
    with visit(browser, server, "#/run?model=slow") as page:
        start(page, large)
        page.click("[data-key=cancel]")
        page.wait_for_selector("[data-ended=cancelled]")
        assert page.locator(DONE).count() == 0
        button = page.locator("[data-key=resume]")
        assert re.fullmatch(r"Go on from tile \d+ of \d+", button.inner_text())
        slow.unlink()
        button.click()
        page.wait_for_selector(DONE)


def test_one_looks_around_and_previews_while_a_run_goes_on(
    browser: Any, server: Server, large: Path, slow: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, cells())
    with visit(browser, server, "#/run?model=slow") as page:
        start(page, large)
        page.click("[data-key=preview]")
        page.wait_for_selector("[data-preview]")
        assert page.locator("[data-running]").count() == 1
        upload(page, other)  # the run goes on elsewhere
        page.click("[data-key=away]")
        slow.unlink()
        page.wait_for_selector(".work-facts:has-text('large.tif')")
        page.wait_for_selector(DONE)


def test_a_reload_in_the_middle_of_a_run_finds_it_again(
    browser: Any, server: Server, large: Path, slow: Path
) -> None:
    with visit(browser, server, "#/run?model=slow") as page:
        start(page, large)
        job = page.get_attribute("[data-running]", "data-running")
        page.reload()
        page.wait_for_selector(f"[data-running='{job}'] progress[max]")
        page.wait_for_selector(".work-facts:has-text('large.tif')")
        slow.unlink()
        page.wait_for_selector(DONE)
        assert page.locator("[data-file]").count() == 1


def test_two_tabs_on_one_run_show_the_same(
    browser: Any, server: Server, large: Path, slow: Path
) -> None:
    with visit(browser, server, "#/run?model=slow") as page:
        start(page, large)
        second = page.context.new_page()
        second.goto(page.url)
        second.wait_for_selector(RUNNING)
        second.click("[data-key=cancel]")
        for tab in (second, page):
            tab.wait_for_selector("[data-ended=cancelled]")
        page.click("[data-key=resume]")
        page.wait_for_selector("[data-running]")
        second.reload()
        second.wait_for_selector("[data-running]")
        slow.unlink()
        for tab in (page, second):
            tab.wait_for_selector(DONE)


def test_a_killed_server_loses_no_finished_tile(
    browser: Any, home: Path, large: Path, tmp_path: Path
) -> None:
    """Its page says so, finds the run again once it is back, and the result is whole."""
    import biozoo_runners
    from biozoo import Settings, Zoo

    own = tmp_path / "home"
    Zoo(Settings(home=own, offline=True)).add(slow_model(tmp_path / "slow"))
    environ = slowed(tmp_path / "slowed")
    with (
        Server(own, environ=environ) as server,
        visit(browser, server, "#/run?model=slow", expected=GONE) as page,
    ):
        start(page, large)
        server.kill()
        page.wait_for_selector("[data-lost]")
        server.start()
        page.wait_for_selector("[data-ended=interrupted]")
        button = page.locator("[data-key=resume]")
        found = re.fullmatch(r"Go on from tile (\d+) of (\d+)", button.inner_text())
        assert found is not None
        assert int(found[1]) > 3
        page.reload()  # its image went with the server; the job has kept it
        page.wait_for_selector(".work-facts:has-text('large.tif')")
        (tmp_path / "slowed" / "slow").unlink()
        button.click()
        page.wait_for_selector(DONE)
        path = download(page, "[data-file] a >> nth=0", tmp_path)
    with biozoo_runners.load(Zoo(Settings(home=own, offline=True)).get("slow")) as model:
        expected = model(large)["prediction"].values
    assert np.array_equal(tifffile.imread(path).reshape(expected.shape), expected)


def test_a_download_is_whole_and_opens_again(browser: Any, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, cells())
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, path)
        page.wait_for_selector(READY)
        page.click("[data-key=run]")
        page.wait_for_selector(DONE)
        objects = int(page.get_attribute(DONE, "data-objects"))
        page.click("summary:has-text('command line')")
        assert "zoo run nuclei-fluo cells.tif" in page.inner_text("[data-key=shell] code")
        page.click("summary:has-text('Python')")
        assert "biozoo" in page.inner_text("[data-key=python] code")
        labels = download(page, "[data-file*=labels] a:has-text('OME-TIFF')", tmp_path)
        assert len(np.unique(tifffile.imread(labels))) - 1 == objects
        table = download(page, "[data-file*=labels] a:has-text('CSV')", tmp_path)
        assert len(table.read_text().splitlines()) == objects + 1
        everything = download(page, "[data-key=zip]", tmp_path)
        shutil.unpack_archive(everything, tmp_path / "all")
        assert (tmp_path / "all" / labels.name).is_file()
        upload(page, labels)
        assert "numbers of objects" in page.inner_text(".work-facts")


def test_a_broken_upload_is_told_and_leaves_the_page_as_it_was(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    good, broken = tmp_path / "good.tif", tmp_path / "broken.tif"
    tifffile.imwrite(good, cells())
    broken.write_text("This is a text.\n" * 9)
    with visit(browser, server, "#/run?model=nuclei-fluo", expected=REFUSED) as page:
        page.set_input_files("input[type=file]", broken)
        page.wait_for_selector(".zoo-notice.no:has-text('broken.tif')")
        told = page.inner_text(".zoo-notice.no")
        assert "Traceback" not in told
        assert str(tmp_path.parent) not in told
        upload(page, good)
        assert page.locator(".zoo-notice.no").count() == 0
        page.set_input_files("input[type=file]", broken)
        page.wait_for_selector(".zoo-notice.no:has-text('broken.tif')")
        page.wait_for_selector(READY)
        page.click("[data-key=run]")  # on the image that is still open
        page.wait_for_selector(DONE)


def test_an_upload_is_stopped(browser: Any, server: Server, large: Path) -> None:
    with visit(browser, server, "#/run", expected="ERR_FAILED") as page:
        page.route("**/api/images/uploads*", lambda route: None)  # a line that sends nothing
        page.set_input_files("input[type=file]", large)
        page.wait_for_selector(".work-opening:has-text('large.tif')")
        page.click("[data-key=stop]")
        page.wait_for_selector("[data-key=choose]")
        assert page.locator(".zoo-notice.no").count() == 0
        page.unroute("**/api/images/uploads*")
        upload(page, large)


def test_a_file_is_dropped_anywhere(browser: Any, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "dropped.tif"
    tifffile.imwrite(path, cells())
    with visit(browser, server, "#/run") as page:
        given = page.evaluate_handle(
            """(bytes) => {
              const given = new DataTransfer();
              given.items.add(new File([new Uint8Array(bytes)], "dropped.tif"));
              return given;
            }""",
            list(path.read_bytes()),
        )
        page.dispatch_event(".work-side", "dragenter", {"dataTransfer": given})
        assert page.locator(".work-dropping").is_visible()
        page.dispatch_event(".work-side", "drop", {"dataTransfer": given})
        page.wait_for_selector(".work-facts:has-text('dropped.tif')")
        assert page.locator(".work-dropping").is_hidden()


def test_channels_that_do_not_fit_are_chosen_one_by_one(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path, gray = tmp_path / "three.ome.tif", tmp_path / "gray.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy3"]}}
    tifffile.imwrite(path, np.stack([cells((64, 64))] * 3), ome=True, metadata=metadata)
    tifffile.imwrite(gray, cells((64, 64)))
    with visit(browser, server, "#/run?model=two-channels") as page:
        upload(page, gray)  # it has no channels that fit
        page.wait_for_selector("[data-verdict]:not([data-verdict=yes])")
        assert page.locator("[data-key=run]").is_disabled()
        upload(page, path)
        page.select_option("[data-channel=nuclei]", label="Cy3")
        assert page.locator("[data-key=run]").is_disabled()  # one is missing
        page.select_option("[data-channel=membrane]", label="DAPI")
        page.wait_for_selector(READY)
        page.click("[data-key=run]")
        page.wait_for_selector(DONE)
        assert "channel 2, 0" in page.inner_text(".work-result")


def test_a_model_of_two_images_runs_on_its_sample(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/run?model=two-inputs&sample=1") as page:
        page.wait_for_selector(DONE)
        assert page.locator("[data-input]").count() == 2
        first, second = (page.input_value(f"[data-input=raw{n}]") for n in ("", "1"))
        assert first
        assert second
        assert first != second


def test_each_image_of_a_model_of_two_has_its_own_channel(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path, gray = tmp_path / "two.ome.tif", tmp_path / "gray.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    tifffile.imwrite(path, np.stack([cells((64, 64))] * 2), ome=True, metadata=metadata)
    tifffile.imwrite(gray, cells((64, 64)))
    with visit(browser, server, "#/run?model=two-inputs") as page:
        upload(page, gray)
        upload(page, path)
        page.select_option("[data-input=raw]", label="two.ome.tif")
        page.select_option("[data-input=raw1]", label="gray.tif")
        page.check("[data-key=channel-raw1]")
        page.wait_for_selector(READY)
        page.click("[data-key=run]")
        page.wait_for_selector(DONE)
        page.reload()
        page.wait_for_selector(DONE)
        assert page.locator("[data-input=raw1] option:checked").inner_text() == "gray.tif"
        assert page.is_checked("[data-key=channel-raw1]")


def test_of_a_file_of_several_images_one_is_chosen(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path = tmp_path / "several.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(cells((64, 64)), metadata={"axes": "YX", "Name": "first"})
        file.write(cells((96, 80)), metadata={"axes": "YX", "Name": "second"})
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, path)
        assert "64 × 64 pixels" in page.inner_text(".work-facts")
        page.select_option("[data-key=scene]", index=1)
        page.wait_for_selector(".work-facts:has-text('80 × 96 pixels')")
        page.wait_for_selector(READY)


def test_results_are_not_offered_as_images_to_run_on(
    browser: Any, server: Server, tmp_path: Path
) -> None:
    path, other = tmp_path / "cells.tif", tmp_path / "other.tif"
    for one in (other, path):
        tifffile.imwrite(one, cells((64, 64)))
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        upload(page, other)
        upload(page, path)
        page.wait_for_selector(READY)
        page.click("[data-key=preview]")
        page.wait_for_selector("[data-preview]")
        page.reload()
        page.click("[data-key='Open another']")
        page.wait_for_selector(".work-open-image")
        assert page.locator(".work-open-image b").all_inner_texts() == ["other.tif"]


def test_a_model_that_is_removed_while_its_run_waits_is_told(
    browser: Any, home: Path, large: Path, tmp_path: Path
) -> None:
    from biozoo import Settings, Zoo

    own = tmp_path / "home"
    zoo = Zoo(Settings(home=own, offline=True))
    zoo.add(slow_model(tmp_path / "slow"))
    zoo.add(make_package(tmp_path / "tiny", id="tiny", name="Tiny blur", validate=False))
    with (
        Server(own, environ=slowed(tmp_path / "slowed")) as server,
        visit(browser, server, "#/run?model=slow", expected=REFUSED) as page,
    ):
        start(page, large)
        choose_other(page, "tiny")
        page.wait_for_selector(READY)
        page.click("[data-key=run]")
        page.wait_for_selector("[data-running]:has-text('Waits until the run before it is done')")
        shutil.rmtree(zoo.get("tiny").root)
        (tmp_path / "slowed" / "slow").unlink()
        page.wait_for_selector("[data-ended=failed]")
        assert "tiny" in page.inner_text("[data-ended] .zoo-notice")
        assert page.locator("[data-key=resume]").is_visible()
        assert page.locator("[data-key=preview]").is_visible()  # usable


def choose_other(page: Any, model: str) -> None:
    """Another model on the same image, by the address as the list of models leaves it."""
    image = re.search(r"image=([^&]+)", page.url)
    assert image is not None
    page.evaluate(f"location.hash = '#/run?model={model}&image={image[1]}'")
    page.wait_for_selector(f"[data-model={model}]")


def test_the_keyboard_alone_goes_the_whole_way(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/run") as page:
        page.wait_for_selector("[data-suggested=nuclei-fluo]")

        def press(selector: str, limit: int = 60) -> None:
            page.wait_for_selector(f"{selector}:not([disabled])")
            for _ in range(limit):
                if page.evaluate("(s) => document.activeElement.matches(s)", selector):
                    page.keyboard.press("Enter")
                    return
                page.keyboard.press("Tab")
            raise AssertionError(f"{selector} is not reached by Tab")

        press("[data-key=nuclei]")
        page.wait_for_selector(".work-facts")
        press("[data-suggested=nuclei-fluo]")
        page.wait_for_selector(READY)
        press("[data-key=run]")
        page.wait_for_selector(DONE)
        assert page.evaluate("document.activeElement !== document.body")


def test_hostile_words_stay_words(browser: Any, server: Server, tmp_path: Path) -> None:
    path = tmp_path / f"{HOSTILE}.tif"
    tifffile.imwrite(path, cells((64, 64)))
    with visit(browser, server, "#/run?model=hostile") as page:
        page.set_input_files("input[type=file]", path)
        page.wait_for_selector(READY)
        page.click("[data-key=run]")
        page.wait_for_selector(DONE)
        assert "${window.pwned = 1} {{value}}" in page.inner_text(".work-facts")
        page.goto(server.url("#/compare"))
        page.wait_for_selector(".compare-nothing")
        page.goto(server.url("#/jobs"))
        page.wait_for_selector(".jobs-row")
        assert page.evaluate("window.pwned") is None


def test_nothing_is_wider_than_the_page(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/run?model=hostile", size=NARROW) as page:
        page.wait_for_selector("[data-model]")
        assert page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]
        page.click("[data-key=nuclei]")
        page.wait_for_selector("[data-verdict]")
        for summary in page.locator("summary").all():
            summary.click()
        for width, height in ((390, 844), (820, 1180), (1280, 800)):
            page.set_viewport_size({"width": width, "height": height})
            assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_image_that_is_gone_is_told_and_another_can_be_opened(
    browser: Any, server: Server
) -> None:
    with visit(browser, server, "#/run?image=gone&model=nuclei-fluo", expected=REFUSED) as page:
        page.wait_for_selector(".zoo-notice.no:has-text('not open any more')")
        page.click("[data-key=nuclei]")
        page.wait_for_selector(READY)


def test_the_view_can_be_left_and_come_back_to(browser: Any, server: Server) -> None:
    """Its canvas goes with it: a browser keeps some sixteen."""
    with visit(browser, server, "#/run?model=nuclei-fluo") as page:
        page.click("[data-key=nuclei]")
        page.wait_for_selector(READY)
        run = page.url
        for _ in range(3):
            page.evaluate("location.hash = '#/jobs'")
            page.wait_for_selector(".jobs")
            assert page.locator("canvas").count() == 0
            page.goto(run)
            settle(page)
        assert page.locator("canvas").count() == 1
        choose_other(page, "em-membrane")
        page.wait_for_selector("[data-verdict]")


def test_suggestions_run_here(browser: Any, server: Server, tmp_path: Path) -> None:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, cells())
    with visit(browser, server, "#/run") as page:
        upload(page, path)
        choose(page, "nuclei-fluo")
        assert page.locator(READY).count() == 1
        assert "model=nuclei-fluo" in page.url
