"""CZI, LIF and ND2: what is read of them with `[bioio]`, and what is said without."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from biozoo import Settings
from biozoo.errors import ImageReadError, MissingDependencyError, UsageError
from biozoo.install import install_line
from biozoo_runners.images import find_images, open_image
from vendor_files import write_czi, write_lif, write_nd2

HEADS = {
    "a.czi": b"ZISRAWFILE" + bytes(60),
    "a.lif": b"p\0\0\0\x20\0\0\0*" + bytes(60),
    "a.nd2": b"\xda\xce\xbe\x0a" + bytes(60),
    "old.nd2": b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(60),
}


def pixels(*shape: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 250, shape).astype(dtype)


def read(path: Path, **chosen: Any) -> NDArray[Any]:
    return np.asarray(open_image(path).read(chosen).values)


# --- without the libraries ------------------------------------------------------------------------


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where `[bioio]` is not installed."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *more: None if name.startswith("bioio") else found(name, *more),
    )


@pytest.mark.usefixtures("without")
@pytest.mark.parametrize("name", HEADS)
def test_it_is_said_how_to_install_the_reader(tmp_path: Path, name: str) -> None:
    """What is missing, the line to type, and the other way."""
    (tmp_path / name).write_bytes(HEADS[name])
    with pytest.raises(MissingDependencyError) as caught:
        open_image(tmp_path / name)
    said = str(caught.value)
    kind = name.rpartition(".")[2]
    assert f"Reading the {kind.upper()} file {tmp_path / name} needs bioio-{kind}" in said
    assert install_line("bioio") in said
    assert "Fiji (Bio-Formats)" in said


@pytest.mark.usefixtures("without")
def test_an_upload_says_it_too(tmp_path: Path) -> None:
    """The page gets the same sentence, without the path of the server."""
    testing = pytest.importorskip("fastapi.testclient")
    from biozoo_ui.api import ServerSettings, create_app

    zoo = Settings(home=tmp_path, index_url="http://127.0.0.1:9/index.json", offline=True)
    app = create_app(ServerSettings(zoo), pages=False)
    with testing.TestClient(app, base_url="http://127.0.0.1:7860") as client:
        client.get("/api/images")
        where = {"name": "cells.czi"}
        answer = client.post("/api/images/uploads", params=where, content=HEADS["a.czi"])
    assert answer.status_code == 501
    assert install_line("bioio") in answer.json()["error"]
    assert str(tmp_path) not in answer.json()["error"].replace(install_line("bioio"), "")


def test_a_folder_lists_them(tmp_path: Path) -> None:
    """They are not passed over in silence, whatever is installed."""
    for name in ("b.LIF", "a.czi", "c.nd2", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert [p.name for p in find_images([tmp_path])] == ["a.czi", "b.LIF", "c.nd2"]


@pytest.mark.parametrize("name", ["a.czi", "a.lif", "a.nd2"])
def test_another_content_under_their_name(tmp_path: Path, name: str) -> None:
    """A file of another kind is called that; nothing is asked to be installed for it."""
    (tmp_path / name).write_bytes(b"plain text, not an image")
    with pytest.raises(ImageReadError, match=rf"name ends in \.{name[-3:]}, its content does not"):
        open_image(tmp_path / name)


def test_nothing_of_bioio_is_imported_for_other_files(tmp_path: Path) -> None:
    """It takes 1.5 s; neither help nor a TIFF should wait for it."""
    code = (
        "import sys; import numpy as np\n"
        "from biozoo_runners.images import find_images, open_image\n"
        "np.save(sys.argv[1] + '/a.npy', np.zeros((4, 4)))\n"
        "open_image(find_images([sys.argv[1]])[0]).read()\n"
        "heavy = ('bioio', 'nd2', 'liffile', 'aicspylibczi', 'ome_types')\n"
        "print([m for m in sys.modules if m.startswith(heavy)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


# --- CZI ------------------------------------------------------------------------------------------


@pytest.fixture
def czi() -> None:
    pytest.importorskip("bioio_czi")
    pytest.importorskip("pylibCZIrw")


@pytest.mark.usefixtures("czi")
def test_a_czi_stack(tmp_path: Path) -> None:
    """Axes, pixel size, channels with their colours, and every pixel at its depth."""
    stored = pixels(2, 2, 3, 40, 50)
    path = write_czi(
        tmp_path / "a.czi",
        [(stored[t, c, z], {"T": t, "C": c, "Z": z}, (0, 0), 0)
         for t in range(2) for c in range(2) for z in range(3)],
        names=("DAPI", "GFP"),
        colors=("#0000FF", "#00ff7f"),
    )  # fmt: skip
    image = open_image(path)
    assert image.sizes == {"time": 2, "channel": 2, "z": 3, "y": 40, "x": 50}
    assert (image.dtype, image.axes_source) == (np.uint16, "metadata")
    assert image.pixel_size == {"z": 0.5, "y": 0.1, "x": 0.1}
    assert image.unit == dict.fromkeys("zyx", "micrometer")
    assert image.channel_names == ("DAPI", "GFP")
    assert image.colors == ("#0000ff", "#00ff7f")
    assert image.notes == ()
    np.testing.assert_array_equal(read(path), stored)
    part = read(path, time=1, channel=slice(1, 2), y=slice(3, 30, 4), x=7)
    np.testing.assert_array_equal(part, stored[1, 1:2, :, 3:30:4, 7])
    assert read(path, y=slice(5, 5)).shape == (2, 2, 3, 0, 50)


@pytest.mark.usefixtures("czi")
def test_a_czi_of_tiles_is_put_together(tmp_path: Path) -> None:
    """Tiles lie where the microscope was; a part is that of the whole, also across their edges."""
    whole = pixels(2, 200, 300)
    blocks = [
        (whole[c, y : y + 100, x : x + 100], {"C": c}, (y - 40, x + 700), 0)
        for c in range(2) for y in (0, 100) for x in (0, 100, 200)
    ]  # fmt: skip
    path = write_czi(tmp_path / "a.czi", blocks, names=("a", "b"))
    assert open_image(path).sizes == {"channel": 2, "y": 200, "x": 300}
    np.testing.assert_array_equal(read(path), whole)
    part = read(path, channel=1, y=slice(90, 111), x=slice(150, 250, 3))
    np.testing.assert_array_equal(part, whole[1, 90:111, 150:250:3])


@pytest.mark.usefixtures("czi")
def test_the_scenes_of_a_czi(tmp_path: Path) -> None:
    """The first unless asked for another; a note says that there are others."""
    stored = pixels(2, 60, 80)
    blocks = [
        (stored[n, y : y + 30], {"C": 0}, (y, 1000 * n), n) for n in range(2) for y in (0, 30)
    ]
    path = write_czi(tmp_path / "a.czi", blocks, scenes=("A1", "B2"), names=("DAPI",))
    first, second = open_image(path), open_image(path, scene=1)
    assert first.scenes == ("A1", "B2")
    assert first.notes == ("the file holds 2 images: 0 (A1), 1 (B2); this is number 0",)
    assert (second.notes, second.channel) == ((), "DAPI")
    np.testing.assert_array_equal(first.read().values, stored[0])
    np.testing.assert_array_equal(second.read().values, stored[1])
    with pytest.raises(UsageError, match="no scene 2"):
        open_image(path, scene=2)


@pytest.mark.usefixtures("czi")
def test_scenes_that_cannot_be_named_are_told(tmp_path: Path) -> None:
    """Scenes are found by their names; what is left out is not left out in silence."""
    blocks = [(pixels(60, 80), {"C": 0}, (0, 1000 * n), n) for n in range(2)]
    image = open_image(write_czi(tmp_path / "a.czi", blocks))
    assert "count 2 scenes and name 1" in image.notes[0]


@pytest.mark.usefixtures("czi")
@pytest.mark.parametrize("tiles", [1, 2])
def test_a_colour_czi_is_red_green_blue(tmp_path: Path, tiles: int) -> None:
    """It is stored blue first."""
    rgb = pixels(40, 60, 3, dtype="uint8")
    wide = 60 // tiles
    blocks = [(rgb[:, x : x + wide, ::-1], {"C": 0}, (0, x), 0) for x in range(0, 60, wide)]
    path = write_czi(tmp_path / "a.czi", blocks)
    image = open_image(path)
    assert (image.axes, image.rgb, image.dtype) == (("y", "x", "channel"), True, np.uint8)
    np.testing.assert_array_equal(read(path), rgb)
    np.testing.assert_array_equal(read(path, channel=0, y=slice(5, 9)), rgb[5:9, :, 0])


@pytest.mark.usefixtures("czi")
def test_a_czi_without_a_scale(tmp_path: Path) -> None:
    """Nothing is made up; floating point stays that."""
    stored = pixels(20, 30).astype("float32")
    path = write_czi(tmp_path / "a.czi", [(stored[..., None], {"C": 0}, (0, 0), 0)], scale=None)
    image = open_image(path)
    assert (image.dtype, dict(image.pixel_size)) == (np.float32, {})
    np.testing.assert_array_equal(image.read().values, stored)


@pytest.mark.usefixtures("czi")
def test_threads_share_a_file(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """A server reads with several threads; each gets its own plane."""
    pause = sys.getswitchinterval()
    request.addfinalizer(lambda: sys.setswitchinterval(pause))
    sys.setswitchinterval(1e-6)
    stored = pixels(1, 1, 8, 40, 50)
    blocks = [(stored[0, 0, z], {"C": 0, "Z": z}, (0, 0), 0) for z in range(8)]
    image = open_image(write_czi(tmp_path / "a.czi", blocks))

    def right(start: int) -> bool:
        planes = [(start + n) % 8 for n in range(40)]
        return all(np.array_equal(image.read({"z": z}).values, stored[0, 0, z]) for z in planes)

    with ThreadPoolExecutor(3) as threads:
        assert all(threads.map(right, range(3)))


# --- LIF ------------------------------------------------------------------------------------------


@pytest.fixture
def lif() -> None:
    pytest.importorskip("bioio_lif")


@pytest.mark.usefixtures("lif")
def test_a_lif_with_two_series(tmp_path: Path) -> None:
    """Series of one file differ in shape and type."""
    first, second = pixels(2, 2, 3, 40, 50), pixels(1, 1, 1, 20, 30, dtype="uint8")
    path = write_lif(
        tmp_path / "a.lif", {"Series001": first, "Zoom": second}, luts=("Green", "Red")
    )
    image = open_image(path)
    assert image.sizes == {"time": 2, "channel": 2, "z": 3, "y": 40, "x": 50}
    assert image.pixel_size == {"time": 2.0, "z": 0.5, "y": 0.1, "x": 0.1}
    assert image.unit["time"] == "second"
    assert image.channel_names == ("Green", "Red")
    assert image.colors == ("#00ff00", "#ff0000")
    assert image.scenes == ("Series001", "Zoom")
    np.testing.assert_array_equal(image.read().values, first)
    part = image.read({"z": 2, "channel": 1, "y": slice(3, 30, 4)}).values
    np.testing.assert_array_equal(part, first[:, 1, 2, 3:30:4])
    other = open_image(path, scene=1)
    assert (other.axes, other.dtype, other.channel) == (("y", "x"), np.uint8, "Green")
    np.testing.assert_array_equal(other.read().values, second[0, 0, 0])


# --- ND2 ------------------------------------------------------------------------------------------


@pytest.fixture
def nd2() -> None:
    pytest.importorskip("bioio_nd2")


@pytest.mark.usefixtures("nd2")
def test_an_nd2_with_positions(tmp_path: Path) -> None:
    """Positions are images of their own; channels lie interleaved in the file."""
    stored = pixels(2, 2, 3, 40, 50, 2)
    path = write_nd2(
        tmp_path / "a.nd2", stored, names=("DAPI", "GFP"), colors=("#0000ff", "#00ff00")
    )
    image = open_image(path, scene=1)
    assert image.sizes == {"time": 2, "z": 3, "channel": 2, "y": 40, "x": 50}
    assert image.pixel_size == {"time": 2.0, "z": 0.5, "y": 0.1, "x": 0.1}
    assert (image.channel_names, image.colors) == (("DAPI", "GFP"), ("#0000ff", "#00ff00"))
    assert image.scenes == ("well 1", "well 2")
    expected = stored[:, 1].transpose(0, 1, 4, 2, 3)
    np.testing.assert_array_equal(image.read().values, expected)
    part = image.read({"channel": 1, "time": 0, "x": slice(4, 40, 5)}).values
    np.testing.assert_array_equal(part, expected[0, :, 1, :, 4:40:5])
    assert "2 images" in open_image(path).notes[0]


@pytest.mark.usefixtures("nd2")
def test_an_nd2_that_was_stopped_or_not_calibrated(tmp_path: Path) -> None:
    """Pictures that were never taken are told; 1 micrometre is not made up."""
    stored = pixels(3, 1, 1, 40, 50, 1)
    path = write_nd2(tmp_path / "a.nd2", stored, scale=None, taken=2)
    image = open_image(path)
    assert image.notes == ("1 of its 3 pictures were never taken; they read as 0",)
    assert dict(image.pixel_size) == {"time": 2.0}
    np.testing.assert_array_equal(image.read({"time": 1}).values, stored[1, 0, 0, :, :, 0])


# --- all of them ----------------------------------------------------------------------------------


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    kind = str(request.param)
    pytest.importorskip(f"bioio_{kind}")
    path = tmp_path / f"a.{kind}"
    if kind == "czi":
        return write_czi(path, [(pixels(60, 80), {"C": 0}, (0, 0), 0)])
    if kind == "lif":
        return write_lif(path, {"one": pixels(1, 1, 1, 60, 80)})
    return write_nd2(path, pixels(1, 1, 1, 60, 80, 1))


ALL = pytest.mark.parametrize("made", ["czi", "lif", "nd2"], indirect=True)


@ALL
@pytest.mark.parametrize("share", [0.6, 0.95])
def test_a_file_cut_short_is_a_sentence(
    made: Path, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    """Wherever it ends, an error says so, in words, and nothing else is printed."""
    content = made.read_bytes()
    made.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ImageReadError, match="it is truncated"):
        open_image(made).read()
    assert capfd.readouterr().err == ""


@ALL
def test_noise_in_a_file_is_a_sentence_or_noise_in_its_pixels(made: Path) -> None:
    """Damage never gives another error, nor another shape than the one that was told."""
    content = made.read_bytes()
    for seed in range(6):
        damaged = np.frombuffer(content, np.uint8).copy()
        chance = np.random.default_rng(seed)
        damaged[chance.integers(16, len(damaged), 100)] = chance.integers(0, 256, 100)
        made.write_bytes(damaged.tobytes())
        try:
            image = open_image(made)
            assert image.read().shape == image.shape
        except ImageReadError:
            continue


@ALL
def test_an_upload_is_shown(made: Path, tmp_path: Path) -> None:
    """The server describes it and sends its pixels."""
    testing = pytest.importorskip("fastapi.testclient")
    from biozoo_ui.api import ServerSettings, create_app

    expected = read(made)
    zoo = Settings(home=tmp_path / "home", index_url="http://127.0.0.1:9/i.json", offline=True)
    app = create_app(ServerSettings(zoo), pages=False)
    with testing.TestClient(app, base_url="http://127.0.0.1:7860") as client:
        client.get("/api/images")
        answer = client.post(
            "/api/images/uploads", params={"name": made.name}, content=made.read_bytes()
        )
        assert answer.status_code == 201, answer.text
        image = answer.json()
        tile = client.get(f"/api/images/{image['id']}/tiles/0/0/0/0/0/0", params={"v": image["v"]})
    np.testing.assert_array_equal(np.frombuffer(tile.content, "<u2").reshape(60, 80), expected)


@ALL
def test_the_command_line_runs_it(made: Path, tmp_path: Path) -> None:
    """Its result lies where it does, with its pixel size."""
    zoo = [sys.executable, "-c", "from biozoo_ui.cli import main; main()"]
    words = ["run", "nuclei-fluo", str(made), "-o", str(tmp_path / "out")]
    done = subprocess.run([*zoo, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (labels,) = (tmp_path / "out").glob("*labels*.tif")
    found = open_image(labels)
    assert found.sizes == {"y": 60, "x": 80}
    scale = open_image(made).pixel_size
    assert {a: found.pixel_size[a] for a in "yx"} == {a: scale[a] for a in "yx"}
