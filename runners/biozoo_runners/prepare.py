"""Fits an image to a model input: which axes are looped over, which channel is taken.

Nothing is guessed. What the model and the image disagree on is either settled by a rule that loses
nothing (an extra z, time, batch or index axis is looped over, a missing channel or batch axis of
one is added), or by the caller (`channel`), or it is an error that says what to do.

Pixels are read one loop item at a time, in the order of the model's axes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.axes import CANONICAL, IDS, LETTERS, letters
from biozoo.errors import AxesError, ChannelChoiceError, ImageMismatchError, UsageError

from .images.base import Image, describe
from .not_finite import find_replacement
from .sizes import ModelGeometry, TensorGeometry

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    ImageLike = str | Path | Image | NDArray[Any] | xr.DataArray

Channel = int | str | Sequence[int | str]
"""One channel by number or name, "gray" (the mean of an RGB image), or several ("0,2")."""

#: Axes that a model may lack: the image is processed position by position along them.
LOOPED = ("batch", "index", "time", "z")


@dataclass(frozen=True)
class FittedInput:
    """One image in the terms of one input tensor."""

    tensor: TensorGeometry
    image: Image
    loops: Mapping[str, int]
    """extra axes of the image, with their sizes"""
    channels: tuple[int, ...] | None = None
    """which channels of the image are taken, in this order; None: it has no channel axis"""
    gray: bool = False
    """whether their mean is taken"""

    @property
    def sizes(self) -> dict[str, int]:
        """Size of every axis of the tensor."""
        channels = 1 if self.gray or self.channels is None else len(self.channels)
        found = self.image.sizes | {"batch": 1, "channel": channels}
        return {a: found[a] for a in self.tensor.dims}

    def read(self, at: Mapping[str, int], region: Sequence[slice] | None = None) -> NDArray[Any]:
        """Pixels of one loop item, axes as in the tensor, the file's dtype (float32 for gray).

        Parameters
        ----------
        at
            Position along the looped axes.
        region
            One slice per axis of the tensor, all of them where not given; only what is in it is
            read from the file.
        """
        part = {} if region is None else dict(zip(self.tensor.dims, region, strict=True))
        selection: dict[str, int | slice] = {a: s for a, s in part.items() if a in self.image.axes}
        selection |= {a: at[a] for a in self.loops}
        if self.channels is not None:
            wanted = self.channels
            if "channel" in part and not self.gray:
                wanted = wanted[part["channel"]]
            first, last = min(wanted), max(wanted)
            selection["channel"] = slice(first, last + 1)
            inside = [c - first for c in wanted]
        data = self.image.read(selection)
        pixels, dims = data.values, [str(d) for d in data.dims]
        if self.channels is not None:
            axis = dims.index("channel")
            if self.gray:
                pixels = pixels.mean(axis=axis, keepdims=True, dtype=np.float32)
            elif inside != list(range(last - first + 1)):
                pixels = pixels.take(inside, axis=axis)
            if "channel" not in self.tensor.dims:
                pixels = pixels.squeeze(axis)
                dims.remove("channel")
        added = [a for a in self.tensor.dims if a not in dims]  # batch or channel of one
        pixels = pixels.reshape((1,) * len(added) + pixels.shape)
        dims = [*added, *dims]
        return pixels.transpose([dims.index(a) for a in self.tensor.dims])


@dataclass(frozen=True)
class Fitting:
    """All inputs of a run, and the axes that are looped over (canonical order)."""

    inputs: tuple[FittedInput, ...]
    loops: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def sizes(self) -> dict[str, dict[str, int]]:
        """Size of every axis of every input, for `plan_tiles`."""
        return {i.tensor.id: i.sizes for i in self.inputs}

    def items(self) -> Iterator[dict[str, int]]:
        """Every position along the looped axes, the last axis fastest."""
        for at in itertools.product(*(range(n) for n in self.loops.values())):
            yield dict(zip(self.loops, at, strict=True))

    def __len__(self) -> int:
        return int(np.prod(list(self.loops.values()), dtype=int))


def as_image(source: ImageLike, axes: str | Sequence[str] | None = None) -> Image:
    """An `Image` of a path, an array (with `axes`), a DataArray, or an `Image`.

    A DataArray may have axes outside the vocabulary of images; `fit` looks whether the model does.
    """
    if isinstance(source, Image):
        if axes is not None:
            raise UsageError("Axes were given for an opened image. Open it with these axes.")
        return source
    if isinstance(source, str | Path):
        from .images import open_image

        return open_image(source, axes=axes)
    dims = [str(d) for d in getattr(source, "dims", ())]
    if axes is not None or all(d in IDS or d.lower() in LETTERS for d in dims):
        return Image.from_array(source, axes)
    return describe(  # axes called as a model calls its own, "object" and "point"
        path=None,
        name=str(getattr(source, "name", None) or ""),
        axes=tuple(LETTERS.get(d.lower(), d) for d in dims),
        given=None,
        shape=source.shape,
        dtype=source.dtype,
        reader=np.asarray(source).__getitem__,
    )


def fit(
    model: ModelGeometry,
    images: Mapping[str, Image] | Image,
    channel: Channel | Mapping[str, Channel] | None = None,
) -> Fitting:
    """Fit images to a model's inputs.

    Parameters
    ----------
    images
        One image per input tensor id; a single image for a model with one required input.
    channel
        Which channel(s) to take where an image has more than the input takes; by tensor id for
        several inputs.

    Raises
    ------
    UsageError
        For missing or unknown inputs.
    ImageMismatchError
        For axes or channels that the image lacks.
    ChannelChoiceError
        Where a channel must be chosen; it lists them.
    """
    given = _by_input(model, images)
    fitted = []
    for t in model.inputs:
        if t.id in given:
            choice = channel.get(t.id) if isinstance(channel, Mapping) else channel
            if len(given) > 1 and not isinstance(channel, Mapping) and _fits(t, given[t.id]):
                choice = None  # one choice for several inputs is for those that need it
            fitted.append(_fit_one(t, given[t.id], choice))
    loops: dict[str, int] = {}
    for f in fitted:
        for axis, size in f.loops.items():
            if loops.setdefault(axis, size) != size:
                raise ImageMismatchError(
                    f"Input '{f.tensor.id}' has {size} positions along '{axis}', another input "
                    f"has {loops[axis]}. Give images of the same length along '{axis}'."
                )
    ordered = {a: loops[a] for a in CANONICAL if a in loops}
    return Fitting(tuple(fitted), ordered, tuple(_notes(fitted, ordered)))


def _by_input(model: ModelGeometry, images: Mapping[str, Image] | Image) -> Mapping[str, Image]:
    ids = [t.id for t in model.inputs]
    required = [t.id for t in model.inputs if not t.optional] or ids[:1]
    if isinstance(images, Image):
        if len(required) > 1:
            raise UsageError(
                f"The model takes {len(required)} images: {', '.join(required)}. Give one for "
                "each input by its name, for example "
                + "{"
                + ", ".join(f"'{i}': '{i}.tif'" for i in required)
                + "}."
            )
        return {required[0]: images}
    if unknown := [i for i in images if i not in ids]:
        raise UsageError(f"The model has no input '{unknown[0]}'; it takes {', '.join(ids)}.")
    if missing := [i for i in required if i not in images]:
        raise UsageError(f"No image was given for input '{missing[0]}'; the model takes it.")
    return images


def _wanted(tensor: TensorGeometry) -> int | None:
    """Channels that the input takes; None without a channel axis."""
    return len(tensor.axis("channel").channels) if "channel" in tensor.dims else None


def _fits(tensor: TensorGeometry, image: Image) -> bool:
    return image.sizes.get("channel", 1) == (_wanted(tensor) or 1)


def _fit_one(tensor: TensorGeometry, image: Image, channel: Channel | None) -> FittedInput:
    for a in tensor.axes:
        if a.id not in ("batch", "channel", *image.axes):
            wanted = [d for d in tensor.dims if d != "batch"]
            if len(image.axes) < len(wanted):
                wanted = [d for d in wanted if d != "channel"]
            rename = (
                f" If one of its axes is '{a.id}', say so: --axes {letters(wanted)}."
                if len(image.axes) == len(wanted)
                else ""
            )
            raise ImageMismatchError(
                f"Input '{tensor.id}' has the axes {', '.join(tensor.dims)}; {_who(image)} has "
                f"{', '.join(image.axes)} ({_shape(image)}), so '{a.id}' is missing. Give an image "
                f"with this axis.{rename}"
            )
    if extra := [a for a in image.axes if a not in IDS and a not in tensor.dims]:
        raise ImageMismatchError(
            f"{_who(image)} has an axis '{extra[0]}', which input '{tensor.id}' does not have; its "
            f"axes are {', '.join(tensor.dims)}. Take one position along '{extra[0]}', or rename "
            "it."
        )
    if empty := [a for a, n in image.sizes.items() if n == 0]:
        raise ImageMismatchError(f"{_who(image)} has no pixels along '{empty[0]}'.")
    loops = {
        a: n
        for a, n in image.sizes.items()
        if a in LOOPED and (a == "batch" or a not in tensor.dims)
    }
    channels, gray = _choose(tensor, image, channel)
    return FittedInput(tensor, image, loops, channels, gray)


def _choose(
    tensor: TensorGeometry, image: Image, channel: Channel | None
) -> tuple[tuple[int, ...] | None, bool]:
    """Channels to take, and whether to take their mean."""
    wanted = _wanted(tensor) or 1
    if "channel" not in image.axes:
        if wanted != 1:
            raise ImageMismatchError(
                f"Input '{tensor.id}' takes {wanted} channels "
                f"({', '.join(tensor.axis('channel').channels)}), {_who(image)} has no channel "
                "axis. If one of its axes is the channel, name the axes, for example --axes cyx."
            )
        if channel is not None and str(channel) not in ("0", "gray", image.channel):
            raise AxesError(
                f"{_who(image)} has no channel axis, so channel {channel!r} cannot be chosen. "
                "Leave --channel out."
            )
        return None, False
    names = image.channel_names
    if channel is None:
        if len(names) < wanted:
            raise ImageMismatchError(
                f"Input '{tensor.id}' takes {wanted} channels, {_who(image)} has {len(names)}: "
                f"{', '.join(names)}. Give an image with {wanted}."
            )
        if len(names) > wanted:
            raise ChannelChoiceError(
                tensor=tensor.id, wanted=wanted, channels=names, rgb=image.rgb and wanted == 1
            )
        return tuple(range(wanted)), False
    if channel == "gray":
        if not image.rgb or wanted != 1:
            why = "it is no RGB image" if wanted == 1 else f"the model takes {wanted} channels"
            raise UsageError(
                f"The gray of {_who(image)} cannot be taken: {why}. Its channels are "
                f"{', '.join(names)}; choose by number or name."
            )
        return tuple(range(len(names))), True
    chosen = tuple(_index(c, names, image) for c in _listed(channel, names))
    if len(chosen) != wanted:
        raise ChannelChoiceError(tensor=tensor.id, wanted=wanted, channels=names, rgb=image.rgb)
    return chosen, False


def _listed(channel: Channel, names: Sequence[str]) -> list[int | str]:
    if isinstance(channel, str):
        return [channel] if channel in names else [c.strip() for c in channel.split(",")]
    return [channel] if isinstance(channel, int) else list(channel)


def _index(channel: int | str, names: Sequence[str], image: Image) -> int:
    """Number of a channel; a name wins over a number, upper and lower case are the same."""
    lower = [n.lower() for n in names]
    if isinstance(channel, str) and lower.count(channel.lower()) == 1:
        return lower.index(channel.lower())
    listed = ", ".join(f"{i} ({n})" for i, n in enumerate(names))
    if isinstance(channel, str) and channel.lower() in lower:
        raise UsageError(
            f"Several channels of {_who(image)} are called '{channel}': {listed}. Choose by number."
        )
    try:
        number = int(channel)
    except ValueError:
        number = -1
    if not 0 <= number < len(names):
        raise UsageError(
            f"{_who(image)} has no channel '{channel}'; it has {listed}. Choose one of these."
        )
    return number


def _notes(fitted: Sequence[FittedInput], loops: Mapping[str, int]) -> Iterator[str]:
    if many := {a: n for a, n in loops.items() if n > 1}:
        what = ", ".join(f"{a} ({n})" for a, n in many.items())
        yield (
            f"the model has no axis {what}: the image is processed position by position, each "
            "with its own statistics"
        )
    for f in fitted:
        yield from f.image.notes
        names = f.image.channel_names
        if f.gray:
            yield f"input '{f.tensor.id}': the mean of {', '.join(names)} is used"
        elif f.channels is not None and len(f.channels) < len(names):
            taken = ", ".join(names[c] for c in f.channels)
            yield f"input '{f.tensor.id}': channel {taken} is used"
        elif f.channels is not None and "channel" in f.tensor.dims and len(names) > 1:
            expected = [c.lower() for c in f.tensor.axis("channel").channels]
            found = [n.lower() for n in names]
            if expected != found and sorted(expected) == sorted(found):
                yield (
                    f"input '{f.tensor.id}': the image's channels are {', '.join(names)}, the "
                    f"model's {', '.join(f.tensor.axis('channel').channels)}; they are taken in "
                    "the image's order unless --channel says another"
                )


def _who(image: Image) -> str:
    if image.path is not None:
        return str(image.path)
    return f"the array '{image.name}'" if image.name else "the array"


def _shape(image: Image) -> str:
    return " x ".join(map(str, image.shape))


def replace_not_finite(pixels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """Pixels with NaN replaced by the mean of the others, infinities by their extremes.

    Returns
    -------
    tuple
        The pixels (a copy where something was replaced) and how many were replaced.

    Raises
    ------
    ImageMismatchError
        If no pixel is finite.
    """
    found = find_replacement(pixels)
    return (pixels, 0) if found is None else (found.apply(pixels), found.count)
