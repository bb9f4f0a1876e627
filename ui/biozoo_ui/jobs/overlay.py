"""How results lie over the image they were made from, and as what they are shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .model import Kind

if TYPE_CHECKING:
    import xarray as xr

    from biozoo_runners import Image, Result, Runner

    Images = Image | Mapping[str, Image]

PLANE = ("y", "x")


@dataclass(frozen=True)
class Overlay:
    """One result over the (first) image.

    Attributes
    ----------
    kind
        "labels", "probability" (real numbers from 0 to 1) or "image".
    at
        Where it begins, in pixels of the image by axis id; an axis that is not there is everywhere.
    scale
        Pixels of the image per own pixel along y and x; None where they are the same.
    volume
        Whether its objects go through the planes of a stack: not where the model saw each plane
        by itself.
    """

    kind: Kind
    at: dict[str, float]
    scale: dict[str, float] | None
    volume: bool = False


def overlays(
    runner: Runner, images: Images, result: Result, origin: Mapping[str, int] | None = None
) -> dict[str, Overlay]:
    """How each result lies, by id.

    Parameters
    ----------
    images
        As they were run: cut to a region, perhaps.
    origin
        First position of that region in the whole image, by axis id.
    """
    found = {}
    for name in result:
        at, scale = _place(runner, images, name, result[name], origin or {})
        volume = "z" in result[name].dims and any("z" in t.dims for t in runner.geometry.inputs)
        found[name] = Overlay(_kind(runner, result, name), at, scale, volume)
    return found


def in_order(result: Result) -> list[str]:
    """The ids of a result, labels first."""
    labelled = result.label_images
    return sorted(result, key=lambda t: (t not in labelled, t != "labels", t))


def _kind(runner: Runner, result: Result, name: str) -> Kind:
    data = result[name].values
    if name in result.label_images:
        return "labels"
    # A restored image is looked at as one, also where its values are from 0 to 1.
    restores = runner.package.summary.task == "restoration"
    if restores or data.dtype.kind != "f" or data.size == 0:
        return "image"
    return "probability" if data.min() >= 0 and data.max() <= 1 else "image"  # NaN is neither


def _place(
    runner: Runner, images: Images, name: str, data: xr.DataArray, origin: Mapping[str, int]
) -> tuple[dict[str, float], dict[str, float] | None]:
    inputs = dict(images) if isinstance(images, Mapping) else {"": images}
    first = next(iter(inputs.values()))
    at: dict[str, float] = {
        a: origin.get(a, 0) for a in ("time", "z") if a in origin or a in data.dims
    }
    scale = {}
    for axis in PLANE:
        if axis not in data.dims or axis not in first.sizes:
            at[axis], scale[axis] = origin.get(axis, 0), 1.0
            continue
        begin, size = _along(runner, inputs, name, axis, int(data.sizes[axis]))
        at[axis], scale[axis] = origin.get(axis, 0) + begin, size
    return at, None if all(size == 1 for size in scale.values()) else scale


def _along(
    runner: Runner, inputs: Mapping[str, Image], name: str, axis: str, size: int
) -> tuple[float, float]:
    """Where a result of so many pixels begins, and how large one is, in pixels of the first image.

    A result's axis that follows no axis of an image is stretched over it.
    """
    first, source, ratio = next(iter(inputs.values())), "", None
    model = runner.geometry.final
    made_of = runner.instances.output if runner.instances and name == "labels" else name
    if axis in model.tensor(made_of).dims:
        (source, of), share = model.referenced(made_of, axis)
        if source in (t.id for t in model.inputs) and of == axis:
            ratio = share
    if ratio is None:
        return 0.0, first.sizes[axis] / size
    image = inputs.get(source, first)
    own, unit = image.sizes[axis], float(1 / ratio)
    lost = max(0, math.floor(own * ratio) - size)  # what valid convolutions take from the border
    factor = first.sizes[axis] / own
    return lost / 2 * unit * factor, unit * factor
