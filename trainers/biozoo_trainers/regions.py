"""Regions of images, read without the rest; what is read often is kept, up to a limit."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo_runners.prepare import FittedInput, replace_not_finite
from biozoo_runners.statistics import Stats

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["KEPT", "WHOLE", "Cache", "Region", "finite", "read_region", "sample", "slabs"]

Region = tuple[slice, ...]

#: Bytes of an item (as float32) up to which it is read whole for its statistics.
WHOLE = 2**31

#: Bytes of images that are kept. A number of its own, not a part of the memory that happens to be
#: free: what is read whole and what in regions must not differ from one run to the next.
KEPT = 2**30


class Cache:
    """Arrays by key, up to a number of bytes, the one longest not used goes first; and statistics
    of items, all of which are kept.
    """

    def __init__(self, limit: int = KEPT) -> None:
        self.limit = limit
        self.stats: dict[Any, Stats] = {}
        self._kept: OrderedDict[Any, tuple[NDArray[Any], ...]] = OrderedDict()
        self._bytes = 0

    def get(
        self, key: Any, make: Callable[[], tuple[NDArray[Any], ...]]
    ) -> tuple[NDArray[Any], ...]:
        """What is kept under the key, else what `make` gives; what is too large is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = make()
        size = sum(a.nbytes for a in made)
        if size <= self.limit // 2:
            self._kept[key] = made
            self._bytes += size
            while self._bytes > self.limit:
                _, old = self._kept.popitem(last=False)
                self._bytes -= sum(a.nbytes for a in old)
        return made


def read_region(
    fitted: FittedInput, at: Mapping[str, int], spatial: Sequence[str], region: Region
) -> NDArray[Any]:
    """`FittedInput.read` of a region."""
    image = fitted.image
    offset = {a: s.start for a, s in zip(spatial, region, strict=True)}
    sizes = {a: s.stop - s.start for a, s in zip(spatial, region, strict=True)}
    if all(image.sizes[a] == n for a, n in sizes.items()):
        return fitted.read(at)

    def reader(index: tuple[int | slice, ...]) -> NDArray[Any]:
        moved = [
            slice(i.start + offset.get(a, 0), i.stop + offset.get(a, 0), i.step)
            if isinstance(i, slice)
            else i + offset.get(a, 0)
            for a, i in zip(image.axes, index, strict=True)
        ]
        return image.reader(tuple(moved))

    shape = tuple(sizes.get(a, n) for a, n in image.sizes.items())
    return replace(fitted, image=replace(image, shape=shape, reader=reader)).read(at)


def sample(
    fitted: FittedInput, at: Mapping[str, int], spatial: Sequence[str], shape: tuple[int, ...]
) -> NDArray[Any]:
    """The whole item, or where it is too large pieces spread evenly along its first axis."""
    size = math.prod(shape) * 4
    whole = tuple(slice(0, n) for n in shape)
    if size <= WHOLE:
        return read_region(fitted, at, spatial, whole)
    count = 16
    thick = max(1, int(shape[0] * WHOLE / size / count))
    starts = np.linspace(0, shape[0] - thick, count).astype(int)
    parts = [
        read_region(fitted, at, spatial, (slice(int(s), int(s) + thick), *whole[1:]))
        for s in starts
    ]
    return np.concatenate(parts, axis=fitted.tensor.dims.index(spatial[0]))


def slabs(shape: tuple[int, ...], pixels: int) -> list[Region]:
    """Regions along the first axis that cover an item, of about so many pixels each."""
    rest = math.prod(shape[1:])
    step = max(1, pixels // max(rest, 1))
    return [
        (slice(n, min(n + step, shape[0])), *(slice(0, m) for m in shape[1:]))
        for n in range(0, shape[0], step)
    ]


def finite(pixels: NDArray[Any]) -> tuple[NDArray[Any], int]:
    """As the runner does it; a region without any number is zeros, as the whole may have some."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).any():
        return np.zeros_like(pixels), pixels.size
    return replace_not_finite(pixels)
