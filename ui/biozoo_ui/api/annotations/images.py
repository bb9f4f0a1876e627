"""What annotations ask of the opened images: which image it is, what it measures, its labels."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import UsageError
from biozoo.files import sha256_of

from ...annotations import Facts, Kind, Plane
from ...annotations.model import AXES, FIRST_CLASSES, ClassLabel, Range
from ..images import OpenedImage
from ..images.source import Place

_REMEMBERED = 500


class ImageKeys:
    """Names of images that stay the same when the server starts again.

    A file of the server's machine is known by its place, size and time. What the server keeps for
    a while only, an upload or a sample, comes back at another place: it is known by its content.

    Parameters
    ----------
    passing
        Folders of the server itself.
    """

    def __init__(self, passing: Sequence[Path]) -> None:
        self._passing = tuple(passing)
        self._lock = threading.Lock()
        self._known: OrderedDict[tuple[Any, ...], str] = OrderedDict()

    def of(self, image: OpenedImage) -> str:
        """The name of an image; pixels of a large upload are read for it, once."""
        sizes = image.description.sizes
        shape = "x".join(str(sizes[axis]) for axis in AXES)
        return f"{self._file(image.path)}#{image.source.image.scene}#{shape}"

    def _file(self, path: Path) -> str:
        files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        stats = [(str(p.relative_to(path)), s.st_size, s.st_mtime_ns) for p in files
                 for s in [p.stat()]]  # fmt: skip
        seen = (path, tuple(stats))
        with self._lock:
            if seen in self._known:
                self._known.move_to_end(seen)
                return self._known[seen]
        if any(path.is_relative_to(folder) for folder in self._passing):
            parts = [f"{name}:{sha256_of(path / name if path.is_dir() else path)}"
                     for name, _, _ in stats]  # fmt: skip
        else:
            parts = [str(path), *(f"{name}:{size}:{time}" for name, size, time in stats)]
        found = hashlib.sha256("\n".join(parts).encode(errors="surrogatepass")).hexdigest()
        with self._lock:
            self._known[seen] = found
            while len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return found


def facts_of(image: OpenedImage, kind: Kind, classes: Sequence[ClassLabel] | None) -> Facts:
    """What a new annotation of an image is."""
    told = image.description
    return Facts(
        kind=kind,
        image=told.name,
        dims=tuple(axis for axis in AXES if axis in told.dims),
        sizes={axis: told.sizes[axis] for axis in AXES},
        pixel_size=told.pixel_size,
        classes=tuple(classes or FIRST_CLASSES) if kind == "classes" else (),
    )


class OpenedLabels:
    """A label image of the session, read plane by plane.

    Raises
    ------
    UsageError
        It is no label image.
    """

    def __init__(self, image: OpenedImage) -> None:
        if image.description.kind != "labels":
            raise UsageError(
                f"{image.description.name} holds no labels, so there are no objects to begin with. "
                "Choose the result of a model that finds objects."
            )
        self._image = image
        self.sizes: Mapping[str, int] = {a: image.source.sizes[a] for a in AXES}

    def read(self, plane: Plane, y: Range, x: Range) -> NDArray[Any]:
        place = Place(plane.time, 0, plane.z)
        return np.asarray(self._image.source.read(0, place, slice(*y), slice(*x)))
