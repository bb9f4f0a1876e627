"""Flow fields: in each pixel of an object the direction to its middle, and whether it is one.

Field and dynamics are those of the library cellpose (Stringer et al. 2021), in the units of its
networks: 5 times the unit vector, z before y before x, then the object's logit.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from ..labels import as_labels
from . import maps
from .base import Activation, Encoded, LossTerm, Target, check_channels
from .libraries import imported

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Flow"]

EXTRA = "cellpose"
#: Length of a flow in cellpose's own networks.
LENGTH = 5.0


class Flow(Target):
    """The flow to the middle of one's object (5 long), and the probability of any object.

    Parameters
    ----------
    threshold
        A pixel above this probability is of an object.
    flow_threshold
        In 2D: an object whose flows differ more than this from those of its shape goes. 0: none.
    min_size
        Smallest object to keep, in pixels.
    largest
        Pixels across the largest object expected: the context that `reach` promises.

    Raises
    ------
    MissingDependencyError
        When it works, if cellpose is not installed.
    """

    name = "flow"
    supplies = "instances"

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        flow_threshold: float = 0.4,
        min_size: int = 4,
        largest: int = 64,
    ) -> None:
        self.threshold, self.flow_threshold = threshold, flow_threshold
        self.min_size, self.largest = min_size, largest

    @property
    def activation(self) -> tuple[Activation, ...]:
        """Flows as they are, the probability by a sigmoid; in 2D."""
        return self.activations(2)

    def activations(self, ndim: int) -> tuple[Activation, ...]:
        """As `activation`, for `ndim` spatial axes."""
        flows: list[Activation] = ["none"] * ndim
        return (*flows, "sigmoid")

    @property
    def reach(self) -> int:
        """Whole objects, and those that touch them: the library looks across the contact."""
        return 2 * self.largest + 1

    def needs(self, labels: NDArray[Any]) -> int:
        """As `reach`, for the largest object that these labels have."""
        return 2 * maps.largest_extent(as_labels(labels)) + 1

    def channels(self, ndim: int) -> tuple[str, ...]:
        """The names "flow_y", "flow_x", "cellprob"; in 3D "flow_z" before them."""
        return (*(f"flow_{a}" for a in "zyx"[-ndim:]), "cellprob")

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """Flows and objects; flows count in objects only.

        The flows of objects beside an ignored pixel, and of pixels beside those, have the weight 0:
        where their middle is, is not known.
        """
        labels = as_labels(labels)
        positive, n = maps.consecutive(labels)
        steps = self._steps(labels)
        flows = np.zeros((labels.ndim, *labels.shape), np.float32)
        if n:
            dynamics = imported("cellpose.dynamics", extra=EXTRA, target=self.name)
            numbers = positive.astype(np.int64)
            if labels.ndim == 2:
                flows = dynamics.masks_to_flows_gpu(numbers, device=_cpu(), niter=steps)[0]
            else:
                flows = dynamics.masks_to_flows_gpu_3d(numbers, device=_cpu(), niter=steps)
        inside, known = labels > 0, labels >= 0
        target = np.concatenate([LENGTH * flows, inside[None]]).astype(np.float32)
        cut = maps.touching_unknown(labels)
        whole = inside & ~maps.near_unknown(np.where(cut, np.int32(-1), labels), 3)
        weight = np.stack([whole] * labels.ndim + [known]).astype(np.float32)
        return Encoded(target, weight)

    def _steps(self, labels: NDArray[np.int32]) -> int:
        """How long the heat spreads from the middles of objects: around the largest one.

        The library takes the largest object of the image; then a patch would have other flows than
        the whole. Only an object above `largest` makes a difference here, by a factor of 2.
        """
        extent, needed = self.largest, maps.largest_extent(labels)
        while extent < needed:
            extent *= 2
        return 2 * labels.ndim * (extent + 1)

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """Objects where the flows end, by cellpose's dynamics."""
        ndim = maps.ndim - 1
        check_channels(maps, self.channels(ndim), self.name)
        chance = np.nan_to_num(np.asarray(maps[-1], np.float32))
        if not (chance > self.threshold).any():
            return np.zeros(chance.shape, np.int32)
        dynamics = imported("cellpose.dynamics", extra=EXTRA, target=self.name)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse invariant checks", UserWarning)
            labels = dynamics.compute_masks(
                np.nan_to_num(np.asarray(maps[:-1], np.float32)),
                chance,
                cellprob_threshold=self.threshold,
                flow_threshold=self.flow_threshold,
                do_3D=ndim == 3,
                min_size=self.min_size,
                max_size_fraction=1.0,
                device=_cpu(),
            )
        return np.asarray(labels, np.int32)

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """As cellpose: half the squared error of the flows, and cross-entropy."""
        return LossTerm("mse", 0.5, tuple(range(ndim))), LossTerm("bce", 1.0, (ndim,))


def _cpu() -> Any:
    import torch

    return torch.device("cpu")
