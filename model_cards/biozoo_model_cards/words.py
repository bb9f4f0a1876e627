"""Inputs, outputs and sizes of a model in the words of a person with an image.

Reads the raw description of any format version: 0.5 lists an object per axis, 0.4 and older a
string of letters beside a shape. `axis_words` has the axes one by one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .axis_words import SPACE, AxisWords, Scales, axes_of, number_text
from .clean import items, mapping, number, one_line, sequence

__all__ = ["TensorWords", "dimensions", "tensor_words"]

NUMBERS = ("no", "one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class TensorWords:
    """One input or output.

    Attributes
    ----------
    id
        Tensor id of the description.
    summary
        One line: channels, dimensions, bit depth, sizes.
    description
        The author's own words, empty where there are none.
    channels
        Channel names where the description gives names that say something.
    dimensions
        "2D", "3D", or "" where the tensor is no image.
    axes
        Each axis by itself, in the tensor's order.
    dtype
        Data type by numpy's name; an input is converted to it.
    values
        The declared range of values in words ("0 to 1"), empty where none is declared.
    steps
        Pre- or postprocessing, one text per step, in order.
    optional
        Whether the model runs without it.
    named_channels
        Whether its channels have names that say something, however many.
    """

    id: str
    summary: str
    description: str = ""
    channels: tuple[str, ...] = ()
    dimensions: str = ""
    axes: tuple[AxisWords, ...] = ()
    dtype: str = ""
    values: str = ""
    steps: tuple[str, ...] = ()
    optional: bool = False
    named_channels: bool = False


def tensor_words(
    tensor: Mapping[str, Any], *, is_input: bool, scales: Scales | None = None
) -> TensorWords:
    """Words about one entry of `inputs` or `outputs` of a raw description.

    Parameters
    ----------
    tensor
        The entry as the YAML file has it.
    is_input
        Inputs are converted to the model's data type, so any bit depth fits; outputs have one.
    scales
        (tensor id, axis id) -> scale of every axis of the description, which a size that follows
        another axis is computed with; see `axis_words.scales`.
    """
    axes = axes_of(tensor, scales or {})
    channel = next((a for a in axes if a.id == "channel"), None)
    space = [a for a in axes if a.id in SPACE]
    many = f"{len(space)}D" if len(space) in (2, 3) else ""
    dtype, values = _dtype(tensor), _values(tensor)
    names = channel.names if channel and _telling(channel.names) else ()
    parts = [_channels(channel, names) if channel else "one channel" if space else ""]
    if many:
        parts.append(many + (" over time" if any(a.id == "time" for a in axes) else ""))
    if not channel and not many:
        parts = ["no image"]
    if is_input and many:
        parts.append("any bit depth")
    elif values == "0 to 1":
        parts.append("values from 0 to 1")
    else:
        parts.append(dtype if tensor.get("data") or tensor.get("data_type") else "")
    sizes = {a.size for a in space if a.size}
    if len(sizes) == 1:
        parts.append(sizes.pop())
    elif sizes:
        parts.append(", ".join(f"{a.id} {a.size}" for a in space if a.size))
    steps = tensor.get("preprocessing" if is_input else "postprocessing")
    return TensorWords(
        id=one_line(tensor.get("id") or tensor.get("name"), 100) or "?",
        summary=", ".join(p for p in parts if p),
        description=one_line(tensor.get("description")),
        channels=names if len(names) <= 6 else (),
        dimensions=many,
        axes=tuple(axes),
        dtype=dtype,
        values=values,
        steps=tuple(step for step in map(_step, items(steps)) if step),
        optional=tensor.get("optional") is True,
        named_channels=bool(names),
    )


def dimensions(inputs: Iterable[Sequence[str]]) -> str:
    """Say "2D", "3D", "2D and 3D", or "" from the axis ids of each input."""
    counts = {sum(axis in SPACE for axis in axes) for axes in inputs}
    return " and ".join(f"{n}D" for n in sorted(counts) if n in (2, 3))


def _channels(channel: AxisWords, names: Sequence[str]) -> str:
    if channel.count is None:
        return "channels"
    word = NUMBERS[channel.count] if channel.count < len(NUMBERS) else str(channel.count)
    text = f"{word} channel{'' if channel.count == 1 else 's'}"
    return f"{text} ({', '.join(names)})" if names and len(names) <= 6 else text


def _telling(names: Sequence[str]) -> bool:
    """Whether the names say more than the count: not channel0, c_1, "input"..."""
    empty = re.compile(r"(channel|chan|ch|c|f|input|output)?[ _-]?\d*", re.IGNORECASE)
    return bool(names) and not all(empty.fullmatch(n) for n in names)


# ------------------------------------------------------------------------------------------ values


def _data(tensor: Mapping[str, Any]) -> Mapping[str, Any]:
    """`data` of a tensor; of one entry per channel the first."""
    data = tensor.get("data")
    return mapping(data) or next(iter(items(data)), {})


def _dtype(tensor: Mapping[str, Any]) -> str:
    return one_line(_data(tensor).get("type") or tensor.get("data_type"), 40) or "float32"


def _values(tensor: Mapping[str, Any]) -> str:
    """The declared range, or the declared values, in words."""
    data = _data(tensor)
    listed = sequence(data.get("values"))
    if listed:
        shown = ", ".join(one_line(v, 40) for v in listed[:8])
        return f"one of {shown}" + (f" and {len(listed) - 8} more" if len(listed) > 8 else "")
    ends = sequence(data.get("range") if data else tensor.get("data_range"))
    if len(ends) != 2:
        return ""
    low, high = (number(end) for end in ends)
    low = None if low is None or low in (float("inf"), float("-inf")) or low != low else low
    high = None if high is None or high in (float("inf"), float("-inf")) or high != high else high
    unit = one_line(data.get("unit"), 40)
    unit = f" {unit}" if unit and unit != "arbitrary unit" else ""
    if low is not None and high is not None:
        return f"{number_text(low)} to {number_text(high)}{unit}"
    if low is not None:
        return f"{number_text(low)} or more{unit}"
    return f"{number_text(high)} or less{unit}" if high is not None else ""


def _step(step: Mapping[str, Any]) -> str:
    """One step: its name, and the arguments it was given."""
    name = one_line(step.get("id") or step.get("name"), 60)
    given = [
        f"{one_line(key, 40)}={_argument(value)}"
        for key, value in mapping(step.get("kwargs")).items()
        if value is not None
    ]
    return f"{name}({', '.join(given)})" if given else name


def _argument(value: Any) -> str:
    if isinstance(value, list):
        shown = ", ".join(_argument(v) for v in value[:6])
        return f"[{shown}{', …' if len(value) > 6 else ''}]"
    if isinstance(value, Mapping):
        return "{…}"
    return number_text(value) if isinstance(value, float) else one_line(value, 60)
