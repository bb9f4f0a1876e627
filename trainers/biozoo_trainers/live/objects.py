"""How objects are made with a refitted layer: as the package does, or of the foreground alone.

Scribbles tell foreground from background. The other channels of a model that makes objects (the
distance to an object's edge, the line between two) keep the parent's weights: where the parent's
foreground was about the right places they are right too. Where it was not (the refitted foreground
has little in common with it), they are about something else, and seeds are taken from the
foreground itself, smoothed by a quarter of the objects' inner radius. docs/design/live.md has the
scores of both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.instances import InstancesConfig

__all__ = ["SAME", "objects_of"]

#: Dice of the two foregrounds from which on the parent's other channels are believed.
SAME = 0.5

#: Of the foreground that makes seeds, and its smoothing in inner radii of the objects.
SEED, SMOOTHING = 0.8, 0.25


def objects_of(
    config: InstancesConfig, before: NDArray[np.floating[Any]], after: NDArray[np.floating[Any]]
) -> tuple[InstancesConfig, bool]:
    """How objects are made with a refitted layer, and whether that differs from the package's.

    Parameters
    ----------
    config
        The package's.
    before, after
        The foreground channel (y x or z y x) of the parent and of the refitted layer, of the same
        region, every other pixel along each axis.
    """
    old, new = before > config.foreground_threshold, after > config.foreground_threshold
    total = int(old.sum()) + int(new.sum())
    if not new.any() or 2 * int((old & new).sum()) >= SAME * total:
        return config, False
    smoothing = float(np.clip(SMOOTHING * 2 * inner_radius(new), 0.5, 10.0))
    seed = max(SEED, (1 + config.foreground_threshold) / 2)
    changes = {
        "distance": config.foreground,
        "boundary": None,
        "seed_threshold": round(seed, 3),
        "smoothing": round(smoothing, 2),
    }
    return config.model_copy(update=changes), True


def inner_radius(mask: NDArray[np.bool_]) -> float:
    """Radius of the largest circle inside an object, in pixels: the median over their area."""
    from scipy import ndimage as ndi

    parts, count = ndi.label(mask)
    if not count:
        return 1.0
    reach = np.zeros(count + 1)
    np.maximum.at(reach, parts.ravel(), ndi.distance_transform_edt(mask).ravel())
    reach, area = reach[1:], np.bincount(parts.ravel())[1:]
    order = np.argsort(reach)
    half = int(np.searchsorted(np.cumsum(area[order]), area.sum() / 2))
    return float(reach[order][half])
