"""The tile plan: every output pixel is written once it should be, and from the right place."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biozoo.errors import ImageMismatchError, InvalidPackageError, UsageError
from biozoo_runners.contexts import bare_axes
from biozoo_runners.sizes import (
    SYMMETRIC,
    AxisGeometry,
    DataDependentSize,
    FixedSize,
    ModelGeometry,
    Padding,
    ParameterizedSize,
    Size,
    SizeReference,
    TensorGeometry,
)
from biozoo_runners.tiling import TilePlan, cut, plan_tiles

BATCH = AxisGeometry("batch", "batch", FixedSize(1))


def channels(n: int) -> AxisGeometry:
    return AxisGeometry("channel", "channel", FixedSize(n))


def space(axis: str, size: Size, **more: object) -> AxisGeometry:
    return AxisGeometry(axis, "space", size, **more)  # type: ignore[arg-type]


def model_1d(
    size: Size, *, halo: int = 0, offset: int = 0, scale: float = 1, pad: Padding = SYMMETRIC
) -> ModelGeometry:
    raw = TensorGeometry("raw", (BATCH, space("x", size)), pad)
    reference = SizeReference("raw", "x", offset)
    out = TensorGeometry("out", (BATCH, space("x", reference, halo=halo, scale=scale)))
    return ModelGeometry((raw,), (out,))


def run(plan: TilePlan, images: dict[str, np.ndarray], network) -> dict[str, np.ndarray]:
    """Execute a plan with a function of arrays; unwritten pixels stay NaN."""
    results = {t.id: np.full(t.shape, np.nan) for t in plan.outputs}
    pads = {t.id: t.pad for t in plan.inputs}
    for tile in plan:
        blocks = {t: cut(images[t], block, pads[t]) for t, block in tile.inputs.items()}
        for t in plan.inputs:
            assert blocks[t.id].shape == t.tile
        given_back = network(blocks)
        for t in plan.outputs:
            assert given_back[t.id].shape == t.tile
            results[t.id][tile.outputs[t.id].place] = given_back[t.id][tile.outputs[t.id].crop]
    return results


def valid_blur(x: np.ndarray, width: int) -> np.ndarray:
    windows = np.lib.stride_tricks.sliding_window_view(x, width, axis=-1)
    return windows.mean(axis=-1)


# ------------------------------------------------------------------------------- properties


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 200),
    least=st.integers(1, 24),
    step=st.integers(1, 12),
    halo=st.integers(0, 9),
    limit=st.integers(1, 64),
    mode=st.sampled_from(["symmetric", "reflect", "edge", "constant"]),
)
def test_identity_network_gives_back_the_image(
    size: int, least: int, step: int, halo: int, limit: int, mode: str
) -> None:
    model = model_1d(ParameterizedSize(least, step), halo=halo, pad=Padding(mode))  # type: ignore[arg-type]
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": size}}, max_tile_pixels=limit)
    (axis,) = plan.grid

    assert ParameterizedSize(least, step).allows(axis.tile)
    assert axis.inner == axis.tile - 2 * halo > 0
    assert axis.starts[0] == 0
    assert all(a < b for a, b in pairwise(axis.starts))

    image = np.arange(size, dtype=float)[None]
    result = run(plan, {"raw": image}, lambda tiles: {"out": tiles["raw"]})
    np.testing.assert_array_equal(result["out"], image)


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 150),
    least=st.integers(1, 20),
    step=st.integers(1, 9),
    reach=st.integers(0, 4),
    limit=st.integers(1, 60),
    mode=st.sampled_from(["symmetric", "reflect", "edge", "constant"]),
)
def test_tiles_with_enough_halo_equal_the_whole_image(
    size: int, least: int, step: int, reach: int, limit: int, mode: str
) -> None:
    """A same-size blur of known reach, on the image padded once as a whole."""
    pad = Padding(mode, 3.0)  # type: ignore[arg-type]
    model = model_1d(ParameterizedSize(least, step), halo=reach, pad=pad)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": size}}, max_tile_pixels=limit)
    rng = np.random.default_rng(size)
    image = rng.random((1, size))

    def network(tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        framed = np.pad(tiles["raw"], ((0, 0), (reach, reach)))  # zeros, as convolutions have
        return {"out": valid_blur(framed, 2 * reach + 1)}

    made = {"constant_values": pad.value} if mode == "constant" else {}
    framed = np.pad(image, ((0, 0), (reach, reach)), mode=mode, **made)  # type: ignore[call-overload]
    expected = valid_blur(framed, 2 * reach + 1)
    result = run(plan, {"raw": image}, network)
    np.testing.assert_allclose(result["out"], expected)


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(9, 150),
    least=st.integers(9, 20),
    step=st.integers(1, 9),
    reach=st.integers(0, 4),
    limit=st.integers(1, 60),
)
def test_valid_convolutions_are_seamless(
    size: int, least: int, step: int, reach: int, limit: int
) -> None:
    """A negative offset: tiles overlap by what the network loses."""
    model = model_1d(ParameterizedSize(least, step), offset=-2 * reach)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": size}}, max_tile_pixels=limit)
    image = np.random.default_rng(size).random((1, size))
    result = run(plan, {"raw": image}, lambda t: {"out": valid_blur(t["raw"], 2 * reach + 1)})
    np.testing.assert_allclose(result["out"], valid_blur(image, 2 * reach + 1))


@settings(max_examples=150, deadline=None)
@given(
    size=st.integers(1, 150),
    least=st.integers(1, 20),
    step=st.integers(1, 8),
    more=st.integers(0, 3),
    limit=st.integers(1, 60),
    mode=st.sampled_from(["symmetric", "reflect", "edge", "constant"]),
)
def test_tiles_of_a_network_that_pools_equal_the_whole_image(
    size: int, least: int, step: int, more: int, limit: int, mode: str
) -> None:
    """It pools by its declared step, and looks at the rest of a pixel's block: less than a step."""
    model = model_1d(ParameterizedSize(least, step), halo=step - 1 + more, pad=Padding(mode))  # type: ignore[arg-type]
    shape = {"raw": {"batch": 1, "x": size}}
    plan = plan_tiles(model, shape, max_tile_pixels=limit)
    whole = plan_tiles(model, shape, max_tile_pixels=10_000)
    assert len(whole) == 1
    (axis,) = plan.grid
    if axis.inner < step:
        return  # no room for the strides
    assert not any(s % step for s in axis.starts)
    assert size <= axis.starts[-1] + axis.inner < size + max(step, axis.inner)
    image = {"raw": np.random.default_rng(size).random((1, size))}

    def network(tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        given_in = tiles["raw"]
        blocks = np.arange(given_in.shape[1]) // step
        largest = [given_in[:, blocks == b].max(axis=1) for b in range(blocks[-1] + 1)]
        return {"out": np.stack(largest, axis=1)[:, blocks]}

    np.testing.assert_array_equal(
        run(plan, image, network)["out"], run(whole, image, network)["out"]
    )


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(2, 150),
    least=st.integers(2, 20),
    step=st.integers(1, 9),
    factor=st.integers(1, 4),
    halo=st.integers(0, 3),
    limit=st.integers(1, 60),
)
def test_smaller_outputs_fall_on_whole_pixels(
    size: int, least: int, step: int, factor: int, halo: int, limit: int
) -> None:
    model = model_1d(ParameterizedSize(least, step), scale=factor, halo=halo)
    shape = {"raw": {"batch": 1, "x": size}}
    try:
        plan = plan_tiles(model, shape, max_tile_pixels=limit)
    except InvalidPackageError:
        return  # the halo leaves nothing
    image = np.arange(size, dtype=float)[None]
    result = run(
        plan,
        {"raw": image},
        lambda t: {"out": t["raw"][:, ::factor][:, : t["raw"].shape[1] // factor]},
    )
    np.testing.assert_array_equal(result["out"], image[:, ::factor][:, : size // factor])


@settings(max_examples=100, deadline=None)
@given(
    size=st.integers(1, 100),
    least=st.integers(1, 20),
    step=st.integers(1, 9),
    factor=st.integers(1, 4),
    halo=st.integers(0, 3),
    limit=st.integers(1, 60),
)
def test_larger_outputs_are_complete(
    size: int, least: int, step: int, factor: int, halo: int, limit: int
) -> None:
    model = model_1d(ParameterizedSize(least, step), scale=1 / factor, halo=halo * factor)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": size}}, max_tile_pixels=limit)
    image = np.arange(size, dtype=float)[None]
    result = run(plan, {"raw": image}, lambda t: {"out": np.repeat(t["raw"], factor, axis=1)})
    np.testing.assert_array_equal(result["out"], np.repeat(image, factor, axis=1))


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations("bcyx"),
    y=st.integers(1, 60),
    x=st.integers(1, 60),
    halo=st.integers(0, 5),
    limit=st.integers(1, 900),
)
def test_any_axis_order(order: list[str], y: int, x: int, halo: int, limit: int) -> None:
    make = {
        "b": BATCH,
        "c": channels(2),
        "y": space("y", ParameterizedSize(4, 3)),
        "x": space("x", FixedSize(16)),
    }
    back = {
        "b": BATCH,
        "c": channels(2),
        "y": space("y", SizeReference("raw", "y"), halo=halo),
        "x": space("x", SizeReference("raw", "x"), halo=halo),
    }
    model = ModelGeometry(
        (TensorGeometry("raw", tuple(make[a] for a in order)),),
        (TensorGeometry("out", tuple(back[a] for a in order[::-1])),),
    )
    counts = {"batch": 1, "channel": 2, "y": y, "x": x}
    plan = plan_tiles(model, {"raw": counts}, max_tile_pixels=limit)
    shape = tuple(counts[a] for a in model.inputs[0].dims)
    image = np.arange(np.prod(shape), dtype=float).reshape(shape)
    result = run(plan, {"raw": image}, lambda t: {"out": t["raw"].transpose()})
    np.testing.assert_array_equal(result["out"], image.transpose())


# ------------------------------------------------------------------------------- examples


def test_the_grid_is_that_of_the_reference_runner() -> None:
    """Starts are tile - 2 * halo apart; the last is shifted back to end where the image ends."""
    model = model_1d(FixedSize(512), halo=32)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 1000}})
    assert plan.grid[0].starts == (0, 448, 552)
    first, _, last = list(plan)
    assert first.inputs["raw"].slices[1] == slice(0, 480)
    assert first.inputs["raw"].pad[1] == (32, 0)
    assert last.inputs["raw"].slices[1] == slice(520, 1000)
    assert last.inputs["raw"].pad[1] == (0, 32)
    assert last.outputs["out"].crop[1] == slice(32, 480)
    assert last.outputs["out"].place[1] == slice(552, 1000)


def test_tiles_start_at_multiples_of_the_declared_step() -> None:
    """The last one goes beyond the image by less than a step, and is cropped."""
    model = model_1d(ParameterizedSize(64, 16), halo=8)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 1000}}, tile={"x": 528})
    assert plan.grid[0].starts == (0, 496)
    last = list(plan)[-1]
    assert last.inputs["raw"].slices[1] == slice(488, 1000)
    assert last.inputs["raw"].pad[1] == (0, 16)  # a halo of 8, and 8 pixels for a whole step
    assert last.outputs["out"].crop[1] == slice(8, 512)
    assert last.outputs["out"].place[1] == slice(496, 1000)


def test_an_image_that_fits_the_steps_has_the_tiles_of_the_reference_runner() -> None:
    model = model_1d(ParameterizedSize(64, 16), halo=8)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 1008}}, tile={"x": 272})
    assert plan.grid[0].starts == (0, 256, 512, 752)
    assert list(plan)[-1].inputs["raw"].pad[1] == (0, 8)


def test_a_tile_that_gains_less_than_a_step_is_laid_as_it_can() -> None:
    """Its starts cannot be multiples of 64: it ends with the image, as a fixed size does."""
    model = model_1d(ParameterizedSize(64, 64), halo=8)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 130}}, tile={"x": 64})
    assert plan.grid[0].starts == (0, 48, 82)
    wider = plan_tiles(model, {"raw": {"batch": 1, "x": 130}}, tile={"x": 128})
    assert wider.grid[0].starts == (0, 64)


def test_an_image_of_the_least_size_stays_one_tile_of_it() -> None:
    """However large the step: it only counts where tiles are laid side by side."""
    plan = plan_tiles(model_1d(ParameterizedSize(16, 64)), {"raw": {"batch": 1, "x": 16}})
    assert plan.grid[0].tile == 16


def test_tiles_without_a_halo_are_no_overlapping_ones() -> None:
    """Starts 16 apart, tiles of 20: where they meet, the later has no context all the same."""
    model = model_1d(ParameterizedSize(20, 16))
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 100}}, tile={"x": 20})
    (axis,) = plan.grid
    assert (axis.step, axis.overlap) == (16, 0)
    assert bare_axes(plan) == ("x",)
    valid = model_1d(ParameterizedSize(20, 16), offset=-4)
    plan = plan_tiles(valid, {"raw": {"batch": 1, "x": 100}}, tile={"x": 20})
    assert (plan.grid[0].step, plan.grid[0].overlap) == (16, 4)
    assert bare_axes(plan) == ()


@pytest.mark.parametrize("mode", ["symmetric", "reflect", "edge", "constant"])
def test_a_last_tile_with_one_pixel_of_the_image_is_filled_up(mode: str) -> None:
    model = model_1d(ParameterizedSize(16, 16), pad=Padding(mode, 5.0))  # type: ignore[arg-type]
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 33}}, tile={"x": 16})
    assert [t.inputs["raw"].pad[1] for t in plan] == [(0, 0), (0, 0), (0, 15)]
    image = np.arange(33.0)[None]
    seen = []

    def network(tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append(tiles["raw"])
        return {"out": tiles["raw"]}

    result = run(plan, {"raw": image}, network)
    np.testing.assert_array_equal(result["out"], image)
    filled = 5.0 if mode == "constant" else 32.0
    np.testing.assert_array_equal(seen[-1], [[32.0, *[filled] * 15]])


def test_a_fixed_size_model_with_a_halo_is_tiled_inside_its_size() -> None:
    plan = plan_tiles(model_1d(FixedSize(512), halo=32), {"raw": {"batch": 1, "x": 512}})
    assert plan.grid[0].starts == (0, 64)
    assert plan.inputs[0].tile == (1, 512)


def test_one_tile_covers_image_and_halo_where_it_fits() -> None:
    plan = plan_tiles(model_1d(ParameterizedSize(64, 16), halo=8), {"raw": {"batch": 1, "x": 500}})
    assert plan.grid[0].starts == (0,)
    assert plan.grid[0].tile == 528


def test_tiles_fit_the_image_evenly() -> None:
    """Not the largest tile: 2 x 528 rather than 2 x 1024."""
    model = model_1d(ParameterizedSize(64, 16), halo=8)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 1024}}, max_tile_pixels=1024)
    assert plan.grid[0].tile == 528
    assert len(plan) == 2


def test_a_long_thin_image_gets_long_thin_tiles() -> None:
    raw = TensorGeometry(
        "raw", (space("y", ParameterizedSize(8, 8)), space("x", ParameterizedSize(8, 8)))
    )
    out = TensorGeometry(
        "out", (space("y", SizeReference("raw", "y")), space("x", SizeReference("raw", "x")))
    )
    plan = plan_tiles(
        ModelGeometry((raw,), (out,)), {"raw": {"y": 32, "x": 4096}}, max_tile_pixels=64 * 64
    )
    assert [g.tile for g in plan.grid] == [32, 128]


def test_all_tiles_have_one_shape() -> None:
    plan = plan_tiles(
        model_1d(ParameterizedSize(16, 8), halo=3),
        {"raw": {"batch": 1, "x": 997}},
        max_tile_pixels=100,
    )
    shapes = set()
    image = np.zeros((1, 997))
    for tile in plan:
        shapes.add(cut(image, tile.inputs["raw"], Padding()).shape)
    assert len(plan) > 5
    assert shapes == {(1, plan.grid[0].tile)}


@pytest.mark.parametrize("mode", ["symmetric", "reflect", "edge", "constant"])
def test_a_one_pixel_image_is_padded_and_cropped_back(mode: str) -> None:
    model = model_1d(ParameterizedSize(16, 8), halo=4, pad=Padding(mode, 5.0))  # type: ignore[arg-type]
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 1}})
    assert plan.padded == {"x": (1, 8)}
    result = run(plan, {"raw": np.array([[7.0]])}, lambda t: {"out": t["raw"]})
    np.testing.assert_array_equal(result["out"], [[7.0]])


def test_a_tile_the_model_does_not_take_names_the_nearest() -> None:
    model = model_1d(ParameterizedSize(64, 16))
    with pytest.raises(UsageError, match=r"takes 64 \+ n\*16\. Nearest: 496, 512\."):
        plan_tiles(model, {"raw": {"batch": 1, "x": 900}}, tile={"x": 500})


def test_a_tile_that_the_halo_eats_names_the_nearest() -> None:
    model = model_1d(ParameterizedSize(16, 16), halo=20)
    with pytest.raises(UsageError, match=r"halo of 20 on each side. Nearest: 48\."):
        plan_tiles(model, {"raw": {"batch": 1, "x": 900}}, tile={"x": 32})


def test_a_tile_along_an_unknown_axis_lists_the_axes() -> None:
    with pytest.raises(UsageError, match=r"axis 'z'.* along: x\."):
        plan_tiles(model_1d(FixedSize(8)), {"raw": {"batch": 1, "x": 8}}, tile={"z": 8})


def test_an_asked_tile_is_used() -> None:
    model = model_1d(ParameterizedSize(64, 16), halo=8)
    plan = plan_tiles(model, {"raw": {"batch": 1, "x": 900}}, tile={"x": 128})
    assert plan.grid[0].tile == 128
    assert len(plan) == 9


def test_a_halo_larger_than_a_fixed_size_is_the_packages_fault() -> None:
    with pytest.raises(InvalidPackageError, match="halo of 32"):
        plan_tiles(model_1d(FixedSize(64), halo=32), {"raw": {"batch": 1, "x": 64}})


def two_inputs(mask: Size, **more: object) -> ModelGeometry:
    raw = TensorGeometry("raw", (space("x", ParameterizedSize(16, 4)),))
    other = TensorGeometry("mask", (space("x", mask, **more),))
    out = TensorGeometry("out", (space("x", SizeReference("raw", "x"), halo=2),))
    return ModelGeometry((raw, other), (out,))


def test_an_input_that_follows_another_is_cut_in_step() -> None:
    model = two_inputs(SizeReference("raw", "x"), scale=2.0)
    image = np.arange(100.0)
    plan = plan_tiles(model, {"raw": {"x": 100}, "mask": {"x": 50}}, max_tile_pixels=24)
    seen = []

    def network(tiles: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        seen.append((tiles["raw"], tiles["mask"]))
        return {"out": tiles["raw"]}

    result = run(plan, {"raw": image, "mask": image[::2]}, network)
    np.testing.assert_array_equal(result["out"], image)
    for raw, mask in seen[1:-1]:  # without made-up pixels
        np.testing.assert_array_equal(raw[::2], mask)


def test_inputs_that_do_not_belong_together_are_refused() -> None:
    model = two_inputs(SizeReference("raw", "x"), scale=2.0)
    with pytest.raises(ImageMismatchError, match=r"'mask': axis 'x' has 49 .* must have 50"):
        plan_tiles(model, {"raw": {"x": 100}, "mask": {"x": 49}})


def test_independent_inputs_of_one_extent_are_cut_in_step() -> None:
    model = two_inputs(ParameterizedSize(16, 8))
    plan = plan_tiles(model, {"raw": {"x": 100}, "mask": {"x": 100}}, max_tile_pixels=30)
    assert len(plan.grid) == 1
    assert plan.grid[0].tile == 24  # both 16 + n*4 and 16 + n*8


def test_inputs_cut_in_step_all_lie_on_their_strides() -> None:
    """Steps of 4 and, at half the pixels, of 8 there: 16 pixels here."""
    model = two_inputs(ParameterizedSize(16, 8), scale=2.0)
    plan = plan_tiles(model, {"raw": {"x": 104}, "mask": {"x": 52}}, tile={"x": 48})
    assert plan.grid[0].starts == (0, 32, 64)


def test_independent_inputs_of_different_extent_run_whole() -> None:
    model = two_inputs(ParameterizedSize(16, 8))
    plan = plan_tiles(model, {"raw": {"x": 400}, "mask": {"x": 100}}, max_tile_pixels=30)
    tile = {t.id: t.tile for t in plan.inputs}
    assert tile["mask"] == (104,)
    assert len(plan.grid) == 2


def test_outputs_of_different_sizes_share_one_grid() -> None:
    raw = TensorGeometry("raw", (space("x", ParameterizedSize(16, 4)),))
    outs = (
        TensorGeometry("same", (space("x", SizeReference("raw", "x"), halo=4),)),
        TensorGeometry("half", (space("x", SizeReference("raw", "x"), scale=2.0),)),
        TensorGeometry("cropped", (space("x", SizeReference("raw", "x", -6)),)),
    )
    plan = plan_tiles(ModelGeometry((raw,), outs), {"raw": {"x": 101}}, max_tile_pixels=32)
    image = np.arange(101.0)
    result = run(
        plan,
        {"raw": image},
        lambda t: {"same": t["raw"], "half": t["raw"][::2], "cropped": t["raw"][3:-3]},
    )
    np.testing.assert_array_equal(result["same"], image)
    np.testing.assert_array_equal(result["half"], image[:-1:2])
    np.testing.assert_array_equal(result["cropped"], image[3:-3])


def test_an_axis_that_an_output_does_not_follow_is_not_cut() -> None:
    raw = TensorGeometry(
        "raw", (space("z", ParameterizedSize(4, 1)), space("x", ParameterizedSize(8, 8)))
    )
    out = TensorGeometry("out", (space("x", SizeReference("raw", "x")),))
    plan = plan_tiles(
        ModelGeometry((raw,), (out,)), {"raw": {"z": 60, "x": 100}}, max_tile_pixels=32
    )
    assert [len(g.starts) for g in plan.grid] == [1, 4]
    image = np.random.default_rng(0).random((60, 100))
    result = run(plan, {"raw": image}, lambda t: {"out": t["raw"].max(axis=0)})
    np.testing.assert_array_equal(result["out"], image.max(axis=0))


def test_an_image_that_may_not_be_cut_and_does_not_fit_is_refused() -> None:
    raw = TensorGeometry("raw", (space("x", FixedSize(64)),))
    out = TensorGeometry("class", (channels(3),))
    model = ModelGeometry((raw,), (out,))
    assert len(plan_tiles(model, {"raw": {"x": 64}})) == 1
    with pytest.raises(ImageMismatchError, match="cannot be cut into tiles"):
        plan_tiles(model, {"raw": {"x": 65}})


def test_a_data_dependent_output_runs_in_one_tile() -> None:
    raw = TensorGeometry("raw", (space("x", ParameterizedSize(8, 8)),))
    out = TensorGeometry(
        "points", (AxisGeometry("index", "index", DataDependentSize()), channels(2))
    )
    plan = plan_tiles(ModelGeometry((raw,), (out,)), {"raw": {"x": 1000}}, max_tile_pixels=8)
    assert len(plan) == 1
    assert plan.outputs[0].shape == (None, 2)
    assert next(iter(plan)).outputs["points"].crop[0] == slice(None)


def test_references_that_lead_nowhere_are_the_packages_fault() -> None:
    raw = TensorGeometry("raw", (space("x", SizeReference("mask", "x")),))
    with pytest.raises(InvalidPackageError, match="'x' of 'mask'"):
        plan_tiles(ModelGeometry((raw,), ()), {"raw": {"x": 8}})


def test_scales_as_decimal_fractions_stay_exact() -> None:
    model = model_1d(ParameterizedSize(8, 1), scale=0.1 / 0.3)
    assert model.referenced("out", "x") == (("raw", "x"), Fraction(3))


def test_a_plan_is_printed_in_a_few_lines_and_compares() -> None:
    shape = {"raw": {"batch": 1, "x": 1000}}
    plan = plan_tiles(model_1d(FixedSize(512), halo=32), shape)
    assert plan == plan_tiles(model_1d(FixedSize(512), halo=32), shape)
    assert plan.summary == "3 tiles of x 512 (3), halo 32"
    text = str(plan)
    assert "input raw: batch 1, x 1000; per tile 1 x 512, padding symmetric" in text
    assert len(text.splitlines()) < 8
