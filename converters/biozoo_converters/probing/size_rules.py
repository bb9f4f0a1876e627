"""The sizes that a network takes: fixed, or min + n * step, found by running it.

A size counts as allowed only where every output's size is an exact multiple of it, plus a constant:
a network that takes 65 pixels and gives 64 has lost one, and 65 is off its step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, prod

from biozoo.errors import NetworkError
from biozoo_runners.sizes import FixedSize, ParameterizedSize

from .trials import Group, Shapes, Trials

__all__ = ["Found", "Rule", "find_rules"]

Rule = FixedSize | ParameterizedSize

#: Steps are told apart over at least this many pixels: outputs that are cut to a multiple of 64
#: look constant over fewer.
SPAN = 65
_POWERS = (1, 2, 4, 8, 16, 32, 64, 128)
#: Multiples of 3, 5, 7, ... that are reduced to the step; 14, 24, 28 are windows and patches of
#: transformers.
_OTHERS = (48, 56, 40, 96, 112, 80, 72, 36, 60, 44, 52, 100, 224, 192, 160)
_PRIMES = (2, 3, 5, 7, 11, 13)
#: Sizes tried for all axes at once, by number of space and time axes.
_FIRST = {0: (), 1: (256, 64, 1024), 2: (64, 128, 256), 3: (32, 64)}
_LATER = (224, 512, 96, 128, 256, 384, 518, 1024, 48, 32, 16, 192, 160, 320, 448, 336, 299, 240, 28)
_MOST = {1: 2**16, 2: 2**20, 3: 2**20}
"""Pixels of a guessed size; the sample's own size is always tried."""


@dataclass(frozen=True)
class Found:
    """What was found out of the input axes.

    Attributes
    ----------
    groups
        Axes that change together, after those that need not were parted.
    rules
        Per group, its sizes; a `ParameterizedSize` starts at the least that the network takes.
    base
        Per group, a size that works, for further runs.
    notes
        Sentences for the author.
    """

    groups: tuple[Group, ...]
    rules: Mapping[str, Rule]
    base: Mapping[str, int]
    notes: tuple[str, ...]

    @property
    def free(self) -> tuple[Group, ...]:
        """Groups of variable size."""
        return tuple(g for g in self.groups if isinstance(self.rules[g.id], ParameterizedSize))


def find_rules(
    trials: Trials, groups: Sequence[Group], fixed: Mapping[str, int] | None = None
) -> Found:
    """Find the sizes of all groups.

    Parameters
    ----------
    trials
        The network and its samples.
    groups
        From `groups_of`.
    fixed
        Sizes that are to stay, by group.

    Raises
    ------
    NetworkError
        The network refuses the sample, and every other size that was tried.
    """
    fixed = dict(fixed or {})
    base = _base(trials, groups, fixed)
    groups = _parted(trials, groups, base)
    base = {g.id: base.get(g.id, g.sample) for g in groups}
    rules: dict[str, Rule] = {}
    notes: list[str] = []
    guess = None
    for g in groups:
        if g.id in fixed:
            rules[g.id] = FixedSize(base[g.id])
            continue
        base, rules[g.id] = _rule(trials, groups, base, g, guess)
        guess = r.step if isinstance(r := rules[g.id], ParameterizedSize) else guess
    stuck = [g for g in groups if isinstance(rules[g.id], FixedSize) and g.id not in fixed]
    if len(stuck) > 1 and (step := _tied(trials, groups, base, stuck)):
        names = " and ".join(g.id for g in stuck)
        notes.append(
            f"The network takes other sizes of {names} only together (in steps of {step}); the "
            f"description cannot say so, both are fixed at {base[stuck[0].id]}."
        )
    rules, base = _together(trials, groups, rules, base)
    if len(groups) > 2:  # in 3D every run counts
        small = {g.id: smaller(rules[g.id], base[g.id], 16) for g in groups}
        base = small if trials.shapes(groups, small) is not None else base
    return Found(tuple(groups), rules, base, tuple(notes))


def smaller(rule: Rule, size: int, least: int) -> int:
    """The smallest allowed size of at least `least`, but no larger than `size`."""
    if isinstance(rule, FixedSize):
        return rule.size
    return min(size, rule.min + max(0, ceil((least - rule.min) / rule.step)) * rule.step)


# ------------------------------------------------------------------------------------------- base


def _base(trials: Trials, groups: Sequence[Group], pinned: Mapping[str, int]) -> dict[str, int]:
    """Sizes that work: small ones first, as they are quick; then the sample's own."""
    for sizes in _candidates(trials, groups):
        if trials.shapes(groups, sizes := {**sizes, **pinned}) is not None:
            return sizes
    own = trials.lengths(groups, {**{g.id: g.sample for g in groups}, **pinned})
    shapes = ", ".join(f"{s.id} {shape}" for s, shape in zip(trials.samples, own, strict=True))
    refused = trials.refusals.get(own, "")
    kept = f" with {', '.join(f'{i} {n}' for i, n in pinned.items())} as fixed" if pinned else ""
    raise NetworkError(
        f"{trials.network.name} does not run on the sample ({shapes}), nor on any other size that "
        f"was tried{kept}. Check the axes and the number of channels, or give a sample of a size "
        f"that the network takes. It says: {refused}"
    )


def _candidates(trials: Trials, groups: Sequence[Group]) -> Iterator[dict[str, int]]:
    own = {g.id: g.sample for g in groups}
    plane = [g.id for g in groups if g.axis in ("y", "x")]
    deep = len(plane) < len(groups)
    most = _MOST.get(len(groups), 2**20)

    def even(size: int) -> Iterator[dict[str, int]]:
        """All axes alike; and with what is no plane as in the sample."""
        if size ** len(groups) <= most:
            yield dict.fromkeys(own, size)
        if deep and plane and prod({**own, **dict.fromkeys(plane, size)}.values()) <= most:
            yield {**own, **dict.fromkeys(plane, size)}

    for size in _FIRST.get(len(groups), (16,)):
        yield from even(size)
    yield own
    first = trials.samples[0]
    for shape in trials.declared():
        if len(shape) == len(first.dims):
            at = dict(zip(first.dims, shape, strict=True))
            sizes = {g.id: at[g.axis] for g in groups if g.axis in at}
            if min(sizes.values(), default=0) > 0 and prod(sizes.values()) <= most:
                yield {**own, **sizes}
    for size in trials.numbers():
        yield from even(size)
    for size in _LATER:
        yield from even(size)


def _parted(trials: Trials, groups: Sequence[Group], base: Mapping[str, int]) -> tuple[Group, ...]:
    """Followers that may change alone become groups of their own."""
    made: list[Group] = []
    for g in groups:
        alone: list[Group] = []
        for m in g.members[1:]:
            rest = replace(g, members=tuple(n for n in g.members if n != m))
            own = Group(f"{m.tensor}.{m.axis}", m.axis, g.kind, (replace(m, ratio=Fraction(1),
                        offset=0),), m.size(g.sample))  # fmt: skip
            others = [o for o in groups if o is not g]
            parts = [*others, rest, own]
            here = {**base, own.id: m.size(base[g.id])}
            grown = [{**here, own.id: here[own.id] + k} for k in (64, 48, 56)]
            if any(trials.shapes(parts, sizes) is not None for sizes in grown):
                alone.append(own)
        names = {o.lead.tensor for o in alone}
        made.append(replace(g, members=tuple(m for m in g.members if m.tensor not in names)))
        made += alone
    return tuple(made)


# ------------------------------------------------------------------------------------------- rule


def _rule(
    trials: Trials, groups: Sequence[Group], base: Mapping[str, int], g: Group, guess: int | None
) -> tuple[dict[str, int], Rule]:
    """The rule of one group, the others at their base; and a base that obeys it."""

    def at(size: int) -> Shapes | None:
        return trials.shapes(groups, {**base, g.id: size})

    start = base[g.id]
    step = _step(at, start, guess)
    if step is None:
        return dict(base), FixedSize(start)
    start = _phase(at, start, step)
    least = _least(at, start, step)
    return {**base, g.id: start}, ParameterizedSize(least, step)


def _step(at: Callable[[int], Shapes | None], start: int, guess: int | None) -> int | None:
    """The smallest number that can be added any number of times; `guess` is another axis's."""
    if guess is not None and guess > 1 and _linear(at, start, guess):
        return _reduced(at, start, guess)
    for k in _POWERS:  # allowed sizes are start + n * step: the first power that fits is the step
        if _linear(at, start, k):
            return k
    for k in _OTHERS:
        if _linear(at, start, k):
            return _reduced(at, start, k)
    return None


def _reduced(at: Callable[[int], Shapes | None], start: int, k: int) -> int:
    """The smallest divisor of a multiple of the step that is one too."""
    for p in _PRIMES:
        while k % p == 0 and _linear(at, start, k // p):
            k //= p
    return k


def _linear(at: Callable[[int], Shapes | None], start: int, k: int) -> bool:
    """Whether sizes `start` + n * `k` work and the outputs grow evenly with them."""
    here = at(start)
    assert here is not None
    one = _gain(here, at(start + k))
    if one is None:
        return False
    # A network that refuses a pixel more does not cut sizes silently: two steps tell enough.
    for n in (2,) if k > 1 and at(start + 1) is None else (2, max(3, ceil(SPAN / k))):
        if _gain(here, at(start + n * k)) != [[n * d for d in o] for o in one]:
            return False
    return True


def _gain(a: Shapes, b: Shapes | None) -> list[list[int]] | None:
    """How many pixels every axis of every output has more in `b`."""
    if b is None or [len(o) for o in a] != [len(o) for o in b]:
        return None
    return [[n - m for m, n in zip(p, q, strict=True)] for p, q in zip(a, b, strict=True)]


def _phase(at: Callable[[int], Shapes | None], start: int, step: int) -> int:
    """The size between `start` and the next that loses (or makes up) the fewest pixels.

    A network that takes any size and cuts it to a multiple of its step gives 64 pixels for 64 to
    79: each of these sizes has the step, only 64 keeps all pixels.
    """
    here, there = at(start), at(start + step)
    assert here is not None
    assert there is not None
    if step == 1 or (at(start + 1) is None and at(start + step // 2) is None):
        return start
    slopes = [[Fraction(d, step) for d in o] for o in _gain(here, there) or []]

    def loss(size: int) -> tuple[int, Fraction]:
        shapes = at(size)
        if shapes is None or [len(o) for o in shapes] != [len(o) for o in here]:
            return 10**9, Fraction(0)
        offsets = [
            n - size * r
            for o, rs in zip(shapes, slopes, strict=True)
            for n, r in zip(o, rs, strict=True)
            if r
        ]
        return sum(f.denominator > 1 for f in offsets), sum((abs(f) for f in offsets), Fraction(0))

    low, high = 0, step  # the first size that gives more pixels than `start`
    while high - low > 1:
        middle = (low + high) // 2
        gain = _gain(here, at(start + middle))
        if gain is not None and any(d > 0 for o in gain for d in o):
            high = middle
        else:
            low = middle
    near = {start, start + low, start + high} - {start + step}
    best = min(sorted(near), key=loss)
    return best if _linear(at, best, step) else start


def _least(at: Callable[[int], Shapes | None], start: int, step: int) -> int:
    """The smallest size on the steps that works as the larger ones do."""
    here, next_ = at(start), at(start + step)
    assert here is not None
    one = _gain(here, next_)
    assert one is not None

    def works(n: int) -> bool:
        return _gain(here, at(start - n * step)) == [[-n * d for d in o] for o in one]

    low, high = 0, (start - 1) // step + 1  # low works, high does not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if works(middle) else (low, middle)
    return start - low * step


def _tied(
    trials: Trials, groups: Sequence[Group], base: Mapping[str, int], stuck: Sequence[Group]
) -> int | None:
    """The step in which axes change that only change together, None where they do not."""
    for k in (32, 28, 16, 8, 24, 14, 64):
        grown = [{**base, **{g.id: base[g.id] + n * k for g in stuck}} for n in (1, 2)]
        if all(trials.shapes(groups, sizes) is not None for sizes in grown):
            return k
    return None


def _together(
    trials: Trials, groups: Sequence[Group], rules: dict[str, Rule], base: Mapping[str, int]
) -> tuple[dict[str, Rule], dict[str, int]]:
    """Rules whose least sizes work also together, not only one at a time."""
    free = {i: r for i, r in rules.items() if isinstance(r, ParameterizedSize)}
    base = dict(base)
    while len(free) > 1:
        sizes = {**base, **{i: r.min for i, r in free.items()}}
        if trials.shapes(groups, sizes) is not None:
            break
        larger = {
            i: replace(r, min=min(base[i], r.min + max(r.step, r.min // r.step * r.step)))
            for i, r in free.items()
        }
        if larger == free:
            break
        free = larger
    return {**rules, **free}, base
