"""What CZI, LIF and ND2 files hold, through bioio's readers and the libraries below them.

bioio says which scenes there are and what they measure. Where its own way to pixels or metadata
first makes a plan of all chunks of the file (LIF: 1.3 s per plane at 6,000 planes; CZI: 1 s to
open), the library below it is asked instead; both come with the same package.
"""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SPATIAL = ("Y", "X", "S")  # S: the samples of a colour picture
# Lookup tables by their names in Leica's software.
_LUTS = {
    "red": "#ff0000", "green": "#00ff00", "blue": "#0000ff", "cyan": "#00ffff",
    "magenta": "#ff00ff", "yellow": "#ffff00", "gray": "#ffffff", "grey": "#ffffff",
}  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What the metadata say beside shape and axes; sizes in micrometres and seconds."""

    pixel_size: Mapping[str, float] = field(default_factory=dict)
    channel_names: tuple[str, ...] = ()
    colors: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """One image of a file.

    Attributes
    ----------
    sizes
        Dimension -> positions, in the order in which pixels come. One letter each as bioio calls
        them; dimensions of one position may be among them.
    inner
        The last of `sizes`, which a plane has.
    plane
        The pixels of a plane: position along every dimension that is not of `inner`.
    region
        A part of a plane, by slices of y and x without a step, where that is cheaper than all.
    """

    sizes: Mapping[str, int]
    inner: tuple[str, ...]
    dtype: np.dtype[Any]
    plane: Callable[[Mapping[str, int]], NDArray[Any]]
    facts: Facts
    region: Callable[[Mapping[str, int], slice, slice], NDArray[Any]] | None = None


@dataclass(frozen=True)
class Opened:
    """A file: the names of its images, and a function that opens one."""

    scenes: tuple[str, ...]
    scene: Callable[[int], Scene]


def _bioio(module: str, path: Path, **options: Any) -> Any:
    return importlib.import_module(module).Reader(str(path), **options)


def open_czi(path: Path) -> Opened:
    """A Zeiss file."""
    reader = _bioio("bioio_czi", path)
    return Opened(tuple(map(str, reader.scenes)), lambda number: _czi_scene(path, reader, number))


def _czi_scene(path: Path, reader: Any, number: int) -> Scene:
    aicspylibczi = importlib.import_module("aicspylibczi")
    reader.set_scene(number)
    sizes = dict(zip(reader.dims.order, map(int, reader.dims.shape), strict=True))
    with path.open("rb") as stream:
        czi = aicspylibczi.CziFile(stream)
        facts = _czi_facts(czi.meta, sizes, reader)
        shapes = czi.get_dims_shape()
        # One entry for all scenes where they are alike, else one for each.
        shape, offset = (shapes[0], number) if czi.shape_is_consistent else (shapes[number], 0)
        place = shape.get("S", (0, 1))[0] + offset
        box = czi.get_mosaic_scene_bounding_box(place) if "M" in sizes else None
    samples = sizes.get("S")

    def rgb(pixels: NDArray[Any]) -> NDArray[Any]:
        return pixels[..., ::-1] if samples else pixels  # stored blue first

    def plane(at: Mapping[str, int]) -> NDArray[Any]:
        return rgb(np.asarray(reader.get_image_data("YXS" if samples else "YX", **at)))

    def region(at: Mapping[str, int], y: slice, x: slice) -> NDArray[Any]:
        assert box is not None
        tall, wide = y.stop - y.start, x.stop - x.start
        with path.open("rb") as stream:
            pixels = aicspylibczi.CziFile(stream).read_mosaic(
                region=(box.x + x.start, box.y + y.start, wide, tall),
                scale_factor=1.0,
                **{d: shape[d][0] + n for d, n in at.items()},
            )
        return rgb(pixels.reshape((tall, wide, samples) if samples else (tall, wide)))

    if box is not None:
        del sizes["M"]
        sizes |= {"Y": int(box.h), "X": int(box.w)}
    inner = tuple(d for d in sizes if d in SPATIAL)
    return Scene(sizes, inner, np.dtype(reader.dtype), plane, facts, region if box else None)


def _czi_facts(meta: Any, sizes: Mapping[str, int], reader: Any) -> Facts:
    pixel_size: dict[str, float] = {}
    for axis in "XYZ":  # always metres
        text = meta.findtext(f".//Scaling/Items/Distance[@Id='{axis}']/Value")
        with contextlib.suppress(TypeError, ValueError):
            pixel_size[axis.lower()] = round(float(text) * 1e6, 12)
    if sizes.get("T", 1) > 1:
        pixel_size |= _interval(reader)
    channels = meta.findall(".//Information/Image/Dimensions/Channels/Channel")
    names = tuple(c.get("Name") or c.get("Id") or "" for c in channels)
    shown = meta.findall(".//DisplaySetting/Channels/Channel")
    colors = [(c.findtext("Color") or "").strip() for c in shown]  # "#AARRGGBB"
    count = int(meta.findtext(".//Information/Image/SizeS") or 1)
    notes: tuple[str, ...] = ()
    if count > (known := len(reader.scenes)):
        notes = (
            f"its metadata count {count} scenes and name {known}; the others are not read. Save "
            "them from ZEN as files of their own",
        )
    return Facts(
        pixel_size,
        names[: sizes.get("C", 1)],
        tuple(f"#{c[-6:].lower()}" if len(c) in (7, 9) else "" for c in colors),
        notes,
    )


def _interval(reader: Any) -> dict[str, float]:
    """Seconds between time points; its faults are no reason to refuse the pixels."""
    with contextlib.suppress(Exception):
        seconds = reader.time_interval.total_seconds()
        if seconds > 0:
            return {"time": float(seconds)}
    return {}


def open_lif(path: Path) -> Opened:
    """A Leica file."""
    reader = _bioio("bioio_lif", path, chunk_dims=["Y", "X"])
    return Opened(tuple(map(str, reader.scenes)), lambda number: _lif_scene(path, reader, number))


def _lif_scene(path: Path, reader: Any, number: int) -> Scene:
    lif_file = importlib.import_module("liffile").LifFile
    with lif_file(path) as file:
        image = file.images[number]
        sizes = dict(image.sizes)
        inner = tuple(image.frames.frame_sizes)
        dtype = np.dtype(image.dtype)
        facts = _lif_facts(image.xml_element)
    if "M" in sizes:
        return _lif_tiles(reader, number, facts)

    def plane(at: Mapping[str, int]) -> NDArray[Any]:
        with lif_file(path) as file:
            return np.asarray(file.images[number].frames(**at).asarray())

    outer = {d: n for d, n in sizes.items() if d not in inner}
    return Scene(outer | {d: sizes[d] for d in inner}, inner, dtype, plane, facts)


def _lif_tiles(reader: Any, number: int, facts: Facts) -> Scene:
    """A scan in tiles that Leica's software did not merge."""
    reader.set_scene(number)
    array = reader.mosaic_xarray_dask_data

    def plane(at: Mapping[str, int]) -> NDArray[Any]:
        return np.asarray(array.isel(at).data.compute(scheduler="synchronous"))

    def region(at: Mapping[str, int], y: slice, x: slice) -> NDArray[Any]:
        return np.asarray(array.isel(at).data[y, x].compute(scheduler="synchronous"))

    note = (
        "its tiles are laid side by side, whatever they overlap; merge them in LAS X for one image"
    )
    facts = Facts(facts.pixel_size, facts.channel_names, facts.colors, (note,))
    sizes = dict(zip(map(str, array.dims), array.shape, strict=True))
    return Scene(sizes, ("Y", "X"), np.dtype(array.dtype), plane, facts, region)


def _lif_facts(element: Any) -> Facts:
    described = element.find("./Data/Image/ImageDescription")
    pixel_size: dict[str, float] = {}
    for dimension in described.findall("./Dimensions/DimensionDescription"):
        axis = {"1": "x", "2": "y", "3": "z", "4": "time"}.get(dimension.get("DimID"))
        count = int(dimension.get("NumberOfElements"))
        factor = {"m": 1e6, "s": 1.0}.get(dimension.get("Unit"))
        if axis and factor and count > 1:  # from the middle of the first to that of the last
            length = abs(float(dimension.get("Length"))) * factor
            pixel_size[axis] = round(length / (count - 1), 12)
    cubes = {i.get("LUT"): i.get("FluoCubeName") for i in element.iter("WideFieldChannelInfo")}
    names, colors = [], []
    for channel in described.findall("./Channels/ChannelDescription"):
        lut = channel.get("LUTName") or ""
        told = {p.findtext("Key"): p.findtext("Value") for p in channel.iter("ChannelProperty")}
        names.append(told.get("DyeName") or " ".join(t for t in (lut, cubes.get(lut)) if t))
        colors.append(_LUTS.get(lut.lower(), ""))
    return Facts(pixel_size, tuple(names), tuple(colors))


def open_nd2(path: Path) -> Opened:
    """A Nikon file."""
    reader = _bioio("bioio_nd2", path)
    return Opened(tuple(map(str, reader.scenes)), lambda number: _nd2_scene(path, reader, number))


def _nd2_scene(path: Path, reader: Any, number: int) -> Scene:
    reader.set_scene(number)
    sizes = dict(zip(reader.dims.order, map(int, reader.dims.shape), strict=True))
    inner = tuple(d for d in sizes if d in SPATIAL)

    def plane(at: Mapping[str, int]) -> NDArray[Any]:
        return np.asarray(reader.get_image_data("".join(inner), **at))

    outer = {d: n for d, n in sizes.items() if d not in inner}
    ordered = outer | {d: sizes[d] for d in inner}
    return Scene(ordered, inner, np.dtype(reader.dtype), plane, _nd2_facts(path, reader, sizes))


def _nd2_facts(path: Path, reader: Any, sizes: Mapping[str, int]) -> Facts:
    pixel_size = _interval(reader) if sizes.get("T", 1) > 1 else {}
    notes: tuple[str, ...] = ()
    with importlib.import_module("nd2").ND2File(str(path)) as file:
        channels = file.metadata.channels or ()
        if channels:  # where nothing was calibrated it reports 1 micrometre
            volume = channels[0].volume
            known = zip("xyz", volume.axesCalibration, volume.axesCalibrated, strict=True)
            pixel_size |= {axis: float(size) for axis, size, calibrated in known if calibrated}
        with contextlib.suppress(AttributeError):  # not of its public parts
            taken, count = len(file._rdr._frame_offsets), len(file.loop_indices)
            if 0 < taken < count:
                notes = (
                    f"{count - taken} of its {count} pictures were never taken; they read as 0",
                )
    shown = [c.channel.color for c in channels]
    colors = tuple(f"#{c.r:02x}{c.g:02x}{c.b:02x}" for c in shown)
    return Facts(pixel_size, tuple(str(c.channel.name) for c in channels), colors, notes)
