"""ImageJ ROI sets, through roifile: areas in and out, lines and points left out."""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from biozoo.archive import members
from biozoo.errors import ImageReadError, UnsafeArchiveError

from .model import Plane
from .outlined import Outlined, Shape, ring_of
from .shapes import Points

_MOST_ROIS = 500_000
_LARGEST = 2**28  # bytes of one ROI
_MOST_BYTES = 2**29  # of all in a zip
_MOST_OVAL = 1e6  # pixels from the image's corner: an oval is drawn point by point

BROKEN_ZIP = (
    zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError,
    NotImplementedError, OSError, ValueError,
)  # fmt: skip
"""What a damaged zip makes `zipfile` raise."""
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0  # of a path, as java.awt.geom.PathIterator has them
_MOST_INTEGER = 30_000  # beyond it ImageJ wants floating point coordinates


def write_rois(path: Path, shapes: Iterable[Outlined], sizes: Mapping[str, int]) -> None:
    """Write a zip of one ROI per number and plane; several patches or holes: a composite."""
    stack = sizes["time"] > 1 or sizes["z"] > 1
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for one in shapes:
            label = one.label
            name = f"{one.number}" if label is None else label.name
            place = f"-z{one.plane.z + 1}-t{one.plane.time + 1}" if stack else ""
            roi = _roi(one, name)
            if stack:
                roi.z_position, roi.t_position = one.plane.z + 1, one.plane.time + 1
            member = f"{one.number:05d}{place}.roi"
            packed.writestr(member, roi.tobytes())


def _roi(one: Outlined, name: str) -> Any:
    from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi

    rings = [ring[:, ::-1] for patch in one.patches for ring in (patch.outer, *patch.holes)]
    corners = np.concatenate(rings)
    if len(rings) == 1 and corners.max() < _MOST_INTEGER:
        roi = ImagejRoi.frompoints(corners.astype(np.int32), name=name)
        roi.roitype = ROI_TYPE.TRACED
        # The box reaches to the last edge, not one pixel further.
        roi.right, roi.bottom = (int(v) for v in corners.max(axis=0))
    else:
        roi = ImagejRoi(roitype=ROI_TYPE.RECT, name=name)
        roi.options = ROI_OPTIONS.OVERLAY_BACKGROUNDS | ROI_OPTIONS.OVERLAY_LABELS
        path: list[float] = []
        for ring in rings:
            for i, (x, y) in enumerate(ring):
                path += [_LINE if i else _MOVE, float(x), float(y)]
            path.append(_CLOSE)
        roi.multi_coordinates = np.array(path, np.float32)
        roi.shape_roi_size = len(path)
        roi.left, roi.top = (int(v) for v in corners.min(axis=0))
        roi.right, roi.bottom = (int(v) for v in corners.max(axis=0))
    if one.label is not None:
        roi.stroke_color = bytes([255]) + bytes.fromhex(one.label.color[1:])
    return roi


def read_rois(path: Path, name: str, sizes: Mapping[str, int]) -> tuple[list[Shape], int]:
    """The areas of a .roi or a zip of them, and how many lines and points are left out.

    Raises
    ------
    ImageReadError
        It is damaged, or no ROI set.
    """
    shapes, other = [], 0
    for member, data in _contents(path, name):
        shape = _shape(member, data, name, sizes)
        if shape is None:
            other += 1
        else:
            shapes.append(shape)
    return shapes, other


def _contents(path: Path, name: str) -> Iterator[tuple[str, bytes]]:
    """The ROIs of a file one by one: together they may be larger than the memory."""
    if not zipfile.is_zipfile(path):
        if path.stat().st_size > _LARGEST:
            raise _no(name, f"it is larger than {_LARGEST // 2**20} MB.")
        yield name, path.read_bytes()
        return
    try:
        with zipfile.ZipFile(path) as packed:
            inside = members(packed, name=name, max_bytes=_MOST_BYTES, max_files=_MOST_ROIS)
            for member, info in inside.items():
                if member.lower().endswith(".roi"):
                    yield Path(member).name, packed.read(info)
    except UnsafeArchiveError as exc:
        raise _no(name, f"{exc.member} in it {exc.why.removesuffix(' (BIOZOO_MAX_GB)')}.") from exc
    except BROKEN_ZIP as exc:
        raise _no(name, f"it is no complete zip file ({exc}).") from exc


def _shape(member: str, data: bytes, name: str, sizes: Mapping[str, int]) -> Shape | None:
    from roifile import ROI_TYPE, ImagejRoi

    try:
        roi = ImagejRoi.frombytes(data)
        polygons = tuple(
            tuple(ring_of(ring) for ring in polygon) for polygon in _polygons(roi, ROI_TYPE)
        )
    except Exception as exc:  # roifile raises whatever struct and numpy do
        raise _no(name, f"{member} is damaged ({exc}).") from exc
    if not polygons:
        return None
    known = roi.name or member.removesuffix(".roi")
    return Shape(polygons, name=known, plane=_plane(roi, sizes))


def _polygons(roi: Any, types: Any) -> tuple[tuple[Points, ...], ...]:
    areas = (types.POLYGON, types.FREEHAND, types.TRACED, types.RECT, types.OVAL)
    if roi.roitype not in areas:
        return ()
    if roi.multi_coordinates is not None:
        path = tuple(_path(roi.multi_coordinates))
        return (path,) if path else ()
    if roi.roitype == types.OVAL:
        return ((_oval(roi),),)
    if roi.roitype == types.RECT:
        top, left, bottom, right = _bounds(roi)
        return (((((top, left), (top, right), (bottom, right), (bottom, left))),),)
    points = roi.coordinates()
    if points is None or len(points) < 3:
        return ()
    return ((tuple((float(y), float(x)) for x, y in points),),)


def _path(told: Any) -> Iterable[Points]:
    """The closed outlines of a composite: moves, lines and curves, curves as their ends."""
    ring: list[tuple[float, float]] = []
    values = [float(v) for v in told]
    lengths = {_MOVE: 3, _LINE: 3, 2.0: 5, 3.0: 7, _CLOSE: 1}
    i = 0
    while i < len(values):
        step = lengths[values[i]]
        if values[i] in (_MOVE, _CLOSE) and ring:
            if len(ring) > 2:
                yield tuple(ring)
            ring = []
        if values[i] != _CLOSE:
            x, y = values[i + step - 2 : i + step]
            ring.append((y, x))
        i += step
    if len(ring) > 2:
        yield tuple(ring)


def _bounds(roi: Any) -> tuple[float, float, float, float]:
    if roi.subpixelrect:
        return roi.yd, roi.xd, roi.yd + roi.heightd, roi.xd + roi.widthd
    return roi.top, roi.left, roi.bottom, roi.right


def _oval(roi: Any) -> Points:
    top, left, bottom, right = _bounds(roi)
    if not max(abs(top), abs(left), abs(bottom), abs(right)) <= _MOST_OVAL:
        raise ValueError(f"an oval from x {left}, y {top} to x {right}, y {bottom}")
    tall, wide = (bottom - top) / 2, (right - left) / 2
    count = max(24, math.ceil(math.pi * (tall + wide)))
    turns = [2 * math.pi * i / count for i in range(count)]
    return tuple(
        (top + tall * (1 + math.sin(turn)), left + wide * (1 + math.cos(turn))) for turn in turns
    )


def _plane(roi: Any, sizes: Mapping[str, int]) -> Plane | None:
    """ImageJ counts from 1; 0 is everywhere."""
    if roi.z_position or roi.t_position:
        return Plane(time=max(0, roi.t_position - 1), z=max(0, roi.z_position - 1))
    if roi.position > 0:
        at = roi.position - 1
        if sizes["z"] > 1 and sizes["time"] == 1:
            return Plane(z=at)
        if sizes["time"] > 1 and sizes["z"] == 1:
            return Plane(time=at)
    return None


def _no(name: str, why: str) -> ImageReadError:
    hint = "In ImageJ: ROI Manager, More, Save."
    return ImageReadError(path=name, why=why, hint=hint)
