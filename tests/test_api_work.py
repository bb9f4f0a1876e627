"""Jobs and trainings in one list: how each stands, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo import Zoo
from biozoo_ui.trainings.events import Events
from http_jobs import BASE, app_of, ended, settings_of, uploaded
from packages import make_package, zip_package
from scripted_training import Scripted

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

RECIPE = {
    "version": 1, "input": "raw", "output": "prediction", "target": {"kind": "image"},
    "patch": {"size": {"y": 32, "x": 32}}, "optimiser": {"steps": 40, "learning_rate": 0.002},
}  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    config = {"biozoo": {"training": RECIPE}}
    Zoo(settings_of(home)).add(make_package(home / "tiny", config=config, validate=False))
    zip_package(make_package(home / "child", id="tiny-mine", kernel=5))
    return home


@pytest.fixture
def processes() -> list[Scripted]:
    return []


@pytest.fixture
def client(
    home: Path, processes: list[Scripted], monkeypatch: pytest.MonkeyPatch
) -> Iterator[TestClient]:
    from biozoo_ui.api.trainings import routes

    monkeypatch.setattr(routes, "lacking", str)
    app = app_of(home)

    def begin(place: Any) -> Scripted:
        processes.append(Scripted())
        return processes[-1]

    app.state.server.trainings._queue._begin = begin
    with TestClient(app, base_url=BASE) as client:
        client.get("/api/health")
        yield client


def test_jobs_and_trainings_are_one_list(
    client: TestClient, processes: list[Scripted], home: Path
) -> None:
    image = uploaded(client, np.ones((40, 60), np.uint16))["id"]
    job = client.post("/api/jobs", json={"model": "tiny", "image": image}).json()["id"]
    ended(client, job)
    samples = [{"image": image, "labels": image}] * 2
    asked = {"model": "tiny", "samples": samples, "name": "Tiny, mine"}
    training = client.post("/api/trainings", json=asked).json()["id"]
    live = client.app.state.server.trainings  # type: ignore[attr-defined]
    while not processes:
        live.wait(training, 0.01)
    place = live._place(training)
    events = Events(place.events)
    events.tell("facts", step=4, steps=40, seconds_left=9)

    first, second = client.get("/api/work").json()["work"]
    assert {name: first[name] for name in ("kind", "id", "url", "model", "on", "state")} == {
        "kind": "training", "id": training, "url": f"/api/trainings/{training}", "model": "tiny",
        "on": "2 images", "state": "running",
    }  # fmt: skip
    assert (first["progress"], first["unit"]) == ({"done": 4, "total": 40}, "steps")
    assert (first["seconds_left"], first["can"]) == (9, ["pause", "cancel"])
    assert (second["kind"], second["id"], second["url"]) == ("job", job, f"/api/jobs/{job}")
    assert (second["on"], second["state"], second["unit"]) == ("cells.tif", "done", "tiles")
    assert (second["progress"], second["can"]) == ({"done": 1, "total": 1}, ["delete"])
    alike = {"id", "model", "version", "state", "created", "started", "ended", "error", "choices"}
    told = client.get(second["url"]).json()
    assert {name: told[name] for name in alike} == {name: second[name] for name in alike}

    assert client.post(f"{first['url']}/pause").json()["state"] == "paused"
    assert _first(client)["can"] == ["resume", "cancel"]
    assert client.post(f"{first['url']}/resume").json()["state"] == "running"
    (home / "child.zip").rename(place.path / "child.zip")
    events.tell("gate", report={"passed": True, "why": "It is better."})
    events.tell("facts", child="child.zip")
    events.tell("end", state="done", error="")
    events.close()
    processes[0].finish(0)
    live.wait(training, 30)
    done = _first(client)
    assert (done["state"], done["better"], done["child"]) == ("done", True, True)
    assert done["can"] == ["keep", "discard", "delete"]
    assert client.post(f"{done['url']}/keep").json()["kept"] == "tiny-mine"
    assert (_first(client)["can"], _first(client)["kept"]) == (["undo", "delete"], "tiny-mine")
    assert client.delete(done["url"]).status_code == 204
    assert [one["kind"] for one in client.get("/api/work").json()["work"]] == ["job"]


def test_what_stops_or_ended_can_be_asked_for_little(
    client: TestClient, processes: list[Scripted]
) -> None:
    image = uploaded(client, np.ones((40, 60), np.uint16))["id"]
    asked = {"model": "tiny", "samples": [{"image": image, "labels": image}]}
    training = client.post("/api/trainings", json=asked).json()["id"]
    live = client.app.state.server.trainings  # type: ignore[attr-defined]
    while not processes:
        live.wait(training, 0.01)
    assert client.post(f"/api/trainings/{training}/cancel").json()["stopping"]
    assert (_first(client)["stopping"], _first(client)["can"]) == (True, [])
    processes[0].finish(0)
    live.wait(training, 30)
    assert (_first(client)["state"], _first(client)["can"]) == ("cancelled", ["resume", "delete"])


def test_the_list_is_its_sessions_own(client: TestClient) -> None:
    asked = {"model": "tiny", "image": uploaded(client, np.ones((40, 60), np.uint16))["id"]}
    job = client.post("/api/jobs", json=asked).json()["id"]
    assert job in [one["id"] for one in client.get("/api/work").json()["work"]]
    client.cookies.clear()
    assert client.get("/api/work").json() == {"work": []}


def _first(client: TestClient) -> dict[str, Any]:
    found: dict[str, Any] = client.get("/api/work").json()["work"][0]
    return found
