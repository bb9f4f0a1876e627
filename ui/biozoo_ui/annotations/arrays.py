"""Pixels of an annotation as an array with named axes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .blocks import Blocks
from .model import AXES, Facts, Plane, Range

if TYPE_CHECKING:
    import xarray as xr


def as_array(blocks: Blocks, facts: Facts, region: Mapping[str, Range]) -> xr.DataArray:
    """A region, unsigned as it is kept.

    Parameters
    ----------
    region
        By axis: first and the one after the last; axes not named are whole.

    Returns
    -------
    xr.DataArray
        Dims `facts.dims`; `attrs["pixel_size"]` and `attrs["unit"]` where they are known.
    """
    import xarray as xr

    chosen = {axis: (0, size) for axis, size in facts.sizes.items()} | dict(region)
    # Zeros take no memory until they are written to: an array costs what is painted.
    out = np.zeros([b - a for a, b in (chosen[axis] for axis in AXES)], blocks.dtype)
    for t, time in enumerate(range(*chosen["time"])):
        for k, z in enumerate(range(*chosen["z"])):
            blocks.copy(Plane(time, z), chosen["y"], chosen["x"], out[t, k])
    lacking = tuple(i for i, axis in enumerate(AXES) if axis not in facts.dims)
    size = {axis: v for axis, v in (facts.pixel_size or {}).items() if axis in facts.dims}
    attrs: dict[str, Any] = {"name": facts.image}
    if size:
        attrs |= {"pixel_size": size, "unit": dict.fromkeys(size, "micrometer")}
    return xr.DataArray(out.squeeze(lacking), dims=facts.dims, attrs=attrs)
