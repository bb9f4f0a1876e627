"""Every pre- and postprocessing step against bioimageio.core, on blocks and on wholes."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import xarray as xr
from bioimageio.core.proc_setup import get_requried_measures, setup_pre_and_postprocessing
from bioimageio.core.sample import Sample
from bioimageio.core.stat_calculators import compute_measures
from bioimageio.core.tensor import Tensor
from bioimageio.spec.model import v0_5 as spec

from biozoo.errors import (
    ImageMismatchError,
    InvalidPackageError,
    UntrustedCodeError,
    UsageError,
)
from biozoo_runners.processing import Processing, postprocessing, preprocessing
from biozoo_runners.statistics import Stats

CHANNELS = 3
SIZES = {"batch": 1, "channel": CHANNELS, "z": 4, "y": 12, "x": 10}
DTYPES = ("uint8", "uint16", "int16", "float32")
ORDERS = (
    ("batch", "channel", "y", "x"),
    ("y", "x", "channel"),
    ("batch", "z", "y", "x", "channel"),
)


def axis(name: str, kind: str) -> Any:
    if name == "batch":
        return spec.BatchAxis()
    if name == "channel":
        return spec.ChannelAxis(channel_names=[spec.Identifier(f"c{i}") for i in range(CHANNELS)])
    if kind == "input":
        return spec.SpaceInputAxis(id=spec.AxisId(name), size=SIZES[name])
    return spec.SpaceOutputAxis(id=spec.AxisId(name), size=SIZES[name])


def tensor(
    kind: str,
    steps: list[dict[str, Any]],
    axes: tuple[str, ...],
    *,
    id: str = "",
    dtype: str = "float32",
) -> Any:
    """A tensor description; the specification adds ensure_dtype at its ends by itself."""
    content = {
        "id": spec.TensorId(id or {"input": "raw", "output": "out"}[kind]),
        "axes": [axis(a, kind) for a in axes],
        "data": spec.IntervalOrRatioDataDescr(type=cast(Any, dtype)),
        {"input": "preprocessing", "output": "postprocessing"}[kind]: steps,
        "test_tensor": None,
    }
    return (spec.InputTensorDescr if kind == "input" else spec.OutputTensorDescr)(**content)


def model(inputs: Sequence[Any] = (), outputs: Sequence[Any] = ()) -> Any:
    return SimpleNamespace(id="tiny", name="tiny", inputs=inputs, outputs=outputs)


def random(dtype: str, axes: tuple[str, ...], seed: int = 0) -> xr.DataArray:
    rng = np.random.default_rng(seed)
    shape = tuple(SIZES[a] for a in axes)
    data: np.ndarray[Any, Any]
    if dtype == "float32":
        data = rng.normal(3, 2, shape)
    else:
        info = np.iinfo(dtype)
        data = rng.integers(max(info.min, -3000), min(info.max, 60000), shape)
    return xr.DataArray(data.astype(dtype), dims=axes)


def core_pre(descr: Any, tensors: dict[str, xr.DataArray]) -> dict[str, np.ndarray[Any, Any]]:
    """What bioimageio.core makes of the inputs."""
    members = {spec.TensorId(i): Tensor.from_xarray(d.copy()) for i, d in tensors.items()}
    sample = Sample(members=members, stat={}, id=None)
    for step in setup_pre_and_postprocessing(model(descr.inputs), []).pre:
        step(sample)
    return {str(i): t.data.values for i, t in sample.members.items()}


def core_post(descr: Any, tensors: dict[str, xr.DataArray]) -> dict[str, np.ndarray[Any, Any]]:
    """What bioimageio.core's operators make of the outputs, given statistics of them.

    Its pipeline computes none of outputs, so they are computed with its calculators here.
    """
    members = {spec.TensorId(i): Tensor.from_xarray(d.copy()) for i, d in tensors.items()}
    sample = Sample(members=members, stat={}, id=None)
    measures = get_requried_measures(model([], descr.outputs)).post
    sample.stat.update(compute_measures(measures, [sample]))
    posts = setup_pre_and_postprocessing(
        model([], descr.outputs), [], fixed_dataset_stats=sample.stat
    ).post
    for step in posts:
        step(sample)
    return {str(i): t.data.values for i, t in sample.members.items()}


def run_whole(
    steps: Processing, tensors: dict[str, xr.DataArray], stats: Stats | None = None
) -> dict[str, np.ndarray[Any, Any]]:
    stats = steps.collect(tensors, stats)
    return {i: steps.apply_whole(i, tensors[i], stats).values for i in steps.chains}


def close(got: np.ndarray[Any, Any], expected: np.ndarray[Any, Any]) -> None:
    assert got.dtype == expected.dtype
    scale = max(1.0, float(np.abs(expected).max()))
    np.testing.assert_allclose(got, expected, rtol=3e-6, atol=2e-7 * scale + 2e-6)


def ensure(dtype: str) -> dict[str, Any]:
    return {"id": "ensure_dtype", "kwargs": {"dtype": dtype}}


def step(id: str, **kwargs: Any) -> dict[str, Any]:
    return {"id": id, "kwargs": kwargs} if kwargs else {"id": id}


PER_CHANNEL = [0.5, 2.0, 40.0]

#: Steps that core computes right for integers and floats alike.
STEPS = {
    "binarize": step("binarize", threshold=7.3),
    "clip": step("clip", min=2.5, max=90.25),
    "clip below": step("clip", min=3.0),
    "clip above": step("clip", max=4.0),
    "clip percentiles": step("clip", min_percentile=3, max_percentile=91.7, axes=["y", "x"]),
    "clip percentile of all": step("clip", min_percentile=10.0, max_percentile=99.0),
    "clip one percentile": step("clip", min=1.0, max_percentile=80.0, axes=["channel", "y", "x"]),
    "ensure_dtype": ensure("float64"),
    "scale_linear": step("scale_linear", gain=0.37, offset=-2.2),
    "scale_linear per channel": step(
        "scale_linear", axis="channel", gain=PER_CHANNEL, offset=[-1.0, 0.0, 3.0]
    ),
    "scale_linear one gain": step("scale_linear", axis="channel", gain=2.0, offset=PER_CHANNEL),
    "zero_mean": step("zero_mean_unit_variance", axes=["channel", "y", "x"]),
    "zero_mean per channel": step("zero_mean_unit_variance", axes=["y", "x"]),
    "zero_mean of all": step("zero_mean_unit_variance"),
    "fixed": step("fixed_zero_mean_unit_variance", mean=103.5, std=13.25),
    "fixed per channel": step(
        "fixed_zero_mean_unit_variance", mean=[10.0, 20.0, 30.5], std=PER_CHANNEL, axis="channel"
    ),
    "scale_range": step(
        "scale_range", min_percentile=1, max_percentile=99.8, axes=["channel", "y", "x"]
    ),
    "scale_range per channel": step(
        "scale_range", min_percentile=5, max_percentile=95, axes=["y", "x"]
    ),
    "scale_range of all": step("scale_range"),
}


@pytest.mark.filterwarnings("ignore:Computed dataset percentiles")
@pytest.mark.parametrize("axes", ORDERS, ids="".join)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", STEPS)
def test_step_equals_core(name: str, dtype: str, axes: tuple[str, ...]) -> None:
    """Each step gives what core gives, for integers and floats, in any order of axes."""
    entry = dict(STEPS[name])
    if axes != ORDERS[0] and "z" in axes and "axes" in entry.get("kwargs", {}):
        entry = step(entry["id"], **(entry["kwargs"] | {"axes": [*entry["kwargs"]["axes"], "z"]}))
    descr = model([tensor("input", [ensure(dtype), entry, ensure("float32")], axes)])
    data = random(dtype, axes)
    before = data.copy(deep=True)
    got = run_whole(preprocessing(descr), {"raw": data})["raw"]
    close(got, core_pre(descr, {"raw": data})["raw"])
    xr.testing.assert_identical(data, before)


@pytest.mark.parametrize("entry", [step("sigmoid"), step("softmax", axis="channel")])
@pytest.mark.parametrize("axes", ORDERS, ids="".join)
def test_activation_equals_core(entry: dict[str, Any], axes: tuple[str, ...]) -> None:
    """Sigmoid and softmax of floats give what core gives."""
    descr = model([], [tensor("output", [entry], axes)])
    data = random("float32", axes)
    close(
        run_whole(postprocessing(descr), {"out": data})["out"],
        core_post(descr, {"out": data})["out"],
    )


def test_sigmoid_of_extremes_stays_finite() -> None:
    """No overflow, no warning, and integers are not wrapped around as in core."""
    steps = postprocessing(model([], [tensor("output", [step("sigmoid")], ("y", "x"))]))
    x = np.array([[-1e4, 0, 1e4, 200]], np.float32)
    np.testing.assert_array_equal(steps.apply("out", x, ("y", "x"), Stats()), [[0, 0.5, 1, 1]])
    got = steps.apply("out", np.array([[0, 1]], np.uint8), ("y", "x"), Stats())
    np.testing.assert_allclose(got, [[0.5, 0.7310586]], rtol=1e-6)


def test_softmax_of_extremes_stays_finite() -> None:
    """Each pixel is shifted by its own largest value."""
    entry = step("softmax", axis="channel")
    steps = postprocessing(model([], [tensor("output", [entry], ("channel", "x"))]))
    x = np.array([[1e4, 0], [1e4, 0], [-1e4, 0]], np.float32)
    got = steps.apply("out", x, ("channel", "x"), Stats())
    np.testing.assert_allclose(got, [[0.5, 1 / 3], [0.5, 1 / 3], [0, 1 / 3]], rtol=1e-6)


def test_binarize_compares_in_the_tensors_own_precision() -> None:
    """A float32 pixel of 0.3 is not above a threshold of 0.3."""
    steps = preprocessing(model([tensor("input", [step("binarize", threshold=0.3)], ("x",))]))
    x = np.array([0.3, 0.30000004], np.float32)
    assert steps.apply("raw", x, ("x",), Stats()).tolist() == [False, True]


def test_statistics_are_taken_before_a_cast_that_changes_values() -> None:
    """Measured as given, then cut off to whole numbers, as core does it."""
    entries = [ensure("uint8"), step("zero_mean_unit_variance"), ensure("float32")]
    descr = model([tensor("input", entries, ("x",))])
    data = {"raw": xr.DataArray(np.array([0.9, 1.9, 3.9], np.float32), dims="x")}
    close(run_whole(preprocessing(descr), data)["raw"], core_pre(descr, data)["raw"])


@pytest.mark.parametrize("order", ORDERS[:2], ids="".join)
def test_binarize_along_axis(order: tuple[str, ...]) -> None:
    """One threshold per channel, wherever the channel axis is (core takes the last axis)."""
    entry = step("binarize", threshold=[2.0, 3.0, 4.0], axis="channel")
    data = random("float32", order)
    got = run_whole(preprocessing(model([tensor("input", [entry], order)])), {"raw": data})["raw"]
    expected = data > xr.DataArray([2.0, 3.0, 4.0], dims="channel")
    np.testing.assert_array_equal(got, expected.transpose(*order).values)
    assert got.dtype == bool


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize(
    "entry",
    [
        step("scale_mean_variance", reference_tensor="raw", axes=["channel", "y", "x"]),
        step("scale_range", reference_tensor="raw", min_percentile=2.0, axes=["y", "x"]),
        step("zero_mean_unit_variance", axes=["y", "x"]),
        step("clip", min_percentile=20.0, max_percentile=60.0, axes=["y", "x"]),
    ],
    ids=lambda e: e["id"],
)
def test_output_statistics_equal_core(entry: dict[str, Any], dtype: str) -> None:
    """Statistics of outputs and of reference inputs: those of the unprocessed input."""
    axes = ORDERS[0]
    descr = model(
        [tensor("input", [step("scale_linear", gain=5.0)], axes)], [tensor("output", [entry], axes)]
    )
    data = {"raw": random(dtype, axes), "out": random("float32", axes, seed=1)}
    post = postprocessing(descr)
    assert all(m.tensor == "raw" and m.step == 0 for m in post.reference_measures)
    references = post.collect({"raw": data["raw"]})
    got = run_whole(post, {"out": data["out"]}, references)["out"]
    close(got, core_post(descr, data)["out"])


def test_statistics_of_a_later_step_are_of_the_unprocessed_input() -> None:
    """Clipped to percentiles, then normalised by the mean of the raw values, as core does it."""
    axes = ORDERS[0]
    clip = step("clip", min_percentile=20.0, max_percentile=60.0, axes=["y", "x"])
    zero = step("zero_mean_unit_variance", axes=["y", "x"])
    descr = model([tensor("input", [clip, zero], axes)])
    data = {"raw": random("uint16", axes)}
    close(run_whole(preprocessing(descr), data)["raw"], core_pre(descr, data)["raw"])


def test_eps_of_the_description_counts() -> None:
    """`(x - mean) / (std + eps)` with the declared eps (core always takes 1e-6)."""
    axes = ("y", "x")
    zero = step("zero_mean_unit_variance", eps=0.1)
    data = random("float32", axes)
    got = run_whole(preprocessing(model([tensor("input", [zero], axes)])), {"raw": data})["raw"]
    close(got, ((data - data.mean()) / (data.std() + 0.1)).values.astype("float32"))


def test_bright_image_of_low_contrast_keeps_its_precision() -> None:
    """Around 60,000 with a deviation of 3: float32 alone would be wrong by 1e-3."""
    rng = np.random.default_rng(0)
    data = xr.DataArray(rng.normal(60000, 3, (64, 64)).astype("uint16"), dims=("y", "x"))
    steps = preprocessing(model([tensor("input", [step("zero_mean_unit_variance")], ("y", "x"))]))
    exact = (data - data.mean()) / (data.std() + 1e-6)
    np.testing.assert_allclose(run_whole(steps, {"raw": data})["raw"], exact, rtol=0, atol=1e-6)


def test_ends_with_the_described_dtype() -> None:
    """The specification's own ensure_dtype is in the chain, first and last."""
    steps = preprocessing(model([tensor("input", [step("sigmoid")], ("y", "x"))]))
    assert [type(s).__name__ for s in steps.chains["raw"].steps] == [
        "EnsureDtype",
        "Sigmoid",
        "EnsureDtype",
    ]
    post = postprocessing(model([], [tensor("output", [], ("y", "x"), dtype="uint8")]))
    got = post.apply("out", np.array([[1.9, 255.0]], np.float32), ("y", "x"), Stats())
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, [[1, 255]])


@pytest.mark.parametrize("name", STEPS)
def test_tiles_equal_the_whole(name: str) -> None:
    """Given the statistics of the whole, any block gives what the whole gives there."""
    axes = ("batch", "channel", "y", "x")
    descr = model([tensor("input", [STEPS[name], ensure("float32")], axes)])
    data = random("uint16", axes)
    steps = preprocessing(descr)
    stats = steps.collect({"raw": data})
    whole = steps.apply("raw", data.values, axes, stats)
    for y, x in ((slice(0, 5), slice(0, 4)), (slice(5, 12), slice(3, 10))):
        block = data.values[:, :, y, x]
        np.testing.assert_array_equal(steps.apply("raw", block, axes, stats), whole[:, :, y, x])
    assert steps.is_pointwise("raw")


def test_block_in_another_order_of_axes() -> None:
    """Statistics per channel find their axis in whatever order the block comes."""
    axes = ("batch", "channel", "y", "x")
    steps = preprocessing(model([tensor("input", [STEPS["scale_range per channel"]], axes)]))
    data = random("float32", axes)
    stats = steps.collect({"raw": data})
    whole = steps.apply_whole("raw", data, stats)
    turned = data.transpose("y", "x", "channel", "batch")
    got = steps.apply("raw", turned.values, ("y", "x", "channel", "batch"), stats)
    np.testing.assert_array_equal(got, whole.transpose(*turned.dims).values)


def test_statistics_per_plane_are_indexed_by_place() -> None:
    """A statistic per z plane needs to know which planes a tile has, padding included."""
    axes = ("z", "y", "x")
    descr = model([tensor("input", [step("zero_mean_unit_variance", axes=["y", "x"])], axes)])
    data = random("uint16", axes)
    steps = preprocessing(descr)
    stats = steps.collect({"raw": data})
    whole = steps.apply("raw", data.values, axes, stats)
    assert steps.indexed_axes("raw") == ("z",)
    got = steps.apply("raw", data.values[1:3], axes, stats, at={"z": slice(1, 3)})
    np.testing.assert_array_equal(got, whole[1:3])
    places = np.array([1, 0, 0, 1])
    got = steps.apply("raw", data.values[places], axes, stats, at={"z": places})
    np.testing.assert_array_equal(got, whole[places])
    with pytest.raises(ImageMismatchError, match="4 values along 'z', the tensor has 2"):
        steps.apply("raw", data.values[1:3], axes, stats)


def test_split_separates_what_needs_the_stitched_output() -> None:
    """Sigmoid per tile, then statistics of the stitched sigmoid."""
    axes = ORDERS[0]
    entries = [
        step("sigmoid"),
        step("scale_range", axes=["channel", "y", "x"]),
        step("clip", max=0.9),
    ]
    descr = model([], [tensor("output", entries, axes)])
    data = random("float32", axes)
    post = postprocessing(descr)
    head, tail = post.split()
    assert not head.uses_own_statistics("out")
    assert tail.uses_own_statistics("out")
    half = head.apply_whole("out", data, Stats())
    stats = tail.collect({"out": half})
    got = tail.apply_whole("out", half, stats).values
    np.testing.assert_array_equal(got, run_whole(post, {"out": data})["out"])
    assert got.min() == 0
    sigmoid_only = postprocessing(model([], [tensor("output", [step("sigmoid")], axes)]))
    assert sigmoid_only.split()[1].is_empty


def test_reference_input_of_an_input() -> None:
    """One input scaled by the percentiles of another, unprocessed."""
    axes = ORDERS[0]
    by_other = step("scale_range", reference_tensor="other", axes=["channel", "y", "x"])
    descr = model(
        [
            tensor("input", [by_other], axes),
            tensor("input", [step("scale_linear", gain=100.0)], axes, id="other"),
        ]
    )
    data = {"raw": random("uint8", axes), "other": random("uint16", axes, seed=2)}
    got = run_whole(preprocessing(descr), data)["raw"]
    low, high = data["other"].min(), data["other"].max()
    scaled = (data["raw"].astype(float) - low) / (high - low + 1e-6)
    close(got, scaled.values.astype("float32"))


def test_missing_optional_input_is_skipped() -> None:
    """Statistics are collected of what is there."""
    axes = ("y", "x")
    zero = step("zero_mean_unit_variance")
    descr = model([tensor("input", [zero], axes), tensor("input", [zero], axes, id="mask")])
    stats = preprocessing(descr).collect({"raw": random("uint8", axes)})
    assert {m.tensor for m in stats.values} == {"raw"}


def test_needed_statistics_that_were_not_collected_are_an_error() -> None:
    steps = preprocessing(model([tensor("input", [step("zero_mean_unit_variance")], ("y", "x"))]))
    with pytest.raises(UsageError, match="mean of raw is needed"):
        steps.apply("raw", np.zeros((2, 2), np.uint8), ("y", "x"), Stats())


def test_wrong_number_of_channels_is_told() -> None:
    steps = preprocessing(model([tensor("input", [STEPS["fixed per channel"]], ORDERS[0])]))
    with pytest.raises(ImageMismatchError, match="3 values along 'channel', the tensor has 2"):
        steps.apply("raw", np.zeros((1, 2, 4, 4), np.float32), ORDERS[0], Stats())


def test_unknown_axis_and_reference_are_faults_of_the_package() -> None:
    along = step("scale_linear", axis="time", gain=[1.0, 2.0])
    with pytest.raises(InvalidPackageError, match="'time' is no axis of the tensor"):
        preprocessing(model([tensor("input", [along], ("y", "x"))]))
    by = step("scale_range", reference_tensor="nowhere")
    with pytest.raises(InvalidPackageError, match="'nowhere' is no input"):
        preprocessing(model([tensor("input", [by], ("y", "x"))]))


def test_code_of_the_author_runs_in_a_loaded_model_only() -> None:
    kind: Any = spec.CustomProcessingDescr
    custom = kind.model_construct(id="custom", kwargs={}, callable="Invert", source="invert.py")
    out = SimpleNamespace(id="out", axes=[axis("y", "output")], postprocessing=[custom])
    steps = postprocessing(model([], [out]))
    with pytest.raises(UntrustedCodeError, match=r"Invert from invert\.py.*zoo trust") as e:
        steps.apply("out", np.zeros(2, np.float32), ("y",), Stats())
    assert e.value.exit_code == 3
