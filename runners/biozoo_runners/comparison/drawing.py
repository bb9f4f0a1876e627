"""Pictures of one cell: the region in grey or colour, with objects outlined, or an output's map."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..images.preview import label_colours

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL.Image import Image as Picture

    from .result import Entry

__all__ = ["drawn", "outlined", "shown"]

#: Percentiles of the values that become black and white.
LOW, HIGH = 0.5, 99.7
#: Outlines are so many pixels wide for each so many of the picture's longer side.
WIDTH_PER = 300


def shown(picture: NDArray[Any], box: int) -> Picture:
    """A picture (y x, or y x 3) for the eye, its longer side `box` pixels."""
    from PIL import Image as Pillow

    colours = picture.ndim == 3 and picture.dtype == np.uint8
    pixels = picture if colours else stretched(picture)
    image = Pillow.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    size = _size(picture.shape, box)
    smooth = Pillow.Resampling.LANCZOS if size[0] < image.width else Pillow.Resampling.BICUBIC
    return image.resize(size, smooth)


def outlined(picture: NDArray[Any], labels: NDArray[Any], box: int) -> Picture:
    """The picture with the inner outline of each object, in a colour by its number."""
    from PIL import Image as Pillow
    from scipy import ndimage as ndi

    image = np.array(shown(picture, box))
    rows, columns = (
        (np.arange(n) * have) // n for n, have in zip(image.shape, labels.shape, strict=False)
    )
    small = labels[np.ix_(rows, columns)]
    _, numbers = np.unique(small, return_inverse=True)  # any type can be filtered then
    grid = np.where(small == 0, 0, numbers.reshape(small.shape) + 1).astype(np.int32)
    side = 2 * max(1, round(box / WIDTH_PER)) + 1
    border = ndi.maximum_filter(grid, side) != ndi.minimum_filter(grid, side)
    edge = border & (grid > 0)
    colours = label_colours(grid)[edge]
    # Light lines on a dark picture, strong ones on a bright picture.
    image[edge] = colours * 0.8 if np.median(image) > 128 else 96 + colours * (159 / 255)
    return Pillow.fromarray(image)


def drawn(entry: Entry, picture: NDArray[Any], box: int) -> Picture | None:
    """What a model made, as a picture; None where it made none."""
    if entry.labels is not None:
        return outlined(picture, entry.labels, box)
    return None if entry.values is None else shown(entry.values, box)


def stretched(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Values (y x, or y x 3) as 8 bits between two percentiles; one value alone is black."""
    plain = values.astype(np.float32)
    finite = plain[np.isfinite(plain)]
    if finite.size == 0:
        return np.zeros(values.shape, np.uint8)
    low, high = np.percentile(finite, (LOW, HIGH))
    if high <= low:  # nearly constant: the few pixels that differ are all there is to see
        low, high = finite.min(), finite.max()
    scaled = (plain - low) * (255 / max(float(high - low), 1e-12))
    pixels: NDArray[np.uint8] = (
        np.nan_to_num(scaled, posinf=255, neginf=0).clip(0, 255).astype("u1")
    )
    return pixels


def _size(shape: tuple[int, ...], box: int) -> tuple[int, int]:
    """Width and height with the longer side `box`."""
    y, x = shape[:2]
    longer = max(y, x)
    return max(1, round(x * box / longer)), max(1, round(y * box / longer))
