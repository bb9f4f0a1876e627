"""From what a person supplies to a network's output channels, and back: one module per target."""

from .base import IGNORE, Encoded, LossTerm, Target, as_labels, from_scribbles, make_target

__all__ = [
    "IGNORE",
    "Encoded",
    "LossTerm",
    "Target",
    "as_labels",
    "from_scribbles",
    "make_target",
]
