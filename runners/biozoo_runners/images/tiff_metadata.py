"""What OME-XML and ImageJ metadata say about pixel sizes and channels."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from xml.etree import ElementTree

from .units import unit_word


@dataclass(frozen=True)
class Metadata:
    """Pixel size and unit per axis id, channel names ("" where unnamed); or that all is broken."""

    pixel_size: Mapping[str, float] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    broken: bool = False


def ome_metadata(xml: str, scene: int, scenes: int) -> Metadata:
    """Metadata of one Image element; empty where the XML does not list as many as the file has.

    The schema's default units are the micrometer and the second. Sizes in pixels or in a
    "reference frame" are lengths without a unit.
    """
    try:
        images = ElementTree.fromstring(xml).findall("{*}Image")
    except ElementTree.ParseError:
        return Metadata()
    if len(images) != scenes or (pixels := images[scene].find("{*}Pixels")) is None:
        return Metadata()
    size: dict[str, float] = {}
    unit: dict[str, str] = {}
    for axis, attribute, default in (
        ("x", "PhysicalSizeX", "µm"),
        ("y", "PhysicalSizeY", "µm"),
        ("z", "PhysicalSizeZ", "µm"),
        ("time", "TimeIncrement", "s"),
    ):
        value = _number(pixels.get(attribute))
        if value and value > 0:
            size[axis] = value
            if word := unit_word(pixels.get(attribute + "Unit", default)):
                unit[axis] = word
    names = tuple(c.get("Name", "") for c in pixels.findall("{*}Channel"))
    return Metadata(size, unit, names)


def imagej_metadata(metadata: Mapping[str, Any], tags: Any) -> Metadata:
    """Metadata of an ImageJ stack: its resolution tags count pixels per unit.

    Without a known unit nothing is said: ImageJ then measures in pixels.
    """
    size: dict[str, float] = {}
    unit: dict[str, str] = {}
    common = _text(metadata.get("unit"))
    for axis, tag, key in (("x", "XResolution", ""), ("y", "YResolution", "yunit")):
        word = unit_word(_text(metadata.get(key)) or common)
        pixels, units = tags[tag].value if tag in tags else (0, 1)
        if word and pixels and units:
            size[axis], unit[axis] = units / pixels, word
    spacing = _number(metadata.get("spacing"))
    if spacing and (word := unit_word(_text(metadata.get("zunit")) or common)):
        size["z"], unit["z"] = abs(spacing), word
    interval = _number(metadata.get("finterval"))
    if interval and interval > 0:
        size["time"] = interval
        unit["time"] = unit_word(_text(metadata.get("tunit"))) or "second"
    return Metadata(size, unit)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _number(value: object) -> float | None:
    try:
        return float(value) if isinstance(value, str | int | float) else None
    except ValueError:
        return None
