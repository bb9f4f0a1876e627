"""Blocks of tiles that can be computed and written one by one, in any order, each any number of
times.

A tile *owns*, along each axis, the output positions from its start to the start of the next tile;
the last one those to the end. Where tiles overlap the later counts, so what tiles own, put
together, is the stitched result (`stitch.run_tiles`), and no position is written twice.

A block is `counts` tiles along each axis of the grid. All starts but the last are multiples of
the grid's step, so what a block owns begins and ends at multiples of ``count * step * ratio``: the
shard. Only the last tile, shifted back to end with the image, may start elsewhere. Where it would
be a block of its own it joins the one before. A last block may own several shards along an axis.

Not for outputs whose size depends on the data, nor for those whose postprocessing takes the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from math import ceil, isqrt, log, prod

from biozoo.axes import SPACE

from ..tiling import AxisPlan, OutputBlock, TensorPlan, Tile, TilePlan

__all__ = ["Block", "Blocks"]

#: Sides of chunks that viewers take well, least and most and in between: of planes and of volumes.
#: Planes are shown at about the size of a screen; volumes are looked at from all three sides.
PLANE, VOLUME = (256, 512, 1024), (64, 96, 128)

#: Planes from which a stack is chunked as a volume; a thinner one has a plane per chunk.
DEEP = 32


@dataclass(frozen=True, slots=True)
class Block:
    """Tiles whose results are whole shards of every output.

    Attributes
    ----------
    index
        Among all blocks of the plan.
    tiles
        Their `outputs` are what each tile owns; places are those in the whole output.
    regions
        What the block owns, per output id and along its axes. May be empty where an output ends
        before the image does.
    """

    index: int
    tiles: tuple[Tile, ...]
    regions: Mapping[str, tuple[slice, ...]]


@dataclass(frozen=True)
class Blocks:
    """All blocks of a plan, made when they are asked for.

    Attributes
    ----------
    counts
        Tiles of a block along each grid axis.
    """

    plan: TilePlan
    counts: tuple[int, ...]

    @classmethod
    def of(cls, plan: TilePlan, *, elements: int = 2**24) -> Blocks:
        """Blocks as large as allowed, with sides about equal in pixels of the output.

        Parameters
        ----------
        elements
            Most values of a block in the largest output, channels included, though a block is one
            tile at least. A block that the last tile joined is one tile longer along that axis.
        """
        most = _most(plan, elements)
        return cls(plan, tuple(_count(plan, g, n) for g, n in enumerate(most)))

    def __len__(self) -> int:
        return prod(map(len, self._firsts))

    def __getitem__(self, index: int) -> Block:
        if not 0 <= index < len(self):
            raise IndexError(index)
        at, rest = [], index
        for firsts in reversed(self._firsts):
            rest, here = divmod(rest, len(firsts))
            at.append(here)
        ranges = [
            range(f[i], f[i + 1] if i + 1 < len(f) else len(g.starts))
            for i, f, g in zip(reversed(at), self._firsts, self.plan.grid, strict=True)
        ]
        regions = {
            t.id: tuple(_owned(self.plan, a, ranges) for a in t.axes) for t in self.plan.outputs
        }
        return Block(index, tuple(self._tile(at) for at in product(*ranges)), regions)

    def __iter__(self) -> Iterator[Block]:
        return (self[i] for i in range(len(self)))

    def shards(self, tensor: str) -> tuple[int, ...]:
        """Shape of a shard of an output: what a block owns, as a multiple of the chunk."""
        return tuple(s for s, _ in self._sizes[tensor])

    def chunks(self, tensor: str) -> tuple[int, ...]:
        """Shape of a chunk of an output."""
        return tuple(c for _, c in self._sizes[tensor])

    def _tile(self, at: Sequence[int]) -> Tile:
        """A tile, cropped to what it owns."""
        tile = self.plan.tile(at)
        outputs = {}
        for t in self.plan.outputs:
            block = tile.outputs[t.id]
            here = [range(i, i + 1) for i in at]
            places = tuple(_owned(self.plan, a, here) for a in t.axes)
            crops = tuple(
                slice(c.start, c.start + p.stop - p.start)
                for c, p in zip(block.crop, places, strict=True)
            )
            outputs[t.id] = OutputBlock(crops, places)
        return replace(tile, outputs=outputs)

    @cached_property
    def _firsts(self) -> tuple[range | tuple[int, ...], ...]:
        """The first tile of each block, along each grid axis."""
        made: list[range | tuple[int, ...]] = []
        for axis, count in zip(self.plan.grid, self.counts, strict=True):
            firsts = range(0, len(axis.starts), count)
            if axis.starts[firsts[-1]] != firsts[-1] * axis.step:
                firsts = firsts[:-1]
            made.append(firsts)
        return tuple(made)

    @cached_property
    def _sizes(self) -> Mapping[str, tuple[tuple[int, int], ...]]:
        """Per output and axis: the shard and the chunk."""
        return {
            t.id: tuple(
                _shard_and_chunk(self.plan, t, a, 1 if a.grid is None else self.counts[a.grid])
                for a in t.axes
            )
            for t in self.plan.outputs
        }


def _owned(plan: TilePlan, axis: AxisPlan, ranges: Sequence[range]) -> slice:
    """The positions of an output axis that tiles own: `ranges` of them along the grid axes."""
    assert axis.size is not None
    if axis.grid is None:
        return slice(0, axis.size)
    starts, tiles = plan.grid[axis.grid].starts, ranges[axis.grid]
    start = min(int(starts[tiles.start] * axis.ratio), axis.size)
    last = tiles.stop == len(starts)
    stop = axis.size if last else min(int(starts[tiles.stop] * axis.ratio), axis.size)
    return slice(start, stop)


def _most(plan: TilePlan, elements: int) -> list[int]:
    """Tiles along each grid axis that a block may have: sides about equal, no more than allowed."""
    most = [1] * len(plan.grid)

    def values(t: TensorPlan) -> int:
        return prod(a.tile or 1 for a in t.axes)

    largest = max(plan.outputs, key=values)
    cut = [a for a in largest.axes if a.grid is not None]
    left = elements / prod(a.size or 1 for a in largest.axes if a.grid is None)
    # The shortest axes first: what they do not use is left to the others.
    for n, a in enumerate(sorted(cut, key=lambda a: a.size or 1)):
        assert a.grid is not None
        assert a.size is not None
        grid = plan.grid[a.grid]
        side = max(left, 1) ** (1 / (len(cut) - n)) + 1e-9
        step = float(grid.step * a.ratio)
        most[a.grid] = min(max(1, int(side // step)), len(grid.starts))
        left /= min(most[a.grid] * step, a.size)
    return most


def _count(plan: TilePlan, grid: int, most: int) -> int:
    """The largest count up to `most`, not below half of it, that leaves chunks of a good size."""
    if most >= len(plan.grid[grid].starts):
        return most
    for count in range(most, most // 2, -1):
        cuts = [(t, a) for t in plan.outputs for a in t.axes if a.grid == grid]
        if all(_is_good(plan, t, a, count) for t, a in cuts):
            return count
    return most


def _is_good(plan: TilePlan, tensor: TensorPlan, axis: AxisPlan, count: int) -> bool:
    least, _, most = _sides(tensor, axis)
    chunk = _shard_and_chunk(plan, tensor, axis, count)[1]
    return least <= chunk <= most


def _shard_and_chunk(
    plan: TilePlan, tensor: TensorPlan, axis: AxisPlan, count: int
) -> tuple[int, int]:
    """Sizes along one axis of an output, for blocks of so many tiles along it."""
    assert axis.size is not None
    best = _sides(tensor, axis)[1]
    if axis.grid is None or count >= len(plan.grid[axis.grid].starts):
        # One shard along the axis: cut into equal chunks.
        pieces = max(1, round(axis.size / best))
        chunk = ceil(axis.size / pieces)
        return max(1, ceil(axis.size / max(1, chunk)) * chunk), max(1, chunk)
    shard = int(count * plan.grid[axis.grid].step * axis.ratio)
    return shard, min(_divisors(shard), key=lambda d: (abs(log(d / best)), d))


def _sides(tensor: TensorPlan, axis: AxisPlan) -> tuple[int, int, int]:
    """Least, best and most pixels of a chunk along an axis."""
    sizes = {a.id: a.size or 1 for a in tensor.axes}
    if axis.id not in SPACE:
        return 1, 1, 1
    if axis.id == "z":
        return VOLUME if sizes["z"] >= DEEP else (1, 1, 1)
    return VOLUME if sizes.get("z", 1) >= DEEP else PLANE


def _divisors(n: int) -> list[int]:
    small = [d for d in range(1, isqrt(n) + 1) if n % d == 0]
    return small + [n // d for d in small]
