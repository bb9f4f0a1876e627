"""Whether the labels of one image can be learned from; what can be mended is, and is told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo_runners.images.base import Image

from .masks import is_mask, is_scattered, split_mask
from .pairs import Pair, pieces

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .targets.base import Target

__all__ = ["Fault", "Labels", "checked_labels"]

#: So many different numbers are remembered of labels; more are counted only.
_FEW = 1000

#: Pixels along each axis, from the middle of labels, that are looked at for numbers of objects.
_LOOKED = {2: 1024, 3: 128}

#: Labels are turned and magnified as float32, in which larger numbers run into each other.
_LARGEST = 2**24

_LOSSY = (".jpg", ".jpeg")


class Fault(Exception):
    """Why a pair cannot be used."""


@dataclass(frozen=True)
class Labels:
    """How labels are to be read.

    Attributes
    ----------
    target
        What they are for.
    spatial
        Spatial axes of the model, in its order.
    scribbles, split_masks
        As of `checks.check_pairs`.
    """

    target: Target
    spatial: tuple[str, ...]
    scribbles: bool
    split_masks: bool


@dataclass
class _Seen:
    """What numbers labels hold."""

    values: set[int]
    lowest: float = 0.0
    highest: float = 0.0
    nan: int = 0

    @property
    def above(self) -> list[int]:
        """Those of objects or classes."""
        return sorted(v for v in self.values if v > 0)


def checked_labels(pair: Pair, how: Labels, note: Callable[[str], None]) -> tuple[Pair, bool]:
    """The pair with labels that can be learned from, and whether something is in them.

    Parameters
    ----------
    note
        Called with what a person should know.

    Raises
    ------
    Fault
        They cannot be used; says why and what to do.
    """
    assert pair.labels is not None
    labels = _one_channel(pair.labels, note)
    check_sizes(pair.image, labels, (), "The labels")
    if labels.path is not None and labels.path.suffix.lower() in _LOSSY:
        raise Fault(
            "its labels are a JPEG, which changes the numbers that are saved in it. Save labels as "
            "PNG or TIFF, from the original"
        )
    pair = replace(pair, labels=labels, scribbles=how.scribbles)
    seen = _look(labels, note)
    if how.scribbles:
        return _scribbled(pair, seen, how, note), True
    if how.target.supplies == "instances":
        return _instances(pair, labels, seen, how, note), bool(seen.above)
    return _classes(pair, labels, seen, how, note), bool(seen.above)


def check_sizes(image: Image, labels: Image, besides: tuple[str, ...], what: str) -> None:
    """Raise a `Fault` unless both have the same positions along all axes but the channels."""
    mine = {a: n for a, n in image.sizes.items() if a != "channel"}
    other = {a: n for a, n in labels.sizes.items() if a not in ("channel", *besides)}
    alike = {a: n for a, n in mine.items() if n > 1} == {a: n for a, n in other.items() if n > 1}
    if not alike:
        raise Fault(
            f"{what} measure {_sizes(other)}, the image {_sizes(mine)}: they must be of one size"
        )


def _sizes(sizes: dict[str, int]) -> str:
    return " x ".join(f"{a} {n}" for a, n in sizes.items())


def _one_channel(labels: Image, note: Callable[[str], None]) -> Image:
    """Labels without a channel axis."""
    if "channel" not in labels.axes:
        return labels
    data = labels.read()
    first = data.isel(channel=0)
    colours = min(data.sizes["channel"], 3)  # a fourth is opacity
    if not all(bool((data.isel(channel=n) == first).all()) for n in range(colours)):
        raise Fault(
            f"its labels have {data.sizes['channel']} channels that differ: a colour picture of "
            "labels. Save one number per pixel"
        )
    if colours > 1:
        note("the channels of its labels are alike, one is used")
    made = Image.from_array(first.drop_vars("channel", errors="ignore"), name=labels.name)
    return replace(made, path=labels.path)


def _look(labels: Image, note: Callable[[str], None]) -> _Seen:
    """All numbers of labels, read in pieces.

    Raises
    ------
    Fault
        Some are no whole numbers, or beyond what labels can be.
    """
    seen = _Seen(set())
    for piece in pieces(labels):
        array = labels.read(piece).values
        values: NDArray[Any] = np.unique(array)
        if values.dtype.kind == "f":
            seen.nan += int(np.isnan(array).sum())
            values = values[~np.isnan(values)]
            if np.isinf(values).any():
                raise Fault("its labels hold infinite numbers. Save the label image anew")
            if (values != np.round(values)).any():
                raise Fault(
                    f"its labels are {labels.dtype} with fractions: labels are whole numbers, one "
                    "per object or class. Save the label image, not the probabilities"
                )
        if not values.size:
            continue
        seen.lowest = min(seen.lowest, float(values[0]))
        seen.highest = max(seen.highest, float(values[-1]))
        if len(seen.values) < _FEW:
            seen.values |= {int(v) for v in values[:_FEW]}
    if max(seen.highest, -seen.lowest) > _LARGEST:
        raise Fault(
            f"its labels run from {seen.lowest:.0f} to {seen.highest:.0f}; numbers up to "
            f"{_LARGEST} can be used. Number the objects anew, from 1"
        )
    if labels.dtype.kind == "f":
        note(f"labels of type {labels.dtype} hold whole numbers")
    if seen.nan:
        note(f"{seen.nan} pixels of its labels are NaN: taken as not painted")
    return seen


# -------------------------------------------------------------------------------------- by meaning


def _scribbled(pair: Pair, seen: _Seen, how: Labels, note: Callable[[str], None]) -> Pair:
    if not seen.above:
        raise Fault("nothing is painted in its labels (all pixels are 0)")
    top = int(seen.highest)
    if how.target.supplies == "instances":
        if top > 2:
            note(
                f"its scribbles hold numbers up to {top}: 1 is background, 2 the object. Objects "
                "that are numbered one by one are no scribbles: leave --scribbles out"
            )
        return pair
    highest = _highest(how)
    if top - 1 > highest:
        raise Fault(
            f"its scribbles hold the number {top}: 0 is not painted, 1 background, 2 to "
            f"{highest + 1} the classes of the model"
        )
    return pair


def _instances(
    pair: Pair, labels: Image, seen: _Seen, how: Labels, note: Callable[[str], None]
) -> Pair:
    if not seen.above:
        note("it has no objects: it is taken as an image of background")
        return pair
    spatial = [a for a in labels.axes if a in how.spatial]
    if len(seen.above) > 1:
        if is_scattered(_middle(labels, spatial)):
            raise Fault(
                "its labels number no objects: each number stands in many separate places. They "
                "may be classes, or an image: give a label image, every object a number of its own"
            )
        return pair
    array = labels.read().transpose(..., *spatial).values
    array = np.nan_to_num(array, nan=-1).astype(np.int32)
    items = array.reshape(-1, *array.shape[array.ndim - len(spatial) :])
    if not any(is_mask(item) for item in items):
        return pair
    if not how.split_masks:
        raise Fault(
            f"its labels are a mask: the one value {seen.above[0]} for several objects. Number the "
            "objects 1, 2, 3, ... or let them be cut apart: --split-masks (split_masks=True)"
        )
    split = np.stack([split_mask(item) for item in items]).reshape(array.shape)
    note(f"its mask was cut into {sum(int(s.max()) for s in split.reshape(items.shape))} objects")
    axes = [a for a in labels.axes if a not in spatial] + spatial
    return replace(pair, labels=Image.from_array(split, axes, name=labels.name))


def _middle(labels: Image, spatial: Sequence[str]) -> NDArray[np.int32]:
    """The middle of labels over the spatial axes, at most `_LOOKED` pixels along each."""
    most = _LOOKED.get(len(spatial), _LOOKED[3])
    selection: dict[str, int | slice] = {}
    for axis, size in labels.sizes.items():
        start = max(0, (size - most) // 2)
        selection[axis] = slice(start, start + most) if axis in spatial else size // 2
    values = labels.read(selection).values
    found: NDArray[np.int32] = np.nan_to_num(values, nan=-1).astype(np.int32)
    return found


def _classes(
    pair: Pair, labels: Image, seen: _Seen, how: Labels, note: Callable[[str], None]
) -> Pair:
    highest, top = _highest(how), int(seen.highest)
    if top <= highest:
        return pair
    if highest == 1 and seen.above == [top]:
        note(f"the one value {top} of its labels is taken as the class 1")
        reader = partial(_as_one, labels.reader, top)
        return replace(pair, labels=replace(labels, reader=reader))
    raise Fault(
        f"its labels hold the class {top}; the model's output has classes up to {highest}, and 0 "
        "for what is none of them. Objects that are numbered one by one are no classes"
    )


def _highest(how: Labels) -> int:
    """The highest class that can be painted."""
    target = how.target
    known = getattr(target, "classes", None)
    if known is not None:
        return max(1, int(known[-1]))
    count = len(target.channels(len(how.spatial)))
    return max(1, count - 1 if target.activation == "softmax" else count)


def _as_one(reader: Callable[[Any], NDArray[Any]], value: int, index: Any) -> NDArray[Any]:
    """Pixels with 1 in place of a value."""
    pixels = reader(index)
    return np.where(pixels == value, pixels.dtype.type(1), pixels)
