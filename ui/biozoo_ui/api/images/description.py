"""What the page is told about an image, and what it may correct."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from biozoo.errors import UsageError
from biozoo_runners.images.units import MICROMETERS

from .contrast import Contrast, contrast, look, numbers_objects
from .pyramid import TILE, level_sizes
from .source import Source

Kind = Literal["image", "labels"]

# Microscopists know their dyes by colour; the first word that a channel's name contains counts.
_DYES = (
    (("dapi", "hoechst", "nucle", "alexa405", "cfp", "blue"), "#4060ff"),
    (("gfp", "fitc", "alexa488", "488", "green", "yfp"), "#00ff00"),
    (("cy5", "alexa647", "647", "far", "magenta"), "#ff00ff"),
    (("rfp", "tritc", "texas", "cy3", "mcherry", "alexa568", "561", "594", "red"), "#ff4040"),
    (("bright", "phase", "dic", "transmitted"), "#ffffff"),
)
_COLORS = ("#00ff00", "#ff00ff", "#00ffff", "#ffff00", "#ff4040", "#4060ff")
_RGB = ("#ff0000", "#00ff00", "#0000ff")


@dataclass(frozen=True)
class Channel:
    """Name, "#rrggbb" and contrast of a channel."""

    name: str
    color: str
    contrast: Contrast


@dataclass(frozen=True)
class Description:
    """An image in plain values.

    Attributes
    ----------
    dims
        Axis ids in the file's order.
    sizes
        Of time, channel, z, y and x, 1 where absent.
    axes_known
        False where the axes were guessed.
    dtype, pixels
        Type in the file, type of the tiles.
    pixel_size
        Micrometres per axis z, y, x; None where none is known.
    version
        Part of every tile's address; another one where axes or kind were corrected.
    result
        Whether a run or a preview made it.
    scene, scenes
        Which image of the file it is, and the names of all where there are several.
    """

    id: str
    name: str
    kind: Kind
    dims: tuple[str, ...]
    sizes: Mapping[str, int]
    axes_known: bool
    dtype: str
    pixels: str
    pixel_size: Mapping[str, float] | None
    channels: tuple[Channel, ...]
    rgb: bool
    notes: tuple[str, ...] = ()
    version: int = 1
    scene: int = 0
    scenes: tuple[str, ...] = ()
    result: bool = False

    def to_dict(self) -> dict[str, Any]:
        """As JSON; integers stay integers."""
        whole = self.pixels != "float32"
        levels = level_sizes(self.sizes["y"], self.sizes["x"])
        return {
            "id": self.id,
            "v": self.version,
            "name": self.name,
            "kind": self.kind,
            "dims": list(self.dims),
            "sizes": dict(self.sizes),
            "axes_known": self.axes_known,
            "dtype": self.dtype,
            "pixels": self.pixels,
            "pixel_size": dict(self.pixel_size) if self.pixel_size else None,
            "unit": "µm",
            "channels": [
                {
                    "name": channel.name,
                    "color": channel.color,
                    "range": [int(v) if whole else v for v in channel.contrast.range],
                    "contrast": [int(v) if whole else v for v in channel.contrast.shown],
                }
                for channel in self.channels
            ],
            "rgb": self.rgb,
            "tile": TILE,
            "levels": [{"y": tall, "x": wide} for tall, wide in levels],
            "scene": self.scene,
            "scenes": list(self.scenes),
            "notes": list(self.notes),
            "result": self.result,
        }


def describe(
    source: Source,
    *,
    image_id: str,
    name: str,
    kind: Kind | None = None,
    pixel_size: Mapping[str, float] | None = None,
    version: int = 1,
    result: bool = False,
) -> Description:
    """Look at an image and say what it is.

    Parameters
    ----------
    kind
        From the user; None: judged from the pixels and the name.
    pixel_size
        From the user, micrometres per axis; None: the file's.
    result
        Whether a run or a preview made it.
    """
    image, count = source.image, source.sizes["channel"]
    first = look(source, 0)
    if kind is None:
        labels = count == 1 and not image.rgb and numbers_objects(f"{name} {image.name}", first)
        kind = "labels" if labels else "image"
    dtype = sent_type(image.dtype, kind)
    rgb = image.rgb and count == 3 and image.dtype == np.uint8 and kind == "image"
    seen = (first if c == 0 else look(source, c) for c in range(count))
    contrasts = [contrast(one, dtype, rgb=rgb) for one in seen]
    names = image.channel_names or ((image.channel,) if image.channel else ("0",))
    colors = _colors(names, source.colors, color=image.rgb)
    return Description(
        id=image_id,
        name=name,
        kind=kind,
        dims=image.axes,
        sizes=source.sizes,
        axes_known=source.axes_known,
        dtype=str(image.dtype),
        pixels=str(dtype),
        pixel_size=_in_file(source) if pixel_size is None else checked_pixel_size(pixel_size),
        channels=tuple(map(Channel, names, colors, contrasts)),
        rgb=rgb,
        notes=image.notes,
        version=version,
        scene=image.scene,
        scenes=image.scenes,
        result=result,
    )


def sent_type(dtype: np.dtype[Any], kind: Kind) -> np.dtype[Any]:
    """Type of the tiles of an image of this type."""
    if kind == "labels":
        return np.dtype(np.uint32)
    return dtype if dtype in (np.uint8, np.uint16) else np.dtype(np.float32)


def checked_pixel_size(given: Mapping[str, float]) -> dict[str, float]:
    """A pixel size from a user; empty means unknown.

    Raises
    ------
    UsageError
        For another axis than z, y and x, or what is no positive number.
    """
    for axis, size in given.items():
        if axis not in ("z", "y", "x"):
            raise UsageError(f"A pixel has no size along '{axis}'. Give it for z, y or x.")
        if not 0 < size < float("inf"):
            raise UsageError(
                f"The pixel size along {axis} is {size}. Give micrometres above 0, or leave it out."
            )
    return {axis: float(given[axis]) for axis in ("z", "y", "x") if axis in given}


def _in_file(source: Source) -> dict[str, float]:
    """What the file says, where it says it in a unit of length."""
    image = source.image
    return {
        axis: float(f"{image.pixel_size[axis] * factor:.12g}")
        for axis in ("z", "y", "x")
        if axis in image.pixel_size
        and (factor := MICROMETERS.get(image.unit.get(axis, ""))) is not None
    }


def _colors(names: Sequence[str], own: Sequence[str], *, color: bool) -> list[str]:
    if color and len(names) == 3:
        return list(_RGB)
    if len(own) == len(names) and all(own) and len(set(own)) == len(own):
        return list(own)
    if len(names) == 1:
        return ["#ffffff"]
    colors: list[str] = []
    for name in names:
        dye = next((c for words, c in _DYES if any(w in name.lower() for w in words)), "")
        spare = [c for c in _COLORS if c not in colors] or list(_COLORS)
        colors.append(dye if dye and dye not in colors else spare[len(colors) % len(spare)])
    return colors
