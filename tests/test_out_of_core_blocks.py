"""Blocks of tiles: each position is owned once, by whole shards, and the result stays the same."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biozoo_runners.out_of_core.blocks import Blocks
from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ModelGeometry,
    ParameterizedSize,
    Size,
    SizeReference,
    TensorGeometry,
)
from biozoo_runners.tiling import TilePlan, plan_tiles

BATCH = AxisGeometry("batch", "batch", FixedSize(1))


def space(axis: str, size: Size, **more: object) -> AxisGeometry:
    return AxisGeometry(axis, "space", size, **more)  # type: ignore[arg-type]


def channels(n: int) -> AxisGeometry:
    return AxisGeometry("channel", "channel", FixedSize(n))


def model(
    axes: str,
    outputs: list[tuple[float, int, int]],
    *,
    least: int = 8,
    step: int = 4,
    stride: int = 1,
    count: int = 1,
) -> ModelGeometry:
    """Outputs as (pixels per pixel of the input, halo, offset), over these spatial axes."""
    size = ParameterizedSize(least, step)
    raw = TensorGeometry("raw", (BATCH, *(space(a, size, stride=stride) for a in axes)))
    made = [
        TensorGeometry(
            f"out{i}",
            (
                BATCH,
                channels(count),
                *(
                    space(a, SizeReference("raw", a, offset), halo=halo, scale=1 / ratio)
                    for a in axes
                ),
            ),
        )
        for i, (ratio, halo, offset) in enumerate(outputs)
    ]
    return ModelGeometry((raw,), tuple(made))


def plan_of(geometry: ModelGeometry, size: tuple[int, ...], tile: int | None = None) -> TilePlan:
    axes = [a.id for a in geometry.inputs[0].axes if a.kind == "space"]
    return plan_tiles(
        geometry,
        {"raw": {"batch": 1, **dict(zip(axes, size, strict=True))}},
        tile=None if tile is None else dict.fromkeys(axes, tile),
    )


@st.composite
def plans(draw: st.DrawFn) -> TilePlan:
    """Tiles of one to three axes, of networks of every kind that can be tiled."""
    axes = draw(st.sampled_from(["x", "yx", "yx", "zyx"]))
    kind = draw(st.sampled_from(["same", "halo", "half", "double", "valid", "two"]))
    stride = draw(st.sampled_from([1, 1, 4, 6]))
    outputs = {
        "same": [(1.0, 0, 0)],
        "halo": [(1.0, draw(st.integers(1, 5)), 0)],
        "half": [(0.5, draw(st.integers(0, 2)), 0)],
        "double": [(2.0, draw(st.integers(0, 5)), 0)],
        "valid": [(1.0, 0, -draw(st.integers(1, 6)))],
        "two": [(1.0, 4, 0), (0.5, 2, 0), (1.0, 0, -2)],
    }[kind]
    geometry = model(axes, outputs, stride=stride, least=16, step=draw(st.sampled_from([4, 12])))
    tile = draw(st.sampled_from([28, 40]))
    size = tuple(draw(st.integers(8, 130 if len(axes) < 3 else 50)) for _ in axes)
    return plan_of(geometry, size, tile)


def stitched(plan: TilePlan) -> dict[str, np.ndarray]:
    """Each position holds the number of the tile whose value is kept: the later one counts."""
    made = {t.id: np.full(t.shape, -1) for t in plan.outputs}
    for tile in plan:
        for t in plan.outputs:
            made[t.id][tile.outputs[t.id].place] = tile.index
    return made


@settings(max_examples=60, deadline=None)
@given(plan=plans(), elements=st.sampled_from([1, 700, 5000, 2**24]))
def test_blocks_are_the_stitched_result_in_whole_shards(plan: TilePlan, elements: int) -> None:
    """In any order, each position once, from the same pixel of the same tile."""
    expected = stitched(plan)
    blocks = Blocks.of(plan, elements=elements)
    written = {t.id: np.full(t.shape, -1) for t in plan.outputs}
    times = {t.id: np.zeros(t.shape, int) for t in plan.outputs}
    tiles = {tile.index: tile for tile in plan}
    seen: list[int] = []
    for number in reversed(range(len(blocks))):
        block = blocks[number]
        assert block.index == number
        for tile in block.tiles:
            seen.append(tile.index)
            for t in plan.outputs:
                own, whole = tile.outputs[t.id], tiles[tile.index].outputs[t.id]
                assert written[t.id][own.place].shape == np.empty(t.tile)[own.crop].shape
                written[t.id][own.place] = tile.index
                times[t.id][own.place] += 1
                for c, p, whole_c, whole_p in zip(
                    own.crop, own.place, whole.crop, whole.place, strict=True
                ):
                    assert c.start - p.start == whole_c.start - whole_p.start
        for t in plan.outputs:
            inside = np.zeros(t.shape, bool)
            inside[block.regions[t.id]] = True
            of_block = np.isin(written[t.id], [tile.index for tile in block.tiles])
            np.testing.assert_array_equal(inside, of_block)
            shards = blocks.shards(t.id)
            for r, shard, n in zip(block.regions[t.id], shards, t.shape, strict=True):
                assert r.start == r.stop or r.start % shard == 0
                assert r.stop == n or r.stop % shard == 0
    assert sorted(seen) == list(range(len(plan)))
    for t in plan.outputs:
        assert (times[t.id] == 1).all()
        np.testing.assert_array_equal(written[t.id], expected[t.id])
        pairs = zip(blocks.shards(t.id), blocks.chunks(t.id), strict=True)
        assert all(shard % chunk == 0 for shard, chunk in pairs)


@settings(max_examples=40, deadline=None)
@given(plan=plans(), elements=st.integers(1, 20_000))
def test_a_block_has_no_more_values_than_allowed(plan: TilePlan, elements: int) -> None:
    """Or it is of one tile along each axis that could be cut further, or a tile more at the end."""
    blocks = Blocks.of(plan, elements=elements)
    largest = max(plan.outputs, key=lambda t: prod(n or 1 for n in t.tile))
    for block in blocks:
        sizes = [r.stop - r.start for r in block.regions[largest.id]]
        shards = blocks.shards(largest.id)
        inner = prod(min(n, s) for n, s in zip(sizes, shards, strict=True))
        assert inner <= elements or 1 in blocks.counts
        for a, n, s in zip(largest.axes, sizes, shards, strict=True):
            assert n <= s + (a.tile or 1)


def test_a_large_plane_has_large_square_shards_of_screen_size() -> None:
    """A hundred gigapixels: planned at once, no tile is made before it is asked for."""
    plan = plan_of(model("yx", [(1.0, 20, 0)]), (400_000, 250_000), 512)
    blocks = Blocks.of(plan)
    assert len(plan) > 400_000
    shard = blocks.shards("out0")
    assert 0.8 < shard[2] / shard[3] < 1.25
    assert 2**23 < prod(shard) <= 2**24
    assert all(256 <= c <= 1024 for c in blocks.chunks("out0")[2:])
    last = blocks[len(blocks) - 1]
    assert [r.stop for r in last.regions["out0"]] == [1, 1, 400_000, 250_000]
    assert last.tiles[-1].index == len(plan) - 1
    with pytest.raises(IndexError):
        blocks[len(blocks)]


def test_channels_count_and_are_chunks_of_their_own() -> None:
    """16 channels leave a sixteenth of the plane."""
    plan = plan_of(model("yx", [(1.0, 0, 0)], count=16), (9000, 9000), 500)
    blocks = Blocks.of(plan)
    assert blocks.chunks("out0") == (1, 1, 500, 500)
    assert blocks.shards("out0") == (1, 16, 1000, 1000)


def test_volumes_have_cubic_chunks_and_thin_stacks_planes() -> None:
    """So that all three views of a volume read little."""
    deep = Blocks.of(plan_of(model("zyx", [(1.0, 16, 0)]), (700, 700, 700), 128))
    assert deep.chunks("out0") == (1, 1, 96, 96, 96)
    assert deep.shards("out0") == (1, 1, 192, 288, 288)
    thin = Blocks.of(plan_of(model("zyx", [(1.0, 0, 0)]), (12, 3000, 3000)))
    chunk = thin.chunks("out0")
    assert chunk[2] == 1
    assert all(256 <= c <= 1024 for c in chunk[3:])


@pytest.mark.parametrize("tile", [24, 92, 211, 500, 1012, 2012])
def test_chunks_suit_viewers_whatever_the_tile(tile: int) -> None:
    """Several tiles, one, or a part of one: 19 tiles of 211 fit, but only 18 can be cut well."""
    geometry = model("yx", [(1.0, 0, 0)], least=8 + tile % 4)
    blocks = Blocks.of(plan_of(geometry, (9000, 9000), tile))
    for chunk in blocks.chunks("out0")[2:]:
        assert 256 <= chunk <= 1024
    assert prod(blocks.shards("out0")) <= 2**24


def test_the_last_tile_never_makes_a_shard_of_two_blocks() -> None:
    """It is shifted back, so that what it owns begins within a shard."""
    plan = plan_of(model("x", [(1.0, 0, 0)]), (100,), 40)
    assert plan.grid[0].starts == (0, 40, 60)
    blocks = Blocks.of(plan, elements=40)
    assert [b.regions["out0"][2] for b in blocks] == [slice(0, 40), slice(40, 100)]
    assert blocks.shards("out0")[2] == 40
    even = Blocks.of(plan_of(model("x", [(1.0, 0, 0)]), (120,), 40), elements=40)
    assert [b.regions["out0"][2].stop for b in even] == [40, 80, 120]


def test_an_image_of_one_tile_is_one_shard() -> None:
    """Cut into equal chunks, with little beyond the image."""
    blocks = Blocks.of(plan_of(model("yx", [(1.0, 0, 0)]), (1000, 130)))
    assert len(blocks) == 1
    assert blocks.chunks("out0") == (1, 1, 500, 130)
    assert blocks.shards("out0") == (1, 1, 1000, 130)


def test_blocks_of_an_axis_follow_one_another() -> None:
    """In the order of the tiles, so that what is read is near to what was."""
    plan = plan_of(model("yx", [(1.0, 4, 0)]), (500, 900), 64)
    blocks = Blocks.of(plan, elements=20_000)
    corners = [tuple(r.start for r in b.regions["out0"][2:]) for b in blocks]
    assert len(corners) == len(blocks) > 4
    assert all(a < b for a, b in pairwise(corners))
