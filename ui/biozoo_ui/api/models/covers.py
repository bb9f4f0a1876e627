"""Covers of models that are not on this machine: fetched once by the server, made small, kept.

So the browser asks no other host, and a collection of a thousand covers of some megabytes each
costs a page a few kilobytes per card. A cover is drawn anew: what is kept is a picture and nothing
else, whatever was sent.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo import rdf as rdfs
from biozoo.download import Client, beside
from biozoo.errors import BiozooError, MissingFileError
from biozoo.files import write_atomic

if TYPE_CHECKING:
    from biozoo import Settings
    from biozoo.index import Entry

__all__ = ["Covers"]

MAX_BYTES = 16 * 2**20
SIZE = (640, 480)  # pixels at most
AT_ONCE = 4
AGAIN = 3600.0  # seconds before a cover that could not be had is asked for again
TIMEOUT = 10.0


class Covers:
    """The covers of one zoo's collection, below its cache."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._folder = settings.cache / "covers"
        self._free = threading.BoundedSemaphore(AT_ONCE)
        self._missing: dict[str, float] = {}

    def can_be_had(self, entry: Entry) -> bool:
        """Whether a cover is here, or may be asked for."""
        return not self._settings.offline or self._place(entry).is_file()

    def get(self, entry: Entry) -> Path:
        """The small cover of a model of the collection, a WebP file.

        Raises
        ------
        MissingFileError
            Where it has none, or it cannot be had now.
        """
        place = self._place(entry)
        if place.is_file():
            return place
        gone = MissingFileError(what="The cover of", path=entry.id)
        address = _address(entry)
        failed = self._missing.get(place.name)
        if address is None or (failed is not None and time.monotonic() - failed < AGAIN):
            raise gone
        with self._free:
            if place.is_file():
                return place
            try:
                with Client(self._settings, timeout=TIMEOUT) as client:
                    content = client.get(address, max_bytes=MAX_BYTES, via=entry.url)
                write_atomic(place, _small(content))
            except (BiozooError, OSError, ValueError) as exc:
                self._missing[place.name] = time.monotonic()
                raise gone from exc
        return place

    def _place(self, entry: Entry) -> Path:
        told = f"{entry.key} {entry.summary.cover}"
        return self._folder / f"{hashlib.sha256(told.encode()).hexdigest()[:32]}.webp"


def _address(entry: Entry) -> str | None:
    source = entry.summary.cover
    if not source:
        return None
    if rdfs.is_url(source):
        return source
    relative = rdfs.safe_relative(source)
    return None if relative is None else beside(entry.url, str(relative))


def _small(content: bytes) -> bytes:
    """The picture, at most `SIZE`, as WebP; ValueError or OSError where it is none."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=("PNG", "JPEG", "GIF", "WEBP")) as picture:
            picture.thumbnail(SIZE)
            small = picture.convert("RGBA" if picture.has_transparency_data else "RGB")
    except Image.DecompressionBombError as exc:
        raise ValueError(str(exc)) from exc
    out = io.BytesIO()
    small.save(out, "WEBP", quality=82)
    return out.getvalue()
