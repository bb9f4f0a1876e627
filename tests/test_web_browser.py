"""The page in a real Chromium: browse, check, run, look, download; and that nothing leaves here.

`BIOZOO_CHROMIUM` names the browser, else the one on the path is taken.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import biozoo
from packages import make_package

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = os.environ.get("BIOZOO_CHROMIUM") or shutil.which("chromium")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]

LAUNCH = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SERVE = "from biozoo_ui.web import serve; serve(port=0, open_browser=False)"
HOSTILE = "${window.pwned = 1} {{value}} <img src=x onerror='window.pwned = 1'>"
DONE = ".zoo-result"
PATIENCE = 30_000  # milliseconds: other work may share the machine


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, browser: Any) -> Iterator[str]:
    """A server of its own process, as `zoo ui` starts it; at its end a page is still open."""
    from biozoo import Settings, Zoo

    home = tmp_path_factory.mktemp("home")
    hostile = make_package(
        home / "source", id="hostile", name="Hostile", fields={"description": HOSTILE},
        validate=False,
    )  # fmt: skip
    (hostile / "README.md").write_text(
        f"{HOSTILE}\n\n<script>window.pwned = 1</script>\n\n| a |\n|---|\n| {'w' * 300} |\n"
    )
    zoo = Zoo(Settings(home=home, offline=True))
    zoo.add(hostile)
    zoo.add(make_package(
        home / "two", id="two-channels", name="Two channels", channels=2,
        channel_names=["nuclei", "membrane"], validate=False,
    ))  # fmt: skip
    zoo.add(make_package(
        home / "inputs", id="two-inputs", name="Two inputs", inputs=2, outputs=2, validate=False
    ))  # fmt: skip
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("BIOZOO_", "GRADIO_"))}
    environ |= {"BIOZOO_HOME": str(home), "BIOZOO_OFFLINE": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", SERVE],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        line = server.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, f"the server said {line!r}"
        yield found[0]
        browser.new_page().goto(found[0])
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=15)
    finally:
        server.kill()
        server.wait()
    assert server.returncode == 0
    assert "Traceback" not in said
    assert not list((home / "cache").glob("server-*")), "uploads and results are removed"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        chromium = started.chromium.launch(executable_path=CHROMIUM, args=LAUNCH)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A fresh visit; at its end no request has left this machine and no error was logged."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, accept_downloads=True)
    context.set_default_timeout(PATIENCE)
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    page.goto(address)
    page.wait_for_selector("#model-title")
    yield page
    foreign = [u for u in requests if not u.startswith((address, "data:", "blob:"))]
    assert foreign == []
    assert complaints == []
    assert page.evaluate("window.pwned") is None
    context.close()


def _run(image: Path, **options: Any) -> np.ndarray:
    """The labels that the runner itself finds."""
    import biozoo
    import biozoo_runners

    with biozoo_runners.load(biozoo.open("nuclei-fluo")) as model:
        return np.asarray(model(image, **options)["labels"].values)


def _download(page: Any, name: str, folder: Path) -> np.ndarray:
    with page.expect_download() as waiting:
        page.click(f".downloads a[download$='{name}']")
    path = folder / waiting.value.suggested_filename
    waiting.value.save_as(path)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        return np.asarray(file.asarray())


def _cells(shape: tuple[int, int] = (160, 192)) -> np.ndarray:
    from biozoo.samples import simulate_nuclei

    return simulate_nuclei(shape, seed=3, diameter=26).image


def _upload(page: Any, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", path)


def test_browse_choose_and_read(page: Any) -> None:
    """Cards are there, searching narrows them, choosing one shows what it is."""
    models = page.locator(".card").count()
    assert models == len(biozoo.builtin_packages()) + 3
    assert page.get_attribute("[data-choose=nuclei-fluo]", "aria-pressed") == "true"
    box = page.get_by_role("searchbox", name="Search the models")
    box.fill("hostile")
    page.wait_for_selector(f"text=1 of {models} models")
    assert page.locator(".card:visible").count() == 1
    box.fill("no such thing")
    page.wait_for_selector("[data-none]:visible")
    box.fill("")
    page.wait_for_selector(f"text='{models} models'")
    page.click("[data-choose=hostile]")
    page.wait_for_selector("#model-title:has-text('Hostile')")
    assert "${window.pwned = 1} {{value}} <img" in page.inner_text(".zoo-model .lead >> nth=0")
    page.click("[data-choose=nuclei-fluo]")
    page.wait_for_selector("#model-title:has-text('Nuclei')")
    page.click(".about summary")
    assert "How well it works" in page.inner_text(".zoo-card-page")


def test_the_sample_runs_in_one_click_and_its_overlay_and_files_are_right(
    page: Any, tmp_path: Path
) -> None:
    page.click("#sample")
    page.wait_for_selector(DONE)
    objects = int(page.get_attribute("[data-objects]", "data-objects"))
    assert objects > 10
    for image in page.locator(".stage img").all():
        assert image.get_attribute("alt")
    shown = page.locator(".stage [data-layer]:visible")
    assert shown.count() == 1
    page.locator("[data-opacity-slider]").fill("20")
    assert shown.evaluate("e => getComputedStyle(e).opacity") == "0.2"
    assert page.inner_text(".slider:has([data-opacity-slider]) output") == "20 %"
    page.get_by_label("Outlines").check()
    assert shown.get_attribute("data-layer") == "outlines"
    assert shown.evaluate("e => e.complete && e.naturalWidth") == 512

    labels = _download(page, ".labels.ome.tif", tmp_path)
    assert labels.shape == (512, 512)
    assert len(np.unique(labels)) - 1 == objects
    probability = _download(page, ".probability.ome.tif", tmp_path)
    assert probability.shape == (3, 512, 512)
    assert "zoo run nuclei-fluo cells.ome.tif -o out/" in page.inner_text(".command code")

    with page.expect_download() as waiting:
        page.click(".downloads a[href$='all.zip']")
    assert waiting.value.suggested_filename == "cells.zip"
    with zipfile.ZipFile(waiting.value.path()) as packed:
        assert {"cells.labels.ome.tif", "cells.probability.ome.tif"} <= set(packed.namelist())


def test_the_keyboard_alone_runs_the_sample_and_zooms(page: Any) -> None:
    page.locator("#sample").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(DONE)
    stage, frame = page.locator("[data-stage]"), page.locator("[data-frame]")
    fitting = stage.bounding_box()["width"]
    page.get_by_label("Zoom", exact=True).focus()
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert page.inner_text(".slider:has([data-zoom-slider]) output") == "4 x"
    assert stage.bounding_box()["width"] == pytest.approx(4 * fitting, rel=0.01)
    assert frame.evaluate("e => e.scrollLeft") == pytest.approx(1.5 * fitting, abs=3)
    image = page.locator(".stage .base")
    assert image.evaluate("e => getComputedStyle(e).imageRendering") == "pixelated"
    page.get_by_label("Opacity of").focus()
    page.keyboard.press("ArrowLeft")
    assert page.inner_text(".slider:has([data-opacity-slider]) output") == "49 %"


def test_a_16_bit_upload_reaches_the_runner_untouched(page: Any, tmp_path: Path) -> None:
    """What 8 bits would merge is kept: the labels are those of the runner on the file itself."""
    image = tmp_path / "faint 16 bit.tif"
    tifffile.imwrite(image, (_cells() // 8 + 40_000).astype(np.uint16))
    _upload(page, image)
    page.wait_for_selector(".verdict:has-text('Ready')")
    assert "192 x 160 pixels, 16 bit" in page.inner_text(".zoo-check .image")
    page.click("#run")
    page.wait_for_selector(DONE)
    expected = _run(image)
    assert expected.max() > 3
    assert np.array_equal(_download(page, ".labels.ome.tif", tmp_path), expected)
    assert page.inner_text(".command code") == "zoo run nuclei-fluo 'faint 16 bit.tif' -o out/"


def test_an_rgb_image_asks_for_a_channel(page: Any, tmp_path: Path) -> None:
    from PIL import Image

    gray = np.clip(_cells() // 4, 0, 255).astype(np.uint8)
    image = tmp_path / "photo.png"
    Image.fromarray(np.stack([gray // 3, gray, gray // 5], axis=-1)).save(image)
    _upload(page, image)
    page.wait_for_selector(".verdict:has-text('choose below')")
    assert page.locator("#run").is_disabled()
    page.get_by_label("green", exact=True).check()
    page.wait_for_selector(".verdict:has-text('Ready')")
    page.click("#run")
    page.wait_for_selector(DONE)
    expected = _run(image, channel=1)
    assert np.array_equal(_download(page, ".labels.ome.tif", tmp_path), expected)
    assert "--channel 1" in page.inner_text(".command code")


def test_wrong_files_and_unknown_axes_are_told_in_words(page: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.tif"
    broken.write_bytes(b"II*\0 this is no image")
    _upload(page, broken)
    page.wait_for_selector(".sentence.no")
    told = page.inner_text("#checked")
    assert "'broken.tif'" in told
    assert "Traceback" not in told
    assert str(tmp_path.parent) not in told
    assert page.locator("#run").is_disabled()

    stack = tmp_path / "stack.npy"
    np.save(stack, np.stack([_cells((128, 144))] * 2))
    _upload(page, stack)
    axes = page.get_by_label("Axes of the image")
    axes.fill("zyx")
    axes.press("Enter")
    page.wait_for_selector(".verdict:has-text('Ready')")
    page.click("#run")
    page.wait_for_selector(DONE)
    told = page.inner_text(".zoo-result .count")
    assert "plane 2 of 2" in told
    assert "each of 2 images" in told
    assert (
        int(page.get_attribute("[data-objects]", "data-objects"))
        == 2 * _run(stack, axes="zyx")[0].max()
    )
    assert "--axes zyx" in page.inner_text(".command code")


def test_cancel_stops_the_run_and_the_next_one_works(page: Any, tmp_path: Path) -> None:
    image = tmp_path / "large.tif"
    tifffile.imwrite(image, np.tile(_cells((256, 256)), (8, 8)))
    _upload(page, image)
    page.wait_for_selector(".verdict:has-text('Ready')")
    page.click("#run")
    page.wait_for_selector(".zoo-progress:has-text('tiles')")
    page.click("#cancel")
    page.wait_for_selector("#progress:has-text('was stopped')")
    assert page.locator(DONE).count() == 0
    page.click("#sample")
    page.wait_for_selector(DONE)


def test_going_on_while_it_runs_stops_that_run(page: Any, tmp_path: Path) -> None:
    image = tmp_path / "large.tif"
    tifffile.imwrite(image, np.tile(_cells((256, 256)), (8, 8)))
    _upload(page, image)
    page.wait_for_selector(".verdict:has-text('Ready')")
    page.click("#run")
    page.wait_for_selector(".zoo-progress:has-text('tiles')")
    page.click("[data-choose=hostile]")
    page.wait_for_selector("#model-title:has-text('Hostile')")
    page.click("#sample")  # it would have to wait for the other
    page.wait_for_selector(DONE)
    assert "zoo run hostile" in page.inner_text(".command code")
    assert page.inner_text("#progress") == ""


def test_several_channels_are_chosen_one_by_one(page: Any, tmp_path: Path) -> None:
    image = tmp_path / "three.ome.tif"
    tifffile.imwrite(
        image, np.stack([_cells((64, 64))] * 3), ome=True,
        metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP", "Cy3"]}},
    )  # fmt: skip
    page.click("[data-choose=two-channels]")
    page.wait_for_selector("#model-title:has-text('Two channels')")
    _upload(page, image)
    page.wait_for_selector(".verdict:has-text('takes 2 channels')")
    page.get_by_label("Cy3").check()
    page.wait_for_selector("text=the model's nuclei gets Cy3")
    assert "takes 2 channels" in page.inner_text(".verdict")  # one is missing
    page.get_by_label("DAPI").check()
    page.wait_for_selector(".verdict:has-text('Ready')")
    page.click("#run")
    page.wait_for_selector(DONE)
    assert "--channel 2,0" in page.inner_text(".command code")


def test_a_model_of_several_images_runs_on_its_sample(page: Any) -> None:
    page.click("[data-choose=two-inputs]")
    page.wait_for_selector(".several:has-text('zoo run two-inputs raw=IMAGE raw1=IMAGE -o out/')")
    assert page.locator("#upload").count() == 0 or page.locator("#upload").is_hidden()
    page.click("#sample")
    page.wait_for_selector(DONE)
    names = page.locator(".downloads a[download$='prediction1.ome.tif']")
    assert names.get_attribute("download") == "two-inputs.raw.prediction1.ome.tif"


def test_nothing_is_wider_than_the_page(page: Any) -> None:
    page.click("[data-choose=hostile]")
    page.wait_for_selector("#model-title:has-text('Hostile')")
    page.click(".about > summary")
    page.click("#sample")
    page.wait_for_selector(DONE)
    for width, height in ((1280, 800), (820, 1180), (390, 844)):
        page.set_viewport_size({"width": width, "height": height})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
