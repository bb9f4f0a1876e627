"""Trainings over HTTP: what is asked, watched and decided, and what is refused in words."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import Zoo
from biozoo.install import install_line
from http_jobs import BASE, app_of, settings_of, uploaded
from packages import make_package, zip_package
from training_process import begin_fake, let

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api.trainings import check

RECIPE = {
    "version": 1, "input": "raw", "output": "prediction", "target": {"kind": "image"},
    "patch": {"size": {"y": 32, "x": 32}}, "optimiser": {"steps": 40, "learning_rate": 0.002},
}  # fmt: skip
NO = {"version": 1, "trainable": "no", "why": "Its output depends on the data."}
NOISE = np.random.default_rng(0).integers(0, 900, (2, 300, 400)).astype(np.uint16)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(settings_of(home))
    tiny, fixed = ({"biozoo": {"training": recipe}} for recipe in (RECIPE, NO))
    zoo.add(make_package(home / "tiny", config=tiny, validate=False))
    zoo.add(make_package(home / "fixed", id="fixed", config=fixed, validate=False))
    zip_package(make_package(home / "child", id="tiny-mine", kernel=5))
    for name in ("images", "labels"):
        (home / "mine" / name).mkdir(parents=True)
        tifffile.imwrite(home / "mine" / name / "a.tif", NOISE[0])
    return home


@pytest.fixture(scope="module")
def client(home: Path) -> Iterator[TestClient]:
    app = app_of(home, image_folders=(home / "mine",))
    app.state.server.trainings._queue._begin = begin_fake(home / "child.zip")
    with TestClient(app, base_url=BASE) as client:
        client.get("/api/health")
        yield client


@pytest.fixture
def image(client: TestClient) -> str:
    return str(uploaded(client, NOISE[0])["id"])


def painted(client: TestClient, image: str, kind: str = "instances") -> str:
    asked = {"image": image, "kind": kind, "again": True}
    made = client.post("/api/annotations", json=asked).json()["id"]
    ring = [[20, 20], [20, 60], [60, 60], [60, 20]]
    value = None if kind == "instances" else 2
    asked = {"tool": "outline" if value else "add", "points": ring, "value": value}
    answer = client.post(f"/api/annotations/{made}/edits", json=asked)
    assert answer.status_code == 200, answer.text
    return str(made)


def ask(client: TestClient, **fields: Any) -> dict[str, Any]:
    answer = client.post("/api/trainings", json={"model": "tiny"} | fields)
    assert answer.status_code == 201, answer.text
    told: dict[str, Any] = answer.json()
    return told


def until(client: TestClient, training: str, wanted: Any) -> dict[str, Any]:
    limit = time.monotonic() + 60
    while True:
        told: dict[str, Any] = client.get(f"/api/trainings/{training}").json()
        if wanted(told):
            return told
        assert time.monotonic() < limit, told
        time.sleep(0.02)


def ended(client: TestClient, training: str) -> dict[str, Any]:
    return until(client, training, lambda t: t["state"] not in ("waiting", "running", "paused"))


# --------------------------------------------------------------------------------- what comes back


def test_a_training_on_what_is_painted_tells_curves_verdict_and_layers(
    client: TestClient, image: str
) -> None:
    seen = {"image": image, "view": {"y": (0, 300), "x": (100, 400)}}
    sample = {"image": image, "annotation": painted(client, image)}
    asked = ask(client, samples=[sample], seen=seen, steps=6, channel=0, learning_rate=0.01)
    assert asked["samples"] == [{"id": image, "name": "cells.tif", "labels": "painted"}]
    told = ended(client, asked["id"])
    assert (told["state"], told["error"], told["child"]) == ("done", "", True)
    assert told["choices"] == {
        "channel": 0, "steps": 6, "learning_rate": 0.01, "seed": 0, "held_out": 0.2,
        "split_masks": False, "name": "", "id": "tiny-retrained",
    }  # fmt: skip
    assert [(e["step"], e["score"]) for e in told["epochs"]] == [(3, 0.1 * 3), (6, 0.1 * 6)]
    assert (told["steps"], told["metric"]) == ({"done": 6, "total": 6}, "AP50")
    assert (told["gate"]["passed"], told["gate"]["gain"]) == (True, None)
    assert told["gate"]["why"] == "It is better than its parent."
    assert told["seen"] == image
    [layer] = told["preview"]
    assert (layer["kind"], layer["at"], told["preview_epoch"]) == ("labels", {"y": 0, "x": 100}, 2)
    assert [told[name][0]["file"] for name in ("before", "after")] == [
        "before.labels.ome.tif", "after.labels.ome.tif",
    ]  # fmt: skip
    opened = client.post(f"/api/trainings/{told['id']}/files/{layer['file']}/image")
    assert opened.status_code == 201
    assert (opened.json()["kind"], opened.json()["result"]) == ("labels", True)
    file = client.get(f"/api/trainings/{told['id']}/files/{layer['file']}")
    assert file.content[:2] == b"II"
    other = client.get(f"/api/trainings/{told['id']}/files/training.json")
    assert other.status_code == 404
    assert client.get("/api/trainings").json()["trainings"][0]["id"] == told["id"]


def test_images_of_labels_and_folders_of_this_machine(
    client: TestClient, home: Path, image: str
) -> None:
    labels = uploaded(client, NOISE[1], name="labels.tif")["id"]
    told = ask(client, samples=[{"image": image, "labels": labels}], name=" My Cells, blue! ")
    assert (told["choices"]["name"], told["choices"]["id"]) == ("My Cells blue", "my-cells-blue")
    assert told["samples"][0]["labels"] == "labels.tif"
    folders = {"images": "images", "labels": str(home / "mine" / "labels")}
    told = ask(client, folders=folders, name="my cells blue")
    assert told["choices"]["id"] == "my-cells-blue-2"
    assert told["folders"] == [str(home / "mine" / name) for name in ("images", "labels")]
    assert told["samples"] == []
    refused = client.post("/api/trainings", json={"model": "tiny", "folders": {"images": "/etc"}})
    assert refused.status_code == 403


def test_its_events_end_with_it(client: TestClient, image: str) -> None:
    training = ask(client, samples=[{"image": image}])["id"]
    with client.stream("GET", f"/api/trainings/{training}/events") as stream:
        lines = [line for line in stream.iter_lines() if line]
    assert set(lines[::2]) == {"event: training"}
    last = json.loads(lines[-1].removeprefix("data: "))
    assert last == client.get(f"/api/trainings/{training}").json()
    assert last["state"] == "done"


def test_kept_undone_discarded(client: TestClient, image: str) -> None:
    training = ask(client, samples=[{"image": image}])["id"]
    path = f"/api/trainings/{training}"
    assert client.post(f"{path}/keep").status_code == 409
    ended(client, training)
    kept = client.post(f"{path}/keep").json()
    assert (kept["decision"], kept["kept"]) == ("kept", "tiny-mine")
    assert client.get("/api/models/tiny-mine").status_code == 200
    assert client.post(f"{path}/discard").status_code == 409
    assert client.post(f"{path}/undo").json()["decision"] == ""
    assert client.get("/api/models/tiny-mine").status_code == 404
    told = client.post(f"{path}/discard").json()
    assert (told["decision"], told["child"]) == ("discarded", False)
    assert client.post(f"{path}/keep").status_code == 409
    assert client.delete(path).status_code == 204
    assert client.get(path).status_code == 404


def test_paused_cancelled_and_resumed(client: TestClient, home: Path, image: str) -> None:
    training = ask(client, samples=[{"image": image}], seed=3)["id"]
    path, folder = f"/api/trainings/{training}", home / "trainings" / training
    let(folder, 3)
    told = until(client, training, lambda t: t["steps"]["done"] == 3)
    assert (told["state"], told["stage"], told["loss"]) == ("running", "Trains", 1 / 3)
    assert told["seconds_left"] == 997
    assert client.post(f"{path}/pause").json()["state"] == "paused"
    assert client.post(f"{path}/resume").json()["state"] == "running"
    assert client.delete(path).status_code == 409
    assert client.post(f"{path}/cancel").json()["stopping"]
    told = ended(client, training)
    assert (told["state"], told["resumable"], told["stage"]) == ("cancelled", True, None)
    assert client.post(f"{path}/pause").status_code == 409
    assert client.post(f"{path}/resume").json()["state"] in ("waiting", "running")
    let(folder, 4)
    until(client, training, lambda t: t["steps"]["done"] == 4)
    client.post(f"{path}/cancel")
    ended(client, training)


# --------------------------------------------------------------------------------- what is refused


def test_a_failure_is_told_in_words_of_the_page(client: TestClient, image: str) -> None:
    told = ended(client, ask(client, samples=[{"image": image}], seed=1)["id"])
    assert (told["state"], told["error"]) == ("failed", "All labels are empty.")


def test_bad_input_is_a_sentence(client: TestClient, image: str) -> None:
    sample = {"image": image}
    for wrong, status, words in (
        ({"samples": []}, 422, "give samples, or folders"),
        ({"samples": [sample], "folders": {"images": "images"}}, 422, "not both"),
        ({"samples": [{"image": "none"}]}, 404, "image"),
        ({"samples": [{"image": image, "annotation": "0" * 32}]}, 404, "annotation"),
        ({"samples": [{"image": image, "annotation": "a", "labels": "b"}]}, 422, "Give one"),
        ({"samples": [sample], "model": "none"}, 404, "none"),
        ({"samples": [sample], "steps": 0}, 422, "steps"),
        ({"samples": [sample], "held_out": 1}, 422, "held_out"),
        ({"samples": [sample], "surprise": 1}, 422, "surprise"),
        ({"samples": [sample], "seen": {"image": image, "view": {"y": (400, 500), "x": (0, 9)}}},
         422, "shows no part of the image"),
    ):  # fmt: skip
        answer = client.post("/api/trainings", json={"model": "tiny"} | wrong)
        assert answer.status_code == status, (wrong, answer.text)
        assert words in answer.json()["error"]
    for verb in ("pause", "resume", "cancel", "keep", "discard", "undo"):
        assert client.post(f"/api/trainings/0123456789abcdef/{verb}").status_code == 404


def test_scribbles_and_objects_are_not_learned_together(client: TestClient, image: str) -> None:
    kinds = ("classes", "instances")
    samples = [{"image": image, "annotation": painted(client, image, kind)} for kind in kinds]
    answer = client.post("/api/trainings", json={"model": "tiny", "samples": samples})
    assert answer.status_code == 422
    assert "one kind of labels" in answer.json()["error"]


def test_another_sessions_training_does_not_exist(client: TestClient, image: str) -> None:
    training = ask(client, samples=[{"image": image}])["id"]
    stranger = TestClient(client.app, base_url=BASE)
    assert stranger.get("/api/trainings").json() == {"trainings": []}
    for path in ("", "/events"):
        assert stranger.get(f"/api/trainings/{training}{path}").status_code == 404
    assert stranger.post(f"/api/trainings/{training}/keep").status_code == 404
    assert stranger.delete(f"/api/trainings/{training}").status_code == 404


def test_whether_a_model_can_be_retrained_and_how(client: TestClient, image: str) -> None:
    told = client.post("/api/trainings/checks", json={"model": "tiny"}).json()
    assert (told["possible"], told["declared"], told["supplies"]) == (True, True, "image")
    assert (told["steps"], told["learning_rate"]) == (40, 0.002)
    assert told["recipe"]["target"] == {"kind": "image"}
    told = client.post("/api/trainings/checks", json={"model": "fixed"}).json()
    assert not told["possible"]
    assert told["why"].startswith("Its output depends on the data. Live mode may work")
    answer = client.post("/api/trainings", json={"model": "fixed", "samples": [{"image": image}]})
    assert answer.status_code == 422
    assert "'fixed' cannot be retrained: Its output depends" in answer.json()["error"]


def test_without_the_libraries_the_install_line_and_live_mode_are_told(
    client: TestClient, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(check, "LIBRARIES", {"no_such_module": "Nothing"})
    told = client.post("/api/trainings/checks", json={"model": "tiny"}).json()
    assert not told["possible"]
    assert told["install"] == install_line("train")
    for words in ("not installed here: Nothing.", "Live mode needs none"):
        assert words in told["why"]
    answer = client.post("/api/trainings", json={"model": "tiny", "samples": [{"image": image}]})
    assert answer.status_code == 501
    assert install_line("train") in answer.json()["error"]
