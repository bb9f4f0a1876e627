"""How far a network looks, and how much of a tile's edge must be cropped: measured, not computed.

What a tile sees is what decides: the network runs on a large input and on a window of it, and the
*halo* is how far from the window's edge the two results differ. Layers that pad with zeros make
that different from the *receptive field*, which is how far a changed pixel is felt; it is measured
too, by changing all pixels beyond a line.

A network with strides answers alike only where it is moved by whole steps, so windows start at
multiples of a *unit*, and the halo is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil, lcm, prod

import numpy as np

from biozoo_runners.sizes import FixedSize, ParameterizedSize

from .context import Context, context_of, inside, ratios, resolved
from .fixed_context import measure_fixed
from .scenes import Answer, Depths, Lab, Scene, off
from .size_rules import Found

__all__ = ["allowed_size", "measure"]

#: Pixels of one run while measuring, by number of space and time axes.
MOST = {1: 2**16, 2: 2**17, 3: 2**18}
#: What the other axes have at least, by number of axes: enough for every layer to see pixels.
THIN = {1: 1, 2: 32, 3: 16}


def measure(lab: Lab, found: Found, group: str) -> Context | None:
    """Measure along one group; None where no output follows it."""
    followers = [n for n in range(len(lab.outputs)) if lab.follows(n, group) is not None]
    if not followers:
        return None
    rule = found.rules[group]
    if isinstance(rule, FixedSize):
        return measure_fixed(lab, found, group, followers, rule.size)
    return _free(lab, found, group, followers, rule)


# -------------------------------------------------------------------------------------- free sizes


def _free(
    lab: Lab, found: Found, group: str, followers: list[int], rule: ParameterizedSize
) -> Context:
    count = len(found.groups)
    thin = {g.id: _thin(found, g.id, count) for g in found.groups if g.id != group}
    grid = lcm(rule.step, ratios(lab, group))
    most = MOST.get(count, 2**18) // max(1, prod(thin.values()))
    lost = max(ceil(2 * a.shift) for o in lab.outputs for a in o if a.group == group)
    tile = allowed_size(rule, max(96 if count < 3 else 40, 4 * grid) + max(0, lost))
    view = _View(lab, group, thin, followers, rule, tile)
    insides: list[float] = []
    while True:
        scenes = [view.scene(1)]
        unit, local, seen = _unit(view, scenes[0], grid)
        every = [seen]
        for kind in (0, 2):
            if local:
                scenes.append(view.scene(kind))
                unit, edges = _larger(view, scenes[-1], unit, lcm(grid, 64))
                every.append(edges)
                local = resolved(edges)
        insides.append(inside(seen))
        larger = allowed_size(rule, 2 * view.tile)
        endless = len(insides) > 2 and insides[-1] > insides[0] / 2
        if local or endless or allowed_size(rule, 2 * larger) > most:
            break
        view = replace(view, tile=larger)
    if not local:
        unit = _stride(view, scenes[0], grid)
        scenes = [scenes[0], view.scene(0), view.scene(2)]
        every = [view.edges(s, view.start(unit)) for s in scenes]
    reach = {n: _reach(view, n, scenes, unit) for n in followers}
    while local and None in reach.values() and 2 * view.whole <= most:
        view = replace(view, tile=allowed_size(rule, 2 * view.tile))
        scenes = [view.scene(kind) for kind in (1, 0, 2)]
        reach = {n: _reach(view, n, scenes, unit) for n in followers}
    return context_of(lab, group, every, unit, local, reach, view.whole // 2)


@dataclass(frozen=True)
class _View:
    """A window of `tile` pixels in a scene twice as long, the other axes thin."""

    lab: Lab
    group: str
    thin: Mapping[str, int]
    followers: list[int]
    rule: ParameterizedSize
    tile: int

    @property
    def whole(self) -> int:
        return allowed_size(self.rule, 2 * self.tile)

    def scene(self, kind: int) -> tuple[Scene, Answer]:
        """A scene, and the network's answer to the whole of it."""
        sizes = {**self.thin, self.group: self.whole}
        scene = self.lab.scene(kind, sizes, self.group, max(1, self.tile * 3 // 8))
        return scene, self.lab.see(scene, {}, sizes)

    def start(self, unit: int) -> int:
        """Where a window in the middle starts: an odd number of units, as an even one would hide
        a larger stride.
        """
        units = max(1, (self.whole - self.tile) // 2 // unit)
        return (units - (units % 2 == 0)) * unit

    def edges(self, scene: tuple[Scene, Answer], start: int) -> dict[int, Depths]:
        """How the window at `start` differs from the whole, per output."""
        sizes = {**self.thin, self.group: self.tile}
        near = self.lab.see(scene[0], {self.group: start}, sizes)
        return {n: self.lab.depths(n, self.group, scene[1], near) for n in self.followers}


def _unit(
    view: _View, scene: tuple[Scene, Answer], grid: int
) -> tuple[int, bool, dict[int, Depths]]:
    """The smallest move after which a network answers the same, and whether it really does.

    It is a multiple of `grid`, which the steps of the sizes mostly tell; a network that pads by
    itself takes any size and still has strides.
    """
    seen = view.edges(scene, view.start(grid))
    if resolved(seen):
        return grid, True, seen
    unit = lcm(grid, 64)
    at = view.start(unit)
    if unit == grid or at + unit + view.tile > view.whole:
        return grid, False, seen
    best = view.edges(scene, at)
    if not resolved(best):
        return grid, False, best
    while unit % (2 * grid) == 0 and resolved(tried := view.edges(scene, at + unit // 2)):
        unit, best = unit // 2, tried
    return unit, True, best


def _larger(
    view: _View, scene: tuple[Scene, Answer], unit: int, most: int
) -> tuple[int, dict[int, Depths]]:
    """A unit found in one scene, doubled until it holds in another."""
    edges = view.edges(scene, view.start(unit))
    u = unit
    while not resolved(edges) and 2 * u <= most and view.start(2 * u) + view.tile <= view.whole:
        u *= 2
        edges = view.edges(scene, view.start(u))
    return (u if resolved(edges) else unit), edges


def _stride(view: _View, scene: tuple[Scene, Answer], grid: int) -> int:
    """The unit of a network that never answers the same: moves between windows side by side that
    make it answer clearly worse are off its strides.
    """
    unit = lcm(grid, 64)
    at = view.start(unit)
    if unit == grid or at + unit + view.tile > view.whole:
        return grid
    best = inside(view.edges(scene, at))
    if inside(view.edges(scene, at + grid)) < 1.4 * best:
        return grid
    while unit % (2 * grid) == 0 and inside(view.edges(scene, at + unit // 2)) < 1.4 * best:
        unit //= 2
    return unit


def _reach(view: _View, output: int, wholes: list[tuple[Scene, Answer]], unit: int) -> int | None:
    """Input pixels to one side that an output pixel depends on; None where that has no end."""
    lab, group, whole = view.lab, view.group, view.whole
    number = lab.follows(output, group)
    assert number is not None
    axis = lab.outputs[output][number]
    pairs = [(wholes[1], wholes[0]), (wholes[0], wholes[-1])]
    phases = dict.fromkeys((0, unit // 2, unit - 1))
    if len(lab.groups) > 2:  # in 3D every run counts
        pairs, phases = pairs[:1], dict.fromkeys((0, unit - 1))
    furthest = 0
    for (a, answer_a), (b, answer_b) in pairs:
        for extra in phases:
            at = whole // 2 + extra
            joined = lab.see(lab.joined(a, b, group, at), {}, {**view.thin, group: whole})
            got = joined.outputs[output]
            others = tuple(i for i in range(got.ndim) if i != number)
            first = [(j / axis.ratio) + axis.shift for j in range(got.shape[number])]
            wide = 1 / axis.ratio
            for answer, before in ((answer_a, True), (answer_b, False)):
                wrong, _ = off(got, answer.outputs[output], lab.channel(output))
                lines = np.flatnonzero(wrong.any(axis=others))
                for j in (lines[:1] if before else lines[-1:]).tolist():
                    gap = at - (first[j] + wide) + 1 if before else first[j] - (at - 1)
                    furthest = max(furthest, ceil(gap))
    edge = whole // 2 - unit - ceil(axis.shift)
    return None if furthest >= edge - max(2, whole // 64) else furthest


def _thin(found: Found, group: str, count: int) -> int:
    """A small size for an axis that is not looked at."""
    rule = found.rules[group]
    if isinstance(rule, FixedSize):
        return rule.size
    return allowed_size(rule, max(THIN.get(count, 8), 2 * rule.step if count < 3 else rule.step))


def allowed_size(rule: FixedSize | ParameterizedSize, least: int) -> int:
    """The smallest allowed size of at least `least`."""
    if isinstance(rule, FixedSize):
        return rule.size
    return rule.min + max(0, ceil((least - rule.min) / rule.step)) * rule.step
