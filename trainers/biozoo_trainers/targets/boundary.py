"""Two channels: the foreground, and the outlines of objects."""

from __future__ import annotations

from .objects import ObjectMaps

__all__ = ["ForegroundBoundary"]


class ForegroundBoundary(ObjectMaps):
    """Foreground, and the outline around every object (or the boundary where two meet).

    See `ObjectMaps` for the options.
    """

    name = "foreground-boundary"
    roles = ("foreground", "boundary")
    drawn = "outline"
