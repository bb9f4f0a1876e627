"""Browsing models in a real Chromium: search, filters, cards, a model's page, adding one."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loopback import Loopback
from packages import change_rdf, make_package, read_rdf
from page_server import NARROW, Server, browser, visit

pytest.importorskip("gradio")
playwright = pytest.importorskip("playwright.sync_api")

pytestmark = [pytest.mark.browser]
__all__ = ["browser"]  # the fixture

HOSTILE = "${window.pwned = 1} {{value}} <img src=x onerror='window.pwned = 1'>"
CARD = ".browse-card"
MEASURE = """async (letters) => {
  const field = document.querySelector(".browse-input"), told = [];
  for (const text of letters) {
    field.value = text;
    const start = performance.now();
    field.dispatchEvent(new Event("input", { bubbles: true }));
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));  // it is painted
    const cards = document.querySelectorAll(".browse-card").length;
    told.push([performance.now() - start, cards]);
  }
  return told;
}"""


def publish(loopback: Loopback, *folders: Path, more: Any = ()) -> None:
    """An index of these packages, each served under the id of its description."""
    items = []
    for folder in folders:
        name = read_rdf(folder)["id"]
        url = loopback.serve(folder, f"/{name}/v0")
        sha = hashlib.sha256((folder / "rdf.yaml").read_bytes()).hexdigest()
        version = {"version": "v0", "source": url, "sha256": sha}
        items.append({"id": f"bioimage-io/{name}", "type": "model", "versions": [version]})
    loopback.files["/index.json"] = json.dumps({"items": [*items, *more]}).encode()


@pytest.fixture(scope="module")
def internet() -> Iterator[Loopback]:
    """What the server takes for the internet."""
    with Loopback() as loopback:
        loopback.heads = True
        yield loopback


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, internet: Loopback) -> Iterator[Server]:
    """A server with the built-in models and a collection of three."""
    folder = tmp_path_factory.mktemp("collection")
    blur = make_package(
        folder / "blur", id="kind-blur", name="A kind blur", tags=["denoising"], validate=False
    )
    three = make_package(
        folder / "three",
        id="deep-blur",
        name="A deep blur",
        axes="bczyx",
        tags=["segmentation", "mitochondria", "electron-microscopy"],
        fields={"license": "MIT"},
        validate=False,
    )
    hostile = make_package(folder / "hostile", id="hostile", validate=False)
    change_rdf(hostile, name=HOSTILE, description=HOSTILE, tags=[HOSTILE], license=HOSTILE)
    publish(internet, blur, three, hostile)
    environ = {"BIOZOO_INDEX_URL": internet.url("/index.json")}
    with Server(tmp_path_factory.mktemp("home"), environ=environ) as server:
        yield server


def shown(page: Any) -> list[str]:
    """Ids of the cards, in order."""
    ids: list[str] = page.eval_on_selector_all(CARD, "all => all.map(one => one.dataset.id)")
    return ids


def all_there(page: Any) -> None:
    """Wait until the collection is in the list."""
    page.wait_for_function("document.querySelectorAll('.browse-card').length >= 6")


def heard(page: Any, words: str) -> None:
    """Wait for words on the page."""
    page.get_by_text(words).first.wait_for()


# ----------------------------------------------------------------------------------------- browse


def test_the_first_screen_says_what_one_can_do_and_offers_it(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        page.wait_for_selector(CARD)
        assert page.locator("h1").all_inner_texts() == [
            "Find, count and outline what is in your microscopy images, "
            "with models that run right here."
        ]
        primary = page.locator(".zoo-button.primary")
        assert primary.all_inner_texts() == ["Try it on a sample image"]
        assert primary.get_attribute("href") == "#/run?model=nuclei-fluo&sample=1"
        own = page.get_by_role("link", name="or open your own image")
        assert own.get_attribute("href") == "#/run"
        for thing in (primary, page.locator(CARD).first):
            box = thing.bounding_box()
            assert box["y"] + box["height"] <= 800  # without scrolling
        assert page.title() == "Models · biozoo"


def test_a_card_shows_what_decides(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        card = page.locator('[data-id="nuclei-fluo"]')
        words = card.inner_text()
        for part in ("Nuclei in fluorescence images", "Segmentation", "2D, 1 channel", " MB",
                     "BSD-3-Clause", "Runs here", "Built in"):  # fmt: skip
            assert part in words
        loaded = "one => one.complete && one.naturalWidth > 0"
        assert card.locator("img").evaluate(loaded)
        all_there(page)
        assert "Should run here" in page.locator('[data-id="kind-blur"]').inner_text()


def test_search_narrows_as_one_types_and_finds_the_way_back(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        all_there(page)
        field = page.get_by_label("Search the models")
        field.press_sequentially("electron MICRO")
        assert shown(page) == ["em-membrane", "deep-blur"]
        assert page.locator(".browse-found").inner_text() == "2 of 6 models"
        assert page.evaluate("location.hash") == "#/?q=electron+MICRO"
        page.reload()
        page.wait_for_selector(CARD)
        assert page.get_by_label("Search the models").input_value() == "electron MICRO"
        page.wait_for_function("document.querySelectorAll('.browse-card').length === 2")
        page.get_by_label("Search the models").fill("zebra crossing")
        heard(page, "No model fits")
        assert shown(page) == []
        page.locator(".zoo-empty").get_by_role("button", name="Clear filters").click()
        all_there(page)
        assert page.get_by_label("Search the models").input_value() == ""


def test_filters_stand_in_the_address_and_each_is_a_step_back(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        all_there(page)
        page.get_by_label("Task").select_option("segmentation")
        assert "deep-blur" in shown(page)
        assert "kind-blur" not in shown(page)
        page.get_by_label("Dimensions").select_option("3D")
        assert shown(page) == ["deep-blur"]
        assert page.evaluate("location.hash") == "#/?task=segmentation&dimensions=3D"
        kinds = page.get_by_label("Kind of image").locator("option").all_inner_texts()
        assert kinds == ["Kind of image", "Electron microscopy (1)"]  # of what is left
        page.go_back()
        assert len(shown(page)) == 4
        page.go_back()
        assert len(shown(page)) == 6
        page.go_forward()
        page.get_by_label("Licence").select_option("MIT")
        page.get_by_label("What to find").select_option("mitochondria")
        page.get_by_label("Where").select_option("collection")
        assert shown(page) == ["deep-blur"]
        places = page.get_by_label("Where").locator("option").all_inner_texts()
        assert places == ["Where", "In the collection (1)"]


def test_runs_here_leaves_what_runs(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/?runs=1") as page:
        page.wait_for_selector(CARD)
        states = page.eval_on_selector_all(
            ".browse-card .zoo-badge", "all => all.map(one => one.dataset.state)"
        )
        assert set(states) == {"runs"}
        assert page.get_by_role("switch").is_checked()


def test_the_reason_of_a_badge_is_shown_on_hover_and_on_focus(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        page.wait_for_selector(CARD)
        card = page.locator('[data-id="nuclei-fluo"]')
        reason = card.get_by_role("tooltip", include_hidden=True)
        assert not reason.is_visible()
        card.locator(".zoo-badge").hover()
        reason.wait_for(state="visible")
        assert "onnxruntime executes its onnx weights" in reason.inner_text()
        page.mouse.move(5, 5)
        reason.wait_for(state="hidden")
        page.get_by_label("Where").focus()
        page.keyboard.press("Tab")  # to the first card
        reason.wait_for(state="visible")
        described = card.get_by_role("link").get_attribute("aria-describedby")
        assert described == reason.get_attribute("id")


def test_with_the_keyboard_alone_to_a_run(browser: Any, server: Server) -> None:
    """Search, the first card, its page, the button: Tab and Enter only."""
    with visit(browser, server) as page:
        page.wait_for_selector(CARD)
        press = page.keyboard.press
        for _ in range(30):
            press("Tab")
            if page.evaluate("document.activeElement.type") == "search":
                break
        page.keyboard.type("stained tissue")
        assert shown(page)[0] == "nuclei-histology"
        for _ in range(30):
            press("Tab")
            if page.evaluate("document.activeElement.className") == "browse-link":
                break
        press("Enter")
        page.wait_for_selector(".model-actions a")
        assert page.evaluate("location.hash") == "#/models/nuclei-histology"
        for _ in range(30):
            press("Tab")
            if page.evaluate("document.activeElement.innerText") == "Try on the sample":
                break
        press("Enter")
        page.wait_for_function("location.hash.startsWith('#/run?')")
        assert "model=nuclei-histology" in page.evaluate("location.hash")


def test_the_way_back_from_a_model_leads_to_the_same_filters(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/?task=segmentation") as page:
        page.wait_for_selector(CARD)
        page.locator('[data-id="em-membrane"] a').click()
        page.locator(".model-back a").click()
        page.wait_for_selector(CARD)
        assert page.evaluate("location.hash") == "#/?task=segmentation"


def test_a_model_is_chosen_for_an_open_image(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/?image=abc") as page:
        all_there(page)
        heard(page, "Choose a model for your image")
        here = page.locator('[data-id="nuclei-fluo"] a').get_attribute("href")
        assert here == "#/run?model=nuclei-fluo&image=abc"
        elsewhere = page.locator('[data-id="kind-blur"] a').get_attribute("href")
        assert elsewhere == "#/models/kind-blur?image=abc"
        page.get_by_label("Search the models").fill("nuclei")
        assert page.evaluate("location.hash") == "#/?image=abc&q=nuclei"


def test_hostile_words_are_text_everywhere(browser: Any, server: Server) -> None:
    with visit(browser, server) as page:
        all_there(page)
        card = page.locator('[data-id="hostile"]')
        assert HOSTILE in card.inner_text()
        page.get_by_label("Search the models").fill("onerror")
        assert shown(page) == ["hostile"]
        assert HOSTILE in " ".join(page.get_by_label("Licence").locator("option").all_inner_texts())
        card.get_by_role("link").click()
        page.wait_for_selector(".zoo-card-page")
        assert page.locator("h1").inner_text() == HOSTILE
        assert page.evaluate("window.pwned") is None
        assert page.locator("img[src='x']").count() == 0


def test_a_collection_that_cannot_be_reached_is_told_and_the_rest_works(
    browser: Any, tmp_path: Path
) -> None:
    environ = {"BIOZOO_INDEX_URL": "http://127.0.0.1:9/index.json"}
    with Server(tmp_path, environ=environ) as server, visit(browser, server) as page:
        heard(page, "The collection cannot be reached")
        assert len(shown(page)) == 3
        page.get_by_label("Search the models").fill("membrane")
        assert shown(page) == ["em-membrane"]


@pytest.mark.parametrize("path", ["", "#/models/nuclei-fluo", "#/models/deep-blur"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_a_telephone(
    browser: Any, server: Server, path: str, scheme: str
) -> None:
    with visit(browser, server, path, size=NARROW, color_scheme=scheme) as page:
        page.wait_for_selector(".zoo-card-page" if path else CARD)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390
        if not path:
            assert not page.get_by_label("Task").is_visible()
            page.get_by_role("button", name="Filters").click()
            page.get_by_label("Task").select_option("segmentation")
            assert page.get_by_role("button", name="Filters (1)").is_visible()


# ----------------------------------------------------------------------------------- a thousand


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server whose cached collection has a thousand models, without network."""
    from biozoo import Settings
    from test_api_models import _thousand

    home = tmp_path_factory.mktemp("home")
    settings = _thousand(Settings(home=home))
    environ = {"BIOZOO_INDEX_URL": settings.index_url, "BIOZOO_OFFLINE": "1"}
    with Server(home, environ=environ) as server:
        yield server


def test_a_thousand_models_do_not_stutter(
    browser: Any, thousand: Server, record_property: Any
) -> None:
    """From a letter typed to the next painted frame no more cards are made than are seen."""
    with visit(browser, thousand) as page:
        heard(page, "1,003 models")
        assert len(shown(page)) < 120  # the rest is made when it is scrolled to
        letters = [
            "m",
            "mo",
            "mod",
            "mode",
            "model",
            "model 9",
            "model 99",
            "model 9",
            "",
            "nuclei",
        ]
        told = page.evaluate(MEASURE, letters)
        record_property("milliseconds", [round(ms) for ms, _ in told])
        assert all(cards < 120 for _, cards in told), told
        assert page.locator(".browse-found").inner_text().startswith("1,002 of 1,003")


def test_scrolling_brings_the_next_cards_and_back_keeps_the_place(
    browser: Any, thousand: Server
) -> None:
    with visit(browser, thousand, expected="503") as page:  # no card without network
        heard(page, "1,003 models")
        for _ in range(8):
            there = len(shown(page))
            page.evaluate("scrollTo(0, document.body.scrollHeight)")
            page.wait_for_function(f"document.querySelectorAll('.browse-card').length > {there}")
        place = page.evaluate("scrollY")
        page.locator(CARD).nth(140).get_by_role("link").evaluate("link => link.click()")
        page.wait_for_selector(".model-head h1")
        page.go_back()
        page.wait_for_selector(CARD)
        page.wait_for_function(f"Math.abs(scrollY - {place}) < 400")


# ------------------------------------------------------------------------------------ one model


def test_a_model_has_its_card_and_its_package(browser: Any, server: Server, tmp_path: Path) -> None:
    import biozoo

    with visit(browser, server, "#/models/nuclei-fluo") as page:
        page.wait_for_selector(".zoo-card-page")
        assert page.title().startswith("Nuclei in fluorescence images")
        for words in ("How well it works", "Limits", "Please cite"):
            assert words in page.locator(".model-card").inner_text()
        drawn = page.locator(".zoo-card-page figure img")
        page.wait_for_function(
            "[...document.querySelectorAll('.zoo-card-page figure img')].every(i => i.naturalWidth)"
        )
        assert drawn.count() >= 2
        sample = page.get_by_role("link", name="Try on the sample")
        assert sample.get_attribute("href") == "#/run?model=nuclei-fluo&sample=1"
        use = page.get_by_role("link", name="Use on my image")
        assert use.get_attribute("href") == "#/run?model=nuclei-fluo"
        assert page.get_by_role("button", name="Remove from my zoo").count() == 0
        with page.expect_download() as download:
            page.get_by_role("link", name="Download package").click()
        assert re.fullmatch(r"nuclei-fluo-\d.*\.zip", download.value.suggested_filename)
        download.value.save_as(tmp_path / "got.zip")
        assert biozoo.open(tmp_path / "got.zip").id == "nuclei-fluo"


def test_a_model_that_is_not_there_says_so(browser: Any, server: Server) -> None:
    with visit(browser, server, "#/models/nuclei-flu", expected="404") as page:
        heard(page, "No model is called 'nuclei-flu'. Did you mean nuclei-fluo")
        page.locator(".zoo-empty").get_by_role("link", name="All models").click()
        page.wait_for_selector(CARD)


def test_a_model_is_added_found_again_after_a_reload_and_removed(
    browser: Any, server: Server, internet: Loopback
) -> None:
    weights = internet.files["/kind-blur/v0/weights.onnx"]
    stalled = internet.stall("/kind-blur/v0/weights.onnx")
    with visit(browser, server, "#/models/kind-blur") as page:
        page.wait_for_selector(".zoo-card-page")
        assert page.locator(".zoo-badge").inner_text() == "Should run here"
        page.get_by_role("button", name=f"Add to my zoo ({len(weights)} bytes)").click()
        assert stalled.reached.wait(60)
        page.locator(".zoo-progress p").filter(has_text="Getting").wait_for()
        page.reload()
        page.get_by_role("progressbar").wait_for()
        told = page.locator(".zoo-progress p")
        told.filter(has_text=re.compile(r"Getting .* of \d+")).wait_for()
        stalled.release.set()
        page.get_by_role("link", name="Try on the sample").wait_for()  # without a reload
        assert page.locator(".zoo-badge").inner_text() == "Runs here"
        page.get_by_role("button", name="Remove from my zoo").click()
        page.get_by_role("button", name="Keep").click()
        page.get_by_role("button", name="Remove from my zoo").click()
        page.get_by_role("button", name="Remove it").click()
        page.get_by_role("button", name="Add to my zoo").wait_for()
        assert page.locator(".zoo-badge").inner_text() == "Should run here"
    internet.stalls.clear()


def test_adding_is_cancelled_and_leaves_nothing(
    browser: Any, server: Server, internet: Loopback
) -> None:
    path = "/deep-blur/v0/weights.onnx"
    whole = internet.files[path]
    internet.files[path] = whole + bytes(4 * 2**20)  # more than arrives at once
    stalled = internet.stall(path)
    try:
        with visit(browser, server, "#/models/deep-blur") as page:
            page.get_by_role("button", name="Add to my zoo").click()
            assert stalled.reached.wait(60)
            page.get_by_role("button", name="Cancel").click()
            # It stops with the next piece that arrives, which may have been on its way.
            page.get_by_text(re.compile(r"^(Stopping\.|Stopped\.)")).first.wait_for()
            stalled.release.set()
            heard(page, "Stopped. Nothing was left behind.")
            assert page.get_by_role("button", name="Add to my zoo").is_enabled()
        assert not (server.home / "models" / "deep-blur").exists()
    finally:
        internet.files[path] = whole
        internet.stalls.clear()


def test_a_model_that_cannot_be_added_says_why_and_can_be_tried_again(
    browser: Any, server: Server, internet: Loopback
) -> None:
    path = "/deep-blur/v0/weights.onnx"
    whole = internet.files[path]
    internet.files[path] = b"not what was described"
    try:
        with visit(browser, server, "#/models/deep-blur") as page:
            page.get_by_role("button", name="Add to my zoo").click()
            heard(page, "is not the one described")
            internet.files[path] = whole
            page.get_by_role("button", name="Try again").click()
            page.get_by_role("link", name="Try on the sample").wait_for()
    finally:
        internet.files[path] = whole


def test_trust_is_asked_for_in_a_terminal_and_the_page_follows(
    browser: Any, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("torch")
    from biozoo import Settings, Zoo
    from biozoo.consent import grant
    from coded import with_code

    monkeypatch.setenv("BIOZOO_HOME", str(server.home))
    source = make_package(tmp_path / "p", id="coded", name="With code", validate=False)
    package = Zoo(Settings(home=server.home, offline=True)).add(with_code(source))
    with visit(browser, server, "#/models/coded") as page:
        page.wait_for_selector(".model-needed")
        assert page.locator(".zoo-badge").inner_text() == "Needs your trust"
        assert page.locator(".model-needed code").inner_text() == "zoo trust coded"
        assert page.get_by_role("link", name="Try on the sample").count() == 0
        grant(package)
        page.get_by_role("button", name="Look again").click()
        page.get_by_role("link", name="Try on the sample").wait_for()
        assert page.locator(".model-needed").count() == 0
