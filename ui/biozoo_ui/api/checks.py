"""Whether a model fits an image, in the words of a page: `POST /api/checks`.

What `biozoo_runners.check` finds, without options of the command line, and what a page needs to ask
for before a run: axes, channels, scale.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

from biozoo.errors import AxesError, BiozooError, ChannelChoiceError
from biozoo_runners.images.units import SYMBOLS

from ..jobs import JobImage
from ..jobs.images import open_images
from .asked import FindImage, FindModel, OnImage, Session, images_of, page_words, said_here

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Image
    from biozoo_runners.check import CheckItem
    from biozoo_runners.prepare import Fitting
    from biozoo_runners.sizes import ModelGeometry, TensorGeometry

    Images = Image | Mapping[str, Image]

COUNTED = {"time": "time points", "z": "planes", "channel": "channels"}
UNITS = {word: SYMBOLS[word] for word in ("micrometer", "nanometer", "millimeter")}
"""Those that are known by their symbols; others are written out."""

FACTORS = {
    0.5: "half the size",
    0.71: "0.71 of the size",
    1.41: "1.41 times",
    2.0: "twice the size",
}

Status = Literal["yes", "note", "no"]


class Verdict(BaseModel):
    """The answer in a sentence."""

    status: Status
    text: str


class Item(BaseModel):
    """One finding: what is so, and what to do about it."""

    status: Status
    topic: str
    what: str
    todo: str


class ChannelValue(BaseModel):
    """A channel of the image: what a run is to be told, and what a reader is shown."""

    value: int | str
    label: str


class Channels(BaseModel):
    """Channels of an image to choose from, in the order in which the model takes them."""

    wanted: int
    model: list[str]
    image: list[ChannelValue]
    chosen: list[int | str] | None


class ScaleValue(BaseModel):
    """A scale: what a run is to be told, and what a reader is shown."""

    value: float | Literal["auto"] | None
    label: str


class Scales(BaseModel):
    """The scales a page offers."""

    choices: list[ScaleValue]
    chosen: float | str | dict[str, float] | None
    about: str


class Check(BaseModel):
    """Whether a run can begin, why not, and what it would do.

    `facts` describes the image (of several: each) in a line, empty where its axes are not known.
    `channels` is None where there is nothing to choose; of a model with several inputs
    `channels_by_input` has them by tensor id. `loops` says what is run position by position.
    `tiles` counts the tiles of the whole run.
    """

    ok: bool
    verdict: Verdict
    facts: str
    items: list[Item]
    channels: Channels | None = None
    channels_by_input: dict[str, Channels] = {}
    scale: Scales | None = None
    loops: str | None = None
    ask_axes: bool = False
    tiles: int | None = None


def check_routes(*, session: Session, find_image: FindImage, find_model: FindModel) -> APIRouter:
    """The route of checks."""
    router = APIRouter(prefix="/api/checks", tags=["models"])

    @router.post("")
    def check(asked: OnImage, request: Request) -> Check:
        """Say whether a model fits an image, and what will be done about what does not."""
        package = find_model(asked.model)
        return check_image(package, images_of(asked, find_image, session(request)), asked)

    return router


def check_image(package: ModelPackage, sources: Mapping[str, JobImage], asked: OnImage) -> Check:
    """Check a model against images; their headers and a small region are read.

    A fault of the image is part of the answer; that the model cannot be looked at is raised.
    """
    try:
        images = open_images(sources)
    except BiozooError as exc:
        axes = isinstance(exc, AxesError)
        text = said_here(exc.message, sources)
        if axes:
            text += " Name them: the first letter is the slowest (t time, c channel, z, y, x)."
        return Check(
            ok=False,
            verdict=Verdict(status="note" if axes else "no", text=text),
            facts="",
            items=[],
            ask_axes=axes,
        )
    return _Checked(package, sources, images, asked).answer()


class _Checked:
    """One check: what was asked, and what is found out on the way."""

    def __init__(
        self, package: ModelPackage, sources: Mapping[str, JobImage], images: Images, asked: OnImage
    ) -> None:
        from biozoo_runners.sizes import geometry

        self.sources, self.images, self.asked = sources, images, asked
        self.package = package
        self.geometry: ModelGeometry = geometry(package.descr)
        self.several = isinstance(images, Mapping)
        ids = [t.id for t in self.geometry.inputs if not t.optional] or [""]
        self.by_tensor: dict[str, Image] = (
            dict(images) if isinstance(images, Mapping) else {ids[0]: images}
        )

    def answer(self) -> Check:
        from biozoo_runners.check import check

        channels = self._channels()
        report = check(self.package, self.images, channel=self.asked.channel)
        fitting = self._fitting()
        tiles, said = (None, None) if fitting is None else self._plan(fitting)
        undecided = [c for c in channels.values() if c.chosen is None]
        left_out = {"channels"} if undecided else {"size"} if said is not None else set()
        items = [] if said is None else [said]
        items += [self._item(i) for i in report.items if i.topic not in left_out]
        ok = all(i.status != "no" for i in items) and not undecided
        return Check(
            ok=ok,
            verdict=self._verdict(ok=ok, undecided=undecided),
            facts="; ".join(
                f"{tensor}: {facts(image)}" if self.several else facts(image)
                for tensor, image in self.by_tensor.items()
            ),
            items=items,
            channels=None if self.several else next(iter(channels.values()), None),
            channels_by_input=channels if self.several else {},
            scale=self._scales(),
            loops=_loops(fitting.loops) if fitting is not None else None,
            ask_axes=any(i.status == "no" and i.topic == "axes" for i in items),
            tiles=tiles,
        )

    def _verdict(self, *, ok: bool, undecided: list[Channels]) -> Verdict:
        if undecided:
            first = undecided[0]
            which = "one channel" if first.wanted == 1 else f"{first.wanted} channels"
            count = sum(isinstance(c.value, int) for c in first.image)
            text = f"The model takes {which}, this image has {count}: choose below."
            return Verdict(status="note", text=text)
        if ok:
            return Verdict(status="yes", text="Ready: the model can run on this image.")
        text = "The model cannot run on this image as it is."
        return Verdict(status="no", text=text)

    def _item(self, item: CheckItem) -> Item:
        details = item.details if item.status == "no" else ()
        return Item(
            status=item.status,
            topic=item.topic.capitalize(),
            what=said_here("; ".join((item.what, *details)), self.sources),
            todo=page_words(item.todo, self.sources),
        )

    # ------------------------------------------------------------------------------- what to ask

    def _channels(self) -> dict[str, Channels]:
        """Of each image that has more channels than its input takes, by tensor id."""
        inputs = {t.id: t for t in self.geometry.inputs}
        found = {}
        for tensor, image in self.by_tensor.items():
            if tensor in inputs and "channel" in image.axes:
                wanted = _wanted(inputs[tensor])
                if len(image.channel_names) > len(wanted):
                    found[tensor] = Channels(
                        wanted=len(wanted),
                        model=wanted,
                        image=_choices(image, len(wanted)),
                        chosen=self._chosen(inputs[tensor], image),
                    )
        return found

    def _chosen(self, tensor: TensorGeometry, image: Image) -> list[int | str] | None:
        """The channels that were chosen, as numbers; None where they are too few or too many."""
        from biozoo_runners.prepare import fit
        from biozoo_runners.sizes import ModelGeometry

        asked = self.asked.channel
        choice = asked.get(tensor.id) if isinstance(asked, Mapping) else asked
        if choice is None:
            return None
        try:
            found = fit(ModelGeometry((tensor,), ()), image, choice).inputs[0]
        except ChannelChoiceError:
            return None
        except BiozooError:  # the check says what it is
            return list(choice) if isinstance(choice, list) else [choice]
        return ["gray"] if found.gray else list(found.channels or ())

    def _scales(self) -> Scales | None:
        """What a page offers for the scale, None where the model sees no plane of pixels."""
        first = next((t for t in self.geometry.inputs if t.id in self.by_tensor), None)
        if first is None or not {"y", "x"} <= set(first.dims):
            return None
        image, own = self.by_tensor[first.id], first.axis("x")
        have, unit = image.pixel_size.get("x"), image.unit.get("x", "")
        choices = [ScaleValue(value=None, label="as it is")]
        made = f"{own.scale:.3g} {UNITS.get(own.unit, own.unit)}" if own.unit else ""
        known = f"{have:.3g} {UNITS.get(unit, unit)}" if have and unit else ""
        if made and known and (auto := self._auto(first, image)) is not None:
            about = f"A pixel of this image is {known}; the model was made for {made}."
            if not 0.99 < auto < 1.01:
                choices.append(ScaleValue(value="auto", label=f"by pixel size ({auto:.2g} times)"))
        elif made:
            about = f"The model was made for {made} per pixel; this image does not say its own."
        else:
            about = (
                "The model does not say which pixel size it was made for. Compare scales if it "
                "misses objects or cuts them up."
            )
        choices += [ScaleValue(value=f, label=label) for f, label in FACTORS.items()]
        return Scales(choices=choices, chosen=self.asked.scale, about=about)

    def _auto(self, tensor: TensorGeometry, image: Image) -> float | None:
        """The factor along x of the scale "auto", None where it cannot be known."""
        from biozoo_runners.prepare import FittedInput, Fitting
        from biozoo_runners.rescale import rescale

        single = FittedInput(tensor, image, {}, (0,) if "channel" in image.axes else None)
        try:
            scaled = rescale(Fitting((single,), {}), "auto").fitting.inputs[0]
        except BiozooError:
            return None
        return scaled.image.sizes["x"] / image.sizes["x"]

    # ---------------------------------------------------------------------------- what will be done

    def _fitting(self) -> Fitting | None:
        from biozoo_runners.prepare import fit

        try:
            return fit(self.geometry, self.images, self.asked.channel)
        except BiozooError:  # the check says what it is
            return None

    def _plan(self, fitting: Fitting) -> tuple[int | None, Item | None]:
        """Tiles of the whole run at the scale that was asked for, and what is said of them."""
        from biozoo_runners.rescale import rescale
        from biozoo_runners.tiling import plan_tiles

        try:
            scaled = rescale(fitting, self.asked.scale).fitting
            plan = plan_tiles(self.geometry, scaled.sizes)
        except BiozooError as exc:
            what = said_here(exc.message, self.sources)
            return None, Item(status="no", topic="Scale", what=what, todo="")
        if self.asked.scale is None:
            return len(plan) * len(scaled), None  # the report says it
        item = Item(status="yes", topic="Size", what=f"{plan.summary}, at this scale", todo="")
        return len(plan) * len(scaled), item


def _wanted(tensor: TensorGeometry) -> list[str]:
    """Names of the channels that an input takes; one without a name where it has no such axis."""
    return list(tensor.axis("channel").channels) if "channel" in tensor.dims else [""]


def _choices(image: Image, wanted: int) -> list[ChannelValue]:
    listed = [
        ChannelValue(value=i, label=name if name != str(i) else f"channel {i}")
        for i, name in enumerate(image.channel_names)
    ]
    if image.rgb and wanted == 1:
        label = "gray: the mean of red, green and blue"
        return [ChannelValue(value="gray", label=label), *listed]
    return listed


def _loops(loops: Mapping[str, int]) -> str | None:
    """As "each of 5 planes of each of 3 time points by itself"; None where nothing is looped."""
    words = {"time": "time points", "z": "planes"}
    many = [f"each of {n} {words.get(axis, axis)}" for axis, n in loops.items() if n > 1]
    return f"{' of '.join(reversed(many))} by itself" if many else None


def facts(image: Image) -> str:
    """The image in one line: "5 planes of 512 x 400 pixels (width x height), 16 bit"."""
    sizes = image.sizes
    counts = [
        f"{sizes[axis]} {word}"
        for axis, word in COUNTED.items()
        if sizes.get(axis, 1) > 1 and not (axis == "channel" and image.rgb)
    ]
    field = f"{sizes.get('x', 1)} x {sizes.get('y', 1)} pixels"
    whole = f"{', '.join(counts)} of {field}" if counts else field
    bits = f"{image.dtype.itemsize * 8} bit"
    depth = {"u": bits, "f": f"{bits} floating point", "b": "black and white"}
    words = [whole, *(["colour"] if image.rgb else [])]
    words.append(depth.get(image.dtype.kind, str(image.dtype)))
    pixel, unit = image.pixel_size.get("x"), image.unit.get("x", "")
    if pixel and unit:
        words.append(f"{pixel:.3g} {UNITS.get(unit, unit)} per pixel")
    return ", ".join(words)
