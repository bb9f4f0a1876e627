"""What the general readers leave out: a file's own coarse levels, its channels' colours, and which
other files it would have read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import ImageReadError
from biozoo_runners.images.decoding import reading

Index = int | slice
Read = Callable[[tuple[Index, ...]], NDArray[Any]]

_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class FileFacts:
    """Facts of one file.

    Attributes
    ----------
    levels
        Shapes of its own coarse levels, in the order of the file's dimensions.
    grain
        Pixels along y and x that are decoded together (a tile, a strip, a chunk); None where any
        part can be read by itself.
    colors
        One "#rrggbb" per channel, "" where the file says none.
    open_level
        The pixels of `levels[n]`: a function of one index per dimension. What it returns keeps no
        file open and is for one thread.
    """

    levels: tuple[tuple[int, ...], ...] = ()
    grain: tuple[int, int] | None = None
    colors: tuple[str, ...] = ()
    open_level: Callable[[int], Read] | None = field(default=None, repr=False)


def file_facts(path: Path, scene: int = 0) -> FileFacts:
    """Facts of one image of a file; empty for formats that have none, and where damaged.

    Nothing here is needed to show an image: a fault is the general reader's to tell.
    """
    try:
        if path.is_dir():
            return _zarr_facts(path) if scene == 0 else FileFacts()
        with path.open("rb") as file:
            tiff = file.read(4) in _TIFF
        return _tiff_facts(path, scene) if tiff else FileFacts()
    except Exception:  # damaged metadata can make a parser raise anything
        return FileFacts()


def refuse_others(path: Path, allowed: Sequence[Path]) -> None:
    """Refuse an OME-TIFF or OME-Zarr that names pixels outside of its own and the allowed folders.

    Its metadata may name any path, and whoever sent it would see what lies there.

    Raises
    ------
    ImageReadError
        Where it names one that exists.
    """
    own = path.resolve()
    if path.is_dir():
        with reading(path, "its metadata cannot be understood"):
            for place in _named_places(path):
                if not any(place.resolve().is_relative_to(folder) for folder in (own, *allowed)):
                    raise ImageReadError(
                        path=path,
                        why="it takes pixels from a place that is not in its folder.",
                        hint="Copy the whole image into one OME-Zarr folder.",
                    )
        return
    with reading(path), path.open("rb") as file:
        if file.read(4) not in _TIFF:
            return
    for name in _named_files(path):
        other = (own.parent / name).resolve()
        within = any(other.is_relative_to(folder) for folder in (own.parent, *allowed))
        if other != own and not within:
            raise ImageReadError(
                path=path,
                why="it takes pixels from another file, which is not in its folder.",
                hint="Save it as one OME-TIFF.",
            )


def _named_files(path: Path) -> set[str]:
    import tifffile

    try:
        with tifffile.TiffFile(path) as tif:
            xml = tif.ome_metadata if tif.is_ome else None
        tree = ElementTree.fromstring(xml) if xml else None
    except Exception:
        return set()  # what cannot be parsed here is not followed by the reader either
    if tree is None:
        return set()
    return {e.get("FileName", "") for e in tree.iter() if e.tag.endswith("UUID")} - {""}


def _named_places(path: Path) -> Iterator[Path]:
    """Where the metadata of an OME-Zarr say that its images and their levels lie."""
    facts = _attributes(path)
    fields = facts.get("well", {}).get("images", ())
    below = [path / str(field["path"]) for field in fields]
    if "bioformats2raw.layout" in facts:
        listed = _attributes(path / "OME").get("series") or ()
        below += [path / str(name) for name in listed]
        below += [one for one in path.iterdir() if one.name.isdigit()]
    for place in below:
        yield place
    for place in (path, *below):
        for scales in _attributes(place).get("multiscales") or ():
            yield from (place / str(level["path"]) for level in scales["datasets"])


def _tiff_facts(path: Path, scene: int) -> FileFacts:
    import tifffile

    with tifffile.TiffFile(path) as tif:
        levels = tif.series[scene].levels
        shapes = tuple(tuple(level.shape) for level in levels[1:])
        page = levels[0].keyframe
        grain: tuple[int, int] | None = (page.rowsperstrip, page.imagewidth)
        if page.is_tiled:
            grain = (page.tilelength, page.tilewidth)
        elif levels[0].dataoffset is not None:  # plain and in one piece: mapped
            grain = None
        xml = tif.ome_metadata if tif.is_ome else None
    colors: tuple[str, ...] = ()
    images = ElementTree.fromstring(xml).findall("{*}Image/{*}Pixels") if xml else []
    if scene < len(images):
        colors = tuple(_ome_color(c.get("Color")) for c in images[scene].findall("{*}Channel"))
    return FileFacts(shapes, grain, colors, lambda n: _TiffLevel(path, scene, n + 1).read)


def _ome_color(text: str | None) -> str:
    """OME's signed number of red, green, blue and alpha bytes."""
    if not text or int(text) == -1:  # white, the schema's default: nobody chose it
        return ""
    return f"#{int(text) & 0xFFFFFFFF:08x}"[:7]


class _TiffLevel:
    """One coarse level of a series; the file is opened for each read."""

    def __init__(self, path: Path, scene: int, level: int) -> None:
        import tifffile

        with tifffile.TiffFile(path) as tif:
            self._series = tif.series[scene].levels[level]
            self._handle = tif.filehandle
            self._pages: list[Any] = [self._series[n] for n in range(len(self._series))]

    def read(self, index: tuple[Index, ...]) -> NDArray[Any]:
        from biozoo_runners.images.tiff_region import PageRegion, read_boxed

        series = self._series
        inner = series.keyframe.ndim
        lead = series.shape[: series.ndim - inner]
        place = tuple(i for i in index[: len(lead)] if isinstance(i, int))
        page = self._pages[int(np.ravel_multi_index(place, lead)) if lead else 0]
        region = PageRegion(series.keyframe, index[len(lead) :])
        self._handle.open()
        try:
            if region.box is not None:
                return read_boxed(page, region)
            return np.asarray(page.asarray()[region.index])
        finally:
            self._handle.close()


def _zarr_facts(path: Path) -> FileFacts:
    facts = _attributes(path)
    if "multiscales" not in facts:
        return FileFacts()
    import zarr

    shapes, places = [], []
    for level in facts["multiscales"][0]["datasets"][1:]:
        place = path / level["path"]
        if not place.resolve().is_relative_to(path.resolve()):
            return FileFacts()
        shapes.append(tuple(zarr.open_array(place, mode="r").shape))
        places.append(place)
    channels = facts.get("omero", {}).get("channels", ())
    colors = tuple(f"#{c['color'].lower()}" if c.get("color") else "" for c in channels)

    def open_level(number: int) -> Read:
        array: Any = zarr.open_array(places[number], mode="r")
        return lambda index: np.asarray(array[index])

    first = zarr.open_array(path / facts["multiscales"][0]["datasets"][0]["path"], mode="r")
    tall, wide = first.chunks[-2:]
    return FileFacts(tuple(shapes), (int(tall), int(wide)), colors, open_level)


def _attributes(path: Path) -> Mapping[str, Any]:
    v3, v2 = path / "zarr.json", path / ".zattrs"
    if v3.is_file():
        attributes = json.loads(v3.read_bytes()).get("attributes") or {}
        return dict(attributes.get("ome") or attributes)
    return dict(json.loads(v2.read_bytes())) if v2.is_file() else {}


def usable_levels(
    dims: Sequence[str], shape: Sequence[int], own: Sequence[Sequence[int]]
) -> dict[int, int]:
    """Which of a file's own levels are exactly halves: number of halvings -> number in `own`.

    Only those whose sides are what halving and rounding up gives: others would shift the picture.
    """
    found: dict[int, int] = {}
    for number, small in enumerate(own):
        if len(small) != len(shape):
            continue
        factor = round(math.log2(max(1.0, shape[dims.index("x")] / small[dims.index("x")])))
        expected = [
            -(-n // 2**factor) if axis in ("y", "x") else n
            for axis, n in zip(dims, shape, strict=True)
        ]
        if factor > 0 and list(small) == expected:
            found.setdefault(factor, number)
    return found
