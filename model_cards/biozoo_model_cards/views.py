"""One picture of a card as a file: a PNG, or a JPEG where the PNG would be large."""

from __future__ import annotations

import io
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["View", "encoded"]

#: Above so many bytes a PNG is written as JPEG.
PNG_BYTES = 90_000
#: Above so many a JPEG is written with less quality: it is noise.
JPEG_BYTES = 200_000


@dataclass(frozen=True)
class View:
    """One picture.

    Attributes
    ----------
    content, media
        The file and its media type.
    width, height
        Its pixels.
    title
        Which channel or plane; empty where there is only one.
    caption
        How values became grey, and what only this picture leaves out.
    enlarged
        How many pixels wide one pixel of the tensor is drawn, 1 where it is not enlarged.
    """

    content: bytes
    media: str
    width: int
    height: int
    title: str
    caption: str
    enlarged: int = 1


def encoded(
    pixels: NDArray[np.uint8], title: str, told: list[str], enlarged: int, *, flat: bool = False
) -> View:
    """A PNG, or a JPEG where the PNG would be large; `flat` pictures have few colours."""
    from PIL import Image

    height, width = pixels.shape[:2]
    # A line of pixels is made thick enough to be seen.
    tall = max(enlarged, -(-24 // height)), max(enlarged, -(-24 // width))
    pixels = np.repeat(np.repeat(pixels, tall[0], axis=0), tall[1], axis=1)
    height, width = pixels.shape[:2]
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    buffer = io.BytesIO()
    if flat and pixels.ndim == 3:
        picture = picture.quantize(256, dither=Image.Dither.NONE)
    picture.save(buffer, "PNG", optimize=True)
    view = View(buffer.getvalue(), "image/png", width, height, title, "; ".join(told), enlarged)
    if flat or enlarged > 1 or len(view.content) <= PNG_BYTES:
        return view
    for quality in (85, 70, 50):
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=quality, subsampling=0)
        if buffer.tell() <= JPEG_BYTES:
            break
    return replace(view, content=buffer.getvalue(), media="image/jpeg")
