"""Tiles ready to be sent: compressed, the last used ones kept in memory, as answers."""

from __future__ import annotations

import threading
import zlib
from collections import OrderedDict

from starlette.requests import Request
from starlette.responses import Response

from .source import Place

FOR_GOOD = "private, max-age=3600, immutable"
"""How long a browser keeps a tile whose address never answers anything else."""

TileKey = tuple[str, int, int, Place, int, int]
"""Image, version, level, plane, row, column."""

_GZIP = 16 + zlib.MAX_WBITS


def packed(data: bytes) -> bytes:
    """Gzip at its quickest: a noisy tile takes 3 ms; the usual level 15, for 2 % less."""
    packer = zlib.compressobj(1, zlib.DEFLATED, _GZIP)
    return packer.compress(data) + packer.flush()


def unpacked(content: bytes) -> bytes:
    """What was packed."""
    return zlib.decompress(content, _GZIP)


def sent(request: Request, content: bytes, cache: str = FOR_GOOD) -> Response:
    """A packed tile as an answer, unpacked for who does not take it so.

    Parameters
    ----------
    cache
        The header `cache-control`.
    """
    headers = {"cache-control": cache, "vary": "accept-encoding, cookie"}
    if _takes_gzip(request.headers.get("accept-encoding", "")):
        headers["content-encoding"] = "gzip"
    else:
        content = unpacked(content)
    return Response(content, media_type="application/octet-stream", headers=headers)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.lower().split(","):
        coding, _, rest = part.partition(";")
        if coding.strip() in ("gzip", "*"):
            return rest.replace(" ", "") not in ("q=0", "q=0.0")
    return False


class TileCache:
    """Compressed tiles, the last used ones up to a number of bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._size = most, 0
        self._lock = threading.Lock()
        self._kept: OrderedDict[TileKey, bytes] = OrderedDict()

    def get(self, key: TileKey) -> bytes | None:
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def put(self, key: TileKey, content: bytes) -> None:
        with self._lock:
            if key not in self._kept:
                self._kept[key] = content
                self._size += len(content)
            while self._size > self._most:
                self._size -= len(self._kept.popitem(last=False)[1])
