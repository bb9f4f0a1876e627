"""A loaded model on an image: the result's axes and metadata, statistics, notes, stopping."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
from biozoo.errors import (
    BackendError,
    BiozooError,
    Cancelled,
    ChannelChoiceError,
    ImageMismatchError,
    InvalidPackageError,
    OutOfMemoryError,
    UsageError,
)
from biozoo_runners import load, open_image, write_image
from biozoo_runners.pipeline import Progress, Runner
from packages import ENSURE_FLOAT, ZERO_MEAN, change_rdf, make_package, read_rdf


def blur(plane: np.ndarray) -> np.ndarray:
    """What the tiny network does to a plane: a 3 x 3 mean, here with symmetric borders."""
    framed = np.pad(plane.astype("float64"), 1, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(framed, (3, 3))
    return windows.mean(axis=(-2, -1))


@pytest.fixture
def tiny(tmp_path: Path) -> Iterator[Runner]:
    """A 3 x 3 blur, sizes 8 + n*4, halo 1."""
    with load(make_package(tmp_path / "tiny", size=(8, 4), halo=1), device="cpu") as runner:
        yield runner


def noise(*shape: int, dtype: str = "float32") -> np.ndarray:
    return (np.random.default_rng(0).random(shape) * 200).astype(dtype)


# ---------------------------------------------------------------------------------------- results


def test_a_plane_comes_back_with_the_outputs_axes_and_without_a_batch(tiny: Runner) -> None:
    image = noise(30, 21)
    result = tiny(image)
    assert list(result) == ["prediction"]
    out = result["prediction"]
    assert out.dims == ("channel", "y", "x")
    assert list(out.channel.values) == ["channel0"]
    np.testing.assert_allclose(out.values[0], blur(image), rtol=1e-5)
    assert result.main is out


@pytest.mark.parametrize("tile", [None, {"y": 12, "x": 8}, {"x": 16}])
def test_tiles_do_not_show(tiny: Runner, tile: Any) -> None:
    image = noise(30, 21)
    np.testing.assert_allclose(
        tiny(image, tile=tile)["prediction"].values[0], blur(image), rtol=1e-5
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (3, 2), (6, 6), (7, 9)])
def test_small_images_are_padded_and_cropped_back(tiny: Runner, shape: tuple[int, int]) -> None:
    image = noise(*shape)
    result = tiny(image)
    np.testing.assert_allclose(result["prediction"].values[0], blur(image), rtol=1e-5)
    if min(shape) < 6:
        assert any("padded along" in n for n in result.report.notes)


def test_extra_axes_come_back_in_canonical_order(tiny: Runner) -> None:
    image = noise(2, 12, 3, 11)
    result = tiny(image, axes="zytx")
    out = result["prediction"]
    assert out.dims == ("time", "channel", "z", "y", "x")
    assert out.shape == (3, 1, 2, 12, 11)
    for t in range(3):
        for z in range(2):
            np.testing.assert_allclose(out.values[t, 0, z], blur(image[z, :, t]), rtol=1e-5)
    assert result.report.items == 6
    assert any("position by position" in n for n in result.report.notes)


def test_an_images_batch_axis_comes_back(tiny: Runner) -> None:
    out = tiny(noise(2, 12, 12), axes="byx")["prediction"]
    assert out.dims == ("batch", "channel", "y", "x")
    assert out.shape == (2, 1, 12, 12)


def test_pixel_sizes_and_names_are_carried_and_scaled(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "half", size=(8, 4), scale=2)
    image = xr.DataArray(
        noise(3, 20, 24),
        dims=["z", "y", "x"],
        attrs={
            "pixel_size": {"z": 2.0, "y": 0.5, "x": 0.25},
            "unit": dict.fromkeys("zyx", "micrometer"),
            "name": "cells",
        },
    )
    with load(folder, device="cpu") as runner:
        out = runner(image)["prediction"]
    assert out.sizes == {"channel": 1, "z": 3, "y": 10, "x": 12}
    assert out.attrs["pixel_size"] == {"z": 2.0, "y": 1.0, "x": 0.5}
    assert out.attrs["unit"] == dict.fromkeys("zyx", "micrometer")
    assert out.attrs["name"] == "cells"


def test_several_inputs_and_outputs_are_tiled_in_step(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "two", size=(8, 4), halo=1, inputs=2, outputs=2)
    a, b = noise(30, 21), noise(30, 21) * 3
    with load(folder, device="cpu") as runner:
        result = runner({"raw": a, "raw1": b}, tile={"y": 12, "x": 12})
        with pytest.raises(UsageError, match="raw, raw1"):
            runner(a)
    np.testing.assert_allclose(result["prediction"].values[0], blur((a + b) / 2), rtol=1e-5)
    np.testing.assert_allclose(result["prediction1"].values[0], 2 * blur((a + b) / 2), rtol=1e-5)
    with pytest.raises(UsageError, match="prediction, prediction1"):
        _ = result.main


def test_a_file_is_read_and_written(tiny: Runner, tmp_path: Path) -> None:
    path = tmp_path / "cells.ome.tif"
    write_image(path, xr.DataArray(noise(20, 22, dtype="uint16"), dims=["y", "x"]))
    result = tiny(path)
    write_image(tmp_path / "out.ome.tif", result.main)
    back = open_image(tmp_path / "out.ome.tif").read().squeeze()
    np.testing.assert_array_equal(back.values, result.main.values.squeeze())


# ------------------------------------------------------------------------------------- statistics


def test_statistics_are_of_the_whole_image_never_of_a_tile(tmp_path: Path) -> None:
    folder = make_package(
        tmp_path / "p", size=(8, 4), network="pointwise", preprocessing=[ZERO_MEAN]
    )
    image = noise(40, 40)
    image[:10] += 1000
    expected = 2 * (image - image.mean()) / (image.std() + 1e-6) + 1
    with load(folder, device="cpu") as runner:
        tiled = runner(image, tile={"y": 8, "x": 8})["prediction"].values[0]
        whole = runner(image)["prediction"].values[0]
    np.testing.assert_allclose(tiled, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tiled, whole, rtol=1e-6, atol=1e-6)


def test_padding_does_not_change_statistics(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=64, network="pointwise", preprocessing=[ZERO_MEAN])
    image = noise(10, 12)
    with load(folder, device="cpu") as runner:
        got = runner(image)["prediction"].values[0]
    expected = 2 * (image - image.mean()) / (image.std() + 1e-6) + 1
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


def test_each_looped_plane_has_its_own_statistics(tmp_path: Path) -> None:
    folder = make_package(
        tmp_path / "p", size=(8, 4), network="pointwise", preprocessing=[ZERO_MEAN]
    )
    stack = noise(3, 12, 12) * np.array([1, 10, 100], "float32")[:, None, None]
    with load(folder, device="cpu") as runner:
        out = runner(stack, axes="zyx")["prediction"].values[0]
    np.testing.assert_allclose(out.std(axis=(1, 2)), 2, rtol=1e-3)


def test_statistics_kept_along_a_tiled_axis(tmp_path: Path) -> None:
    """One mean per line: each tile takes those of its own lines, also where it is padded."""
    per_line = {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "x"]}}
    folder = make_package(tmp_path / "p", size=(8, 4), halo=2, network="pointwise")
    rdf = read_rdf(folder)
    rdf["inputs"][0]["preprocessing"] = [per_line, ENSURE_FLOAT]
    change_rdf(folder, inputs=rdf["inputs"])
    image = noise(30, 40) * np.arange(1, 31, dtype="float32")[:, None]
    mean, std = image.mean(1, keepdims=True), image.std(1, keepdims=True)
    expected = 2 * (image - mean) / (std + 1e-6) + 1
    with load(folder, device="cpu") as runner:
        got = runner(image, tile={"y": 12, "x": 12})["prediction"].values[0]
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_statistics_of_outputs_are_of_the_stitched_whole(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4), network="pointwise")
    rdf = read_rdf(folder)
    rdf["outputs"][0]["postprocessing"] = [{"id": "sigmoid"}, ZERO_MEAN, ENSURE_FLOAT]
    change_rdf(folder, outputs=rdf["outputs"])
    stack = noise(2, 30, 40) / 100 - 1
    with load(folder, device="cpu") as runner:
        got = runner(stack, axes="tyx", tile={"y": 8, "x": 8})["prediction"].values
    made = 1 / (1 + np.exp(-(2 * stack + 1)))
    for t in range(2):
        expected = (made[t] - made[t].mean()) / made[t].std()
        np.testing.assert_allclose(got[t, 0], expected, rtol=1e-3, atol=1e-3)


# -------------------------------------------------------------------------------------- bad input


def test_nan_is_replaced_and_said(tmp_path: Path) -> None:
    """One NaN would otherwise make the mean, and so everything, NaN."""
    folder = make_package(
        tmp_path / "p", size=(8, 4), network="pointwise", preprocessing=[ZERO_MEAN]
    )
    image = noise(12, 12)
    image[3, 4] = np.nan
    image[5, 5] = np.inf
    with load(folder, device="cpu") as runner:
        result = runner(image)
        assert np.isfinite(result.main.values).all()
        assert any(n.startswith("2 pixels are NaN or infinite") for n in result.report.notes)
        with pytest.raises(ImageMismatchError, match="no finite pixel"):
            runner(np.full((12, 12), np.nan))


@pytest.mark.parametrize("value", [0, 7])
def test_an_image_of_one_value_runs_and_is_said(tmp_path: Path, value: int) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4), preprocessing=[ZERO_MEAN])
    with load(folder, device="cpu") as runner:
        result = runner(np.full((12, 12), value, "uint8"))
    assert np.isfinite(result.main.values).all()
    assert any("all one value" in n for n in result.report.notes)


def test_an_rgb_image_asks_for_a_channel(tiny: Runner) -> None:
    rgb = xr.DataArray(
        noise(12, 12, 3), dims=["y", "x", "channel"], coords={"channel": ["red", "green", "blue"]}
    )
    with pytest.raises(ChannelChoiceError):
        tiny(rgb)
    np.testing.assert_allclose(
        tiny(rgb, channel="gray").main.values[0], blur(rgb.values.mean(-1)), rtol=1e-5
    )
    report = tiny(rgb, channel="blue").report
    assert "channel blue is used" in str(report)
    assert report.asked.channel == "blue"


def test_a_network_that_makes_another_size_than_described(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4), valid=True)
    rdf = read_rdf(folder)
    for axis in rdf["outputs"][0]["axes"]:
        if "size" in axis:
            axis["size"]["offset"] = 0
    change_rdf(folder, outputs=rdf["outputs"])
    with (
        load(folder, device="cpu") as runner,
        pytest.raises(BackendError, match="package is wrong"),
    ):
        runner(noise(12, 12))


def test_memory_errors_say_what_to_do(tiny: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(inputs: Any) -> Any:
        raise MemoryError

    monkeypatch.setattr(tiny.backend, "run", full)
    with pytest.raises(OutOfMemoryError, match=r"smallest tile that the model takes \(y 8, x 8\)"):
        tiny(noise(12, 12))


def test_errors_print_no_more_than_a_sentence(tiny: Runner) -> None:
    for bad in (noise(3, 12, 12), "no/such/file.tif", noise(0, 5)):
        with pytest.raises(BiozooError) as caught:
            tiny(bad)
        assert len(str(caught.value)) > 30


# ------------------------------------------------------------------------------ progress, stopping


def test_progress_counts_tiles(tiny: Runner) -> None:
    seen: list[Progress] = []
    tiny(noise(2, 18, 18), axes="tyx", tile={"y": 12, "x": 12}, on_progress=seen.append)
    assert [p.done for p in seen] == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert {p.total for p in seen} == {8}
    assert seen[-1].stage == "done"


def test_a_run_can_be_stopped_between_tiles(tiny: Runner) -> None:
    done: list[int] = []
    with pytest.raises(Cancelled):
        tiny(
            noise(40, 40),
            tile={"y": 8, "x": 8},
            on_progress=lambda p: done.append(p.done),
            cancelled=lambda: len(done) > 3,
        )
    assert done == [0, 1, 2, 3]


def test_ctrl_c_passes_and_the_model_can_be_used_again(
    tiny: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(p: Progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tiny(noise(12, 12), on_progress=interrupt)
    assert tiny(noise(12, 12)).main.shape == (1, 12, 12)


# ------------------------------------------------------------------------------------ plan, report


def test_a_plan_reads_no_pixels(tiny: Runner) -> None:
    from biozoo_runners.images.base import Image

    image = Image.from_array(noise(5, 100, 100), "tyx")

    def fail(index: Any) -> Any:
        raise AssertionError("read")

    plan = tiny.plan(replace(image, reader=fail), tile={"y": 12, "x": 32})
    assert plan.summary == "52 tiles of y 12, x 32 (13 x 4), halo 1"
    assert tiny.plan(noise(10, 10)) == tiny.plan(noise(10, 10))


def test_the_report_says_what_was_asked_and_what_ran(tiny: Runner) -> None:
    report = tiny(noise(26, 26), tile={"y": 12, "x": 12}).report
    assert report.model == "tiny"
    assert report.version == "1.0"
    assert report.ran == tiny.info
    assert report.ran.weights_format == "onnx"
    assert report.asked.device == "cpu"
    assert report.tiles == 9
    assert report.megapixels == pytest.approx(676e-6)
    assert report.seconds["total"] >= report.seconds["compute"] > 0
    assert report.peak_memory > 1e6
    text = str(report)
    assert "asked: device cpu, tile y=12,x=12" in text
    assert "onnx on cpu, onnxruntime" in text
    assert "9 tiles of y 12, x 12 (3 x 3), halo 1" in text
    assert "s per megapixel" in text
    assert report.to_dict()["ran"]["device"] == "cpu"


def test_tiles_without_a_halo_are_said(tmp_path: Path) -> None:
    with load(make_package(tmp_path / "p", size=8), device="cpu") as runner:
        assert any("declares no halo" in n for n in runner(noise(20, 20)).report.notes)
        assert not any("halo" in n for n in runner(noise(8, 8)).report.notes)
    valid = make_package(tmp_path / "v", size=8, valid=True)
    with load(valid, device="cpu") as runner:
        assert not any("halo" in n for n in runner(noise(20, 20)).report.notes)


def test_auto_that_lands_on_the_cpu_says_so(tmp_path: Path) -> None:
    with load(make_package(tmp_path / "p")) as runner:
        if runner.info.device == "cpu":
            assert any("auto took the CPU" in n for n in runner(noise(12, 12)).report.notes)


# ----------------------------------------------------------------------------------------- labels

OBJECTS = {
    "biozoo": {
        "instances": {
            "output": "prediction",
            "foreground": "channel0",
            "distance": 0,
            "foreground_threshold": 0.3,
            "seed_threshold": 0.6,
        }
    }
}


def discs() -> np.ndarray:
    y, x = np.mgrid[:40, :60]
    return sum(
        np.clip(1 - np.hypot(y - cy, x - cx) / 9, 0, 1) for cy, cx in ((12, 12), (26, 40))
    ).astype("float32")


def test_labels_where_the_package_says_how(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4), halo=1, config=OBJECTS)
    with load(folder, device="cpu") as runner:
        assert runner.outputs == ("prediction", "labels")
        result = runner(discs())
        labels = result.main
        assert labels.dtype == np.int32
        assert labels.dims == ("y", "x")
        assert labels.values.max() == 2
        assert list(result) == ["prediction", "labels"]
        assert "found: 2 objects" in str(result.report)
        assert runner(discs(), min_size=10_000).main.values.max() == 0


def test_labels_of_a_stack_are_plane_by_plane_for_a_2d_model(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", size=(8, 4), halo=1, config=OBJECTS)
    stack = np.stack([discs(), discs() * 0, discs()])
    with load(folder, device="cpu") as runner:
        labels = runner(stack, axes="zyx")["labels"]
    assert labels.dims == ("z", "y", "x")
    assert [int(plane.max()) for plane in labels.values] == [2, 0, 2]


def test_malformed_instances_are_the_packages_fault(tmp_path: Path) -> None:
    config = {"biozoo": {"instances": {"output": "nothing", "foreground": 0, "distance": 0}}}
    folder = make_package(tmp_path / "p", config=config)
    with pytest.raises(InvalidPackageError, match="instances"):
        load(folder, device="cpu")


# ---------------------------------------------------------------------------------------- package


def test_a_package_can_be_opened_by_name_or_object(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    for what in (folder, str(folder), biozoo.open(folder)):
        with load(what, device="cpu") as runner:
            assert runner.package.id == "tiny"


@pytest.mark.shared
def test_brain_meshnet_tiles_a_larger_volume(shared: Path) -> None:
    """Outputs of plain fixed size mirror the input, so a larger volume can be tiled."""
    with load(shared / "models" / "brain-meshnet3d", device="cpu") as runner:
        plan = runner.plan(noise(70, 64, 64), axes="zyx")
    assert len(plan) == 2
    assert plan.outputs[0].shape == (1, 3, 70, 64, 64)


def test_wishes_for_objects_that_a_model_does_not_make(tmp_path: Path) -> None:
    """They would be ignored in silence."""
    with load(make_package(tmp_path / "tiny"), device="cpu") as runner:
        for wish in ({"min_size": 5}, {"fill_holes": False}):
            with pytest.raises(UsageError, match="'tiny' does not say how objects are made"):
                runner(noise(12, 12), **wish)
