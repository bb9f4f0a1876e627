"""An 8-bit picture of an image, for people to look at."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .base import RGB

if TYPE_CHECKING:
    import xarray as xr

# One colour per channel, in the order microscopists are used to.
_COLOURS = np.array(
    [(0, 255, 0), (255, 0, 255), (0, 255, 255), (255, 255, 0), (255, 64, 64), (64, 96, 255)],
    np.float32,
)
_LOW, _HIGH = 0.1, 99.9


def preview(data: xr.DataArray, *, max_size: int | None = 1024) -> NDArray[np.uint8]:
    """A picture of `data` for the eye, never for measuring.

    Of time and batch the first, of z the middle position is shown. Colour pictures keep their
    colours; one channel is grey; several channels get one colour each and are added; labels get
    one stable colour per number, black for 0. What is not 8-bit is stretched between its 0.1 and
    99.9 percentiles, channel by channel.

    Parameters
    ----------
    data
        Dims are axis ids.
    max_size
        Larger images are reduced by a whole factor so that neither side exceeds this; None: never.

    Returns
    -------
    numpy.ndarray
        uint8, (y, x) where grey, else (y, x, 3).
    """
    for axis in data.dims:
        if axis not in ("y", "x", "channel"):
            at = data.sizes[axis] // 2 if axis == "z" else 0
            data = data.isel({axis: at}, drop=True)
    names = channel_names(data)
    labels = is_labels(data)
    order = [a for a in ("channel", "y", "x") if a in data.dims]
    planes = np.asarray(data.transpose(*order).values)  # (channel, y, x) or (y, x)
    if max_size is not None:
        factor = max(1, math.ceil(max(planes.shape[-2:]) / max_size))
        planes = shrink(planes, factor, nearest=labels)
    if planes.ndim == 3 and len(planes) == 1:
        planes = planes[0]
    if labels and planes.ndim == 2:
        return label_colours(planes)
    if planes.ndim == 2:
        return stretch(planes)
    if names == RGB:
        # Together, not channel by channel: stretching them apart would change the colours.
        return np.ascontiguousarray(np.moveaxis(stretch(planes), 0, -1))
    mixed = np.zeros((*planes.shape[1:], 3), np.float32)
    for number, plane in enumerate(planes):
        mixed += stretch(plane)[..., None] * (_COLOURS[number % len(_COLOURS)] / 255)
    return np.clip(mixed, 0, 255).astype(np.uint8)


def stretch(plane: NDArray[Any]) -> NDArray[np.uint8]:
    """Values as 8 bits: uint8 as it is, others stretched between percentiles."""
    if plane.dtype == np.uint8:
        return plane
    values = plane.astype(np.float32)
    finite = values[np.isfinite(values)]
    if finite.size == 0:
        return np.zeros(plane.shape, np.uint8)
    low, high = np.percentile(finite, (_LOW, _HIGH))
    if high <= low:  # nearly constant: the few pixels that differ are all there is to see
        low, high = finite.min(), finite.max()
    if high <= low:
        return np.zeros(plane.shape, np.uint8)
    scaled = (values - low) * (255 / (high - low))
    shown: NDArray[np.uint8] = np.nan_to_num(scaled, posinf=255, neginf=0).clip(0, 255).astype("u1")
    return shown


def label_colours(labels: NDArray[Any]) -> NDArray[np.uint8]:
    """One colour per label number, the same in every picture; 0 is black. (y, x) -> (y, x, 3)."""
    numbers = labels.astype(np.int64) & 0xFFFF
    # Steps of the golden ratio around the hue circle keep neighbouring numbers apart.
    hue = (np.arange(0x10000) * 0.618033988749895) % 1.0 * 6
    ramp = np.abs((hue[:, None] + np.array([0, 4, 2])) % 6 - 3) - 1
    table = (55 + 200 * np.clip(ramp, 0, 1)).astype(np.uint8)
    colours: NDArray[np.uint8] = table[numbers]
    colours[labels == 0] = 0
    return colours


def is_labels(data: xr.DataArray) -> bool:
    """Whether the values number objects: named so, or of a type that no camera delivers."""
    name = f"{data.name or ''} {data.attrs.get('name') or ''}".lower()
    kind = data.dtype.kind
    return kind == "b" or (
        kind in "iu" and ("label" in name or "mask" in name or data.dtype.itemsize >= 4)
    )


def shrink(planes: NDArray[Any], factor: int, *, nearest: bool) -> NDArray[Any]:
    """Reduce the last two dimensions by a whole factor: pick a pixel, or take the mean."""
    if factor == 1:
        return planes
    y, x = (max(1, n // factor) for n in planes.shape[-2:])
    if nearest or min(planes.shape[-2:]) < factor:
        return planes[..., ::factor, ::factor][..., :y, :x]
    whole = planes[..., : y * factor, : x * factor]
    means = whole.reshape(*planes.shape[:-2], y, factor, x, factor).mean(
        (-3, -1), dtype=np.float64 if planes.dtype.itemsize > 2 else np.float32
    )
    rounded: NDArray[Any] = np.rint(means) if planes.dtype.kind in "iu" else means
    return rounded.astype(planes.dtype)


def channel_names(data: xr.DataArray) -> tuple[str, ...]:
    """The names on the channel axis, empty where it has none."""
    if "channel" not in data.dims or "channel" not in data.coords:
        return ()
    return tuple(str(c) for c in data.coords["channel"].values)
