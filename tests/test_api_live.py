"""Live mode over HTTP: begun on what is seen, refitted after strokes, moved, kept, ended."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr

from biozoo import ModelPackage, Zoo
from biozoo.errors import UsageError
from biozoo_trainers.live import Features, Head, LiveResult
from http_jobs import BASE, app_of, settings_of, uploaded
from packages import make_package, zip_package

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

Array = np.ndarray[Any, Any]
HALVES = np.tile(np.r_[np.full(200, 100), np.full(200, 300)].astype(np.uint16), (300, 1))
"""Dark at the left, bright from x = 200 on: 300 x 400."""


class FakeLive:
    """A threshold on brightness, which is its only feature: 200 until something is painted."""

    def __init__(self, package: ModelPackage, child: Path) -> None:
        self.package, self._child = package, child
        self.classes = ("background", "object")
        self.parent = _head(-200.0)
        self.closed = False
        self.hold: threading.Event | None = None
        self.reached = threading.Event()
        self.given: list[Mapping[str, Any]] = []
        self.facts: Any = None

    def features(
        self,
        image: Any,
        *,
        region: Mapping[str, tuple[int, int]],
        channel: Any = None,
        scale: Any = None,
        cancelled: Callable[[], bool],
    ) -> Features:
        self.given.append({"channel": channel, "scale": scale})
        if self.hold is not None:
            self.reached.set()
            assert self.hold.wait(30)
        if scale == 7:
            raise UsageError("The scale 7 is too large. Choose another with --scale.")
        index = tuple(slice(*region[a]) if a in region else 0 for a in image.axes)
        values = np.asarray(image.reader(index), np.float32)
        space = [a for a in image.axes if a in "zyx" and (a != "z" or values.ndim == 3)]
        data = xr.DataArray(values.reshape(-1, *values.shape[-2:])[:1], dims=("channel", "y", "x"))
        sizes = {a: region[a][1] - region[a][0] for a in space}
        return Features(data, dict(region), sizes, image.name, 0.25, ("padded along x",))

    def refit(self, painted: list[tuple[Features, Array]]) -> Head:
        values = {-1: 0.0, 0: 0.0, 1: 0.0}
        counts = {0: 0, 1: 0}
        for features, scribbles in painted:
            assert scribbles.dtype == np.int32
            assert scribbles.shape == tuple(features.sizes.values())
            for value in counts:
                there = scribbles.reshape(features.values.shape[-2:]) == value
                counts[value] += int(there.sum())
                values[value] += float(features.values.values[0][there].sum())
        if not all(counts.values()):
            raise UsageError("Only one class is painted. Paint background too, or use --prior.")
        middle = sum(values[v] / counts[v] for v in counts) / 2
        return _head(-middle, {v: n for v, n in counts.items() if n})

    def result(self, features: Features, head: Head) -> LiveResult:
        found = features.values + float(head.bias[0]) > 0
        labels = found.isel(channel=0).astype(np.int32)
        return LiveResult(
            {"probability": found.astype(np.float32), "labels": labels},
            {"apply": 0.01, "objects": 0.02},
        )

    def child(self, head: Head, target: Path, *, facts: Any) -> Path:
        self.facts = facts
        return self._child

    def close(self) -> None:
        self.closed = True


def _head(bias: float, pixels: dict[int, int] | None = None) -> Head:
    return Head(np.ones((1, 1), np.float32), np.array([bias], np.float32), pixels=pixels or {})


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(settings_of(home))
    zoo.add(make_package(home / "tiny", validate=False))
    zoo.add(make_package(home / "two", id="two", inputs=2, validate=False))
    zip_package(make_package(home / "child", id="my-tiny", kernel=5))
    return home


@pytest.fixture(scope="module")
def running(home: Path) -> Iterator[TestClient]:
    with TestClient(app_of(home), base_url=BASE) as client:
        client.get("/api/health")
        yield client


@pytest.fixture
def models(running: TestClient, home: Path) -> Iterator[list[FakeLive]]:
    """The live models that the server opens."""
    live = running.app.state.server.live  # type: ignore[attr-defined]
    made: list[FakeLive] = []

    def open_model(package: ModelPackage) -> FakeLive:
        made.append(FakeLive(package, home / "child.zip"))
        return made[-1]

    before, live._open_model = live._open_model, open_model
    yield made
    live._open_model = before


@pytest.fixture
def client(running: TestClient, models: list[FakeLive]) -> TestClient:
    return running


@pytest.fixture
def image(client: TestClient) -> str:
    return str(uploaded(client, own(HALVES))["id"])


_COUNT = itertools.count(1)


def own(pixels: Array) -> Array:
    """Another image each time: annotations of equal ones are found again."""
    pixels = pixels.copy()
    pixels[..., 0, 0] = next(_COUNT)
    return pixels


def view(y: tuple[float, float] = (0, 300), x: tuple[float, float] = (0, 400), **at: int) -> Any:
    return {"y": y, "x": x} | at


def begin(client: TestClient, image: str, seen: Any = None, **choices: Any) -> dict[str, Any]:
    asked = {"model": "tiny", "image": image, "view": seen or view()} | choices
    answer = client.post("/api/live", json=asked)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def scribbles(client: TestClient, image: str) -> str:
    made = client.post("/api/annotations", json={"image": image, "kind": "classes"})
    return str(made.json()["id"])


def paint(client: TestClient, annotation: str, value: int, y: float, x: float) -> None:
    asked = {"tool": "brush", "points": [[y, x]], "radius": 4, "value": value}
    answer = client.post(f"/api/annotations/{annotation}/edits", json=asked)
    assert answer.status_code == 200, answer.text


def refit(client: TestClient, live: str, annotation: str) -> dict[str, Any]:
    answer = client.post(f"/api/live/{live}/refits", json={"annotation": annotation})
    assert answer.status_code == 200, answer.text
    told: dict[str, Any] = answer.json()
    return told


def pixels(client: TestClient, layer: dict[str, Any]) -> Array:
    image = layer["image"]
    path = f"{layer['url']}/tiles/0/0/0/0/0/0?v={image['v']}"
    sizes = image["sizes"]["y"], image["sizes"]["x"]
    return np.frombuffer(client.get(path).content, image["pixels"]).reshape(sizes)


# -------------------------------------------------------------------------------- what is seen


def test_it_begins_with_the_model_as_it_is(client: TestClient, image: str) -> None:
    told = begin(client, image, view(x=(100, 400)), channel=0, scale=1.5)
    assert told["region"] == {"y": [0, 300], "x": [100, 400], "z": [0, 1], "time": [0, 1]}
    assert (told["refit"], told["pixels"], told["objects"], told["whole"]) == (1, {}, 1, False)
    assert (told["classes"], told["notes"]) == (["background", "object"], ["padded along x"])
    assert (told["features_seconds"], told["memory"]) == (0.25, 300 * 300 * 4)
    labels, maps = told["layers"]
    assert [(one["kind"], one["name"]) for one in (labels, maps)] == [
        ("labels", "Labels"), ("probability", "Probability"),
    ]  # fmt: skip
    assert (labels["at"], labels["scale"]) == ({"y": 0, "x": 100}, None)
    assert labels["url"] == f"/api/live/{told['id']}/layers/1/labels"
    found = pixels(client, labels)
    assert (found.shape, found[0, 99], found[0, 100]) == ((300, 300), 0, 1)
    assert pixels(client, maps).dtype == np.float32
    assert client.get(labels["url"]).json() == labels["image"]
    assert client.get(f"/api/live/{told['id']}").json() == told


def test_after_a_stroke_the_overlay_follows_and_after_undo_it_is_back(
    client: TestClient, image: str
) -> None:
    live, annotation = begin(client, image)["id"], scribbles(client, image)
    paint(client, annotation, 1, 150, 300)  # what is bright is background
    paint(client, annotation, 2, 150, 380)
    paint(client, annotation, 2, 100, 30)
    told = refit(client, live, annotation)
    assert told["pixels"] == {"background": 52, "object": 104}
    assert (told["refit"], told["version"], told["strokes"]) == (2, 3, 3)
    assert set(told["seconds"]) == {"paint", "fit", "apply", "objects"}
    labels = told["layers"][0]
    assert pixels(client, labels)[0, 399] == 1  # 250 is the middle of 300 and 200
    for _ in range(3):
        client.post(f"/api/annotations/{annotation}/undo")
    again = refit(client, live, annotation)
    assert (again["pixels"], again["objects"]) == ({}, 1)
    assert client.get(labels["url"] + f"/tiles/0/0/0/0/0/0?v={labels['image']['v']}").is_success


def test_what_was_painted_elsewhere_still_counts(
    client: TestClient, image: str, models: list[FakeLive]
) -> None:
    told, annotation = begin(client, image, view(x=(0, 256))), scribbles(client, image)
    paint(client, annotation, 1, 10, 10)
    paint(client, annotation, 2, 10, 250)
    refit(client, told["id"], annotation)
    moved = client.post(f"/api/live/{told['id']}/views", json={"view": view(x=(144, 400))})
    assert moved.status_code == 200
    assert moved.json()["region"]["x"] == [144, 400]
    assert moved.json()["layers"][0]["url"].endswith("/layers/2/labels")
    assert moved.json()["pixels"] == {"background": 52, "object": 52}  # the last head
    paint(client, annotation, 2, 10, 390)
    told = refit(client, told["id"], annotation)
    assert told["pixels"] == {"background": 52, "object": 3 * 52}  # 250 is seen at both places
    assert told["layers"][0]["at"]["x"] == 144
    assert len(models) == 1


def test_of_a_stack_the_plane_that_is_seen(client: TestClient) -> None:
    stack = np.stack([HALVES, HALVES[:, ::-1], HALVES])
    image = str(uploaded(client, own(stack), axes="zyx")["id"])
    told, annotation = begin(client, image, view(z=1)), scribbles(client, image)
    assert told["layers"][0]["at"] == {"y": 0, "x": 0, "z": 1}
    assert pixels(client, told["layers"][0])[0, 5] == 1
    for z, value, x in ((0, 2, 300), (1, 1, 300), (1, 2, 50)):
        asked = {"tool": "brush", "points": [[9, x]], "radius": 4, "value": value}
        client.post(f"/api/annotations/{annotation}/edits", json=asked | {"plane": {"z": z}})
    assert refit(client, told["id"], annotation)["pixels"] == {"background": 52, "object": 52}


# ---------------------------------------------------------------------------------- keeping


def test_kept_it_is_a_model_of_the_zoo(
    client: TestClient, image: str, models: list[FakeLive]
) -> None:
    live, annotation = begin(client, image)["id"], scribbles(client, image)
    nothing = client.post(f"/api/live/{live}/keep", json={"name": "Mine"})
    assert nothing.status_code == 422
    assert "Paint first" in nothing.json()["error"]
    paint(client, annotation, 1, 10, 10)
    paint(client, annotation, 2, 10, 390)
    refit(client, live, annotation)
    begun = client.post(f"/api/live/{live}/keep", json={"name": " My tiny one "})
    assert begun.status_code == 202
    assert begun.json()["keeping"]["state"] in ("running", "done")
    limit = time.monotonic() + 60
    while (told := client.get(f"/api/live/{live}").json()["keeping"])["state"] == "running":
        assert time.monotonic() < limit
        time.sleep(0.02)
    assert (told["state"], told["model"], told["error"]) == ("done", "my-tiny", "")
    assert client.get("/api/models/my-tiny").json()["name"] == "Tiny blur"
    facts = models[-1].facts
    assert (facts.name, facts.id, facts.strokes) == ("My tiny one", "my-tiny-one", 2)
    client.post(f"/api/live/{live}/keep", json={"name": "Tiny"})
    assert models[-1].facts.id != "tiny"  # there is one of this name already
    assert client.delete("/api/models/my-tiny").status_code in (200, 204)


# -------------------------------------------------------------------------------- refused


def test_what_cannot_be_is_a_sentence_of_the_page(client: TestClient, image: str) -> None:
    asked = {"model": "tiny", "image": image, "view": view()}
    for wrong, status, words in (
        ({"model": "none"}, 404, "none"), ({"image": "none"}, 404, "image"),
        ({"model": "two"}, 422, "models that see one image; 'two' sees 2"),
        ({"view": view((400, 500))}, 422, "shows no part of the image"),
        ({"scale": 7}, 422, "The scale 7 is too large."), ({"surprise": 1}, 422, "surprise"),
    ):  # fmt: skip
        answer = client.post("/api/live", json=asked | wrong)
        assert answer.status_code == status, wrong
        assert words in answer.json()["error"]
        assert "--" not in answer.json()["error"]
    live, annotation = begin(client, image)["id"], scribbles(client, image)
    paint(client, annotation, 2, 10, 10)
    answer = client.post(f"/api/live/{live}/refits", json={"annotation": annotation})
    assert (answer.status_code, answer.json()["error"]) == (422, "Only one class is painted.")
    objects = client.post("/api/annotations", json={"image": image, "kind": "instances"}).json()
    answer = client.post(f"/api/live/{live}/refits", json={"annotation": objects["id"]})
    assert answer.status_code == 422
    assert "learns from scribbles" in answer.json()["error"]
    for path in ("layers/1/none", "layers/2/labels", "layers/1/labels/tiles/9/0/0/0/0/0?v=1"):
        assert client.get(f"/api/live/{live}/{path}").status_code == 404
    answer = client.get(f"/api/live/{live}/layers/1/labels/tiles/0/0/0/0/0/0?v=99")
    assert answer.status_code == 404


def test_a_session_is_its_owners_and_the_last_one_counts(
    client: TestClient, image: str, models: list[FakeLive]
) -> None:
    first = begin(client, image)["id"]
    stranger = TestClient(client.app, base_url=BASE)
    assert stranger.get(f"/api/live/{first}").status_code == 404
    assert stranger.delete(f"/api/live/{first}").status_code == 404
    second = begin(client, image)["id"]
    assert client.get(f"/api/live/{first}").status_code == 404
    assert models[0].closed
    assert client.delete(f"/api/live/{second}").status_code == 204
    assert models[1].closed
    answer = client.get(f"/api/live/{second}")
    assert answer.status_code == 404
    assert "Start it again" in answer.json()["error"]


def test_asked_for_again_the_older_wish_gives_up(
    client: TestClient, image: str, models: list[FakeLive]
) -> None:
    live = begin(client, image)["id"]
    hold = models[0].hold = threading.Event()
    path, asked = f"/api/live/{live}/views", {"view": view(x=(0, 256))}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, path, json=asked)
        assert models[0].reached.wait(30)
        models[0].hold = None
        threading.Timer(0.3, hold.set).start()
        assert client.post(path, json={"view": view(x=(144, 400))}).status_code == 200
        assert first.result(30).status_code == 409
    assert client.get(f"/api/live/{live}").json()["region"]["x"] == [144, 400]


def test_only_some_sessions_stay_open(client: TestClient, home: Path) -> None:
    from biozoo_ui.jobs import Choices, JobImage
    from biozoo_ui.jobs.region import View
    from biozoo_ui.live import LiveSessions

    made: list[FakeLive] = []

    def open_model(package: ModelPackage) -> Any:
        made.append(FakeLive(package, home))
        return made[-1]

    tifffile.imwrite(home / "halves.tif", HALVES)
    package = Zoo(settings_of(home)).get("tiny")
    image = JobImage(home / "halves.tif", "halves.tif", id="i")
    with LiveSessions(open_model, most=2) as sessions:
        for owner in ("a", "b", "c"):
            wish = sessions.open(package, image, View((0, 300), (0, 400)), Choices(), owner=owner)
            wish.answer.result(30)
        assert [one.closed for one in made] == [True, False, False]
    assert all(one.closed for one in made)


def test_an_image_that_was_closed_meanwhile_is_told_by_its_name(
    client: TestClient, models: list[FakeLive]
) -> None:
    image = uploaded(client, HALVES)["id"]
    live = begin(client, image)["id"]
    assert client.delete(f"/api/images/{image}").status_code == 204
    answer = client.post(f"/api/live/{live}/views", json={"view": view(x=(144, 400))})
    assert answer.status_code == 404, answer.text
    error = "The image cells.tif does not exist. Its file was removed; open it again."
    assert answer.json() == {"error": error}
    assert client.get(f"/api/live/{live}").status_code == 200  # what was seen is still there
