"""One channel: objects, kept apart by a gap where they touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from . import maps
from .objects import ObjectMaps

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Foreground"]


class Foreground(ObjectMaps):
    """The foreground alone; its connected parts are the objects.

    Objects that touch lose the pixels at which they meet, on both sides, else they would be one;
    what would lose most of itself that way keeps them, and the other one loses its own.
    See `ObjectMaps` for the options.
    """

    name = "foreground"
    roles = ("foreground",)

    def _inside(self, labels: NDArray[np.int32]) -> NDArray[np.bool_]:
        inside: NDArray[np.bool_] = (labels > 0) & ~maps.gaps(labels)
        return inside
