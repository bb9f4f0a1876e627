"""Runs on a rescaled image: what the model gets, and that results lie on the image again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import biozoo_runners
from biozoo.errors import UsageError
from biozoo.samples import simulate
from biozoo_runners import Runner
from biozoo_runners.rescale import _renumbered, read_scale, resample
from biozoo_ui.cli.app import app
from packages import make_package

Load = Callable[..., Runner]


@pytest.fixture
def load(tmp_path: Path) -> Iterator[Load]:
    """Make a tiny package and load it; closed at the end."""

    def make(**wishes: Any) -> Runner:
        folder = make_package(tmp_path / f"p{len(opened)}", validate=False, **wishes)
        opened.append(biozoo_runners.load(folder, threads=1))
        return opened[-1]

    opened: list[Runner] = []
    yield make
    for runner in opened:
        runner.close()


def ramp(*shape: int) -> np.ndarray:
    """A plane that rises evenly, which linear interpolation keeps."""
    return np.indices(shape).sum(0).astype(np.float32)


# ----------------------------------------------------------------------------------- resampling


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.booleans()
)
def test_any_size_becomes_any_other_exactly(
    y: int, x: int, to_y: int, to_x: int, nearest: bool
) -> None:
    pixels = np.random.default_rng(y * x).integers(0, 255, (2, y, x), dtype=np.uint8)
    made = resample(pixels, (2, to_y, to_x), nearest=nearest)
    assert made.shape == (2, to_y, to_x)
    assert made.dtype == np.uint8
    assert pixels.min() <= made.min()
    assert made.max() <= pixels.max()


def test_the_nearest_is_the_pixel_whose_centre_is_nearest() -> None:
    assert resample(np.arange(4), (8,), nearest=True).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert resample(np.arange(9), (3,), nearest=True).tolist() == [1, 4, 7]
    back = resample(resample(np.arange(7), (13,), nearest=True), (7,), nearest=True)
    assert back.tolist() == list(range(7))


def test_shrinking_smooths_before_it_picks() -> None:
    checks = (np.indices((64, 64)).sum(0) % 2 * 200).astype(np.uint8)
    small = resample(checks, (16, 16))
    assert abs(small[4:-4, 4:-4].astype(int) - 100).max() <= 10


def test_channels_are_not_mixed() -> None:
    pixels = np.stack([np.zeros((8, 8)), np.full((8, 8), 9.0)]).astype(np.float32)
    made = resample(pixels, (2, 13, 5))
    assert made[0].max() == 0
    assert made[1].min() == 9


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float16", "float32", "float64"])
def test_values_keep_their_type_and_range(dtype: str) -> None:
    pixels = np.zeros((9, 9), dtype)
    pixels[3:6] = 250
    for size in (4, 17):
        made = resample(pixels, (size, size))
        assert made.dtype == dtype
        assert made.min() >= 0
        assert made.max() <= 250


def test_a_pixel_that_is_not_finite_does_not_spread() -> None:
    pixels = ramp(32, 32)
    pixels[10, 10], pixels[20, 20] = np.nan, np.inf
    made = resample(pixels, (64, 64))
    assert np.isnan(made).sum() == np.isinf(made).sum() == 4
    assert np.isnan(resample(np.full((4, 4), np.nan, np.float32), (8, 8))).all()


# ----------------------------------------------------------------------------------------- runs


@pytest.mark.parametrize("scale", [0.37, 0.5, 0.71, 1.41, 2, "y=0.5,x=1.3", {"x": 0.3}])
@pytest.mark.parametrize("shape", [(50, 47), (33, 64)])
def test_results_have_the_image_s_own_size_and_place(
    load: Load, shape: tuple[int, int], scale: Any
) -> None:
    image = ramp(*shape)
    result = load(network="pointwise")(image, scale=scale)
    found = result["prediction"].squeeze("channel").values
    assert found.shape == shape
    inner = (slice(6, -6), slice(6, -6))
    np.testing.assert_allclose(found[inner], (2 * image + 1)[inner], atol=1.0)


def test_the_model_gets_the_rescaled_image_and_the_report_says_so(load: Load) -> None:
    runner = load(network="pointwise", size=(4, 4))
    seen = []
    run = runner.backend.run
    runner.backend.run = lambda feed: seen.append(feed["raw"].shape) or run(feed)  # type: ignore
    report = runner(ramp(40, 60), scale=0.5).report
    assert seen == [(1, 1, 20, 32)]  # x 30 padded to 4 + n*4
    assert any(
        "rescaled by 0.5 along y, x: 40 x 60 pixels are 20 x 30" in note for note in report.notes
    )
    assert report.asked.scale == "0.5"
    assert "scale 0.5" in str(report)
    assert report.megapixels == pytest.approx(40 * 60 / 1e6)  # of the image, as without a scale
    assert "y 20" in str(runner.plan(ramp(40, 60), scale=0.5))
    assert "y 40" in str(runner.plan(ramp(40, 60)))


@pytest.mark.parametrize("scale", [1, "1", {"y": 1.0}, 1.001, None])
def test_scale_one_changes_no_byte(load: Load, scale: Any) -> None:
    runner = load()
    image = np.random.default_rng(0).random((33, 41), np.float32)
    plain, scaled = runner(image), runner(image, scale=scale)
    assert scaled["prediction"].values.tobytes() == plain["prediction"].values.tobytes()
    assert not any("rescaled" in n for n in scaled.report.notes)


def test_whole_numbers_come_back_unmixed(load: Load) -> None:
    classes = {"id": "ensure_dtype", "kwargs": {"dtype": "int32"}}
    image = np.zeros((31, 31), np.float32)
    image[10:20, 10:20] = 20
    found = load(network="pointwise", postprocessing=[classes])(image, scale=2)["prediction"]
    assert found.dtype == np.int32
    # The image's edge is interpolated; what comes back is one of the values that the model gave.
    assert found.values[0, 0, 0] == 1
    assert found.values[0, 15, 15] == 41


def test_a_label_image_as_input_is_never_mixed(load: Load) -> None:
    labels = np.zeros((40, 40), np.int32)
    labels[5:20, 5:20], labels[20:33, 5:20] = 7, 1000
    for scale in (0.6, 1.7):
        found = load(network="pointwise")(labels, scale=scale)["prediction"].values
        nearest = resample(labels, tuple(round(40 * scale) for _ in "yx"), nearest=True)
        assert set(np.unique(nearest)) == {0, 7, 1000}
        assert {1, 15, 2001} == set(np.unique(found[..., [10, 28], 10])) | {1}


def test_a_stack_is_rescaled_plane_by_plane(load: Load) -> None:
    stack = np.stack([ramp(24, 30) + 100 * z for z in range(3)])
    found = load(network="pointwise")(stack, axes="zyx", scale=0.5)["prediction"]
    assert dict(found.sizes) == {"channel": 1, "z": 3, "y": 24, "x": 30}
    middle = found.isel(channel=0, y=12, x=15).values
    np.testing.assert_allclose(middle, [2 * (27 + 100 * z) + 1 for z in range(3)], atol=1)


def test_z_is_rescaled_only_where_it_is_named(load: Load) -> None:
    runner = load(axes="bczyx", network="pointwise", size=(1, 1), test_size=4)
    image = xr.DataArray(
        np.random.default_rng(0).random((6, 20, 20), np.float32), dims=("z", "y", "x")
    )
    assert "6 x 20 x 20 pixels are 6 x 10 x 10" in str(runner(image, scale=0.5).report)
    result = runner(image, scale={"z": 2, "y": 0.5})
    assert "6 x 20 x 20 pixels are 12 x 10 x 20" in str(result.report)
    assert dict(result["prediction"].sizes) == {"channel": 1, "z": 6, "y": 20, "x": 20}
    with pytest.raises(UsageError, match=r"cannot be rescaled along z.*y, x"):
        load()(image, scale={"z": 2})


def test_several_inputs_and_outputs_are_rescaled_alike(load: Load) -> None:
    runner = load(inputs=2, outputs=2, network="pointwise")
    images = {"raw": ramp(37, 41), "raw1": ramp(37, 41)}
    result = runner(images, scale=0.5)
    assert [a.shape for a in result.values()] == [(1, 37, 41)] * 2
    assert sum("rescaled" in n for n in result.report.notes) == 2


def test_outputs_of_other_sizes_keep_their_own_ratio(load: Load) -> None:
    image = np.random.default_rng(0).random((48, 40), np.float32)
    for wishes in ({"scale": 2}, {"scale": 0.5}, {"valid": True, "kernel": 5}):
        runner = load(**wishes, size=(16, 2), fixed_batch=False)
        plain, scaled = runner(image), runner(image, scale=0.5)
        sizes = plain["prediction"].shape
        if "valid" in wishes:  # 4 pixels of the model's scale are 8 of the image
            sizes = (1, sizes[1] - 4, sizes[2] - 4)
        assert scaled["prediction"].shape == sizes


def test_pixel_sizes_are_those_of_the_image(load: Load) -> None:
    image = xr.DataArray(
        ramp(30, 33),
        dims=("y", "x"),
        attrs={"pixel_size": {"y": 0.5, "x": 0.25}, "unit": dict.fromkeys("yx", "micrometer")},
    )
    result = load()(image, scale=0.7)["prediction"]
    assert result.attrs["pixel_size"] == {"y": 0.5, "x": 0.25}
    assert result.attrs["unit"] == {"y": "micrometer", "x": "micrometer"}
    half = load(scale=2, size=(16, 2))(image, scale=1.4)["prediction"]
    assert half.attrs["pixel_size"] == {"y": 1.0, "x": 0.5}


# ----------------------------------------------------------------------------------------- auto


def with_size(unit: str = "micrometer", **sizes: float) -> xr.DataArray:
    attrs = {"pixel_size": sizes, "unit": dict.fromkeys(sizes, unit)}
    return xr.DataArray(ramp(40, 40), dims=("y", "x"), attrs=attrs)


def test_auto_makes_the_pixels_as_large_as_the_model_s(load: Load) -> None:
    runner = load(pixel_size={"y": 0.5, "x": 0.5})
    report = runner(with_size(y=0.25, x=1.0), scale="auto").report
    assert "40 x 40 pixels are 20 x 80" in str(report)
    assert report.asked.scale == "auto"
    nano = runner(with_size("nanometer", y=250.0, x=500.0), scale="auto").report
    assert "40 x 40 pixels are 20 x 40" in str(nano)


def test_auto_says_what_is_missing(load: Load) -> None:
    told = "the image's pixel size (along x)"
    runner = load(pixel_size={"y": 0.5, "x": 0.5})
    with pytest.raises(UsageError) as caught:
        runner(with_size(y=0.25), scale="auto")
    assert told in caught.value.message
    assert "made for" not in caught.value.message
    assert "--scale 0.5" in caught.value.message
    with pytest.raises(UsageError, match=r"that the model was made for \(along y, x\)"):
        load()(with_size(y=0.25, x=0.25), scale="auto")


@pytest.mark.parametrize(
    "scale", [0, -1, "0", "abc", "", "50%", 1e5, float("nan"), "y=", "y=2,y=3"]
)
def test_a_scale_that_is_none_is_refused(load: Load, scale: Any) -> None:
    with pytest.raises(UsageError, match=r"[Ss]cale"):
        load()(ramp(16, 16), scale=scale)


def test_only_axes_of_space_can_be_rescaled() -> None:
    assert read_scale("y=0.5, x=2") == {"y": 0.5, "x": 2.0}
    for text in ("c=2", "time=0.5", "q=1"):
        with pytest.raises(UsageError, match="z, y, x"):
            read_scale(text)


# -------------------------------------------------------------------------------------- objects


@pytest.fixture(scope="module")
def nuclei() -> Iterator[Runner]:
    with biozoo_runners.load("nuclei-fluo") as runner:
        yield runner


def test_objects_are_found_at_the_models_scale_and_lie_on_the_image(nuclei: Runner) -> None:
    """Nuclei far too small for the model are found once they are shown larger."""
    from biozoo_runners.comparison.scores import average_precision

    simulated = simulate("nuclei", (256, 256), seed=5)
    small = resample(simulated.image, (40, 40))
    truth = resample(simulated.labels, (40, 40), nearest=True)
    scores = {}
    for scale in (1, 3):
        labels = nuclei(small, scale=scale)["labels"].values
        assert labels.shape == small.shape
        assert labels.dtype == np.int32
        scores[scale] = average_precision(truth, labels, (0.5,)).average_precision[0]
    assert scores[3] > scores[1] + 0.2


def test_labels_are_numbered_without_gaps_and_counted(nuclei: Runner) -> None:
    image = simulate("nuclei", (128, 128), seed=1).image
    for scale in (0.5, 2.2):
        result = nuclei(np.stack([image, image[::-1]]), axes="zyx", scale=scale)
        planes = result["labels"].values
        for plane in planes:
            assert np.unique(plane).tolist() == list(range(int(plane.max()) + 1))
        assert result.report.objects == sum(int(p.max()) for p in planes)


def test_an_object_that_got_lost_leaves_no_gap() -> None:
    labels = xr.DataArray(np.array([[[1, 0, 3]], [[2, 2, 5]]], np.int32), dims=("z", "y", "x"))
    assert _renumbered(labels, {"z": 2}).values.tolist() == [[[1, 0, 2]], [[1, 1, 2]]]


def test_min_size_counts_pixels_of_the_image(nuclei: Runner) -> None:
    image = simulate("nuclei", (128, 128), seed=1).image
    for scale in (0.5, 2):
        whole = nuclei(image, scale=scale)["labels"].values
        areas = np.bincount(whole.ravel())[1:]
        least = int(np.median(areas))
        kept = nuclei(image, scale=scale, min_size=least)["labels"].values
        found = np.bincount(kept.ravel())[1:]
        assert 0 < len(found) < len(areas)
        assert found.min() >= 0.85 * least  # labels come back by whole pixels


# ---------------------------------------------------------------------------------- command line


def test_zoo_run_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_package(tmp_path / "tiny", validate=False)
    tifffile.imwrite("cells.tif", ramp(45, 50), metadata={"axes": "YX"})

    def zoo(*words: object, code: int = 0) -> str:
        made = CliRunner().invoke(app, [str(w) for w in words])
        assert made.exit_code == code, made.output + made.stderr
        return made.output + made.stderr

    told = zoo("run", folder, "cells.tif", "-o", "out.ome.tif", "--scale", "0.5")
    assert "45 x 50 pixels are 22 x 25" in told
    assert tifffile.imread("out.ome.tif").squeeze().shape == (45, 50)
    assert "y 22" in zoo("run", folder, "cells.tif", "-o", "out.npy", "--scale", "0.5", "--dry-run")
    assert "what is missing" in zoo(
        "run", folder, "cells.tif", "-o", "out.npy", "--scale", "auto", code=2
    )
    assert "no number" in zoo("run", folder, "cells.tif", "-o", "o.npy", "--scale", "x", code=2)
    assert not Path("o.npy").exists()
