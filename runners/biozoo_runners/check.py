"""Will a model run here, does it fit an image, and if not: why, and what to do.

Nothing is loaded and no statistics are taken; of the image, the header and a small region are
read. Checking does not stop at the first "no".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from biozoo.errors import BiozooError, ChannelChoiceError, NoBackendError
from biozoo.files import size_text

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import InputTensorDescr

    from biozoo.package import ModelPackage

    from .devices import Machine
    from .images.base import Image
    from .prepare import Channel, Fitting, ImageLike
    from .sizes import ModelGeometry
    from .tiling import TilePlan

Status = Literal["yes", "note", "no"]

#: Float32 features per pixel that a network is taken to hold at once, for the memory estimate.
#: Measured in ONNX Runtime on a CPU: nuclei-fluo 133, nuclei-broad 97, brain-meshnet3d 64.
FEATURES = 128

#: Bytes per pixel that finding objects takes besides its result (measured: 28 in 108 megapixels).
OBJECTS = 28

#: Pixels per axis of the region in which the range of values is looked at.
SAMPLE = 512


@dataclass(frozen=True, slots=True)
class CheckItem:
    """One question and its answer; `todo` says what to do about a "no" (or a "note")."""

    topic: str
    status: Status
    what: str
    todo: str = ""

    def __str__(self) -> str:
        text = f"{self.status:4} {self.topic}: {self.what}"
        return f"{text}\n     -> {self.todo}" if self.todo else text


@dataclass(frozen=True, slots=True)
class CheckReport:
    """All answers; prints one line each."""

    model: str
    image: str | None
    items: tuple[CheckItem, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing stands against a run."""
        return all(i.status != "no" for i in self.items)

    @property
    def exit_code(self) -> int:
        """0 it will run, 1 it will not."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"ok": self.ok}

    def __str__(self) -> str:
        on = f" on {self.image}" if self.image else ""
        head = f"{self.model} {'will' if self.ok else 'will NOT'} run{on}"
        return "\n".join([head, *(f"  {item}".replace("\n", "\n  ") for item in self.items)])


def check(
    package: ModelPackage | str | Path,
    image: ImageLike | Mapping[str, ImageLike] | None = None,
    *,
    axes: str | Sequence[str] | None = None,
    channel: Channel | Mapping[str, Channel] | None = None,
    tile: Mapping[str, int] | None = None,
    device: str = "auto",
    weights: str | None = None,
) -> CheckReport:
    """Check a model against this machine and an image.

    Parameters
    ----------
    package
        A `ModelPackage`, or what `biozoo.open` takes.
    image
        What a `Runner` takes; None checks the machine only.
    axes, channel, tile, device, weights
        As for `load` and `Runner`.

    Raises
    ------
    NotFoundError, MissingFileError, CollectionError
        The model itself cannot be had; everything else is an item of the report.
    """
    import biozoo

    from .devices import detect

    if isinstance(package, str | Path):
        package = biozoo.open(package)
    machine = detect()
    items = list(_package(package, machine, device, weights))
    if image is not None and not any(i.topic == "description" for i in items):
        items += _image(package, machine, image, axes, channel, tile)
    name = None if image is None else str(image) if isinstance(image, str | Path) else "the image"
    return CheckReport(package.id, name, tuple(items))


def _package(
    package: ModelPackage, machine: Machine, device: str, weights: str | None
) -> Iterator[CheckItem]:
    """Description, code, weights, device, processing."""
    from biozoo.trust import code_of

    from .instances import read_instances_config
    from .pipeline import known_backends
    from .processing import postprocessing, preprocessing
    from .selection import Wish, select

    try:
        descr = package.descr
        read_instances_config(descr)
    except BiozooError as exc:
        yield CheckItem(
            "description", "no", exc.message, "Ask its author, or try another version of the model."
        )
        return
    code = code_of(package.raw) if package.trust == "untrusted code" else ()
    for what in code:
        yield CheckItem(
            "code",
            "no",
            f"it would run its author's code: {what}",
            "biozoo does not run code of packages; look for a version of the model with ONNX "
            "weights and without custom processing.",
        )
    if not code:
        yield CheckItem("code", "yes", "it runs no code of its author")
    try:
        chosen = select(package, machine, Wish(device, weights), *known_backends())
    except NoBackendError as exc:
        for candidate, why in exc.reasons.items():
            yield CheckItem("weights", "no", f"{candidate}: {why}")
    except BiozooError as exc:
        yield CheckItem("device", "no", exc.message)
    else:
        what = f"{chosen.weights_format} with {chosen.backend.name} on {chosen.device}"
        yield CheckItem("weights", "yes", what)
        if chosen.why:
            yield CheckItem("device", "note", chosen.why)
    try:
        preprocessing(descr)
        postprocessing(descr)
    except BiozooError as exc:
        if not code:
            yield CheckItem("processing", "no", exc.message)


def _image(
    package: ModelPackage,
    machine: Machine,
    image: ImageLike | Mapping[str, ImageLike],
    axes: str | Sequence[str] | None,
    channel: Channel | Mapping[str, Channel] | None,
    tile: Mapping[str, int] | None,
) -> Iterator[CheckItem]:
    """Axes, channels, size, values, pixel size, memory."""
    from .instances import read_instances_config
    from .pipeline import images_of, plan_notes
    from .prepare import fit
    from .sizes import geometry
    from .tiling import plan_tiles

    topic = "image"
    try:
        images = images_of(image, axes)
        topic = "axes"
        model = geometry(package.descr)
        fitting = fit(model, images, channel)
        for f in fitting.inputs:
            how = ", ".join(f.image.axes)
            yield CheckItem("axes", "yes", f"{how}, {_SOURCES[f.image.axes_source]}")
            count = len(f.image.channel_names)
            yield CheckItem("channels", "yes", f"{max(count, 1)} in the image" if not f.channels
                            else f"{len(f.channels) if not f.gray else 1} of {count}")  # fmt: skip
        for note in fitting.notes:
            yield CheckItem("image", "note", note)
        topic = "size"
        plan = plan_tiles(model, fitting.sizes, tile=tile)
        yield CheckItem("size", "yes", plan.summary)
        for note in plan_notes(plan):
            yield CheckItem("size", "note", note)
        topic = "values"
        yield from _values(package, fitting)
        yield from _pixel_size(model, fitting)
        objects = read_instances_config(package.descr) is not None
        yield _memory(machine, fitting, plan, objects=objects)
    except ChannelChoiceError as exc:
        yield CheckItem("channels", "no", exc.message)
    except BiozooError as exc:
        yield CheckItem(topic, "no", exc.message)


_SOURCES = {
    "metadata": "as the file says",
    "given": "as you named them",
    "format": "as in every file of this kind",
}


def _values(package: ModelPackage, fitting: Fitting) -> Iterator[CheckItem]:
    """Type and range of the pixels against what the model describes."""
    from .processing import preprocessing

    steps = preprocessing(package.descr)
    described = {str(t.id): t for t in package.descr.inputs}
    for f in fitting.inputs:
        tensor = f.tensor.id
        image: Image = f.image
        if steps.uses_own_statistics(tensor):
            yield CheckItem("values", "yes", f"{image.dtype}, normalised by the image's own values")
            continue
        low, high = _sample_range(image)
        found = f"{image.dtype}, values {low:g} to {high:g} in its middle"
        least, most = _described_range(described[tensor])
        integers = least == 0.0 and most is not None and most > 1
        if (least is not None and low < least) or (most is not None and high > most):
            bounds = f"{'any' if least is None else f'{least:g}'} to "
            bounds += "any" if most is None else f"{most:g}"
            yield CheckItem(
                "values", "note", f"{found}; the model expects {bounds}",
                "The model does not normalise by the image. Scale the image to that range.",
            )  # fmt: skip
        elif integers and image.dtype.kind == "f" and high <= 1.0:
            yield CheckItem(
                "values", "note", f"{found}; the model expects {least:g} to {most:g}",
                "The image looks scaled to 0..1. Give the original values.",
            )  # fmt: skip
        else:
            yield CheckItem("values", "yes", found)


def _sample_range(image: Image) -> tuple[float, float]:
    """Smallest and largest value of a region in the image's middle."""
    import numpy as np

    region: dict[str, int | slice] = {}
    for axis, n in image.sizes.items():
        size = min(n, SAMPLE if axis in "yx" else n if axis == "channel" else 1)
        start = (n - size) // 2
        region[axis] = slice(start, start + size)
    pixels = image.read(region).values
    if pixels.dtype.kind == "f":
        pixels = pixels[np.isfinite(pixels)]
    return (float(pixels.min()), float(pixels.max())) if pixels.size else (0.0, 0.0)


def _described_range(tensor: InputTensorDescr) -> tuple[float | None, float | None]:
    """Range of values that a description allows; an integer type limits what it leaves open."""
    import numpy as np

    data = tensor.data[0] if isinstance(tensor.data, Sequence) else tensor.data
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
            if 2 / 3 <= ratio <= 1.5:
                yield CheckItem("pixel size", "yes", f"{a.id} {have:.3g} {unit}")
            else:
                yield CheckItem(
                    "pixel size",
                    "note",
                    f"{a.id} is {have:.3g} {unit} per pixel, the model was made for {a.scale:.3g}",
                    f"Rescale the image by {ratio:.2g} along {a.id} for best results.",
                )


def _memory(machine: Machine, fitting: Fitting, plan: TilePlan, *, objects: bool) -> CheckItem:
    """What image, results and one tile take, roughly, against what is free."""
    from math import prod

    loops = len(fitting)
    whole = sum(f.image.nbytes for f in fitting.inputs) / max(loops, 1)
    results = sum(4.0 * prod(n or 1 for n in t.shape) * loops for t in plan.outputs)
    if objects:
        results += (4.0 * loops + OBJECTS) * plan.pixels
    tile = sum(4.0 * prod(n or 1 for n in t.tile) for t in (*plan.inputs, *plan.outputs))
    tile += 4.0 * FEATURES * prod(g.tile for g in plan.grid)
    need, free = whole + results + tile, machine.memory_available
    text = (
        f"about {size_text(need)} (image {size_text(whole)}, results {size_text(results)}, "
        f"one tile {size_text(tile)}), {size_text(free)} are free"
    )
    if whole + results > free:
        return CheckItem("memory", "no", text, "Crop the image, or run its positions one by one.")
    if need > free:
        return CheckItem(
            "memory", "note", text, "Use smaller tiles, for example --tile y=256,x=256."
        )
    return CheckItem("memory", "yes", text)
