"""The last layer of a network as numbers: weights and offsets, the parent's or refitted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from biozoo_runners.instances import InstancesConfig

__all__ = ["Head"]


@dataclass(frozen=True, eq=False)
class Head:
    """A linear layer from features to the channels that the network computes last.

    Attributes
    ----------
    weight
        float32 (channels, features).
    bias
        float32 (channels,).
    refitted
        Names of the output's channels that differ from the parent's.
    instances
        How objects are made with this layer; None where the package makes none.
    pixels
        Painted pixels by value (0 background, 1 object or the first class, ...) that it was
        fitted to; empty for the parent's own.
    trust
        How far the parent was followed where nothing is painted, 0 to 1.
    notes
        What a person should know of it: "only objects are painted, ...".
    seconds
        That the refit took.
    """

    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    refitted: tuple[str, ...] = ()
    instances: InstancesConfig | None = None
    pixels: Mapping[int, int] = field(default_factory=dict)
    trust: float = 1.0
    notes: tuple[str, ...] = ()
    seconds: float = 0.0
