"""The foreground with the distance to the edge of objects, without and with their boundaries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .objects import ObjectMaps

__all__ = ["ForegroundDistance", "ForegroundDistanceBoundary"]

#: Objects that are not round have a middle in more than one place: below half of the full distance
#: most are whole, and a seed of few pixels is none.
RULE: Mapping[str, Any] = {"seed_threshold": 0.45, "min_seed_size": 8, "min_size": 4}


class ForegroundDistance(ObjectMaps):
    """Foreground, and the distance to the edge of one's own object, 1 in its middle.

    See `ObjectMaps` for the options.
    """

    name = "foreground-distance"
    roles = ("foreground", "distance")
    rule = RULE


class ForegroundDistanceBoundary(ObjectMaps):
    """Foreground, distance, and the boundary where two objects meet: what nuclei-fluo gives.

    See `ObjectMaps` for the options.
    """

    name = "foreground-distance-boundary"
    roles = ("foreground", "distance", "boundary")
    rule = RULE
