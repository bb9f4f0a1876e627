"""What is found of an image read in pieces is what is found of it in memory."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from biozoo.errors import Cancelled, ImageMismatchError, UsageError
from biozoo_runners import statistics
from biozoo_runners.images import open_image
from biozoo_runners.images.base import Image
from biozoo_runners.out_of_core.facts import ItemFacts, measure_item
from biozoo_runners.out_of_core.reading import piece_regions, read_tile
from biozoo_runners.prepare import FittedInput, Fitting, fit, replace_not_finite
from biozoo_runners.processing import Chain, Processing
from biozoo_runners.run import is_flat, measure_whole
from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ModelGeometry,
    Padding,
    ParameterizedSize,
    TensorGeometry,
)
from biozoo_runners.statistics import Measure, Stats
from biozoo_runners.steps import Block, Step
from biozoo_runners.tiling import InputBlock, cut

Array = np.ndarray[Any, Any]
Kind = Literal["mean", "std", "quantile"]

INTEGERS = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]
FLOATS = ["float16", "float32", "float64"]
DIMS = ("batch", "channel", "z", "y", "x")
RGB = ("red", "green", "blue")


@dataclass(frozen=True)
class Needs(Step):
    """A step that looks statistics up and does nothing."""

    what: tuple[Measure, ...]

    @property
    def measures(self) -> tuple[Measure, ...]:
        return self.what

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        return x


def needs(*measures: Measure, of: str = "raw") -> Processing:
    return Processing({of: Chain(of, DIMS, (Needs(measures),))})


NOTHING = Processing({})
MEAN, STD = Measure("raw", 0, "mean", None), Measure("raw", 0, "std", None)
MEDIAN = Measure("raw", 0, "quantile", None, 0.5)
PER_CHANNEL = Measure("raw", 0, "quantile", ("y", "x"), 0.98)


def tensor(dims: Sequence[str] = DIMS, channels: int = 1, id: str = "raw") -> TensorGeometry:
    def axis(name: str) -> AxisGeometry:
        if name == "batch":
            return AxisGeometry(name, "batch", FixedSize(1))
        if name == "channel":
            names = tuple(f"c{i}" for i in range(channels))
            return AxisGeometry(name, "channel", FixedSize(channels), channels=names)
        return AxisGeometry(name, "space", ParameterizedSize(1, 1))

    return TensorGeometry(id, tuple(map(axis, dims)))


def fitting_of(
    image: Image, dims: Sequence[str] = DIMS, channel: Any = None, channels: int = 1
) -> Fitting:
    return fit(ModelGeometry((tensor(dims, channels),), ()), image, channel)


class Counted:
    """An image over an array that counts how often each pixel is read, and how much at once."""

    def __init__(self, array: Array, axes: str, chunks: tuple[int, ...] | None = None) -> None:
        whole = Image.from_array(array, axes)
        self.array, self.times = array, np.zeros(array.shape, int)
        self.most = 0
        self.image = replace(whole, reader=self._read, chunks=chunks)

    def _read(self, index: Any) -> Array:
        self.times[index] += 1
        pixels = np.array(self.array[index])
        self.most = max(self.most, pixels.nbytes)
        return pixels


# ------------------------------------------------------------------------- equal to a run in memory


@st.composite
def arrays(draw: st.DrawFn) -> Array:
    """A channel, z, y, x array of any type, some of its floats not finite."""
    dtype = np.dtype(draw(st.sampled_from(INTEGERS + FLOATS)))
    shape = draw(st.tuples(*(st.integers(1, n) for n in (3, 4, 7, 9))))
    if dtype.kind != "f":
        return draw(hnp.arrays(dtype, shape))
    array = draw(hnp.arrays(dtype, shape, elements=st.floats(-1000, 1000, width=16)))
    bad = st.sampled_from([np.nan, np.inf, -np.inf])
    for i, value in draw(st.dictionaries(st.integers(0, array.size - 1), bad)).items():
        array.flat[i] = value
    return array


KEPT = [None, ("y", "x"), ("batch", "z", "y", "x"), ("channel", "x"), DIMS]
measure = st.builds(
    Measure,
    tensor=st.just("raw"),
    step=st.just(0),
    kind=st.sampled_from(["mean", "std", "quantile"]),
    axes=st.sampled_from(KEPT),
    q=st.one_of(st.sampled_from([0.0, 0.01, 0.5, 0.998, 1.0]), st.floats(0, 1)),
    method=st.sampled_from(["linear", "inverted_cdf"]),
)


@settings(max_examples=60, deadline=None)
@given(
    array=arrays(),
    measures=st.lists(measure, max_size=4),
    piece=st.integers(1, 400),
    chunks=st.none() | st.tuples(*(st.integers(1, 4) for _ in range(4))),
    part=st.integers(30, 400),
)
def test_the_same_as_in_memory(
    array: Array, measures: list[Measure], piece: int, chunks: Any, part: int
) -> None:
    """Quantiles, and all of 8 and 16 bits, to the last bit; others to rounding."""
    image = replace(Image.from_array(array, "czyx"), chunks=chunks)
    fitting = fitting_of(image, channels=array.shape[0])
    before = needs(*measures)
    pixels = fitting.inputs[0].read({})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_FEW", 0)  # else few of 16 bits are measured in another way
        patch.setattr(statistics, "_PIECE", part)
        try:
            fixed, count = replace_not_finite(pixels)
        except ImageMismatchError:
            with pytest.raises(ImageMismatchError, match="no finite pixel"):
                measure_item(fitting, {}, before, NOTHING, piece_bytes=piece)
            return
        facts = measure_item(fitting, {}, before, NOTHING, piece_bytes=piece)
        assert facts.count == count
        if count:
            found = facts.replaced["raw"].apply(pixels)
            np.testing.assert_allclose(found, fixed, rtol=2 * np.finfo(array.dtype).eps)
            fixed = found  # a mean that is rounded in another way
        else:
            assert facts.replaced == {}
        assert facts.flat == (("raw",) if is_flat(fixed) else ())
        expected = measure_whole(fitting, {"raw": fixed}, before, NOTHING)
    assert facts.stats.values.keys() == expected.values.keys()
    scale = float(np.abs(fixed.astype(float)).max())
    for m, wanted in expected.values.items():
        got = facts.stats[m]
        assert got.axes == wanted.axes
        assert got.values.shape == wanted.values.shape
        if m.kind == "quantile" or array.dtype.itemsize * (array.dtype.kind != "f") in (1, 2):
            np.testing.assert_array_equal(got.values, wanted.values, err_msg=str(m))
        else:
            np.testing.assert_allclose(got.values, wanted.values, 1e-12, 1e-12 * scale)


@pytest.mark.parametrize("dtype", INTEGERS + FLOATS)
def test_quantiles_of_every_type_are_exact(dtype: str) -> None:
    """With values of the whole range of the type, and pixels that are not finite."""
    rng = np.random.default_rng(0)
    array = rng.integers(0, 256, 2000 * np.dtype(dtype).itemsize, "uint8").view(dtype)
    array = array.reshape(2, 40, 25)
    qs = (0.0, 0.001, 0.3, 0.7, 0.999, 1.0)
    measures = [
        Measure("raw", 0, "quantile", kept, q, "inverted_cdf") for q in qs for kept in KEPT[:2]
    ]
    fitting = fitting_of(Image.from_array(array, "cyx"), ("channel", "y", "x"), channels=2)
    if array.dtype.kind == "f":
        array[0, :2], array[1, 3] = np.nan, np.inf
    facts = measure_item(fitting, {}, needs(*measures), NOTHING, piece_bytes=700)
    assert (facts.count > 0) == (array.dtype.kind == "f")
    fixed = facts.replaced["raw"].apply(array) if facts.replaced else array
    for m in measures:
        expected = np.quantile(
            fixed, m.q, axis=None if m.axes is None else (1, 2), method="inverted_cdf"
        )
        np.testing.assert_array_equal(facts.stats[m].values, expected.astype(float))


def test_an_image_without_a_finite_pixel_is_told() -> None:
    array = np.full((9, 9), np.nan, "float32")
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    for piece in (40, 1000):
        with pytest.raises(ImageMismatchError, match="no finite pixel"):
            measure_item(fitting, {}, needs(MEDIAN), NOTHING, piece_bytes=piece)


def test_an_image_that_fits_into_one_piece_is_measured_as_in_memory() -> None:
    """Of real numbers to the last bit too, which no order of pieces could promise."""
    array = np.random.default_rng(0).normal(1000, 1, (40, 50)).astype("float32")
    array[3, 4] = np.nan
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    facts = measure_item(fitting, {}, needs(MEAN, STD), NOTHING, piece_bytes=array.nbytes)
    fixed, _ = replace_not_finite(array)
    wanted = measure_whole(fitting, {"raw": fixed}, needs(MEAN, STD), NOTHING)
    for m in (MEAN, STD):
        assert facts.stats[m].values == wanted[m].values


def test_a_bright_image_of_low_contrast_keeps_its_deviation() -> None:
    """Where the mean is 1e9 times the deviation, a sum of squares would have lost it."""
    array = 1e6 + np.random.default_rng(0).normal(0, 1e-3, (300, 50))
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    facts = measure_item(fitting, {}, needs(MEAN, STD), NOTHING, piece_bytes=1000)
    assert facts.stats[STD].values == pytest.approx(float(array.std()), rel=1e-9)
    assert facts.stats[MEAN].values == pytest.approx(float(array.mean()), rel=1e-14)


def test_pixels_that_are_not_finite_count_as_what_stands_in_for_them() -> None:
    """A channel without any finite pixel takes its values from the others."""
    array = np.array([[[1, 2, 3, 6]], [[np.nan, np.inf, -np.inf, np.nan]]], "float32")
    fitting = fitting_of(Image.from_array(array, "cyx"), ("channel", "y", "x"), channels=2)
    mean = Measure("raw", 0, "mean", ("y", "x"))
    top = Measure("raw", 0, "quantile", ("y", "x"), 1.0)
    facts = measure_item(fitting, {}, needs(mean, top), NOTHING, piece_bytes=4)
    replaced = facts.replaced["raw"]
    assert (replaced.mean, replaced.low, replaced.high, replaced.count) == (3, 1, 6, 4)
    np.testing.assert_array_equal(facts.stats[mean].values, [3, (3 + 6 + 1 + 3) / 4])
    np.testing.assert_array_equal(facts.stats[top].values, [6, 6])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_holes_keep_their_place_among_values_that_hardly_differ(dtype: str) -> None:
    """In every reading: all pixels begin with the same bits."""
    array = np.random.default_rng(0).uniform(1000, 1003, (30, 40)).astype(dtype)
    array[::3, ::2] = np.nan
    quantiles = [Measure("raw", 0, "quantile", None, q) for q in (0.1, 0.45, 0.5, 0.6, 0.9)]
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    facts = measure_item(fitting, {}, needs(*quantiles), NOTHING, piece_bytes=400)
    fixed = facts.replaced["raw"].apply(array).astype(float)
    for m in quantiles:
        assert facts.stats[m].values == pytest.approx(np.quantile(fixed, m.q), rel=1e-15)


@pytest.mark.parametrize("piece", [8, 1000])
def test_an_image_of_one_value_with_a_hole_is_flat(piece: int) -> None:
    """Its mean is that value, however the sum is rounded."""
    array = np.full((3, 1), 0.1)  # their sum is not three times 0.1
    array = np.concatenate([array, [[np.nan]]])
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    facts = measure_item(fitting, {}, needs(MEAN, STD), NOTHING, piece_bytes=piece)
    assert facts.flat == ("raw",)
    assert facts.replaced["raw"].apply(array).tolist() == [[0.1]] * 4


@pytest.mark.parametrize("piece", [16, 1000])
def test_huge_pixels_leave_no_hole(piece: int) -> None:
    """Their sum overflows; what stands in for NaN is a number all the same."""
    array = np.array([[1e308, 1e308], [1e308, 1e308], [-1e308, -1e308], [-1e308, np.nan]])
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    facts = measure_item(fitting, {}, NOTHING, NOTHING, piece_bytes=piece)
    assert np.isfinite(facts.replaced["raw"].apply(array)).all()


def test_each_item_has_its_own_facts() -> None:
    """Planes of a stack, for a model of planes: one is flat, one has a hole."""
    array = np.random.default_rng(0).normal(size=(3, 5, 6)).astype("float32")
    array[1] = 7
    array[2, 0, 0] = np.inf
    fitting = fitting_of(Image.from_array(array, "zyx"), ("channel", "y", "x"))
    found = [
        measure_item(fitting, at, needs(MEDIAN), NOTHING, piece_bytes=24) for at in fitting.items()
    ]
    assert [f.flat for f in found] == [(), ("raw",), ()]
    assert [f.count for f in found] == [0, 0, 1]
    assert found[0].stats[MEDIAN].values == np.median(array[0].astype(float))


def test_statistics_of_a_reference_are_of_the_input() -> None:
    """A postprocessing that refers to an input has its statistics; those of outputs wait."""
    array = np.arange(30, dtype="uint8").reshape(5, 6)
    fitting = fitting_of(Image.from_array(array, "yx"), ("y", "x"))
    own = Measure("out", 0, "mean", None)
    facts = measure_item(fitting, {}, NOTHING, needs(MEAN, own, of="out"), piece_bytes=6)
    assert list(facts.stats.values) == [MEAN]
    assert facts.stats[MEAN].values == 14.5


# ------------------------------------------------------------------------------- what is read


@pytest.mark.parametrize("axes", ["czyx", "zyxc", "zcyx"])
@pytest.mark.parametrize("chunks", [None, 3])
@pytest.mark.parametrize(
    ("dtype", "measures", "times"),
    [
        ("uint8", [MEAN, STD, PER_CHANNEL], 1),
        ("uint16", [MEAN, STD, PER_CHANNEL], 1),
        ("float32", [MEAN, STD], 1),
        ("float32", [], 1),
        ("float16", [MEDIAN, PER_CHANNEL], 1),
        ("float32", [MEAN, MEDIAN, PER_CHANNEL], 2),
        ("int32", [MEDIAN], 2),
        ("float64", [MEDIAN], 4),
    ],
)
def test_each_pixel_is_read_once_per_reading(
    axes: str, chunks: int | None, dtype: str, measures: list[Measure], times: int
) -> None:
    """And no more than a piece at once."""
    sizes = {"c": 2, "z": 7, "y": 20, "x": 30}
    array = np.random.default_rng(0).normal(100, 10, [sizes[a] for a in axes]).astype(dtype)
    one = tuple(1 if a in "cz" else chunks or 0 for a in axes)
    counted = Counted(array, axes, one if chunks else None)
    fitting = fitting_of(counted.image, channels=2)
    piece = 2000
    measure_item(fitting, {}, needs(*measures), NOTHING, piece_bytes=piece)
    assert counted.times.min() == counted.times.max() == times
    assert piece / 4 < counted.most <= piece


def test_integers_of_which_nothing_is_wanted_are_read_until_two_differ() -> None:
    array = np.zeros((50, 20), "uint16")
    array[7, 3] = 1
    counted = Counted(array, "yx")
    fitting = fitting_of(counted.image, ("y", "x"))
    assert measure_item(fitting, {}, NOTHING, NOTHING, piece_bytes=40).flat == ()
    assert counted.times.sum() == 8 * 20
    array[7, 3] = 0
    assert measure_item(fitting, {}, NOTHING, NOTHING, piece_bytes=40).flat == ("raw",)


@pytest.mark.parametrize("sharded", [False, True])
def test_no_chunk_of_a_zarr_is_decoded_twice(
    sharded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pieces end where chunks end, also within shards."""
    array = np.random.default_rng(0).integers(0, 999, (2, 50, 70)).astype("uint16")
    root = zarr.open_group(tmp_path / "a.ome.zarr", mode="w")
    names = [{"name": "c", "type": "channel"}, *({"name": a, "type": "space"} for a in "yx")]
    root.attrs["ome"] = {"version": "0.5", "multiscales": [
        {"axes": names, "datasets": [{"path": "0"}]}
    ]}  # fmt: skip
    stored = root.create_array(
        "0", shape=array.shape, dtype=array.dtype, chunks=(1, 8, 16),
        shards=(2, 16, 32) if sharded else None,
    )  # fmt: skip
    stored[:] = array
    image = open_image(tmp_path / "a.ome.zarr")
    assert image.chunks == (1, 8, 16)
    decoded: list[int] = []
    from zarr.codecs import ZstdCodec

    decode = ZstdCodec._decode_single

    async def counting(self: Any, data: Any, spec: Any) -> Any:
        decoded.append(1)
        return await decode(self, data, spec)

    monkeypatch.setattr(ZstdCodec, "_decode_single", counting)
    fitting = fitting_of(image, ("channel", "y", "x"), channels=2)
    facts = measure_item(fitting, {}, needs(MEAN), NOTHING, piece_bytes=3000)
    assert facts.stats[MEAN].values == array.astype(float).mean()
    assert len(decoded) == 2 * math.ceil(50 / 8) * math.ceil(70 / 16)


@pytest.mark.parametrize(
    ("options", "chunks"),
    [
        ({}, None),
        ({"compression": "zlib", "tile": (16, 32)}, (1, 16, 32)),
        ({"compression": "zlib", "rowsperstrip": 5}, (1, 5, 70)),
        ({"compression": "zlib", "rowsperstrip": 50}, (1, 50, 70)),
    ],
)
def test_chunks_of_a_tiff_are_its_tiles_or_strips(
    options: dict[str, Any], chunks: Any, tmp_path: Path
) -> None:
    array = np.random.default_rng(0).integers(0, 999, (3, 50, 70)).astype("uint16")
    tifffile.imwrite(tmp_path / "a.tif", array, metadata={"axes": "ZYX"}, ome=True, **options)
    image = open_image(tmp_path / "a.tif")
    assert image.chunks == chunks
    fitted = fitting_of(image, ("z", "y", "x")).inputs[0]
    lengths = chunks or (1, 1, 70)
    for piece in (1, 2000, 9000, 10**6):
        for region in piece_regions(fitted, piece):
            assert all(s.start % n == 0 for s, n in zip(region, lengths, strict=True))
            np.testing.assert_array_equal(fitted.read({}, region), array[region])


@pytest.mark.parametrize(("planar", "chunks"), [("contig", (16, 16, 3)), ("separate", (1, 16, 16))])
def test_chunks_of_a_colour_tiff(planar: str, chunks: Any, tmp_path: Path) -> None:
    """Colours are stored together in a tile, or apart."""
    shape = (40, 50, 4) if planar == "contig" else (4, 40, 50)
    array = np.zeros(shape, "uint8")
    tifffile.imwrite(
        tmp_path / "a.tif", array, photometric="rgb", planarconfig=planar, metadata=None,
        extrasamples=["unassalpha"], tile=(16, 16), compression="zlib",
    )  # fmt: skip
    assert open_image(tmp_path / "a.tif").chunks == chunks


def test_channels_that_share_a_chunk_are_read_together() -> None:
    """Also where the first one taken is not the first of its chunk."""
    image = Image.from_array(np.zeros((20, 30, 4), "uint8"), "yxc")
    dims = ("channel", "y", "x")
    fitting = fitting_of(replace(image, chunks=(5, 6, 2)), dims, "1,2,3", channels=3)
    regions = list(piece_regions(fitting.inputs[0], 60))
    assert len(regions) == 4 * 5
    assert {channels.stop - channels.start for channels, _, _ in regions} == {3}


# ---------------------------------------------------------------------------- regions and tiles


def inputs() -> dict[str, tuple[FittedInput, dict[str, int]]]:
    """Every way in which an image is put into the terms of a tensor, at one item."""
    rng = np.random.default_rng(0)
    colors = xr.DataArray(
        rng.integers(0, 255, (8, 9, 3)).astype("uint8"),
        dims=("y", "x", "channel"),
        coords={"channel": list(RGB)},
    )
    stack = Image.from_array(rng.normal(size=(2, 4, 3, 8, 9)).astype("float32"), "tczyx")
    byxc = ("batch", "y", "x", "channel")
    return {
        "gray": (fitting_of(Image.from_array(colors), byxc, "gray").inputs[0], {}),
        "one channel": (fitting_of(Image.from_array(colors), ("x", "y"), "green").inputs[0], {}),
        "channels turned": (fitting_of(stack, DIMS, "3,0", channels=2).inputs[0], {"time": 1}),
        "looped": (fitting_of(stack, ("y", "x"), 2).inputs[0], {"time": 1, "z": 2}),
        "no channel": (fitting_of(Image.from_array(colors[..., 0]), byxc).inputs[0], {}),
    }


@settings(max_examples=60, deadline=None)
@given(which=st.sampled_from(sorted(inputs())), data=st.data())
def test_a_region_is_that_part_of_the_whole(which: str, data: st.DataObject) -> None:
    """And nothing else is read."""
    fitted, at = inputs()[which]
    whole = fitted.read(at)
    region = []
    for n in whole.shape:
        start = data.draw(st.integers(0, n - 1))
        region.append(slice(start, data.draw(st.integers(start + 1, n))))
    asked: list[int] = []

    def reader(index: Any) -> Any:
        pixels = fitted.image.reader(index)
        asked.append(pixels.size)
        return pixels

    part = replace(fitted, image=replace(fitted.image, reader=reader)).read(at, region)
    assert part.dtype == whole.dtype
    np.testing.assert_array_equal(part, whole[tuple(region)])
    between = {"gray": 3, "channels turned": 4}.get(which, 1)  # channels read for one that is taken
    assert len(asked) == 1
    assert asked[0] <= part.size * between


@settings(max_examples=60, deadline=None)
@given(mode=st.sampled_from(["constant", "edge", "reflect", "symmetric"]), data=st.data())
def test_a_tile_is_that_of_the_whole_image(mode: Any, data: st.DataObject) -> None:
    """Pixels that are not finite are replaced before it is padded."""
    array = data.draw(hnp.arrays("float32", (2, 6, 7), elements=st.floats(-9, 9, width=16)))
    array[0, 2, 3], array[1, 0, 0], array[0, 5, 6] = np.nan, np.inf, -np.inf
    counted = Counted(array, "cyx")
    fitted = fitting_of(counted.image, ("batch", "channel", "y", "x"), channels=2).inputs[0]
    fitted = replace(fitted, tensor=replace(fitted.tensor, pad=Padding(mode, 5.0)))
    facts = measure_item(Fitting((fitted,), {}), {}, NOTHING, NOTHING, piece_bytes=16)
    slices, pad = [slice(0, 1), slice(0, 2)], [(0, 0), (0, 0)]
    for n in array.shape[1:]:
        start = data.draw(st.integers(0, n - 1))
        slices.append(slice(start, data.draw(st.integers(start + 1, n))))
        pad.append((data.draw(st.integers(0, 4)), data.draw(st.integers(0, 4))))
    block = InputBlock(tuple(slices), tuple(pad))
    counted.times[:] = 0
    tile = read_tile(fitted, {}, block, facts)
    whole = facts.replaced["raw"].apply(array)[None]
    np.testing.assert_array_equal(tile, cut(whole, block, fitted.tensor.pad))
    assert np.isfinite(tile).all()
    assert counted.times.sum() == math.prod(s.stop - s.start for s in slices)


# ------------------------------------------------------------------------- kept, stopped, refused


@settings(max_examples=60, deadline=None)
@given(array=arrays(), measures=st.lists(measure, max_size=4))
def test_facts_are_kept_in_json_to_the_last_bit(array: Array, measures: list[Measure]) -> None:
    fitting = fitting_of(Image.from_array(array, "czyx"), channels=array.shape[0])
    if array.dtype.kind == "f" and not np.isfinite(array).any():
        array.flat[0] = 0.1
    facts = measure_item(fitting, {}, needs(*measures), NOTHING)
    again = ItemFacts.from_dict(json.loads(json.dumps(facts.to_dict())))
    assert again.replaced == facts.replaced
    assert again.flat == facts.flat
    assert list(again.stats.values) == list(facts.stats.values)
    for m, statistic in facts.stats.values.items():
        assert again.stats[m].axes == statistic.axes
        assert again.stats[m].values.dtype == np.float64
        assert again.stats[m].values.shape == statistic.values.shape
        assert again.stats[m].values.tobytes() == statistic.values.tobytes()


def test_reading_can_be_stopped_between_pieces() -> None:
    counted = Counted(np.zeros((50, 20), "float32"), "yx")
    pieces: list[int] = []

    def stop() -> None:
        pieces.append(1)
        if len(pieces) == 3:
            raise Cancelled

    fitting = fitting_of(counted.image, ("y", "x"))
    with pytest.raises(Cancelled):
        measure_item(fitting, {}, needs(MEAN), NOTHING, piece_bytes=80, on_piece=stop)
    assert counted.times.sum() == 2 * 20


@pytest.mark.parametrize(
    ("dtype", "kind", "axes", "told"),
    [
        ("float32", "mean", ("channel",), "mean of raw .* each of 5600 positions along y, x"),
        ("uint8", "mean", ("channel",), "mean of raw .* each of 5600 positions along y, x"),
        ("uint16", "std", ("y",), "std of raw .* each of 700 positions along x"),
        ("float32", "quantile", ("y",), "percentile 30 of raw .* each of 700 positions along x"),
    ],
)
def test_too_many_values_are_named(dtype: str, kind: Kind, axes: Any, told: str) -> None:
    """Where counting the pixels of each would take the memory that is to be spared."""
    array = np.zeros((8, 700), dtype)
    fitting = fitting_of(Image.from_array(array, "yx"), ("channel", "y", "x"))
    asked = needs(Measure("raw", 0, kind, axes, 0.3))
    with pytest.raises(UsageError, match=told):
        measure_item(fitting, {}, asked, NOTHING, piece_bytes=100)
    assert measure_item(fitting, {}, asked, NOTHING).stats.values  # in one piece


def test_a_statistic_of_processed_pixels_is_named() -> None:
    fitting = fitting_of(Image.from_array(np.zeros((70, 80), "uint16"), "yx"), ("y", "x"))
    later = Measure("raw", 2, "std", None)
    with pytest.raises(UsageError, match="std of raw before step 3 cannot be found"):
        measure_item(fitting, {}, needs(later), NOTHING, piece_bytes=100)


def test_facts_of_nothing_are_empty() -> None:
    assert ItemFacts.from_dict(ItemFacts().to_dict()).stats.values == Stats().values
