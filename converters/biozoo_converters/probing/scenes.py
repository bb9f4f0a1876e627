"""Large inputs to look at through windows: what a network is shown when its context is measured.

Every scene is made of the sample's own values: as they lie (mirrored), shuffled, or with empty
stretches as between cells. `Lab` runs a network on windows of a scene and compares what overlaps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

from ..proof.agreement import rms_of
from ..proof.growing import mirrored
from .output_axes import OutputAxis
from .trials import Group, Sample, Trials

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["SCENES", "Answer", "Depths", "Lab", "Scene", "allowed", "off"]

#: As the sample lies, its values shuffled, with empty stretches; others repeat them with new draws.
SCENES = 3
Sizes = Mapping[str, int]
Scene = tuple["NDArray[Any]", ...]


@dataclass(frozen=True)
class Answer:
    """What a network gave for a window that starts at `start` and has `size` pixels per group."""

    start: Sizes
    size: Sizes
    outputs: tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Depths:
    """How two answers differ, by the distance from the nearest end of a window (0: at the end).

    Attributes
    ----------
    off, of
        Values that differ by more than is allowed, and all values there, per distance.
    error
        Largest difference per distance, as a part of the output's spread.
    mean
        The same on average.
    """

    off: NDArray[np.int64]
    of: NDArray[np.int64]
    error: NDArray[np.float64]
    mean: NDArray[np.float64]

    def least(self, per_million: float) -> int:
        """Pixels to leave out at each end so that the rest agrees; all where none agrees."""
        off, of = self.off[::-1].cumsum()[::-1], self.of[::-1].cumsum()[::-1]
        wrong = np.flatnonzero(off * 1e6 > per_million * of)
        return 0 if not wrong.size else int(wrong[-1]) + 1


@dataclass
class Lab:
    """A network whose sizes and outputs are known."""

    trials: Trials
    groups: tuple[Group, ...]
    outputs: tuple[tuple[OutputAxis, ...], ...]

    def group(self, group: str) -> Group:
        """The group of this id."""
        return next(g for g in self.groups if g.id == group)

    def scene(self, kind: int, sizes: Sizes, along: str = "", stretch: int = 0) -> Scene:
        """One array per input.

        Parameters
        ----------
        kind
            See `SCENES`.
        sizes
            Of the scene, per group.
        along
            A group: inputs that have no part in it show the sample as it lies.
        stretch
            Length of empty stretches along that group.
        """
        made = []
        for n, s in enumerate(self.trials.samples):
            here = [(g, m) for g in self.groups for m in g.members if m.tensor == s.id]
            own = kind if not along or any(g.id == along for g, _ in here) else 0
            array = s.array
            for g, m in here:
                array = _part(array, s.dims.index(m.axis), m.size(sizes[g.id]), own)
            if own % SCENES == 1:
                array = _shuffled(array, s, np.random.default_rng([own, n]))
            if own % SCENES == 2 and stretch:
                array = self._emptied(array, s, along, stretch)
            made.append(array)
        return tuple(made)

    def see(self, scene: Scene, start: Sizes, size: Sizes) -> Answer:
        """Run on a window of a scene; `start` is 0 where it says nothing."""
        cut = []
        for array, s in zip(scene, self.trials.samples, strict=True):
            index = [slice(None)] * array.ndim
            for g in self.groups:
                for m in g.members:
                    if m.tensor == s.id:
                        first = floor(start.get(g.id, 0) * m.ratio)
                        index[s.dims.index(m.axis)] = slice(first, first + m.size(size[g.id]))
            cut.append(np.ascontiguousarray(array[tuple(index)]))
        made = self.trials.run(cut)
        return Answer(dict(start), dict(size), tuple(made[: len(self.outputs)]))

    def joined(self, a: Scene, b: Scene, group: str, at: int) -> Scene:
        """`a` before pixel `at` of a group, `b` from there on."""
        g, made = self.group(group), []
        for x, y, s in zip(a, b, self.trials.samples, strict=True):
            for m in g.members:
                if m.tensor == s.id:
                    number = s.dims.index(m.axis)
                    cut = floor(at * m.ratio)
                    ends = x.take(range(cut), number), y.take(range(cut, y.shape[number]), number)
                    x = np.concatenate(ends, axis=number)
            made.append(np.ascontiguousarray(x))
        return tuple(made)

    def follows(self, output: int, group: str) -> int | None:
        """Number of the axis of an output that follows a group, None where none does."""
        axes = self.outputs[output]
        return next((i for i, a in enumerate(axes) if a.group == group), None)

    def channel(self, output: int) -> int | None:
        """Number of the channel axis of an output."""
        axes = self.outputs[output]
        return next((i for i, a in enumerate(axes) if a.id == "channel"), None)

    def depths(self, output: int, group: str, a: Answer, b: Answer) -> Depths:
        """Compare where two windows overlap, along the axis that follows a group."""
        number = self.follows(output, group)
        assert number is not None
        one, two, ends = list(a.outputs[output].shape), [], []
        cut_a, cut_b = [slice(None)] * len(one), [slice(None)] * len(one)
        for i, axis in enumerate(self.outputs[output]):
            if not axis.group:
                continue
            first = [floor(w.start.get(axis.group, 0) * axis.ratio) for w in (a, b)]
            last = [f + w.outputs[output].shape[i] for f, w in zip(first, (a, b), strict=True)]
            low, high = max(first), min(last)
            cut_a[i] = slice(low - first[0], high - first[0])
            cut_b[i] = slice(low - first[1], high - first[1])
            if i == number:
                ends, two = [first, last], [low, high]
        x, y = a.outputs[output][tuple(cut_a)], b.outputs[output][tuple(cut_b)]
        place = np.arange(two[0], two[1])
        far = np.full(place.size, place.size)
        if ends[0][0] != ends[0][1]:  # an end that both windows have is no difference
            far = np.minimum(far, place - max(e for e in ends[0]))
        if ends[1][0] != ends[1][1]:
            far = np.minimum(far, min(e for e in ends[1]) - 1 - place)
        wrong, error = off(y, x, self.channel(output))
        others = tuple(i for i in range(x.ndim) if i != number)
        size = int(far.max()) + 1
        of = np.bincount(far, minlength=size) * (x.size // place.size)
        count = np.bincount(far, weights=wrong.sum(axis=others), minlength=size)
        most, total = np.zeros(size), np.bincount(far, weights=error.sum(axis=others))
        np.maximum.at(most, far, error.max(axis=others))
        return Depths(count.astype(np.int64), of, most, total / np.maximum(of, 1))

    def _emptied(self, array: NDArray[Any], s: Sample, group: str, length: int) -> NDArray[Any]:
        for m in self.group(group).members:
            if m.tensor == s.id:
                number = s.dims.index(m.axis)
                every = max(1, floor(length * m.ratio))
                empty = np.arange(array.shape[number]) // every % 2 == 1
                shape = [1] * array.ndim
                shape[number] = -1
                low = np.quantile(s.array, 0.02, method="lower").astype(array.dtype)
                array = np.where(empty.reshape(shape), low, array)
        return array


def allowed(expected: NDArray[Any], channel: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """By how much each value may differ, and the spread (standard deviation) it belongs to.

    The tolerance of a proof (see `agreement`) with the mean of each channel taken off: an output
    that is 10 everywhere, plus or minus 0.01, is not equal to one that is 10 everywhere.
    """
    values = np.nan_to_num(expected.astype(np.float64), posinf=0.0, neginf=0.0)
    others = tuple(i for i in range(values.ndim) if i != channel)
    mean, spread = values.mean(axis=others, keepdims=True), values.std(axis=others, keepdims=True)
    rms = rms_of(values)
    least = np.maximum(1e-3 * np.minimum(1.0, spread), 1e-5 * spread)
    about = np.minimum(np.abs(values), np.abs(values - mean))
    return np.maximum(least + 1e-3 * about, 3e-6 * rms), np.maximum(spread, 1e-3 * rms)


def off(
    got: NDArray[Any], expected: NDArray[Any], channel: int | None
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Which values differ by more than is allowed, and all differences as parts of the spread."""
    may, spread = allowed(expected, channel)
    with np.errstate(invalid="ignore"):
        error = np.abs(got.astype(np.float64) - expected.astype(np.float64))
    same = (got == expected) | ((got != got) & (expected != expected))
    error = np.where(same, 0.0, np.where(np.isfinite(error), error, np.inf))
    return error > may, error / np.where(spread > 0, spread, 1.0)


def _part(array: NDArray[Any], number: int, size: int, kind: int) -> NDArray[Any]:
    """`size` pixels along an axis: the liveliest of eight places, or the whole mirrored."""
    own = array.shape[number]
    if size >= own:
        start = 0 if kind < SCENES else own // 3
        return array.take(mirrored(size, own, start=start), axis=number)
    places = np.unique(np.linspace(0, own - size, 8).astype(int))
    parts = [array.take(range(p, p + size), axis=number) for p in places]
    spread = [float(np.std(p, dtype=np.float64)) for p in parts]
    order = sorted(range(len(parts)), key=lambda i: -spread[i])
    return parts[order[0 if kind < SCENES else min(1, len(order) - 1)]]


def _shuffled(array: NDArray[Any], s: Sample, rng: np.random.Generator) -> NDArray[Any]:
    """The same values at other places, channels apart."""
    places = [i for i, d in enumerate(s.dims) if d not in ("batch", "channel")]
    if not places:
        return array
    flat = np.moveaxis(array, places, range(-len(places), 0))
    shape = flat.shape
    flat = flat.reshape(-1, int(np.prod(shape[-len(places) :])))
    flat = flat[:, rng.permutation(flat.shape[1])].reshape(shape)
    return np.moveaxis(flat, range(-len(places), 0), places)
