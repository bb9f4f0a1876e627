"""Affinities: for pairs of pixels at fixed offsets, whether both lie in one object.

Objects are made by a mutex watershed (Wolf et al. 2018): pairs are taken in the order of how sure
the network is; a pair of neighbours joins two parts, a pair further apart forbids that its two
parts are ever joined.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

from ..labels import as_labels
from .base import Activation, Encoded, LossTerm, Target, check_channels
from .mutex import mutex_watershed
from .offsets import ahead, behind

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Affinities"]

#: Distances of the pairs along each axis: the neighbours that join, then those that keep apart.
DISTANCES = (1, 3, 9)


class Affinities(Target):
    """One channel per offset: 1 where the pixel and the one at the offset are of one object.

    A pair with a background pixel, and one of two objects, is 0. The pair belongs to its first
    pixel: channel ``(-1, 0)`` compares each pixel with the one above it. A pair that leaves the
    image or meets an ignored pixel has the weight 0.

    Parameters
    ----------
    offsets
        Per channel the step to the other pixel, in pixels along (z) y x. Without it -1, -3 and -9
        along each axis, the neighbours first. The neighbours of every axis must be there.
    foreground
        Whether a channel with the foreground comes before them.
    threshold
        Above it a pair of neighbours is of one object, below it a pair further apart is of two.
    min_size
        Smallest object to keep, in pixels.

    Raises
    ------
    UsageError
        If an offset is 0, is there twice, or has another number of axes, or a neighbour is missing.
    """

    name = "affinities"
    supplies = "instances"

    def __init__(
        self,
        *,
        offsets: Sequence[Sequence[int]] | None = None,
        foreground: bool = False,
        threshold: float = 0.5,
        min_size: int = 4,
    ) -> None:
        self._offsets = None if offsets is None else tuple(tuple(map(int, o)) for o in offsets)
        self.foreground, self.threshold, self.min_size = foreground, threshold, min_size
        if self._offsets is not None:
            self._check(self._offsets)

    def _check(self, offsets: tuple[tuple[int, ...], ...]) -> None:
        axes = {len(o) for o in offsets}
        ndim = next(iter(axes)) if len(axes) == 1 else 0
        if ndim not in (2, 3) or len(set(offsets)) < len(offsets):
            raise UsageError(
                f"Target 'affinities' got the offsets {list(offsets)}. "
                "Expected different steps, all of two numbers (y x) or all of three (z y x)."
            )
        near = {o.index(1) for o in (tuple(map(abs, o)) for o in offsets) if sum(o) == 1}
        if len(near) < ndim or (0,) * ndim in offsets:
            raise UsageError(
                f"Target 'affinities' got the offsets {list(offsets)}. Objects grow from "
                "neighbour to neighbour: expected a step of 1 along each axis, and none of 0."
            )

    def offsets(self, ndim: int) -> tuple[tuple[int, ...], ...]:
        """The step of each channel of a pair, in pixels, for `ndim` spatial axes.

        Raises
        ------
        UsageError
            If the offsets given are for another number of axes.
        """
        if self._offsets is None:
            unit = np.eye(ndim, dtype=int)
            return tuple(tuple(int(v) for v in -d * step) for d in DISTANCES for step in unit)
        if len(self._offsets[0]) != ndim:
            raise UsageError(
                f"Target 'affinities' has offsets along {len(self._offsets[0])} axes, the image "
                f"has {ndim}. Use a model for such images."
            )
        return self._offsets

    @property
    def activation(self) -> Activation:
        """Each pair on its own."""
        return "sigmoid"

    @property
    def reach(self) -> int:
        """The longest step."""
        return max(abs(v) for o in self._offsets or ((max(DISTANCES),),) for v in o)

    def channels(self, ndim: int) -> tuple[str, ...]:
        """The foreground, if asked for, and the offsets: "affinity_-1_0" is the pixel above."""
        pairs = ("affinity_" + "_".join(map(str, o)) for o in self.offsets(ndim))
        return (*(("foreground",) if self.foreground else ()), *pairs)

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """1 for pairs within one object, else 0."""
        labels = as_labels(labels)
        offsets = self.offsets(labels.ndim)
        first = int(self.foreground)
        target = np.zeros((first + len(offsets), *labels.shape), np.float32)
        weight = np.zeros_like(target)
        if self.foreground:
            target[0], weight[0] = labels > 0, labels >= 0
        for c, offset in enumerate(offsets, start=first):
            here, there = labels[ahead(offset)], labels[behind(offset)]
            target[c][ahead(offset)] = (here == there) & (here > 0)
            # A background pixel is in no object with whatever is hidden.
            known = ((here >= 0) & (there >= 0)) | (here == 0)
            weight[c][ahead(offset)] = known
        return Encoded(target, weight)

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """Objects by a mutex watershed; a pixel without any neighbour of its own is background."""
        ndim = maps.ndim - 1
        check_channels(maps, self.channels(ndim), self.name)
        pairs = np.nan_to_num(np.asarray(maps[int(self.foreground) :], np.float32))
        inside = None
        if self.foreground:
            inside = np.nan_to_num(maps[0]) > self.threshold
        return mutex_watershed(
            pairs,
            self.offsets(ndim),
            inside=inside,
            threshold=self.threshold,
            min_size=self.min_size,
        )

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """Cross-entropy, and Dice against the many pairs of background."""
        return LossTerm("bce"), LossTerm("dice", 0.5)
