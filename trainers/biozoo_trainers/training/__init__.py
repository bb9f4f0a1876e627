"""The training itself: options, control, the loop, checkpoints, the average of the weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .control import Control
from .options import Epoch, Trained, TrainOptions

__all__ = ["Control", "Epoch", "TrainOptions", "Trained", "train"]

if TYPE_CHECKING:
    from .loop import train
else:

    def __getattr__(name):
        if name != "train":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from .loop import train

        globals()["train"] = train
        return train
