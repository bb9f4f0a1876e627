"""What was found of a network's context along one group of axes, from how windows differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import ceil, lcm

import numpy as np

from .scenes import Depths, Lab

__all__ = ["PER_MILLION", "Context", "context_of", "depths_of", "inside", "ratios", "resolved"]

#: Values that may differ between a tile and the whole, per million; as in a proof.
PER_MILLION = 100.0


@dataclass(frozen=True)
class Context:
    """What matters around a pixel, along one group of axes.

    Attributes
    ----------
    halo
        Input pixels to leave out at each end of a tile; a multiple of `unit`.
    unit
        Input pixels by which tiles may be moved and give the same.
    local
        Whether tiles with that halo give what the whole gives.
    field
        Per output that follows the group, input pixels to one side that matter; None: all.
    error, mean
        The largest and the average difference left between tiles and whole, in parts of the
        output's spread.
    seen
        Up to how many pixels to one side could be seen.
    """

    halo: int
    unit: int
    local: bool
    field: Mapping[int, int | None]
    error: float
    mean: float
    seen: int


def ratios(lab: Lab, group: str) -> int:
    """A multiple of this moves every tensor by whole pixels."""
    every = [a.ratio.denominator for axes in lab.outputs for a in axes if a.group == group]
    return lcm(*every, *(m.ratio.denominator for m in lab.group(group).members))


def resolved(edges: Mapping[int, Depths]) -> bool:
    """Whether a good part of the middle agrees."""
    return all(d.least(PER_MILLION) <= 0.8 * d.of.size for d in edges.values())


def inside(edges: Mapping[int, Depths]) -> float:
    """The average difference far from the ends."""
    return max(float(d.mean[d.mean.size // 2 :].mean()) for d in edges.values())


def context_of(
    lab: Lab,
    group: str,
    found: list[dict[int, Depths]],
    unit: int,
    local: bool,
    field: Mapping[int, int | None],
    seen: int,
) -> Context:
    """Sum up what the scenes showed, one mapping of outputs each.

    Parameters
    ----------
    found
        Noise, the sample, and the sample with empty stretches.
    unit, local, field, seen
        As in `Context`.
    """
    error, mean = 0.0, 0.0
    if local:
        halo = max(depths_of(lab, group, found).values())
    else:  # empty stretches hide where an edge ends
        halo = max(depths_of(lab, group, found[:2], plateau).values())
    halo = ceil(halo / unit) * unit
    for edges in found:
        for n, d in edges.items():
            number = lab.follows(n, group)
            assert number is not None
            first = min(int(halo * lab.outputs[n][number].ratio), d.of.size - 1)
            error = max(error, float(d.error[first:].max(initial=0.0)))
            mean = max(mean, float(np.average(d.mean[first:], weights=d.of[first:] + 1e-9)))
    return Context(halo, unit, local, field, error, mean, seen)


def depths_of(
    lab: Lab,
    group: str,
    found: list[dict[int, Depths]],
    of: Callable[[Depths], int] = lambda d: d.least(PER_MILLION),
) -> dict[int, int]:
    """Per output, input pixels from a window's end to where it agrees."""
    made: dict[int, int] = {}
    for edges in found:
        for n, d in edges.items():
            number = lab.follows(n, group)
            assert number is not None
            depth = ceil(of(d) / lab.outputs[n][number].ratio)
            made[n] = max(depth, made.get(n, 0))
    return made


def plateau(d: Depths) -> int:
    """Where a difference that never ends has come down to what it is further in.

    Averages over long stretches are compared, as single lines go up and down with the image; no
    more than a quarter of the distance that could be seen is worth its cost.
    """
    most = d.mean.size // 4
    if not most:
        return 0
    deep = float(d.mean[most:].mean())
    tails = [float(d.mean[h:].mean()) for h in range(most)]
    return min((h for h, t in enumerate(tails) if t <= 1.1 * deep), default=most)
