"""The command line as a person meets it: what it prints, what it writes, and its exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from typer.testing import CliRunner

from biozoo.samples import simulate
from biozoo_ui.cli.app import app
from command import Zoo, run_zoo
from packages import change_rdf, make_package, zip_package

pytestmark = pytest.mark.usefixtures("quiet")


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Work in an empty folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def zoo() -> Zoo:
    """Run a verb; `code` is how it has to end."""
    return run_zoo


@pytest.fixture
def cells(tmp_path: Path) -> Path:
    """A simulated 16-bit image of nuclei."""
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, simulate("nuclei", (256, 256), seed=3).image)
    return path


@pytest.fixture
def rgb(tmp_path: Path) -> Path:
    """An RGB image."""
    path = tmp_path / "rgb.tif"
    pixels = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)
    tifffile.imwrite(path, pixels, photometric="rgb")
    return path


# ------------------------------------------------------------------------------------- packages


def test_list_shows_the_built_in_model(zoo: Zoo) -> None:
    shown = zoo("list").output
    assert "nuclei-fluo" in shown
    assert "built-in" in shown
    facts = json.loads(zoo("list", "--json").output)
    built_in = next(f for f in facts if f["id"] == "nuclei-fluo")
    assert set(built_in) == {"id", "version", "name", "weights", "size", "origin", "trust"}
    assert built_in["weights"] == ["onnx"]


def test_a_zip_is_added_listed_verified_and_removed(zoo: Zoo, tmp_path: Path) -> None:
    archive = zip_package(make_package(tmp_path / "tiny"))
    assert "tiny 1.0 is in the zoo" in zoo("add", archive).output
    assert "tiny" in zoo("list").output
    assert "all as they were" in zoo("verify", "tiny").output
    zoo("remove", "tiny")
    assert "tiny" not in zoo("list").output


def test_verify_names_the_file_with_a_flipped_byte(
    zoo: Zoo, tmp_path: Path, biozoo_home: Path
) -> None:
    zoo("add", make_package(tmp_path / "tiny"))
    weights = next(biozoo_home.rglob("weights.onnx"))
    damaged = bytearray(weights.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    weights.write_bytes(damaged)
    assert "weights.onnx is changed" in zoo("verify", code=1).output


def test_an_unknown_id_offers_the_closest(zoo: Zoo) -> None:
    assert "Did you mean nuclei-fluo" in zoo("show", "nuclei-flu", code=2).stderr


def test_a_zip_that_climbs_out_of_its_folder_is_refused(zoo: Zoo, tmp_path: Path) -> None:
    archive = zip_package(make_package(tmp_path / "tiny"))
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr("../evil.txt", "out")
    assert "../evil.txt" in zoo("add", archive, code=1).stderr
    assert not (tmp_path.parent / "evil.txt").exists()
    assert "tiny" not in zoo("list").output


def test_search_without_a_match_ends_with_1(zoo: Zoo) -> None:
    assert "nuclei-fluo" in zoo("search", "fluorescence", "nuclei").output
    assert "no model matches" in zoo("search", "zebrafish-heartbeat", code=1).stderr


# ---------------------------------------------------------------------------------------- images


def test_the_sample_is_found_again(zoo: Zoo, tmp_path: Path) -> None:
    zoo("sample", "nuclei", "-o", "cells.ome.tif", "--size", 256, "--labels", "truth.ome.tif")
    run = zoo("run", "nuclei-fluo", "cells.ome.tif", "-o", "out/", "--device", "cpu")
    labels = tifffile.imread("out/cells.labels.ome.tif")
    truth = tifffile.imread("truth.ome.tif")
    assert labels.shape == truth.shape
    assert 0.7 * truth.max() < labels.max() < 1.4 * truth.max()
    assert tifffile.imread("out/cells.probability.ome.tif").shape == (3, 256, 256)
    assert f"found: {labels.max()} objects" in run.output
    # the report ends the run: what was asked, what ran, the plan, the cost
    for said in ("asked:", "onnx on cpu", "thread", "tile", "per megapixel", "peak memory"):
        assert said in run.output


def test_a_file_gets_the_labels(zoo: Zoo, cells: Path) -> None:
    zoo("run", "nuclei-fluo", cells, "-o", "labels.npy")
    assert np.load("labels.npy").dtype == np.int32


def test_one_bad_file_does_not_stop_the_others(zoo: Zoo, cells: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.tif").write_bytes(cells.read_bytes()[:5000])
    result = zoo("run", "nuclei-fluo", "*.tif", "-o", "out", code=1)
    assert (tmp_path / "out" / "cells.labels.ome.tif").is_file()
    assert "1 of 2 images done" in result.output
    assert "broken.tif: FAILED" in result.output


def test_an_rgb_image_asks_which_channel(zoo: Zoo, rgb: Path) -> None:
    refused = zoo("run", "nuclei-fluo", rgb, "-o", "out.npy", code=2)
    assert "0 (red), 1 (green), 2 (blue)" in refused.stderr
    assert not Path("out.npy").exists()
    for channel in ("1", "blue", "gray"):
        zoo("run", "nuclei-fluo", rgb, "-o", "out.npy", "--channel", channel)
        assert np.load("out.npy").shape == (96, 96)


def test_check_says_why_not_and_ends_with_1(zoo: Zoo, rgb: Path, cells: Path) -> None:
    assert "will run" in zoo("check", "nuclei-fluo", cells).output
    refused = zoo("check", "nuclei-fluo", rgb, code=1)
    assert "--channel" in refused.output
    facts = json.loads(zoo("check", "nuclei-fluo", rgb, "--json", code=1).output)
    assert facts["ok"] is False


def test_a_dry_run_prints_the_plan_and_writes_nothing(
    zoo: Zoo, cells: Path, tmp_path: Path
) -> None:
    said = zoo("run", "nuclei-fluo", cells, "-o", "out/", "--dry-run", "--tile", "y=192,x=192")
    assert "tiles of y 192, x 192" in said.output
    assert not (tmp_path / "out").exists()


def test_a_tile_the_model_cannot_take_names_the_nearest(zoo: Zoo, cells: Path) -> None:
    refused = zoo("run", "nuclei-fluo", cells, "-o", "o.npy", "--tile", "y=200,x=192", code=2)
    assert "192" in refused.stderr
    assert "208" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.tif", "-o", "o.npy"), "nowhere.tif"),
        (("cells.tif", "-o", "o.npy", "--tile", "512"), "y=512,x=512"),
        (("cells.tif", "-o", "o.npy", "--axes", "zyx"), "3 dimensions"),
        (("cells.tif", "-o", "o.npy", "--axes", "qx"), "unknown 'q'"),
        (("cells.tif", "copy.tif", "-o", "o.npy"), "folder"),
    ],
)
def test_wrong_use_is_a_sentence_and_2(
    zoo: Zoo, cells: Path, arguments: tuple[str, ...], said: str
) -> None:
    shutil.copy(cells, "copy.tif")
    assert said in zoo("run", "nuclei-fluo", *arguments, code=2).stderr
    assert not Path("o.npy").exists()


def test_a_missing_option_is_wrong_use(zoo: Zoo) -> None:
    assert "--out" in zoo("run", "nuclei-fluo", "cells.tif", code=2).stderr


def test_a_model_with_several_inputs_asks_which_is_which(
    zoo: Zoo, tmp_path: Path, cells: Path
) -> None:
    two = make_package(tmp_path / "two", inputs=2)
    assert "raw=FILE raw1=FILE" in zoo("run", two, cells, "-o", "o.npy", code=2).stderr
    zoo("run", two, f"raw={cells}", f"raw1={cells}", "-o", "o.npy")
    assert np.load("o.npy").shape[-2:] == (256, 256)


def test_the_package_test_tells_a_mismatch(zoo: Zoo, tmp_path: Path) -> None:
    good = make_package(tmp_path / "good")
    assert "reproduces" in zoo("test", good).output
    wrong = make_package(tmp_path / "wrong")
    expected = np.load(wrong / "test_prediction.npy")
    np.save(wrong / "test_prediction.npy", expected + 0.5)
    from packages import read_rdf, sha256, write_rdf

    rdf: dict[str, Any] = read_rdf(wrong)
    rdf["outputs"][0]["test_tensor"]["sha256"] = sha256(wrong / "test_prediction.npy")
    write_rdf(wrong, rdf)
    assert "does NOT reproduce" in zoo("test", wrong, code=1).output


@pytest.mark.shared
def test_a_model_that_fails_its_own_test_is_told_apart(zoo: Zoo, shared: Path) -> None:
    refused = zoo("test", shared / "models" / "inverter-fails-own-test", code=1)
    assert "does NOT reproduce its test tensors" in refused.stdout


@pytest.mark.shared
def test_a_fixed_size_model_with_a_halo_runs_on_its_own_test_image(zoo: Zoo, shared: Path) -> None:
    folder = shared / "models" / "nuclei-broad"
    zoo("run", folder, folder / "test_input.npy", "--axes", "bcyx", "-o", "out.ome.tif")
    assert tifffile.imread("out.ome.tif").shape == (512, 512)


# --------------------------------------------------------------------------------------- process


def _start(*arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "from biozoo_ui.cli import main; main()", *arguments],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "BIOZOO_OFFLINE": "1"},
    )


def test_help_loads_no_framework() -> None:
    code = (
        "import sys, biozoo, biozoo_runners, biozoo_ui.cli.app\n"
        "heavy = {'torch', 'onnxruntime', 'gradio', 'fastapi', 'xarray', 'scipy', 'skimage',"
        " 'bioimageio', 'bioimageio.core', 'bioimageio.spec', 'httpx', 'zarr'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr


def test_list_does_not_load_the_specification() -> None:
    code = (
        "import sys\n"
        "from typer.testing import CliRunner\n"
        "from biozoo_ui.cli.app import app\n"
        "assert CliRunner().invoke(app, ['list']).exit_code == 0\n"
        "print('bioimageio.spec' in sys.modules, 'xarray' in sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert loaded.stdout.strip() == "False False", loaded.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_stops_a_run_and_leaves_nothing(tmp_path: Path) -> None:
    # Named pipes: the run cannot end before it is stopped, however fast the machine is.
    os.mkfifo(tmp_path / "endless.npy")
    process = _start("run", "nuclei-fluo", "endless.npy", "-o", "out/", cwd=tmp_path)
    with (tmp_path / "endless.npy").open("wb"):  # returns when the run has opened its side
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_being_told_to_end_is_as_ctrl_c(name: str, tmp_path: Path) -> None:
    """A cancelled job or a closed terminal leaves nothing half-written either."""
    os.mkfifo(tmp_path / "endless.npy")
    process = _start("check", "nuclei-fluo", "endless.npy", cwd=tmp_path)
    with (tmp_path / "endless.npy").open("wb"):
        process.send_signal(getattr(signal, name))
        _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped" in stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_output_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    code = "from biozoo_ui.cli import main; main()"
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code, "list"], stdout=full, stderr=subprocess.PIPE, text=True
        )
    assert done.returncode == 3
    assert done.stderr == "zoo: This cannot be done here. No space left on device.\n"


def test_a_terminal_of_few_letters(tmp_path: Path) -> None:
    """Text loses letters that cannot be shown, JSON loses nothing."""
    change_rdf(make_package(tmp_path / "tiny"), description="Pixels of 0.5 µm")
    shown = [
        subprocess.run(
            [sys.executable, "-c", "from biozoo_ui.cli import main; main()", "show", "tiny", *more],
            cwd=tmp_path,
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
        )
        for more in ([], ["--json"])
    ]
    assert b"Pixels of 0.5 ?m" in shown[0].stdout, shown[0].stderr
    assert json.loads(shown[1].stdout)["card"]["description"] == "Pixels of 0.5 µm"


def test_what_nobody_foresaw_is_one_sentence(zoo: Zoo, monkeypatch: pytest.MonkeyPatch) -> None:
    import biozoo

    def break_with(error: Exception) -> Callable[[], None]:
        def fail() -> None:
            raise error

        return fail

    secret = PermissionError(13, "Permission denied", "/secret/models")
    monkeypatch.setattr(biozoo, "builtin_packages", break_with(secret))
    assert zoo("list", code=3).stderr == (
        "zoo: This cannot be done here. Permission denied: /secret/models.\n"
    )
    monkeypatch.setattr(biozoo, "builtin_packages", break_with(KeyError("x")))
    assert "A fault of biozoo itself: KeyError: 'x'" in zoo("list", code=3).stderr
    monkeypatch.setenv("BIOZOO_DEBUG", "1")
    assert isinstance(CliRunner().invoke(app, ["list"]).exception, KeyError)


def test_a_file_named_like_an_input_is_a_file(zoo: Zoo, cells: Path) -> None:
    cells.rename("raw=cells.tif")
    assert "will run on raw=cells.tif" in zoo("check", "nuclei-fluo", "raw=cells.tif").output
    told = zoo("check", "nuclei-fluo", "raw=a.tif", "b.tif", code=2).stderr
    assert "has one input (raw). Name one file for each: zoo check nuclei-fluo raw=FILE" in told


def test_sample_and_remove_give_json(zoo: Zoo, tmp_path: Path) -> None:
    facts = json.loads(zoo("sample", "--size", "64", "-o", "a.npy", "--json").stdout)
    assert facts["written"] == ["a.npy"]
    assert facts["objects"] > 0
    zoo("add", make_package(tmp_path / "tiny"))
    assert [r["id"] for r in json.loads(zoo("remove", "tiny", "--json").stdout)] == ["tiny"]


def test_an_unknown_device_is_wrong_use(zoo: Zoo, cells: Path) -> None:
    told = zoo("run", "nuclei-fluo", cells, "-o", "o/", "--device", "tpu", code=2).stderr
    assert told == "zoo: No device is called 'tpu'. Use auto, cpu, cuda or cuda:1.\n"


def test_the_help_of_every_verb_can_be_read(zoo: Zoo) -> None:
    verbs = ("list", "search", "show", "add", "remove", "verify", "check", "run", "test", "sample")
    overview = zoo("--help").output
    assert "..." not in overview.partition("Commands:")[2]  # no line is cut off
    for name in (*verbs, "ui"):
        assert f"  {name} " in overview
        assert zoo(name, "--help").output.startswith("Usage:")
    assert "biozoo " in zoo("--version").output
