"""Denoising that is taught by the noisy images alone: pixels hidden from the network.

Noise2Void (Krull, Buchholz and Jug 2019): a few pixels of the input are replaced by neighbours, and
the network is asked for what they were. Noise that is independent from pixel to pixel cannot be
predicted from the neighbours, what lies below it can.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

from .base import Activation, Encoded, LossTerm, Target, check_channels
from .image import as_image

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["BlindSpot"]


class BlindSpot(Target):
    """The input itself, asked for at hidden pixels only.

    Parameters
    ----------
    names
        Names of the channels, the same in input and output, in order.
    share
        Part of the pixels that are hidden at a time, for each channel on its own.
    radius
        A hidden pixel shows the value of another pixel at most this far away along each axis.

    Raises
    ------
    UsageError
        If `share` is not between 0 and a half, or `radius` below 1.
    """

    name = "blind-spot"
    supplies = "nothing"

    def __init__(
        self, *, names: Sequence[str] = ("image",), share: float = 0.015, radius: int = 5
    ) -> None:
        self.names, self.share, self.radius = tuple(str(n) for n in names), share, radius
        if not 0 < share <= 0.5 or radius < 1 or not self.names:
            raise UsageError(
                f"Target '{self.name}' got share {share}, radius {radius} and the names "
                f"{list(self.names)}. Expected a share above 0 and up to 0.5, a radius of 1 or "
                "more, and the name of one channel at least."
            )

    @property
    def activation(self) -> Activation:
        """The output is the image."""
        return "none"

    @property
    def reach(self) -> int:
        """Values are taken from within the patch."""
        return 0

    def channels(self, ndim: int) -> tuple[str, ...]:
        """The names given."""
        return self.names

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """The image itself, everywhere: what `mask` starts from."""
        target, weight = as_image(labels)
        check_channels(target, self.names, self.name)
        return Encoded(target, weight)

    def mask(
        self, patch: NDArray[Any], rng: np.random.Generator
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """Hide pixels of a preprocessed patch (c, then the spatial axes).

        Parameters
        ----------
        patch
            What the network would get; left as it is. Pixels that are no number are not asked for.
        rng
            Where the random numbers come from.

        Returns
        -------
        masked, target, weight
            float32 of the patch's shape: the input with hidden pixels replaced, the patch, and 1
            where a pixel is hidden, 0 elsewhere. One pixel per channel is hidden at least, where
            there are two to choose from.
        """
        target, known = as_image(patch)
        check_channels(target, self.names, self.name)
        masked, weight = target.copy(), np.zeros_like(target)
        for c in range(len(target)):
            spots = np.flatnonzero(known[c].ravel() > 0)
            n = min(max(1, round(self.share * spots.size)), spots.size)
            chosen = rng.choice(spots, n, replace=False)
            at = np.stack(np.unravel_index(chosen, target.shape[1:]))  # axes n
            other = self._others(at, target.shape[1:], rng)
            moved = (other != at).any(axis=0)  # false only where an image is one pixel in all
            at, other = at[:, moved], other[:, moved]
            masked[(c, *at)] = target[(c, *other)]
            weight[(c, *at)] = 1
        return masked, target, weight

    def _others(
        self, at: NDArray[np.intp], shape: tuple[int, ...], rng: np.random.Generator
    ) -> NDArray[np.intp]:
        """For each position (axes n) another one near it, in the image."""
        low = np.stack([np.maximum(a - self.radius, 0) for a in at])
        high = np.stack(
            [np.minimum(a + self.radius, s - 1) for a, s in zip(at, shape, strict=True)]
        )
        span = high - low + 1
        # All neighbours but the middle: count through the box and skip the position itself.
        counts = span.prod(axis=0)
        here = np.zeros(counts.shape, np.int64)
        for a, lo, s in zip(at, low, span, strict=True):
            here = here * s + (a - lo)
        pick = rng.integers(0, np.maximum(counts - 1, 1))
        pick = np.where(counts > 1, pick + (pick >= here), here)
        found = np.empty_like(at)
        for axis in reversed(range(len(shape))):
            pick, left = np.divmod(pick, span[axis])
            found[axis] = low[axis] + left
        return found

    def decode(self, maps: NDArray[Any]) -> NDArray[np.float32]:
        """The image that the network made."""
        check_channels(maps, self.names, self.name)
        return np.asarray(maps, np.float32)

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """The mean square: its best answer is the mean of what the pixel may be."""
        return (LossTerm("mse"),)
