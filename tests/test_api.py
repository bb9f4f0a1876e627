"""The HTTP routes, the guard around them and Gradio, and what runs leave behind."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import Settings, Zoo
from biozoo.errors import BackendError, NotFoundError, UsageError
from packages import make_package

pytest.importorskip("fastapi")
pytest.importorskip("gradio")

from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app, layers
from biozoo_ui.api.catalog import Catalog
from biozoo_ui.api.runs import Run, RunRequest, Runs
from biozoo_ui.api.sample import sample_image

TOKEN = "a-token-of-some-length"
HOSTILE = "${window.pwned = 1} {{value}} <img src=x onerror=alert(1)>"


@pytest.fixture(scope="session")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """A zoo with the built-in models, a plain one and one whose words are an attack."""
    home = tmp_path_factory.mktemp("home")
    settings = Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)
    store = Zoo(settings)
    store.add(make_package(home / "tiny-source", validate=False))
    hostile = make_package(
        home / "hostile-source",
        id="hostile",
        name="Hostile",
        fields={"description": HOSTILE},
        validate=False,
    )
    (hostile / "README.md").write_text(
        "# Hi <script>alert(1)</script>\n\n![in](cover.png) ![out](https://example.org/x.png)\n"
    )
    (hostile / "secret.txt").write_text("not for the web")
    store.add(hostile)
    return settings


@pytest.fixture(scope="session")
def app(zoo: Settings) -> Any:
    """One application with its pages for all tests: importing Gradio takes seconds."""
    return create_app(ServerSettings(zoo))


@pytest.fixture(scope="session")
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://127.0.0.1:7860") as client:
        yield client


def _wait(runs: Runs, request: RunRequest) -> Run:
    run = runs.start(request)
    assert run.wait(30)
    return run


# ---------------------------------------------------------------------------------------- models


def test_models_are_listed_with_what_a_card_shows(client: TestClient) -> None:
    models = {m["id"]: m for m in client.get("/api/models").json()["models"]}
    assert {"nuclei-fluo", "tiny", "hostile"} <= set(models)
    tiny = models["tiny"]
    assert (tiny["name"], tiny["dimensions"], tiny["origin"]) == ("Tiny blur", "2D", "installed")
    assert tiny["runs"] is True
    assert client.get("/api/health").json() == {"status": "ok", "models": len(models)}


def test_search_narrows_and_no_words_find_all(client: TestClient) -> None:
    everything = client.get("/api/search").json()["ids"]
    assert client.get("/api/search", params={"words": "blur tiny"}).json() == {"ids": ["tiny"]}
    assert client.get("/api/search", params={"words": "zebrafish"}).json() == {"ids": []}
    assert set(everything) >= {"tiny", "nuclei-fluo"}


def test_a_model_has_facts_and_its_cover_is_served(client: TestClient) -> None:
    model = client.get("/api/models/tiny").json()
    assert model["facts"]["Takes"].startswith("one channel, 2D, any bit depth")
    cover = client.get("/api/models/tiny/cover")
    assert cover.headers["content-type"] == "image/png"
    assert cover.content.startswith(b"\x89PNG")


def test_an_unknown_model_is_a_sentence_with_its_status(client: TestClient) -> None:
    answer = client.get("/api/models/tny")
    assert answer.status_code == 404
    assert "No model is called 'tny'. Did you mean tiny?" in answer.json()["error"]


@pytest.mark.parametrize("model_id", ["/etc/passwd", "..", "https://example.org/x.zip", "tiny/1.0"])
def test_ids_are_never_opened_as_paths_or_addresses(client: TestClient, model_id: str) -> None:
    assert client.get(f"/api/models/{model_id}/cover").status_code == 404


def test_only_pictures_inside_a_package_are_served(client: TestClient) -> None:
    get = "/api/models/hostile/picture"
    assert client.get(get, params={"path": "cover.png"}).status_code == 200
    for path in ("secret.txt", "../tiny/1.0/cover.png", "/etc/hostname", "weights.onnx", "x.png"):
        assert client.get(get, params={"path": path}).status_code == 404, path


def test_every_error_is_json_with_an_error(client: TestClient) -> None:
    for path in ("/api/nothing", "/api/runs/none", "/api/previews/..%2f..%2fx.png"):
        answer = client.get(path)
        assert answer.status_code == 404, path
        assert isinstance(answer.json()["error"], str)


# ----------------------------------------------------------------------------------------- guard


def test_off_loopback_a_token_is_demanded(zoo: Settings) -> None:
    with pytest.raises(UsageError, match="Give a token"):
        ServerSettings(zoo, host="0.0.0.0")
    with pytest.raises(UsageError, match="too short"):
        ServerSettings(zoo, host="0.0.0.0", token="short")
    assert ServerSettings(zoo, host="0.0.0.0", token=TOKEN).token == TOKEN
    for host in ("127.0.0.1", "localhost", "::1", "127.0.0.2"):
        ServerSettings(zoo, host=host)


def test_with_a_token_nothing_answers_without_it(zoo: Settings) -> None:
    """Own routes and Gradio's alike, those included that Gradio's own guard leaves open."""
    from biozoo_ui.api.guard import Guard

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"in"})

    guarded = Guard(inner, settings=ServerSettings(zoo, host="0.0.0.0", token=TOKEN))
    client = TestClient(guarded, base_url="http://10.0.0.5:7860", follow_redirects=False)
    for path in ("/", "/api/models", "/gradio_api/heartbeat/x", "/assets/x.js", "/theme.css"):
        assert client.get(path).status_code == 401, path
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
        right = client.get(path, headers={"authorization": f"Bearer {TOKEN}"})
        assert right.text == "in"
    assert client.get("/?token=wrong").status_code == 401
    first = client.get(f"//evil.example/?token={TOKEN}&a=b")
    assert (first.status_code, first.headers["location"]) == (303, "/?a=b")
    assert "HttpOnly" in first.headers["set-cookie"]
    assert client.get("/").text == "in"  # the cookie is kept


def test_on_loopback_foreign_names_and_origins_are_refused(client: TestClient) -> None:
    assert client.get("/api/health", headers={"host": "evil.example"}).status_code == 403
    assert client.get("/", headers={"host": "evil.example:7860"}).status_code == 403
    assert client.get("/api/health", headers={"host": "localhost:7860"}).status_code == 200
    foreign = {"origin": "https://evil.example"}
    assert client.post("/gradio_api/upload", headers=foreign).status_code == 403
    assert client.delete("/api/runs/none", headers=foreign).status_code == 403
    assert client.delete("/api/runs/none").status_code == 404


# ----------------------------------------------------------------------------------------- pages


def test_the_page_names_no_foreign_address_to_fetch(client: TestClient) -> None:
    page = client.get("/").text
    fetched = re.findall(
        r"""<(?:script|link|img|iframe)[^>]*?(?:src|href)=["'](http[^"']*)""", page
    )
    assert [a for a in fetched if "127.0.0.1" not in a] == []
    assert client.get("/").headers["content-security-policy"].startswith("default-src 'self'")
    assert "fonts.googleapis" not in page + client.get("/theme.css").text


def test_no_event_of_the_page_is_a_public_endpoint(client: TestClient) -> None:
    info = client.get("/gradio_api/info").json()
    assert info == {"named_endpoints": {}, "unnamed_endpoints": {}}


def test_words_of_a_package_reach_the_page_escaped_and_in_no_template(client: TestClient) -> None:
    config = client.get("/config").json()
    for component in config["components"]:
        props = component["props"]
        assert "pwned" not in str(props.get("html_template", ""))
        assert "<img src=x" not in str(props.get("value", ""))
    assert any("pwned" in str(c["props"].get("value", "")) for c in config["components"])


# ------------------------------------------------------------------------------------------ runs


def test_a_run_leaves_labels_maps_pictures_and_its_command(
    client: TestClient, app: Any, zoo: Settings, tmp_path: Path
) -> None:
    runs = Runs(tmp_path / "runs")
    package = Catalog(zoo).package("nuclei-fluo")
    sample = sample_image(package, tmp_path / "samples")
    assert isinstance(sample.image, Path)
    try:
        run = _wait(
            runs,
            RunRequest(
                package, sample.image, sample.name, sample=True, sample_command=sample.command
            ),
        )
    finally:
        runs.close()
    assert run.state == "done", run.error
    assert run.outcome is not None
    labels = tifffile.imread(run.folder / "cells.labels.ome.tif")
    assert labels.shape == (512, 512)
    assert run.outcome.objects == len(np.unique(labels)) - 1 > 10
    assert [d.file for d in run.outcome.downloads] == [
        "cells.labels.ome.tif",
        "cells.probability.ome.tif",
        "cells.ome.tif",
    ]
    assert run.outcome.command == (
        "zoo sample nuclei -o cells.ome.tif\nzoo run nuclei-fluo cells.ome.tif -o out/"
    )
    kinds = [layer.kind for layer in run.outcome.layers]
    assert kinds == ["objects", "outlines", "map", "map", "map"]
    for layer in run.outcome.layers:
        assert (run.folder / f"{layer.key}.png").read_bytes().startswith(b"\x89PNG")


def test_a_run_is_served_while_it_is_kept(client: TestClient, app: Any, zoo: Settings) -> None:
    state = app.state.server
    package = Catalog(zoo).package("tiny")
    sample = sample_image(package, state.samples)
    run = _wait(state.runs, RunRequest(package, sample.image, "my image.tif", channel=0))
    assert run.state == "done", run.error
    told = client.get(f"/api/runs/{run.id}").json()
    assert (told["state"], told["model"]) == ("done", "tiny")
    assert told["command"] == "zoo run tiny 'my image.tif' -o out/ --channel 0"
    file = client.get(told["files"][0])
    assert 'filename="my image.prediction.ome.tif"' in file.headers["content-disposition"] or (
        "my%20image.prediction.ome.tif" in file.headers["content-disposition"]
    )
    assert client.get(f"/api/runs/{run.id}/layers/image.png").status_code == 200
    for path in ("layers/other.png", "files/image.png", "files/..%2fx"):
        assert client.get(f"/api/runs/{run.id}/{path}").status_code == 404


class _Fake:
    """A runner that waits for its turn, so that a test can look while it runs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.closed, self.tiles = error, False, 0
        self.go = threading.Event()

    def __enter__(self) -> _Fake:
        return self

    def __exit__(self, *_: object) -> None:
        self.closed = True

    def __call__(self, *_: Any, on_progress: Any, cancelled: Any, **__: Any) -> Any:
        from biozoo.errors import Cancelled
        from biozoo_runners import Progress

        if self.error:
            raise self.error
        for done in range(1000):
            if cancelled():
                raise Cancelled
            on_progress(Progress(done, 1000, "tiles"))
            self.tiles = done
            time.sleep(0.005)
        raise AssertionError("nobody stopped it")


def _runs(folder: Path, load: Any, **options: int) -> Runs:
    return Runs(folder, load=load, **options)


def _request(zoo: Settings) -> RunRequest:
    return RunRequest(Catalog(zoo).package("tiny"), Path("x.tif"), "x.tif")


def test_cancel_stops_the_runner_and_leaves_nothing(zoo: Settings, tmp_path: Path) -> None:
    fake = _Fake()
    runs = _runs(tmp_path, lambda _: fake)
    run = runs.start(_request(zoo))
    while run.seconds_left is None:
        time.sleep(0.005)
    assert 0 < run.seconds_left < 60
    run.cancel()
    assert run.wait(5)
    assert (run.state, run.error[:15]) == ("cancelled", "The run was sto")
    assert fake.tiles < 999
    assert not run.folder.exists()
    runs.close()
    assert fake.closed


def test_closing_the_server_stops_what_runs_and_what_waits(zoo: Settings, tmp_path: Path) -> None:
    fake = _Fake()
    runs = _runs(tmp_path, lambda _: fake)
    first, second = runs.start(_request(zoo)), runs.start(_request(zoo))
    while first.progress is None:
        time.sleep(0.005)
    assert second.state == "waiting"
    runs.close()
    assert first.state == "cancelled"
    assert fake.closed


def test_an_error_is_its_sentence_and_an_unforeseen_one_ends_the_run_too(
    zoo: Settings, tmp_path: Path
) -> None:
    for error, sentence in (
        (BackendError("The network failed."), "The network failed."),
        (ZeroDivisionError("oh"), "nobody foresaw: ZeroDivisionError"),
    ):
        runs = _runs(tmp_path, lambda _, e=error: _Fake(e))
        run = _wait(runs, _request(zoo))
        assert run.state == "failed"
        assert sentence in run.error
        runs.close()


def test_old_runs_lose_their_files(zoo: Settings, tmp_path: Path) -> None:
    runs = _runs(tmp_path, lambda _: _Fake(BackendError("no")), kept=1)
    old = [_wait(runs, _request(zoo)) for _ in range(3)]
    assert runs.get(old[-1].id) is old[-1]
    with pytest.raises(NotFoundError, match="run it again"):
        runs.get(old[0].id)
    runs.close()


def test_few_models_stay_loaded(zoo: Settings, tmp_path: Path) -> None:
    """The least recently used one is closed before another is loaded."""
    made: list[_Fake] = []

    def load(_: object) -> _Fake:
        assert all(fake.closed for fake in made)
        made.append(_Fake(BackendError("no")))
        return made[-1]

    runs = _runs(tmp_path, load, loaded=1)
    other = RunRequest(Catalog(zoo).package("hostile"), Path("x.tif"), "x.tif")
    for request in (_request(zoo), _request(zoo), other, _request(zoo)):
        _wait(runs, request)
    assert len(made) == 3
    runs.close()
    assert made[-1].closed


def test_the_working_folder_goes_with_the_server(zoo: Settings) -> None:
    app = create_app(ServerSettings(zoo), pages=False)
    folder = app.state.server.folder
    with TestClient(app, base_url="http://localhost") as client:
        assert client.get("/api/health").status_code == 200
        assert folder.is_dir()
    assert not folder.exists()


# ---------------------------------------------------------------------------------------- layers


def test_what_is_shown_is_one_thinned_plane() -> None:
    chosen = layers.selection({"time": 3, "channel": 2, "z": 9, "y": 4000, "x": 100})
    assert chosen == {"time": 0, "z": 4, "y": slice(None, None, 3), "x": slice(None, None, 3)}
    assert layers.where({"z": 9, "time": 3}) == "plane 5 of 9 of the first of 3 time points"
    assert layers.where({"y": 9}) == ""
    assert layers.where({"y": 4000, "x": 9}) == "one of every 3 x 3 pixels"


def test_objects_are_clear_outside_and_outlines_are_rims() -> None:
    import io

    from PIL import Image

    labels = np.zeros((40, 50), np.int32)
    labels[5:25, 10:30] = 256  # a number beyond the palette still gets a colour
    filled = np.asarray(Image.open(io.BytesIO(layers.objects(labels))).convert("RGBA"))
    assert (filled[..., 3] > 0).tolist() == (labels > 0).tolist()
    rim = np.asarray(Image.open(io.BytesIO(layers.outlines(labels))).convert("RGBA"))[..., 3] > 0
    assert rim.sum() == 4 * 20 - 4
    assert not rim[labels == 0].any()


def test_values_from_0_to_1_go_from_clear_to_solid() -> None:
    import io

    from PIL import Image

    values = np.array([[0, 0.5, 1, np.nan]], np.float32)
    alpha = np.asarray(Image.open(io.BytesIO(layers.value_map(values))).convert("RGBA"))[..., 3]
    assert alpha.tolist() == [[0, 127, 255, 0]]


def test_the_sample_of_any_model_runs_and_its_command_is_complete(
    zoo: Settings, tmp_path: Path
) -> None:
    """Also where it takes several images: each is offered, and named in the command."""
    source = make_package(tmp_path / "two", id="two", inputs=2, outputs=2, validate=False)
    package = Zoo(zoo).add(source)
    sample = sample_image(package, tmp_path / "samples")
    runs = Runs(tmp_path / "runs")
    run = _wait(runs, RunRequest(package, sample.image, sample.name, sample=True))
    runs.close()
    Zoo(zoo).remove("two")
    assert run.outcome is not None, run.error
    assert {d.file for d in run.outcome.downloads} >= {"two.raw.ome.tif", "two.raw1.ome.tif"}
    assert run.outcome.command == ("zoo run two raw=two.raw.ome.tif raw1=two.raw1.ome.tif -o out/")
    assert len(run.outcome.layers) == 2
