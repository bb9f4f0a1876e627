"""The whole way by HTTP: an image is opened, a model run on it as a job, its result looked at."""

from __future__ import annotations

import csv
import io
import json
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import Zoo
from biozoo.samples import simulate_nuclei
from biozoo_runners import open_image
from command import run_zoo
from http_jobs import BASE, app_of, ended, opened, settings_of, uploaded
from packages import make_package

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.jobs import downloads

NOISE = np.random.default_rng(0).integers(1, 900, (3, 40, 60)).astype(np.uint16)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    with TestClient(app_of(tmp_path / "home"), base_url=BASE) as client:
        client.get("/api/health")  # brings the session
        yield client


def add(tmp_path: Path, id: str = "tiny", **options: Any) -> None:
    Zoo(settings_of(tmp_path / "home")).add(make_package(tmp_path / id, id=id, **options))


def run(client: TestClient, model: str, image: Any, **choices: Any) -> dict[str, Any]:
    """A job that is done."""
    made = client.post("/api/jobs", json={"model": model, "image": image} | choices)
    assert made.status_code == 201, made.text
    job = ended(client, made.json()["id"])
    assert job["state"] == "done", job["error"]
    return job


def test_from_an_upload_to_the_labels_of_its_nuclei(client: TestClient, tmp_path: Path) -> None:
    sample = simulate_nuclei((200, 240), seed=8, diameter=26)
    tifffile.imwrite(tmp_path / "cells.tif", sample.image.astype(np.uint16))
    image = opened(client, tmp_path / "cells.tif")
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
    image = opened(client, tmp_path / "stack.tif", "stack.tif")
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
        image = opened(first, tmp_path / "cells.tif")
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
    image = opened(client, tmp_path / "cells.tif")
    client.cookies.clear()
    answer = client.post("/api/jobs", json={"model": "nuclei-fluo", "image": image["id"]})
    assert answer.status_code == 404


# ------------------------------------------------------------------------------------------ formats


def test_each_result_can_be_had_in_each_format(client: TestClient, tmp_path: Path) -> None:
    sample = simulate_nuclei((200, 240), seed=8, diameter=26)
    size = {"y": 0.5, "x": 0.5}
    image = uploaded(client, sample.image.astype(np.uint16), pixel_size=size)
    job = run(client, "nuclei-fluo", image["id"])
    labels, probability = job["files"]
    assert [way["label"] for way in labels["formats"]] == [
        "OME-TIFF", "OME-Zarr (zip)", "CSV of objects",
    ]  # fmt: skip
    assert [way["label"] for way in probability["formats"]] == ["OME-TIFF", "OME-Zarr (zip)"]
    assert [(one["file"], one["kind"]) for one in job["layers"]] == [
        ("cells.labels.ome.tif", "labels"), ("cells.probability.ome.tif", "probability"),
    ]  # fmt: skip
    for file in job["files"]:
        expected = open_image(_fetched(client, file["url"], tmp_path / file["name"]))
        zipped = file["formats"][1]
        with zipfile.ZipFile(_fetched(client, zipped["url"], tmp_path / zipped["name"])) as archive:
            archive.extractall(tmp_path)
        found = open_image(tmp_path / zipped["name"].removesuffix(".zip"))
        np.testing.assert_array_equal(found.read().values, expected.read().values)
        assert dict(found.pixel_size) == size
        assert found.channel_names == expected.channel_names
    rows = list(csv.DictReader(io.StringIO(client.get(labels["formats"][2]["url"]).text)))
    assert len(rows) == job["objects"]
    pixels = tifffile.imread(tmp_path / labels["name"])
    assert float(rows[0]["area_um2"]) == pytest.approx((pixels == 1).sum() / 4)
    mean = sample.image[pixels == 1].mean()
    assert float(rows[0]["intensity_mean"]) == pytest.approx(mean, rel=1e-4)


def _fetched(client: TestClient, url: str, path: Path) -> Path:
    answer = client.get(url)
    assert answer.status_code == 200, answer.text
    path.write_bytes(answer.content)
    return path


def test_everything_in_one_file(client: TestClient) -> None:
    image = uploaded(client, simulate_nuclei((96, 96)).image.astype(np.uint16))
    job = run(client, "nuclei-fluo", image["id"])
    answer = client.get(job["all"])
    assert answer.headers["content-type"] == "application/zip"
    assert 'filename="cells.nuclei-fluo.zip"' in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        assert set(archive.namelist()) == {
            "cells.labels.ome.tif", "cells.labels.csv", "cells.probability.ome.tif", "report.txt",
        }  # fmt: skip
        report = archive.read("report.txt").decode()
    assert report.startswith("nuclei-fluo ")
    assert job["commands"]["shell"] in report


def test_a_stack_of_planes_is_measured_plane_by_plane(client: TestClient) -> None:
    planes = np.stack([simulate_nuclei((96, 96), seed=s).image for s in range(2)])
    image = uploaded(client, planes.astype(np.uint16), axes="zyx")
    job = run(client, "nuclei-fluo", image["id"])
    table = client.get(job["files"][0]["formats"][2]["url"]).text
    rows = list(csv.DictReader(io.StringIO(table)))
    assert {row["z"] for row in rows} == {"0", "1"}
    assert len(rows) == job["objects"]
    assert job["layers"][0]["at"] == {"y": 0, "x": 0, "z": 0}


def test_a_region_lies_where_it_was_cut(client: TestClient, tmp_path: Path) -> None:
    add(tmp_path)
    image = uploaded(client, NOISE, axes="zyx")
    region = {"y": [8, 32], "x": [10, 50], "z": [1, 3]}
    job = run(client, "tiny", image["id"], region=region)
    [layer] = job["layers"]
    assert (layer["at"], layer["scale"], layer["name"]) == (
        {"y": 8, "x": 10, "z": 1}, None, "Prediction",
    )  # fmt: skip


def test_two_that_ask_at_once_get_one_file(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path)
    job = run(client, "tiny", uploaded(client, NOISE[0])["id"])
    url, made = job["files"][0]["formats"][1]["url"], []
    write, both = downloads._write_zarr, threading.Barrier(2)

    def slowly(source: Path, target: Path, scratch: Path) -> None:
        made.append(target)
        time.sleep(0.2)
        write(source, target, scratch)

    def fetch(_: int) -> Any:
        both.wait(30)
        return client.get(url)

    monkeypatch.setattr(downloads, "_write_zarr", slowly)
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(fetch, range(2))
    assert (first.status_code, second.content) == (200, first.content)
    assert client.get(url).content == first.content
    assert len(made) == 1


def test_a_full_disk_is_told_without_a_path_and_leaves_nothing(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run(client, "nuclei-fluo", uploaded(client, simulate_nuclei((96, 96)).image)["id"])
    folder = tmp_path / "home" / "jobs" / job["id"] / downloads.FOLDER

    class Full(zipfile.ZipFile):
        def write(self, *_: Any, **__: Any) -> None:
            raise OSError(28, "No space left on device")

    table = job["files"][0]["formats"][2]["url"]
    with monkeypatch.context() as patch:
        patch.setattr(downloads.zipfile, "ZipFile", Full)
        for url in (job["all"], job["files"][0]["formats"][1]["url"]):
            answer = client.get(url)
            assert answer.status_code == 507
            assert "no space is left on the disk" in answer.json()["error"]
            assert str(tmp_path) not in answer.text
        assert client.get(table).status_code == 200
    assert [path.name for path in folder.iterdir()] == ["cells.labels.csv"]
    assert client.get(job["all"]).status_code == 200


def test_downloads_go_with_their_job_and_are_nobody_elses(
    client: TestClient, tmp_path: Path
) -> None:
    add(tmp_path)
    job = run(client, "tiny", uploaded(client, NOISE[0])["id"])
    urls = [job["all"], job["files"][0]["formats"][1]["url"]]
    stranger = TestClient(client.app, base_url=BASE)
    for url in urls:
        assert client.get(url).status_code == 200
        assert stranger.get(url).status_code == 404
    for name in ("cells.labels.csv", "..%2fx.zip", "cells.prediction.csv", "all.zip"):
        found = client.get(f"/api/jobs/{job['id']}/downloads/{name}").status_code
        assert found == (200 if name == "all.zip" else 404), name
    assert client.delete(f"/api/jobs/{job['id']}").status_code == 204
    assert [client.get(url).status_code for url in urls] == [404, 404]
    assert not (tmp_path / "home" / "jobs" / job["id"]).exists()


def test_a_job_without_a_result_has_nothing_to_download(client: TestClient, tmp_path: Path) -> None:
    add(tmp_path)
    image = uploaded(client, NOISE, axes="cyx")["id"]
    made = client.post("/api/jobs", json={"model": "tiny", "image": image}).json()
    job = ended(client, made["id"])
    assert (job["state"], job["all"], job["layers"]) == ("failed", None, [])
    assert "takes one channel, the image has 3" in job["error"]
    assert "--" not in job["error"]
    assert client.get(f"/api/jobs/{job['id']}/all.zip").status_code == 404


# ----------------------------------------------------------------------------------------- commands


def executed(job: dict[str, Any], folder: Path, files: dict[str, bytes]) -> Iterator[Path]:
    """The folders of what the shell command and the Python code leave, run as they are printed."""
    home = folder / "home"
    for way in ("shell", "python"):
        place = folder / way
        place.mkdir()
        for name, content in files.items():
            (place / name).write_bytes(content)
        before = Path.cwd()
        os.chdir(place)
        try:
            if way == "shell":
                for line in job["commands"]["shell"].splitlines():
                    run_zoo(*shlex.split(line)[1:])
            else:
                code = job["commands"]["python"]
                done = subprocess.run(
                    [sys.executable, "-c", code], env=os.environ | {"BIOZOO_HOME": str(home)},
                    capture_output=True, text=True, check=False,
                )  # fmt: skip
                assert done.returncode == 0, done.stderr
        finally:
            os.chdir(before)
        yield place / "out"


def same_results(client: TestClient, job: dict[str, Any], out: Path) -> None:
    assert {path.name for path in out.iterdir()} == {file["name"] for file in job["files"]}
    for file in job["files"]:
        fetched = _fetched(client, file["url"], out.parent / "expected.ome.tif")
        expected, found = open_image(fetched), open_image(out / file["name"])
        np.testing.assert_array_equal(found.read().values, expected.read().values)
        assert dict(found.pixel_size) == dict(expected.pixel_size)


def test_the_commands_of_a_sample_run_as_printed(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOZOO_HOME", str(tmp_path / "home"))
    sample = client.post("/api/models/nuclei-fluo/sample").json()
    [image] = sample["images"].values()
    job = run(client, "nuclei-fluo", image["id"], scale=0.5, min_size=30, fill_holes=False)
    assert job["commands"]["shell"] == (
        "zoo sample nuclei -o cells.ome.tif\n"
        "zoo run nuclei-fluo cells.ome.tif -o out/ --scale 0.5 --min-size 30 --keep-holes"
    )
    for out in executed(job, tmp_path, {}):
        same_results(client, job, out)


def test_the_commands_of_a_corrected_image_run_as_printed(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Axes, pixel size, channels and tiles; a name that needs quotes."""
    monkeypatch.setenv("BIOZOO_HOME", str(tmp_path / "home"))
    add(tmp_path, channels=2, halo=1)
    name, file = "my cells'.tif", io.BytesIO()
    tifffile.imwrite(file, np.stack([NOISE, NOISE]), photometric="minisblack")
    (tmp_path / "x.tif").write_bytes(file.getvalue())
    image = opened(client, tmp_path / "x.tif", name)
    said = {"axes": "zcyx", "pixel_size": {"z": 2, "y": 0.4, "x": 0.3}}
    client.post(f"/api/images/{image['id']}/axes", json=said)
    choices = {"channel": [2, 0], "tile": {"y": 16, "x": 20}}
    job = run(client, "tiny", image["id"], **choices)
    assert "--axes zcyx --pixel-size z=2,y=0.4,x=0.3 --channel 2,0" in job["commands"]["shell"]
    for out in executed(job, tmp_path, {name: file.getvalue()}):
        same_results(client, job, out)


def test_the_commands_of_several_inputs_run_as_printed(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOZOO_HOME", str(tmp_path / "home"))
    add(tmp_path, "two", inputs=2, outputs=2)
    sample = client.post("/api/models/two/sample").json()["images"]
    job = run(client, "two", {tensor: image["id"] for tensor, image in sample.items()})
    assert job["commands"]["shell"] == (
        "zoo run two raw=two.raw.ome.tif raw1=two.raw1.ome.tif -o out/"
    )
    assert job["images"]["raw1"]["name"] == "two.raw1.ome.tif"
    folder = tmp_path / "home" / "jobs" / job["id"] / "image"
    files = {path.name: path.read_bytes() for path in folder.rglob("*.tif")}
    assert len(files) == 2  # samples go with the server, so the job keeps them
    for out in executed(job, tmp_path, files):
        same_results(client, job, out)


def test_what_the_command_line_cannot_say_is_told_as_python_alone(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BIOZOO_HOME", str(tmp_path / "home"))
    add(tmp_path)
    image = uploaded(client, NOISE[0])["id"]
    job = run(client, "tiny", image, region={"y": [4, 30], "x": [10, 40]})
    assert job["commands"]["shell"] == ""
    job["commands"]["shell"] = "zoo list"
    file = io.BytesIO()
    tifffile.imwrite(file, NOISE[0], photometric="minisblack")
    _, out = executed(job, tmp_path, {"cells.tif": file.getvalue()})
    same_results(client, job, out)


# ------------------------------------------------------------------------------ the image of a job


def test_the_image_of_a_job_is_opened_again_also_after_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "home"
    add(tmp_path)
    with TestClient(app_of(home), base_url=BASE) as first:
        first.get("/api/health")
        image = uploaded(first, NOISE, axes="zyx", pixel_size={"y": 0.5, "x": 0.5})
        job = run(first, "tiny", image["id"])
        url = f"/api/jobs/{job['id']}/image"
        assert first.post(url).json()["id"] == image["id"]  # it is still open
        cookies = dict(first.cookies)
    with TestClient(app_of(home), base_url=BASE, cookies=cookies) as second:
        again = second.post(url)
        assert again.status_code == 201, again.text
        found = again.json()
        assert (found["name"], found["dims"], found["images"]) == (
            "cells.tif",
            ["z", "y", "x"],
            None,
        )
        assert found["pixel_size"] == {"y": 0.5, "x": 0.5}
        assert second.post(url).json()["id"] == found["id"]
        tile = second.get(f"/api/images/{found['id']}/tiles/0/0/0/2/0/0?v={found['v']}")
        np.testing.assert_array_equal(np.frombuffer(tile.content, "<u2").reshape(40, 60), NOISE[2])
        run(second, "tiny", found["id"])
        assert TestClient(second.app, base_url=BASE).post(url).status_code == 404


def test_what_a_run_made_is_told_from_what_a_user_opened(
    client: TestClient, tmp_path: Path
) -> None:
    """However it is corrected: a page offers only the latter to run on."""
    add(tmp_path)
    image = uploaded(client, NOISE, axes="zyx")
    sample = client.post("/api/images/samples", json={"kind": "nuclei"}).json()
    job = run(client, "tiny", image["id"])
    opening = f"{job['files'][0]['url']}/image"
    made = client.post(opening).json()
    for said in ({"axes": "tyx"}, {"pixel_size": {"y": 0.5, "x": 0.5}}):
        corrected = client.post(f"/api/images/{made['id']}/axes", json=said).json()
        assert (corrected["id"], corrected["result"]) == (made["id"], True)
    assert client.post(opening).json()["id"] == made["id"]
    assert client.post(f"/api/jobs/{job['id']}/image").json()["result"] is False
    told = {one["id"]: one["result"] for one in client.get("/api/images").json()}
    assert told == {image["id"]: False, sample["id"]: False, made["id"]: True}


def test_an_image_that_has_gone_is_told_and_its_result_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    tifffile.imwrite(folder / "cells.tif", simulate_nuclei((96, 96)).image)
    with TestClient(app_of(tmp_path / "home", image_folders=(folder,)), base_url=BASE) as client:
        client.get("/api/health")
        path = str(folder / "cells.tif")
        image = client.post("/api/images/paths", json={"path": path}).json()
        job = run(client, "nuclei-fluo", image["id"])
        client.delete(f"/api/images/{image['id']}")
        shutil.rmtree(folder)
        gone = client.post(f"/api/jobs/{job['id']}/image")
        assert (gone.status_code, list(gone.json())) == (404, ["error"])
        table = client.get(job["files"][0]["formats"][2]["url"])
        assert table.status_code == 200
        assert "intensity" not in table.text
        assert client.get(job["all"]).status_code == 200


def test_jobs_are_described(client: TestClient) -> None:
    schema = client.get("/openapi.json").json()
    for path, method in (("/api/jobs/{job_id}", "get"), ("/api/jobs", "post")):
        answers = schema["paths"][path][method]["responses"]
        answer = answers["200" if method == "get" else "201"]["content"]["application/json"]
        assert answer["schema"]["$ref"].endswith("/JobDescription")
    assert "commands" in json.dumps(schema["components"]["schemas"]["JobDescription"])
