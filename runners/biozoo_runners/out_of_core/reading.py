"""Regions of an input, read from its file: pieces that cover an item once, and padded tiles."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from ..tiling import InputBlock, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..prepare import FittedInput
    from .facts import ItemFacts

__all__ = ["Region", "item_bytes", "piece_regions", "pixel_dtype", "read_tile"]

Region = tuple[slice, ...]
"""One slice per axis of a tensor."""


def read_tile(
    fitted: FittedInput, at: Mapping[str, int], block: InputBlock, facts: ItemFacts
) -> NDArray[Any]:
    """One tile of an input, padded as `tiling.cut` pads; only its own pixels are read.

    Parameters
    ----------
    at
        The item: position along the looped axes.
    block
        The tile's part of the item, and what is made up around it.
    facts
        Of this item; its pixels that are not finite are replaced by what they say.

    Returns
    -------
    numpy.ndarray
        Axes as in the tensor, the file's dtype (float32 for gray).
    """
    pixels = fitted.read(at, block.slices)
    if fitted.tensor.id in facts.replaced:
        pixels = facts.replaced[fitted.tensor.id].apply(pixels)
    everything = (slice(None),) * pixels.ndim
    return cut(pixels, replace(block, slices=everything), fitted.tensor.pad)


def pixel_dtype(fitted: FittedInput) -> np.dtype[Any]:
    """The type of the pixels as `FittedInput.read` gives them."""
    return np.dtype(np.float32) if fitted.gray else fitted.image.dtype


def item_bytes(fitted: FittedInput) -> int:
    """Bytes that are read for one whole item."""
    return math.prod(fitted.sizes.values()) * _pixel_bytes(fitted)


def piece_regions(fitted: FittedInput, piece_bytes: int) -> Iterator[Region]:
    """Regions that cover one item, each pixel once, in the order of the file.

    A region is as long as the image along the axes that are fastest in the file and is cut along
    the slowest, at multiples of the chunks that the file is decoded in, so that none of them is
    decoded twice.

    Parameters
    ----------
    piece_bytes
        Bytes of pixels to read at once; one chunk (one row, where the file has none) may be more.
    """
    sizes, least = fitted.sizes, _smallest(fitted)
    fastest_first = [a for a in reversed(fitted.image.axes) if a in least]
    lengths = dict(least)
    for axis in fastest_first:
        others = math.prod(n for a, n in lengths.items() if a != axis) * _pixel_bytes(fitted)
        if others * sizes[axis] <= piece_bytes:
            lengths[axis] = sizes[axis]
        else:
            lengths[axis] *= max(1, piece_bytes // (others * least[axis]))
    cuts = [
        [slice(n, min(n + lengths[a], sizes[a])) for n in range(0, sizes[a], lengths[a])]
        for a in reversed(fastest_first)
    ]
    added = {a: slice(0, n) for a, n in sizes.items() if a not in least}  # axes of one
    for here in itertools.product(*cuts):
        region = added | dict(zip(reversed(fastest_first), here, strict=True))
        yield tuple(region[a] for a in fitted.tensor.dims)


def _smallest(fitted: FittedInput) -> dict[str, int]:
    """Size of the smallest piece along each axis of the tensor that the image has."""
    image, sizes = fitted.image, fitted.sizes
    chunks = image.chunks or (*(1 for _ in image.axes[1:]), image.shape[-1])
    least = {
        a: min(n, sizes[a])
        for a, n in zip(image.axes, chunks, strict=True)
        if a in sizes and a not in fitted.loops
    }
    if least.get("channel", 1) > 1:  # a chunk's first channel need not be the first that is taken
        least["channel"] = sizes["channel"]
    return least


def _pixel_bytes(fitted: FittedInput) -> int:
    """Bytes that are read for one pixel: gray is of all colours, and channels between are read."""
    taken = fitted.channels or (0,)
    span = max(taken) - min(taken) + 1
    return fitted.image.dtype.itemsize * math.ceil(span / (1 if fitted.gray else len(taken)))
