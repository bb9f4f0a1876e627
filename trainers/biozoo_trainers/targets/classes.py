"""Semantic classes: one channel per class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from biozoo.errors import UsageError

from ..labels import as_labels
from .base import Activation, Encoded, LossTerm, Target, check_channels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Classes"]


class Classes(Target):
    """One channel per class; what is painted as class k is taught in the channel of class k.

    Parameters
    ----------
    names
        Names of the output channels, in order.
    activation
        "softmax": exactly one class per pixel. "sigmoid": each channel on its own.
    background
        Whether the first channel is the background, class 0. Usual with softmax; without it the
        first channel is class 1, and a pixel of class 0 is none of them.
    threshold
        With "sigmoid": what a channel must exceed for its class to be told.

    Raises
    ------
    UsageError
        If there are no names, two are the same, or a softmax is left with one channel.
    """

    name = "classes"
    supplies = "classes"

    def __init__(
        self,
        *,
        names: Sequence[str] = ("background", "foreground"),
        activation: Literal["softmax", "sigmoid"] = "softmax",
        background: bool | None = None,
        threshold: float = 0.5,
    ) -> None:
        self.names = tuple(str(n) for n in names)
        self._activation: Literal["softmax", "sigmoid"] = activation
        self.background = activation == "softmax" if background is None else background
        self.threshold = threshold
        if activation not in ("softmax", "sigmoid"):
            raise UsageError(
                f"Target 'classes' has no activation {activation!r}. "
                "Expected 'softmax' or 'sigmoid'."
            )
        least = 2 if activation == "softmax" else 1
        if len(self.names) < least or len(set(self.names)) < len(self.names):
            raise UsageError(
                f"Target 'classes' with {activation} got the names {list(self.names)}. "
                f"Expected at least {least}, all different."
            )

    @property
    def activation(self) -> Activation:
        """As asked for."""
        return self._activation

    @property
    def reach(self) -> int:
        """Each pixel is encoded by itself."""
        return 0

    @property
    def classes(self) -> tuple[int, ...]:
        """The class of each channel."""
        first = 0 if self.background else 1
        return tuple(range(first, first + len(self.names)))

    def channels(self, ndim: int) -> tuple[str, ...]:
        """The names given."""
        return self.names

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """One-hot over the classes.

        Raises
        ------
        UsageError
            If a class is painted that no channel stands for.
        """
        labels = as_labels(labels)
        highest = int(labels.max(initial=0))
        if highest > self.classes[-1]:
            raise UsageError(
                f"Class {highest} is painted; the model knows the classes "
                f"{', '.join(f'{c} ({n})' for c, n in self._told())}. "
                "Paint those only, or choose another model."
            )
        target = np.stack([labels == c for c in self.classes]).astype(np.float32)
        known = labels >= 0
        if self._activation == "softmax" and not self.background:
            known &= labels > 0  # of one that is none of the classes a softmax can say nothing
        return Encoded(target, known[None].astype(np.float32))

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """The most probable class of each pixel, 0 where it is none.

        Ties go to the first channel; NaN counts as 0.
        """
        check_channels(maps, self.names, self.name)
        chance = np.nan_to_num(maps, nan=0.0)
        best = np.asarray(self.classes, np.int32)[chance.argmax(axis=0)]
        if self._activation == "sigmoid":
            best = np.where(chance.max(axis=0) > self.threshold, best, np.int32(0))
        found: NDArray[np.int32] = best.astype(np.int32)
        return found

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """Cross-entropy and Dice; Dice looks at what is no background."""
        entropy = "cross-entropy" if self._activation == "softmax" else "bce"
        shown = tuple(i for i, c in enumerate(self.classes) if c > 0)
        options = {"activation": self._activation}
        if self._activation == "softmax":
            return LossTerm(entropy), LossTerm("dice", 0.5, None, {**options, "channels": shown})
        return LossTerm(entropy), LossTerm("dice", 0.5, shown)

    def _told(self) -> list[tuple[int, str]]:
        told = list(zip(self.classes, self.names, strict=True))
        return told if self.background else [(0, "none of them"), *told]
