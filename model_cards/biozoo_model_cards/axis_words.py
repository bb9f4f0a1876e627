"""The axes of a tensor one by one: how large, in which steps, following which other axis.

Sizes are told twice: in words, and as the exact rule of the specification, for format 0.5
    size of a reference = floor(ref.size * ref.scale / axis.scale + offset)
and for 0.4 `size = ref.size * scale + 2 * offset`
(bioimageio.spec, `SizeReference` and `ImplicitOutputShape`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biozoo.axes import LETTERS

from .clean import items, mapping, number, one_line, sequence

__all__ = ["AxisWords", "Scales", "axes_of", "scales"]

SPACE = ("z", "y", "x")
Scales = Mapping[tuple[str, str], float]

#: More names than any real network has channels are not carried through every card.
MAX_NAMES = 1000


@dataclass(frozen=True)
class AxisWords:
    """One axis of a tensor.

    Attributes
    ----------
    id
        batch, channel, z, y, x, time, index, or what the description calls it.
    size
        In words: "160 pixels or more in steps of 16"; empty where it follows another axis or is
        known only after the run.
    rule
        Exactly: "160 + n*16", "512", "size of raw.y", "3 channels", "any".
    names
        Channel names as given.
    count
        How many positions, None where that varies.
    halo
        Pixels at each side of a tile that only serve as context, 0 for none.
    pixel
        Size of a pixel with its unit, "unknown" for an axis in space or time that tells none,
        empty for other axes.
    """

    id: str
    size: str = ""
    rule: str = ""
    names: tuple[str, ...] = ()
    count: int | None = None
    halo: int = 0
    pixel: str = ""


def axes_of(tensor: Mapping[str, Any], known: Scales) -> list[AxisWords]:
    """The axes of one entry of `inputs` or `outputs`."""
    axes = tensor.get("axes") or []
    if isinstance(axes, str):
        return _letter_axes(axes[:20], tensor)
    return [_listed_axis(a, known) for a in items(axes)]


def scales(rdf: Mapping[str, Any]) -> Scales:
    """(tensor id, axis id) -> scale, of every axis of a description of format 0.5."""
    found = {}
    for tensor in (*items(rdf.get("inputs")), *items(rdf.get("outputs"))):
        for axis in items(tensor.get("axes")):
            name = (one_line(tensor.get("id"), 100), _axis_id(axis))
            found[name] = number(axis.get("scale")) or 1.0
    return found


def number_text(value: Any) -> str:
    """A number as people write it: 1.0 -> "1", 0.65 -> "0.65"."""
    return f"{value:.6g}" if isinstance(value, float) else one_line(value, 40)


def _axis_id(axis: Mapping[str, Any]) -> str:
    kind = one_line(axis.get("type"), 40)
    # The specification's defaults; a space axis without an id is x.
    return one_line(axis.get("id"), 60) or ("x" if kind == "space" else kind)


def _listed_axis(axis: Mapping[str, Any], known: Scales) -> AxisWords:
    """Format 0.5."""
    kind, name, size = one_line(axis.get("type"), 40), _axis_id(axis), axis.get("size")
    listed = tuple(one_line(n, 80) for n in sequence(axis.get("channel_names"))[:MAX_NAMES])
    halo = axis.get("halo")
    measured = kind in ("space", "time")
    count = _count(size) if _count(size) is not None else len(listed) or None
    if kind == "batch" and size is None:
        rule = "any"
    elif listed:
        rule = str(len(listed))
    else:
        rule = _rule(size, number(axis.get("scale")) or 1.0, known)
    return AxisWords(
        name,
        size=_size(size),
        rule=rule,
        names=listed,
        count=count,
        halo=halo if isinstance(halo, int) and not isinstance(halo, bool) else 0,
        pixel=_pixel(axis) if measured else "",
    )


def _pixel(axis: Mapping[str, Any]) -> str:
    """Size and unit; the specification's default (1, no unit) says nothing."""
    scale, unit = number(axis.get("scale")), one_line(axis.get("unit"), 40)
    if not unit:
        told = scale is not None and scale > 0 and scale != 1
        return f"{number_text(scale)} (unit unknown)" if told else "unknown"
    return f"{number_text(1.0 if scale is None else scale)} {unit}"


def _rule(size: Any, scale: float, known: Scales) -> str:
    if (fixed := _count(size)) is not None:
        return str(fixed)
    parts = mapping(size)
    if "axis_id" in parts:
        tensor, axis = one_line(parts.get("tensor_id"), 100), one_line(parts["axis_id"], 60)
        ratio = known.get((tensor, axis), 1.0) / scale
        text = f"size of {tensor}.{axis}"
        if ratio != 1:
            text = f"floor({text} × {number_text(ratio)})"
        offset = parts.get("offset")
        if isinstance(offset, int) and offset:
            text += f" {'+' if offset > 0 else '−'} {abs(offset)}"
        return text
    if "step" in parts:
        return f"{one_line(parts.get('min'), 20)} + n × {one_line(parts['step'], 20)}"
    if "min" in parts or "max" in parts:  # known only after the run
        least = one_line(parts.get("min"), 20) or "1"
        most = one_line(parts.get("max"), 20)
        return f"{least} to {most}" if most else f"{least} or more"
    return "any"


def _size(size: Any) -> str:
    if (fixed := _count(size)) is not None:
        return f"exactly {fixed} pixels"
    parts = mapping(size)
    if "min" in parts and "axis_id" not in parts:
        step = parts.get("step") or 1
        steps = f" in steps of {one_line(step, 20)}" if step != 1 else ""
        return f"{one_line(parts['min'], 20)} pixels or more{steps}"
    return ""  # that of another tensor, or known only after the run


def _count(size: Any) -> int | None:
    return size if isinstance(size, int) and not isinstance(size, bool) else None


# ------------------------------------------------------------------------------ format 0.4, older


def _letter_axes(letters: str, tensor: Mapping[str, Any]) -> list[AxisWords]:
    ids = [LETTERS.get(letter, one_line(letter) or "?") for letter in letters]
    halos = sequence(tensor.get("halo"))
    sizes = _old_sizes(ids, tensor.get("shape"))
    made = []
    for i, (axis, (size, rule)) in enumerate(zip(ids, sizes, strict=True)):
        halo = halos[i] if i < len(halos) and isinstance(halos[i], int) else 0
        made.append(
            AxisWords(
                axis,
                size=_size(size),
                rule="any" if axis == "batch" and tensor.get("shape") is None else rule,
                count=_count(size),
                halo=halo if axis in SPACE else 0,
                pixel="unknown" if axis in (*SPACE, "time") else "",
            )
        )
    return made


def _old_sizes(ids: Sequence[str], shape: Any) -> list[tuple[Any, str]]:
    """(what `_size` takes, the rule) of each axis."""
    unknown: list[tuple[Any, str]] = [(None, "any")] * len(ids)
    if not isinstance(shape, Mapping):
        listed = sequence(shape)
        return [(n, _rule(n, 1.0, {})) for n in listed] if len(listed) == len(ids) else unknown
    if "min" in shape:
        steps = sequence(shape.get("step")) or [0] * len(ids)
        sizes = [
            {"min": least, "step": step} if step else least
            for least, step in zip(sequence(shape["min"]), steps, strict=False)
        ][: len(ids)]
        found = [(size, _rule(size, 1.0, {})) for size in sizes]
        return found + unknown[len(found) :]
    # Relative to an input; where the scale is 0 the size does not depend on it: channels, mostly.
    offsets, factors = sequence(shape.get("offset")), sequence(shape.get("scale"))
    if not len(offsets) == len(factors) == len(ids):
        return unknown
    other = one_line(shape.get("reference_tensor"), 100)
    made: list[tuple[Any, str]] = []
    for axis, factor, offset in zip(ids, factors, offsets, strict=True):
        if axis == "batch":
            made.append((None, "any"))
            continue
        more = round(2 * (number(offset) or 0.0))
        if not number(factor):
            made.append((more, str(more)))
            continue
        text = f"size of {other}.{axis}"
        if factor != 1:
            text = f"{text} × {number_text(number(factor))}"
        made.append((None, text + (f" {'+' if more > 0 else '−'} {abs(more)}" if more else "")))
    return made
