"""CZI (Zeiss), LIF (Leica) and ND2 (Nikon), through the readers of the bioio project: `[bioio]`.

Nothing of bioio is imported before such a file is opened (1.5 s), and each format needs only its
own package. What a read costs: a plane (one channel of one z and time) is decoded whole, also for
a part of it, and the last one is kept for the next part. Of a CZI that was taken in tiles, only
those under the region are decoded. No file stays open between reads.
"""

from __future__ import annotations

import importlib.util
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import ImageReadError, MissingDependencyError
from biozoo.install import install_line

from .base import RGB, Image, Index, choose_scene, describe, scene_notes
from .bioio_formats import Opened, Scene, open_czi, open_lif, open_nd2
from .decoding import reading

_AXES = {"T": "time", "C": "channel", "Z": "z", "Y": "y", "X": "x", "S": "channel"}
_JP2 = b"\0\0\0\x0cjP  \r\n\x87\n"  # ND2 of before 2009 is JPEG 2000
# What matters of their faults is raised; the rest would go to the screen.
_TALKATIVE = ("aicspylibczi", "bioio_base", "bioio_czi", "bioio_lif", "bioio_nd2", "liffile", "nd2")


@dataclass(frozen=True)
class _Format:
    """One kind of file, and the package that reads it."""

    name: str
    package: str
    opened: Callable[[Path], Opened]

    def open(self, path: Path) -> Opened:
        """The file's scenes.

        Raises
        ------
        MissingDependencyError
            Where the package is not installed.
        """
        if importlib.util.find_spec(self.package.replace("-", "_")) is None:
            raise MissingDependencyError(
                what=f"Reading the {self.name} file {path}",
                library=self.package,
                install=f"{install_line('bioio')}\nOr open the file in Fiji (Bio-Formats) and save "
                "it as OME-TIFF.",
            )
        for name in _TALKATIVE:
            logging.getLogger(name).addHandler(logging.NullHandler())
        return self.opened(path)


_CZI = _Format("CZI", "bioio-czi", open_czi)
_LIF = _Format("LIF", "bioio-lif", open_lif)
_ND2 = _Format("ND2", "bioio-nd2", open_nd2)


class BioioReader:
    """CZI, LIF and ND2 files."""

    suffixes = (".czi", ".lif", ".nd2")

    def claims(self, path: Path, head: bytes) -> bool:
        """By content; the oldest ND2 also by name, as they are JPEG 2000."""
        return _format(path, head) is not None

    def open(self, path: Path, *, axes: str | Sequence[str] | None, scene: int | None) -> Image:
        """Read the metadata; no pixel is read."""
        with path.open("rb") as file:
            kind = _format(path, file.read(16))
        if kind is None:
            raise ImageReadError(path=path, why="it is neither CZI nor LIF nor ND2.")
        with reading(path, f"it is no readable {kind.name} file"):
            opened = kind.open(path)
            chosen = choose_scene(path, scene, opened.scenes)
            content = opened.scene(chosen)
        # Dimensions of one position are left out, as everywhere.
        kept = tuple(d for d, n in content.sizes.items() if n != 1 or d in "YX")
        if "C" in kept and "S" in kept:
            raise ImageReadError(
                path=path,
                why=f"it has {content.sizes['C']} channels of colour pictures, and biozoo has one "
                "channel axis.",
                hint="Split it into its channels in Fiji and save each as OME-TIFF.",
            )
        facts, rgb = content.facts, "S" in kept
        return describe(
            path=path,
            axes=tuple(_AXES.get(d) for d in kept),
            given=axes,
            shape=tuple(content.sizes[d] for d in kept),
            dtype=content.dtype,
            reader=_Pixels(content, kept).read,
            own_names=", ".join(kept) if set(kept) - set(_AXES) else "",
            channel_names=RGB if rgb else facts.channel_names,
            rgb=rgb,
            colors=() if rgb else facts.colors,
            pixel_size=facts.pixel_size,
            unit={a: "second" if a == "time" else "micrometer" for a in facts.pixel_size},
            scene=chosen,
            scenes=opened.scenes,
            notes=(*scene_notes(scene, chosen, opened.scenes), *facts.notes),
        )


def _format(path: Path, head: bytes) -> _Format | None:
    if head.startswith(b"ZISRAWFILE"):
        return _CZI
    if head.startswith(b"p\0\0\0") and head[8:9] == b"*":
        return _LIF
    old = head.startswith(_JP2) and path.suffix.lower() == ".nd2"
    return _ND2 if old or head.startswith(b"\xda\xce\xbe\x0a") else None


class _Pixels:
    """The pixels of a scene, any region of them; for one thread at a time."""

    def __init__(self, scene: Scene, kept: tuple[str, ...]) -> None:
        self._scene, self._kept, self._lock = scene, kept, threading.Lock()
        self._last: tuple[tuple[int, ...], NDArray[Any]] | None = None

    def read(self, index: tuple[Index, ...]) -> NDArray[Any]:
        """The pixels of `index`, which has one entry per kept dimension."""
        scene = self._scene
        wanted: dict[str, Index] = dict.fromkeys(scene.sizes, 0)
        wanted |= dict(zip(self._kept, index, strict=True))
        lead = [d for d in scene.sizes if d not in scene.inner]
        positions = [_positions(wanted[d], scene.sizes[d]) for d in lead]
        inner = tuple(wanted[d] for d in scene.inner)
        shape = [len(_positions(i, scene.sizes[d])) for d, i in wanted.items() if _kept(i)]
        within = [n for d, n in zip(_sliced(wanted), shape, strict=True) if d in scene.inner]
        parts = np.empty((*map(len, positions), *within), scene.dtype)
        with self._lock:
            for place in np.ndindex(*map(len, positions)) if parts.size else ():
                at = [p[i] for p, i in zip(positions, place, strict=True)]
                parts[place] = self._part(dict(zip(lead, at, strict=True)), inner)
        return parts[tuple(slice(None) if _kept(wanted[d]) else 0 for d in lead)]

    def _part(self, at: Mapping[str, int], inner: tuple[Index, ...]) -> NDArray[Any]:
        scene = self._scene
        if scene.region is not None:
            y, x = (_cover(i, scene.sizes[d]) for d, i in zip("YX", inner[:2], strict=True))
            pixels = scene.region(at, y, x)
            moved = (_moved(i, s) for i, s in zip(inner[:2], (y, x), strict=True))
            return pixels[(*moved, *inner[2:])]
        key = tuple(at.values())
        if self._last is None or self._last[0] != key:
            self._last = None  # not two planes at once
            self._last = (key, scene.plane(at))
        return self._last[1][inner]


def _kept(index: Index) -> bool:
    return isinstance(index, slice)


def _sliced(wanted: Mapping[str, Index]) -> list[str]:
    return [d for d, i in wanted.items() if _kept(i)]


def _positions(index: Index, size: int) -> range:
    return range(*index.indices(size)) if isinstance(index, slice) else range(index, index + 1)


def _cover(index: Index, size: int) -> slice:
    """The slice without a step that holds all positions of an index."""
    positions = _positions(index, size)
    return slice(positions[0], positions[-1] + 1)


def _moved(index: Index, cover: slice) -> Index:
    """The index within what `cover` gives."""
    return slice(None, None, index.step) if isinstance(index, slice) else 0


READER = BioioReader()
