"""Image to image: denoising, deconvolution, virtual staining."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biozoo.errors import UsageError

from .base import Activation, Encoded, LossTerm, Target, check_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["ImageToImage", "as_image"]


class ImageToImage(Target):
    """The clean image, channel by channel, in the units of the network's output.

    Parameters
    ----------
    names
        Names of the output channels, in order.
    normalise
        "input": the clean image passes through the packaged preprocessing as an input does, with
        statistics of its own, before it comes here. "none": it comes here as it is, for networks
        whose output is in the units of the clean image.
    loss
        "l1", "mse" or "huber".

    Raises
    ------
    UsageError
        If an option is not one of those.
    """

    name = "image"
    supplies = "image"

    def __init__(
        self,
        *,
        names: Sequence[str] = ("image",),
        normalise: Literal["input", "none"] = "input",
        loss: Literal["l1", "mse", "huber"] = "l1",
    ) -> None:
        self.names = tuple(str(n) for n in names)
        self.normalise, self.loss = normalise, loss
        for option, got, known in (
            ("normalise", normalise, ("input", "none")),
            ("loss", loss, ("l1", "mse", "huber")),
        ):
            if got not in known:
                raise UsageError(
                    f"Target '{self.name}': {option} is {got!r}. "
                    f"Expected {' or '.join(map(repr, known))}."
                )
        if not self.names:
            raise UsageError(f"Target '{self.name}' needs the name of one channel at least.")

    @property
    def activation(self) -> Activation:
        """The output is the image."""
        return "none"

    @property
    def reach(self) -> int:
        """Each pixel is encoded by itself."""
        return 0

    def channels(self, ndim: int) -> tuple[str, ...]:
        """The names given."""
        return self.names

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """The clean image itself; pixels that are no number are ignored.

        Raises
        ------
        UsageError
            If it has other channels than the output.
        """
        target, weight = as_image(labels)
        check_channels(target, self.names, self.name)
        return Encoded(target, weight)

    def decode(self, maps: NDArray[Any]) -> NDArray[np.float32]:
        """The image that the network made."""
        check_channels(maps, self.names, self.name)
        return np.asarray(maps, np.float32)

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """The one chosen."""
        return (LossTerm(self.loss),)


def as_image(given: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Values with 0 where there is no number, and where there is one (c, then spatial axes)."""
    values = np.asarray(given, np.float32)
    known = np.isfinite(values)
    return np.where(known, values, np.float32(0)), known.astype(np.float32)
