"""Our results equal bioimageio.core's, on tiny packages and on the shared models.

Core runs blockwise with the tile shape that we planned. Where core cannot (an image smaller than a
tile, an offset without a halo), its whole-image run is the reference.

Core shifts the last tile back to end with the image, we lay it on the network's strides: the tiles
are the same where what is left of the image is a multiple of the declared steps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
from biozoo_runners.pipeline import Runner, load
from packages import ENSURE_FLOAT, change_rdf, make_package, read_rdf
from pooled import make_pooled

core = pytest.importorskip("bioimageio.core")

LETTERS = {"b": "batch", "t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    from loguru import logger

    logger.disable("bioimageio")
    monkeypatch.setenv("TQDM_DISABLE", "1")


def image(axes: str, seed: int = 0, **sizes: int) -> xr.DataArray:
    sizes = {"c": 1, "b": 1, "y": 26, "x": 25, "z": 9, "t": 3} | sizes
    values = np.random.default_rng(seed).random([sizes[a] for a in axes]) * 200
    return xr.DataArray(values.astype("float32"), dims=[LETTERS[a] for a in axes])


def core_blockwise(runner: Runner, images: dict[str, xr.DataArray], tile: Any) -> dict[str, Any]:
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model

    descr = runner.package.descr
    plan = runner.plan(images, tile=tile)
    shapes = {t.id: dict(zip(t.dims, t.tile, strict=True)) for t in plan.inputs}
    sample = create_sample_for_model(descr, inputs={i: a.copy() for i, a in images.items()})
    with create_prediction_pipeline(descr, weights_format="onnx") as pipeline:
        found = pipeline.predict_sample_with_fixed_blocking(sample, shapes)
    return {i: t.data for i, t in found.members.items()}


def core_whole(runner: Runner, images: dict[str, xr.DataArray]) -> dict[str, Any]:
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model

    descr = runner.package.descr
    sample = create_sample_for_model(descr, inputs={i: a.copy() for i, a in images.items()})
    with create_prediction_pipeline(descr, weights_format="onnx") as pipeline:
        found = pipeline.predict_sample_without_blocking(sample)
    return {i: t.data for i, t in found.members.items()}


def assert_equal(
    ours: dict[str, xr.DataArray], theirs: dict[str, xr.DataArray], tolerance: float = 1e-5
) -> None:
    assert set(ours) == set(theirs)
    for i, expected in theirs.items():
        got = ours[i]
        expected = expected.squeeze([d for d in expected.dims if d not in got.dims])
        assert set(got.dims) == set(expected.dims)
        got = got.transpose(*expected.dims)
        assert got.dtype == expected.dtype
        np.testing.assert_allclose(
            got.values.astype("float64"),
            expected.values.astype("float64"),
            rtol=tolerance,
            atol=tolerance,
        )


def check(folder: Path, images: dict[str, xr.DataArray], tile: Any = None) -> None:
    with load(biozoo.open(folder), device="cpu") as runner:
        plan = runner.plan(images, tile=tile)
        assert len(plan) > 1 or tile is None
        ours = dict(runner(images, tile=tile))
        assert_equal(ours, core_blockwise(runner, images, tile))


# ------------------------------------------------------------------------------------ axis orders


@pytest.mark.parametrize("axes", ["yx", "byx", "xy", "zyx"])
def test_models_without_a_channel_axis(tmp_path: Path, axes: str) -> None:
    """Core cannot tile them; with a halo of the network's context tiles equal the whole."""
    folder = make_package(tmp_path / "p", axes=axes, size=(4, 4), halo=1)
    images = {"raw": image(axes)}
    with load(biozoo.open(folder), device="cpu") as runner:
        ours = runner(images, tile={"y": 16, "x": 12})
        assert ours.report.tiles > 1
        assert_equal(dict(ours), core_whole(runner, images))


@pytest.mark.parametrize("axes", ["bcyx", "byxc", "bxyc", "yxc", "cyx", "xbcy"])
def test_axis_orders(tmp_path: Path, axes: str) -> None:
    folder = make_package(tmp_path / "p", axes=axes, size=(8, 4), halo=1)
    check(folder, {"raw": image(axes)}, tile={"y": 16, "x": 12})


@pytest.mark.parametrize("axes", ["bczyx", "bzyxc", "bcxyz"])
def test_axis_orders_3d(tmp_path: Path, axes: str) -> None:
    folder = make_package(tmp_path / "p", axes=axes, size=(4, 2), halo=1)
    check(folder, {"raw": image(axes)}, tile={"z": 6, "y": 16, "x": 20})


def test_time_axis(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", axes="btcyx", size=(2, 1))
    check(folder, {"raw": image("btcyx", t=5)}, tile={"time": 3})


def test_several_channels(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", axes="byxc", channels=3, out_channels=2, halo=2)
    check(folder, {"raw": image("byxc", c=3)}, tile={"y": 16, "x": 16})


# ------------------------------------------------------------------------------------- size rules


#: Per size the pixels of an image whose last tile ends with it, and the tile.
FITTING: dict[str, tuple[dict[str, int], Any]] = {
    "16": ({"y": 26, "x": 25}, None),
    "(12, 3)": ({"y": 27, "x": 30}, {"y": 24, "x": 24}),
    "{'y': 24, 'x': (12, 4)}": ({"y": 26, "x": 28}, {"x": 24}),
}


@pytest.mark.parametrize("halo", [0, 1, 5])
@pytest.mark.parametrize("size", [16, (12, 3), {"y": 24, "x": (12, 4)}])
def test_fixed_and_parameterized_sizes(tmp_path: Path, size: Any, halo: int) -> None:
    """Also with a halo smaller and larger than the network's context."""
    folder = make_package(tmp_path / "p", size=size, halo=halo)
    pixels, tile = FITTING[str(size)]
    check(folder, {"raw": image("bcyx", **pixels)}, tile=tile)


@pytest.mark.parametrize("mode", ["constant", "edge", "reflect", "symmetric"])
def test_padding_modes(tmp_path: Path, mode: str) -> None:
    """A constant is in units of the image: padding comes before preprocessing."""
    folder = make_package(tmp_path / "p", size=16, halo=4)
    rdf = read_rdf(folder)
    rdf["inputs"][0]["pad"] = {"mode": mode} | ({"value": 50} if mode == "constant" else {})
    rdf["inputs"][0]["preprocessing"] = [{"id": "scale_linear", "kwargs": {"gain": 2, "offset": 1}}]
    change_rdf(folder, inputs=rdf["inputs"])
    check(folder, {"raw": image("bcyx")})


@pytest.mark.parametrize("scale", [2, 0.5])
@pytest.mark.parametrize("halo", [0, 2])
def test_smaller_and_larger_outputs(tmp_path: Path, scale: float, halo: int) -> None:
    folder = make_package(tmp_path / "p", size=(12, 4), scale=scale, halo=halo)
    check(folder, {"raw": image("bcyx", y=36, x=28)}, tile={"y": 16, "x": 20})


def test_valid_convolutions_equal_the_whole_image_run(tmp_path: Path) -> None:
    """Core cannot tile a negative offset; its whole-image run gives the size by the formula."""
    folder = make_package(tmp_path / "p", size=(8, 1), kernel=5, valid=True)
    images = {"raw": image("bcyx")}
    with load(biozoo.open(folder), device="cpu") as runner:
        ours = runner(images, tile={"y": 14, "x": 13})
        assert ours["prediction"].shape == (1, 1, 22, 21)
        assert_equal(dict(ours), core_whole(runner, images))


def test_one_tile_equals_the_whole_image_run(tmp_path: Path) -> None:
    """The whole image plus halo in one tile is what core's whole-image run pads to."""
    folder = make_package(tmp_path / "p", size=(8, 1), halo=3)
    images = {"raw": image("bcyx")}
    with load(biozoo.open(folder), device="cpu") as runner:
        assert len(runner.plan(images)) == 1
        assert_equal(dict(runner(images)), core_whole(runner, images))


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    """Without a halo: core gives one only to the input that an output refers to, and fails."""
    folder = make_package(tmp_path / "p", inputs=2, outputs=2)
    pixels = {"y": 28, "x": 32}
    images = {"raw": image("bcyx", **pixels), "raw1": image("bcyx", seed=1, **pixels)}
    check(folder, images, tile={"y": 16, "x": 20})


# ---------------------------------------------------------------------------------------- strides


@pytest.mark.parametrize(("size", "same"), [(56, True), (57, False), (59, False)])
def test_the_last_tile_of_a_network_that_pools(tmp_path: Path, size: int, same: bool) -> None:
    """Tiles and whole agree for any image here, in core for those whose last tile needs no shift.

    Core's own whole run is of this image too: it takes blocks of pixels from the same first one.
    """
    folder = make_pooled(tmp_path / "p", 4, size=(16, 4), halo=4)
    images = {"raw": image("bcyx", y=size, x=size)}
    tile = {"y": 24, "x": 24}
    with load(biozoo.open(folder), device="cpu") as runner:
        whole = dict(runner(images))
        tiled = dict(runner(images, tile=tile))
        assert len(runner.plan(images)) == 1
        assert_equal(tiled, whole, 0)
        if same:
            assert_equal(whole, core_whole(runner, images), 0)
            assert_equal(tiled, core_blockwise(runner, images, tile), 0)
            return
        shifted = core_blockwise(runner, images, tile)["prediction"]
        off = np.asarray(shifted).ravel() != np.asarray(whole["prediction"]).ravel()
        assert off.mean() > 0.1


# ------------------------------------------------------------------------------------ processing

PREPROCESSING: dict[str, dict[str, Any]] = {
    "binarize": {"id": "binarize", "kwargs": {"threshold": 100}},
    "clip": {"id": "clip", "kwargs": {"min": 20, "max": 120}},
    "clip percentile": {
        "id": "clip",
        "kwargs": {"min_percentile": 5, "max_percentile": 90, "axes": ["channel", "y", "x"]},
    },
    "ensure_dtype": {"id": "ensure_dtype", "kwargs": {"dtype": "uint8"}},
    "fixed": {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 90.0, "std": 30.0}},
    "fixed channel": {
        "id": "fixed_zero_mean_unit_variance",
        "kwargs": {"mean": [90.0, 70.0], "std": [30.0, 20.0], "axis": "channel"},
    },
    "linear": {"id": "scale_linear", "kwargs": {"gain": 0.01, "offset": -1.0}},
    "linear channel": {
        "id": "scale_linear",
        "kwargs": {"gain": [0.01, 0.02], "offset": [1.0, 2.0], "axis": "channel"},
    },
    "range": {"id": "scale_range", "kwargs": {"axes": ["channel", "y", "x"]}},
    "range percentile": {
        "id": "scale_range",
        "kwargs": {"min_percentile": 1, "max_percentile": 99.8, "axes": ["y", "x"]},
    },
    "sigmoid": {"id": "sigmoid"},
    "softmax": {"id": "softmax", "kwargs": {"axis": "channel"}},
    "zero mean": {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["channel", "y", "x"]}},
    "zero mean per channel": {"id": "zero_mean_unit_variance", "kwargs": {"axes": ["y", "x"]}},
}


@pytest.mark.parametrize("step", list(PREPROCESSING))
def test_preprocessing(tmp_path: Path, step: str) -> None:
    folder = make_package(tmp_path / "p", channels=2, size=16, halo=2)
    rdf = read_rdf(folder)
    rdf["inputs"][0]["preprocessing"] = [PREPROCESSING[step], ENSURE_FLOAT]
    change_rdf(folder, inputs=rdf["inputs"])
    check(folder, {"raw": image("bcyx", c=2)})


REFERENCE = {"reference_tensor": "raw"}
POSTPROCESSING: dict[str, dict[str, Any]] = {
    name: step
    for name, step in PREPROCESSING.items()
    if not name.startswith(("zero mean", "range", "clip p"))
} | {
    "scale_mean_variance": {
        "id": "scale_mean_variance",
        "kwargs": {"axes": ["channel", "y", "x"], **REFERENCE},
    },
    "range of reference": {
        "id": "scale_range",
        "kwargs": {"axes": ["channel", "y", "x"], **REFERENCE},
    },
}


# core makes room for an integer result by filling it with NaN
@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize("step", [s for s in POSTPROCESSING if s != "scale_mean_variance"])
def test_postprocessing(tmp_path: Path, step: str) -> None:
    """Core cannot compute statistics of outputs; those steps are in test_pipeline."""
    folder = make_package(tmp_path / "p", channels=2, out_channels=2, size=16, halo=2)
    rdf = read_rdf(folder)
    rdf["outputs"][0]["postprocessing"] = [POSTPROCESSING[step]]
    change_rdf(folder, outputs=rdf["outputs"])
    check(folder, {"raw": image("bcyx", c=2)})


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float64"])
def test_dtypes_of_images(tmp_path: Path, dtype: str) -> None:
    zero_mean = PREPROCESSING["zero mean"]
    folder = make_package(
        tmp_path / "p", size=16, halo=2, dtype=dtype, preprocessing=[zero_mean, ENSURE_FLOAT]
    )
    check(folder, {"raw": image("bcyx").astype(dtype)})


# ---------------------------------------------------------------------------------- shared models


@pytest.mark.shared
def test_nuclei_broad_on_its_own_test_image(shared: Path) -> None:
    """A fixed size with a halo: core's whole-image run fails, ours equals its blockwise run."""
    folder = shared / "models" / "nuclei-broad"
    raw = xr.DataArray(np.load(folder / "test_input.npy"), dims=["batch", "channel", "y", "x"])
    with load(biozoo.open(folder), device="cpu") as runner:
        ours = dict(runner({"raw": raw}))
        assert_equal(ours, core_blockwise(runner, {"raw": raw}, None), 1e-4)


@pytest.mark.shared
def test_brain_meshnet(shared: Path) -> None:
    folder = shared / "models" / "brain-meshnet3d"
    raw = np.load(folder / "test_input.npy")
    images = {"t1": xr.DataArray(raw, dims=["batch", "channel", "z", "y", "x"])}
    with load(biozoo.open(folder), device="cpu") as runner:
        ours = runner(images)
        assert_equal(dict(ours), core_whole(runner, images), 1e-3)
        expected = np.load(folder / "test_output.npy")[0]
        off = np.abs(ours["tissue"].values - expected) > 1e-3 + 1e-3 * np.abs(expected)
        assert off.mean() * 1e6 <= 100
