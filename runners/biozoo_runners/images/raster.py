"""PNG and JPEG: pictures of y, x and colour.

What a biologist expects of a picture: grey is yx, colour is yxc with red, green and blue; a
palette becomes its colours; transparency is left out and a note says so; 16 bits stay 16 bits; a
camera's rotation (EXIF) is applied, so that the result lies as every viewer shows the picture.
"""

from __future__ import annotations

import contextlib
import struct
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import ImageReadError

from .base import RGB, Image, Index, describe
from .decoding import reading

_PNG, _JPEG = b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"
_GREY = {"1", "L", "LA", "I", "I;16", "I;16B", "F"}
_ROTATED = {5, 6, 7, 8}  # EXIF orientations that swap rows and columns


class RasterReader:
    """PNG and JPEG through Pillow; 16-bit colour PNG through imagecodecs, as Pillow halves it."""

    suffixes = (".png", ".jpg", ".jpeg")

    def claims(self, path: Path, head: bytes) -> bool:
        """By content."""
        return head.startswith((_PNG, _JPEG))

    def open(self, path: Path, *, axes: str | Sequence[str] | None, scene: int | None) -> Image:
        """Read the header; pixels are decoded by `Image.read`, always the whole picture."""
        with reading(path, "it is no readable picture"), _opened(path) as picture:
            width, height = picture.size
            mode, orientation = picture.mode, picture.getexif().get(0x0112, 1)
            transparent = mode in ("LA", "RGBA", "PA") or "transparency" in picture.info
            frames = getattr(picture, "n_frames", 1)
        if frames > 1:
            raise ImageReadError(
                path=path,
                why=f"it is an animation of {frames} pictures.",
                hint="Save them as a TIFF stack in Fiji.",
            )
        deep = _is_deep(path)
        grey = mode in _GREY
        notes = []
        if transparent:
            notes.append("its alpha channel (transparency) is left out")
        if mode in ("CMYK", "YCbCr", "LAB", "HSV"):
            notes.append(f"its {mode} colours were converted to red, green and blue")
        if orientation in range(2, 9) and not deep:
            notes.append("it was turned as its camera noted (EXIF orientation)")
            if orientation in _ROTATED:
                width, height = height, width
        return describe(
            path=path,
            axes=("y", "x") if grey else ("y", "x", "channel"),
            given=axes,
            source="format",
            shape=(height, width) if grey else (height, width, 3),
            dtype=_dtype(mode, deep),
            reader=_Picture(path, grey, deep).read,
            channel_names=() if grey else RGB,
            rgb=not grey,
            notes=tuple(notes),
        )


class _Picture:
    """A picture's pixels; decoded once where it is read region by region."""

    def __init__(self, path: Path, grey: bool, deep: bool) -> None:
        self._source = (path, grey, deep)
        self._kept: NDArray[Any] | None = None

    def read(self, index: tuple[Index, ...]) -> NDArray[Any]:
        if self._kept is not None:
            return np.array(self._kept[index])
        pixels = _decode(*self._source)
        part = pixels[index]
        if part.size == pixels.size:
            return part
        self._kept = pixels
        return np.array(part)


def _dtype(mode: str, deep: bool) -> np.dtype[Any]:
    if deep or mode.startswith("I;16"):
        return np.dtype(np.uint16)
    return np.dtype({"I": np.int32, "F": np.float32}.get(mode, np.uint8))


def _decode(path: Path, grey: bool, deep: bool) -> NDArray[Any]:
    """The picture, (y, x) or (y, x, 3)."""
    from PIL import ImageOps

    if deep:
        import imagecodecs

        pixels: NDArray[Any] = imagecodecs.png_decode(path.read_bytes())
        return pixels[..., 0] if grey else pixels[..., :3]
    with _opened(path) as picture:
        upright: Any = ImageOps.exif_transpose(picture)
        if grey and picture.mode in ("1", "LA"):
            upright = upright.convert("L")  # one bit: black 0, white 255
        elif not grey and picture.mode != "RGB":
            upright = upright.convert("RGB")
        return np.array(upright)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        # Microscopy pictures are large; what Pillow refuses outright is refused below.
        warnings.simplefilter("ignore", Pillow.DecompressionBombWarning)
        try:
            with Pillow.open(path) as picture:
                yield picture
        except Pillow.DecompressionBombError as exc:
            raise ImageReadError(
                path=path,
                why="it is larger than 178 megapixels, too large for PNG or JPEG.",
                hint="Save it as a tiled OME-TIFF or as OME-Zarr, which are read in parts.",
            ) from exc


def _is_deep(path: Path) -> bool:
    """Whether this is a PNG of 16 bits and more than one sample, which Pillow reads as 8 bits."""
    with path.open("rb") as file:
        head = file.read(26)
    if not head.startswith(_PNG) or len(head) < 26:
        return False
    bits, colour = struct.unpack_from("BB", head, 24)
    return bits == 16 and colour in (2, 4, 6)


READER = RasterReader()
