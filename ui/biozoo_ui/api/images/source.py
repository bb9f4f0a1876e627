"""A file as planes of time, channel and z: its axes settled, its pixels read by region.

The general readers never guess axes; for looking at an image a guess that is called one is more
use than an error, so it is made here, and `axes_known` is False.
"""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.axes import CANONICAL, letters
from biozoo.errors import AxesError, OutOfMemoryError, StorageError
from biozoo_runners.images import Image, open_image
from biozoo_runners.images.decoding import reading

from .file_facts import Read, file_facts, refuse_others, usable_levels

AXES = ("time", "channel", "z", "y", "x")
_COLOR = 4  # an axis of at most so many pixels at an end is taken for channels


@dataclass(frozen=True)
class Place:
    """Which plane."""

    time: int
    channel: int
    z: int


@dataclass(frozen=True, eq=False)
class Source:
    """An opened file.

    Attributes
    ----------
    image
        What the reader says, with axes.
    axes_known
        False where the axes were guessed from the shape.
    stored
        Halvings -> a function that opens the level of so many halvings that the file holds; 0 is
        the image itself.
    colors
        Of the channels, "" where the file says none.
    grain
        Pixels along y and x that are decoded together; None where each can be read by itself.
    """

    image: Image
    axes_known: bool
    stored: Mapping[int, Callable[[], Read]]
    colors: tuple[str, ...]
    grain: tuple[int, int] | None
    handles: _Handles = field(repr=False)

    @property
    def sizes(self) -> dict[str, int]:
        """Pixels along each of `AXES`, 1 where the image has no such axis."""
        return {axis: self.image.sizes.get(axis, 1) for axis in AXES}

    def read(self, level: int, place: Place, y: slice, x: slice) -> NDArray[Any]:
        """Pixels of a stored level, (y, x) of the file's own type, cut at its edges.

        Raises
        ------
        ImageReadError
            Where the file is damaged there, or has gone.
        """
        chosen: dict[str, int | slice] = {
            "time": place.time,
            "channel": place.channel,
            "z": place.z,
            "y": y,
            "x": x,
        }
        index = tuple(chosen.get(axis, 0) for axis in self.image.axes)
        try:
            with reading(self.image.path), self.handles.borrow(level, self.stored[level]) as read:
                pixels = read(index)
        except MemoryError as exc:
            raise OutOfMemoryError(
                f"{self.image.path} cannot be shown: one of its blocks does not fit in memory. "
                "Save it as a tiled OME-TIFF or as OME-Zarr."
            ) from exc
        if self.image.axes.index("y") > self.image.axes.index("x"):
            pixels = pixels.T
        return np.asarray(pixels, pixels.dtype.newbyteorder("="))

    def release(self) -> None:
        """Let go of what is kept for the next read; it comes back by itself."""
        self.handles.clear()


class _Handles:
    """Opened levels, each used by one thread at a time: a TIFF's reader decodes one region at once,
    so as many as there are cores let all of them decode, and one more never waits for them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._most = threading.BoundedSemaphore((os.cpu_count() or 1) + 1)
        self._free: dict[int, list[Read]] = {}

    @contextmanager
    def borrow(self, level: int, opened: Callable[[], Read]) -> Iterator[Read]:
        with self._most:
            with self._lock:
                free = self._free.setdefault(level, [])
                read = free.pop() if free else None
            read = read or opened()
            yield read
            self.give_back(level, read)  # not after an error

    def give_back(self, level: int, read: Read) -> None:
        with self._lock:
            self._free.setdefault(level, []).append(read)

    def clear(self) -> None:
        with self._lock:
            self._free.clear()


def open_source(
    path: Path,
    scratch: Path,
    *,
    axes: str | None = None,
    allowed: Sequence[Path] = (),
    scene: int | None = None,
) -> Source:
    """Open a file or an OME-Zarr folder.

    Parameters
    ----------
    scratch
        Folder for the pixels of a picture that can only be decoded whole (PNG, JPEG).
    axes
        From the user, one letter per dimension; None: those of the file, else a guess.
    allowed
        Folders in which further files of an OME-TIFF or OME-Zarr may lie.
    scene
        Which image of a file that holds several; None: the first.

    Raises
    ------
    ImageReadError, MissingFileError
        As `open_image`.
    AxesError
        For axes that do not fit, that lack y or x, or that leave several positions along an axis
        that cannot be shown.
    """
    if path.exists():
        refuse_others(path, allowed)
    image, known = _opened(path, axes, scene)
    lacking = [axis for axis in ("y", "x") if axis not in image.axes]
    if lacking:
        raise AxesError(
            f"{path} has the axes {letters(image.axes)}: an image needs y and x. Name them."
        )
    for axis, size in image.sizes.items():
        if axis not in AXES and size > 1:
            raise AxesError(
                f"{path} has {size} positions along {axis}, and only time, channel, z, y and x "
                f"are shown. Call that axis one of these, for example t instead of "
                f"{letters([axis])}."
            )
    image = _mapped(image, scratch)
    handles = _Handles()
    handles.give_back(0, image.reader)
    stored: dict[int, Callable[[], Read]] = {0: lambda: _reader(image, path, axes, known)}
    facts = file_facts(path, image.scene)
    if (open_level := facts.open_level) is not None:
        for halvings, number in usable_levels(image.axes, image.shape, facts.levels).items():
            stored[halvings] = lambda n=number: open_level(n)  # type: ignore[misc]
    own_channels = "channel" in image.axes and image.axes_source != "given"
    colors = (facts.colors or image.colors) if own_channels or not axes else ()
    # Of other orders of the axes it would be that of another plane.
    grain = facts.grain if [a for a in image.axes if a != "channel"][-2:] == ["y", "x"] else None
    return Source(image, known, stored, colors, grain, handles)


def _reader(image: Image, path: Path, axes: str | None, known: bool) -> Read:
    if image.path != path:  # decoded into the scratch folder: mapped, for any number of threads
        return image.reader
    settled = axes if axes or known else letters(image.axes)
    return open_image(path, axes=settled, scene=image.scene).reader


def _opened(path: Path, axes: str | None, scene: int | None) -> tuple[Image, bool]:
    try:
        return open_image(path, axes=axes, scene=scene), True
    except AxesError:
        if axes is not None:
            raise
        shape = _shape(path, scene)
        if shape is None:
            raise
        return open_image(path, axes=guess_axes(shape), scene=scene), False


def _shape(path: Path, scene: int | None) -> tuple[int, ...] | None:
    """The shape of a file whose axes nobody named: it opens with any of the right number."""
    for number in range(2, len(CANONICAL) + 1):
        try:
            return open_image(path, axes=CANONICAL[-number:], scene=scene).shape
        except AxesError:
            continue
    return None


def guess_axes(shape: Sequence[int]) -> tuple[str, ...]:
    """The likeliest axes of a shape.

    Few positions at the end are channels (y, x, 3); few before y and x are channels, many are z;
    a fourth dimension is the other one of channels and z, or time.
    """
    count = len(shape)
    if count <= 2:
        return AXES[-count:]
    last = shape[-1] <= _COLOR < min(shape[-3], shape[-2])
    inner = ("y", "x", "channel") if last else ("y", "x")
    outer: list[str] = []
    spare = ["z", "time", "batch", "index"]
    channel_used = last
    for size in reversed(shape[: count - len(inner)]):
        if not channel_used and size <= _COLOR:
            outer.append("channel")
            channel_used = True
        else:
            outer.append(spare.pop(0))
    return (*reversed(outer), *inner)


def _mapped(image: Image, scratch: Path) -> Image:
    """A picture decoded once to disk; other formats are read in parts as they are."""
    from biozoo_runners.images.raster import READER

    path = image.path
    assert path is not None
    if path.is_dir():
        return image
    with path.open("rb") as file:
        if not READER.claims(path, file.read(16)):
            return image
    with reading(path):
        pixels = image.reader((slice(None),) * len(image.shape))
    scratch.mkdir(parents=True, exist_ok=True)
    decoded = scratch / "pixels.npy"
    try:
        np.save(decoded, pixels)
    except OSError as exc:
        raise StorageError(
            path=decoded, why=str(exc.strerror or exc), hint="Make room on the disk of the server."
        ) from exc

    def read(index: tuple[int | slice, ...]) -> NDArray[Any]:
        return np.array(np.load(decoded, mmap_mode="r")[index])

    return dataclasses.replace(image, path=decoded, reader=read)
