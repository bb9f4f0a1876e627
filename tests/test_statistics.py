"""Statistics equal numpy's, for every dtype, axes and way of computing them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biozoo.errors import UsageError
from biozoo_runners import statistics
from biozoo_runners.statistics import Measure, Stats, collect, measure_tensor

AXES = ("channel", "y", "x")
DTYPES = [
    "bool",
    "uint8",
    "int8",
    "uint16",
    "int16",
    "uint32",
    "int32",
    "float16",
    "float32",
    "float64",
]

Array = np.ndarray[Any, Any]


@st.composite
def tensors(draw: st.DrawFn) -> Array:
    dtype = np.dtype(draw(st.sampled_from(DTYPES)))
    shape = draw(hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))
    if dtype.kind == "f":
        elements = st.floats(-1000, 1000, width=16)
        return draw(hnp.arrays(dtype, shape, elements=elements))
    return draw(hnp.arrays(dtype, shape))


kept = st.sampled_from([None, ("y", "x"), ("channel", "y", "x"), ("x",), ("batch", "y")])
quantiles = st.one_of(st.sampled_from([0.0, 1.0, 0.01, 0.5, 0.998]), st.floats(0, 1))
methods = st.sampled_from(["linear", "inverted_cdf"])


def numpy_says(array: Array, measure: Measure) -> Array:
    """The same by numpy, in float64 (its linear method overflows in small integer types)."""
    axes = tuple(i for i, a in enumerate(AXES) if measure.axes is None or a in measure.axes)
    data = array.astype(np.float64)
    if measure.kind == "quantile":
        return np.asarray(
            np.quantile(data, np.float64(measure.q), axis=axes, method=measure.method)
        )
    return np.asarray(data.mean(axis=axes) if measure.kind == "mean" else data.std(axis=axes))


@pytest.fixture(
    autouse=True, params=["as it is", "always histogram", "many groups", "small pieces"]
)
def way(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each test runs through every way that a size of tensor would choose."""
    change = {
        "as it is": {},
        "always histogram": {"_FEW": 0},
        "many groups": {"_MANY_GROUPS": 0},
        "small pieces": {"_PIECE": 5, "_FEW": 0},
    }[request.param]
    with pytest.MonkeyPatch.context() as patch:
        for name, value in change.items():
            patch.setattr(statistics, name, value)
        yield


@settings(max_examples=20, deadline=None)
@given(tensors(), kept, quantiles, methods)
def test_equal_numpy(array: Array, axes: tuple[str, ...] | None, q: float, method: Any) -> None:
    """Quantiles to the last digit, mean and deviation to rounding."""
    mean, std = Measure("t", 0, "mean", axes), Measure("t", 0, "std", axes)
    quantile = Measure("t", 0, "quantile", axes, q, method)
    found = measure_tensor(array, AXES, [mean, std, quantile])
    for measure in (mean, std, quantile):
        expected = numpy_says(array, measure)
        got = found[measure]
        assert got.values.dtype == np.float64
        assert got.values.shape == expected.shape
        assert got.axes == (() if axes is None else tuple(a for a in AXES if a not in axes))
        if measure.kind == "quantile" and method == "inverted_cdf":
            np.testing.assert_array_equal(got.values, expected)
        else:
            scale = float(np.abs(array.astype(np.float64)).max())
            np.testing.assert_allclose(got.values, expected, rtol=1e-12, atol=1e-12 * scale)


@settings(max_examples=15, deadline=None)
@given(hnp.arrays("uint16", (2, 5, 7)), st.lists(quantiles, min_size=1, max_size=4))
def test_integer_quantiles_are_exactly_numpys(array: Array, qs: list[float]) -> None:
    """The histogram's linear interpolation is bit for bit that of numpy.quantile."""
    measures = [Measure("t", 0, "quantile", ("y", "x"), q) for q in qs]
    found = measure_tensor(array, AXES, measures)
    for measure in measures:
        expected = np.quantile(array, np.float64(measure.q), axis=(1, 2))
        np.testing.assert_array_equal(found[measure].values, expected)


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_any_memory_order(dtype: str, transpose: tuple[int, ...]) -> None:
    """Slices and transposed views are read in place."""
    rng = np.random.default_rng(0)
    base = rng.integers(-100 if dtype[0] != "u" else 0, 200, (8, 13, 11)).astype(dtype)
    array = base[:, ::2, 1:].transpose(transpose)
    measures = [Measure("t", 0, k, ("y", "x"), 0.3) for k in ("mean", "std", "quantile")]
    found = measure_tensor(array, AXES, measures)
    for measure in measures:
        np.testing.assert_allclose(found[measure].values, numpy_says(array, measure), rtol=1e-12)


def test_one_nan_makes_its_statistics_nan() -> None:
    """Of its own channel only."""
    array = np.zeros((2, 4, 4), np.float32)
    array[1, 2, 3] = np.nan
    measures = [Measure("t", 0, k, ("y", "x"), 0.5) for k in ("mean", "std", "quantile")]
    for found in measure_tensor(array, AXES, measures).values():
        assert found.values[0] == 0
        assert np.isnan(found.values[1])


def test_collect_takes_unprocessed_tensors_only() -> None:
    """Measures of other tensors or later steps are left out; asking for one then says so."""
    mine = Measure("raw", 0, "mean", None)
    others = [Measure("raw", 1, "mean", None), Measure("out", 0, "mean", None)]
    stats = collect({"raw": xr.DataArray(np.arange(6.0).reshape(2, 3))}, [mine, *others])
    assert list(stats.values) == [mine]
    assert stats[mine].values == 2.5
    with pytest.raises(UsageError, match="mean of out is needed"):
        stats[others[1]]
    assert str(stats | Stats()) == "mean of raw: 2.5"


def test_empty_tensor_is_told() -> None:
    with pytest.raises(UsageError, match=r"shape \(1, 0, 4\) is empty"):
        measure_tensor(np.zeros((1, 0, 4)), AXES, [Measure("t", 0, "mean", None)])
