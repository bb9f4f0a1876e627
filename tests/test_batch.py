"""Several images: names of results, one bad file among good ones, nothing half-written."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from biozoo.errors import Cancelled, StorageError, UsageError
from biozoo_runners import load, open_image, run_batch, write_image
from biozoo_runners.batch import MAIN, STEPS, is_folder, stem, targets
from biozoo_runners.pipeline import Progress, Runner
from packages import make_package


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    with load(make_package(tmp_path / "tiny", size=(8, 4), halo=1), device="cpu") as made:
        yield made


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "images"
    folder.mkdir()
    paths = []
    for i in range(3):
        plane = np.random.default_rng(i).random((20, 20 + i)).astype("float32")
        paths.append(
            write_image(folder / f"cells{i}.ome.tif", xr.DataArray(plane, dims=["y", "x"]))
        )
    return paths


def test_a_folder_gets_all_results_of_all_images(
    runner: Runner, images: list[Path], tmp_path: Path
) -> None:
    report = run_batch(runner, images, tmp_path / "out")
    assert report.ok
    assert report.exit_code == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        f"cells{i}.prediction.ome.tif" for i in range(3)
    ]
    assert open_image(report.files[2].written[0]).sizes["x"] == 22
    assert "3 of 3 images done" in str(report)
    json.dumps(report.to_dict())


def test_one_bad_file_does_not_stop_the_others(
    runner: Runner, images: list[Path], tmp_path: Path
) -> None:
    bad = tmp_path / "bad.ome.tif"
    bad.write_bytes(b"this is no TIFF")
    stack = tmp_path / "stack.npy"
    np.save(stack, np.zeros((2, 3, 4, 20, 20)))
    report = run_batch(runner, [images[0], bad, stack, images[1]], tmp_path / "out")
    assert not report.ok
    assert report.exit_code == 1
    assert [f.ok for f in report.files] == [True, False, False, True]
    assert [f.image for f in report.failed] == [bad, stack]
    assert all(f.error and "Error:" not in f.error for f in report.failed)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "cells0.prediction.ome.tif",
        "cells1.prediction.ome.tif",
    ]
    assert str(report).splitlines()[-1].strip().startswith(str(stack))


def test_a_file_gets_the_main_result(runner: Runner, images: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "result.tif"
    out.write_bytes(b"an older result")
    report = run_batch(runner, images[:1], out)
    assert report.files[0].written == (out,)
    assert open_image(out).sizes["x"] == 20
    with pytest.raises(UsageError, match="cannot go into one file"):
        run_batch(runner, images, out)


def test_labels_are_the_main_result(tmp_path: Path, images: list[Path]) -> None:
    config = {"biozoo": {"instances": {"output": "prediction", "foreground": 0, "distance": 0}}}
    with load(make_package(tmp_path / "p", config=config), device="cpu") as made:
        run_batch(made, images[:1], tmp_path / "labels.npy")
        run_batch(made, images[:1], tmp_path / "out")
    assert np.load(tmp_path / "labels.npy").dtype == np.int32
    assert {p.name for p in (tmp_path / "out").iterdir()} == {
        "cells0.prediction.ome.tif",
        "cells0.labels.ome.tif",
    }


def test_several_outputs_ask_for_a_folder() -> None:
    with pytest.raises(UsageError, match="Give a folder"):
        targets([Path("a.tif")], "out.tif", ["one", "two"])
    assert targets([Path("a.tif")], "out.tif", ["one", "labels"]) == {
        Path("a.tif"): {MAIN: Path("out.tif")}
    }


def test_no_two_results_share_a_name(tmp_path: Path) -> None:
    def names(*images: str) -> list[str]:
        made = targets([Path(i) for i in images], tmp_path, ["p"])
        return [paths["p"].name for paths in made.values()]

    assert names("cells.tif", "other.tif") == ["cells.p.ome.tif", "other.p.ome.tif"]
    assert names("cells.tif", "cells.png") == ["cells.tif.p.ome.tif", "cells.png.p.ome.tif"]
    assert names("day1/c.tif", "day2/c.tif") == ["day1-c.p.ome.tif", "day2-c.p.ome.tif"]
    with pytest.raises(UsageError, match="different folders"):
        names("x/d/c.tif", "y/d/c.tif")
    with pytest.raises(UsageError, match="different folders"):
        names("Cells.tif", "cells.tif")  # one file, where case does not count


def test_an_image_is_never_replaced_by_its_result(tmp_path: Path) -> None:
    image = tmp_path / "cells.ome.tif"
    with pytest.raises(UsageError, match="would be replaced"):
        targets([image], image, ["p"])
    with pytest.raises(UsageError, match="would be replaced"):
        targets([image, tmp_path / "cells.p.ome.tif"], tmp_path, ["p"])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cells.ome.tif", "cells"),
        ("cells.OME.TIFF", "cells"),
        ("a.b.png", "a.b"),
        ("plate.ome.zarr", "plate"),
        ("scan.jpeg", "scan"),
        ("plain", "plain"),
    ],
)
def test_stems(name: str, expected: str) -> None:
    assert stem(Path("folder") / name) == expected


def test_file_or_folder(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "old.ome.zarr").mkdir()
    (tmp_path / "odd.tif").mkdir()
    assert is_folder(tmp_path / "here")
    assert is_folder(f"{tmp_path}/new.tif/")
    assert is_folder(tmp_path / "results")
    assert is_folder(tmp_path / "odd.tif")
    assert not is_folder(tmp_path / "old.ome.zarr")
    assert not is_folder(tmp_path / "a.ome.tif")
    assert not is_folder("a.npy")
    with pytest.raises(UsageError, match=r"not written as \.jpg.*or a folder: -o result\.jpg/"):
        is_folder("result.jpg")
    (tmp_path / "note.txt").write_text("")
    with pytest.raises(UsageError, match="no image by its name"):
        targets([Path("a.tif")], tmp_path / "note.txt", ["p"])


def test_a_place_that_cannot_be_written_is_told_before_anything_runs(
    runner: Runner, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("it ran")

    monkeypatch.setattr(Runner, "__call__", never)
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(StorageError, match="a file, not a folder"):
        run_batch(runner, images, file / "out")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(StorageError, match="no permission"):
        run_batch(runner, images, tmp_path / "new" / "out")
    assert not (tmp_path / "new").exists()


def test_one_progress_for_all(runner: Runner, images: list[Path], tmp_path: Path) -> None:
    seen: list[Progress] = []
    run_batch(runner, images, tmp_path / "out", on_progress=seen.append)
    assert {p.total for p in seen} == {3 * STEPS}
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == 3 * STEPS
    assert next(p.stage for p in seen) == "cells0.ome.tif"


@pytest.mark.parametrize("how", ["ctrl-c", "cancelled"])
def test_stopping_leaves_whole_files_only(
    runner: Runner, images: list[Path], tmp_path: Path, how: str
) -> None:
    started: list[str] = []

    def progress(p: Progress) -> None:
        started.append(p.stage)
        if how == "ctrl-c" and p.stage == "cells1.ome.tif":
            raise KeyboardInterrupt

    options: dict[str, Any] = {}
    if how == "cancelled":
        options["cancelled"] = lambda: "cells1.ome.tif" in started
    with pytest.raises(KeyboardInterrupt if how == "ctrl-c" else Cancelled):
        run_batch(runner, images, tmp_path / "out", on_progress=progress, **options)
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["cells0.prediction.ome.tif"]
