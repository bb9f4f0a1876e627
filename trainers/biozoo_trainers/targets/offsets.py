"""Slices that put each pixel beside the one at an offset."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["ahead", "behind"]


def ahead(offset: Sequence[int]) -> tuple[slice, ...]:
    """The pixels whose partner at `offset` is in the image too."""
    return tuple(slice(max(-o, 0), -o if o > 0 else None) for o in offset)


def behind(offset: Sequence[int]) -> tuple[slice, ...]:
    """Their partners, in the same order."""
    return tuple(slice(max(o, 0), o if o < 0 else None) for o in offset)
