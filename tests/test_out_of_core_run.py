"""Runs out of core: equal to runs in memory, stopped and continued, faults named."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

from biozoo.errors import Cancelled, ImageReadError, UsageError
from biozoo_runners import load, open_image, run_batch, write_image
from biozoo_runners.batch import Large
from biozoo_runners.out_of_core.running import run_out_of_core, why_in_memory
from biozoo_runners.pipeline import Progress
from command import run_zoo
from packages import SIGMOID, ZERO_MEAN, make_package

TILE = {"y": 72, "x": 72}
LEAST = 384 * 2**20

OBJECTS = {
    "biozoo": {
        "instances": {
            "output": "prediction",
            "foreground": 0,
            "distance": 0,
            "foreground_threshold": 0.3,
            "seed_threshold": 0.6,
        }
    }
}
SCALED = {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"], "max_percentile": 99}}


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Discs that touch now and then, 0 to 60000."""
    rng = np.random.default_rng(seed)
    image = np.zeros((height, width), "float32")
    for _ in range(height * width // 700):
        y, x, r = rng.integers(height), rng.integers(width), rng.integers(6, 12)
        box = (slice(max(0, y - r), y + r), slice(max(0, x - r), x + r))
        yy, xx = np.ogrid[box[0].start : min(height, y + r), box[1].start : min(width, x + r)]
        image[box] = np.maximum(image[box], 1 - np.hypot(yy - y, xx - x) / r)
    return (np.clip(image, 0, 1) * 60000).astype("uint16")


def same_objects(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal up to renumbering."""
    pairs = np.unique(np.stack([a.ravel(), b.ravel()]), axis=1)
    return (
        len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
        and bool((pairs[:, 0] == 0).all())
    )  # fmt: skip


def files(folder: Path) -> dict[str, bytes]:
    every = [p for p in folder.rglob("*") if p.is_file()]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in every}


@pytest.fixture
def nuclei(tmp_path: Path) -> Path:
    """A package that makes objects: its output is its input, scaled."""
    return make_package(
        tmp_path / "nuclei",
        size=(16, 8),
        halo=4,
        kernel=3,
        preprocessing=[
            {"id": "ensure_dtype", "kwargs": {"dtype": "float32"}},
            {"id": "scale_linear", "kwargs": {"gain": 1 / 60000, "offset": 0.0}},
        ],
        config=OBJECTS,
        validate=False,
    )


def image_file(folder: Path, values: np.ndarray, axes: str = "yx", name: str = "in.zarr") -> Path:
    dims = [{"c": "channel", "t": "time"}.get(a, a) for a in axes]
    data = xr.DataArray(values, dims=dims, attrs={"pixel_size": {"y": 0.5, "x": 0.5}, "unit": {}})
    return write_image(folder / name, data)


# --------------------------------------------------------------------------------- equal to memory


def test_a_large_image_equals_the_run_in_memory(nuclei: Path, tmp_path: Path) -> None:
    path = image_file(tmp_path, blobs(700, 900))
    with load(nuclei, device="cpu") as runner:
        whole = runner(path, tile=TILE)
        out = {"prediction": tmp_path / "p.zarr", "labels": tmp_path / "l.zarr"}
        done = run_out_of_core(runner, open_image(path), out, tile=TILE, memory=LEAST)
    np.testing.assert_array_equal(
        open_image(out["prediction"]).read().values, whole["prediction"].values
    )
    labels = open_image(out["labels"]).read()
    assert labels.dtype == np.int32
    assert same_objects(labels.values, whole["labels"].values)
    assert done.report.objects == whole.report.objects
    assert done.report.objects > 200
    assert labels.attrs["pixel_size"] == {"y": 0.5, "x": 0.5}
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("axes", ["zyx", "tcyx", "czyx"])
def test_positions_that_the_model_lacks_are_items_of_their_own(axes: str, tmp_path: Path) -> None:
    shape = {"t": 2, "c": 3, "z": 2, "y": 90, "x": 130}
    values = np.random.default_rng(0).random([shape[a] for a in axes]).astype("float32")
    path = image_file(tmp_path, values, axes)
    package = make_package(
        tmp_path / "p", halo=1, preprocessing=[ZERO_MEAN], postprocessing=[SIGMOID], validate=False
    )
    channel = 1 if "c" in axes else None
    with load(package, device="cpu") as runner:
        whole = runner(path, tile={"y": 40, "x": 48}, channel=channel)["prediction"]
        run_batch(runner, [path], tmp_path / "out.zarr", tile={"y": 40, "x": 48}, channel=channel)
    made = open_image(tmp_path / "out.zarr").read()
    assert made.dims == whole.dims
    np.testing.assert_allclose(made.values, whole.values, rtol=1e-6, atol=1e-7)


def test_percentiles_and_pixels_that_are_not_finite(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(50, 9, (300, 220)).astype("float32")
    values[::37, ::11] = np.nan
    values[5, 5] = np.inf
    path = image_file(tmp_path, values)
    package = make_package(tmp_path / "p", halo=1, preprocessing=[SCALED], validate=False)
    with load(package, device="cpu") as runner:
        whole = runner(path, tile=TILE)
        done = run_batch(runner, [path], tmp_path / "o.zarr", tile=TILE, large=Large(LEAST))
    made = open_image(tmp_path / "o.zarr").read().values
    np.testing.assert_allclose(made, whole["prediction"].values, rtol=1e-5, atol=1e-6)
    told = [n for n in whole.report.notes if "NaN" in n]
    assert told
    assert done.report is not None
    assert set(told) <= set(done.report.notes)


def test_outputs_of_another_size_and_a_volume(tmp_path: Path) -> None:
    half = make_package(
        tmp_path / "half", size=(8, 8), scale=2, outputs=2, halo=1, network="blur", validate=False
    )
    volume = make_package(tmp_path / "volume", axes="bczyx", size=(8, 4), halo=1, validate=False)
    rng = np.random.default_rng(0)
    plane = image_file(tmp_path, rng.random((206, 170)).astype("float32"), name="plane.zarr")
    stack = image_file(tmp_path, rng.random((40, 50, 60)).astype("float32"), "zyx", "stack.zarr")
    for package, path, tile in (
        (half, plane, {"y": 40, "x": 40}),
        (volume, stack, {"z": 20, "y": 24, "x": 24}),
    ):
        with load(package, device="cpu") as runner:
            whole = runner(path, tile=tile)
            made = run_batch(runner, [path], tmp_path / "out", tile=tile, suffix=".ome.zarr")
            assert made.ok, str(made)
            for name in runner.outputs:
                written = open_image(tmp_path / "out" / f"{path.stem}.{name}.ome.zarr").read()
                np.testing.assert_array_equal(written.values, whole[name].values)


def test_smaller_levels_are_there(nuclei: Path, tmp_path: Path) -> None:
    path = image_file(tmp_path, blobs(1100, 300))
    with load(nuclei, device="cpu") as runner:
        run_batch(runner, [path], tmp_path / "out.zarr")
    facts = json.loads((tmp_path / "out.zarr" / "zarr.json").read_text())["attributes"]["ome"]
    assert [d["path"] for d in facts["multiscales"][0]["datasets"]] == ["0", "1"]
    assert facts["version"] == "0.5"


# --------------------------------------------------------------------------------- stop and go on

PROGRAM = "from biozoo_ui.cli import main; main()"


def zoo(*arguments: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", PROGRAM, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def journal(part: Path) -> list[str]:
    done = part / "done"
    return done.read_text().splitlines() if done.exists() else []


def test_killed_again_and_again_it_ends_with_the_same_bytes(nuclei: Path, tmp_path: Path) -> None:
    path = image_file(tmp_path, blobs(1300, 1400))
    how = ["--tile", "y=72,x=72", "--memory", "400MiB"]
    run_zoo("run", nuclei, path, "-o", tmp_path / "whole.zarr", *how)
    out, part = tmp_path / "out.zarr", tmp_path / "out.zarr.part"
    kills, seen = 0, 0
    while not out.exists():
        process = zoo("run", nuclei, path, "-o", out, "--resume", *how)
        while process.poll() is None and len(journal(part)) < seen + 3:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        lines = journal(part)
        assert len(lines) == len(set(lines)), "a finished task was done again"
        assert not lines or len(lines) > seen
        seen = len(lines)
    assert kills >= 3
    assert files(out) == files(tmp_path / "whole.zarr")
    assert not part.exists()


def test_a_stopped_run_is_not_begun_anew_unasked(nuclei: Path, tmp_path: Path) -> None:
    path = image_file(tmp_path, blobs(700, 800))
    out = {"labels": tmp_path / "out.zarr"}
    tiles = 0

    def cancelled() -> bool:
        return tiles > 60

    def count(progress: Progress) -> None:
        nonlocal tiles
        tiles = progress.done if progress.stage == "running" else tiles

    with load(nuclei, device="cpu") as runner:
        image = open_image(path)
        with pytest.raises(Cancelled):
            run_out_of_core(
                runner, image, out, tile=TILE, memory=LEAST, on_progress=count, cancelled=cancelled
            )
        assert not out["labels"].exists()
        with pytest.raises(UsageError, match="--resume"):
            run_out_of_core(runner, image, out, tile=TILE, memory=LEAST)
        with pytest.raises(UsageError, match="smallest object"):
            run_out_of_core(runner, image, out, tile=TILE, memory=LEAST, min_size=50, resume=True)
        # Without a word on memory it keeps to what it began with.
        done = run_out_of_core(runner, image, out, tile=TILE, resume=True)
        assert any("earlier run" in note for note in done.report.notes)
        assert same_objects(
            open_image(out["labels"]).read().values, runner(path, tile=TILE)["labels"].values
        )


# ------------------------------------------------------------------------------------------ faults


def test_an_image_that_is_written_to_meanwhile_is_no_image(nuclei: Path, tmp_path: Path) -> None:
    path = image_file(tmp_path, blobs(300, 300))
    out = {"labels": tmp_path / "out.zarr"}

    def touch(progress: Progress) -> None:
        os.utime(path / "zarr.json", ns=(1, 1))

    with (
        load(nuclei, device="cpu") as runner,
        pytest.raises(ImageReadError, match="changed while it was read"),
    ):
        run_out_of_core(runner, open_image(path), out, tile=TILE, memory=LEAST, on_progress=touch)
    assert not out["labels"].exists()


def test_a_corrupt_chunk_is_named_and_what_was_finished_stays(nuclei: Path, tmp_path: Path) -> None:
    path = image_file(tmp_path, blobs(1300, 600), name="in.zarr")
    chunks = sorted((path / "0" / "c").rglob("*"), key=str)
    broken = [c for c in chunks if c.is_file()][-1]
    content = broken.read_bytes()
    out = tmp_path / "out.zarr"
    broken.write_bytes(b"\0" * len(content))
    with load(nuclei, device="cpu") as runner, pytest.raises(ImageReadError, match=r"in\.zarr"):
        run_out_of_core(runner, open_image(path), {"labels": out}, tile=TILE, memory=LEAST)
    assert not out.exists()


def test_what_cannot_be_run_this_way_is_said_or_run_in_memory(tmp_path: Path) -> None:
    own = make_package(tmp_path / "p", halo=1, postprocessing=[SCALED], validate=False)
    path = image_file(tmp_path, blobs(60, 60).astype("float32"))
    with load(own, device="cpu") as runner:
        assert "takes the whole" in why_in_memory(runner, open_image(path))
        with pytest.raises(UsageError, match="takes the whole"):
            run_batch(runner, [path], tmp_path / "o.zarr", large=Large(LEAST))
        assert run_batch(runner, [path], tmp_path / "o.zarr").ok
    assert (tmp_path / "o.zarr").is_dir()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--memory", "lots"], "no amount of memory"),
        (["--memory", "10MB"], "at least"),
        (["--resume", "-o", "x.ome.tif"], "OME-Zarr"),
        (["--format", "png"], "ome.zarr"),
        (["--memory", "1GiB", "--scale", "2"], "--scale"),
    ],
)
def test_wrong_options_are_told(
    options: list[str], says: str, nuclei: Path, tmp_path: Path
) -> None:
    path = image_file(tmp_path, blobs(60, 60))
    out = [] if "-o" in options else ["-o", tmp_path / "out.zarr"]
    done = run_zoo("run", nuclei, path, *out, *options, code=2)
    assert says in done.stderr
