"""OME-Zarr 0.4 (zarr v2) and 0.5 (zarr v3), read lazily through zarr.

The folder's JSON says what it is (an image, a set of images, a plate); zarr opens the arrays.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.axes import IDS, LETTERS
from biozoo.errors import ImageReadError

from .base import Image, Index, choose_scene, describe, image_name, scene_notes
from .decoding import reading
from .units import unit_word

_MARKERS = ("zarr.json", ".zattrs", ".zgroup", ".zarray")


def is_zarr(path: Path) -> bool:
    """Whether a folder is, by its name or its metadata files, a Zarr node."""
    return path.is_dir() and (
        path.name.lower().endswith(".zarr") or any((path / m).is_file() for m in _MARKERS)
    )


class OmeZarrReader:
    """A local OME-Zarr folder: one image, a bioformats2raw collection, or a well."""

    suffixes = (".ome.zarr", ".zarr")

    def claims(self, path: Path, head: bytes) -> bool:
        """By its metadata files."""
        return is_zarr(path)

    def open(self, path: Path, *, axes: str | Sequence[str] | None, scene: int | None) -> Image:
        """Read the metadata; no chunk is read."""
        with reading(path, "its metadata cannot be understood"):
            facts = _attributes(path)
            images, names = _images(path, facts)
            chosen = choose_scene(path, scene, names)
            place = images[chosen]
            if place != path:
                facts = _attributes(place)
            if "multiscales" not in facts:
                raise ImageReadError(path=place, why=_no_image(place, facts))
            return _open(path, place, facts, axes, scene, chosen, names)


def _open(
    path: Path,
    place: Path,
    facts: Mapping[str, Any],
    axes: str | Sequence[str] | None,
    scene: int | None,
    chosen: int,
    names: tuple[str, ...],
) -> Image:
    import zarr

    multiscale = facts["multiscales"][0]
    level = multiscale["datasets"][0]
    if not (place / level["path"]).is_dir():
        raise ImageReadError(
            path=path,
            why=f"its pixels, the folder {level['path']}, are missing.",
            hint="Copy the whole folder again.",
        )
    array: Any = zarr.open_array(place / level["path"], mode="r")
    own = multiscale.get("axes") or [None] * array.ndim
    ids = tuple(_axis_id(a) for a in own)
    if len(ids) != array.ndim:
        raise ImageReadError(
            path=path,
            why=f"its metadata names {len(ids)} axes, its pixels have {array.ndim} dimensions.",
        )
    scale = np.ones(array.ndim)
    for step in (
        *level.get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if step.get("type") == "scale" and "scale" in step:
            scale = scale * np.asarray(step["scale"], float)
    measured = [(i, n) for n, i in enumerate(ids) if i and i != "channel"]
    units = {i: unit_word(own[n].get("unit")) for i, n in measured if isinstance(own[n], Mapping)}
    labels = tuple(str(c.get("label") or "") for c in facts.get("omero", {}).get("channels", ()))
    return describe(
        path=path,
        name=image_name(path if place == path or path.suffix else place),
        axes=ids,
        given=axes,
        shape=array.shape,
        dtype=np.dtype(array.dtype),
        reader=lambda index: _read(array, index),
        own_names=", ".join(str(a.get("name") if isinstance(a, Mapping) else a) for a in own if a),
        channel_names=labels,
        pixel_size={i: float(scale[n]) for i, n in measured},
        unit={i: u for i, u in units.items() if u},
        scene=chosen,
        scenes=names,
        notes=scene_notes(scene, chosen, names),
        chunks=array.chunks,  # within shards: these are decoded one by one
    )


def _read(array: Any, index: tuple[Index, ...]) -> NDArray[Any]:
    return np.asarray(array[index])


def _attributes(path: Path) -> dict[str, Any]:
    """The OME attributes of a Zarr node, empty where it has none."""
    v3, v2 = path / "zarr.json", path / ".zattrs"
    if v3.is_file():
        attributes = json.loads(v3.read_bytes()).get("attributes") or {}
        return dict(attributes.get("ome") or attributes)
    return dict(json.loads(v2.read_bytes())) if v2.is_file() else {}


def _images(path: Path, facts: Mapping[str, Any]) -> tuple[list[Path], tuple[str, ...]]:
    """Where the images of this folder are, and their names."""
    if "multiscales" in facts:
        return [path], (str(facts["multiscales"][0].get("name") or ""),)
    if "well" in facts:
        fields = [str(i["path"]) for i in facts["well"]["images"]]
    elif "bioformats2raw.layout" in facts:
        listed = _attributes(path / "OME").get("series") if (path / "OME").is_dir() else None
        fields = [str(s) for s in listed or _numbered(path)]
    else:
        fields = []
    if not fields:
        raise ImageReadError(path=path, why=_no_image(path, facts))
    names = []
    for field in fields:
        scales = _attributes(path / field).get("multiscales") or [{}]
        names.append(str(scales[0].get("name") or field))
    return [path / field for field in fields], tuple(names)


def _numbered(path: Path) -> list[str]:
    return sorted((p.name for p in path.iterdir() if p.is_dir() and p.name.isdigit()), key=int)


def _no_image(path: Path, facts: Mapping[str, Any]) -> str:
    """Why a Zarr folder is no image, and what to name instead."""
    if "plate" in facts:
        wells = [str(w["path"]) for w in facts["plate"].get("wells", ())]
        first = path / wells[0] / "0" if wells else path / "A" / "1" / "0"
        return f"it is a plate of {len(wells)} wells. Name one field of it, for example {first}"
    if names := facts.get("labels"):
        return f"it is a list of label images. Name one of them, for example {path / str(names[0])}"
    if (path / ".zarray").is_file() or _is_v3_array(path):
        return f"it is a bare Zarr array. Name the folder above it, {path.parent}"
    return "it is a folder without OME-Zarr metadata (no 'multiscales'). Name the image in it."


def _is_v3_array(path: Path) -> bool:
    file = path / "zarr.json"
    return file.is_file() and json.loads(file.read_bytes()).get("node_type") == "array"


def _axis_id(axis: object) -> str | None:
    """The axis id of an entry of `axes`; None where its name and type leave it open."""
    name, kind = axis, None
    if isinstance(axis, Mapping):
        name, kind = axis.get("name"), axis.get("type")
    if kind in ("time", "channel"):
        return str(kind)
    found = LETTERS.get(str(name).lower(), str(name).lower())
    if found not in IDS or (kind == "space" and found not in ("z", "y", "x")):
        return None
    return found


READER = OmeZarrReader()
