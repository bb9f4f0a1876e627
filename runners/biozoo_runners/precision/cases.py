"""What two ways to run a model are compared on: the package's test tensors, tiles of the image.

A `Case` holds what the network gets, and what becomes of what it gives: postprocessed, and its
objects found, as a run does. Tiles are taken where the image has most contrast among nine that are
spread over it: background alone proves nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from ..prepare import replace_not_finite
from ..run import measure_whole, postprocess_tiles, preprocess_tiles
from ..statistics import Stats
from ..stitch import check_shape
from ..tiling import InputBlock, Tile, TilePlan, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..instances import InstancesConfig
    from ..prepare import Fitting
    from ..processing import Processing

    Arrays = Mapping[str, NDArray[Any]]

__all__ = ["Case", "Made", "Scene", "Steps", "scene_of", "test_case", "tile_cases"]

#: Tiles that are looked at before the best of them are taken.
LOOKED_AT = 9
#: Pixels per axis of a tile that are enough to see its contrast.
_SAMPLED = 64


@dataclass(frozen=True)
class Steps:
    """What a model does besides its network; `dims` are the outputs' axis ids."""

    before: Processing
    after: Processing
    instances: InstancesConfig | None
    dims: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True)
class Made:
    """What a case gave: `values` by output, and `labels` by the id of a label image.

    An output that is a label image has in `values` what its objects are made of.
    """

    values: Arrays
    labels: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Case:
    """One call of the network.

    Attributes
    ----------
    feed
        What the network gets, by input tensor id.
    finish
        What becomes of what it gives.
    expected
        The author's own outputs, whole; nothing for a tile.
    """

    name: str
    feed: Arrays
    finish: Callable[[Arrays], Made]
    expected: Arrays = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """The image at hand, read when it is needed.

    Attributes
    ----------
    read
        Unprocessed pixels of a tile by input tensor id, as its blocks' `slices` cut them.
    stats
        The statistics of the whole that processing needs.
    items
        How often the plan is run.
    """

    plan: TilePlan
    items: int
    read: Callable[[Tile], Arrays]
    stats: Callable[[], Stats]

    @property
    def tiles(self) -> int:
        """Tiles of the whole run."""
        return len(self.plan) * self.items


def scene_of(
    fitting: Fitting, plan: TilePlan, steps: Steps, stats: Callable[[], Stats] | None = None
) -> Scene:
    """The middle one of an image's items.

    Parameters
    ----------
    stats
        Statistics of that item, where they are known; else they are measured on all its pixels.
    """
    at = next(islice(fitting.items(), len(fitting) // 2, None))

    def read(tile: Tile) -> Arrays:
        return {f.tensor.id: f.read(at, tile.inputs[f.tensor.id].slices) for f in fitting.inputs}

    def measure() -> Stats:
        if not steps.before.required_measures and not steps.after.reference_measures:
            return Stats()  # spares reading the whole
        pixels = {f.tensor.id: replace_not_finite(f.read(at))[0] for f in fitting.inputs}
        return measure_whole(fitting, pixels, steps.before, steps.after)

    return Scene(plan, len(fitting), read, stats or measure)


def tile_cases(scene: Scene, steps: Steps, count: int) -> list[Case]:
    """Up to `count` tiles of the image, those of most contrast first.

    Raises
    ------
    ImageMismatchError
        None of those that were looked at has a finite pixel.
    """
    plan, stats = scene.plan, scene.stats()
    tiles = list(_spread(plan))
    pixels = {tile.index: scene.read(tile) for tile in tiles}
    tiles.sort(key=lambda tile: -_contrast(pixels[tile.index]))
    head, rest = steps.after.split()
    before = preprocess_tiles(steps.before, plan, stats)
    after = postprocess_tiles(head, plan, stats)
    pads = {t.id: t.pad for t in plan.inputs}

    def case(tile: Tile) -> Case:
        feed = {
            i: before(i, cut(replace_not_finite(array)[0], _all_of(tile.inputs[i]), pads[i]), block)
            for i, array in pixels[tile.index].items()
            for block in (tile.inputs[i],)
        }

        def finish(made: Arrays) -> Made:
            values = {}
            for t in plan.outputs:
                check_shape(t, made[t.id])
                block = tile.outputs[t.id]
                values[t.id] = after(t.id, made[t.id][block.crop], block)
            return _finished(values, steps, rest, stats)

        return Case(f"tile {tile.index + 1} of {len(plan)}", feed, finish)

    return [case(tile) for tile in tiles[:count]]


def test_case(package: ModelPackage, steps: Steps) -> Case:
    """The package's test tensors, whole: no tile, no padding, no halo cropped.

    Raises
    ------
    InvalidPackageError
        One is not there or cannot be read.
    """
    from ..testing import read_test_tensors

    inputs, expected = read_test_tensors(package)
    stats = steps.after.collect(inputs, steps.before.collect(inputs))
    head, rest = steps.after.split()
    feed = {
        i: steps.before.apply(i, data.values, [str(d) for d in data.dims], stats)
        for i, data in inputs.items()
    }

    def finish(made: Arrays) -> Made:
        values = {o: head.chains[o].finish(a, steps.dims[o], stats) for o, a in made.items()}
        return _finished(values, steps, rest, stats)

    return Case("test tensors", feed, finish, expected)


test_case.__dict__["__test__"] = False  # not for pytest


def _finished(
    values: Mapping[str, NDArray[Any]], steps: Steps, rest: Processing, stats: Stats
) -> Made:
    """The steps that take a whole output, done on what there is of it; and the objects."""
    kept, labels = {}, {}
    for o, array in values.items():
        chain, dims = rest.chains[o], steps.dims[o]
        whole = chain.finish(array, dims, stats) if chain.steps else array
        if steps.after.chains[o].makes_labels:
            kept[o], labels[o] = array, whole
        else:
            kept[o] = whole
    if (config := steps.instances) is not None:
        import xarray as xr

        from ..instances import instances

        output = xr.DataArray(kept[config.output], dims=steps.dims[config.output])
        labels["labels"] = instances(output, config).to_numpy()
    return Made(kept, labels)


def _spread(plan: TilePlan) -> Sequence[Tile]:
    """Up to `LOOKED_AT` tiles, evenly spread over the plan."""
    count = min(len(plan), LOOKED_AT)
    wanted = {round((i + 0.5) * len(plan) / count - 0.5) for i in range(count)}
    return [tile for tile in plan if tile.index in wanted]


def _contrast(pixels: Arrays) -> float:
    """Standard deviation of some pixels of the first input; below 0 where none is finite."""
    array = next(iter(pixels.values()))
    few = array[tuple(slice(None, None, max(1, n // _SAMPLED)) for n in array.shape)]
    finite = few[np.isfinite(few)] if few.dtype.kind == "f" else few
    return float(finite.std()) if finite.size else -1.0


def _all_of(block: InputBlock) -> InputBlock:
    """A tile's block, of pixels that were cut already."""
    return InputBlock(tuple(slice(0, s.stop - s.start) for s in block.slices), block.pad)
