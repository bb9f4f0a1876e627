"""The whole way by HTTP: an image is opened, a model run on it as a job, its result looked at."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import Settings
from biozoo.samples import simulate_nuclei
from http_jobs import ended

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app

BASE = "http://127.0.0.1:7860"


def app_of(home: Path) -> Any:
    zoo = Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)
    return create_app(ServerSettings(zoo), pages=False)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(app_of(tmp_path / "home"), base_url=BASE) as client:
        client.get("/api/health")  # brings the session
        yield client


def upload(client: TestClient, path: Path, name: str = "cells.tif") -> dict[str, Any]:
    answer = client.post(f"/api/images/uploads?name={name}", content=path.read_bytes())
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def test_from_an_upload_to_the_labels_of_its_nuclei(client: TestClient, tmp_path: Path) -> None:
    sample = simulate_nuclei((200, 240), seed=8, diameter=26)
    tifffile.imwrite(tmp_path / "cells.tif", sample.image.astype(np.uint16))
    image = upload(client, tmp_path / "cells.tif")
    made = client.post("/api/jobs", json={"model": "nuclei-fluo", "image": image["id"]})
    assert made.status_code == 201, made.text
    job = ended(client, made.json()["id"])
    assert job["state"] == "done", job["error"]
    assert job["image"] == {"id": image["id"], "name": "cells.tif"}
    assert abs(job["objects"] - sample.labels.max()) <= 0.2 * sample.labels.max()
    [file] = [f for f in job["files"] if f["kind"] == "labels"]
    shown = client.post(f"{file['url']}/image")
    assert shown.status_code == 201, shown.text
    labels = shown.json()
    assert (labels["kind"], labels["pixels"]) == ("labels", "uint32")
    assert (labels["sizes"]["y"], labels["sizes"]["x"]) == (200, 240)
    tile = client.get(f"/api/images/{labels['id']}/tiles/0/0/0/0/0/0?v={labels['v']}")
    pixels = np.frombuffer(tile.content, "<u4").reshape(200, 240)
    assert pixels.max() == job["objects"]
    assert np.array_equal(pixels, tifffile.imread(_saved(client, file, tmp_path)).squeeze())


def _saved(client: TestClient, file: dict[str, Any], folder: Path) -> Path:
    path = folder / "labels.tif"
    path.write_bytes(client.get(file["url"]).content)
    return path


def test_corrected_axes_are_what_the_job_runs_with(client: TestClient, tmp_path: Path) -> None:
    planes = np.stack([simulate_nuclei((96, 96), seed=s).image for s in range(3)])
    tifffile.imwrite(tmp_path / "stack.tif", planes.astype(np.uint16), photometric="minisblack")
    image = upload(client, tmp_path / "stack.tif", "stack.tif")
    image = client.post(f"/api/images/{image['id']}/axes", json={"axes": "tyx"}).json()
    job = client.post("/api/jobs", json={"model": "nuclei-fluo", "image": image["id"]}).json()
    done = ended(client, job["id"])
    assert done["state"] == "done", done["error"]
    [file] = [f for f in done["files"] if f["kind"] == "labels"]
    labels = client.post(f"{file['url']}/image").json()
    assert (labels["sizes"]["time"], labels["sizes"]["z"]) == (3, 1)


def test_jobs_are_there_after_a_restart(tmp_path: Path) -> None:
    """The browser keeps its session; the upload went with the first server, the result did not."""
    home = tmp_path / "home"
    tifffile.imwrite(tmp_path / "cells.tif", simulate_nuclei((96, 96)).image.astype(np.uint16))
    with TestClient(app_of(home), base_url=BASE) as first:
        first.get("/api/health")
        image = upload(first, tmp_path / "cells.tif")
        job = first.post("/api/jobs", json={"model": "nuclei-fluo", "image": image["id"]}).json()
        assert ended(first, job["id"])["state"] == "done"
        cookies = dict(first.cookies)
    with TestClient(app_of(home), base_url=BASE, cookies=cookies) as second:
        [kept] = second.get("/api/jobs").json()["jobs"]
        assert (kept["id"], kept["state"]) == (job["id"], "done")
        assert second.get(kept["files"][0]["url"]).status_code == 200
    with TestClient(app_of(home), base_url=BASE) as stranger:
        assert stranger.get("/api/jobs").json() == {"jobs": []}
        assert stranger.post(f"{kept['files'][0]['url']}/image").status_code == 404


def test_another_person_cannot_run_on_my_image(client: TestClient, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "cells.tif", np.zeros((64, 64), np.uint8))
    image = upload(client, tmp_path / "cells.tif")
    client.cookies.clear()
    answer = client.post("/api/jobs", json={"model": "nuclei-fluo", "image": image["id"]})
    assert answer.status_code == 404
