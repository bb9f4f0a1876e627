"""What the axes of the outputs are: which follows which input axis, and what the others are called.

An axis whose size follows an input's is found by running at other sizes. Where all sizes are fixed
it is found by changing one end of the input and looking for the axis along which the change stays
at that end. What is left is the batch, the channel, or an index.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.axes import parse_axes
from biozoo.errors import NetworkError
from biozoo_runners.sizes import FixedSize, ParameterizedSize

from .size_rules import Found
from .trials import Group, Trials, kind_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OutputAxis", "name_outputs", "names_of"]


@dataclass(frozen=True)
class OutputAxis:
    """One axis of an output: `size` pixels, or ``floor(group's size * ratio) + offset``."""

    id: str
    size: int
    group: str = ""
    ratio: Fraction = Fraction(1)
    offset: int = 0

    def at(self, sizes: Mapping[str, int]) -> int:
        """Its pixels where the groups have these sizes."""
        return floor(sizes[self.group] * self.ratio) + self.offset if self.group else self.size

    @property
    def shift(self) -> Fraction:
        """Input pixels before the one that the first pixel here belongs to (valid convolutions)."""
        return Fraction(-self.offset, 2) / self.ratio if self.group else Fraction(0)


def names_of(count: int, given: Sequence[str] | None, network: str) -> tuple[str, ...]:
    """Ids of the outputs.

    Raises
    ------
    NetworkError
        More ids than outputs.
    """
    if given is None:
        return tuple(f"output{i or ''}" for i in range(count))
    if len(given) > count:
        raise NetworkError(
            f"{network} has {count} output(s), {len(given)} were named: {', '.join(given)}. "
            "Name one per output, in order; outputs at the end may be left out."
        )
    return tuple(given)


def name_outputs(
    trials: Trials,
    found: Found,
    ids: Sequence[str],
    told: Mapping[str, str | Sequence[str]],
    batch: Sequence[int | None],
) -> tuple[tuple[tuple[OutputAxis, ...], ...], tuple[str, ...]]:
    """The axes of every output, and ids of groups whose sizes must be fixed after all.

    Parameters
    ----------
    trials, found
        The network and the rules of its inputs.
    ids
        Of the outputs.
    told
        Axis ids that the author gave, per output.
    batch
        Per output, the number of its batch axis, None where it has none.

    Raises
    ------
    NetworkError
        An output without axes, or one that does not have the axes that were told.
    """
    here = trials.shapes(found.groups, found.base)
    assert here is not None
    mixed: set[str] = set()
    follows: list[dict[int, tuple[Group, Fraction]]] = [{} for _ in ids]
    for g in found.free:
        rule = found.rules[g.id]
        assert isinstance(rule, ParameterizedSize)
        there = trials.shapes(found.groups, {**found.base, g.id: found.base[g.id] + rule.step})
        assert there is not None
        for axes, a, b in zip(follows, here, there, strict=False):
            for i, (m, n) in enumerate(zip(a, b, strict=True)):
                if m == n:
                    continue
                if i in axes or any(o is g for o, _ in axes.values()):
                    mixed |= {g.id, *([axes[i][0].id] if i in axes else [])}
                axes[i] = (g, Fraction(n - m, rule.step))
    if mixed:
        return (), tuple(sorted(mixed))
    stuck = [g for g in found.groups if isinstance(found.rules[g.id], FixedSize)]
    local = _local(trials, found, stuck, len(ids)) if stuck else [{} for _ in ids]
    made = []
    for n, (output, shape) in enumerate(zip(ids, here, strict=False)):
        known = {i: (g.axis, g, r) for i, (g, r) in follows[n].items()}
        known |= {i: (g.axis, g, r) for i, (g, r) in local[n].items() if i not in known}
        names = {i: name for i, (name, _, _) in known.items()}
        if (number := batch[n]) is not None:
            names[number] = "batch"
        called = _named(trials, output, shape, names, told.get(output))
        made.append(
            tuple(_axis(called[i], size, found.base, known.get(i)) for i, size in enumerate(shape))
        )
    return tuple(made), ()


def _axis(
    axis: str, size: int, base: Mapping[str, int], known: tuple[str, Group, Fraction] | None
) -> OutputAxis:
    if known is None or kind_of(axis) in ("batch", "channel"):
        return OutputAxis(axis, size)
    _, g, ratio = known
    return OutputAxis(axis, size, g.id, ratio, size - floor(base[g.id] * ratio))


def _named(
    trials: Trials,
    output: str,
    shape: Sequence[int],
    known: Mapping[int, str],
    told: str | Sequence[str] | None,
) -> tuple[str, ...]:
    """The id of every axis of one output."""
    if not shape:
        raise NetworkError(
            f"Output '{output}' of {trials.network.name} is one number without axes. A package's "
            "outputs have at least one axis: give it one, for example `x[None]`."
        )
    if told is not None:
        axes = parse_axes(told)
        if len(axes) != len(shape):
            raise NetworkError(
                f"Output '{output}' of {trials.network.name} has {len(shape)} axes, shape "
                f"{tuple(shape)}; {len(axes)} were named: {', '.join(axes)}. Name all of them."
            )
        return axes
    left = [i for i in range(len(shape)) if i not in known]
    named = dict(known)
    taken = set(known.values())
    same = next((s for s in trials.samples if len(s.dims) == len(shape)), None)
    own = {} if same is None else dict(enumerate(same.array.shape))
    if same is not None and len(left) > 1:  # as many axes as an input: each keeps its place
        for i in left:
            if same.dims[i] not in taken and (shape[i] in (1, own[i]) or same.dims[i] == "channel"):
                named[i] = same.dims[i]
                taken.add(same.dims[i])
    left = [i for i in left if i not in named]
    if left and "channel" not in taken:
        place = left[-1]  # an index comes before the channels, as in (batch, token, channel)
        named[place] = "channel"
        left.remove(place)
    for n, i in enumerate(left):
        named[i] = f"index{n or ''}"
    return tuple(named[i] for i in range(len(shape)))


# ------------------------------------------------------------------------------------ fixed sizes


def _local(
    trials: Trials, found: Found, stuck: Sequence[Group], count: int
) -> list[dict[int, tuple[Group, Fraction]]]:
    """Per output, axes along which it answers where an input of fixed size was changed."""
    shapes = trials.lengths(found.groups, found.base)
    arrays = trials.grown(shapes)
    here = trials.run(arrays)
    follows: list[dict[int, tuple[Group, Fraction]]] = [{} for _ in range(count)]
    leans: list[list[dict[int, float]]] = [[] for _ in range(count)]  # output, group, axis
    for g in stuck:
        ends = [trials.run(_changed(trials, arrays, g, end)) for end in (0, 1)]
        for n in range(count):
            first, last = ([_middle(here[n], e[n], i) for i in range(here[n].ndim)] for e in ends)
            gone = enumerate(zip(first, last, strict=True))
            leans[n].append({i: b - a for i, (a, b) in gone})
    for n in range(count):
        shape = here[n].shape
        placed = _placed(trials, found, stuck, shape, leans[n])
        for g, lean in zip(stuck, leans[n], strict=True):
            size = found.base[g.id]
            fit = {i: v for i, v in lean.items() if shape[i] > 3 and _plain(shape[i], size)}
            free = {i: v for i, v in fit.items() if i not in follows[n] and v > 0.3}
            best = placed.get(g.id, max(free, key=lambda i: free[i]) if free else None)
            if best is not None:
                follows[n][best] = (g, Fraction(shape[best], size))
    return follows


def _plain(own: int, size: int) -> bool:
    """Whether an output's size is that of an input enlarged or reduced by a simple factor."""
    ratio = Fraction(own, size)
    return min(ratio.as_integer_ratio()) == 1 or ratio.denominator <= 4


def _placed(
    trials: Trials,
    found: Found,
    stuck: Sequence[Group],
    shape: Sequence[int],
    leans: Sequence[Mapping[int, float]],
) -> dict[str, int]:
    """Axes of an output that has as many as an input: all at their places, or none.

    A network that looks everywhere moves its answer only a little, so less is asked of it where
    every axis stands where it was, in one proportion.
    """
    for s in trials.samples:
        at = {g.id: s.number(m.axis) for g in stuck for m in g.members if m.tensor == s.id}
        numbers = [n for n in at.values() if n is not None]
        if len(s.dims) != len(shape) or len(numbers) < len(stuck):
            continue
        ratios = {Fraction(shape[n], found.base[g]) for g, n in at.items() if n is not None}
        fits = all(
            n is not None and shape[n] > 1 and _plain(shape[n], found.base[g])
            for g, n in at.items()
        )
        moved = all(lean[n] > 0.02 for lean, n in zip(leans, numbers, strict=True))
        if fits and len(ratios) == 1 and (moved or ratios == {Fraction(1)}):
            return {g: n for g, n in at.items() if n is not None}
    return {}


def _changed(
    trials: Trials, arrays: Sequence[NDArray[Any]], g: Group, end: int
) -> list[NDArray[Any]]:
    """The arrays with the first or last quarter along a group's axes turned around."""
    made = list(arrays)
    for k, s in enumerate(trials.samples):
        for m in g.members:
            number = s.number(m.axis) if m.tensor == s.id else None
            if number is None:
                continue
            size = made[k].shape[number]
            part = max(1, size // 4)
            cut = slice(0, part) if end == 0 else slice(size - part, size)
            index = [slice(None)] * made[k].ndim
            index[number] = cut
            low, high = made[k].min(), made[k].max()
            made[k] = made[k].copy()
            inside = made[k][tuple(index)]
            middle = low + (high - low) // 2 if inside.dtype.kind in "iu" else (low + high) / 2
            made[k][tuple(index)] = np.where(inside < middle, high, low).astype(inside.dtype)
    return made


def _middle(before: NDArray[Any], after: NDArray[Any], axis: int) -> float:
    """Where along an axis an output changed, on average: 0 its start, 1 its end."""
    if before.shape != after.shape:
        return 0.5
    with np.errstate(invalid="ignore"):
        change = np.nan_to_num(np.abs(after.astype(np.float64) - before.astype(np.float64)))
    line = change.sum(axis=tuple(i for i in range(change.ndim) if i != axis))
    if not line.sum():
        return 0.5
    return float((line * np.linspace(0, 1, line.size)).sum() / line.sum())
