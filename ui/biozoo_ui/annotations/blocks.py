"""The pixels of an annotation: an OME-Zarr label image, read and written block by block.

A block is a chunk of 256 x 256 on disk, and a tile on the screen. Those in use are kept in memory,
and of all of them every fourth pixel, so that a view of a large image reads few chunks.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from biozoo.files import writing

from .model import AXES, SIDE, ClassLabel, Facts, Plane, Range

Pixels = NDArray[np.unsignedinteger[Any]]

_NAMES = {"time": "t", "z": "z", "y": "y", "x": "x"}
_IN_USE = 256  # blocks that are kept in memory
_THUMB = 4  # of every fourth pixel, those of all blocks up to a number
_THUMBS = 8192


class Key(NamedTuple):
    """Which block."""

    time: int
    z: int
    row: int
    column: int


class Blocks:
    """The blocks of one annotation.

    Parameters
    ----------
    path
        The OME-Zarr folder, which exists.
    sizes
        Pixels along `AXES`.
    dims
        The axes that the array has.
    """

    def __init__(self, path: Path, sizes: Mapping[str, int], dims: tuple[str, ...]) -> None:
        import zarr

        self.path, self.sizes, self.dims = path, dict(sizes), dims
        self._array: Any = zarr.open_array(path / "0", mode="r+")
        self.dtype = np.dtype(self._array.dtype)
        self._kept: OrderedDict[Key, Pixels] = OrderedDict()
        self._thumbs: OrderedDict[Key, Pixels] = OrderedDict()
        #: Keys of blocks in which something is; None: not looked yet.
        self._filled: set[Key] | None = None

    # ------------------------------------------------------------------------------------ blocks

    def get(self, key: Key) -> Pixels:
        """A block as it is, read-only, cut at the image's edges."""
        if self._filled is not None and key not in self._filled:
            return self._empty(key)
        kept = self._kept.get(key)
        if kept is None:
            kept = np.asarray(self._array[self._index(key)], self.dtype)
            self._keep(key, kept.reshape(self.shape(key)))
        else:
            self._kept.move_to_end(key)
        return self._kept[key]

    def put(self, new: Mapping[Key, Pixels]) -> None:
        """Write blocks, those side by side together: that is many times quicker.

        Raises
        ------
        StorageError
            The disk is full.
        """
        for row in _side_by_side(new):
            band = np.concatenate([new[key] for key in row], axis=1)
            index = list(self._index(row[0]))
            index[-1] = slice(self.place(row[0])[1][0], self.place(row[-1])[1][1])
            with writing(self.path):
                self._array[tuple(index)] = band.reshape((1,) * (len(index) - 2) + band.shape)
        for key, pixels in new.items():
            self._keep(key, pixels)
            if self._filled is not None:
                (self._filled.add if pixels.any() else self._filled.discard)(key)

    def forget(self) -> None:
        """Let go of all that is in memory: another process may have written."""
        self._kept.clear()
        self._thumbs.clear()
        self._filled = None

    def shape(self, key: Key) -> tuple[int, int]:
        """Pixels of a block along y and x."""
        (top, bottom), (left, right) = self.place(key)
        return bottom - top, right - left

    def place(self, key: Key) -> tuple[Range, Range]:
        """Rows and columns of a block."""
        top, left = key.row * SIDE, key.column * SIDE
        return (
            (top, min(top + SIDE, self.sizes["y"])),
            (left, min(left + SIDE, self.sizes["x"])),
        )

    def keys(self, plane: Plane, y: Range, x: Range) -> Iterator[Key]:
        """The blocks of a plane that a box touches; what lies outside of the image is left out."""
        rows = range(max(0, y[0]) // SIDE, -(-min(y[1], self.sizes["y"]) // SIDE))
        columns = range(max(0, x[0]) // SIDE, -(-min(x[1], self.sizes["x"]) // SIDE))
        for row in rows:
            for column in columns:
                yield Key(plane.time, plane.z, row, column)

    def scan(self) -> Iterator[tuple[Key, Pixels]]:
        """Every block in which something is, read in bands from top to bottom; all are then known.

        Blocks that were never written are not read.
        """
        filled: set[Key] = set()
        for time in range(self.sizes["time"]):
            for z in range(self.sizes["z"]):
                for row in range(-(-self.sizes["y"] // SIDE)):
                    for key, pixels in self._band(Plane(time, z), row):
                        if pixels.any():
                            filled.add(key)
                            self._thumb(key, pixels)
                            yield key, pixels
        self._filled = filled

    def _band(self, plane: Plane, row: int) -> Iterator[tuple[Key, Pixels]]:
        keys = [
            key
            for key in self.keys(plane, (row * SIDE, (row + 1) * SIDE), (0, self.sizes["x"]))
            if self._chunk(key).exists()
        ]
        if not keys:
            return
        first, last = keys[0], keys[-1]
        left, right = self.place(first)[1][0], self.place(last)[1][1]
        band = np.asarray(self._array[(*self._index(first)[:-1], slice(left, right))], self.dtype)
        band = band.reshape(-1, right - left)
        for key in keys:
            _, (start, stop) = self.place(key)
            yield key, np.ascontiguousarray(band[:, start - left : stop - left])

    def _chunk(self, key: Key) -> Path:
        place = {"time": key.time, "z": key.z, "y": key.row, "x": key.column}
        return self.path.joinpath("0", "c", *(str(place[axis]) for axis in self.dims))

    # ------------------------------------------------------------------------------------ regions

    def read(self, plane: Plane, y: Range, x: Range) -> Pixels:
        """Pixels of a box within the image, (y, x)."""
        out = np.zeros((y[1] - y[0], x[1] - x[0]), self.dtype)
        self.copy(plane, y, x, out)
        return out

    def copy(self, plane: Plane, y: Range, x: Range, out: Pixels) -> None:
        """Pixels of a box into zeros of its size; where nothing is painted these stay untouched."""
        for key in self.keys(plane, y, x):
            if not self._has(key):
                continue
            (top, bottom), (left, right) = self.place(key)
            a, b, c, d = max(top, y[0]), min(bottom, y[1]), max(left, x[0]), min(right, x[1])
            part = self.get(key)[a - top : b - top, c - left : d - left]
            if part.any():
                out[a - y[0] : b - y[0], c - x[0] : d - x[0]] = part

    def tile(self, level: int, plane: Plane, row: int, column: int) -> NDArray[np.uint32]:
        """A tile of a level of halves: the nearest pixel, as levels of all labels are."""
        step = 2**level
        tall, wide = (-(-self.sizes[axis] // step) for axis in ("y", "x"))
        top, left = row * SIDE, column * SIDE
        height, width = min(SIDE, tall - top), min(SIDE, wide - left)
        if level == 0:
            return self.get(Key(*_place(plane), row, column)).astype(np.uint32)
        out = np.zeros((height, width), np.uint32)
        rows = (top * step, (top + height - 1) * step + 1)
        columns = (left * step, (left + width - 1) * step + 1)
        for key in self.keys(plane, rows, columns):
            (y0, y1), (x0, x1) = self.place(key)
            # The first pixels of the block that are of this level.
            a, b = -(-y0 // step), -(-x0 // step)
            if a * step >= y1 or b * step >= x1 or not self._has(key):
                continue
            part = self._every(key, step, a * step - y0, b * step - x0)
            place = np.s_[a - top : a - top + part.shape[0], b - left : b - left + part.shape[1]]
            out[place] = part
        return out

    def _every(self, key: Key, step: int, y: int, x: int) -> Pixels:
        if step >= _THUMB:
            thumb, inner = self._thumb(key), step // _THUMB
            return thumb[y // _THUMB :: inner, x // _THUMB :: inner]
        return self.get(key)[y::step, x::step]

    def _thumb(self, key: Key, pixels: Pixels | None = None) -> Pixels:
        found = self._thumbs.get(key)
        if found is None or pixels is not None:
            block = self.get(key) if pixels is None else pixels
            found = self._thumbs[key] = block[::_THUMB, ::_THUMB].copy()
            while len(self._thumbs) > _THUMBS:
                self._thumbs.popitem(last=False)
        self._thumbs.move_to_end(key)
        return found

    def _has(self, key: Key) -> bool:
        """Whether something may be in it."""
        return self._chunk(key).exists() if self._filled is None else key in self._filled

    def _keep(self, key: Key, pixels: Pixels) -> None:
        pixels = np.ascontiguousarray(pixels)
        pixels.flags.writeable = False
        self._kept[key] = pixels
        self._kept.move_to_end(key)
        self._thumb(key, pixels)
        while len(self._kept) > _IN_USE:
            self._kept.popitem(last=False)

    def _empty(self, key: Key) -> Pixels:
        pixels = np.zeros(self.shape(key), self.dtype)
        pixels.flags.writeable = False
        return pixels

    def _index(self, key: Key) -> tuple[int | slice, ...]:
        (top, bottom), (left, right) = self.place(key)
        place: dict[str, int | slice] = {
            "time": slice(key.time, key.time + 1),
            "z": slice(key.z, key.z + 1),
            "y": slice(top, bottom),
            "x": slice(left, right),
        }
        return tuple(place[axis] for axis in self.dims)


def _side_by_side(keys: Iterable[Key]) -> list[list[Key]]:
    """Blocks in rows without gaps."""
    rows: list[list[Key]] = []
    for key in sorted(keys):
        if rows and rows[-1][-1]._replace(column=rows[-1][-1].column + 1) == key:
            rows[-1].append(key)
        else:
            rows.append([key])
    return rows


def _place(plane: Plane) -> tuple[int, int]:
    return plane.time, plane.z


def levels(sizes: Mapping[str, int]) -> int:
    """How many levels of halves there are until one fits into a tile."""
    return 1 + max(0, math.ceil(math.log2(max(sizes["y"], sizes["x"]) / SIDE)))


def make(path: Path, facts: Facts) -> None:
    """Write an empty OME-Zarr label image: uint32 for objects, uint8 for classes.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    import zarr

    shape = tuple(facts.sizes[axis] for axis in facts.dims)
    with writing(path.parent):
        group: Any = zarr.open_group(path, mode="w-", zarr_format=3)
        group.create_array(
            "0",
            shape=shape,
            chunks=tuple(SIDE if axis in ("y", "x") else 1 for axis in facts.dims),
            dtype="uint32" if facts.kind == "instances" else "uint8",
            fill_value=0,
            dimension_names=[_NAMES[axis] for axis in facts.dims],
        )
        group.attrs["ome"] = describe(facts)


def describe_again(path: Path, facts: Facts) -> None:
    """Write what the classes are called now beside the pixels."""
    import zarr

    with writing(path):
        group: Any = zarr.open_group(path, mode="r+")
        group.attrs["ome"] = describe(facts)


def describe(facts: Facts) -> dict[str, Any]:
    """The metadata of OME-Zarr 0.5, with `image-label` for the classes."""
    size = {axis: (facts.pixel_size or {}).get(axis, 1.0) for axis in facts.dims}
    return {
        "version": "0.5",
        "multiscales": [
            {
                "name": facts.image,
                "axes": [_axis(axis, facts) for axis in facts.dims],
                "datasets": [
                    {
                        "path": "0",
                        "coordinateTransformations": [
                            {"type": "scale", "scale": [size[axis] for axis in facts.dims]}
                        ],
                    }
                ],
            }
        ],
        "image-label": {
            "version": "0.5",
            "colors": [{"label-value": c.value, "rgba": _rgba(c)} for c in facts.classes],
            "properties": [{"label-value": c.value, "class": c.name} for c in facts.classes],
        },
    }


def _axis(axis: str, facts: Facts) -> dict[str, str]:
    if axis == "time":
        return {"name": "t", "type": "time"}
    known = axis in (facts.pixel_size or {})
    return {"name": axis, "type": "space", **({"unit": "micrometer"} if known else {})}


def _rgba(label: ClassLabel) -> list[int]:
    return [int(label.color[i : i + 2], 16) for i in (1, 3, 5)] + [255]


assert set(AXES) == set(_NAMES)
