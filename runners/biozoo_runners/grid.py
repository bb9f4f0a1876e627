"""Where tiles start and how large they are, one axis at a time (see `tiling`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from math import ceil, floor, lcm, prod

from biozoo.errors import ImageMismatchError, InvalidPackageError, UsageError

from .sizes import (
    DataDependentSize,
    FixedSize,
    ModelGeometry,
    ParameterizedSize,
    Root,
    SizeReference,
    TensorGeometry,
    scale_ratio,
)

#: A step rule is searched this far for a size that all tensors of a group allow.
SEARCH = 4096


@dataclass(frozen=True, slots=True)
class GridAxis:
    """One direction in which tiles are laid, in pixels of its leading input."""

    id: str
    tensor: str
    size: int
    """of the image"""
    tile: int
    """of a tile, halo included"""
    halo: int
    """on each side"""
    gain: int
    """pixels of the inner region that every output gets"""
    step: int
    """from one start to the next"""
    starts: tuple[int, ...]
    """first pixel of each inner region"""

    @property
    def inner(self) -> int:
        """Pixels of a tile without its halo."""
        return self.tile - 2 * self.halo

    @property
    def overlap(self) -> int:
        """Pixels of an inner region that some output lacks: valid convolutions lose them."""
        return self.inner - self.gain


@dataclass(frozen=True, slots=True)
class _Output:
    """An output axis that follows a group: sizes in terms of the group's leading axis."""

    tensor: str
    axis: str
    ratio: Fraction
    halo: int
    exact: bool
    """whether a tile must give whole pixels"""


@dataclass(frozen=True, slots=True)
class _Group:
    """Input axes that are cut in step; `roots` maps each to its pixels per leading pixel."""

    model: ModelGeometry
    id: str
    tensor: str
    size: int
    roots: Mapping[Root, Fraction]
    outputs: tuple[_Output, ...]
    whole: int
    """multiples of this fall on whole pixels of every tensor"""
    strides: int
    """multiples of this fall on the strides of the network too, as far as they are known"""
    can_tile: bool

    @property
    def halo(self) -> int:
        """Pixels around the inner region that the outputs' halos ask for."""
        need = max((ceil(o.halo / o.ratio) for o in self.outputs), default=0)
        return ceil(need / self.whole) * self.whole

    @property
    def rule(self) -> FixedSize | ParameterizedSize:
        """The size rule of the leading axis."""
        size = self.model.tensor(self.tensor).axis(self.id).size
        assert isinstance(size, FixedSize | ParameterizedSize)
        return size

    def allows(self, tile: int) -> bool:
        """Whether all inputs take a tile of this size and something of it is left."""
        for (tensor, axis), ratio in self.roots.items():
            size, rule = tile * ratio, self.model.tensor(tensor).axis(axis).size
            assert isinstance(rule, FixedSize | ParameterizedSize)
            if size.denominator != 1 or not rule.allows(int(size)):
                return False
        if any(o.exact and (tile * o.ratio).denominator != 1 for o in self.outputs):
            return False
        return self.gain(tile) >= self.whole

    def kept(self, output: _Output, tile: int) -> int:
        """Pixels of an output that one tile gives."""
        roots = {root: int(tile * ratio) for root, ratio in self.roots.items()}
        size = self.model.size(output.tensor, output.axis, roots)
        assert size is not None
        return size - 2 * int(self.halo * output.ratio)

    def gain(self, tile: int) -> int:
        """What every output gets from the inner region of a tile."""
        inner = tile - 2 * self.halo
        return min([inner, *(floor(self.kept(o, tile) / o.ratio) for o in self.outputs)])

    def step(self, tile: int) -> int:
        """From one start to the next."""
        gain = self.gain(tile)
        return gain // self._unit(gain) * self._unit(gain)

    def sizes_from(self, least: int) -> Iterator[int]:
        """Allowed tile sizes of at least `least`, growing."""
        rule = self.rule
        if isinstance(rule, FixedSize):
            if rule.size >= least and self.allows(rule.size):
                yield rule.size
            return
        first = max(0, ceil((least - rule.min) / rule.step))
        for n in range(first, first + SEARCH):
            if self.allows(size := rule.min + n * rule.step):
                yield size

    def starts(self, tile: int) -> tuple[int, ...]:
        """First pixels of the inner regions over the whole image."""
        last = self.last(tile)
        return (*range(0, last, self.step(tile)), last)

    def count(self, tile: int) -> int:
        """Number of starts."""
        return len(range(0, self.last(tile), self.step(tile))) + 1

    def last(self, tile: int) -> int:
        """The first start on the unit from which the inner region reaches the image's end."""
        inner, unit = tile - 2 * self.halo, self._unit(self.gain(tile))
        if self.size <= inner:
            return 0
        whole = {root: int(self.size * ratio) for root, ratio in self.roots.items()}
        last = (self.size - inner) // unit * unit
        for o in self.outputs:
            size = self.model.size(o.tensor, o.axis, whole)
            assert size is not None
            if last * o.ratio + self.kept(o, tile) < size:
                last = ceil((self.size - inner) / unit) * unit
        return last

    def _unit(self, gain: int) -> int:
        """Starts are multiples of this. Tiles that gain less than a stride cannot lie on strides:
        they are laid side by side, and the last one ends with the image.
        """
        return self.strides if gain >= self.strides else self.whole


def lay_grid(
    model: ModelGeometry,
    inputs: Sequence[TensorGeometry],
    sizes: Mapping[str, Mapping[str, int]],
    tile: Mapping[str, int],
    max_pixels: int | None,
    default_pixels: Mapping[int, int],
) -> tuple[tuple[GridAxis, ...], dict[Root, tuple[int, Fraction]]]:
    """The grid axes, and for each independent input axis its grid axis and pixel ratio."""
    groups = _groups(model, inputs, sizes)
    _check_references(model, inputs, sizes)
    if unknown := [a for a in tile if a not in {g.id for g in groups}]:
        have = ", ".join(dict.fromkeys(g.id for g in groups)) or "none"
        raise UsageError(
            f"A tile size was given for axis '{unknown[0]}'. This model can be tiled along: {have}."
        )
    chosen = _choose(groups, tile, max_pixels, default_pixels)
    grid = tuple(
        GridAxis(g.id, g.tensor, g.size, t, g.halo, g.gain(t), g.step(t), g.starts(t))
        for g, t in zip(groups, chosen, strict=True)
    )
    roots = {root: (i, r) for i, g in enumerate(groups) for root, r in g.roots.items()}
    return grid, roots


def _groups(
    model: ModelGeometry, inputs: Sequence[TensorGeometry], sizes: Mapping[str, Mapping[str, int]]
) -> list[_Group]:
    """Input axes that are cut in step, in the order of the inputs' axes."""
    gathered: list[list[Root]] = []
    for t in inputs:
        for a in t.axes:
            if isinstance(a.size, SizeReference) or a.kind in ("batch", "channel"):
                continue
            extent = sizes[t.id][a.id] * a.scale
            for roots in gathered:
                first = model.tensor(roots[0][0]).axis(roots[0][1])
                other = sizes[roots[0][0]][first.id] * first.scale
                same_id = (first.id, first.kind) == (a.id, a.kind)
                if same_id and abs(other - extent) <= 1e-6 * extent:
                    roots.append((t.id, a.id))
                    break
            else:
                gathered.append([(t.id, a.id)])
    return [_group(model, roots, sizes) for roots in gathered]


def _group(
    model: ModelGeometry, roots: list[Root], sizes: Mapping[str, Mapping[str, int]]
) -> _Group:
    """One group; led by an axis of fixed size, if any, because it decides."""
    axis_of = {root: model.tensor(root[0]).axis(root[1]) for root in roots}
    lead = next((r for r in roots if isinstance(axis_of[r].size, FixedSize)), roots[0])
    ratios = {r: scale_ratio(axis_of[lead].scale, axis_of[r].scale) for r in roots}
    outputs, open_ended = [], False
    for t in model.outputs:
        open_ended |= any(isinstance(a.size, DataDependentSize) for a in t.axes)
        for a in t.axes:
            root, ratio = model.referenced(t.id, a.id)
            if root in ratios:
                exact = isinstance(a.size, SizeReference) and a.size.up
                outputs.append(_Output(t.id, a.id, ratio * ratios[root], a.halo, exact))
    followers = [
        model.referenced(t.id, a.id)
        for t in model.inputs
        for a in t.axes
        if t.id in sizes and isinstance(a.size, SizeReference)
    ]
    every = [*ratios.values(), *(o.ratio for o in outputs)]
    every += [ratio * ratios[root] for root, ratio in followers if root in ratios]
    whole = lcm(*(r.denominator for r in every))
    # A start of n pixels is n * ratio in a follower, and must be whole steps of that one as well.
    steps = [(axis_of[r].tile_step, ratio) for r, ratio in ratios.items()]
    on_steps = [(Fraction(step) / ratio).numerator for step, ratio in steps]
    reached = {o.tensor for o in outputs}
    return _Group(
        model,
        axis_of[lead].id,
        lead[0],
        sizes[lead[0]][lead[1]],
        ratios,
        tuple(outputs),
        whole,
        lcm(whole, *on_steps),
        can_tile=axis_of[lead].can_tile and not open_ended and len(reached) == len(model.outputs),
    )


def _choose(
    groups: Sequence[_Group],
    tile: Mapping[str, int],
    max_pixels: int | None,
    default_pixels: Mapping[int, int],
) -> list[int]:
    """A tile size for each group."""
    chosen: dict[int, int] = {}
    free: list[tuple[int, int, int]] = []  # size that covers the image, size of the image, index
    for i, g in enumerate(groups):
        if g.id in tile:
            chosen[i] = _asked(g, tile[g.id])
        elif isinstance(g.rule, FixedSize):
            chosen[i] = _fixed(g, g.rule.size)
        else:
            cover = next((t for t in g.sizes_from(g.size) if t - 2 * g.halo >= g.size), None)
            if cover is None:
                raise InvalidPackageError(
                    source=f"input '{g.tensor}'",
                    why=f"no size of axis '{g.id}' ({g.rule}) fits all tensors and halos.",
                )
            if g.can_tile:
                free.append((cover, g.size, i))
            else:
                chosen[i] = cover
    tiled = len(groups) - sum(not g.can_tile for g in groups)
    budget = max_pixels or default_pixels.get(min(tiled, max(default_pixels)), 0)
    left = budget / prod(chosen[i] for i, g in enumerate(groups) if g.can_tile and i in chosen)
    for n, (cover, _, i) in enumerate(sorted(free), start=1):
        limit = floor(max(left, 1) ** (1 / (len(free) - n + 1)) + 1e-9)
        chosen[i] = cover if cover <= limit else _fewest(groups[i], limit)
        left /= chosen[i]
    for i, g in enumerate(groups):
        if not g.can_tile and g.size > chosen[i] - 2 * g.halo:
            raise ImageMismatchError(
                f"Input '{g.tensor}': axis '{g.id}' has {g.size} pixels, the model takes "
                f"{g.rule} and its result does not follow this axis, so the image cannot be cut "
                f"into tiles. Crop or rescale the image to {chosen[i] - 2 * g.halo} pixels."
            )
    return [chosen[i] for i in range(len(groups))]


def _fewest(g: _Group, limit: int) -> int:
    """As few tiles as sizes up to `limit` allow, and then the smallest such size."""
    sizes = list(takewhile(lambda t: t <= limit, g.sizes_from(1))) or [next(g.sizes_from(1))]
    fewest = g.count(sizes[-1])
    return next(t for t in sizes if g.count(t) == fewest)


def _fixed(g: _Group, size: int) -> int:
    if not g.allows(size):
        raise InvalidPackageError(
            source=f"input '{g.tensor}'",
            why=f"axis '{g.id}' is fixed to {size}, and the halo of {g.halo} on each side or the "
            "sizes of other tensors leave nothing of it.",
        )
    return size


def _asked(g: _Group, size: int) -> int:
    if g.allows(size):
        return size
    near = _around(g.sizes_from(1), size)
    raise UsageError(
        f"Input '{g.tensor}': axis '{g.id}' of the tile has {size} pixels, the model takes "
        f"{g.rule}{f' with a halo of {g.halo} on each side' if g.halo else ''}. "
        f"Nearest: {', '.join(map(str, near)) or 'none'}."
    )


def _around(sizes: Iterator[int], size: int) -> list[int]:
    """The last of growing `sizes` below `size` and the first above."""
    below: list[int] = []
    for s in sizes:
        if s > size:
            return [*below, s]
        below = [s]
    return below


def _check_references(
    model: ModelGeometry, inputs: Sequence[TensorGeometry], sizes: Mapping[str, Mapping[str, int]]
) -> None:
    """Inputs whose size follows another input must have just that size."""
    known = {(t, a): n for t, axes in sizes.items() for a, n in axes.items()}
    for t in inputs:
        for a in t.axes:
            if not isinstance(a.size, SizeReference):
                continue
            expected = model.size(t.id, a.id, known)
            if expected != sizes[t.id][a.id]:
                raise ImageMismatchError(
                    f"Input '{t.id}': axis '{a.id}' has {sizes[t.id][a.id]} pixels, it follows "
                    f"{a.size} and must have {expected}. Give images that belong together."
                )


def next_smaller(
    model: ModelGeometry,
    inputs: Sequence[TensorGeometry],
    sizes: Mapping[str, Mapping[str, int]],
    axis: GridAxis,
) -> int | None:
    """The tile size along `axis` that the model allows next to half of what it is.

    The nearest from below, else the smallest that is smaller at all; None where there is none, as
    on an axis of fixed size or one that may not be cut.
    """
    groups = _groups(model, inputs, sizes)
    group = next(g for g in groups if (g.tensor, g.id) == (axis.tensor, axis.id))
    if not group.can_tile:
        return None
    smaller = list(takewhile(lambda size: size < axis.tile, group.sizes_from(1)))
    below = [size for size in smaller if 2 * size <= axis.tile]
    return below[-1] if below else next(iter(smaller), None)
