"""What belongs to one session does not exist for another: asked of every route that names it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from biozoo import Zoo
from http_jobs import BASE, app_of, settings_of, uploaded
from packages import make_package
from scripted_training import Scripted

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api.images.session import COOKIE
from biozoo_ui.trainings import Training

BODIES = {
    "POST /api/annotations/{annotation_id}/edits": {"tool": "brush", "points": [[5, 5]]},
    "PUT /api/annotations/{annotation_id}/classes": {
        "classes": [{"value": 1, "name": "all", "color": "#ffffff"}]
    },
    "POST /api/live/{live_id}/views": {"view": {"y": [0, 9], "x": [0, 9]}},
    "POST /api/live/{live_id}/refits": {"annotation": "a"},
    "POST /api/live/{live_id}/keep": {"name": "Mine, all mine"},
    "POST /api/images/{image_id}/axes": {"axes": "yx"},
}
OTHERS = {"kind": "tiff", "name": "a.tif", "tensor": "labels"}  # what else is in an address


class Live:
    """A live session, as far as it is asked whose it is."""

    def __init__(self, owner: str) -> None:
        self.id, self.owner, self.nbytes = "live1", owner, 0

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    home = tmp_path_factory.mktemp("home")
    Zoo(settings_of(home)).add(make_package(home / "tiny", validate=False))
    app = app_of(home)
    app.state.server.trainings._queue._begin = lambda place: Scripted()
    with TestClient(app, base_url=BASE) as client:
        client.get("/api/health")
        yield client


@pytest.fixture(scope="module")
def mine(client: TestClient) -> dict[str, str]:
    """One of each, by what an address calls its id."""
    state, owner = client.app.state.server, client.cookies[COOKIE]  # type: ignore[attr-defined]
    image = uploaded(client, np.ones((40, 60), np.uint16))["id"]
    asked = {"image": image, "kind": "classes"}
    annotation = client.post("/api/annotations", json=asked).json()["id"]
    job = client.post("/api/jobs", json={"model": "tiny", "image": image}).json()["id"]
    training: Training = state.trainings.submit(state.catalog.package("tiny"), owner=owner)
    state.live._sessions["live1"] = live = Live(owner)
    state.live._used[live.id] = state.live._clock()
    return {
        "image_id": image, "annotation_id": annotation, "job_id": job,
        "training_id": training.id, "live_id": live.id,
    }  # fmt: skip


def ways(client: TestClient, named: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Method and path of every route that names one of these."""
    described: dict[str, Any] = client.get("/openapi.json").json()
    for path, methods in described["paths"].items():
        if any(f"{{{name}}}" in path for name in named):
            yield from ((method.upper(), path) for method in methods)


def test_another_session_reaches_nothing_by_any_route(
    client: TestClient, mine: dict[str, str]
) -> None:
    stranger = TestClient(client.app, base_url=BASE)
    stranger.get("/api/health")
    assert stranger.cookies[COOKIE] != client.cookies[COOKIE]
    asked = list(ways(client, mine))
    assert len(asked) > 40
    for method, path in asked:
        address = re.sub(r"\{(\w+)\}", lambda m: (mine | OTHERS).get(m[1], "0"), path)
        answer = stranger.request(
            method, address, params={"name": "a.tif", "v": 1}, json=BODIES.get(f"{method} {path}")
        )
        assert answer.status_code == 404, f"{method} {path}: {answer.text}"
        assert "error" in answer.json()
    assert [client.get(f"/api/{kind}s/{mine[f'{kind}_id']}").status_code
            for kind in ("image", "annotation", "job", "training")] == [200] * 4  # fmt: skip


def test_what_another_one_painted_cannot_be_trained_on(
    client: TestClient, mine: dict[str, str]
) -> None:
    stranger = TestClient(client.app, base_url=BASE)
    own = uploaded(stranger, np.ones((40, 60), np.uint16))["id"]
    sample = {"image": own, "annotation": mine["annotation_id"]}
    answer = stranger.post("/api/trainings", json={"model": "tiny", "samples": [sample]})
    assert answer.status_code in (404, 422)
    assert stranger.get("/api/trainings").json() == {"trainings": []}


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_not_understood(
    client: TestClient, mine: dict[str, str], number: str
) -> None:
    """JSON of Python has them; nothing here could do with them."""
    image, headers = mine["image_id"], {"content-type": "application/json"}
    for path, body in (
        (f"annotations/{mine['annotation_id']}/edits", '{"tool": "brush", "points": [[1, %s]]}'),
        (
            "annotations",
            '{"image": "I", "kind": "classes", "start": {"image": "I", "at": {"z": %s}}}',
        ),
        ("previews", '{"model": "tiny", "image": "I", "view": {"y": [0, %s], "x": [0, 9]}}'),
        ("live", '{"model": "tiny", "image": "I", "view": {"y": [0, %s], "x": [0, 9]}}'),
        ("jobs", '{"model": "tiny", "image": "I", "scale": {"y": %s}}'),
    ):
        content = (body % number).replace('"I"', f'"{image}"')
        answer = client.post(f"/api/{path}", content=content, headers=headers)
        assert answer.status_code == 422, f"{path}: {answer.text}"


def test_an_import_names_a_plane_that_is_there(client: TestClient, mine: dict[str, str]) -> None:
    square = '{"type": "Polygon", "coordinates": [[[0, 0], [0, 9], [9, 9]]]}'
    path = f"/api/annotations/{mine['annotation_id']}/files?name=a.geojson"
    for where in ("z=-1", "z=1", "time=-3"):
        answer = client.post(f"{path}&{where}", content=square)
        assert answer.status_code == 422, answer.text
        assert "There is no plane" in answer.json()["error"]
    assert client.post(path, content=square).status_code == 200


def test_a_tile_is_not_packed_for_who_takes_none_so(
    client: TestClient, mine: dict[str, str]
) -> None:
    for path in (f"annotations/{mine['annotation_id']}", f"images/{mine['image_id']}"):
        answer = client.get(
            f"/api/{path}/tiles/0/0/0/0/0/0", headers={"accept-encoding": "gzip;q=0"}
        )
        assert answer.status_code == 200
        assert "content-encoding" not in answer.headers


def test_every_route_is_asked(client: TestClient, mine: dict[str, str]) -> None:
    """What names something by another word would not be asked above."""
    paths = client.get("/openapi.json").json()["paths"]
    named = {name for path in paths for name in re.findall(r"\{(\w+_id)\}", path)}
    assert set(mine) <= named
    assert named - set(mine) <= {"model_id", "addition_id"}
