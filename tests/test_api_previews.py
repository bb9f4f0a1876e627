"""Previews: the visible part, at once, beside a job; the newest counts; laid over exactly."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo_runners
from biozoo import ModelPackage, Zoo
from biozoo.errors import UsageError
from biozoo.samples import simulate_nuclei
from biozoo_runners import Image, Runner
from biozoo_runners.images import atomic
from biozoo_runners.kept_tiles import model_digest
from biozoo_runners.sizes import geometry
from http_jobs import BASE, app_of, ended, settings_of, uploaded
from packages import make_package

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.jobs.loaded import LoadedModels
from biozoo_ui.jobs.newest import NewestFirst, SupersededError
from biozoo_ui.jobs.region import MOST, View, region_of

Array = np.ndarray[Any, Any]
NOISE = np.random.default_rng(0).integers(0, 900, (4, 300, 400)).astype(np.uint16)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(settings_of(home))
    zoo.add(make_package(home / "tiny", halo=1, validate=False))
    zoo.add(make_package(home / "half", id="half", scale=2, validate=False))
    zoo.add(make_package(home / "bare", id="bare", valid=True, kernel=5, validate=False))
    zoo.add(make_package(home / "two", id="two", inputs=2, outputs=2, validate=False))
    deep = make_package(home / "deep", id="deep", axes="bczyx", size=(3, 1), validate=False)
    zoo.add(deep)
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    with TestClient(app_of(home), base_url=BASE) as client:
        client.get("/api/health")
        yield client


def view(y: tuple[float, float] = (0, 300), x: tuple[float, float] = (0, 400), **at: int) -> Any:
    return {"y": y, "x": x} | at


def ask(client: TestClient, model: str, image: Any, seen: Any, **choices: Any) -> Any:
    asked = {"model": model, "image": image, "view": seen} | choices
    answer = client.post("/api/previews", json=asked)
    assert answer.status_code == 200, answer.text
    return answer.json()


def pixels(client: TestClient, layer: dict[str, Any]) -> Array:
    """All pixels of a layer's first plane and channel, from its tiles."""
    image = layer["image"]
    tall, wide = image["sizes"]["y"], image["sizes"]["x"]
    found = np.zeros((tall, wide), image["pixels"])
    for row in range(-(-tall // 256)):
        for column in range(-(-wide // 256)):
            at = found[256 * row :, 256 * column :][:256, :256]
            tile = client.get(f"/api/images/{image['id']}/tiles/0/0/0/0/{row}/{column}?v=1")
            at[...] = np.frombuffer(tile.content, found.dtype).reshape(at.shape)
    return found


# ---------------------------------------------------------------------------------- what comes back


def test_nuclei_in_the_visible_part_lie_where_they_are(client: TestClient) -> None:
    sample = simulate_nuclei((300, 640), seed=8, diameter=26)
    image = uploaded(client, sample.image.astype(np.uint16))["id"]
    told = ask(client, "nuclei-fluo", image, view(x=(300.4, 639.2)))
    assert told["region"] == {"y": [0, 300], "x": [300, 640], "z": [0, 1], "time": [0, 1]}
    assert [(one["kind"], one["name"]) for one in told["layers"]] == [
        ("labels", "Labels"), ("probability", "Probability"),
    ]  # fmt: skip
    labels = told["layers"][0]
    assert (labels["at"], labels["scale"]) == ({"y": 0, "x": 300}, None)
    found = pixels(client, labels)
    assert found.max() == told["objects"] > 3
    truth = sample.labels[:, 300:640] > 0
    assert ((found > 0) & truth).sum() > 0.9 * truth.sum()
    assert any("a part of the image" in note for note in told["notes"])
    assert told["report"].startswith("nuclei-fluo ")


def test_a_preview_is_told_from_what_a_user_opened(client: TestClient) -> None:
    image = uploaded(client, NOISE[0])
    [layer] = ask(client, "tiny", image["id"], view())["layers"]
    assert (image["result"], layer["image"]["result"]) == (False, True)
    told = {one["id"]: one["result"] for one in client.get("/api/images").json()}
    assert (told[image["id"]], told[layer["image"]["id"]]) == (False, True)


def test_the_whole_image_is_no_part_and_needs_no_note(client: TestClient) -> None:
    image = uploaded(client, NOISE[0])["id"]
    told = ask(client, "tiny", image, view((-10, 900), (-5, 900)))
    assert told["region"]["y"] == [0, 300]
    assert not any("part of the image" in note for note in told["notes"])


def test_a_preview_equals_the_run_on_the_same_region(client: TestClient, home: Path) -> None:
    image = uploaded(client, NOISE[0])["id"]
    told = ask(client, "tiny", image, view((20, 290), (30, 390)))
    with biozoo_runners.load(Zoo(settings_of(home)).get("tiny"), device="cpu") as runner:
        part = NOISE[0][20:290, 30:390]
        expected = runner(part)["prediction"].values
    np.testing.assert_array_equal(pixels(client, told["layers"][0]), expected.squeeze())


def test_of_a_stack_the_plane_that_is_seen(client: TestClient) -> None:
    image = uploaded(client, np.stack([NOISE, NOISE]), axes="tzyx")["id"]
    told = ask(client, "tiny", image, view(z=3, time=1))
    assert (told["region"]["z"], told["region"]["time"]) == ([3, 4], [1, 2])
    assert told["layers"][0]["at"] == {"y": 0, "x": 0, "z": 3, "time": 1}
    assert told["layers"][0]["image"]["sizes"]["z"] == 1
    middle = ask(client, "tiny", image, view())
    assert (middle["region"]["z"], middle["region"]["time"]) == ([2, 3], [0, 1])


def test_of_a_volume_the_planes_that_the_model_needs(client: TestClient) -> None:
    image = uploaded(client, NOISE, axes="zyx")["id"]
    told = ask(client, "deep", image, view(z=3))
    assert told["region"]["z"] == [1, 4]
    assert told["layers"][0]["at"]["z"] == 1
    assert told["layers"][0]["image"]["sizes"]["z"] == 3


def test_results_of_another_size_are_laid_over_exactly(client: TestClient) -> None:
    image = uploaded(client, NOISE[0])["id"]
    [coarse] = ask(client, "half", image, view((20, 290), (40, 390)))["layers"]
    assert coarse["image"]["sizes"]["y"] == 135
    assert (coarse["at"], coarse["scale"]) == ({"y": 20, "x": 40}, {"y": 2, "x": 2})
    [cropped] = ask(client, "bare", image, view((20, 290), (40, 390)))["layers"]
    assert cropped["image"]["sizes"]["y"] == 266
    assert (cropped["at"], cropped["scale"]) == ({"y": 22, "x": 42}, None)


def test_channel_scale_and_several_images(client: TestClient) -> None:
    image = uploaded(client, NOISE, axes="cyx")["id"]
    told = ask(client, "tiny", image, view(), channel=2, scale=0.5)
    assert told["layers"][0]["image"]["sizes"]["y"] == 300
    assert told["layers"][0]["scale"] is None
    other = uploaded(client, NOISE[0])["id"]
    told = ask(client, "two", {"raw": other, "raw1": image}, view((0, 260)), channel={"raw1": 0})
    assert [one["name"] for one in told["layers"]] == ["Prediction", "Prediction1"]
    assert told["layers"][1]["image"]["sizes"]["y"] == 260


def test_what_cannot_be_previewed_is_a_sentence_of_the_page(client: TestClient) -> None:
    image = uploaded(client, NOISE, axes="cyx")["id"]
    asked = {"model": "tiny", "image": image, "view": view(), "channel": 0}
    for wrong, status, words in (
        ({"view": view((400, 500))}, 422, "shows no part of the image, which has 300 x 400"),
        ({"channel": None}, 422, "takes one channel, the image has 4"),
        ({"channel": 7}, 422, "has no channel '7'"),
        ({"model": "none"}, 404, "none"), ({"image": "none"}, 404, "image"),
        ({"view": {"y": [0, 1]}}, 422, "view"), ({"min_size": -1}, 422, "min_size"),
        ({"min_size": 4}, 422, "gives no labels"),
    ):  # fmt: skip
        answer = client.post("/api/previews", json=asked | wrong)
        assert answer.status_code == status, wrong
        assert words in answer.json()["error"]
        assert "--" not in answer.json()["error"]
    stranger = TestClient(client.app, base_url=BASE)
    assert stranger.post("/api/previews", json=asked).status_code == 404


def test_only_the_last_dozen_of_a_session_stays(client: TestClient) -> None:
    image = uploaded(client, NOISE[0])["id"]
    state = client.app.state.server  # type: ignore[attr-defined]
    made = [ask(client, "tiny", image, view())["layers"][0]["image"]["id"] for _ in range(14)]
    there = [client.get(f"/api/images/{one}").status_code for one in made]
    assert there == [404] * 2 + [200] * 12
    assert client.get(f"/api/images/{image}").status_code == 200
    files = list((state.images.folder / "uploads").rglob("Prediction.ome.tif"))
    assert len(files) == 12


def test_a_full_disk_is_told_and_the_next_preview_works(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = uploaded(client, NOISE[0])["id"]
    asked = {"model": "tiny", "image": image, "view": view()}
    rename = atomic.os.replace

    def full(source: Any, target: Any) -> None:
        if str(target).endswith("Prediction.ome.tif"):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    before = len(client.get("/api/images").json())
    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", full)
        answer = client.post("/api/previews", json=asked)
    assert answer.status_code == 507
    assert answer.json()["error"].startswith("Cannot write the preview: the disk is full")
    assert len(client.get("/api/images").json()) == before
    assert client.post("/api/previews", json=asked).status_code == 200


# ------------------------------------------------------------------------------ beside a job, order


class Hold:
    """Loads runners whose networks wait while `closed` names their model."""

    def __init__(self) -> None:
        self.closed: set[str] = set()
        self.reached, self.go = threading.Event(), threading.Event()
        self.loaded: list[str] = []

    def __call__(self, package: ModelPackage) -> Runner:
        self.loaded.append(package.id)
        runner = biozoo_runners.load(package, device="cpu")
        run = runner.backend.run

        def held(inputs: Mapping[str, Array]) -> dict[str, Array]:
            if package.id in self.closed:
                self.reached.set()
                assert self.go.wait(30)
            return run(inputs)

        runner.backend.run = held  # type: ignore[method-assign,assignment]
        return runner


@pytest.fixture
def hold(client: TestClient) -> Iterator[Hold]:
    models = client.app.state.server.jobs.models  # type: ignore[attr-defined]
    hold, before = Hold(), models._load
    models._load = hold
    yield hold
    hold.go.set()
    models._load = before


def test_a_model_that_was_removed_or_replaced_meanwhile(
    client: TestClient, home: Path, hold: Hold
) -> None:
    image = uploaded(client, NOISE[0])["id"]
    zoo = Zoo(settings_of(home))
    zoo.add(make_package(home / "brief", id="brief", validate=False))
    for _ in range(2):
        ask(client, "brief", image, view())
    assert hold.loaded == ["brief"]  # once for both
    zoo.add(make_package(home / "new", id="brief", kernel=5, validate=False), replace=True)
    ask(client, "brief", image, view())
    assert hold.loaded == ["brief", "brief"]  # the old one is not used
    zoo.remove("brief")
    asked = {"model": "brief", "image": image, "view": view()}
    assert client.post("/api/previews", json=asked).status_code == 404


def test_a_preview_does_not_wait_for_a_running_job(
    client: TestClient, home: Path, hold: Hold
) -> None:
    """Also with the model that the job has: a second instance of it is loaded, then closed."""
    Zoo(settings_of(home)).add(make_package(home / "held", id="held", validate=False))
    image = uploaded(client, NOISE[0])["id"]
    hold.closed = {"held"}
    job = client.post("/api/jobs", json={"model": "held", "image": image}).json()["id"]
    assert hold.reached.wait(30)
    hold.closed = set()
    for model in ("tiny", "held", "held"):
        assert ask(client, model, image, view())["layers"]
        assert client.get(f"/api/jobs/{job}").json()["state"] == "running"
    assert hold.loaded.count("held") == 2
    hold.go.set()
    assert ended(client, job)["state"] == "done"


def test_a_newer_preview_makes_an_older_one_of_the_session_give_up(
    client: TestClient, home: Path, hold: Hold
) -> None:
    Zoo(settings_of(home)).add(make_package(home / "slow", id="slow", validate=False))
    image = uploaded(client, NOISE[0])["id"]
    hold.closed = {"slow"}
    slow = {"model": "slow", "image": image, "view": view()}
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/api/previews", json=slow)
        assert hold.reached.wait(30)
        second = threading.Thread(target=lambda: hold.go.wait(0.3) or hold.go.set())
        second.start()
        assert ask(client, "tiny", image, view())["layers"]
        assert first.result(30).status_code == 409
        assert first.result().json()["error"].startswith("A newer preview was asked for")


def test_the_newest_is_done_first_and_each_owner_has_one() -> None:
    done: list[str] = []
    begun, go = threading.Event(), threading.Event()

    def step(name: str) -> Callable[[Callable[[], bool]], str]:
        def do(stopped: Callable[[], bool]) -> str:
            begun.set()
            assert go.wait(30)
            done.append(name)
            return name

        return do

    with NewestFirst("test") as queue:
        running = queue.ask("a", step("a1"))
        assert begun.wait(30)
        waiting = [queue.ask(name[0], step(name)) for name in ("b1", "c1", "b2", "d1")]
        with pytest.raises(SupersededError, match="A newer preview was asked for"):
            waiting[0].answer.result(0)
        waiting[1].give_up()
        go.set()
        assert [running.answer.result(30), waiting[2].answer.result(30)] == ["a1", "b2"]
    assert done == ["a1", "d1", "b2"]


def test_what_fails_is_told_to_who_asked_and_the_next_is_done() -> None:
    def fails(_: Callable[[], bool]) -> None:
        raise ZeroDivisionError("oh")

    with NewestFirst("test") as queue:
        with pytest.raises(ZeroDivisionError):
            queue.ask("a", fails).answer.result(30)
        assert queue.ask("a", lambda _: 7).answer.result(30) == 7


def test_closing_gives_everything_up() -> None:
    begun = threading.Event()

    def long(stopped: Callable[[], bool]) -> None:
        begun.set()
        while not stopped():
            time.sleep(0.001)

    queue = NewestFirst("test")
    wishes = [queue.ask("a", long)]
    assert begun.wait(30)
    wishes.append(queue.ask("b", long))
    queue.close()
    for wish in wishes:
        with pytest.raises(SupersededError):
            wish.answer.result(0)


# ----------------------------------------------------------------------------------- loaded models


class _Loaded:
    """A runner of nothing."""

    def __init__(self, package: ModelPackage) -> None:
        self.name, self.digest, self.closed = package.id, model_digest(package), False

    def __enter__(self) -> _Loaded:
        return self

    def __exit__(self, *_: object) -> None:
        assert not self.closed
        self.closed = True


def test_a_loaded_model_is_lent_to_one_at_a_time_and_few_stay(home: Path) -> None:
    made: list[_Loaded] = []

    def load(package: ModelPackage) -> Any:
        made.append(_Loaded(package))
        return made[-1]

    zoo = Zoo(settings_of(home))
    packages = {name: zoo.get(name) for name in ("tiny", "half", "two")}
    digests = {name: model_digest(package) for name, package in packages.items()}
    models = LoadedModels(2, load)

    def lend(name: str) -> Any:
        return models.lend(packages[name], digests[name])

    with lend("tiny") as first, lend("tiny") as second:
        assert first is not second
    with lend("tiny") as again, lend("half"):
        assert again in (first, second)
    assert [(one.name, one.closed) for one in made].count(("tiny", True)) == 1
    with lend("two"):  # the longest unused makes room before it is loaded
        assert [one.name for one in made if not one.closed] == ["tiny", "two"]
    other = models.lend(packages["tiny"], "other")
    with pytest.raises(UsageError, match="were changed while it was loaded"), other:
        raise AssertionError
    with lend("two"):
        models.close()
        assert not made[2 if made[2].name == "two" else 3].closed
    assert all(one.closed for one in made)


# ------------------------------------------------------------------------------------------ regions


def _images(**sizes: int) -> Image:
    shape = tuple(sizes.values())
    return Image.from_array(np.zeros(shape, np.uint8), list(sizes))


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        (((0, 4000), (0, 6000)), ((1488, 2512), (2488, 3512))),  # a megapixel around the middle
        (((0, 400), (0, 6000)), ((0, 400), (1689, 4310))),
        (((100.5, 400.2), (10, 400)), ((100, 401), (10, 400))),
        (((0, 20), (5990, 6000)), ((0, 256), (5744, 6000))),  # enlarged within the image
        (((-500, 300), (5000, 9000)), ((0, 300), (5000, 6000))),
    ],
)
def test_the_region_of_a_view(home: Path, seen: Any, expected: Any) -> None:
    model = geometry(Zoo(settings_of(home)).get("tiny").descr)
    region = region_of(model, _images(y=4000, x=6000), View(*seen))
    assert (region["y"], region["x"]) == expected
    (a, b), (c, d) = region["y"], region["x"]
    assert (b - a) * (d - c) <= MOST


def test_a_volumes_region_counts_its_planes(home: Path) -> None:
    model = geometry(Zoo(settings_of(home)).get("deep").descr)
    region = region_of(model, _images(z=30, y=4000, x=4000), View((0, 4000), (0, 4000), z=29))
    assert region["z"] == (27, 30)
    (a, b), (c, d) = region["y"], region["x"]
    assert 0.9 * MOST < 3 * (b - a) * (d - c) <= MOST
    flat = region_of(model, _images(z=2, y=40, x=40), View((0, 40), (0, 40), z=9))
    assert flat == {"z": (0, 2), "y": (0, 40), "x": (0, 40)}
