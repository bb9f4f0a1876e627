"""What a model made of the region, as labels or as a foreground, and how well that agrees."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.axes import SPACE, letters
from biozoo.errors import AxesError, ImageMismatchError, MissingFileError

from ..images.base import Image
from ..prepare import as_image
from ..steps_external import count_objects
from .region import Region
from .result import AP50, DICE
from .scores import average_precision, dice, pooled

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from ..pipeline import Result
    from ..prepare import ImageLike

__all__ = ["Made", "Truth", "judge", "made_of", "read_truth"]

#: A foreground is where a probability is above this.
THRESHOLD = 0.5


@dataclass(frozen=True)
class Truth:
    """Annotation of the region: numbers of objects, or (`mask`) only where there are any."""

    name: str
    data: xr.DataArray
    mask: bool
    path: Path | None = None


@dataclass(frozen=True)
class Made:
    """The part of a result that is shown and scored: labels, or one channel of an output."""

    data: xr.DataArray
    is_labels: bool
    output: str


def read_truth(labels: ImageLike, image: Image, region: Region, axes: str | None = None) -> Truth:
    """Annotation of a region of an image.

    Parameters
    ----------
    labels
        As large as the image: 0 background, other whole numbers one object each; or a mask with
        one value for everything. Axes that its file does not name are those of the image.

    Raises
    ------
    ImageMismatchError
        For labels of another size, of several channels, or of values that are not whole.
    """
    own = [a for a in image.axes if a != "channel"]
    try:
        found = as_image(labels, axes)
    except AxesError:
        if axes is not None:
            raise
        found = as_image(labels, letters(own))
    except MissingFileError as exc:
        raise MissingFileError(what="The label image", path=exc.path) from exc
    name = str(found.path or found.name or "the labels")
    if found.sizes.get("channel", 1) != 1:
        raise ImageMismatchError(
            f"The labels {name} have {found.sizes['channel']} channels; one is expected, with a "
            "number per object. Save them as a label image, not as a coloured picture."
        )
    for axis in dict.fromkeys([*own, *found.axes]):
        have, want = found.sizes.get(axis, 1), image.sizes.get(axis, 1)
        if axis != "channel" and have != want:
            raise ImageMismatchError(
                f"The labels {name} have {have} positions along {axis}, the image has {want} "
                f"({_sizes(found)} against {_sizes(image)}). Give labels of the same size."
            )
    data = found.read({a: s for a, s in region.slices.items() if a in found.axes})
    data = data.drop_vars("channel", errors="ignore")
    data = data.squeeze([a for a in data.dims if a not in region.slices], drop=True)
    missing = [a for a in region.slices if a not in data.dims]
    data = data.expand_dims(missing).transpose(*region.slices)
    values = data.values
    if values.dtype.kind == "f":
        if not (np.isfinite(values).all() and (values == np.rint(values)).all()):
            raise ImageMismatchError(
                f"The labels {name} are not whole numbers. A label image has 0 for background and "
                "one number per object."
            )
        data = data.astype(np.int64)
    return Truth(name, data, _is_mask(data.values), found.path)


def _sizes(image: Image) -> str:
    return ", ".join(f"{a} {n}" for a, n in image.sizes.items())


def _is_mask(labels: NDArray[Any]) -> bool:
    """Whether all objects have one number although they do not touch: it marks a foreground."""
    from scipy import ndimage as ndi

    values = np.unique(labels)
    if len(values[values != 0]) != 1:
        return False
    touching = ndi.generate_binary_structure(labels.ndim, labels.ndim)
    return int(ndi.label(labels != 0, structure=touching)[1]) > 1


def made_of(result: Result) -> Made | None:
    """What to show of a result: its labels, else the foreground of its first picture.

    None where no output has the axes y and x.
    """
    names = [n for n in ("labels", *result.label_images) if n in result]
    pictures = [n for n in (*names, *result) if {"y", "x"} <= set(result[n].dims)]
    if not pictures:
        return None
    name, found = pictures[0], result[pictures[0]]
    if "channel" in found.dims:
        number, channel = _foreground(found)
        if found.sizes["channel"] > 1:
            name = f"{name}: {channel}"
        found = found.isel(channel=number, drop=True)
    return Made(found, pictures[0] in names, name)


def _foreground(data: xr.DataArray) -> tuple[int, str]:
    """The channel that most likely is a foreground: named so, else the first that is no background.

    Its number and its name.
    """
    names = [str(n) for n in data["channel"].values] if "channel" in data.coords else []
    names = names or [f"channel {i}" for i in range(data.sizes["channel"])]
    lower = [n.lower() for n in names]
    named = [i for i, n in enumerate(lower) if "foreground" in n or n == "fg"]
    other = [i for i, n in enumerate(lower) if "background" not in n and n != "bg"]
    number = (*named, *other, 0)[0]
    return number, names[number]


def cropped(made: Made, region: Region, given: Region) -> Made:
    """Of a model that got more planes than are shown, those of the region."""
    inside = region.inside(given)
    fits = {
        a: s for a, s in inside.items()
        if a in made.data.dims and made.data.sizes[a] == given.sizes[a] != region.sizes[a]
    }  # fmt: skip
    return replace(made, data=made.data.isel(fits)) if fits else made


def count(made: Made, *, solid: bool) -> int | None:
    """Objects in what was made; a model that takes no z finds them anew in each plane."""
    if not made.is_labels:
        return None
    space = SPACE if solid else ("y", "x")
    return count_objects(made.data, [str(a) for a in made.data.dims if a not in space])


def judge(made: Made, truth: Truth, *, volumes: bool) -> tuple[float | None, str, str]:
    """Score, its name, and how it was taken or why not.

    Parameters
    ----------
    volumes
        Objects are those of whole stacks; else they are compared plane by plane, and the counts
        added up.
    """
    found, why = _aligned(made.data, truth.data)
    if found is None:
        return None, "", why
    if made.is_labels and not truth.mask:
        space = SPACE if volumes else ("y", "x")
        items = [n for a, n in zip(truth.data.dims, found.shape, strict=True) if a not in space]
        each = [
            average_precision(truth.data.values[at], found[at], (0.5,))
            for at in np.ndindex(*items)  # the axes of space are the last
        ]
        return float(pooled(each).average_precision[0]), AP50, ""
    if made.is_labels:
        return dice(truth.data.values != 0, found != 0), DICE, "the labels are a mask"
    if found.dtype.kind == "f":
        low, high = float(np.nanmin(found)), float(np.nanmax(found))
        if not (low >= -1e-3 and high <= 1 + 1e-3):
            why = f"not scored: {made.output} is no probability ({low:.3g} to {high:.3g})"
            return None, "", why
        mask = found > THRESHOLD
    else:
        mask = found != 0
    return dice(truth.data.values != 0, mask), DICE, f"{made.output} > {THRESHOLD:g}"


def _aligned(data: xr.DataArray, truth: xr.DataArray) -> tuple[NDArray[Any] | None, str]:
    """Values on the axes of the annotation, or why that cannot be."""
    extra = [a for a in data.dims if a not in truth.dims]
    if any(data.sizes[a] > 1 for a in extra):
        return None, f"not scored: the result has the axes {', '.join(map(str, data.dims))}"
    data = data.squeeze(extra, drop=True)
    data = data.expand_dims([a for a in truth.dims if a not in data.dims])
    values = data.transpose(*truth.dims).values
    if values.shape != truth.shape:
        sizes = (" x ".join(map(str, s)) for s in (values.shape, truth.shape))
        return None, "not scored: the result has {} pixels, the labels {}".format(*sizes)
    return values, ""


def plane(data: xr.DataArray) -> NDArray[Any]:
    """The plane (y x) that is shown: the middle of every other axis."""
    at = {a: n // 2 for a, n in data.sizes.items() if a not in ("y", "x")}
    shown: NDArray[Any] = data.isel(at).transpose("y", "x").values
    return shown
