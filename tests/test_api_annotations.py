"""Annotations over HTTP: begun, edited, shown tile by tile, taken away, and found again."""

from __future__ import annotations

import io
import shutil
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import Settings
from biozoo_runners import write_image

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app

BASE = "http://127.0.0.1:7860"
SQUARE = [[100, 100], [100, 200], [200, 200], [200, 100]]
Json = dict[str, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


def start_server(home: Path, folder: Path) -> TestClient:
    zoo = Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)
    settings = ServerSettings(zoo, image_folders=(folder,), max_upload=6 * 2**20)
    return TestClient(create_app(settings, pages=False), base_url=BASE)


@pytest.fixture(scope="module")
def client(home: Path, folder: Path) -> Iterator[TestClient]:
    with start_server(home, folder) as client:
        # Another server knows this session again: a program's is that of its token.
        client.headers["authorization"] = "Bearer a-program-of-this-test"
        yield client


def tiff(pixels: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels)
    return file.getvalue()


@pytest.fixture(scope="module")
def image_of(client: TestClient) -> Callable[..., Json]:
    def opened(pixels: np.ndarray[Any, Any], name: str = "cells.tif", **headers: str) -> Json:
        answer = client.post(
            "/api/images/uploads", params={"name": name}, content=tiff(pixels), headers=headers
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return opened


@pytest.fixture
def image(image_of: Callable[..., Json], request: pytest.FixtureRequest) -> Json:
    """An image that no other test has."""
    seed = zlib.crc32(request.node.name.encode())
    return image_of(np.random.default_rng(seed).integers(0, 99, (600, 700)).astype(np.uint16))


def begin(client: TestClient, image: Json, kind: str = "instances", **more: Any) -> str:
    answer = client.post("/api/annotations", json={"image": image["id"], "kind": kind, **more})
    assert answer.status_code == 201, answer.text
    return f"/api/annotations/{answer.json()['id']}"


def edit(client: TestClient, url: str, tool: str, points: Any, **more: Any) -> Json:
    answer = client.post(f"{url}/edits", json={"tool": tool, "points": points, **more})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def tile(client: TestClient, url: str, level: int = 0, at: str = "0/0") -> np.ndarray[Any, Any]:
    told = client.get(url).json()
    row, column = map(int, at.split("/"))
    size = told["levels"][level]
    shape = min(256, size["y"] - 256 * row), min(256, size["x"] - 256 * column)
    answer = client.get(f"{url}/tiles/{level}/0/0/0/{at}")
    assert answer.status_code == 200, answer.text
    return np.frombuffer(answer.content, "<u4").reshape(shape)


# ------------------------------------------------------------------------------------- to paint


def test_an_annotation_is_described_as_an_image_of_labels(client: TestClient, image: Json) -> None:
    """So that a viewer shows it as any other layer."""
    url = begin(client, image, "classes")
    told, same = client.get(url).json(), ("sizes", "dims", "levels", "tile", "pixel_size")
    assert {key: told[key] for key in same} == {key: image[key] for key in same}
    assert (told["kind"], told["pixels"], told["annotation"]) == ("labels", "uint32", "classes")
    assert (told["version"], told["undo"], told["redo"]) == (0, 0, 0)
    assert [one["name"] for one in told["classes"]] == ["Background", "Object"]
    assert told["counts"] == {"objects": None, "pixels": {}}


def test_a_stroke_is_saved_and_its_place_is_answered(client: TestClient, image: Json) -> None:
    url = begin(client, image, "classes")
    done = edit(client, url, "brush", [[50, 60], [50, 90]], radius=4, value=2)
    assert done["version"] == 1
    (change,) = done["changes"]
    assert (change["y"], change["x"]) == ([46, 54], [56, 94])
    found = tile(client, url)
    assert found[50, 75] == 2
    assert done["counts"]["pixels"] == {"2": int((found == 2).sum())}
    assert tile(client, url, level=1)[25, 37] == 2
    done = client.post(f"{url}/undo", params={"since": 1}).json()
    assert (done["version"], done["redo"], len(done["changes"])) == (2, 1, 1)
    assert not tile(client, url).any()
    assert client.post(f"{url}/redo").json()["version"] == 3
    assert client.get(f"{url}/changes", params={"since": 2}).json()["changes"][0]["version"] == 3


def test_tiles_are_packed_and_never_kept_by_the_browser(client: TestClient, image: Json) -> None:
    url = begin(client, image)
    answer = client.get(f"{url}/tiles/0/0/0/0/0/0", headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["cache-control"] == "no-store"
    assert len(answer.content) == 4 * 256 * 256
    for gone in ("9/0/0/0/0/0", "0/0/0/0/9/0", "0/0/1/0/0/0", "0/3/0/0/0/0"):
        assert client.get(f"{url}/tiles/{gone}").status_code == 404


def test_the_sender_is_told_what_others_changed_meanwhile(client: TestClient, image: Json) -> None:
    url = begin(client, image)
    edit(client, url, "add", SQUARE)
    done = edit(client, url, "brush", [[400, 400]], since=0)
    assert [change["version"] for change in done["changes"]] == [1, 2]
    again = edit(client, url, "brush", [[500, 500]], since=2, key="once")
    twice = edit(client, url, "brush", [[500, 500]], since=2, key="once")
    assert again == twice


# ------------------------------------------------------------------------------------- to begin


def test_objects_begin_with_a_result_where_it_lies(
    client: TestClient, image: Json, image_of: Callable[..., Json]
) -> None:
    """A preview of a part, of half the resolution: as a layer is answered."""
    labels = np.zeros((50, 60), np.uint16)
    labels[10:20, 10:30] = 4
    result = image_of(labels, "labels.tif")
    start = {"image": result["id"], "at": {"y": 100, "x": 200}, "scale": {"y": 2, "x": 2}}
    url = begin(client, image, start=start)
    found = tile(client, url)
    assert (found == 4).sum() == 20 * (256 - 220)
    assert found[120, 220] == 4
    assert found[119, 220] == found[120, 219] == 0
    told = client.get(url).json()
    assert (told["counts"]["objects"], told["undo"], told["next"]) == (1, 0, 5)


def test_each_pixel_gets_the_label_under_its_middle(
    client: TestClient, image: Json, image_of: Callable[..., Json]
) -> None:
    labels = np.arange(1, 50, dtype=np.uint16).reshape(7, 7).repeat(3, 0).repeat(3, 1)
    result = image_of(labels, "labels.tif")
    scale = {"y": 1.5, "x": 1.5}
    url = begin(client, image, start={"image": result["id"], "at": {}, "scale": scale})
    under = np.floor((np.arange(30) + 0.5) / 1.5).astype(int)
    assert np.array_equal(tile(client, url)[:30, :30], labels[np.ix_(under, under)])


def test_a_result_without_a_place_is_stretched_over_the_image(
    client: TestClient, image: Json, image_of: Callable[..., Json]
) -> None:
    result = image_of(
        np.kron(np.eye(2, dtype=np.uint16), np.ones((150, 175))).astype("u2"), "labels.tif"
    )
    url = begin(client, image, start={"image": result["id"]})
    assert tile(client, url).all()
    assert tile(client, url, at="1/0")[256 + 60 - 17 :, :100].sum() == 0


def test_going_on_keeps_what_is_there_and_beginning_again_can_be_undone(
    client: TestClient, image: Json
) -> None:
    url = begin(client, image)
    edit(client, url, "add", SQUARE)
    assert begin(client, image) == url
    assert client.get(url).json()["counts"]["objects"] == 1
    assert begin(client, image, again=True) == url
    assert client.get(url).json()["counts"]["objects"] == 0
    assert client.post(f"{url}/undo").json()["counts"]["objects"] == 1
    kinds = [
        one["annotation"] for one in client.get(f"/api/annotations?image={image['id']}").json()
    ]
    assert kinds == ["instances"]


def test_classes_are_renamed_and_added(client: TestClient, image: Json) -> None:
    url = begin(client, image, "classes")
    classes = [
        {"value": 1, "name": "Background", "color": "#112233"},
        {"value": 2, "name": "Nucleus <b>", "color": "#abcdef"},
        {"value": 3, "name": "Debris", "color": "#00ff00"},
    ]
    answer = client.put(f"{url}/classes", json={"classes": classes})
    assert answer.json()["classes"] == classes
    edit(client, url, "brush", [[5, 5]], value=3)
    refused = client.put(f"{url}/classes", json={"classes": classes[:2]})
    assert refused.status_code == 422
    assert "'Debris' is painted" in refused.json()["error"]


def test_an_upload_is_known_again_by_its_content_a_path_by_its_place(
    client: TestClient, home: Path, folder: Path, image_of: Callable[..., Json]
) -> None:
    """Also by the next server, which has none of the images of this one."""
    pixels = np.random.default_rng(5).integers(0, 99, (300, 310)).astype(np.uint16)
    path = folder / "cells.tif"
    tifffile.imwrite(path, pixels[:, :300])
    by_path = client.post("/api/images/paths", json={"path": str(path)}).json()
    urls = [begin(client, image_of(pixels)), begin(client, by_path)]
    for url in urls:
        edit(client, url, "add", SQUARE)
    with start_server(home, folder) as later:
        later.headers.update(client.headers)
        sent = later.post(
            "/api/images/uploads", params={"name": "other name.tif"}, content=tiff(pixels)
        ).json()
        again = later.post("/api/images/paths", json={"path": str(path)}).json()
        for image, url in zip((sent, again), urls, strict=True):
            (found,) = later.get(f"/api/annotations?image={image['id']}").json()
            assert f"/api/annotations/{found['id']}" == url
            assert found["counts"]["objects"] == 1
            assert later.post(f"{url}/undo").json()["counts"]["objects"] == 0
    other = image_of(pixels + 1)
    assert client.get(f"/api/annotations?image={other['id']}").json() == []


# ------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("kind", ["tiff", "zarr", "rois", "geojson"])
def test_what_is_exported_can_be_imported(client: TestClient, image: Json, kind: str) -> None:
    url = begin(client, image)
    edit(client, url, "add", SQUARE)
    edit(client, url, "erase", [[150, 150]], radius=20)
    edit(client, url, "add", [[100, 200], [100, 300], [200, 300], [200, 200]])
    before = tile(client, url)
    file = client.get(f"{url}/files/{kind}")
    assert file.status_code == 200
    name = file.headers["content-disposition"].partition('filename="')[2].rstrip('"')
    assert name.startswith("cells.labels.")
    begin(client, image, again=True)
    assert not tile(client, url).any()
    answer = client.post(f"{url}/files", params={"name": name}, content=file.content)
    assert answer.status_code == 200, answer.text
    assert np.array_equal(tile(client, url), before)
    assert answer.json()["counts"]["objects"] == 2
    client.post(f"{url}/undo")
    assert not tile(client, url).any()


def test_a_file_larger_than_other_requests_may_be_is_taken(
    client: TestClient, image_of: Callable[..., Json]
) -> None:
    noise = np.random.default_rng(2).integers(1, 60_000, (1600, 1500)).astype(np.uint16)
    url = begin(client, image_of(np.zeros(noise.shape, np.uint8)))
    content = tiff(noise)
    assert 4 * 2**20 < len(content) < 6 * 2**20
    answer = client.post(f"{url}/files", params={"name": "a.tif"}, content=content)
    assert answer.status_code == 200, answer.text
    assert np.array_equal(tile(client, url), noise[:256, :256])


def test_nothing_of_an_export_or_import_stays_on_the_server(
    client: TestClient, image: Json, home: Path, tmp_path: Path
) -> None:
    url = begin(client, image)
    edit(client, url, "add", SQUARE)
    client.get(f"{url}/files/zarr")
    client.post(f"{url}/files", params={"name": "a.geojson"}, content=b"{")
    left = [path for path in home.rglob("*") if path.name.startswith("export")]
    left += list(home.rglob("a.geojson"))
    assert left == []


def test_files_that_cannot_be_taken_are_refused(
    client: TestClient, image: Json, tmp_path: Path
) -> None:
    url = begin(client, image)

    def refused(name: str, content: bytes) -> tuple[int, str]:
        answer = client.post(f"{url}/files", params={"name": name}, content=content)
        return answer.status_code, answer.json()["error"]

    assert refused("a.tif", b"II*\x00")[0] == 422
    assert refused("a.tif", tiff(np.ones((20, 30), np.uint8)))[0] == 422
    assert refused("a.tif", b"\0" * (6 * 2**20 + 1))[0] == 413
    two = tmp_path / "two"
    for name in ("one", "other"):
        write_image(two / f"{name}.ome.zarr", _array(np.ones((20, 30), np.uint8)))
    zipped = Path(shutil.make_archive(str(two), "zip", two))
    status, words = refused("two.zip", zipped.read_bytes())
    assert status == 422
    assert "2 OME-Zarr images" in words
    text = tmp_path / "text"
    text.mkdir()
    (text / "notes.txt").write_text("no labels")
    zipped = Path(shutil.make_archive(str(text), "zip", text))
    status, words = refused("text.zip", zipped.read_bytes())
    assert status == 422
    assert "image text.zip: it is a zip with neither ImageJ ROIs" in words
    assert client.get(url).json()["version"] == 0


def _array(pixels: np.ndarray[Any, Any]) -> Any:
    import xarray as xr

    return xr.DataArray(pixels, dims=("y", "x"))


# ------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("asked", "status", "words"),
    [
        ({"tool": "spray", "points": [[1, 1]]}, 422, "tool"),
        ({"tool": "brush", "points": []}, 422, "points"),
        ({"tool": "brush", "points": [[1, 1]] * 20_001}, 422, "points"),
        ({"tool": "brush", "points": [[1, 1]], "radius": 1e9}, 422, "radius"),
        ({"tool": "brush", "points": [[1, "nan"]]}, 422, ""),
        ({"tool": "brush", "points": [[1, 1]], "value": 0}, 422, "value"),
        ({"tool": "brush", "points": [[1, 1]], "plane": {"z": 4}}, 422, "no plane 4"),
        ({"tool": "brush", "points": [[1, 1]], "pixels": [1]}, 422, "pixels"),
        ({"tool": "delete", "points": [[9, 9]]}, 422, "no object at this place"),
    ],
)
def test_edits_that_make_no_sense_are_refused(
    client: TestClient, image_of: Callable[..., Json], asked: Json, status: int, words: str
) -> None:
    url = begin(client, image_of(np.zeros((40, 50), np.uint16)))
    answer = client.post(f"{url}/edits", json=asked)
    assert answer.status_code == status
    assert words in answer.json()["error"]
    assert client.get(url).json()["version"] == 0


def test_steps_that_are_not_there_are_a_conflict(client: TestClient, image: Json) -> None:
    url = begin(client, image)
    for step in ("undo", "redo"):
        answer = client.post(f"{url}/{step}")
        assert answer.status_code == 409
        assert "nothing to" in answer.json()["error"]


def test_what_cannot_be_begun_is_told(
    client: TestClient, image: Json, image_of: Callable[..., Json]
) -> None:
    def refused(**asked: Any) -> tuple[int, str]:
        answer = client.post("/api/annotations", json={"image": image["id"], **asked})
        return answer.status_code, answer.json()["error"]

    assert refused(kind="dreams")[0] == 422
    assert refused(kind="instances", image="gone")[0] == 404
    assert refused(kind="instances", start={"image": "gone"})[0] == 404
    status, words = refused(kind="instances", start={"image": image["id"]})
    assert (status, "holds no labels" in words) == (422, True)
    labels = image_of(np.ones((20, 20), np.uint16), "labels.tif")
    beside = {"image": labels["id"], "at": {"y": 5000, "x": 0}}
    status, words = refused(kind="instances", start=beside)
    assert (status, "beside this image" in words) == (422, True)
    assert client.get(f"/api/annotations?image={image['id']}").json() == []


def test_annotations_of_another_session_do_not_exist(client: TestClient, image: Json) -> None:
    url = begin(client, image)
    other = {"authorization": "Bearer somebody-else-entirely"}
    asked = [
        client.get(url, headers=other),
        client.get(f"{url}/tiles/0/0/0/0/0/0", headers=other),
        client.get(f"{url}/files/tiff", headers=other),
        client.get("/api/annotations", params={"image": image["id"]}, headers=other),
        client.post(f"{url}/edits", json={"tool": "brush", "points": [[1, 1]]}, headers=other),
        client.post(f"{url}/undo", headers=other),
        client.post(f"{url}/files", params={"name": "a.tif"}, content=b"", headers=other),
        client.put(f"{url}/classes", json={"classes": []}, headers=other),
        client.delete(url, headers=other),
    ]
    assert {answer.status_code for answer in asked} == {404}
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404
