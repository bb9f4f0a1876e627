"""The part of a check that is about the image: axes, channels, size, type, values, pixel size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, ChannelChoiceError

from .check import CheckItem

if TYPE_CHECKING:
    import numpy as np
    from bioimageio.spec.model.v0_5 import InputTensorDescr

    from biozoo.package import ModelPackage

    from .images.base import Image
    from .prepare import Channel, FittedInput, Fitting, ImageLike
    from .processing import Processing
    from .sizes import ModelGeometry
    from .tiling import TilePlan

#: Pixels per axis of the region in which values are looked at.
SAMPLE = 512

#: Values of the image and of the model's test image are far apart where the spans between their
#: 1st and 99th percentiles differ by more than this factor, or hardly overlap.
FAR = 4.0

_SOURCES = {
    "metadata": "as the file says",
    "given": "as you named them",
    "format": "as in every file of this kind",
}


@dataclass(frozen=True)
class Fits:
    """How an image fits a model; `faults` are the items for what does not."""

    model: ModelGeometry | None = None
    fitting: Fitting | None = None
    plan: TilePlan | None = None
    faults: tuple[CheckItem, ...] = ()


def fit_image(
    package: ModelPackage,
    image: ImageLike | Mapping[str, ImageLike],
    axes: str | Sequence[str] | None,
    channel: Channel | Mapping[str, Channel] | None,
    tile: Mapping[str, int] | None,
) -> Fits:
    """Open the image, fit it to the model's inputs, and lay tiles over it."""
    from .contexts import plan_with, recall
    from .pipeline import images_of
    from .prepare import fit
    from .sizes import geometry

    topic, model, fitting = "image", None, None
    try:
        images = images_of(image, axes)
        topic = "axes"
        model = geometry(package.descr)
        fitting = fit(model, images, channel)
        topic = "size"
        plan = plan_with(model, fitting.sizes, tile, lambda: recall(package))[1]
        return Fits(model, fitting, plan)
    except ChannelChoiceError as exc:
        topic, fault = "channels", exc.message
    except BiozooError as exc:
        fault = exc.message
    return Fits(model, fitting, None, (CheckItem(topic, "no", fault, _TODO.get(topic, "")),))


#: What to do where the message does not say it itself.
_TODO = {"image": "Give another file, or name its axes: --axes."}


def items(package: ModelPackage, fits: Fits) -> Iterator[CheckItem]:
    """All that is to be said of the image, but for memory."""
    from .pipeline import plan_notes

    yield from fits.faults
    if fits.model is None or fits.fitting is None:
        return
    several = len(fits.fitting.inputs) > 1
    for f in fits.fitting.inputs:
        name = f"{f.tensor.id}: " if several else ""
        yield _axes(f, name)
        yield _channels(f, name)
    for note in fits.fitting.notes:
        yield CheckItem("image", "note", note, "Crop or choose, if that is not what you want.")
    if fits.plan is not None:
        facts = {"tiles": len(fits.plan), "plan": fits.plan.summary}
        yield CheckItem("size", "yes", fits.plan.summary, facts=facts)
        for note in plan_notes(fits.plan):
            todo = "Nothing, if the result is good at the image's edges."
            if "halo" in note:
                todo = (
                    "Use larger tiles where memory allows (--tile), or have the context measured: "
                    "zoo check --seams."
                )
            yield CheckItem("size", "note", note, todo)
    steps = _steps(package)
    described = {str(t.id): t for t in package.descr.inputs}
    for f in fits.fitting.inputs:
        name = f"{f.tensor.id}: " if several else ""
        normalised = steps is not None and steps.uses_own_statistics(f.tensor.id)
        yield _dtype(f, described[f.tensor.id], name, normalised=normalised)
        yield _intensity(package, f, described[f.tensor.id], name, normalised=normalised)
    yield from _pixel_size(fits.model, fits.fitting)


def _axes(f: FittedInput, name: str) -> CheckItem:
    told = f"{', '.join(f.image.axes)}, {_SOURCES[f.image.axes_source]}"
    facts = {"input": f.tensor.id, "axes": list(f.image.axes), "source": f.image.axes_source}
    return CheckItem("axes", "yes", f"{name}{told}", facts=facts)


def _channels(f: FittedInput, name: str) -> CheckItem:
    count = max(len(f.image.channel_names), 1)
    taken = 1 if f.gray else len(f.channels) if f.channels else count
    told = f"{taken} of {count}" if f.channels else f"{count} in the image"
    facts = {"input": f.tensor.id, "taken": taken, "in_image": count}
    return CheckItem("channels", "yes", f"{name}{told}", facts=facts)


def _steps(package: ModelPackage) -> Processing | None:
    """The preprocessing, None where it is not known here (the author's code, say)."""
    from .processing import preprocessing

    try:
        return preprocessing(package.descr)
    except BiozooError:
        return None


# ---------------------------------------------------------------------------------- type, values


def _dtype(f: FittedInput, tensor: InputTensorDescr, name: str, *, normalised: bool) -> CheckItem:
    """The pixels' type against the one that the model describes."""
    import numpy as np

    have, wanted = f.image.dtype, np.dtype(_data(tensor).type)
    facts = {"input": f.tensor.id, "image": have.name, "model": wanted.name}
    if have == wanted:
        return CheckItem("dtype", "yes", f"{name}{have}, as the model describes", facts=facts)
    told = f"{name}{have}, the model describes {wanted}"
    if normalised or np.can_cast(have, wanted, "same_kind") or wanted.kind == "f":
        return CheckItem("dtype", "yes", told, facts=facts)
    todo = f"Give an image of {wanted}, if there is one: this one was converted before."
    return CheckItem("dtype", "note", told, todo, facts=facts)


def _intensity(
    package: ModelPackage,
    f: FittedInput,
    tensor: InputTensorDescr,
    name: str,
    *,
    normalised: bool,
) -> CheckItem:
    """The range of values against what the model describes and against its own test image."""
    pixels = _sample(f.image)
    if pixels.size == 0:
        return CheckItem("intensity", "note", f"{name}no finite value in its middle",
                         "Look whether this is the right image.")  # fmt: skip
    low, high = float(pixels.min()), float(pixels.max())
    span = _span(pixels)
    test = _test_span(package, tensor)
    least, most = _described_range(tensor)
    facts = {
        "input": f.tensor.id,
        "image": {"min": low, "max": high, "p1": span[0], "p99": span[1]},
        "test": None if test is None else {"p1": test[0], "p99": test[1]},
        "described": [least, most],
        "normalised": normalised,
    }
    if normalised:
        told = f"{name}{low:g} to {high:g} in its middle, normalised by the image's own values"
        return CheckItem("intensity", "yes", told, facts=facts)
    found = f"{name}{low:g} to {high:g} in its middle"
    if (least is not None and low < least) or (most is not None and high > most):
        bounds = f"{'any' if least is None else f'{least:g}'} to "
        bounds += "any" if most is None else f"{most:g}"
        what = f"{found}; the model expects {bounds}"
    elif test is not None and _far(span, test):
        what = (
            f"{found} (1 % to 99 %: {span[0]:g} to {span[1]:g}); "
            f"the model's own test image has {test[0]:g} to {test[1]:g}"
        )
    elif least == 0.0 and most is not None and most > 1 and pixels.dtype.kind == "f" and high <= 1:
        what = f"{found}, as if scaled to 0..1; the model expects {least:g} to {most:g}"
    else:
        like = "" if test is None else ", like the model's own test image"
        return CheckItem("intensity", "yes", f"{found}{like}", facts=facts)
    todo = "The model does not normalise by the image. Scale the image to that range."
    return CheckItem("intensity", "note", what, todo, facts=facts)


def _sample(image: Image) -> np.ndarray[Any, Any]:
    """The finite values of a region in the image's middle."""
    import numpy as np

    region: dict[str, int | slice] = {}
    for axis, n in image.sizes.items():
        size = min(n, SAMPLE if axis in "yx" else n if axis == "channel" else 1)
        start = (n - size) // 2
        region[axis] = slice(start, start + size)
    pixels = np.asarray(image.read(region).values)
    return pixels[np.isfinite(pixels)] if pixels.dtype.kind == "f" else pixels


def _span(pixels: np.ndarray[Any, Any]) -> tuple[float, float]:
    """First and 99th percentile."""
    import numpy as np

    low, high = np.percentile(pixels, (1, 99))
    return float(low), float(high)


def _test_span(package: ModelPackage, tensor: InputTensorDescr) -> tuple[float, float] | None:
    """The same of the package's own test input; None where it is not here or not readable."""
    import numpy as np

    if tensor.test_tensor is None:
        return None
    try:
        array = np.load(package.path(tensor.test_tensor), mmap_mode="r", allow_pickle=False)
    except (BiozooError, OSError, ValueError, EOFError):
        return None
    if array.size == 0 or array.dtype.kind not in "buif":
        return None
    middle = tuple(
        slice((n - min(n, SAMPLE)) // 2, (n - min(n, SAMPLE)) // 2 + SAMPLE) for n in array.shape
    )
    pixels = np.asarray(array[middle])
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels)]
    return _span(pixels) if pixels.size else None


def _far(have: tuple[float, float], test: tuple[float, float]) -> bool:
    """Whether two ranges of values have little to do with each other."""
    mine, theirs = have[1] - have[0], test[1] - test[0]
    if mine <= 0 or theirs <= 0:  # one value everywhere tells nothing
        return False
    shared = min(have[1], test[1]) - max(have[0], test[0])
    return mine > FAR * theirs or theirs > FAR * mine or shared < 0.1 * min(mine, theirs)


def _data(tensor: InputTensorDescr) -> Any:
    return tensor.data[0] if isinstance(tensor.data, Sequence) else tensor.data


def _described_range(tensor: InputTensorDescr) -> tuple[float | None, float | None]:
    """Range of values that a description allows; an integer type limits what it leaves open."""
    import numpy as np

    data = _data(tensor)
    low, high = getattr(data, "range", (None, None))
    if np.dtype(data.type).kind in "ui":
        info = np.iinfo(data.type)
        low = float(info.min) if low is None else low
        high = float(info.max) if high is None else high
    return low, high


def _pixel_size(model: ModelGeometry, fitting: Fitting) -> Iterator[CheckItem]:
    """The image's pixel size against the model's, where both are known."""
    for f in fitting.inputs:
        for a in f.tensor.axes:
            have, unit = f.image.pixel_size.get(a.id), f.image.unit.get(a.id)
            if a.kind != "space" or a.unit is None or have is None or unit != a.unit:
                continue
            ratio = have / a.scale
            facts = {"axis": a.id, "image": have, "model": a.scale, "unit": unit}
            if 2 / 3 <= ratio <= 1.5:
                what = f"{a.id} {have:.3g} {unit}"
                yield CheckItem("pixel size", "yes", what, facts=facts)
            else:
                what = (
                    f"{a.id} is {have:.3g} {unit} per pixel, the model was made for {a.scale:.3g}"
                )
                todo = (
                    f"Rescale the image by {ratio:.2g} along {a.id} for best results. On the "
                    "command line: --scale auto."
                )
                yield CheckItem("pixel size", "note", what, todo, facts=facts)
