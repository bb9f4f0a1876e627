"""The check of one image against one model, in words, and what must be asked before it can run."""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import AxesError, BiozooError, ChannelChoiceError

from ..api.results import picture_of
from .render import render
from .session import ChosenImage

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Image
    from biozoo_runners.check import CheckItem

    from ..api.state import ServerState

COUNTED = {"time": "time points", "z": "planes", "channel": "channels"}
SPACE_UNITS = {"micrometer": "µm", "nanometer": "nm", "millimeter": "mm"}


@dataclass(frozen=True)
class Checked:
    """What the check found.

    Attributes
    ----------
    ok
        Whether it can run as it stands.
    html
        The findings for the page.
    ask_axes
        Whether the page should offer to name the axes.
    channels
        (label, value) of the channels to choose from, empty where there is nothing to choose.
    wanted
        How many of them the model takes.
    """

    ok: bool
    html: str
    ask_axes: bool = False
    channels: tuple[tuple[str, int | str], ...] = ()
    wanted: int = 1


def examine(package: ModelPackage, chosen: ChosenImage, state: ServerState) -> Checked:
    """Open the image without reading it whole, draw its preview, and check it.

    Raises
    ------
    BiozooError
        For a file that is no readable image.
    """
    from biozoo_runners import check, open_image

    try:
        image = open_image(chosen.files[0], axes=chosen.axes)
    except AxesError as exc:
        text = without_options(chosen.own_words(exc.message))
        html = render("sentence", status="note", text=text)
        return Checked(False, html, ask_axes=True)
    channels, wanted = channels_to_choose(package, image, chosen)
    sources = chosen.image if isinstance(chosen.image, Mapping) else chosen.files[0]
    report = check(package, sources, axes=chosen.axes, channel=chosen.channel)
    undecided = bool(channels) and number_of(chosen.channel) != wanted
    if undecided:
        which = "one channel" if wanted == 1 else f"{wanted} channels"
        count = len(image.channel_names)
        verdict = f"The model takes {which}, this image has {count}: choose below."
    elif report.ok:
        verdict = "Ready: the model can run on this image."
    else:
        verdict = "The model cannot run on this image as it is."
    items = [
        {
            "status": item.status,
            "topic": item.topic.capitalize(),
            "what": without_options(chosen.own_words(_answer(item))),
            "todo": without_options(item.todo),
        }
        for item in report.items
        if not (undecided and item.topic == "channels")  # the verdict asks for it
    ]
    html = render(
        "check",
        picture=_preview(image, state),
        name=chosen.name,
        about=chosen.about,
        facts=facts(image),
        verdict=verdict,
        verdict_status="note" if undecided else "yes" if report.ok else "no",
        told=[i for i in items if _matters(i)],
        others=[i for i in items if not _matters(i)],
    )
    return Checked(
        report.ok and not undecided,
        html,
        ask_axes=chosen.axes is not None,
        channels=channels,
        wanted=wanted,
    )


def channels_to_choose(
    package: ModelPackage, image: Image, chosen: ChosenImage
) -> tuple[tuple[tuple[str, int | str], ...], int]:
    """The channels of an image that has more than the model takes, and how many it takes."""
    if isinstance(chosen.image, Mapping):
        return (), 1
    from biozoo_runners.prepare import fit
    from biozoo_runners.sizes import geometry

    try:
        fit(geometry(package.descr), image)
    except ChannelChoiceError as exc:
        listed: list[tuple[str, int | str]] = [
            (name if name != str(i) else f"channel {i}", i) for i, name in enumerate(exc.channels)
        ]
        if image.rgb and exc.wanted == 1:
            listed.insert(0, ("gray: the mean of red, green and blue", "gray"))
        return tuple(listed), exc.wanted
    except BiozooError:  # the check says what it is
        return (), 1
    return (), 1


def number_of(channel: int | str | tuple[int, ...] | None) -> int:
    """How many channels were chosen; gray is one made of several."""
    return len(channel) if isinstance(channel, tuple) else int(channel is not None)


def without_options(text: str) -> str:
    """`text` without the sentences that name an option of the command line: here are boxes."""
    sentences = re.split(r"(?<=[.!?])\s+", text)
    return " ".join(s for s in sentences if not re.search(r"(^|\s)--\w", s))


def _answer(item: CheckItem) -> str:
    """The answer; of a "no" with what belongs to it, such as the reason for each of the weights."""
    return "; ".join((item.what, *item.details)) if item.status == "no" else item.what


def _matters(item: Mapping[str, str]) -> bool:
    """Whether a finding is shown at once: what is wrong with the image or worth knowing of it."""
    return item["status"] == "no" or (item["status"] == "note" and item["topic"] != "Device")


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
        words.append(f"{pixel:.3g} {SPACE_UNITS.get(unit, unit)} per pixel")
    return ", ".join(words)


def _preview(image: Image, state: ServerState) -> str:
    """Address of a picture of the image."""
    state.previews.mkdir(parents=True, exist_ok=True)
    name = f"{secrets.token_hex(8)}.png"
    (state.previews / name).write_bytes(picture_of(image))
    return f"api/previews/{name}"
