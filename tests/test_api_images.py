"""Images over HTTP: what a viewer is told and sent, for good files and bad ones, and to whom."""

from __future__ import annotations

import errno
import io
import json
import math
import shutil
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from PIL import Image as Pillow

from biozoo import Settings
from biozoo.errors import NotFoundError, UsageError
from biozoo_runners import write_image

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from biozoo_ui.api import ServerSettings, create_app
from biozoo_ui.api.images import ImageStore
from biozoo_ui.api.images.paths import safe_name
from biozoo_ui.api.images.planes import Planes
from biozoo_ui.api.images.pyramid import Pyramid
from biozoo_ui.api.images.source import Place, guess_axes, open_source

BASE = "http://127.0.0.1:7860"
TOKEN = "a-token-of-some-length"
Describe = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one folder whose images may be opened by path."""
    return tmp_path_factory.mktemp("allowed")


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Any:
    home = tmp_path_factory.mktemp("home")
    zoo = Settings(home=home, index_url="http://127.0.0.1:9/index.json", offline=True)
    return create_app(
        ServerSettings(zoo, image_folders=(folder,), max_upload=20 * 2**20), pages=False
    )


@pytest.fixture(scope="module")
def client(app: Any) -> Iterator[TestClient]:
    with TestClient(app, base_url=BASE) as client:
        client.get("/api/images")  # the page before the images: it brings the session
        yield client


@pytest.fixture
def upload(client: TestClient) -> Describe:
    def send(path: Path, name: str | None = None) -> dict[str, Any]:
        answer = client.post(
            "/api/images/uploads", params={"name": name or path.name}, content=path.read_bytes()
        )
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    return send


def _tile(
    client: TestClient, image: dict[str, Any], level: int = 0, at: str = "0/0/0", tile: str = "0/0"
) -> np.ndarray:
    """One tile as the viewer decodes it; `at`: time/channel/z, `tile`: row/column."""
    answer = client.get(
        f"/api/images/{image['id']}/tiles/{level}/{at}/{tile}", params={"v": image["v"]}
    )
    assert answer.status_code == 200, answer.text
    size, (row, column) = image["levels"][level], map(int, tile.split("/"))
    shape = min(256, size["y"] - 256 * row), min(256, size["x"] - 256 * column)
    pixels = np.dtype(image["pixels"]).newbyteorder("<")
    return np.frombuffer(answer.content, pixels).reshape(shape)


def _level(
    client: TestClient, image: dict[str, Any], level: int = 0, at: str = "0/0/0"
) -> np.ndarray:
    """A whole level of one plane, put together of its tiles."""
    size = image["levels"][level]
    rows, columns = math.ceil(size["y"] / 256), math.ceil(size["x"] / 256)
    return np.block(
        [
            [_tile(client, image, level, at, f"{row}/{column}") for column in range(columns)]
            for row in range(rows)
        ]
    )


def _half(pixels: np.ndarray) -> np.ndarray:
    """Mean of 2 x 2, slowly and plainly."""
    tall, wide = pixels.shape
    padded = np.pad(pixels, ((0, tall % 2), (0, wide % 2)), mode="edge").astype(np.float64)
    four = np.stack([padded[y::2, x::2] for y in (0, 1) for x in (0, 1)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # four times not a number
        mean = np.nanmean(four, axis=0)
    if pixels.dtype.kind in "iu":
        mean = np.floor(mean + 0.5)
    return mean.astype(pixels.dtype)


def _noise(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 120, shape).astype(dtype)


# --------------------------------------------------------------------------------- what is told


def test_an_ome_tiff_is_described_and_its_true_values_are_sent(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    pixels = np.random.default_rng(1).integers(0, 60000, (2, 3, 300, 530)).astype(np.uint16)
    path = tmp_path / "cells.ome.tif"
    metadata = {
        "axes": "CZYX",
        "PhysicalSizeX": 100,
        "PhysicalSizeXUnit": "nm",
        "PhysicalSizeY": 0.1,
        "PhysicalSizeYUnit": "µm",
        "Channel": {"Name": ["DAPI", "GFP"]},
    }
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata=metadata)
    image = upload(path)
    assert image["name"] == "cells.ome.tif"
    assert (image["kind"], image["rgb"], image["v"]) == ("image", False, 1)
    assert image["dims"] == ["channel", "z", "y", "x"]
    assert image["sizes"] == {"time": 1, "channel": 2, "z": 3, "y": 300, "x": 530}
    assert (image["axes_known"], image["dtype"], image["pixels"]) == (True, "uint16", "uint16")
    assert image["pixel_size"] == {"y": 0.1, "x": 0.1}  # in one unit, whatever the file's
    assert (image["unit"], image["tile"]) == ("µm", 256)
    assert image["levels"] == [
        {"y": 300, "x": 530},
        {"y": 150, "x": 265},
        {"y": 75, "x": 133},
    ]
    dapi, gfp = image["channels"]
    assert (dapi["name"], gfp["name"]) == ("DAPI", "GFP")
    assert dapi["color"] == "#4060ff"
    assert gfp["color"] == "#00ff00"
    assert dapi["range"] == [0, 65535]
    low, high = np.percentile(pixels[0, 1], (0.1, 99.9))
    assert dapi["contrast"] == [math.floor(low), math.ceil(high)]
    for channel, z in ((0, 0), (1, 2)):
        sent = _level(client, image, 0, f"0/{channel}/{z}")
        np.testing.assert_array_equal(sent, pixels[channel, z])
    assert client.get(f"/api/images/{image['id']}").json() == image
    assert image in client.get("/api/images").json()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_each_level_is_the_mean_of_the_one_below(
    client: TestClient, upload: Describe, tmp_path: Path, dtype: str
) -> None:
    pixels = (np.random.default_rng(2).random((2115, 1301)) * 250).astype(dtype)  # odd all the way
    if dtype == "float32":
        pixels[5:9, 5:9] = np.nan  # a hole stays a hole, but does not grow
        pixels[100, 100] = np.nan
    path = tmp_path / "wide.tif"
    tifffile.imwrite(path, pixels)
    image = upload(path)
    assert [tuple(s.values()) for s in image["levels"]] == [
        (2115, 1301), (1058, 651), (529, 326), (265, 163), (133, 82),
    ]  # fmt: skip
    expected = pixels
    for level in range(5):
        np.testing.assert_allclose(
            _level(client, image, level), expected, rtol=1e-6 if dtype == "float32" else 0
        )
        expected = _half(expected)
    if dtype == "float32":
        assert np.isnan(_level(client, image, 1)).sum() == 1  # of 6:8, 6:8 nothing is left


def test_labels_keep_their_numbers_at_every_level(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    labels = np.zeros((2060, 600), np.int32)
    labels[100:900, 50:500] = 70000
    labels[1000:2000, 30:333] = 3
    path = tmp_path / "found.ome.tif"
    write_image(path, xr.DataArray(labels, dims=("y", "x")))
    image = upload(path)
    assert (image["kind"], image["pixels"]) == ("labels", "uint32")
    for level in range(len(image["levels"])):
        step = 2**level
        np.testing.assert_array_equal(_level(client, image, level), labels[::step, ::step])


@pytest.mark.parametrize(
    ("stored", "sent"),
    [
        ("bool", "uint8"), ("int8", "float32"), ("int16", "float32"), ("int32", "float32"),
        ("uint32", "float32"), ("int64", "float32"), ("float16", "float32"),
        ("float64", "float32"), (">u2", "uint16"),
    ],
)  # fmt: skip
def test_every_number_type_is_sent_as_one_of_four(
    client: TestClient, upload: Describe, tmp_path: Path, stored: str, sent: str
) -> None:
    pixels = _noise((40, 50), stored)
    np.save(tmp_path / "x.npy", pixels)
    image = upload(tmp_path / "x.npy")
    assert (image["kind"], image["pixels"]) == ("image", sent)
    np.testing.assert_array_equal(_tile(client, image), pixels.astype(sent))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 1e300, -7.5])
def test_contrast_is_finite_and_rises_whatever_the_pixels(
    client: TestClient, upload: Describe, tmp_path: Path, value: float
) -> None:
    pixels = np.full((30, 30), value)
    np.save(tmp_path / "x.npy", pixels)
    image = upload(tmp_path / "x.npy")
    for low, high in (image["channels"][0]["contrast"], image["channels"][0]["range"]):
        assert math.isfinite(low)
        assert low < high < math.inf
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(_tile(client, image), pixels.astype(np.float32))


def test_not_a_number_does_not_spoil_the_contrast(upload: Describe, tmp_path: Path) -> None:
    pixels = np.linspace(0, 1, 10000, dtype=np.float32).reshape(100, 100)
    pixels[::3] = np.nan
    tifffile.imwrite(tmp_path / "holes.tif", pixels)
    low, high = upload(tmp_path / "holes.tif")["channels"][0]["contrast"]
    assert low == pytest.approx(0.011, abs=0.01)
    assert high == pytest.approx(0.999, abs=0.01)


def test_contrast_of_a_large_image_comes_from_all_over_it(upload: Describe, tmp_path: Path) -> None:
    pixels = np.full((1500, 1500), 100, np.uint16)
    pixels[1100:] = 900  # only at the bottom
    tifffile.imwrite(tmp_path / "large.tif", pixels)
    assert upload(tmp_path / "large.tif")["channels"][0]["contrast"] == [100, 900]


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_a_colour_picture_is_red_green_and_blue_as_it_is(
    client: TestClient, upload: Describe, tmp_path: Path, mode: str
) -> None:
    pixels = _noise((20, 30, len(mode)), np.uint8)
    Pillow.fromarray(pixels).save(tmp_path / "tissue.png")
    image = upload(tmp_path / "tissue.png")
    assert image["rgb"] is True
    assert [c["name"] for c in image["channels"]] == ["red", "green", "blue"]
    assert [c["color"] for c in image["channels"]] == ["#ff0000", "#00ff00", "#0000ff"]
    assert image["channels"][0]["contrast"] == [0, 255]
    assert bool(image["notes"]) == (mode == "RGBA")  # transparency is left out, and told
    for channel in range(3):
        sent = _tile(client, image, at=f"0/{channel}/0")
        np.testing.assert_array_equal(sent, pixels[..., channel])


def test_three_channels_are_not_taken_for_colours(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    pixels = _noise((3, 40, 50), np.uint8)
    path = tmp_path / "three.ome.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "CYX"})
    image = upload(path)
    assert image["rgb"] is False
    assert len({c["color"] for c in image["channels"]}) == 3
    np.testing.assert_array_equal(_tile(client, image, at="0/2/0"), pixels[2])


def test_colours_of_the_file_are_kept(upload: Describe, tmp_path: Path) -> None:
    path = tmp_path / "coloured.ome.tif"
    metadata = {"axes": "CYX", "Channel": {"Name": ["a", "b"], "Color": [-16776961, 16711935]}}
    tifffile.imwrite(path, _noise((2, 9, 9), "u1"), photometric="minisblack", metadata=metadata)
    assert [c["color"] for c in upload(path)["channels"]] == ["#ff0000", "#00ff00"]


def test_one_pixel_is_an_image(client: TestClient, upload: Describe, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "dot.tif", np.array([[7]], np.uint16))
    image = upload(tmp_path / "dot.tif")
    assert image["levels"] == [{"y": 1, "x": 1}]
    assert _tile(client, image).tolist() == [[7]]


def test_time_and_depth_are_kept_apart(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    pixels = _noise((4, 3, 2, 30, 40), np.uint16)
    path = tmp_path / "movie.ome.tif"
    tifffile.imwrite(path, pixels, photometric="minisblack", metadata={"axes": "TZCYX"})
    image = upload(path)
    assert image["sizes"] == {"time": 4, "channel": 2, "z": 3, "y": 30, "x": 40}
    np.testing.assert_array_equal(_tile(client, image, at="3/1/2"), pixels[3, 2, 1])


# ------------------------------------------------------------------------------ axes, corrections


@pytest.mark.parametrize(
    ("shape", "axes"),
    [
        ((50, 60), "yx"), ((30, 50, 60), "zyx"), ((3, 50, 60), "cyx"), ((50, 60, 3), "yxc"),
        ((30, 2, 50, 60), "zcyx"), ((2, 30, 50, 60), "czyx"), ((9, 30, 50, 60), "tzyx"),
        ((9, 30, 50, 60, 3), "tzyxc"), ((9, 30, 2, 50, 60), "tzcyx"),
    ],
)  # fmt: skip
def test_the_likeliest_axes_of_a_shape(shape: tuple[int, ...], axes: str) -> None:
    names = {"time": "t", "channel": "c"}
    assert "".join(names.get(a, a) for a in guess_axes(shape)) == axes


def test_guessed_axes_are_called_so_and_can_be_corrected(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    pixels = _noise((9, 40, 300), np.uint8)
    np.save(tmp_path / "stack.npy", pixels)
    guessed = upload(tmp_path / "stack.npy")
    assert (guessed["axes_known"], guessed["dims"]) == (False, ["z", "y", "x"])
    before = _tile(client, guessed, at="0/0/3")
    address = f"/api/images/{guessed['id']}"
    asked = {"axes": "txy", "pixel_size": {"y": 0.2, "x": 0.3}}
    corrected = client.post(f"{address}/axes", json=asked).json()
    assert (corrected["id"], corrected["v"]) == (guessed["id"], 2)
    assert (corrected["axes_known"], corrected["dims"]) == (True, ["time", "x", "y"])
    assert corrected["sizes"] == {"time": 9, "channel": 1, "z": 1, "y": 300, "x": 40}
    assert corrected["pixel_size"] == {"y": 0.2, "x": 0.3}
    np.testing.assert_array_equal(_level(client, corrected, at="3/0/0"), pixels[3].T)
    np.testing.assert_array_equal(before, pixels[3][:, :256])
    # An address never changes what it answers: the old one is gone.
    for old in ("", "?v=1"):
        assert client.get(f"{address}/tiles/0/0/0/0/0/0{old}").status_code == 404


def test_a_pixel_size_alone_keeps_the_tiles(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _noise((20, 20), np.uint8))
    image = upload(tmp_path / "a.tif")
    assert image["pixel_size"] is None
    address = f"/api/images/{image['id']}/axes"
    corrected = client.post(address, json={"pixel_size": {"y": 0.5, "x": 0.5}}).json()
    assert corrected == {**image, "pixel_size": {"y": 0.5, "x": 0.5}}
    again = client.post(address, json={"axes": "xy"}).json()
    assert again["pixel_size"] == {"y": 0.5, "x": 0.5}
    assert client.post(address, json={"pixel_size": {}}).json()["pixel_size"] is None


def test_what_is_labels_can_be_said(client: TestClient, upload: Describe, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", _noise((20, 20), np.uint16))
    image = upload(tmp_path / "a.tif")
    corrected = client.post(f"/api/images/{image['id']}/axes", json={"kind": "labels"}).json()
    assert (corrected["kind"], corrected["pixels"], corrected["v"]) == ("labels", "uint32", 2)
    np.testing.assert_array_equal(_tile(client, corrected), _tile(client, corrected))


@pytest.mark.parametrize(
    "asked",
    [
        {"axes": "yx"}, {"axes": "qyx"}, {"axes": "yyx"}, {"axes": "tcz"}, {"axes": "byx"},
        {"pixel_size": {"x": -1}}, {"pixel_size": {"time": 1}}, {"kind": "cells"}, {"axes": ""},
    ],
)  # fmt: skip
def test_a_wrong_correction_says_why_and_changes_nothing(
    client: TestClient, upload: Describe, tmp_path: Path, asked: dict[str, Any]
) -> None:
    np.save(tmp_path / "stack.npy", _noise((9, 40, 50), np.uint8))
    image = upload(tmp_path / "stack.npy")
    answer = client.post(f"/api/images/{image['id']}/axes", json=asked)
    assert answer.status_code == 422
    assert answer.json()["error"]
    assert client.get(f"/api/images/{image['id']}").json() == image
    assert _tile(client, image, at="0/0/8").shape == (40, 50)


# ------------------------------------------------------------------------------------- bad files


def _truncated(path: Path) -> bytes:
    tifffile.imwrite(path, _noise((500, 500), np.uint16))
    return path.read_bytes()[:200_000]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (lambda path: b"dear diary, today I", "its content does not"),
        (lambda path: b"", "empty"),
        (_truncated, "truncated"),
        (lambda path: b"<!DOCTYPE html><html>", "a web page"),
        (lambda path: b"II*\0" + bytes(40), ""),
        (lambda path: b"\x93NUMPY\x01\x00" + bytes(9), ""),
        (lambda path: b"\x89PNG\r\n\x1a\n" + bytes(99), ""),
    ],
)
def test_a_bad_file_is_refused_in_the_users_words_and_not_kept(
    app: Any,
    client: TestClient,
    tmp_path: Path,
    content: Callable[[Path], bytes],
    says: str,
) -> None:
    answer = client.post(
        "/api/images/uploads?name=my cells.tif", content=content(tmp_path / "x.tif")
    )
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert says in error
    assert "my cells.tif" in error
    assert str(app.state.server.folder) not in error
    assert not list(app.state.server.images.folder.glob("uploads/*/my cells.tif"))


def test_a_file_damaged_in_the_middle_is_told_by_the_tile(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    path = tmp_path / "damaged.tif"
    pixels = _noise((2048, 2048), np.uint16)
    tifffile.imwrite(path, pixels, compression="zlib", tile=(128, 128))
    with tifffile.TiffFile(path) as tif:
        at = tif.pages[0].dataoffsets[4]  # contrast is looked for elsewhere
    data = bytearray(path.read_bytes())
    data[at : at + 64] = bytes(64)
    path.write_bytes(data)
    image = upload(path)
    address = f"/api/images/{image['id']}/tiles"
    for broken in (f"{address}/0/0/0/0/0/2", f"{address}/3/0/0/0/0/0"):
        answer = client.get(broken)
        assert answer.status_code == 422
        assert "damaged.tif" in answer.json()["error"]
    np.testing.assert_array_equal(_tile(client, image), pixels[:256, :256])


def test_too_large_is_refused_by_its_header_and_by_counting(app: Any, client: TestClient) -> None:
    before = set(app.state.server.images.folder.glob("uploads/*"))
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(30):
            sent += 1
            yield bytes(2**20)

    declared = client.post(
        "/api/images/uploads?name=a.tif", content=b"", headers={"content-length": str(3 * 2**30)}
    )
    counted = client.post("/api/images/uploads?name=a.tif", content=endless())
    assert sent > 20  # without a length: only counting can tell
    for answer in (declared, counted):
        assert answer.status_code == 413
        assert "a.tif is too large" in answer.json()["error"]
    assert set(app.state.server.images.folder.glob("uploads/*")) == before


def test_only_uploads_may_be_large(client: TestClient) -> None:
    large = json.dumps({"path": "x" * 5 * 2**20}).encode()

    def chunks() -> Iterator[bytes]:
        for at in range(0, len(large), 2**16):
            yield large[at : at + 2**16]

    for content in (large, chunks()):
        headers = {"content-type": "application/json"}
        answer = client.post("/api/images/paths", content=content, headers=headers)
        assert answer.status_code == 413
        assert "too large" in answer.json()["error"]
    said = {"content-length": str(5 * 2**20)}  # told before any of it is read
    assert client.post("/api/images/paths", content=b"", headers=said).status_code == 413
    assert client.post("/api/images/uploads", content=large).status_code == 422  # taken, no image


def test_a_full_disk_is_told(
    client: TestClient, upload: Describe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Pyramid, "_build", full)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2100, 2100), np.uint8))
    image = upload(tmp_path / "a.tif")
    answer = client.get(f"/api/images/{image['id']}/tiles/3/0/0/0/0/0")
    assert answer.status_code == 507
    assert "No space left" in answer.json()["error"]
    monkeypatch.undo()
    assert _tile(client, image, 3).shape == (256, 256)  # tried anew, not remembered as broken

    usage = shutil.disk_usage(tmp_path)._replace(free=10)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    answer = client.post("/api/images/uploads?name=a.tif", content=bytes(100))
    assert answer.status_code == 507
    assert "a.tif" in answer.json()["error"]


def test_an_uploaded_ome_tiff_cannot_reach_for_other_files(
    client: TestClient, tmp_path: Path
) -> None:
    secret = tmp_path / "secret.tif"
    tifffile.imwrite(secret, np.full((16, 16), 42, np.uint8))
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
        'UUID="urn:uuid:1"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        'Type="uint8" SizeX="16" SizeY="16" SizeZ="1" SizeC="1" SizeT="1"><TiffData IFD="0">'
        f'<UUID FileName="{secret}">urn:uuid:2</UUID></TiffData></Pixels></Image></OME>'
    )
    attack = tmp_path / "attack.ome.tif"
    tifffile.imwrite(attack, np.zeros((16, 16), np.uint8), description=xml, metadata=None)
    answer = client.post("/api/images/uploads?name=attack.ome.tif", content=attack.read_bytes())
    assert answer.status_code == 422
    assert "another file" in answer.json()["error"]


# -------------------------------------------------------------------------------- limits and scenes


def test_a_session_keeps_so_much_and_is_told_then(tmp_path: Path) -> None:
    zoo = Settings(home=tmp_path / "home", index_url="http://127.0.0.1:9/x", offline=True)
    app = create_app(ServerSettings(zoo, max_upload=50_000, max_kept=100_000), pages=False)
    tifffile.imwrite(tmp_path / "a.tif", _noise((200, 200), np.uint8))  # 40 kB
    content = (tmp_path / "a.tif").read_bytes()

    def chunks() -> Iterator[bytes]:  # nobody says how much it will be
        for at in range(0, len(content), 1000):
            yield content[at : at + 1000]

    with TestClient(app, base_url=BASE) as client:
        client.get("/api/images")
        send = "/api/images/uploads?name=a.tif"
        bad = client.post(send, content=b"no image" * 5000)
        assert bad.status_code == 422
        kept = [client.post(send, content=c).json()["id"] for c in (content, chunks())]
        for more in (content, chunks()):
            answer = client.post(send, content=more)
            assert answer.status_code == 413
            error = answer.json()["error"]
            assert error.startswith("a.tif is not taken: this server keeps up to 100 kB of images")
            assert "you keep 80.5 kB already" in error
        said = {"content-length": str(len(content))}  # told before any of it is read
        assert client.post(send, content=b"", headers=said).status_code == 413
        assert len(list(app.state.server.images.folder.glob("uploads/*/*"))) == 2
        stranger = TestClient(app, base_url=BASE)
        assert stranger.post(send, content=content).status_code == 201  # each has their own
        assert client.delete(f"/api/images/{kept[0]}").status_code == 204
        assert client.post(send, content=content).status_code == 201


def test_uploads_go_by_themselves_when_nobody_comes_back(tmp_path: Path) -> None:
    zoo = Settings(home=tmp_path / "home", index_url="http://127.0.0.1:9/x", offline=True)
    app = create_app(ServerSettings(zoo, keep_hours=0.5 / 3600), pages=False)
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    with TestClient(app, base_url=BASE) as client:
        sent = client.post(
            "/api/images/uploads?name=a.tif", content=(tmp_path / "a.tif").read_bytes()
        )
        folder = app.state.server.images.folder
        assert len(list(folder.glob("uploads/*/a.tif"))) == 1
        limit = time.monotonic() + 60
        while list(folder.glob("uploads/*")) and time.monotonic() < limit:
            time.sleep(0.05)
        assert not list(folder.glob("uploads/*"))
        answer = client.get(f"/api/images/{sent.json()['id']}")
        assert answer.status_code == 404
        assert "open it again" in answer.json()["error"]


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path: Path) -> None:
    zoo = Settings(home=tmp_path / "home", index_url="http://127.0.0.1:9/x", offline=True)
    left = zoo.cache / "server-0123456789abcdef" / "images"
    left.mkdir(parents=True)
    first = create_app(ServerSettings(zoo), pages=False)
    assert not left.exists()
    second = create_app(ServerSettings(zoo), pages=False)
    for app in (first, second):  # neither takes the other's
        folder = app.state.server.folder
        assert folder.is_dir()
        with TestClient(app):
            pass
        assert not folder.exists()


def test_another_image_of_a_file_of_several_can_be_chosen(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    path = tmp_path / "two.ome.tif"
    small, large = _noise((30, 40), np.uint8), _noise((2, 300, 280), np.uint16, 3)
    with tifffile.TiffWriter(path, ome=True) as tif:
        tif.write(small, metadata={"axes": "YX", "Name": "overview"})
        tif.write(
            large, photometric="minisblack", metadata={"axes": "CYX", "Name": "detail",
            "Channel": {"Name": ["DAPI", "GFP"]}},
        )  # fmt: skip
    image = upload(path)
    assert (image["scene"], image["scenes"]) == (0, ["overview", "detail"])
    assert "holds 2 images: 0 (overview), 1 (detail); this is number 0" in image["notes"][0]
    address = f"/api/images/{image['id']}/axes"
    client.post(address, json={"axes": "xy", "pixel_size": {"y": 5, "x": 5}})
    other = client.post(address, json={"scene": 1}).json()
    assert (other["scene"], other["v"], other["dtype"]) == (1, 3, "uint16")
    assert other["dims"] == ["channel", "y", "x"]  # what was said of the other one does not count
    assert other["pixel_size"] is None
    assert [c["name"] for c in other["channels"]] == ["DAPI", "GFP"]
    np.testing.assert_array_equal(_level(client, other, 0, "0/1/0"), large[1])
    kept = client.post(address, json={"kind": "labels"}).json()
    assert kept["scene"] == 1
    wrong = client.post(address, json={"scene": 2})
    assert (wrong.status_code, "no scene 2" in wrong.json()["error"]) == (422, True)
    assert str(tmp_path) not in wrong.json()["error"]
    assert client.get(f"/api/images/{image['id']}").json()["scene"] == 1


# ------------------------------------------------------------------------------------- zipped Zarr


def _zarr(folder: Path, pixels: np.ndarray, name: str = "well.ome.zarr") -> Path:
    data = xr.DataArray(pixels, dims=("channel", "y", "x"), coords={"channel": ["DAPI", "RFP"]})
    write_image(folder / name, data)
    return folder / name


def _zipped(folder: Path, top: Path) -> bytes:
    """A zip of all below `folder`, named from `top` on."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(top))
    return content.getvalue()


@pytest.mark.parametrize("inside", ["a folder", "in folders", "at its top"])
def test_a_zipped_ome_zarr_opens(app: Any, client: TestClient, tmp_path: Path, inside: str) -> None:
    pixels = _noise((2, 1100, 1030), np.uint16)
    zarr = _zarr(tmp_path / "more" / "wells", pixels)
    top = {"a folder": zarr.parent, "in folders": tmp_path, "at its top": zarr}[inside]
    before = app.state.server.images.shares.kept(_owner(app, client))
    answer = client.post("/api/images/uploads?name=cells.ome.zarr.zip", content=_zipped(zarr, top))
    image = answer.json()
    assert answer.status_code == 201, image
    assert image["name"] == ("cells.ome.zarr" if inside == "at its top" else "well.ome.zarr")
    assert [c["name"] for c in image["channels"]] == ["DAPI", "RFP"]
    np.testing.assert_array_equal(_level(client, image, 0, "0/1/0"), pixels[1])
    opened = app.state.server.images.get(image["id"], _owner(app, client))
    size = sum(p.stat().st_size for p in opened.owned.rglob("*") if p.is_file())
    assert app.state.server.images.shares.kept(_owner(app, client)) - before == size
    client.delete(f"/api/images/{image['id']}")
    assert not opened.owned.exists()
    assert app.state.server.images.shares.kept(_owner(app, client)) == before


def _owner(app: Any, client: TestClient) -> str:
    return client.cookies["biozoo_session"]


def test_a_zipped_ome_zarr_of_an_allowed_folder_opens_and_stays(
    app: Any, client: TestClient, folder: Path, tmp_path: Path
) -> None:
    pixels = _noise((2, 40, 30), np.uint8)
    zarr = _zarr(tmp_path, pixels)
    (folder / "well.zip").write_bytes(_zipped(zarr, tmp_path))
    image = client.post("/api/images/paths", json={"path": "well.zip"}).json()
    np.testing.assert_array_equal(_level(client, image), pixels[0])
    client.delete(f"/api/images/{image['id']}")
    assert (folder / "well.zip").exists()


def _archive(*members: tuple[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (_archive(("a.tif", b"x"), ("b.tif", b"y")), "without an OME-Zarr"),
        (_archive(), "without an OME-Zarr"),
        (_archive(("a.zarr/.zattrs", b"{}"), ("b.zarr/.zattrs", b"{}")), "zip of 2 OME-Zarr"),
        (_archive(("a.zarr/.zattrs", b"{}")), "multiscales"),
        (_archive(("a.zarr/.zattrs", b"{}"), ("../../evil", b"x")), "would leave the folder"),
        (_archive(("a.zarr/.zattrs", b"{}"), ("/etc/evil", b"x")), "would leave the folder"),
        (_archive(("a.zarr/.zattrs", b"{}"), ("a.zarr/0/0", bytes(2**21))), "zip bomb"),
        (_archive(("a.zarr/.zattrs", b"{}"))[:-30], "no complete zip"),
        (b"PK\x03\x04" + bytes(50), "no complete zip"),
        (b"not a zip", "no complete zip"),
    ],
)  # fmt: skip
def test_other_zips_are_refused_with_what_to_do(
    app: Any, client: TestClient, content: bytes, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("biozoo.archive.BOMB_BYTES", 2**20)
    before = set(app.state.server.images.folder.glob("uploads/*"))
    answer = client.post("/api/images/uploads?name=my wells.zip", content=content)
    assert answer.status_code == 422
    error = answer.json()["error"]
    assert says in error
    assert str(app.state.server.folder) not in error
    assert set(app.state.server.images.folder.glob("uploads/*")) == before


def test_more_than_one_may_keep_is_not_unpacked(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store", most_kept=10_000)
    (tmp_path / "a.zip").write_bytes(
        _archive(("a.zarr/.zattrs", b"{}"), ("a.zarr/0", b"x" * 10**5))
    )
    with pytest.raises(UsageError, match="keeps up to 10 kB"):
        store.add("me", tmp_path / "a.zip")
    assert store.shares.kept("me") == 0
    store.close()


def test_an_ome_zarr_cannot_reach_for_other_files(client: TestClient, tmp_path: Path) -> None:
    secret = _zarr(tmp_path, _noise((2, 30, 30), np.uint8), "secret.zarr")
    attack = _zarr(tmp_path, _noise((2, 30, 30), np.uint8), "attack.zarr")
    described = json.loads((attack / "zarr.json").read_text())
    ome = described["attributes"]["ome"]
    level = ome["multiscales"][0]["datasets"][0]
    for reach in (str(secret / level["path"]), f"../secret.zarr/{level['path']}"):
        level["path"] = reach
        (attack / "zarr.json").write_text(json.dumps(described))
        answer = client.post(
            "/api/images/uploads?name=a.zip", content=_zipped(attack, attack.parent)
        )
        assert answer.status_code == 422
        assert "not in its folder" in answer.json()["error"]
    series = {"zarr_format": 2, "bioformats2raw.layout": 3}
    content = _archive(
        ("a.zarr/.zattrs", json.dumps(series).encode()), ("a.zarr/.zgroup", b"{}"),
        ("a.zarr/OME/.zattrs", json.dumps({"series": [str(secret)]}).encode()),
    )  # fmt: skip
    answer = client.post("/api/images/uploads?name=a.zip", content=content)
    assert answer.status_code == 422
    assert "not in its folder" in answer.json()["error"]


def test_names_of_uploads_stay_in_their_folder() -> None:
    assert safe_name("../../etc/my cells.tif") == "my cells.tif"
    assert safe_name("C:\\data\\a.tif") == "a.tif"
    assert safe_name("..") == safe_name("") == safe_name("a/") == "image"
    assert safe_name("x" * 400 + ".ome.tif").endswith("x.ome.tif")
    assert len(safe_name("x" * 400 + ".ome.tif")) == 150
    assert safe_name("µ" * 99 + ".tif") == "µ" * 73 + ".tif"
    assert safe_name("a\0b\n.tif") == "a_b_.tif"


# ------------------------------------------------------------------------- paths, samples, tiles


def test_paths_within_the_allowed_folders_are_opened(
    client: TestClient, folder: Path, tmp_path: Path
) -> None:
    pixels = _noise((2, 1100, 1030), np.uint16)
    data = xr.DataArray(
        pixels,
        dims=("channel", "y", "x"),
        coords={"channel": ["DAPI", "RFP"]},
        attrs={"pixel_size": {"y": 0.3, "x": 0.3}, "unit": {"y": "micrometer", "x": "micrometer"}},
    )
    write_image(folder / "well.ome.zarr", data)
    for named in (str(folder / "well.ome.zarr"), "well.ome.zarr"):
        image = client.post("/api/images/paths", json={"path": named}).json()
        assert image["name"] == "well.ome.zarr"
        assert image["pixel_size"] == {"y": 0.3, "x": 0.3}
        np.testing.assert_array_equal(_level(client, image, 0, "0/1/0"), pixels[1])
        own = _level(client, image, 1, "0/1/0")  # as its writer rounded it
        np.testing.assert_allclose(own, _half(pixels[1]), atol=1)
    missing = client.post("/api/images/paths", json={"path": str(folder / "none.tif")})
    assert missing.status_code == 404


def test_other_paths_are_refused_without_telling_what_exists(
    client: TestClient, folder: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "private.tif"
    tifffile.imwrite(outside, np.zeros((5, 5), np.uint8))
    link = folder / "link.tif"
    link.symlink_to(outside)
    (folder / "loop.tif").symlink_to(folder / "loop.tif")
    inside = folder.parent / f"{folder.name}-more"
    there = [outside, link, f"{folder}/../{tmp_path.name}/private.tif", inside, folder / "loop.tif"]
    absent = [tmp_path / "absent.tif", f"{folder}/../../absent.tif", "~nobody-at-all/x", "a\0b", ""]
    for path in map(str, [*there, *absent]):
        answer = client.post("/api/images/paths", json={"path": path})
        if path == "":  # the folder itself: inside, and no image
            assert answer.status_code == 422
            continue
        assert answer.status_code == 403, path
        assert answer.json()["error"].startswith(f"{path} is not within a folder")


def test_without_allowed_folders_no_path_is_opened(tmp_path: Path) -> None:
    from biozoo.errors import BiozooError

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 5), np.uint8))
    store = ImageStore(tmp_path / "store")
    with pytest.raises(BiozooError, match="not within") as caught:
        store.allowed_path(str(tmp_path / "a.tif"))
    assert caught.value.http_status == 403
    store.close()


@pytest.mark.parametrize(("kind", "rgb"), [("nuclei", False), ("histology", True), ("em", False)])
def test_samples(client: TestClient, kind: str, rgb: bool) -> None:
    image = client.post("/api/images/samples", json={"kind": kind}).json()
    assert image["rgb"] is rgb
    assert image["kind"] == "image"
    assert image["pixel_size"]["x"] > 0
    assert _tile(client, image).std() > 0


def test_an_unknown_sample(client: TestClient) -> None:
    assert client.post("/api/images/samples", json={"kind": "../x"}).status_code == 404


def test_tiles_are_cached_compressed_or_plain(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    pixels = np.zeros((300, 300), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", pixels)
    address = f"/api/images/{upload(tmp_path / 'a.tif')['id']}/tiles/0/0/0/0/0/0"
    for accepted, packed in (("gzip, br", True), ("identity", False), ("gzip;q=0", False)):
        answer = client.get(address, headers={"accept-encoding": accepted})
        assert answer.headers.get("content-encoding") == ("gzip" if packed else None)
        assert answer.headers["cache-control"] == "private, max-age=3600, immutable"
        assert "accept-encoding" in answer.headers["vary"]
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.content == bytes(256 * 256)
        if packed:
            assert int(answer.headers["content-length"]) < 2000


@pytest.mark.parametrize(
    "tile",
    ["2/0/0/0/0/0", "-1/0/0/0/0/0", "0/1/0/0/0/0", "0/0/1/0/0/0", "0/0/0/1/0/0", "0/0/0/0/2/0",
     "0/0/0/0/0/2", "0/0/0/0/0/-1", "0/0/0/-1/0/0"],
)  # fmt: skip
def test_tiles_that_do_not_exist(
    client: TestClient, upload: Describe, tmp_path: Path, tile: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((300, 300), np.uint8))
    answer = client.get(f"/api/images/{upload(tmp_path / 'a.tif')['id']}/tiles/{tile}")
    assert answer.status_code == 404
    assert answer.json()["error"]


def test_a_files_own_levels_are_used_where_they_are_halves(
    client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    path = tmp_path / "own.ome.tif"
    with tifffile.TiffWriter(path) as tif:
        options: dict[str, Any] = {"photometric": "minisblack", "tile": (128, 128)}
        tif.write(np.full((2, 2100, 1000), 10, np.uint16), subifds=2, **options)
        tif.write(np.full((2, 1050, 500), 20, np.uint16), subfiletype=1, **options)
        tif.write(np.full((2, 500, 250), 30, np.uint16), subfiletype=1, **options)  # 525 would fit
    image = upload(path)
    seen = [int(np.unique(_level(client, image, n, "0/0/0"))[0]) for n in range(5)]
    assert seen == [10, 20, 20, 20, 20]


def test_levels_that_made_room_for_others_are_made_again(tmp_path: Path) -> None:
    pixels = _noise((3, 2100, 300), np.uint8)
    np.save(tmp_path / "a.npy", pixels)
    planes = Planes(most_bytes=1)  # room for the newest only
    source = open_source(tmp_path / "a.npy", tmp_path, axes="zyx")
    folder = tmp_path / "levels"
    pyramid = Pyramid(source, np.dtype(np.uint8), labels=False, folder=folder, planes=planes)
    for z in (0, 1, 2, 0, 1, 0):
        expected = _half(_half(_half(pixels[z])))
        for row in range(2):
            sent = pyramid.tile(3, Place(0, 0, z), row, 0)
            np.testing.assert_array_equal(sent, expected[256 * row : 256 * (row + 1)])
    assert len(list(folder.iterdir())) == 1
    planes.close()


# -------------------------------------------------------------------------------- whose image is it


def test_an_image_is_its_sessions_alone(
    app: Any, client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((9, 9), np.uint8))
    image = upload(tmp_path / "a.tif")
    address = f"/api/images/{image['id']}"
    other = TestClient(app, base_url=BASE)
    other.get("/api/images")
    assert other.get("/api/images").json() == []
    unknown = other.get("/api/images/does-not-exist").json()["error"]
    for answer in (
        other.get(address),
        other.get(f"{address}/tiles/0/0/0/0/0/0"),
        other.post(f"{address}/axes", json={"axes": "xy"}),
        other.delete(address),
    ):
        assert answer.status_code == 404
        assert answer.json()["error"] == unknown.replace("does-not-exist", image["id"])
    assert client.get(address).json() == image


def test_the_sessions_cookie_is_kept_from_scripts_and_other_sites(app: Any) -> None:
    browser = TestClient(app, base_url=BASE)
    cookie = browser.get("/api/images").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    assert "set-cookie" not in browser.get("/api/images").headers
    forged = TestClient(app, base_url=BASE, cookies={"biozoo_session": "me; Path=/"})
    assert "set-cookie" in forged.get("/api/images").headers
    secure = TestClient(app, base_url=BASE.replace("http", "https"))
    assert "Secure" in secure.get("/api/images").headers["set-cookie"]


def test_a_program_has_the_session_of_its_token(app: Any) -> None:
    headers = {"authorization": f"Bearer {TOKEN}"}
    made = TestClient(app, base_url=BASE, headers=headers)
    image = made.post("/api/images/samples", json={"kind": "nuclei"})
    assert "set-cookie" not in image.headers
    again = TestClient(app, base_url=BASE, headers=headers)
    assert again.get(f"/api/images/{image.json()['id']}").status_code == 200
    stranger = TestClient(app, base_url=BASE, headers={"authorization": "Bearer another-one"})
    assert stranger.get(f"/api/images/{image.json()['id']}").status_code == 404


def test_a_removed_image_is_gone_with_its_file(
    app: Any, client: TestClient, upload: Describe, tmp_path: Path
) -> None:
    Pillow.fromarray(_noise((30, 30), np.uint8)).save(tmp_path / "gone.png")
    image = upload(tmp_path / "gone.png")
    files = app.state.server.images.folder
    assert list(files.glob("uploads/*/gone.png"))
    assert client.delete(f"/api/images/{image['id']}").status_code == 204
    assert not list(files.glob("uploads/*/gone.png"))
    assert not (files / "levels" / image["id"]).exists()
    assert client.get(f"/api/images/{image['id']}").status_code == 404
    assert client.delete(f"/api/images/{image['id']}").status_code == 404


def test_a_file_opened_by_its_path_outlives_its_image(client: TestClient, folder: Path) -> None:
    tifffile.imwrite(folder / "mine.tif", np.zeros((9, 9), np.uint8))
    image = client.post("/api/images/paths", json={"path": "mine.tif"}).json()
    client.delete(f"/api/images/{image['id']}")
    assert (folder / "mine.tif").exists()


def test_uploads_that_nobody_looks_at_are_removed(tmp_path: Path) -> None:
    store = ImageStore(tmp_path / "store", idle_seconds=0.0)
    owned, name = store.upload_path("a.tif")
    tifffile.imwrite(owned / name, np.zeros((9, 9), np.uint8))
    image = store.add("me", owned / name, owned=owned)
    store.prune()
    assert not owned.exists()
    with pytest.raises(NotFoundError, match="open it again"):
        store.get(image.id, "me")
    store.close()


def test_the_routes_are_described(app: Any) -> None:
    paths = app.openapi()["paths"]
    body = paths["/api/images/uploads"]["post"]["requestBody"]["content"]
    assert "application/octet-stream" in body
    tile = paths["/api/images/{image_id}/tiles/{level}/{time}/{channel}/{z}/{row}/{column}"]["get"]
    assert "application/octet-stream" in tile["responses"]["200"]["content"]
    assert all("summary" in way for p, ways in paths.items() if "images" in p
               for way in ways.values())  # fmt: skip
