"""Where pixels changed lately, so that who has seen a version learns what is new since."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

import numpy as np

from .blocks import Key, Pixels
from .model import SIDE, Change

_REMEMBERED = 500  # whoever saw less gets the whole image anew


class Changes:
    """The latest changes of one annotation.

    Parameters
    ----------
    sizes
        Pixels of the image along time, z, y and x.
    """

    def __init__(self, sizes: Mapping[str, int]) -> None:
        self._sizes = sizes
        self._known: deque[Change] = deque(maxlen=_REMEMBERED)

    def add(self, version: int, old: Mapping[Key, Pixels], new: Mapping[Key, Pixels]) -> None:
        """Remember the box around all pixels that differ."""
        ys, xs = [], []
        for key, pixels in new.items():
            top, left = key.row * SIDE, key.column * SIDE
            other = pixels != old[key]
            rows, columns = np.flatnonzero(other.any(1)), np.flatnonzero(other.any(0))
            if len(rows):
                ys += [top + int(rows[0]), top + int(rows[-1]) + 1]
                xs += [left + int(columns[0]), left + int(columns[-1]) + 1]
        self._known.append(
            Change(
                version,
                time=(min(k.time for k in new), max(k.time for k in new) + 1),
                z=(min(k.z for k in new), max(k.z for k in new) + 1),
                y=(min(ys, default=0), max(ys, default=0)),
                x=(min(xs, default=0), max(xs, default=0)),
            )
        )

    def since(self, version: int, now: int) -> tuple[Change, ...]:
        """What changed after a version up to that of now; everything where that is not known."""
        if version >= now:
            return ()
        known = [change for change in self._known if change.version > version]
        if len(known) == now - version:
            return tuple(known)
        every = {axis: (0, self._sizes[axis]) for axis in ("time", "z", "y", "x")}
        return (Change(now, **every),)
