"""A tensor as pictures for the eye: any axes, any type, any size.

Of batch, time and unknown axes the first position is shown, of a volume its middle plane and the
brightest value along z. Channels stand side by side, but three of an image are red, green and blue.
Each picture says in its caption what it leaves out and between which values it is drawn.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .views import View, encoded

__all__ = ["Drawn", "draw"]

#: Pixels that are read per side before anything is computed: a larger plane is subsampled.
READ = 1024
#: Planes that are read for the brightest value along z: at most, and at least to be worth it.
PLANES, FEWEST = 64, 8
#: Bytes of a file that are touched for it.
TOUCHED = 256e6
#: Side of a small picture after it was enlarged.
ENLARGED = 160
_LOW, _HIGH = 0.5, 99.8
_LABELS = re.compile(r"label|mask|instance|object|segment|class", re.IGNORECASE)
_RGB = (("red", "green", "blue"), ("r", "g", "b"))


@dataclass(frozen=True)
class Drawn:
    """The pictures of a tensor, or the words in their place.

    Attributes
    ----------
    about
        What every picture leaves out: which plane, which of several images.
    note
        Why there is no picture, or what is not shown.
    """

    views: tuple[View, ...] = ()
    note: str = ""
    about: str = ""


def draw(
    array: NDArray[Any],
    axes: Sequence[str],
    *,
    names: Sequence[str] = (),
    title: str = "",
    is_input: bool,
    side: int = 512,
    most: int = 6,
) -> Drawn:
    """Pictures of a tensor.

    Parameters
    ----------
    array
        Any shape and type; a memory map is read only where it is shown.
    axes
        Axis id per dimension: y and x are drawn, z and channel are told apart, others reduced to
        their first position.
    names
        Channel names.
    title
        What the tensor is called; "mask", "label" and the like make whole numbers objects.
    is_input
        Inputs of three channels are colour pictures.
    side
        Longest side of a picture in pixels.
    most
        Channels that are shown at most.
    """
    if array.dtype.kind not in "buif":
        return Drawn(note=f"values of type {array.dtype} cannot be drawn")
    if len(axes) != array.ndim or len(set(axes)) != len(axes):
        return Drawn(note=f"it has {array.ndim} dimensions, the description has {len(axes)} axes")
    if array.size == 0:
        return Drawn(note="it holds no values")
    if not {"y", "x"} <= set(axes):
        return Drawn(note=_in_words(array))
    planes, said = _arranged(array, axes)  # (channel, z, y, x)
    count, depth = planes.shape[:2]
    about = [*([f"middle z plane ({depth // 2 + 1} of {depth})"] if depth > 1 else []), *said]
    if is_input and count == 3 and _are_colours(names):
        colours = [_Plane.of(planes[i], side) for i in range(3)]
        return Drawn((_colour_view(colours),), about="; ".join(about))
    shown = range(min(count, most))
    drawn = [_Plane.of(planes[i], side) for i in shown]
    labels = not is_input and all(p.numbers_objects(array.dtype, title) for p in drawn)
    unit = not is_input and array.dtype.kind == "f" and all(p.within_one for p in drawn)
    views: list[View] = []
    for i, plane in zip(shown, drawn, strict=True):
        channel = _channel_title(names, i, count)
        views.append(_view(plane, channel, labels=labels, unit=unit))
    if _planes(planes[0]) >= min(depth, FEWEST) > 1 and count == 1 and not labels:
        views.append(_projection(planes[0], side, unit=unit))
    left = count - len(shown)
    note = f"{left} more channel{'' if left == 1 else 's'} not shown" if left else ""
    return Drawn(tuple(views), note, "; ".join(about))


def _arranged(array: NDArray[Any], axes: Sequence[str]) -> tuple[NDArray[Any], list[str]]:
    """A view of the array as (channel, z, y, x), and what it leaves out."""
    said: list[str] = []
    kept: list[str] = []
    chosen: list[Any] = []
    for axis, n in zip(axes, array.shape, strict=True):
        if axis in ("channel", "z", "y", "x"):
            step = max(1, math.ceil(n / READ)) if axis in "yx" else 1
            chosen.append(slice(None, None, step))
            kept.append(axis)
        else:
            chosen.append(0)
            if n > 1:
                said.append(f"first of {n} along {axis}")
    steps = [c.step for c in chosen if isinstance(c, slice)]
    if max(steps) > 1:  # alike along both, so that the picture keeps its shape
        chosen = [slice(None, None, max(steps)) if a in "yx" else c
                  for a, c in zip(axes, chosen, strict=True)]  # fmt: skip
        said.append(f"every {_nth(max(steps))} pixel")
    part = array[tuple(chosen)]
    order = [a for a in ("channel", "z", "y", "x") if a in kept]
    part = part.transpose([kept.index(a) for a in order])
    for position, axis in enumerate(("channel", "z")):
        if axis not in order:
            part = np.expand_dims(part, position)
    return part, said


@dataclass(frozen=True)
class _Plane:
    """A plane of values, small enough to be drawn.

    Attributes
    ----------
    values
        float32 (y, x), 0 where not finite.
    finite
        Where values are finite; None for everywhere.
    low, high
        Least and largest finite value.
    """

    values: NDArray[np.float32]
    finite: NDArray[np.bool_] | None
    low: float
    high: float
    whole: bool
    enlarged: int

    @classmethod
    def of(cls, volume: NDArray[Any], side: int) -> _Plane:
        """The middle plane of (z, y, x)."""
        return cls.of_plane(np.asarray(volume[volume.shape[0] // 2]), side)

    @classmethod
    def of_plane(cls, plane: NDArray[Any], side: int) -> _Plane:
        values = plane.astype(np.float64 if plane.dtype.itemsize > 4 else np.float32)
        values = np.clip(values, -1e30, 1e30, out=values)  # inf too; NaN stays
        odd = ~np.isfinite(plane) if plane.dtype.kind == "f" else None
        if odd is not None and not odd.any():
            odd = None
        good = values[~odd] if odd is not None else values
        low, high = (float(good.min()), float(good.max())) if good.size else (0.0, 0.0)
        whole = bool(good.size) and bool((good == np.rint(good)).all())
        if odd is not None:
            values = np.where(odd, low, values)
        factor = max(1, math.ceil(max(values.shape) / side))
        values = _shrunk(values, factor, nearest=whole)
        odd = None if odd is None else odd[::factor, ::factor][: values.shape[0], : values.shape[1]]
        enlarged = max(1, ENLARGED // max(values.shape))
        finite = None if odd is None else ~odd
        return cls(values.astype(np.float32), finite, low, high, whole, enlarged)

    @property
    def within_one(self) -> bool:
        return self.low >= 0 and self.high <= 1

    def numbers_objects(self, dtype: np.dtype[Any], title: str) -> bool:
        """Whether the values are names of objects or classes and no measurements."""
        if not self.whole or self.low < 0 or self.high <= 1 or self.high > 1e7:
            return False
        return bool(_LABELS.search(title)) or (dtype.kind in "iu" and dtype.itemsize >= 4)

    def span(self, *, unit: bool) -> tuple[float, float]:
        """Between which values it is drawn."""
        if unit:
            return 0.0, 1.0
        good = self.values if self.finite is None else self.values[self.finite]
        if good.size == 0:
            return self.low, self.high
        low, high = (float(v) for v in np.percentile(good, (_LOW, _HIGH)))
        return (low, high) if high > low else (self.low, self.high)

    def grey(self, low: float, high: float) -> NDArray[np.uint8]:
        """Values as 8 bits; a constant is a middle grey."""
        if not high > low:
            made = np.full(self.values.shape, 128, np.uint8)
        else:
            scaled = (self.values.astype(np.float64) - low) / (high - low)
            made = np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)
        if self.finite is not None:
            made[~self.finite] = 0
        return made

    def said(self) -> list[str]:
        if self.finite is None:
            return []
        share = 100 * (1 - float(self.finite.mean()))
        return [f"{'under 1' if share < 1 else f'{share:.0f}'} % is not a number, drawn black"]


def _view(plane: _Plane, title: str, *, labels: bool, unit: bool) -> View:
    """One channel."""
    if labels:
        from biozoo_runners.images.preview import label_colours

        pixels = label_colours(plane.values.astype(np.int64))
        told = ["each number has a colour, 0 is black"]
        return encoded(pixels, title, told, plane.enlarged, flat=True)
    low, high = plane.span(unit=unit)
    told = [*_contrast(plane, low, high), *plane.said()]
    flat = plane.whole and plane.high - plane.low <= 8
    return encoded(plane.grey(low, high), title, told, plane.enlarged, flat=flat)


def _planes(volume: NDArray[Any]) -> int:
    """How many planes of (z, y, x) may be read: a file is read by pages of 4 kB."""
    apart = min(abs(volume.strides[-1]), 4096)
    cost = volume.shape[1] * volume.shape[2] * max(volume.itemsize, apart)
    return max(1, min(int(volume.shape[0]), PLANES, int(TOUCHED // cost)))


def _projection(volume: NDArray[Any], side: int, *, unit: bool) -> View:
    """The brightest value along z, of a volume without channels."""
    step = math.ceil(volume.shape[0] / _planes(volume))
    with np.errstate(invalid="ignore"):
        part = np.asarray(volume[::step])
        brightest = np.fmax.reduce(part, axis=0) if part.dtype.kind == "f" else part.max(axis=0)
    plane = _Plane.of_plane(brightest, side)
    low, high = plane.span(unit=unit and plane.within_one)
    told = [] if step == 1 else [f"of every {_nth(step)} plane"]
    told += [*_contrast(plane, low, high), *plane.said()]
    return encoded(plane.grey(low, high), "maximum along z", told, plane.enlarged)


def _colour_view(planes: list[_Plane]) -> View:
    """Three channels as one picture, stretched together: apart they would change its colours."""
    spans = [p.span(unit=False) for p in planes]
    low, high = min(s[0] for s in spans), max(s[1] for s in spans)
    if all(p.whole and p.low >= 0 and p.high <= 255 for p in planes) and high > 64:
        low, high = 0.0, 255.0  # 8-bit colours as they are
    pixels = np.stack([p.grey(low, high) for p in planes], axis=-1)
    told = ["channels as red, green and blue", *_contrast(planes[0], low, high)]
    told += planes[0].said()
    return encoded(pixels, "", told, planes[0].enlarged)


def _contrast(plane: _Plane, low: float, high: float) -> list[str]:
    if plane.low == plane.high and not high > low:
        return [f"every value is {plane.low:.4g}"]
    return [f"black is {low:.4g}, white is {high:.4g}"]


def _channel_title(names: Sequence[str], i: int, count: int) -> str:
    if i < len(names) and names[i]:
        return names[i]
    return f"channel {i}" if count > 1 else ""


def _are_colours(names: Sequence[str]) -> bool:
    """Whether three channels may be taken for red, green and blue: named so, or not at all."""
    plain = tuple(n.lower() for n in names)
    return plain in _RGB or all(re.fullmatch(r"(channel|ch|c)?[ _-]?\d*", n) for n in plain)


def _nth(n: int) -> str:
    """2 -> "2nd"."""
    ending = {1: "st", 2: "nd", 3: "rd"}.get(n % 10, "th")
    return f"{n}{'th' if n % 100 in (11, 12, 13) else ending}"


def _shrunk(values: NDArray[Any], factor: int, *, nearest: bool) -> NDArray[Any]:
    from biozoo_runners.images.preview import shrink

    small = shrink(values, factor, nearest=nearest)
    return small if small.size else values[::factor, ::factor]


def _in_words(array: NDArray[Any]) -> str:
    """What stands in the place of a picture where there is none: the values, or their range."""
    shape = " × ".join(map(str, array.shape)) or "one value"
    flat = np.asarray(array.reshape(-1)[:100_000] if array.flags.c_contiguous else array).ravel()
    good = flat[np.isfinite(flat)] if flat.dtype.kind == "f" else flat
    if good.size == 0:
        return f"no image ({shape}), without a finite value"
    if array.size <= 12:
        return f"no image ({shape}): " + ", ".join(f"{float(v):.4g}" for v in flat)
    return f"no image ({shape}), values from {float(good.min()):.4g} to {float(good.max()):.4g}"
