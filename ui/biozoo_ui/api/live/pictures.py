"""What a refit says of a region, as images for a viewer: in memory, no file between.

An overlay is replaced after each stroke, so it is sent in as few pieces as possible: one tile of
up to 2048 x 2048 pixels, where the tiles of a file have 256 x 256.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import NotFoundError

from ..images.answers import ImageAnswer
from ..images.reduce import as_sent, halve, little_endian
from ..images.source import AXES, Place
from ..images.tiles import packed

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

TILE = 2048


class Picture:
    """A tensor of a region as an image.

    Parameters
    ----------
    data
        With dims out of batch, time, channel, z, y, x.
    image_id, name
        Of its description.
    version
        Part of each tile's address.
    labels
        Whether its values number objects.
    """

    def __init__(
        self, data: xr.DataArray, *, image_id: str, name: str, version: int, labels: bool
    ) -> None:
        self.version = version
        if "batch" in data.dims:
            data = data.isel(batch=0)
        names = data.coords["channel"].values if "channel" in data.coords else ["0"]
        dims = [str(d) for d in data.dims]
        data = data.expand_dims([a for a in AXES if a not in dims]).transpose(*AXES)
        if labels:
            pixels = _numbered(data.values)
            top = max(1, int(pixels.max(initial=0)))
        else:
            pixels, top = as_sent(data.values, np.dtype(np.float32)), 1
        self._levels: list[NDArray[Any]] = [pixels]
        while max(self._levels[-1].shape[-2:]) > TILE:
            self._levels.append(_halved(self._levels[-1], nearest=labels))
        self._lock = threading.Lock()
        self._tiles: OrderedDict[object, bytes] = OrderedDict()
        self.answer = ImageAnswer.model_validate(
            {
                "id": image_id,
                "v": version,
                "name": name,
                "kind": "labels" if labels else "image",
                "dims": dims,
                "sizes": dict(zip(AXES, pixels.shape, strict=True)),
                "axes_known": True,
                "dtype": str(data.dtype),
                "pixels": str(pixels.dtype),
                "pixel_size": None,
                "unit": "µm",
                "channels": [
                    {"name": str(n), "color": "#ffffff", "range": (0, top), "contrast": (0, top)}
                    for n in names
                ],
                "rgb": False,
                "tile": TILE,
                "levels": [{"y": p.shape[-2], "x": p.shape[-1]} for p in self._levels],
                "scene": 0,
                "scenes": [],
                "notes": [],
                "result": True,
            }
        )

    def tile(self, level: int, place: Place, row: int, column: int) -> bytes:
        """One tile, compressed.

        Raises
        ------
        NotFoundError
            There is no such tile.
        """
        key = (level, place, row, column)
        with self._lock:
            if key in self._tiles:
                return self._tiles[key]
        at = (place.time, place.channel, place.z)
        if not 0 <= level < len(self._levels) or min(*at, row, column) < 0:
            raise _no_tile(key)
        pixels = self._levels[level]
        if any(i >= n for i, n in zip(at, pixels.shape, strict=False)):
            raise _no_tile(key)
        y, x = (slice(n * TILE, (n + 1) * TILE) for n in (row, column))
        piece = pixels[(*at, y, x)]
        if not piece.size:
            raise _no_tile(key)
        content = packed(little_endian(np.ascontiguousarray(piece)))
        with self._lock:
            self._tiles[key] = content
        return content


def _numbered(labels: NDArray[Any]) -> NDArray[np.uint16]:
    """Numbers of objects in half the bytes. Beyond 65535 they begin anew: neighbours still differ,
    and a viewer that has opened a picture keeps to its type.
    """
    most = np.iinfo(np.uint16).max
    if labels.max(initial=0) > most:
        labels = np.where(labels > 0, (labels - 1) % most + 1, 0)
    return np.asarray(labels, np.uint16)


def _halved(pixels: NDArray[Any], *, nearest: bool) -> NDArray[Any]:
    """Each plane of an array whose last axes are y and x."""
    flat = pixels.reshape(-1, *pixels.shape[-2:])
    planes = np.stack([halve(plane, nearest=nearest) for plane in flat])
    return planes.reshape(*pixels.shape[:-2], *planes.shape[-2:])


def _no_tile(key: tuple[int, Place, int, int]) -> NotFoundError:
    level, place, row, column = key
    got = f"{level}/{place.time}/{place.channel}/{place.z}/{row}/{column}"
    return NotFoundError(kind="tile", got=got, known=())
