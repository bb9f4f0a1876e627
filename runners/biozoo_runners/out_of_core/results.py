"""The stage that runs the network: a block of tiles read, computed, and written as whole shards."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..run import postprocess_tiles, preprocess_tiles
from ..stitch import allocate, check_shape
from ..tiling import InputBlock, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..layout import ResultLayout
    from ..pipeline import Runner
    from ..prepare import Fitting
    from ..tiling import TilePlan
    from .blocks import Block, Blocks
    from .facts import ItemFacts
    from .stores import Stores

__all__ = ["Read", "Results"]


@dataclass(frozen=True)
class Read:
    """What a block takes of each input, by tensor id: the pixels, and where they begin."""

    pixels: Mapping[str, NDArray[Any]]
    starts: Mapping[str, tuple[int, ...]]


class Results:
    """Outputs of the network, postprocessed, one task per item and block.

    Parameters
    ----------
    facts
        Of the item of this number: the statistics of its whole, and what its not finite pixels are
        replaced by.
    layouts
        Of each output, by tensor id.
    stores
        Where results go.
    on_tile
        Called before each tile; raises to stop.
    """

    name = "results"

    def __init__(
        self,
        runner: Runner,
        fitting: Fitting,
        plan: TilePlan,
        blocks: Blocks,
        facts: Callable[[int], ItemFacts],
        layouts: Mapping[str, ResultLayout],
        stores: Stores,
        on_tile: Callable[[], None] = lambda: None,
    ) -> None:
        self._runner, self._fitting, self._plan = runner, fitting, plan
        self._blocks, self._facts, self._layouts, self._stores = blocks, facts, layouts, stores
        self._items = list(fitting.items())
        self._after = runner.postprocessing.split()[0]
        self._pads = {t.id: t.pad for t in plan.inputs}
        self.on_tile = on_tile
        self.seconds = {"read": 0.0, "compute": 0.0}

    def __len__(self) -> int:
        return len(self._items) * len(self._blocks)

    def run(self, task: int) -> None:
        """All of it at once."""
        self.write(task, self.compute(task, self.prepare(task)))

    def prepare(self, task: int) -> Read:
        """Read what the block's tiles take, each pixel once."""
        start = time.perf_counter()
        item, block = self._at(task)
        facts = self._facts(item)
        pixels, starts = {}, {}
        for fitted in self._fitting.inputs:
            tensor = fitted.tensor.id
            region = _around([tile.inputs[tensor].slices for tile in block.tiles])
            read = fitted.read(self._items[item], region)
            replacement = facts.replaced.get(tensor)
            pixels[tensor] = read if replacement is None else replacement.apply(read)
            starts[tensor] = tuple(s.start for s in region)
        self.seconds["read"] += time.perf_counter() - start
        return Read(pixels, starts)

    def compute(self, task: int, read: Read) -> dict[str, NDArray[Any]]:
        """Results of the block's tiles, by output id, with the tensor's axes."""
        item, block = self._at(task)
        stats = self._facts(item).stats
        before = preprocess_tiles(self._runner.preprocessing, self._plan, stats)
        after = postprocess_tiles(self._after, self._plan, stats)
        made: dict[str, NDArray[Any]] = {}
        for tile in block.tiles:
            self.on_tile()
            feed = {
                t: before(t, cut(read.pixels[t], _moved(b, read.starts[t]), self._pads[t]), b)
                for t, b in tile.inputs.items()
            }
            start = time.perf_counter()
            results = self._runner.backend.run(feed)
            self.seconds["compute"] += time.perf_counter() - start
            for t in self._plan.outputs:
                place, region = tile.outputs[t.id], block.regions[t.id]
                check_shape(t, results[t.id])
                value = after(t.id, results[t.id][place.crop], place)
                if t.id not in made:
                    shape = tuple(s.stop - s.start for s in region)
                    made[t.id] = allocate(shape, value.dtype, f"A block of the result '{t.id}'")
                index = tuple(
                    slice(p.start - r.start, p.stop - r.start)
                    for p, r in zip(place.place, region, strict=True)
                )
                made[t.id][index] = value
        return made

    def write(self, task: int, made: Mapping[str, NDArray[Any]]) -> None:
        """Put the block into the stores, whole shards at once."""
        item, block = self._at(task)
        here = tuple(self._items[item].values())
        for tensor, values in made.items():
            layout = self._layouts[tensor]
            store = self._stores.of(tensor, values.dtype)
            store.write(
                layout.place(here, block.regions[tensor]),
                np.ascontiguousarray(layout.of_item(values)),
            )

    def _at(self, task: int) -> tuple[int, Block]:
        item, block = divmod(task, len(self._blocks))
        return item, self._blocks[block]


def _around(slices: Sequence[tuple[slice, ...]]) -> tuple[slice, ...]:
    """The region that holds all of these."""
    return tuple(
        slice(min(s.start for s in axis), max(s.stop for s in axis))
        for axis in zip(*slices, strict=True)
    )


def _moved(block: InputBlock, starts: Sequence[int]) -> InputBlock:
    """A block of the whole input as one of a region that begins at `starts`."""
    moved = tuple(slice(s.start - n, s.stop - n) for s, n in zip(block.slices, starts, strict=True))
    return replace(block, slices=moved)
