"""Routes of models: the list, its filters, badges, the collection, cards, adding and removing."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from biozoo import Settings, Zoo
from biozoo.consent import grant
from biozoo.summary import ModelSummary, TensorSummary
from biozoo.trust import trust_of
from biozoo_runners.base import Availability
from biozoo_runners.devices import detect
from coded import TorchBackend, with_code, with_step
from loopback import Loopback
from packages import change_rdf, make_package, read_rdf

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app
from biozoo_ui.api.models import badges
from biozoo_ui.api.models.badges import badge_unseen
from biozoo_ui.api.models.entries import ModelEntry
from biozoo_ui.api.models.words import MODALITIES, STRUCTURES, modalities, structures

HOSTILE = "${window.pwned = 1} {{value}} <img src=x onerror=alert(1)>"
BASE = "http://127.0.0.1:7860"

Serve = Callable[..., TestClient]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a server without pages for the zoo of this test; settings may be given."""
    with ExitStack() as stack:

        def start(settings: Settings | None = None) -> TestClient:
            app = create_app(ServerSettings(settings or Settings.from_env()), pages=False)
            return stack.enter_context(TestClient(app, base_url=BASE))

        yield start


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")


@pytest.fixture
def collection(loopback: Loopback, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A collection of one model, kind-blur; its folder."""
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    folder = make_package(tmp_path / "source", id="kind-blur", name="Kind blur", validate=False)
    publish(loopback, folder)
    return folder


def publish(loopback: Loopback, *folders: Path) -> None:
    """An index of these packages, each served under the id of its description."""
    items = []
    for folder in folders:
        name = read_rdf(folder)["id"]
        url = loopback.serve(folder, f"/{name}/v0")
        sha = hashlib.sha256((folder / "rdf.yaml").read_bytes()).hexdigest()
        version = {"version": "v0", "source": url, "sha256": sha}
        items.append({"id": f"bioimage-io/{name}", "type": "model", "versions": [version]})
    loopback.files["/index.json"] = json.dumps({"items": items}).encode()


def models(client: TestClient) -> dict[str, Any]:
    """The listed models by id, once the collection is known."""
    for _ in range(1200):
        told = client.get("/api/models").json()
        if told["collection"]["state"] != "loading":
            return {m["id"]: m for m in told["models"]}
        time.sleep(0.05)
    raise AssertionError("the collection is looked for without end")


def added(client: TestClient, model: str, timeout: float = 60) -> dict[str, Any]:
    """Add a model and wait until that has ended."""
    addition = client.post(f"/api/models/{model}/add").json()
    return ended(client, addition["id"], timeout)


def ended(client: TestClient, addition: str, timeout: float = 60) -> dict[str, Any]:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        told: dict[str, Any] = client.get(f"/api/additions/{addition}").json()
        if told["state"] != "running":
            return told
        time.sleep(0.02)
    raise AssertionError(f"still {told}")


# ------------------------------------------------------------------------------------------- list


def test_a_model_is_listed_with_what_its_card_shows(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    Zoo().add(make_package(tmp_path / "p", axes="bczyx", channels=2, validate=False))
    tiny = models(serve())["tiny"]
    assert (tiny["name"], tiny["origin"], tiny["version"]) == ("Tiny blur", "installed", "1.0")
    assert (tiny["dimensions"], tiny["takes"]) == (["3D"], "3D, 2 channels")
    assert (tiny["task"], tiny["task_label"]) == ("segmentation", "Segmentation")
    assert tiny["structure"] == ["nuclei"]
    assert tiny["size_text"].endswith("kB")
    assert tiny["badge"]["words"] == "Runs here"
    assert "onnxruntime executes its onnx weights" in tiny["badge"]["why"]
    assert tiny["sample"] is True
    assert {"tiny", "blur", "nuclei", "onnx"} <= set(tiny["search"].split())


def test_built_in_models_come_first_and_say_kind_and_structure(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    """And of those that were added the ones that run, whatever they are called."""
    Zoo().add(make_package(tmp_path / "p", id="a-first", name="A first one", validate=False))
    coded = make_package(tmp_path / "q", id="a-coded", name="A coded one", validate=False)
    Zoo().add(with_code(coded))
    listed = list(models(serve()).values())
    assert [m["id"] for m in listed][3:] == ["a-first", "a-coded"]
    assert [m["id"] for m in listed][:3] == ["nuclei-fluo", "nuclei-histology", "em-membrane"]
    assert {m["origin"] for m in listed[:3]} == {"built-in"}
    assert (listed[0]["modality"], listed[0]["structure"]) == (
        ["fluorescence"],
        ["nuclei", "cells"],
    )
    assert listed[2]["modality"] == ["electron"]


def test_facets_count_what_can_be_filtered_by(serve: Serve, tmp_path: Path, offline: None) -> None:
    Zoo().add(make_package(tmp_path / "p", tags=["denoising"], axes="bczyx", validate=False))
    facets = serve().get("/api/models").json()["facets"]
    task = {f["value"]: (f["label"], f["count"]) for f in facets["task"]}
    assert task == {
        "segmentation": ("Segmentation", 3),
        "restoration": ("Denoising and restoration", 1),
    }
    dimensions = [(f["value"], f["count"]) for f in facets["dimensions"]]
    assert dimensions == [("2D", 3), ("3D", 1)]
    assert facets["license"] == [{"value": "BSD-3-Clause", "label": "BSD-3-Clause", "count": 4}]
    assert {"modality", "structure"} <= set(facets)


def test_who_has_the_list_is_told_so_until_it_changes(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    client = serve()
    first = client.get("/api/models")
    again = {"if-none-match": first.headers["etag"]}
    assert client.get("/api/models", headers=again).status_code == 304
    Zoo().add(make_package(tmp_path / "p", validate=False))  # as `zoo add` beside the server
    changed = client.get("/api/models", headers=again)
    assert changed.status_code == 200
    assert "tiny" in {m["id"] for m in changed.json()["models"]}
    Zoo().remove("tiny")
    assert client.get("/api/models").headers["etag"] == first.headers["etag"]


def test_a_thousand_models_are_listed_at_once(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the cached index: made once, then sent as it is; compressed to a tenth."""
    really, made = ModelEntry.to_dict, Counter[str]()

    def to_dict(self: ModelEntry) -> dict[str, Any]:
        made[self.id] += 1
        return really(self)

    settings = _thousand(Settings.from_env())
    client = serve(settings)
    assert len(models(client)) == 1003
    monkeypatch.setattr(ModelEntry, "to_dict", to_dict)
    for _ in range(5):
        answer = client.get("/api/models")
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) * 8 < len(answer.content)
    assert not made


def _thousand(settings: Settings) -> Settings:
    """Settings whose cached index has a thousand models, and no network."""
    url = "http://127.0.0.1:9/index.json"
    key = hashlib.sha256(url.encode()).hexdigest()[:16]
    items, summaries = [], {}
    for i in range(1000):
        sha = hashlib.sha256(str(i).encode()).hexdigest()
        source = f"http://127.0.0.1:9/m{i}/rdf.yaml"
        version = {"version": "v0", "source": source, "sha256": sha}
        items.append({"id": f"bioimage-io/model-{i}", "type": "model", "versions": [version]})
        tensor = TensorSummary("raw", ("batch", "channel", "y", "x"), 1)
        summary = ModelSummary(
            id=f"model-{i}",
            name=f"Model number {i}",
            description="Segments nuclei in fluorescence images. " * 5,
            tags=("nuclei", "fluorescence", f"tag-{i}"),
            license="MIT",
            weights=("onnx",),
            inputs=(tensor,),
            task="segmentation",
        )
        summaries[sha] = {"summary": summary.to_dict(), "trust": "no code"}
    folder = settings.cache / "collection"
    folder.mkdir(parents=True)
    fetched = datetime.now(UTC).isoformat()
    index = {"fetched": fetched, "index": {"items": items}}
    (folder / f"{key}-index.json").write_text(json.dumps(index))
    (folder / f"{key}-summaries.json").write_text(json.dumps(summaries))
    return Settings(home=settings.home, index_url=url, offline=True)


# ----------------------------------------------------------------------------------------- badges


def test_code_of_the_author_needs_trust_and_runs_once_it_is_given(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    pytest.importorskip("torch")
    package = Zoo().add(with_code(make_package(tmp_path / "p", validate=False)))
    client = serve()
    badge = models(client)["tiny"]["badge"]
    assert (badge["state"], badge["words"]) == ("trust", "Needs your trust")
    assert (badge["todo"], models(client)["tiny"]["sample"]) == ("zoo trust tiny", False)
    assert "zoo trust tiny" in badge["why"]
    grant(package)  # as `zoo trust` does in a terminal
    assert models(client)["tiny"]["badge"]["words"] == "Runs here"


def test_a_custom_step_needs_trust_though_its_weights_run(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    Zoo().add(with_step(make_package(tmp_path / "p", validate=False)))
    assert models(serve())["tiny"]["badge"]["state"] == "trust"


def test_a_missing_library_is_named_with_how_to_install_it(
    serve: Serve, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Missing(TorchBackend):
        @classmethod
        def available(cls, machine: Any) -> Availability:
            return Availability(False, "torch is not installed", install="pip install torch")

    monkeypatch.setattr(badges, "_here", lambda: (detect(), {"torch": Missing}, {}))
    Zoo().add(make_package(tmp_path / "p", validate=False))
    badge = models(serve())["tiny"]["badge"]
    assert (badge["state"], badge["words"]) == ("needs", "Needs torch")
    assert badge["todo"] == "pip install torch"
    assert "torch is not installed" in badge["why"]


def test_a_library_that_makes_the_objects_is_missed_too(
    serve: Serve, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_package(tmp_path / "p", validate=False)
    outputs = read_rdf(source)["outputs"]
    step = {
        "id": "stardist_postprocessing",
        "kwargs": {"prob_threshold": 0.5, "nms_threshold": 0.3},
    }
    outputs[0]["postprocessing"] = [step]
    change_rdf(source, outputs=outputs)
    monkeypatch.setattr("biozoo_runners.steps_external.is_installed", lambda _: False)
    monkeypatch.setattr("biozoo.store.Zoo._validate", lambda *_: None)
    Zoo().add(source)
    assert models(serve())["tiny"]["badge"]["words"] == "Needs stardist"


def test_weights_that_nothing_executes_do_not_run() -> None:
    summary = ModelSummary(id="js", weights=("tensorflow_js",))
    badge = badge_unseen(summary, "no code")
    assert (badge.state, badge.words, badge.todo) == ("no", "Does not run", "")
    assert "tensorflow_js" in badge.why


@pytest.mark.parametrize(
    ("weights", "trust", "state"),
    [
        (("onnx",), "no code", "runs"),
        (("onnx",), "untrusted code", "trust"),
        (("onnx",), None, "unknown"),
        ((), "no code", "unknown"),
        (("keras_v3",), "no code", "unknown"),
        (("keras_v3", "onnx"), "no code", "runs"),
    ],
)
def test_what_only_the_files_could_tell_is_unknown(
    monkeypatch: pytest.MonkeyPatch, weights: tuple[str, ...], trust: str | None, state: str
) -> None:
    """Keras weights may hold code; other weights of the same package are taken then."""

    class Keras(TorchBackend):
        weights_formats = ("keras_v3",)

    monkeypatch.setattr(badges, "_here", lambda: (detect(), {"a": TorchBackend, "b": Keras}, {}))
    badges._unseen.cache_clear()
    badge = badge_unseen(ModelSummary(id="m", weights=weights), trust)
    badges._unseen.cache_clear()
    assert badge.state == state
    if state == "unknown":
        assert badge.words == "Not judged yet"


# ------------------------------------------------------------------------------------- collection


def test_models_of_the_collection_are_listed_as_not_here(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    client = serve()
    kind = models(client)["kind-blur"]
    assert (kind["origin"], kind["size"], kind["sample"]) == ("collection", None, False)
    assert kind["badge"]["words"] == "Should run here"
    assert "once it is added" in kind["badge"]["why"]
    note = client.get("/api/models").json()["collection"]
    assert note == {"state": "ready", "note": "1 model of 127.0.0.1."}
    assert not any("weights" in asked for asked in loopback.requests)


def test_the_list_does_not_wait_for_the_collection(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    stalled = loopback.stall("/index.json")
    client = serve()
    start = time.monotonic()
    told = client.get("/api/models").json()
    assert time.monotonic() - start < 5
    assert (told["collection"]["state"], len(told["models"])) == ("loading", 3)
    stalled.release.set()
    assert "kind-blur" in models(client)


def test_a_collection_that_cannot_be_reached_is_told(serve: Serve) -> None:
    client = serve()  # the index address of tests leads nowhere
    assert set(models(client)) == {"nuclei-fluo", "nuclei-histology", "em-membrane"}
    told = client.get("/api/models").json()["collection"]
    assert told["state"] == "unavailable"
    assert told["note"].startswith("The collection cannot be reached: Cannot get http://127")
    assert told["note"].endswith("Shown are the models on this computer.")


def test_without_network_what_is_cached_is_shown(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    settings = Settings.from_env()
    off = Settings(home=settings.home, index_url=settings.index_url, offline=True)
    client = serve(off)
    assert "kind-blur" not in models(client)
    assert client.get("/api/models").json()["collection"]["state"] == "off"
    models(serve())
    asked = len(loopback.requests)
    kind = models(serve(off))["kind-blur"]
    assert (kind["badge"]["words"], kind["cover"]) == ("Should run here", None)
    assert len(loopback.requests) == asked


def test_a_cover_of_the_collection_is_fetched_once_and_drawn_anew(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (2000, 1000), "teal").save(out, "PNG")
    loopback.files["/kind-blur/v0/cover.png"] = out.getvalue() + b"<script>alert(1)</script>"
    client = serve()
    address = models(client)["kind-blur"]["cover"]
    for _ in range(2):
        cover = client.get(f"/{address}")
        assert cover.headers["content-type"] == "image/webp"
        assert b"script" not in cover.content
    with Image.open(io.BytesIO(cover.content)) as small:
        assert small.size == (640, 320)
    assert [r for r in loopback.requests if "cover" in r] == ["/kind-blur/v0/cover.png"]


def test_a_cover_that_is_no_picture_is_not_served(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    loopback.files["/kind-blur/v0/cover.png"] = b"<svg onload='alert(1)'/>"
    client = serve()
    address = models(client)["kind-blur"]["cover"]
    assert [client.get(f"/{address}").status_code for _ in range(2)] == [404, 404]
    assert len([r for r in loopback.requests if "cover" in r]) == 1


# -------------------------------------------------------------------------------------- one model


def test_a_model_tells_facts_tensors_and_commands(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    names = ["nuclei", "membrane"]
    source = make_package(tmp_path / "p", channels=2, channel_names=names, validate=False)
    Zoo().add(source)
    model = serve().get("/api/models/tiny").json()
    assert model["inputs"][0]["channels"] == names
    assert model["inputs"][0]["summary"].startswith("two channels (nuclei, membrane), 2D")
    assert model["facts"]["Takes"].startswith("two channels")
    assert "zoo run tiny image.tif -o out/" in model["commands"]["shell"]
    assert "Made for tests." in model["documentation"]
    assert model["addition"] is None


def test_one_that_is_not_here_is_described_without_the_network_then_with_its_card(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    loopback.heads = True
    client = serve()
    models(client)
    asked = len(loopback.requests)
    first = client.get("/api/models/kind-blur").json()
    assert (first["name"], first["size"], first["inputs"]) == ("Kind blur", None, [])
    assert len(loopback.requests) == asked
    card = client.get("/api/models/kind-blur/card")
    assert "A box filter, made for tests." in card.text
    then = client.get("/api/models/kind-blur").json()
    assert then["size"] == (collection / "weights.onnx").stat().st_size
    assert then["inputs"][0]["summary"].startswith("one channel, 2D")
    assert client.get("/api/models/kind-blur/package").status_code == 404


def test_words_of_a_package_are_text_in_its_card(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    source = make_package(
        tmp_path / "p",
        id="hostile",
        name="Hostile",
        fields={"description": HOSTILE},
        validate=False,
    )
    (source / "README.md").write_text(
        "# Hi <script>alert(1)</script>\n\n![in](cover.png) ![out](https://example.org/x.png)\n"
    )
    Zoo().add(source)
    client = serve()
    card = client.get("/api/models/hostile/card").text
    assert "<script" not in card
    assert "<img src=x" not in card
    assert "example.org/x.png" not in "".join(part.partition(">")[0] for part in card.split("<img"))
    assert 'src="api/models/hostile/picture?path=cover.png"' in card
    whole = client.get("/api/models/hostile/card.html")
    assert "sandbox" in whole.headers["content-security-policy"]


def test_only_pictures_inside_a_package_are_served(
    serve: Serve, tmp_path: Path, offline: None
) -> None:
    source = make_package(tmp_path / "p", validate=False)
    (source / "secret.txt").write_text("not for the web")
    Zoo().add(source)
    client, get = serve(), "/api/models/tiny/picture"
    assert client.get(get, params={"path": "cover.png"}).status_code == 200
    for path in ("secret.txt", "../../x.png", "/etc/hostname", "weights.onnx", "x.png"):
        assert client.get(get, params={"path": path}).status_code == 404, path
    drawn = client.get("/api/models/tiny/test-picture", params={"tensor": "raw"})
    assert drawn.headers["content-type"] == "image/png"


def test_an_unknown_model_is_a_sentence_with_its_status(serve: Serve, offline: None) -> None:
    client = serve()
    for path in ("nuclei-flu", "nuclei-flu/card", "nuclei-flu/cover"):
        answer = client.get(f"/api/models/{path}")
        assert answer.status_code == 404
        assert "No model is called 'nuclei-flu'. Did you mean nuclei-fluo" in answer.json()["error"]
    for method, path in (("post", "nuclei-flu/add"), ("delete", "nuclei-flu")):
        assert getattr(client, method)(f"/api/models/{path}").status_code == 404


@pytest.mark.parametrize("model", ["/etc/passwd", "..", "https://example.org/x.zip", "tiny/1.0"])
def test_ids_are_never_opened_as_paths_or_addresses(
    serve: Serve, offline: None, model: str
) -> None:
    client = serve()
    for rest in ("/cover", "/card", "/package", ""):
        assert client.get(f"/api/models/{model}{rest}").status_code == 404
    assert client.post(f"/api/models/{model}/add").status_code == 404


# --------------------------------------------------------------------------------- adding, removing


def test_a_model_is_added_with_progress_and_runs_then(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    loopback.heads = True
    client = serve()
    models(client)
    told = added(client, "kind-blur")
    assert (told["state"], told["error"], told["words"]) == ("done", "", "It is in your zoo.")
    files = [f for f in collection.iterdir() if f.is_file()]
    assert told["done"] == told["total"] == sum(f.stat().st_size for f in files)
    kind = models(client)["kind-blur"]
    assert (kind["origin"], kind["badge"]["words"]) == ("installed", "Runs here")
    assert Zoo().get("kind-blur").verify().ok


def test_a_folder_of_the_same_name_is_not_what_is_added(
    serve: Serve, collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is asked for over HTTP is of the collection, whatever lies where the server started."""
    make_package(tmp_path / "cwd" / "kind-blur", id="other", validate=False)
    monkeypatch.chdir(tmp_path / "cwd")
    client = serve()
    models(client)
    assert added(client, "kind-blur")["state"] == "done"
    assert {p.id for p in Zoo().packages()} == {"kind-blur"}


def test_two_who_add_one_model_share_one_download(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    stalled = loopback.stall("/kind-blur/v0/weights.onnx")
    client = serve()
    models(client)
    first = client.post("/api/models/kind-blur/add")
    assert first.status_code == 202
    assert stalled.reached.wait(60)
    second = client.post("/api/models/kind-blur/add").json()
    assert second["id"] == first.json()["id"]
    running = client.get("/api/models/kind-blur").json()["addition"]
    assert (running["id"], running["state"]) == (second["id"], "running")
    stalled.release.set()
    assert ended(client, second["id"])["state"] == "done"
    assert [r for r in loopback.requests if "weights" in r] == ["/kind-blur/v0/weights.onnx"]


def test_cancel_stops_it_and_leaves_nothing(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    weights = collection / "weights.onnx"
    loopback.files["/kind-blur/v0/weights.onnx"] = weights.read_bytes() + bytes(3 * 2**20)
    stalled = loopback.stall("/kind-blur/v0/weights.onnx")
    client = serve()
    models(client)
    addition = client.post("/api/models/kind-blur/add").json()["id"]
    assert stalled.reached.wait(60)
    told = client.post(f"/api/additions/{addition}/cancel").json()
    assert (told["stopping"], told["words"]) == (True, "Stopping.")
    stalled.release.set()
    told = ended(client, addition)
    assert (told["state"], told["error"]) == ("cancelled", "")
    assert models(client)["kind-blur"]["origin"] == "collection"
    assert list(Settings.from_env().models.iterdir()) == []
    loopback.stalls.clear()
    loopback.serve(collection, "/kind-blur/v0")
    assert added(client, "kind-blur")["state"] == "done"  # it can be asked for again


def test_a_failed_addition_says_what_happened_and_what_to_do(
    serve: Serve, collection: Path, loopback: Loopback
) -> None:
    loopback.files["/kind-blur/v0/weights.onnx"] = b"not what was described"
    client = serve()
    models(client)
    told = added(client, "kind-blur")
    assert (told["state"], told["words"]) == ("failed", "It was not added.")
    assert "is not the one described" in told["error"]
    assert "fetch the package again" in told["error"]
    assert list(Settings.from_env().models.iterdir()) == []


def test_a_full_disk_is_told(
    serve: Serve, collection: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve()
    models(client)
    full = shutil.disk_usage(collection)._replace(free=10)
    monkeypatch.setattr("biozoo.files.shutil.disk_usage", lambda _: full)
    told = added(client, "kind-blur")
    assert told["state"] == "failed"
    assert "MB are needed" in told["error"]
    assert "Free some space, or choose another folder" in told["error"]


def test_an_addition_is_streamed_until_it_has_ended(serve: Serve, collection: Path) -> None:
    client = serve()
    models(client)
    addition = client.post("/api/models/kind-blur/add").json()["id"]
    with client.stream("GET", f"/api/additions/{addition}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        lines = [line for line in stream.iter_lines() if line]
    assert {line for line in lines if line.startswith("event")} == {"event: addition"}
    assert json.loads(lines[-1].removeprefix("data: "))["state"] == "done"
    gone = client.get("/api/additions/nothing/events")
    assert (gone.status_code, "add anew" in gone.json()["error"]) == (404, True)


def test_an_installed_model_is_removed_and_a_built_in_one_stays(
    serve: Serve, collection: Path, tmp_path: Path
) -> None:
    Zoo().add(make_package(tmp_path / "own", validate=False))
    client = serve()
    models(client)
    added(client, "kind-blur")
    for model in ("tiny", "kind-blur"):
        assert client.delete(f"/api/models/{model}").status_code == 204
    left = models(client)
    assert "tiny" not in left
    assert left["kind-blur"]["origin"] == "collection"
    refused = client.delete("/api/models/nuclei-fluo")
    assert (refused.status_code, "comes with biozoo" in refused.json()["error"]) == (409, True)
    assert client.delete("/api/models/kind-blur").status_code == 404


@pytest.mark.parametrize("model", ["tiny", "nuclei-fluo"])
def test_a_downloaded_package_is_one_that_can_be_added(
    serve: Serve, tmp_path: Path, offline: None, model: str
) -> None:
    Zoo().add(make_package(tmp_path / "p", validate=False))
    answer = serve().get(f"/api/models/{model}/package")
    assert answer.headers["content-type"] == "application/zip"
    version = Zoo().get(model).version
    assert f"{model}-{version}.zip" in answer.headers["content-disposition"]
    archive = tmp_path / "got.zip"
    archive.write_bytes(answer.content)
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist()[0] == "rdf.yaml"
        assert ".biozoo.json" not in opened.namelist()
        assert opened.testzip() is None
    import biozoo

    package = biozoo.open(archive)
    assert package.id == model
    assert package.path("weights.onnx").read_bytes() == (
        Zoo().get(model).path("weights.onnx").read_bytes()
    )


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("said", "modality", "structure"),
    [
        (("Mitochondria in FIB-SEM",), ("electron",), ("mitochondria",)),
        (("SEM_n2v",), ("electron",), ()),
        (("semantic segmentation",), (), ()),
        (("cell painting",), (), ()),
        (("cell-membrane", "confocal"), ("fluorescence",), ("cells", "membranes")),
        (("H&E Nuclei Segmentation",), ("histology",), ("nuclei",)),
        (("UniFMIRDenoiseOnPlanaria",), (), ("embryos",)),
        (("transmission-light-microscopy", "phase contrast"), ("phase",), ()),
        (("plantseg",), (), ()),
        (("phase", "contrast"), (), ()),
    ],
)
def test_words_tell_kind_of_image_and_structure(
    said: tuple[str, ...], modality: tuple[str, ...], structure: tuple[str, ...]
) -> None:
    summary = ModelSummary(id="m", name=said[0], tags=said[1:])
    assert (modalities(summary), structures(summary)) == (modality, structure)


@pytest.mark.shared
def test_most_published_models_say_what_they_are_for(shared: Path) -> None:
    """Of 101 real descriptions; and each of them gets a badge with a reason."""
    with_modality = with_structure = with_task = 0
    states: Counter[str] = Counter()
    found = sorted((shared / "corpus" / "rdfs").glob("*.yaml"))
    for path in found:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        summary = ModelSummary.from_rdf(raw)
        with_modality += bool(modalities(summary))
        with_structure += bool(structures(summary))
        with_task += bool(summary.task)
        badge = badge_unseen(summary, trust_of(raw))
        assert badge.why.endswith("."), badge
        states[badge.state] += 1
    assert len(found) == 101
    assert with_modality >= 95
    assert with_structure >= 89
    assert with_task == 100
    assert states["trust"] >= 55


def test_no_value_to_filter_by_is_there_twice() -> None:
    for table in (MODALITIES, STRUCTURES):
        assert len({kind.value for kind in table}) == len({kind.label for kind in table})
        assert len({kind.value for kind in table}) == len(table)
