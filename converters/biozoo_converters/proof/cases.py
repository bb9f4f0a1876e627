"""Which inputs a conversion is tried with.

Shapes follow the description: the least size, one step more, each free axis long while the others
are small, an unequal pair of small ones, the sample's own size and a larger one; odd and even
numbers of steps, one image and a batch. Inputs are the real one (its middle, or grown by mirroring)
and random ones (see `inputs`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from math import ceil, prod

from biozoo_runners.sizes import (
    FixedSize,
    ModelGeometry,
    ParameterizedSize,
    Root,
    SizeReference,
    scale_ratio,
)

from .inputs import Trial

__all__ = ["FreeAxis", "dimensions", "free_axes", "pixels_of", "plan_trials", "shapes_for"]

#: Pixels of one case, of the sample's own and larger cases, of all cases together, and along one
#: long axis, by number of axes that are neither batch nor channel. A U-Net of 32 features takes
#: about a second for 2**18 pixels on two cores.
NORMAL = {1: 2**14, 2: 2**16, 3: 2**16}
LARGE = {1: 2**16, 2: 2**18, 3: 2**18}
TOTAL = {1: 2**18, 2: 5 * 2**18, 3: 3 * 2**18}
LONG = {1: 2**14, 2: 1024, 3: 256}
#: Size of the other axes beside a long one.
BASE = {1: 64, 2: 32, 3: 16}
LEAST_SHAPES = 4


# ----------------------------------------------------------------------------------------- shapes


@dataclass(frozen=True)
class FreeAxis:
    """Input axes of free size that vary together; sizes are those of the leading one."""

    model: ModelGeometry
    lead: Root
    members: Mapping[Root, Fraction] = field(default_factory=dict)
    """pixels per pixel of the leading axis"""

    @property
    def id(self) -> str:
        """Of the axis."""
        return self.lead[1]

    @property
    def rule(self) -> ParameterizedSize:
        """Of the leading axis."""
        size = self.model.tensor(self.lead[0]).axis(self.lead[1]).size
        assert isinstance(size, ParameterizedSize)
        return size

    def allows(self, size: int) -> bool:
        """Whether every member may be so large."""
        for (tensor, axis), ratio in self.members.items():
            own, rule = size * ratio, self.model.tensor(tensor).axis(axis).size
            assert isinstance(rule, ParameterizedSize)
            if own.denominator != 1 or not rule.allows(int(own)):
                return False
        return all(
            (self._size(t.id, a.id, size) or 1) > 0
            for t in self.model.outputs
            for a in t.axes
            if self.model.referenced(t.id, a.id)[0] in self.members
        )

    def sizes(self, least: int = 1) -> Iterator[int]:
        """Allowed sizes of at least `least`, growing; a search of 4096 steps."""
        first = max(0, ceil((least - self.rule.min) / self.rule.step))
        for n in range(first, first + 4096):
            if self.allows(size := self.rule.min + n * self.rule.step):
                yield size

    def at_least(self, size: int) -> int:
        """The first allowed size from `size` on."""
        return next(self.sizes(size), self.rule.min)

    def at_most(self, size: int, parity: int | None = None) -> int:
        """The largest allowed size up to `size`, with an odd (1) or even (0) number of steps."""
        for n in range(max(0, (size - self.rule.min) // self.rule.step), 0, -1):
            found = self.rule.min + n * self.rule.step
            if parity in (None, n % 2) and self.allows(found):
                return found
        return self.at_least(self.rule.min)

    def _size(self, tensor: str, axis: str, size: int) -> int | None:
        roots = {root: int(size * ratio) for root, ratio in self.members.items()}
        return self.model.size(tensor, axis, roots)


def free_axes(model: ModelGeometry, shapes: Mapping[str, Sequence[int]]) -> tuple[FreeAxis, ...]:
    """The free axes of the given inputs; those of one id and one extent vary together, as in a run.

    Parameters
    ----------
    shapes
        Of the sample, by input tensor id.
    """
    found: list[tuple[float, Root, dict[Root, Fraction]]] = []
    for t in model.inputs:
        if t.id not in shapes:
            continue
        for a, size in zip(t.axes, shapes[t.id], strict=True):
            if not isinstance(a.size, ParameterizedSize):
                continue
            extent = size * a.scale
            for other, lead, members in found:
                first = model.tensor(lead[0]).axis(lead[1])
                if (first.id, first.kind) == (a.id, a.kind) and abs(
                    other - extent
                ) <= 1e-6 * extent:
                    members[t.id, a.id] = scale_ratio(first.scale, a.scale)
                    break
            else:
                found.append((extent, (t.id, a.id), {(t.id, a.id): Fraction(1)}))
    return tuple(FreeAxis(model, lead, members) for _, lead, members in found)


def plan_trials(
    model: ModelGeometry, shapes: Mapping[str, Sequence[int]], *, batch: bool = False
) -> tuple[Trial, ...]:
    """The inputs to try, the sample's own size first.

    Parameters
    ----------
    shapes
        Of the sample, by input tensor id; the inputs that are given.
    batch
        Whether the batch axis is free: then two and three images at once, too.
    """
    axes = free_axes(model, shapes)
    planned = list(_fixed(axes) if not axes else _free(model, shapes, axes))
    trials: list[Trial] = []
    for seed, (sizes, kind, own) in enumerate(planned, start=1):
        made = shapes_for(model, shapes, axes, sizes, 1)
        trials.append(_trial(made, kind, seed, own=own))
    if batch:
        few = sorted((s for s, _, _ in planned), key=lambda s: _pixels(model, shapes, axes, s))
        cheap = _pixels(model, shapes, axes, few[0]) <= LARGE[dimensions(model)]
        pairs = [(2, few[min(1, len(few) - 1)]), (3, few[0])] if cheap else [(2, few[0])]
        for count, sizes in pairs:
            made = shapes_for(model, shapes, axes, sizes, count)
            trials.append(_trial(made, "like", len(trials) + 1))
    return tuple(trials)


_Sizes = tuple[int, ...]
"""of the free axes"""


def _trial(shapes: Mapping[str, tuple[int, ...]], kind: str, seed: int, own: bool = False) -> Trial:
    if kind == "real":
        return Trial(shapes, "real", seed, own=own)
    return Trial(shapes, "random", seed, "normal" if kind == "normal" else "like", own=own)


def _fixed(axes: Sequence[FreeAxis]) -> Iterator[tuple[_Sizes, str, bool]]:
    """One shape, so different inputs."""
    for kind in ("real", "like", "normal", "like"):
        yield (), kind, True


def _free(
    model: ModelGeometry, shapes: Mapping[str, Sequence[int]], axes: Sequence[FreeAxis]
) -> Iterator[tuple[_Sizes, str, bool]]:
    """Shapes in order of importance, as many as the limits of pixels allow and at least four."""

    def pixels(sizes: _Sizes) -> int:
        return _pixels(model, shapes, axes, sizes)

    dims = dimensions(model)
    normal, large, total = NORMAL[dims], LARGE[dims], TOTAL[dims]
    sample = tuple(shapes[a.lead[0]][_index(model, a.lead)] for a in axes)
    own = tuple(a.at_most(s) for a, s in zip(axes, sample, strict=True))
    while pixels(own) > large:
        smaller = tuple(a.at_most(s * 3 // 4) for a, s in zip(axes, own, strict=True))
        if smaller == own:
            break
        own = smaller
    few = [tuple(islice(a.sizes(), 5)) or (a.rule.min,) for a in axes]
    least, more = (tuple(f[min(n, len(f) - 1)] for f in few) for n in (0, 1))
    base = tuple(a.at_most(max(BASE[dims], a.rule.min + 2 * a.rule.step), 0) for a in axes)
    if pixels(base) > normal:
        base = least
    wanted: list[tuple[_Sizes, str, bool]] = [(own, "real", True), (least, "like", True)]
    for i, a in enumerate(axes):  # one axis long, the others small
        want = max(LONG[dims], sample[i] * 5 // 4)
        beside = base if want * (pixels(base) // base[i]) <= normal else least
        limit = max(normal // max(1, pixels(beside) // beside[i]), 1)
        long = a.at_most(min(want, limit), 1)
        if long <= beside[i]:
            long = more[i]
        # Plain noise among what is needed: a like input may be nowhere negative.
        kind = "real" if i % 2 == 0 else "normal"
        wanted.append(((*beside[:i], long, *beside[i + 1 :]), kind, True))
    unequal = tuple(f[min(3 - i % 2, len(f) - 1)] for i, f in enumerate(few))
    if len(axes) == 1:
        wanted.append((more, "normal", True))
    wanted += [(more, "normal", False), (unequal, "like", False)]
    side = round((normal * prod(own) / pixels(own)) ** (1 / len(axes)))
    larger = tuple(a.at_most(max(s * 5 // 4, side), 1) for a, s in zip(axes, own, strict=True))
    if pixels(larger) <= 2 * large:
        wanted += [(larger, "like", False), (own, "normal", False), (larger, "real", False)]
    # Only where the sizes above fall together.
    spare = [(tuple(f[min(n, len(f) - 1)] for f in few), "real", False) for n in (2, 3, 4)]
    spent = 0
    seen: dict[_Sizes, list[str]] = {}
    for n, (sizes, kind, needed) in enumerate((*wanted, *spare)):
        enough = len(seen) >= LEAST_SHAPES
        if sizes in seen and (needed or kind in seen[sizes]):
            continue
        if not needed and spent + pixels(sizes) > total and (enough or sizes in seen):
            continue
        if n >= len(wanted) and enough:
            break
        seen.setdefault(sizes, []).append(kind)
        spent += pixels(sizes)
        yield sizes, kind, sizes == own


def dimensions(model: ModelGeometry) -> int:
    """Axes of the first input that are neither batch nor channel nor always 1, from 1 to 3."""
    places = [
        a
        for a in model.inputs[0].axes
        if a.kind not in ("batch", "channel") and a.size != FixedSize(1)
    ]
    return min(max(len(places), 1), max(NORMAL))


def _index(model: ModelGeometry, root: Root) -> int:
    return model.tensor(root[0]).dims.index(root[1])


def _pixels(
    model: ModelGeometry,
    shapes: Mapping[str, Sequence[int]],
    axes: Sequence[FreeAxis],
    sizes: _Sizes,
) -> int:
    """Pixels of the largest input in one channel."""
    made = shapes_for(model, shapes, axes, sizes, 1)
    return max(pixels_of(model, i, s) for i, s in made.items())


def pixels_of(model: ModelGeometry, tensor: str, shape: Sequence[int]) -> int:
    """Pixels in one channel, all images of a batch counted."""
    kinds = [a.kind for a in model.tensor(tensor).axes]
    return prod(n for n, kind in zip(shape, kinds, strict=True) if kind != "channel")


def shapes_for(
    model: ModelGeometry,
    shapes: Mapping[str, Sequence[int]],
    axes: Sequence[FreeAxis],
    sizes: _Sizes,
    batch: int,
) -> dict[str, tuple[int, ...]]:
    """Shapes of all given inputs, from the sizes of the free axes."""
    roots = {
        root: int(size * ratio)
        for a, size in zip(axes, sizes, strict=True)
        for root, ratio in a.members.items()
    }
    made = {}
    for t in model.inputs:
        if t.id not in shapes:
            continue
        shape = []
        for a, given in zip(t.axes, shapes[t.id], strict=True):
            known = None
            if a.kind == "batch":
                known = batch
            elif isinstance(a.size, FixedSize | ParameterizedSize | SizeReference):
                known = model.size(t.id, a.id, roots)
            shape.append(given if known is None else known)
        made[t.id] = tuple(shape)
    return made
