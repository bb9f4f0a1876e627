"""Star-convex objects: in each pixel the chance of an object, and its distance to the edge along
rays. The geometry is that of the library stardist (Schmidt et al. 2018, Weigert et al. 2020).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

from ..labels import as_labels
from . import maps
from .base import Activation, Encoded, LossTerm, Target, check_channels
from .libraries import imported

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["StarConvex"]

EXTRA = "stardist"
#: The rays of the library's own models.
RAYS = {2: 32, 3: 96}


class StarConvex(Target):
    """A probability that rises to 1 in the middle of an object, and distances along rays in pixels.

    Parameters
    ----------
    rays
        Number of rays; 32 in 2D and 96 (a golden spiral) in 3D without it.
    probability_threshold
        Pixels above it may be the middle of an object.
    overlap_threshold
        Of two candidates that overlap more than this, the less probable one goes.
    largest
        Pixels across the largest object expected: the context that `reach` promises.

    Raises
    ------
    UsageError
        If there are fewer than 3 rays.
    MissingDependencyError
        When it works, if stardist is not installed.
    """

    name = "star-convex"
    supplies = "instances"

    def __init__(
        self,
        *,
        rays: int | None = None,
        probability_threshold: float = 0.5,
        overlap_threshold: float = 0.4,
        largest: int = 64,
    ) -> None:
        self._rays = rays
        self.probability_threshold = probability_threshold
        self.overlap_threshold = overlap_threshold
        self.largest = largest
        if rays is not None and rays < 3:
            raise UsageError(f"Target 'star-convex' got {rays} rays. Expected 3 or more.")

    def rays(self, ndim: int) -> int:
        """Number of rays for `ndim` spatial axes."""
        return RAYS[ndim] if self._rays is None else self._rays

    @property
    def activation(self) -> tuple[Activation, ...]:
        """The probability by a sigmoid, distances as they are; for the rays of 2D if none given."""
        return self.activations(2)

    def activations(self, ndim: int) -> tuple[Activation, ...]:
        """As `activation`, for `ndim` spatial axes."""
        distances: list[Activation] = ["none"] * self.rays(ndim)
        return ("sigmoid", *distances)

    @property
    def reach(self) -> int:
        """Whole objects."""
        return self.largest

    def needs(self, labels: NDArray[Any]) -> int:
        """As `reach`, for the largest object that these labels have."""
        return max(1, maps.largest_extent(as_labels(labels)))

    def channels(self, ndim: int) -> tuple[str, ...]:
        """First "probability", then "ray_0", "ray_1" and so on."""
        return ("probability", *(f"ray_{i}" for i in range(self.rays(ndim))))

    def encode(self, labels: NDArray[Any], image: NDArray[Any] | None = None) -> Encoded:
        """Probability and distances; the distances count as the probability does, as in stardist.

        Objects beside an ignored pixel have the weight 0: how far they go is not known.
        """
        labels = as_labels(labels)
        positive, n = maps.consecutive(labels)
        if n > np.iinfo(np.uint16).max:
            raise UsageError(
                f"Target 'star-convex' takes up to 65535 objects in an image, this one has {n}. "
                "Cut it into parts."
            )
        geometry = imported("stardist.geometry", extra=EXTRA, target=self.name)
        if labels.ndim == 2:
            distance = geometry.star_dist(positive, self.rays(2), mode="cpp")
        else:
            distance = geometry.star_dist3D(positive, self._spiral(), mode="cpp")
        away, largest = maps.edge_distance(labels)
        probability = away / largest
        known = (labels >= 0) & ~maps.touching_unknown(labels)
        target = np.concatenate([probability[None], np.moveaxis(distance, -1, 0)])
        target[:, labels < 0] = 0
        weight = np.repeat((probability * known)[None], len(target), axis=0)
        weight[0] = known
        return Encoded(target.astype(np.float32), weight.astype(np.float32))

    def decode(self, maps: NDArray[Any]) -> NDArray[np.int32]:
        """Objects by stardist's non-maximum suppression."""
        ndim = maps.ndim - 1
        check_channels(maps, self.channels(ndim), self.name)
        nms = imported("stardist.nms", extra=EXTRA, target=self.name)
        geometry = imported("stardist.geometry", extra=EXTRA, target=self.name)
        shape = maps.shape[1:]
        probability = np.nan_to_num(np.asarray(maps[0], np.float32))
        # A ray of no length has no side: the library asks for a little.
        distance = np.maximum(np.nan_to_num(np.moveaxis(maps[1:], 0, -1)), 1e-3)
        distance = np.ascontiguousarray(distance, np.float32)
        if not (probability > self.probability_threshold).any():
            return np.zeros(shape, np.int32)
        if ndim == 2:
            points, scores, kept = nms.non_maximum_suppression(
                distance,
                probability,
                b=0,
                nms_thresh=self.overlap_threshold,
                prob_thresh=self.probability_threshold,
                verbose=False,
            )
            labels = geometry.polygons_to_label(kept, points, shape=shape, prob=scores)
        else:
            from scipy import ndimage as ndi

            # A voxel beside a more probable one tells the same object; comparing all takes minutes.
            peak = probability == ndi.maximum_filter(probability, 3)
            peak &= probability > self.probability_threshold
            rays = self._spiral()
            points, scores, kept, _ = nms.non_maximum_suppression_3d_sparse(
                distance[peak],
                probability[peak],
                np.argwhere(peak),
                rays,
                nms_thresh=self.overlap_threshold,
            )
            labels = geometry.polyhedron_to_label(
                kept, points, rays=rays, shape=shape, prob=scores, verbose=False
            )
        return np.asarray(labels, np.int32)

    def _spiral(self) -> Any:
        rays = imported("stardist.rays3d", extra=EXTRA, target=self.name)
        return rays.Rays_GoldenSpiral(self.rays(3))

    def default_losses(self, ndim: int = 2) -> tuple[LossTerm, ...]:
        """Cross-entropy for the probability, the mean absolute error for the distances."""
        return LossTerm("bce", 1.0, (0,)), LossTerm("l1", 0.2, tuple(range(1, self.rays(ndim) + 1)))
