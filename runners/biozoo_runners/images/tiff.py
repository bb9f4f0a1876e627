"""TIFF, OME-TIFF, ImageJ hyperstacks and what tifffile knows of other TIFF flavours.

A file is parsed once and closed; every read opens it again, so that no handle stays open. Planes
stored plainly are memory-mapped; of compressed ones only the tiles or strips that overlap the
asked region are decoded. Not through `aszarr()`: that would import zarr (0.3 s), and it pads what
a truncated file lacks with zeros.
"""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import ImageReadError

from .base import RGB, Image, Index, choose_scene, describe, scene_notes
from .decoding import reading
from .tiff_metadata import Metadata, imagej_metadata, ome_metadata
from .tiff_region import PageRegion, read_boxed, segment_shape

_LETTERS = {"T": "time", "C": "channel", "Z": "z", "Y": "y", "X": "x", "S": "channel"}
_PLAIN = ("generic", "uniform", "shaped")  # tifffile's kinds of TIFF without a flavour
_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# What tifffile logs, and carries on from with fewer planes or zeros, where a file is incomplete.
_DAMAGE = (
    "invalid page offset",
    "corrupted",
    "missing required tags",
    "incompletely written",
    "missing data offset",
    "invalid offset",
    "TiffTag 270 @",  # the image description: OME-XML, ImageJ's metadata
)


class TiffReader:
    """Everything that starts with a TIFF header, whatever its name."""

    suffixes = (".ome.tiff", ".ome.tif", ".tiff", ".tif", ".lsm", ".svs", ".ome.tf2", ".ome.btf")

    def claims(self, path: Path, head: bytes) -> bool:
        """By content: the four bytes of a classic or a Big TIFF."""
        return head.startswith(_MAGIC)

    def open(self, path: Path, *, axes: str | Sequence[str] | None, scene: int | None) -> Image:
        """Parse the headers; no pixel is read."""
        import tifffile

        with reading(path, "it is no readable TIFF"), _heard(path) as heard:
            with tifffile.TiffFile(path) as tif:
                all_series = list(tif.series)
                if not all_series:
                    raise ImageReadError(
                        path=path,
                        why="it is a TIFF without an image in it.",
                        hint="Copy or download it again, or save it anew.",
                    )
                names = tuple(s.name for s in all_series)
                chosen = choose_scene(path, scene, names)
                series = all_series[chosen]
                if tif.is_ome:
                    facts = ome_metadata(tif.ome_metadata or "", chosen, len(all_series))
                elif tif.is_imagej:
                    first = tif.pages.first
                    facts = imagej_metadata(tif.imagej_metadata or {}, first.tags)
                else:
                    facts = Metadata()
                source = _Source(path, tif, series)
            heard.check()
            if any("OME series raised" in m for m in heard.messages):
                facts = Metadata(broken=True)
        return self._image(path, source, facts, axes, scene, chosen, names)

    @staticmethod
    def _image(
        path: Path,
        source: _Source,
        facts: Metadata,
        axes: str | Sequence[str] | None,
        scene: int | None,
        chosen: int,
        names: tuple[str, ...],
    ) -> Image:
        series, page = source.series, source.series.keyframe
        own, shape = series.axes, list(series.shape)
        plain = series.kind in _PLAIN and own in ("YX", "YXS", "SYX")
        notes = list(scene_notes(scene, chosen, names))
        color = "S" in own and page.photometric in (2, 6) and shape[own.index("S")] in (3, 4)
        if color and shape[own.index("S")] == 4 and set(page.extrasamples) & {1, 2}:
            shape[own.index("S")] = 3
            notes.append("its alpha channel (transparency) is left out")
        if "C" in own and "S" in own and not axes:
            raise ImageReadError(
                path=path,
                why=f"it has both channels and colour samples (dimensions {own}, "
                f"{' x '.join(map(str, shape))}), and biozoo has one channel axis.",
                hint="Split it into its channels in Fiji and save each as OME-TIFF.",
            )
        if facts.broken:
            if not axes and len(own) > 2 + color:
                raise ImageReadError(
                    path=path,
                    why="its OME-XML metadata are damaged, so its axes are not known.",
                    hint="Get the file again, or name its axes, for example --axes zyx.",
                )
            notes.append("its OME-XML metadata are damaged and were left out")
        if page.photometric == 0:
            notes.append("it is stored with 0 as white; the stored values are used")
        return describe(
            path=path,
            axes=tuple(_LETTERS.get(letter) for letter in own),
            given=axes,
            source="format" if plain else "metadata",
            shape=shape,
            dtype=series.dtype,
            reader=source.read,
            own_names=own if set(own) - set("QIYXS") else "",
            channel_names=RGB if color else () if "S" in own else facts.channel_names,
            rgb=color,
            pixel_size=facts.pixel_size,
            unit=facts.unit,
            scene=chosen,
            scenes=names,
            notes=tuple(notes),
            chunks=source.chunks,
        )


class _Source:
    """The pixels of one series."""

    def __init__(self, path: Path, tif: Any, series: Any) -> None:
        self.path, self.series = path, series
        self._lock = threading.Lock()
        self._last: tuple[int, NDArray[Any]] | None = None  # a page that cannot be read in parts
        self._byteorder: str = tif.byteorder
        size = tif.filehandle.size
        plain = series.transform is None and not series.is_multifile and series.dtype.kind != "b"
        self._offset: int | None = series.dataoffset if plain else None
        if self._offset is not None:
            self._demand(self._offset + math.prod(series.shape) * series.dtype.itemsize, size)
        elif not series.is_multifile:
            for number in {0, len(series) - 1}:
                self._check(series[number], size)

    @property
    def chunks(self) -> tuple[int, ...] | None:
        """What is decoded at once, None where the pixels are stored plainly."""
        if self._offset is not None:
            return None
        if self._is_mosaic:
            return tuple(map(int, self.series.shape))
        page = self.series.keyframe
        planes: int = self.series.ndim - page.ndim
        return (1,) * planes + segment_shape(page)

    @property
    def _is_mosaic(self) -> bool:
        """Whether the planes are not the pages: cut out of larger ones, or put together."""
        series, inner = self.series, self.series.keyframe.ndim
        return bool(
            series.transform is not None
            or math.prod(series.shape[: series.ndim - inner]) != len(series)
            or series.shape[series.ndim - inner :] != series.keyframe.shape
        )

    def read(self, index: tuple[Index, ...]) -> NDArray[Any]:
        """The pixels of `index`, which has one entry per dimension."""
        if self._offset is not None:
            stored = np.memmap(
                self.path,
                dtype=self.series.dtype.newbyteorder(self._byteorder),
                mode="r",
                offset=self._offset,
                shape=self.series.shape,
            )
            return np.array(stored[index])
        with self._lock, _heard(self.path) as heard, _opened(self.series.keyframe):
            pixels = self._read_pages(index)
        heard.check()
        return pixels

    def _read_pages(self, index: tuple[Index, ...]) -> NDArray[Any]:
        series, inner = self.series, self.series.keyframe.ndim
        lead = series.shape[: series.ndim - inner]
        if self._is_mosaic:  # only tifffile knows how its pages fit together
            for number in range(len(series)):
                self._check(series[number])
            return np.asarray(series.asarray()[index])
        # An alpha channel beyond the reported shape is outside of every index already.
        region = PageRegion(series.keyframe, index[len(lead) :])
        ranges = [
            range(*i.indices(n)) if isinstance(i, slice) else range(i, i + 1)
            for i, n in zip(index, lead, strict=False)
        ]
        planes = np.empty((*map(len, ranges), *region.shape), series.dtype)
        for place in np.ndindex(*map(len, ranges)):
            at = tuple(r[p] for r, p in zip(ranges, place, strict=True))
            number = int(np.ravel_multi_index(at, lead)) if lead else 0
            planes[place] = self._page(number, region)
        drop = tuple(0 if isinstance(i, int) else slice(None) for i in index[: len(lead)])
        return planes[drop]

    def _page(self, number: int, region: PageRegion) -> NDArray[Any]:
        """The region of one page; a page decoded whole for a part of it is kept for the next."""
        if self._last and self._last[0] == number:
            return np.array(self._last[1][region.index])
        page = self._check(self.series[number], plane=number)
        with _opened(page):
            if region.box is not None:
                return read_boxed(page, region)
            pixels = np.asarray(page.asarray())
        part = np.asarray(pixels[region.index])
        if part.size < pixels.size:
            self._last = (number, pixels)
        return part

    def _check(self, page: Any, size: int | None = None, plane: int | None = None) -> Any:
        """The page itself, if it is there and all of it lies within the file."""
        if page is None:
            at = "one of its planes" if plane is None else f"its plane {plane}"
            raise ImageReadError(
                path=self.path,
                why=f"{at} is missing.",
                hint="An OME-TIFF may consist of several files; put all of them in one folder.",
            )
        ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        size = page.parent.filehandle.size if size is None else size
        self._demand(max(ends, default=0), size)
        return page

    def _demand(self, needed: int, size: int) -> None:
        if needed > size:
            raise ImageReadError(
                path=self.path,
                why=f"it is truncated: its content ends at byte {needed:,}, the file has {size:,}.",
                hint="Copy or download it again.",
            )


@contextlib.contextmanager
def _opened(page: Any) -> Iterator[None]:
    """Open the file that holds `page`, if it is closed, for as long as this lasts."""
    handle = page.parent.filehandle
    if not handle.closed:
        yield
        return
    handle.open()
    try:
        yield
    finally:
        handle.close()


class _Heard(logging.Filter):
    """Keeps what tifffile logs in this thread off the screen, and turns damage into an error."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path, self.messages = path, list[str]()
        self._thread = threading.get_ident()

    def filter(self, record: logging.LogRecord) -> bool:
        """Collect the record where it belongs to this read."""
        if record.thread != self._thread:
            return True
        self.messages.append(record.getMessage())
        return False

    def check(self) -> None:
        """Raise if something that was logged means that pixels are missing."""
        damage = [m for m in self.messages if any(sign in m for sign in _DAMAGE)]
        if damage:
            reason = damage[0].partition("> ")[2] or damage[0]
            raise ImageReadError(
                path=self.path,
                why=f"it is truncated or damaged (tifffile: {reason}).",
                hint="Copy or download it again.",
            )


@contextlib.contextmanager
def _heard(path: Path) -> Iterator[_Heard]:
    log, heard = logging.getLogger("tifffile"), _Heard(path)
    log.addFilter(heard)
    try:
        yield heard
    except ImageReadError:
        raise
    except Exception:
        heard.check()  # the plain reason, where tifffile knew it before it stumbled
        raise
    finally:
        log.removeFilter(heard)


READER = TiffReader()
