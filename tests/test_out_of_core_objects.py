"""Objects of a map in blocks: the very objects that the map as a whole gives, whatever is cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage as ndi

from biozoo.errors import UsageError
from biozoo.samples import simulate_nuclei
from biozoo_runners.instances import InstancesConfig, core_map, label_objects
from biozoo_runners.out_of_core.objects import ONE_TASK, STAGES, Objects
from biozoo_runners.out_of_core.objects.files import Scratch
from biozoo_runners.out_of_core.objects.grid import BlockGrid
from biozoo_runners.out_of_core.objects.job import BYTES_PER_PIXEL
from biozoo_runners.out_of_core.objects.maps import Maps
from biozoo_runners.out_of_core.objects.numbering import number_objects
from biozoo_runners.out_of_core.objects.windows import Rules, windows

PLENTY = 2**30
CONFIG = InstancesConfig(output="p", foreground=0, distance=1, seed_threshold=0.6)

Region = tuple[slice, ...]


class Stack:
    """Channels in memory, read by regions; remembers how large these were."""

    def __init__(self, channels: NDArray[np.float32]) -> None:
        self.channels, self.shape = channels, channels.shape[1:]
        self.read_sizes: list[int] = []

    def read(self, channel: int, region: Region) -> NDArray[np.float32]:
        values = self.channels[(channel, *region)]
        assert all(0 <= s.start < s.stop <= n for s, n in zip(region, self.shape, strict=True)), (
            region
        )
        self.read_sizes.append(values.size)
        return values.copy()


def blocks_of(shape: Sequence[int], size: Sequence[int]) -> list[Region]:
    """A grid of blocks of this size; the last ones along an axis may be smaller."""
    along = [
        [slice(i, min(i + step, n)) for i in range(0, n, step)]
        for n, step in zip(shape, size, strict=True)
    ]
    return list(product(*along))


def whole(channels: NDArray[np.float32], config: InstancesConfig) -> NDArray[np.int32]:
    """What the map gives in one piece."""
    return label_objects(
        channels[0],
        None if config.distance is None else channels[config.distance],
        None if config.boundary is None else channels[config.boundary],
        foreground_threshold=config.foreground_threshold,
        seed_threshold=config.seed_threshold,
        min_seed_size=config.min_seed_size,
        min_size=config.min_size,
        fill_holes=config.fill_holes,
        smoothing=config.smoothing,
    )


def in_blocks(
    channels: NDArray[np.float32],
    config: InstancesConfig,
    size: Sequence[int],
    scratch: Path,
    *,
    memory: int = PLENTY,
    **options: Any,
) -> tuple[NDArray[np.int32], Objects]:
    """What the map gives in blocks of this size."""
    stack, labels = Stack(channels), np.full(channels.shape[1:], -1, np.int32)
    objects = Objects(
        config,
        stack,
        blocks_of(stack.shape, size),
        scratch,
        writer(labels),
        memory=memory,
        **options,
    )
    for stage in objects.stages:
        for task in range(len(stage)):
            stage.run(task)
    return labels, objects


def writer(labels: NDArray[np.int32]) -> Callable[[Region, NDArray[np.int32]], None]:
    def write(region: Region, values: NDArray[np.int32]) -> None:
        assert values.dtype == np.int32
        assert (labels[region] == -1).all(), "written twice"
        labels[region] = values

    return write


def assert_same_objects(found: NDArray[np.int32], expected: NDArray[np.int32]) -> None:
    """Equal in every pixel, but for the order of the numbers, which are 1..n."""
    pairs = np.unique(np.stack([found.ravel(), expected.ravel()]), axis=1)
    assert np.array_equal(found > 0, expected > 0)
    assert len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]
    assert found.max() == expected.max()


def discs(shape: tuple[int, ...], centres: Sequence[Sequence[float]], radius: float) -> Any:
    """Discs or balls."""
    grids = np.indices(shape)
    mask = np.zeros(shape, bool)
    for centre in centres:
        mask |= sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) <= radius**2
    return mask


def with_distance(mask: NDArray[np.bool_], cut: NDArray[np.bool_] | None = None) -> Any:
    """Foreground, and the distance to its edge (and to where it is cut), 1 from 3 pixels on."""
    open_mask = mask if cut is None else mask & ~cut
    distance = np.clip(ndi.distance_transform_edt(open_mask) / 5, 0, 1)
    return np.stack([mask, distance]).astype(np.float32)


def noise(shape: tuple[int, ...], seed: int, *sigmas: float) -> NDArray[np.float32]:
    """Smooth noise of standard deviation 1: one channel for each sigma."""
    rng = np.random.default_rng(seed)
    maps = [ndi.gaussian_filter(rng.normal(size=shape), sigma) for sigma in sigmas]
    return np.stack([m / (m.std() or 1) for m in maps]).astype(np.float32)


def nuclei(shape: tuple[int, int] = (200, 260), **options: Any) -> NDArray[np.float32]:
    """Foreground and distance of simulated nuclei, many of which touch."""
    labels = simulate_nuclei(shape, seed=3, diameter=20, density=0.45, **options).labels
    cut = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differs = np.diff(labels, axis=axis, append=labels.take([-1], axis=axis)) != 0
        cut |= differs
    return with_distance(labels > 0, cut)


def rings() -> NDArray[np.float32]:
    """Rings with holes: empty, with a ring within, with specks that have no seed, and two that
    enclose a hole together; one is cut by the map's edge.
    """
    shape = (90, 120)
    middles = [(24, 24), (24, 80), (64, 40), (70, 100), (0, 52)]
    mask = discs(shape, middles, 20) & ~discs(shape, middles, 13)
    mask |= discs(shape, [(24, 80)], 9) & ~discs(shape, [(24, 80)], 2)
    mask[62:65, 38:41] = True
    mask |= discs(shape, [(70, 100)], 1)
    channels = with_distance(mask)
    channels[1, 62:65, 38:41] = channels[1, 69:72, 99:102] = 0  # specks without a seed
    return channels


def edges() -> NDArray[np.float32]:
    """Discs that the map's edges and corners cut, some touching each other."""
    centres = [(0, 0), (0, 30), (3, 44), (40, 0), (79, 79), (79, 40), (40, 79), (52, 79)]
    mask = discs((80, 80), centres, 9)
    channels = with_distance(mask)
    channels[1] = np.clip(1 - ndi.distance_transform_edt(~discs((80, 80), centres, 1)) / 8, 0, 1)
    return channels


SCENES = {
    "nuclei": (nuclei, {}),
    "nuclei smoothed": (nuclei, {"smoothing": 1.3, "min_seed_size": 6, "min_size": 40}),
    "rings": (rings, {"seed_threshold": 0.3}),
    "rings with holes": (rings, {"seed_threshold": 0.3, "fill_holes": False}),
    "edges": (edges, {"smoothing": 0.8}),
    "blobs": (
        lambda: noise((130, 110), 1, 3, 2),
        {"foreground_threshold": 0.1, "min_seed_size": 5},
    ),
    "one maze": (lambda: noise((90, 100), 2, 3, 1.5), {"foreground_threshold": -0.6}),
    "3D blobs": (
        lambda: noise((26, 40, 44), 4, 2, 1.5),
        {"foreground_threshold": 0.3, "smoothing": 0.6, "min_size": 8},
    ),
    "boundary alone": (
        lambda: noise((70, 90), 5, 3, 1.5),
        {"foreground_threshold": 0.0, "distance": None, "boundary": 1, "smoothing": 0.7},
    ),
}


@pytest.mark.parametrize("scene", SCENES)
@pytest.mark.parametrize("size", [23, 71])
def test_blocks_find_the_objects_of_the_whole(scene, size, tmp_path):
    """Blocks smaller than objects, of their size, and larger: every pixel is as in one piece."""
    make, options = SCENES[scene]
    channels = make()
    config = CONFIG.model_copy(update=options)
    expected = whole(channels, config)
    assert expected.max() >= 4
    labels, objects = in_blocks(channels, config, (size,) * expected.ndim, tmp_path)
    assert_same_objects(labels, expected)
    assert objects.count() == expected.max()
    assert objects.notes() == []


@settings(max_examples=60, deadline=None)
@given(
    shape=st.one_of(
        st.tuples(st.integers(1, 30), st.integers(1, 30)),
        st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9)),
    ),
    size=st.tuples(st.integers(1, 14), st.integers(3, 14), st.integers(3, 14)),
    seed=st.integers(0, 2**16),
    coarse=st.sampled_from([0.0, 0.8, 1.5]),
    threshold=st.sampled_from([-0.5, 0.0, 0.7]),
    smoothing=st.sampled_from([0.0, 0.4, 2.0]),
    min_seed_size=st.sampled_from([0, 3]),
    min_size=st.sampled_from([0, 5]),
    fill_holes=st.booleans(),
    memory=st.sampled_from([PLENTY, 1]),
)
def test_any_map_in_any_blocks(
    shape, size, seed, coarse, threshold, smoothing, min_seed_size, min_size, fill_holes, memory
):
    """Also with too little memory: the margin around a block holds all of so small a map, so what
    is flooded in pieces is the whole's, too.
    """
    channels = noise(shape, seed, coarse, coarse / 2)
    channels[:, np.random.default_rng(seed).random(shape) < 0.02] = np.nan
    config = CONFIG.model_copy(
        update={
            "foreground_threshold": threshold,
            "smoothing": smoothing,
            "min_seed_size": min_seed_size,
        }
    )
    expected = whole(
        channels, config.model_copy(update={"min_size": min_size, "fill_holes": fill_holes})
    )
    with TemporaryDirectory() as folder:
        labels, objects = in_blocks(
            channels,
            config,
            size[-len(shape) :],
            Path(folder),
            memory=memory,
            min_size=min_size,
            fill_holes=fill_holes,
        )
        assert_same_objects(labels, expected)
        assert objects.count() == expected.max()


@pytest.mark.parametrize("memory", [PLENTY, 1])
def test_tasks_are_repeated_in_any_order_and_by_other_processes(memory, tmp_path):
    """All that a task needs lies in the folder, and doing it again changes nothing."""
    channels = noise((60, 70), 7, 3, 1.5)
    config = CONFIG.model_copy(update={"foreground_threshold": -0.3})
    expected, _ = in_blocks(channels, config, (16, 20), tmp_path / "once", memory=memory)
    rng = np.random.default_rng(0)
    for number, name in enumerate(STAGES):
        count = 1 if name in ONE_TASK else 16
        for task in np.concatenate([rng.permutation(count), rng.permutation(count)[:3]]):
            labels = np.full(expected.shape, -1, np.int32)
            stage = Objects(
                config,
                Stack(channels),
                blocks_of(expected.shape, (16, 20)),
                tmp_path / "again",
                writer(labels),
                memory=memory,
            ).stages[number]
            assert (stage.name, len(stage)) == (name, count)
            stage.run(int(task))
            written = labels >= 0
            assert np.array_equal(labels[written], expected[written])
            assert written.any() == (name == "labels")
    once, again = (
        {p.relative_to(tmp_path / n): p.read_bytes() for p in (tmp_path / n).rglob("*.npz")}
        for n in ("once", "again")
    )
    assert once == again


@pytest.mark.parametrize("sigma", [0.5, 2.0, 9.0])
@pytest.mark.parametrize("shape", [(40, 50), (12, 17, 9)])
def test_regions_are_smoothed_as_the_whole_is_to_the_last_bit(shape, sigma):
    """At the map's edges too, and where the Gaussian is wider than the map."""
    channels = noise(shape, 0, 0, 0)
    config = CONFIG.model_copy(update={"boundary": 0, "smoothing": sigma})
    expected = core_map(channels[0], channels[1], channels[0], sigma)
    maps = Maps(Stack(channels), config)
    for region in blocks_of(shape, (5, 7, 11)[-len(shape) :]):
        assert np.array_equal(maps.core(region), expected[region])


def test_what_is_read_stays_near_the_blocks(tmp_path):
    """Memory does not grow with the map, and a long object does not make all windows long."""
    channels = np.tile(nuclei((256, 256), clustering=0.2), (1, 2, 2))
    channels[0, 290:330, 60:500] = 0
    channels[0, 300:320, 70] = channels[0, 310, 70:490] = 1  # a long object, and one around it
    channels[0, 300, 80:490] = channels[0, 300:320, 490] = channels[0, 320, 80:490] = 1
    channels[1] *= channels[0]
    channels[1, 310, 70] = channels[1, 300, 80] = 1
    stack = Stack(channels)
    labels = np.full(stack.shape, -1, np.int32)
    most = 24 * 440
    objects = Objects(
        CONFIG,
        stack,
        blocks_of(stack.shape, (64, 64)),
        tmp_path,
        writer(labels),
        memory=BYTES_PER_PIXEL * most,
    )
    for stage in objects.stages:
        for task in range(len(stage)):
            stage.run(task)
    assert_same_objects(labels, whole(channels, CONFIG))
    assert objects.notes() == []
    assert max(stack.read_sizes) <= most
    # Each block is read for its parts, then two channels for a window; for some it is two windows.
    assert len(stack.read_sizes) < 64 * (1 + 2) + 64


def test_a_large_part_does_not_divide_the_windows_of_others():
    """It has its own; what lies together is read together, as far as memory goes."""
    places = np.array(list(product(range(0, 60, 6), range(0, 60, 6))))
    small = np.stack([places, places + 4], axis=2)
    long = np.array([[[20, 25], [0, 600]]])
    found = sorted(m.tolist() for m in windows(np.concatenate([small, long]), 58 * 58))
    assert found == [list(range(100)), [100]]
    halves = [m.tolist() for m in windows(small, 58 * 40)]
    assert sorted(chain(*halves)) == list(range(100))
    assert len(halves) == 2


def test_a_block_of_many_objects(tmp_path):
    """More than a byte can number, in one block and in the pieces that hang over."""
    channels = np.zeros((2, 80, 160), np.float32)
    channels[:, 1::3, 1::3] = 1
    channels[:, 1::3, 78:82] = 1
    labels, objects = in_blocks(channels, CONFIG, (80, 80), tmp_path)
    assert_same_objects(labels, whole(channels, CONFIG))
    assert objects.count() > 2 * 255


@pytest.mark.parametrize("fill_holes", [True, False])
def test_holes_of_objects_that_are_divided(fill_holes, tmp_path):
    """Filled as in the whole: not where another object lies within."""
    channels = rings()
    config = CONFIG.model_copy(update={"seed_threshold": 0.3, "fill_holes": fill_holes})
    labels, objects = in_blocks(channels, config, (23, 23), tmp_path, memory=1)
    assert_same_objects(labels, whole(channels, config))
    assert len(objects.notes()) == 1


def matched(found: NDArray[np.int32], expected: NDArray[np.int32], least: float) -> float:
    """Share of expected objects that a found one covers, each, to this intersection over union."""
    pairs, pixels = np.unique(
        np.stack([expected.ravel(), found.ravel()]), axis=1, return_counts=True
    )
    sizes = [np.bincount(labels.ravel()) for labels in (expected, found)]
    union = sizes[0][pairs[0]] + sizes[1][pairs[1]] - pixels
    good = (pairs[0] > 0) & (pairs[1] > 0) & (pixels / union >= least)
    return len(np.unique(pairs[0][good])) / int(expected.max())


def tissue(seed: int = 0) -> NDArray[np.float32]:
    """Cells that all touch: a part as large as the map, with gaps and holes in it."""
    channels = noise((420, 460), seed, 5, 3)
    channels[0] += 1.0
    return channels


def test_tissue_that_exceeds_memory_is_divided(tmp_path):
    """Its seeds are those of the whole, so nearly all of its objects are, too; a note tells."""
    channels = tissue()
    config = CONFIG.model_copy(update={"foreground_threshold": 0.0, "min_seed_size": 10})
    expected = whole(channels, config)
    labels, objects = in_blocks(channels, config, (80, 90), tmp_path, memory=1)
    assert expected.max() > 200
    assert np.array_equal(np.unique(labels), np.arange(objects.count() + 1))
    assert abs(objects.count() - int(expected.max())) <= 1
    assert matched(labels, expected, 0.9) >= 0.99
    assert np.mean((labels > 0) != (expected > 0)) < 0.001
    (note,) = objects.notes()
    assert "part of the foreground spans" in note
    assert "420 x 460 pixels" in note
    assert "divided into pieces" in note


def test_touching_nuclei_in_pieces(tmp_path):
    """Nuclei in one piece of foreground keep their shapes."""
    channels = nuclei((300, 320))
    channels[0] = ndi.binary_dilation(channels[0] > 0, iterations=4)
    expected = whole(channels, CONFIG)
    labels, objects = in_blocks(channels, CONFIG, (64, 70), tmp_path, memory=1)
    assert expected.max() > 60
    assert len(objects.notes()) == 1
    assert matched(labels, expected, 0.9) >= 0.99


def test_a_large_part_with_one_seed_is_one_object(tmp_path):
    """However far it goes from its seed."""
    channels = np.ones((2, 60, 300), np.float32)
    channels[1, :, 8:] = 0
    labels, objects = in_blocks(channels, CONFIG, (20, 20), tmp_path, memory=1)
    assert (labels == 1).all()
    assert len(objects.notes()) == 1


def test_an_empty_map_has_no_objects(tmp_path):
    """And none where nothing is above the seeds' threshold."""
    channels = np.zeros((2, 20, 30), np.float32)
    labels, objects = in_blocks(channels, CONFIG, (8, 8), tmp_path / "a")
    assert not labels.any()
    channels[0, 4:15, 4:25] = 1
    for memory in (PLENTY, 1):
        labels, objects = in_blocks(channels, CONFIG, (8, 8), tmp_path / str(memory), memory=memory)
        assert not labels.any()
        assert objects.count() == 0


def test_more_objects_than_can_be_numbered_are_refused(tmp_path):
    """int32 ends at 2147483647."""
    channels = nuclei((80, 80))
    in_blocks(channels, CONFIG, (40, 40), tmp_path)
    grid = BlockGrid.of(blocks_of((80, 80), (40, 40)), (80, 80))
    with pytest.raises(UsageError, match=r"objects were found.* can number 2\. .*--min-size"):
        number_objects(grid, Scratch(tmp_path), Rules(0.6, 0, 0, True), most=2)


def test_blocks_must_cover_the_map_in_order(tmp_path):
    """Numbers and faces follow the raster order."""
    blocks = blocks_of((20, 20), (10, 10))
    for wrong in (blocks[::-1], blocks[:3], [(slice(0, 20), slice(0, 19))]):
        with pytest.raises(ValueError, match="no grid in raster order"):
            Objects(
                CONFIG,
                Stack(np.zeros((2, 20, 20), np.float32)),
                wrong,
                tmp_path,
                lambda region, labels: None,
                memory=PLENTY,
            )


def test_channels_are_given_by_index(tmp_path):
    """Names are those of a package, which `read_instances_config` turns into indices."""
    config = CONFIG.model_copy(update={"foreground": "cells"})
    with pytest.raises(UsageError, match=r"'cells'.*index"):
        in_blocks(np.zeros((2, 8, 8), np.float32), config, (8, 8), tmp_path)
