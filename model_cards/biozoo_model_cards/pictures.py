"""Pictures of a package's own test tensors, and of what its documentation shows.

Files of a stranger: arrays are opened without pickle and read where they are shown only, images are
opened by their format, measured before they are decoded, and written anew.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from biozoo.errors import BiozooError
from biozoo.files import sha256_of
from biozoo.rdf import safe_relative

from .clean import items, mapping, one_line, sequence
from .words import TensorWords

if TYPE_CHECKING:
    from biozoo import ModelPackage

    from .views import View

__all__ = ["Picture", "data_uri", "image_name", "package_image", "test_pictures"]

#: What is shown of the documentation: pixels of the longer side, and bytes in all.
DOCUMENT_SIDE, DOCUMENT_BYTES = 900, 700_000
#: An image of more pixels is not decoded.
MAX_PIXELS = 60_000_000
#: A larger tensor is drawn without comparing its sha256 first: that takes longer than the card.
MAX_HASHED = 1_000_000_000
#: Tensors of one card that are drawn, and views in all before pictures become smaller.
MAX_TENSORS, MANY_VIEWS = 8, 6


@dataclass(frozen=True)
class Picture:
    """What is shown of one test tensor.

    Attributes
    ----------
    tensor, is_input
        Whose it is.
    shape, dtype
        Of the whole tensor; empty where it is not at hand.
    views
        Its pictures, in order.
    note
        Why there is none, or which channels are not shown.
    about
        What every picture leaves out.
    """

    tensor: str
    is_input: bool
    shape: tuple[int, ...] = ()
    dtype: str = ""
    views: tuple[View, ...] = ()
    note: str = ""
    about: str = ""

    def alt(self, view: View) -> str:
        """What a reader who does not see the picture is told."""
        kind = "input" if self.is_input else "output"
        which = f", {view.title}" if view.title else ""
        told = "; ".join(t for t in (self.about, view.caption) if t)
        return f"Test {kind} {self.tensor}{which}: {told}"


def test_pictures(
    package: ModelPackage, inputs: tuple[TensorWords, ...], outputs: tuple[TensorWords, ...]
) -> tuple[Picture, ...]:
    """The test tensors of a package, inputs first; those that are not at hand say so."""
    named = [
        (words, is_input, source)
        for words_of, is_input in ((inputs, True), (outputs, False))
        for words, source in zip(words_of, _sources(package.raw, is_input=is_input), strict=False)
    ][:MAX_TENSORS]
    many = sum(min(6, len(_channel_names(w)) or 1) for w, _, _ in named)
    side = 512 if many <= MANY_VIEWS else 384 if many <= 2 * MANY_VIEWS else 256
    return tuple(_picture(package, w, i, source, side) for w, i, source in named)


def _picture(
    package: ModelPackage, words: TensorWords, is_input: bool, source: Mapping[str, Any], side: int
) -> Picture:
    import numpy as np

    from .drawing import draw

    name = one_line(source.get("source"), 500)
    if not name:
        return Picture(words.id, is_input, note="the description names no test tensor")
    try:
        path = package.path(name)
        if package.origin == "folder" and _changed(path, source.get("sha256")):
            return Picture(words.id, is_input, note=f"{name} is not the file that is described")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(array, np.ndarray):
            raise ValueError("no single array")
        drawn = draw(
            array,
            [a.id for a in words.axes],
            names=_channel_names(words),
            title=f"{words.id} {words.description}",
            is_input=is_input,
            side=side,
        )
    except BiozooError:
        return Picture(words.id, is_input, note=f"{name} is not at hand")
    except (OSError, ValueError, EOFError, MemoryError, OverflowError):
        return Picture(words.id, is_input, note=f"{name} cannot be read")
    shape = tuple(int(n) for n in array.shape)
    dtype = array.dtype.name
    return Picture(words.id, is_input, shape, dtype, drawn.views, drawn.note, drawn.about)


def _channel_names(words: TensorWords) -> tuple[str, ...]:
    return next((a.names for a in words.axes if a.id == "channel"), ())


def _sources(rdf: Mapping[str, Any], *, is_input: bool) -> list[Mapping[str, Any]]:
    """Per tensor its file: `test_tensor` of format 0.5, `test_inputs` of older ones."""
    tensors = items(rdf.get("inputs" if is_input else "outputs"))
    old = sequence(rdf.get("test_inputs" if is_input else "test_outputs"))
    found: list[Mapping[str, Any]] = []
    for i, tensor in enumerate(tensors):
        given = tensor.get("test_tensor") or (old[i] if i < len(old) else None)
        found.append(mapping(given) or {"source": given})
    return found


def _changed(path: Path, sha256: Any) -> bool:
    """Whether a file is not the one described; of a folder nobody has asked yet."""
    if not isinstance(sha256, str) or path.stat().st_size > MAX_HASHED:
        return False
    return sha256_of(path) != sha256.lower()


def image_name(picture: Picture, n: int) -> str:
    """File name of the n-th view of a tensor."""
    plain = "".join(
        c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in picture.tensor
    )
    kind = "input" if picture.is_input else "output"
    suffix = picture.views[n].media.rpartition("/")[2]
    return f"{kind}-{plain[:60]}-{n}.{suffix}"


def data_uri(content: bytes, media: str) -> str:
    """A file as an address that holds it."""
    return f"data:{media};base64,{base64.b64encode(content).decode()}"


# ------------------------------------------------------------------------- pictures in documents


def package_image(
    root: Path, source: str, *, side: int = DOCUMENT_SIDE
) -> tuple[bytes, str] | None:
    """An image of the package, written anew and no larger than `side`; None for anything else.

    Parameters
    ----------
    root
        The package folder; nothing outside of it is opened, not by links either.
    source
        Relative path as the document has it.
    """
    from PIL import Image, UnidentifiedImageError

    inside = safe_relative(unquote(source.partition("?")[0].partition("#")[0]))
    if inside is None:
        return None
    try:
        path = (root / inside).resolve()
        if not path.is_relative_to(root.resolve()) or not path.is_file():
            return None
        with Image.open(path, formats=("PNG", "JPEG", "GIF", "WEBP", "TIFF")) as opened:
            if opened.width * opened.height > MAX_PIXELS:
                return None
            opened.draft("RGB", (side, side))
            picture = opened.convert("RGBA" if "A" in opened.getbands() else "RGB")
        picture.thumbnail((side, side))
        buffer = io.BytesIO()
        if picture.mode == "RGBA":
            picture.save(buffer, "PNG", optimize=True)
            return buffer.getvalue(), "image/png"
        picture.save(buffer, "JPEG", quality=85)
        return buffer.getvalue(), "image/jpeg"
    except (OSError, ValueError, SyntaxError, MemoryError, UnidentifiedImageError):
        return None
    except Image.DecompressionBombError:
        return None
