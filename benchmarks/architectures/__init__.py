"""Real architectures, taken from libraries as they are: what docs/coverage.md is made from."""

from __future__ import annotations

from .entry import Architecture
from .from_bioimaging import ARCHITECTURES as BIOIMAGING
from .from_monai import ARCHITECTURES as MONAI
from .from_smp import ARCHITECTURES as SMP
from .from_vision import ARCHITECTURES as VISION

__all__ = ["ARCHITECTURES", "Architecture"]

ARCHITECTURES: tuple[Architecture, ...] = (*MONAI, *SMP, *VISION, *BIOIMAGING)
