"""Inputs, outputs and sizes of a model in the words of a person with an image.

Reads the raw description of any format version: 0.5 lists an object per axis, 0.4 and older a
string of letters beside a shape.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biozoo.axes import LETTERS

__all__ = ["TensorWords", "dimensions", "tensor_words"]

SPACE = ("z", "y", "x")
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
    """

    id: str
    summary: str
    description: str = ""
    channels: tuple[str, ...] = ()
    dimensions: str = ""


@dataclass(frozen=True)
class _Axis:
    id: str
    size: str = ""
    names: tuple[str, ...] = ()
    count: int | None = None


def tensor_words(tensor: Mapping[str, Any], *, is_input: bool) -> TensorWords:
    """Words about one entry of `inputs` or `outputs` of a raw description.

    Parameters
    ----------
    tensor
        The entry as the YAML file has it.
    is_input
        Inputs are converted to the model's data type, so any bit depth fits; outputs have one.
    """
    axes = _axes(tensor)
    channel = next((a for a in axes if a.id == "channel"), None)
    space = [a for a in axes if a.id in SPACE]
    dimensions = f"{len(space)}D" if len(space) in (2, 3) else ""
    parts = [_channels(channel) if channel else "one channel" if space else ""]
    if dimensions:
        parts.append(dimensions + (" over time" if any(a.id == "time" for a in axes) else ""))
    if not channel and not dimensions:
        parts = ["no image"]
    parts.append("any bit depth" if is_input and dimensions else _dtype(tensor))
    sizes = {a.size for a in space if a.size}
    if len(sizes) == 1:
        parts.append(sizes.pop())
    elif sizes:
        parts.append(", ".join(f"{a.id} {a.size}" for a in space if a.size))
    names = channel.names if channel else ()
    return TensorWords(
        id=str(tensor.get("id") or tensor.get("name") or "?"),
        summary=", ".join(p for p in parts if p),
        description=str(tensor.get("description") or "").strip(),
        channels=names if _telling(names) else (),
        dimensions=dimensions,
    )


def dimensions(inputs: Iterable[Sequence[str]]) -> str:
    """Say "2D", "3D", "2D and 3D", or "" from the axis ids of each input."""
    counts = {sum(axis in SPACE for axis in axes) for axes in inputs}
    return " and ".join(f"{n}D" for n in sorted(counts) if n in (2, 3))


def _axes(tensor: Mapping[str, Any]) -> list[_Axis]:
    axes = tensor.get("axes") or []
    if isinstance(axes, str):
        return _letter_axes(axes, tensor.get("shape"))
    return [_listed_axis(a) for a in axes if isinstance(a, Mapping)]


def _listed_axis(axis: Mapping[str, Any]) -> _Axis:
    kind = str(axis.get("type") or "")
    # The specification's defaults; a space axis without an id is x.
    default = {"space": "x", "channel": "channel", "batch": "batch", "time": "time"}
    name = str(axis.get("id") or default.get(kind, kind))
    names = axis.get("channel_names")
    listed = tuple(map(str, names)) if isinstance(names, Sequence) and names else ()
    return _Axis(name, _size(axis.get("size")), listed, len(listed) or None)


def _letter_axes(letters: str, shape: Any) -> list[_Axis]:
    ids = [LETTERS.get(letter, letter) for letter in letters]
    sizes: list[Any] = [None] * len(ids)
    if isinstance(shape, Sequence) and len(shape) == len(ids):
        sizes = list(shape)
    elif isinstance(shape, Mapping) and "min" in shape:
        steps = list(shape.get("step") or [0] * len(ids))
        sizes = [
            {"min": least, "step": step} if step else least
            for least, step in zip(shape["min"], steps, strict=False)
        ]
        sizes += [None] * (len(ids) - len(sizes))
    elif isinstance(shape, Mapping):  # relative to an input: the number of channels is offset * 2
        offsets, scales = list(shape.get("offset") or []), list(shape.get("scale") or [])
        if len(offsets) == len(scales) == len(ids):
            sizes = [None if s else round(2 * o) for s, o in zip(scales, offsets, strict=True)]
    return [
        _Axis(axis, _size(size), count=size if isinstance(size, int) else None)
        for axis, size in zip(ids, sizes, strict=True)
    ]


def _size(size: Any) -> str:
    if isinstance(size, int):
        return f"exactly {size} pixels"
    if isinstance(size, Mapping) and "min" in size:
        step = size.get("step") or 1
        return f"{size['min']} pixels or more" + (f" in steps of {step}" if step != 1 else "")
    return ""  # that of another tensor, or known only after the run


def _channels(channel: _Axis) -> str:
    if channel.count is None:
        return "channels"
    word = NUMBERS[channel.count] if channel.count < len(NUMBERS) else str(channel.count)
    text = f"{word} channel{'' if channel.count == 1 else 's'}"
    return f"{text} ({', '.join(channel.names)})" if _telling(channel.names) else text


def _telling(names: Sequence[str]) -> bool:
    """Whether the names say more than the count: not channel0, channel1..."""
    return (
        bool(names)
        and len(names) <= 6
        and not all(n.lower().rstrip("0123456789") in ("", "channel", "c", "ch") for n in names)
    )


def _dtype(tensor: Mapping[str, Any]) -> str:
    data = tensor.get("data")
    if isinstance(data, Mapping):
        low_high = data.get("range")
        if isinstance(low_high, Sequence) and list(low_high) in ([0, 1], [0.0, 1.0]):
            return "values from 0 to 1"
        return str(data.get("type") or "")
    low_high = tensor.get("data_range")
    if isinstance(low_high, Sequence) and list(low_high) in ([0, 1], [0.0, 1.0]):
        return "values from 0 to 1"
    return str(tensor.get("data_type") or "")
