"""The geometry of a run, fixed before any pixel is read: which tiles go in, where results go.

How tiles lie:

- A tile of `tile` pixels has a halo on each side, the *inner* rest is what it contributes.
- Inner regions start side by side, at multiples of the step in which the model declares its sizes,
  as a network that pools gives the same only where it is moved by whole strides. The last one
  starts at the first such multiple from which it reaches the end of the image. Where two overlap,
  the later one counts.
- What a tile has beyond the image, halo and less than a step, is filled by the padding mode of the
  input, and cropped.
- Of a fixed size, or a step of 1, the last inner region so ends where the image ends. Where that is
  a multiple of the step too, this is the grid of bioimageio.core's blockwise run.
- An image smaller than the inner region is padded at its end, and the result cropped.

All tiles have one shape. Where the model leaves the size free, one tile covers the image if it
fits `max_tile_pixels`; else as few tiles are laid as fit, each as small as that number allows.

Positions scale with sizes: with ``out = floor(in * ratio) + offset``, the result of a window that
starts at input pixel p starts at output pixel p * ratio. A negative offset without a halo (a
network of valid convolutions) so makes tiles overlap by what the network loses, and the result of
an image of size S has floor(S * ratio) + offset pixels, seamless. Starts are multiples of the
ratio's denominator too, so that they fall on whole output pixels.

Inputs that follow one another by `SizeReference`, and independent axes of one id and one extent
(size * scale), are cut in step. An axis is cut only if every output has an axis that follows it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .grid import GridAxis, lay_grid
from .sizes import SYMMETRIC, ModelGeometry, Padding, TensorGeometry

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Pixels of one tile where the model leaves its size free, by number of tiled axes: 1024 x 1024 and
#: 128 x 128 x 128. Networks were measured to hold 64 to 133 float32 features per pixel at once, so
#: such a tile takes 0.5 to 1 GiB.
MAX_TILE_PIXELS = {1: 2**18, 2: 2**20, 3: 2**21}


@dataclass(frozen=True, slots=True)
class InputBlock:
    """What one tile takes from one input: `slices` of the image, then `pad` around them."""

    slices: tuple[slice, ...]
    pad: tuple[tuple[int, int], ...]

    @property
    def padded(self) -> bool:
        """Whether any pixel is made up."""
        return any(a or b for a, b in self.pad)


@dataclass(frozen=True, slots=True)
class OutputBlock:
    """What one tile gives to one output: `crop` of the tile's result goes to `place`."""

    crop: tuple[slice, ...]
    place: tuple[slice, ...]


@dataclass(frozen=True, slots=True)
class Tile:
    """One call of the network."""

    index: int
    inputs: Mapping[str, InputBlock]
    outputs: Mapping[str, OutputBlock]


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """One axis of one tensor: whole size, size per tile (None: depends on the data)."""

    id: str
    size: int | None
    tile: int | None
    grid: int | None = None
    """Index of the grid axis that cuts it."""
    ratio: Fraction = Fraction(1)
    """Pixels here per pixel of the grid axis."""


@dataclass(frozen=True, slots=True)
class TensorPlan:
    """One input or output of a run."""

    id: str
    axes: tuple[AxisPlan, ...]
    pad: Padding = SYMMETRIC

    @property
    def dims(self) -> tuple[str, ...]:
        """Axis ids, slowest first."""
        return tuple(a.id for a in self.axes)

    @property
    def grids(self) -> list[int | None]:
        """Index of the grid axis that cuts each axis."""
        return [a.grid for a in self.axes]

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape of the whole tensor."""
        return tuple(a.size for a in self.axes)

    @property
    def tile(self) -> tuple[int | None, ...]:
        """Shape of one tile of it."""
        return tuple(a.tile for a in self.axes)


#: Per axis what each start takes or gives, and the index of the axis's grid axis.
_Cuts = tuple[list[Any], list[int | None]]


@dataclass(frozen=True)
class TilePlan:
    """All tiles of one run; iterate for `Tile`s, print for a summary."""

    inputs: tuple[TensorPlan, ...]
    outputs: tuple[TensorPlan, ...]
    grid: tuple[GridAxis, ...]

    def __len__(self) -> int:
        return prod(len(g.starts) for g in self.grid)

    def __iter__(self) -> Iterator[Tile]:
        return map(self.tile, itertools.product(*(range(len(g.starts)) for g in self.grid)))

    def tile(self, at: Sequence[int]) -> Tile:
        """The tile at this position of the grid: the number of its start along each grid axis."""
        index = 0
        for position, axis in zip(at, self.grid, strict=True):
            index = index * len(axis.starts) + position

        def here(cuts: list[Any], grids: list[int | None]) -> list[Any]:
            return [c[0 if g is None else at[g]] for c, g in zip(cuts, grids, strict=True)]

        # An output may have the id of an input: each side is looked up by itself.
        taken = {t: here(*cuts) for t, cuts in self._cuts[0].items()}
        given = {t: here(*cuts) for t, cuts in self._cuts[1].items()}
        return Tile(
            index,
            {
                t: InputBlock(tuple(c[0] for c in cuts), tuple(c[1] for c in cuts))
                for t, cuts in taken.items()
            },
            {
                t: OutputBlock(tuple(c[0] for c in cuts), tuple(c[1] for c in cuts))
                for t, cuts in given.items()
            },
        )

    @cached_property
    def _cuts(self) -> tuple[Mapping[str, _Cuts], Mapping[str, _Cuts]]:
        """What each start takes and gives along each axis of each input and of each output."""
        return (
            {t.id: ([self._input_cuts(a) for a in t.axes], t.grids) for t in self.inputs},
            {t.id: ([self._output_cuts(a) for a in t.axes], t.grids) for t in self.outputs},
        )

    def _input_cuts(self, axis: AxisPlan) -> list[tuple[slice, tuple[int, int]]]:
        """Per start: the slice of the image and the padding before and after it."""
        assert axis.size is not None
        assert axis.tile is not None
        if axis.grid is None:
            return [(slice(0, axis.size), (0, 0))]
        grid, cuts = self.grid[axis.grid], []
        for p in grid.starts:
            start = int((p - grid.halo) * axis.ratio)
            stop = start + axis.tile
            inside = slice(max(0, start), min(axis.size, stop))
            cuts.append((inside, (inside.start - start, stop - inside.stop)))
        return cuts

    def _output_cuts(self, axis: AxisPlan) -> list[tuple[slice, slice]]:
        """Per start: the slice of the tile's result and its place in the whole result."""
        if axis.tile is None or axis.size is None:
            return [(slice(None), slice(None))]
        if axis.grid is None:
            return [(slice(0, axis.size), slice(0, axis.size))]
        grid, cuts = self.grid[axis.grid], []
        halo = int(grid.halo * axis.ratio)
        for p in grid.starts:
            start = int(p * axis.ratio)
            length = min(axis.tile - 2 * halo, axis.size - start)
            cuts.append((slice(halo, halo + length), slice(start, start + length)))
        return cuts

    @cached_property
    def padded(self) -> Mapping[str, tuple[int, int]]:
        """Axes on which the image does not fill a tile: (size, size padded to)."""
        return {g.id: (g.size, g.inner) for g in self.grid if g.size < g.inner}

    @property
    def overhead(self) -> float:
        """Pixels computed per pixel of the image (1.0: none twice)."""
        return prod(len(g.starts) * g.tile / g.size for g in self.grid)

    @property
    def pixels(self) -> int:
        """Pixels of the image in one channel, the unit of "per megapixel"."""
        return prod(g.size for g in self.grid)

    @property
    def summary(self) -> str:
        """The plan in one line."""
        count = "1 tile" if len(self) == 1 else f"{len(self)} tiles"
        if not self.grid:
            return f"{count}, the whole tensor"
        shape = ", ".join(f"{g.id} {g.tile}" for g in self.grid)
        halo = ", ".join(f"{g.id} {g.halo}" for g in self.grid if g.halo)
        if len({g.halo for g in self.grid}) == 1:
            halo = str(self.grid[0].halo or "")
        lay = " x ".join(str(len(g.starts)) for g in self.grid)
        return (
            f"{count} of {shape}"
            + (f" ({lay})" if len(self) > 1 else "")
            + (f", halo {halo}" if halo else ", no halo")
        )

    def __str__(self) -> str:
        def line(t: TensorPlan, word: str) -> str:
            sizes = ", ".join(f"{a.id} {'?' if a.size is None else a.size}" for a in t.axes)
            tile = " x ".join("?" if a is None else str(a) for a in t.tile)
            return f"  {word} {t.id}: {sizes}; per tile {tile}"

        lines = [self.summary]
        lines += [line(t, "input") + f", padding {t.pad}" for t in self.inputs]
        lines += [line(t, "output") for t in self.outputs]
        lines += [
            f"  {axis}: the image has {size} pixels, padded to {to} and cropped back"
            for axis, (size, to) in self.padded.items()
        ]
        lines.append(f"  {self.overhead:.2f} pixels computed per pixel of the image")
        return "\n".join(lines)


def plan_tiles(
    model: ModelGeometry,
    sizes: Mapping[str, Mapping[str, int]],
    *,
    tile: Mapping[str, int] | None = None,
    max_tile_pixels: int | None = None,
) -> TilePlan:
    """Lay tiles over the inputs of one run.

    Parameters
    ----------
    model
        The model's geometry.
    sizes
        Size of every axis of every given input, by tensor and axis id. The batch axis counts 1.
    tile
        Tile size by axis id, halo included, in pixels of the first input that has the axis.
    max_tile_pixels
        Upper limit of a tile's pixels where the model leaves its size free
        (default `MAX_TILE_PIXELS`).

    Raises
    ------
    UsageError
        For a tile that the model does not take; the nearest sizes that it takes are named.
    ImageMismatchError
        For an image that fits neither in one tile nor may be cut, and for inputs whose sizes do
        not fit together.
    InvalidPackageError
        For sizes that refer to nothing, and a halo that leaves nothing of a tile.
    """
    given = tuple(t for t in model.inputs if t.id in sizes)
    grid, roots = lay_grid(model, given, sizes, tile or {}, max_tile_pixels, MAX_TILE_PIXELS)
    whole = {root: sizes[root[0]][root[1]] for root in roots}
    tiles = {root: int(grid[g].tile * ratio) for root, (g, ratio) in roots.items()}

    def plan(t: TensorGeometry, *, is_input: bool) -> TensorPlan:
        axes = []
        for a in t.axes:
            root, ratio = model.referenced(t.id, a.id)
            g, root_ratio = roots.get(root, (None, Fraction(1)))
            size = sizes[t.id].get(a.id, 1) if is_input else model.size(t.id, a.id, whole)
            per_tile = model.size(t.id, a.id, tiles)
            axes.append(AxisPlan(a.id, size, per_tile, g, ratio * root_ratio))
        return TensorPlan(t.id, tuple(axes), t.pad)

    return TilePlan(
        tuple(plan(t, is_input=True) for t in given),
        tuple(plan(t, is_input=False) for t in model.outputs),
        grid,
    )


def cut(array: NDArray[Any], block: InputBlock, pad: Padding) -> NDArray[Any]:
    """One tile of an input; a view where nothing has to be made up."""
    view = array[block.slices]
    if not block.padded:
        return view
    if pad.mode == "constant":
        return np.pad(view, block.pad, mode="constant", constant_values=pad.value)
    return np.pad(view, block.pad, mode=pad.mode)


def positions(inside: slice, pad: tuple[int, int], padding: Padding) -> NDArray[np.intp]:
    """Where the pixels of a tile come from, along one axis; made-up ones count as the edge's."""
    own = np.arange(inside.start, inside.stop)
    return np.pad(own, pad, mode="edge" if padding.mode == "constant" else padding.mode)
