"""The halo that a description declares: measured per axis, made to fit, and verified."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, lcm, prod

from biozoo.errors import UsageError
from biozoo_runners.sizes import FixedSize, ParameterizedSize

from .context import PER_MILLION, Context, ratios
from .output_axes import OutputAxis
from .receptive_field import measure
from .scenes import SCENES, Lab, off
from .size_rules import Found, Rule, smaller

__all__ = ["Halos", "choose_halos"]

#: Pixels of one run while verifying all axes together, by number of axes.
MOST = {1: 2**17, 2: 2**18, 3: 2**18}


@dataclass(frozen=True)
class Halos:
    """Chosen halos: in input pixels per group, with rules of sizes that leave room for them.

    `seen` is what they were chosen from, per group.
    """

    found: Found
    halos: Mapping[str, int]
    field: Mapping[str, int | None]
    notes: tuple[str, ...]
    seen: Mapping[str, Context]

    def of(self, output: str, axis: OutputAxis) -> int:
        """Pixels of an output to crop at each end."""
        return int(self.halos.get(axis.group, 0) * axis.ratio)


def choose_halos(
    lab: Lab, found: Found, ids: Sequence[str], asked: int | Mapping[str, int] | None
) -> Halos:
    """Measure the context along every group of axes and choose what tiles crop.

    Parameters
    ----------
    lab, found
        The network, its sizes and the axes of its outputs.
    ids
        Of the outputs.
    asked
        The author's own halo in output pixels, for all axes or by axis id.

    Raises
    ------
    UsageError
        An own halo for an axis that does not exist, or one that does not fit.
    """
    seen = {g.id: c for g in found.groups if (c := measure(lab, found, g.id)) is not None}
    seen = _alike(lab, found, seen)
    halos = {g: c.halo + _gap(lab, found, g, c) for g, c in seen.items()}
    notes: list[str] = []
    fitted = _fit(lab, found, halos, seen)
    tries = 0
    local = all(c.local for c in seen.values())
    while (
        local and (left := _leftover(lab, found, fitted, halos, seen)) > PER_MILLION and tries < 4
    ):
        tries += 1
        free = {g.id for g in found.free}
        halos = {g: h + seen[g].unit if g in free else h for g, h in halos.items()}
        fitted = _fit(lab, found, halos, seen)
    if local and seen and tries == 4:
        notes.append(
            f"Even with this halo {left:.0f} values per million of a tile differ from the whole."
        )
    notes += _said(lab, found, seen, halos)
    if asked is not None:
        halos, more = _own(lab, found, seen, halos, asked)
        notes += more
        fitted = _fit(lab, found, halos, seen)
    field = {
        f"{o}.{a.id}": seen[a.group].field.get(n)
        for n, (o, axes) in enumerate(zip(ids, lab.outputs, strict=True))
        for a in axes
        if a.group in seen
    }
    return Halos(fitted, halos, field, tuple(notes), seen)


def _gap(lab: Lab, found: Found, group: str, c: Context) -> int:
    """Pixels to add to the halo of a network that crops by itself.

    Tiles then lie a multiple of the unit apart: a valid U-Net of 572 pixels gives 388, and a tile
    388 pixels further on would meet its strides at another phase.
    """
    lost = {-a.offset / a.ratio for axes in lab.outputs for a in axes if a.group == group}
    if not c.local or lost <= {0} or len(lost) > 1:
        return 0
    kept = _min(found.rules[group]) - lost.pop() - 2 * c.halo
    return next((h for h in range(c.unit) if (kept - 2 * h) % c.unit == 0), 0)


def _alike(lab: Lab, found: Found, seen: Mapping[str, Context]) -> dict[str, Context]:
    """Give y and x of one rule one halo: both measure the same, the larger counts."""
    made = dict(seen)
    plane = [g for g in found.groups if g.axis in ("y", "x") and g.id in seen]
    for a in plane:
        for b in plane:
            same = seen[a.id].local == seen[b.id].local
            rules = found.rules[a.id], found.rules[b.id]
            steps = [r.step if isinstance(r, ParameterizedSize) else r for r in rules]
            if a.lead.tensor == b.lead.tensor and same and steps[0] == steps[1]:
                unit = lcm(seen[a.id].unit, seen[b.id].unit)
                most = ceil(max(made[a.id].halo, made[b.id].halo) / unit) * unit
                made[a.id] = replace(made[a.id], halo=most, unit=unit)
                made[b.id] = replace(made[b.id], halo=most, unit=unit)
    return made


def _fit(lab: Lab, found: Found, halos: Mapping[str, int], seen: Mapping[str, Context]) -> Found:
    """Rules whose smallest size leaves something between the halos, on the network's grid."""
    rules: dict[str, Rule] = dict(found.rules)
    base = dict(found.base)
    for g in found.free:
        rule = found.rules[g.id]
        assert isinstance(rule, ParameterizedSize)
        if g.id not in seen:
            continue
        c = seen[g.id]
        step = lcm(rule.step, c.unit, ratios(lab, g.id))
        offsets = [
            ceil(-a.offset / a.ratio) for axes in lab.outputs for a in axes if a.group == g.id
        ]
        least = max(rule.min, 2 * halos[g.id] + max(0, *offsets, 0) + step)
        smallest = rule.min + ceil((least - rule.min) / rule.step) * rule.step
        if step > rule.step:  # sizes on the grid of the network's own strides, where they can be
            sizes = range(smallest, smallest + step, rule.step)
            smallest = next((s for s in sizes if s % step == 0), smallest)
        rules[g.id] = ParameterizedSize(smallest, step)
        while base[g.id] < smallest or (base[g.id] - smallest) % step:
            base[g.id] = smallest if base[g.id] < smallest else base[g.id] + rule.step
    return replace(found, rules=rules, base=base)


def _leftover(
    lab: Lab, before: Found, found: Found, halos: Mapping[str, int], seen: Mapping[str, Context]
) -> float:
    """Values per million of a tile that differ from the whole, on a scene not measured before.

    All free axes are cut at once where that is not too large, else one after the other.
    """
    free = [g.id for g in found.free if g.id in seen]
    tiles = {g: _min(found.rules[g]) + _step(found.rules[g]) for g in free}
    whole = {g: _whole(found.rules[g], tiles[g], seen[g].unit) for g in free}
    others = {g.id: found.base[g.id] for g in found.groups if g.id not in free}
    if not free:
        return 0.0
    if prod(whole.values()) * prod(others.values()) <= MOST.get(len(found.groups), 2**18):
        parts = [free]
    else:
        parts = [[g] for g in free]
    worst = 0.0
    for part in parts:
        near = {**others, **{g: tiles[g] if g in part else _small(before, g) for g in free}}
        far = {**near, **{g: whole[g] for g in part}}
        start = {g: max(1, (far[g] - near[g]) // 2 // seen[g].unit) * seen[g].unit for g in part}
        scene = lab.scene(SCENES + 1 if len(part) > 1 else SCENES, far)
        a, b = lab.see(scene, {}, far), lab.see(scene, start, near)
        for n, axes in enumerate(lab.outputs):
            if not any(x.group in part for x in axes):
                continue
            cut_a, cut_b = [], []
            for i, x in enumerate(axes):
                h = int(halos[x.group] * x.ratio) if x.group in part else 0
                size = b.outputs[n].shape[i]
                first = int(start.get(x.group, 0) * x.ratio)
                cut_b.append(slice(h, size - h))
                cut_a.append(slice(first + h, first + size - h))
            wrong, _ = off(b.outputs[n][tuple(cut_b)], a.outputs[n][tuple(cut_a)], lab.channel(n))
            worst = max(worst, float(wrong.mean()) * 1e6)
    return worst


def _min(rule: Rule) -> int:
    return rule.size if isinstance(rule, FixedSize) else rule.min


def _step(rule: Rule) -> int:
    return 0 if isinstance(rule, FixedSize) else rule.step


def _whole(rule: Rule, tile: int, unit: int) -> int:
    """An allowed size that has room for a tile and about half of one around it."""
    least = tile + max(2 * unit, tile // 2)
    return _min(rule) + ceil((least - _min(rule)) / max(1, _step(rule))) * _step(rule)


def _small(before: Found, group: str) -> int:
    """A size for an axis that is not cut: the network takes smaller ones than are declared."""
    rule = before.rules[group]
    return smaller(rule, before.base[group], 16 if len(before.groups) > 2 else 32)


def _own(
    lab: Lab,
    found: Found,
    seen: Mapping[str, Context],
    measured: Mapping[str, int],
    asked: int | Mapping[str, int],
) -> tuple[dict[str, int], list[str]]:
    """The author's halos in input pixels, and what is to be said of them."""
    known = {a.id: a for axes in lab.outputs for a in axes if a.group in seen}
    wanted = dict.fromkeys(known, asked) if isinstance(asked, int) else dict(asked)
    if unknown := [a for a in wanted if a not in known]:
        raise UsageError(
            f"A halo was given for axis '{unknown[0]}'. Axes of outputs that can have one: "
            f"{', '.join(known) or 'none'}."
        )
    halos, notes = dict(measured), []
    for name, pixels in wanted.items():
        axis = known[name]
        inside = pixels / axis.ratio
        rule = found.rules[axis.group]
        if pixels < 0 or inside.denominator != 1:
            raise UsageError(
                f"A halo of {pixels} on axis '{name}' is no whole number of input pixels "
                f"({float(inside):g}). Give a multiple of {axis.ratio.numerator}."
            )
        if isinstance(rule, FixedSize) and 2 * inside >= rule.size:
            raise UsageError(
                f"A halo of {pixels} on both sides of axis '{name}' leaves nothing of its "
                f"{rule.size} pixels."
            )
        if inside < measured[axis.group]:
            need = int(measured[axis.group] * axis.ratio)
            notes.append(
                f"The halo given for axis '{name}', {pixels}, is smaller than the measured "
                f"{need}: seams may show between tiles."
            )
        halos[axis.group] = int(inside)
    return halos, notes


def _said(
    lab: Lab, found: Found, seen: Mapping[str, Context], halos: Mapping[str, int]
) -> list[str]:
    """What the author should know of tiles."""
    notes = []
    wide = [g for g, c in seen.items() if not c.local]
    if wide:
        worst = max((seen[g] for g in wide), key=lambda c: c.error)
        sizes = ", ".join(
            f"{g} at {r.size}" for g in wide if isinstance(r := found.rules[g], FixedSize)
        )
        why = (
            f"What it looks at has no end within its fixed size ({sizes})"
            if sizes
            else "It looks at the whole image (attention, pooling or normalisation over all of it, "
            f"or a reach beyond {worst.seen} pixels)"
        )
        some = ", ".join(f"{g} {halos[g]}" for g in wide if halos[g])
        declared = f"a halo of {some} input pixels is declared" if some else "none is declared"
        notes.append(
            f"{why} along {', '.join(wide)}: tiles differ from the whole by up to "
            f"{_percent(worst.error)} of the output's spread, {_percent(worst.mean)} on average, "
            f"whatever the halo; {declared}."
        )
    for g, c in seen.items():
        rule = found.rules[g]
        if c.local and None in c.field.values():
            notes.append(
                f"A pixel is felt along all of {g} (up to {c.seen} pixels away), but tiles with a "
                f"halo of {c.halo} gave the same as the whole on the images tried."
            )
    moved = [g for g, c in seen.items() if c.unit > _step(found.rules[g]) > 0]
    if moved:
        c, rule = seen[moved[0]], found.rules[moved[0]]
        notes.append(
            f"The network takes {' and '.join(moved)} in steps of {_step(rule)}, but it has "
            f"strides: it gives the same only where it is moved by multiples of {c.unit}. Steps of "
            f"{c.unit} are declared, so that tiles fit the whole."
        )
    return notes


def _percent(part: float) -> str:
    return f"{100 * part:.0f} %" if part >= 0.01 else f"{100 * part:.2g} %"
