"""`zoo train` as a person meets it: help, recipe, results, refusals, stopping and going on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tifffile
import yaml

from biozoo.errors import StorageError
from biozoo_trainers.recipe import Recipe
from biozoo_trainers.training.control import Control
from biozoo_ui.cli.train_stopping import Watch, stoppable
from command import run_zoo
from packages import SIGMOID, ZERO_MEAN, make_package
from test_retraining import discs

pytest.importorskip("torch")
pytest.importorskip("onnx2pytorch")
pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")

FAST = ("--steps", 12, "--batch", 2, "--learning-rate", 0.05, "--threads", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, and ten images with labels in folders beside it."""
    root = tmp_path_factory.mktemp("train")
    make_package(
        root / "tiny", size=(16, 16), test_size=48, halo=2, preprocessing=[ZERO_MEAN],
        postprocessing=[SIGMOID],
        config={"biozoo": {"instances": {
            "output": "prediction", "foreground": 0, "distance": 0, "foreground_threshold": 0.6,
        }}},
    )  # fmt: skip
    for name in ("images", "labels", "shuffled"):
        (root / name).mkdir()
    for n in range(10):
        image, labels = discs(n)
        tifffile.imwrite(root / "images" / f"cells{n}.tif", image)
        tifffile.imwrite(root / "labels" / f"cells{n}_mask.tif", labels)
        tifffile.imwrite(root / "shuffled" / f"cells{(n + 1) % 10}.tif", labels)
    return root


@pytest.fixture(autouse=True)
def _in_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def train(folders: Path, *more: object, labels: str = "labels", code: int = 0) -> Any:
    where = (folders / "tiny", folders / "images", folders / labels)
    return run_zoo("train", *where, *FAST, *more, code=code)


def test_help_is_one_page_and_says_the_essential() -> None:
    shown = run_zoo("train", "--help").output
    for word in ("--channel", "--held-out", "--resume", "--curve", "--recipe", "Ends with 1", "-o"):
        assert word in shown
    assert len(shown.splitlines()) < 100
    assert "\\b" not in shown


def test_a_better_model_is_written_and_runs(folders: Path) -> None:
    Path("mine.zip.training").mkdir()  # of a training that was stopped
    done = train(folders, "-o", "mine.zip")
    assert "This one begins anew; --resume goes on" in done.stderr
    assert "passed: It is better than its parent" in done.stdout
    assert "does not say how it is trained" in done.stderr
    assert not Path("mine.zip.training").exists()
    run_zoo("test", "mine.zip")
    run_zoo("run", "mine.zip", folders / "images" / "cells0.tif", "-o", "out/", "--device", "cpu")
    assert tifffile.imread("out/cells0.labels.ome.tif").max() == 4


def test_a_worse_model_ends_with_1_and_leaves_no_file(folders: Path) -> None:
    done = train(folders, "-o", "bad.zip", "--json", labels="shuffled", code=1)
    facts = json.loads(done.stdout)
    assert facts["passed"] is False
    assert facts["package"] is None
    assert facts["gate"]["child"]["mean"] <= facts["gate"]["parent"]["mean"] + 0.2
    assert not [p for p in Path().iterdir() if p.name.startswith("bad")]


def test_a_curve_prints_its_table(folders: Path) -> None:
    done = train(folders, "--curve", "2,4", "--interpolate", 1)
    lines = done.stdout.splitlines()
    assert lines[0].endswith("measured on 6 held-out images")
    assert [line.split()[0] for line in lines[1:5]] == ["images", "before", "2", "4"]
    assert "With 8 expect about" in done.stdout


# ----------------------------------------------------------------------------------------- recipe


def test_the_recipe_can_be_printed_changed_and_used(folders: Path) -> None:
    shown = run_zoo("train", folders / "tiny", "--recipe").stdout
    assert shown.startswith("# ")
    values = yaml.safe_load(shown)
    assert Recipe.model_validate(values).trainable == "full"
    values["gate"]["margin"] = 2.0  # no AP50 is so much better
    Path("recipe.yaml").write_text(yaml.safe_dump(values))
    done = train(folders, "-o", "o.zip", "--recipe-file", "recipe.yaml", code=1)
    assert "better by less than 2" in done.stdout
    assert "does not say how it is trained" not in done.stderr


def test_the_recipe_of_a_model_that_cannot_be_trained_ends_with_1(tmp_path: Path) -> None:
    why = {"trainable": "no", "why": "its output is a table"}
    folder = make_package(tmp_path / "p", config={"biozoo": {"training": why}})
    done = run_zoo("train", folder, "--recipe", "--json", code=1)
    assert json.loads(done.stdout)["recipe"]["why"] == "its output is a table"
    done = run_zoo("train", folder, ".", ".", "-o", "x.zip", code=1)
    assert "cannot be retrained: its output is a table" in done.stderr
    assert "ive mode" in done.stderr


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("trainable: [", "is no YAML"),
        ("version: 1\nsteps: 3\n", "steps: Extra inputs"),
        ("optimiser: {learning_rate: -1}\n", "optimiser.learning_rate"),
    ],
)
def test_a_wrong_recipe_file_is_told(folders: Path, text: str, told: str) -> None:
    Path("recipe.yaml").write_text(text)
    done = train(folders, "-o", "o.zip", "--recipe-file", "recipe.yaml", code=2)
    assert told in done.stderr
    assert "--recipe prints one" in done.stderr


# -------------------------------------------------------------------------------------- wrong use


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ((), "Add -o OUT.zip"),
        (("-o", "."), "Name the new model"),
        (("-o", "o.zip", "--curve", "5,x"), "--curve 5,10,20"),
        (("-o", "o.zip", "--precision", "8"), "Choose 32-true"),
        (("-o", "o.zip", "--patch", "64"), "--patch y=192,x=192"),
        (("-o", "o.zip", "--interpolate", "2"), "above 0 and at most 1"),
        (("-o", "o.zip", "--resume"), "no stopped training to go on with in o.zip.training"),
        (("-o", "o.zip", "--recipe-file", "none.yaml"), "none.yaml does not exist"),
        (("-o", "o.zip", "--hook", "nobody"), "nobody"),
        (("-o", "o.zip", "--curve", "5", "--replay", "."), "Leave one out"),
        (("-o", "o.zip", "--curve", "20"), "leaves 0 to measure on"),
    ],
)
def test_wrong_use_is_told_with_what_to_do(
    folders: Path, more: tuple[object, ...], told: str
) -> None:
    assert told in train(folders, *more, code=2).stderr


def test_a_missing_folder_is_told(folders: Path) -> None:
    done = run_zoo("train", folders / "tiny", "-o", "o.zip", code=2)
    assert "zoo train MODEL IMAGES LABELS -o OUT.zip" in done.stderr
    done = run_zoo("train", folders / "tiny", "nowhere", "nowhere", "-o", "o.zip", code=2)
    assert "nowhere does not exist" in done.stderr


# ------------------------------------------------------------------------------ stop and go on


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_ctrl_c_ends_at_once_where_no_step_is_at_work() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job ignores it
    try:
        _stop_and_stop_again()
    finally:
        signal.signal(signal.SIGINT, before)


def _stop_and_stop_again() -> None:
    control, watch = Control(), Watch(several=False)
    with pytest.raises(KeyboardInterrupt), stoppable(control, watch):
        os.kill(os.getpid(), signal.SIGINT)
    control = Control()
    watch("start", None)
    with stoppable(control, watch):
        os.kill(os.getpid(), signal.SIGINT)  # the step at work may end
        assert control.cancelled
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    watch("end", None)
    with pytest.raises(KeyboardInterrupt), stoppable(Control(), watch):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_fault_after_the_training_says_what_is_kept(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the disk is full once the new package is written."""

    def failing(*_: object, folder: Path, hooks: list[Any], **__: object) -> None:
        if hooks[0] == "learned":
            folder.mkdir()
            (folder / "checkpoint.pt").write_bytes(b"1")
            hooks[-1]("checkpoint", None)
        raise StorageError(path="o.zip", why="No space left on device")

    monkeypatch.setattr("biozoo_trainers.retrain", failing, raising=False)
    done = train(folders, "-o", "o.zip", "--hook", "other", code=None)
    assert "No space left" in done.stderr
    assert "--resume goes on" not in done.stderr
    done = train(folders, "-o", "o.zip", "--hook", "learned", code=None)
    assert "kept in o.zip.training: the same command with --resume goes on" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_stopped_it_keeps_the_checkpoint_and_resume_goes_on(folders: Path, tmp_path: Path) -> None:
    command = [
        sys.executable, "-c", "from biozoo_ui.cli import main; main()", "train",
        str(folders / "tiny"), str(folders / "images"), str(folders / "labels"), "-o", "mine.zip",
        "--steps", "150", "--batch", "2", "--learning-rate", "0.05", "--threads", "1",
        "--device", "cpu", "--interpolate", "1",
    ]  # fmt: skip
    kept = Path("mine.zip.training", "checkpoint.pt")
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    while not kept.is_file() and process.poll() is None:
        time.sleep(0.05)
    assert kept.is_file(), process.stderr.read() if process.stderr else ""
    process.send_signal(signal.SIGTERM)  # as Ctrl-C, which a job in the background may ignore
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "the same command with --resume goes on" in said
    assert not Path("mine.zip").exists()
    done = run_zoo(*command[3:], "--resume")
    assert "steps on" in done.stdout
    assert Path("mine.zip").is_file()
    assert not kept.parent.exists()
