"""GeoJSON as QuPath (0.3 and later) writes and reads it: x before y, edges of pixels."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from biozoo.errors import ImageReadError

from .model import Plane
from .outlined import Outlined, Shape, ring_of
from .outlines import Patch
from .outlines import Ring as Corners
from .shapes import Ring

_LARGEST = 2**28  # bytes; in memory it takes some ten times as many

_OF = uuid.UUID("6e0e1a3a-0f0c-4a52-8a0f-2f7d7f0f6c11")


def write_geojson(path: Path, shapes: Iterable[Outlined], annotation_id: str) -> None:
    """Write a FeatureCollection: an annotation each, of a class its pixels on a plane."""
    features = [_feature(one, annotation_id) for one in shapes]
    told = {"type": "FeatureCollection", "features": features}
    path.write_text(json.dumps(told, separators=(",", ":")), encoding="utf-8")


def _feature(one: Outlined, annotation_id: str) -> dict[str, Any]:
    plane = one.plane
    name = f"{annotation_id}/{one.number}/{plane.time}/{plane.z}"
    label = one.label
    told: dict[str, Any] = {"name": "Object", "color": [245, 158, 11]}
    if label is not None:
        told = {"name": label.name, "color": [int(label.color[i : i + 2], 16) for i in (1, 3, 5)]}
    properties: dict[str, Any] = {"objectType": "annotation", "classification": told}
    if label is None:
        properties["name"] = str(one.number)
    polygons = [_polygon(patch) for patch in one.patches]
    many = len(polygons) > 1
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_OF, name)),
        "geometry": {
            "type": "MultiPolygon" if many else "Polygon",
            "coordinates": polygons if many else polygons[0],
            "plane": {"c": -1, "z": plane.z, "t": plane.time},
        },
        "properties": properties,
    }


def _polygon(patch: Patch) -> list[list[list[int]]]:
    return [_closed(ring) for ring in (patch.outer, *patch.holes)]


def _closed(ring: Corners) -> list[list[int]]:
    corners = [[int(x), int(y)] for y, x in ring]
    return [*corners, corners[0]]


def read_geojson(path: Path) -> tuple[list[Shape], int]:
    """The areas of a file, and how many lines and points are left out.

    Raises
    ------
    ImageReadError
        It is no GeoJSON.
    """
    if path.stat().st_size > _LARGEST:
        raise _no(
            path,
            f"it is larger than {_LARGEST // 2**20} MB.",
            "Export it in parts, without measurements.",
        )
    try:
        told = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as exc:
        raise _no(path, f"it is no JSON ({exc}).") from exc
    shapes: list[Shape] = []
    other = 0
    for feature in _features(path, told):
        properties = feature.get("properties") or {}
        geometry = feature.get("geometry")
        if not isinstance(properties, dict) or not isinstance(geometry, dict):
            other += 1
            continue
        try:
            polygons = tuple(_polygons(geometry))
        except (TypeError, ValueError, KeyError, IndexError) as exc:
            raise _no(path, f"one of its shapes has no such coordinates ({exc}).") from exc
        if not polygons:
            other += 1
            continue
        label, color = _class_of(properties)
        name = properties.get("name")
        plane = _plane_of(geometry)
        shapes.append(Shape(polygons, name if isinstance(name, str) else "", label, color, plane))
    return shapes, other


def _features(path: Path, told: Any) -> Iterator[dict[str, Any]]:
    """The features of a collection, of a list, or of one alone."""
    if isinstance(told, list):
        for one in told:
            yield from _features(path, one)
    elif isinstance(told, dict) and told.get("type") == "FeatureCollection":
        yield from _features(path, told.get("features") or [])
    elif isinstance(told, dict) and told.get("type") == "Feature":
        yield told
    elif isinstance(told, dict) and ("coordinates" in told or "geometries" in told):
        yield {"geometry": told}
    else:
        raise _no(path, "it is JSON, but not GeoJSON.")


def _polygons(geometry: dict[str, Any]) -> Iterator[tuple[Ring, ...]]:
    kind = geometry.get("type")
    if kind == "Polygon":
        yield _rings(geometry["coordinates"])
    elif kind == "MultiPolygon":
        for polygon in geometry["coordinates"]:
            yield _rings(polygon)
    elif kind == "GeometryCollection":
        for one in geometry["geometries"]:
            yield from _polygons(one)


def _rings(told: Sequence[Any]) -> tuple[Ring, ...]:
    rings = tuple(ring_of([(place[1], place[0]) for place in ring]) for ring in told)
    if not rings:
        raise ValueError("a polygon without an outline")
    return rings


def _class_of(properties: dict[str, Any]) -> tuple[str, str]:
    """Name and colour of the class: QuPath's `classification`, in its old and new way."""
    told = properties.get("classification")
    if not isinstance(told, dict):
        return (told, "") if isinstance(told, str) else ("", "")
    names = told.get("names")
    name = told.get("name") or (": ".join(map(str, names)) if isinstance(names, list) else "")
    color = told.get("color", told.get("colorRGB"))
    if isinstance(color, int):
        return str(name), f"#{color & 0xFFFFFF:06x}"
    if isinstance(color, list) and len(color) >= 3 and all(isinstance(c, int) for c in color[:3]):
        return str(name), "#" + "".join(f"{c & 255:02x}" for c in color[:3])
    return str(name), ""


def _plane_of(geometry: dict[str, Any]) -> Plane | None:
    plane = geometry.get("plane")
    if not isinstance(plane, dict):
        return None
    try:
        return Plane(time=max(0, int(plane.get("t", 0))), z=max(0, int(plane.get("z", 0))))
    except (TypeError, ValueError):
        return None


def _no(
    path: Path, why: str, hint: str = "In QuPath: File, Export objects as GeoJSON."
) -> ImageReadError:
    return ImageReadError(path=path.name, why=why, hint=hint)
