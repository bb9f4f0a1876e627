"""What needs no training, to see what a score is worth."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage as ndi

if TYPE_CHECKING:
    from biozoo_runners import Runner


def dark_objects(image: np.ndarray) -> np.ndarray:
    """Number dark objects: Otsu's threshold of the mean colour, cut by watershed (c y x to y x)."""
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.segmentation import watershed

    grey = ndi.gaussian_filter(image.astype(np.float32).mean(axis=0), 1.0)
    mask = ndi.binary_opening(grey < threshold_otsu(grey), iterations=2)
    distance = ndi.gaussian_filter(ndi.distance_transform_edt(mask), 1.0)
    seeds = np.zeros(mask.shape, np.int32)
    peaks = peak_local_max(distance, min_distance=6, labels=mask.astype(int))
    seeds[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    return watershed(-distance, seeds, mask=mask)


def nuclei_fluo_inverted(image: np.ndarray) -> np.ndarray:
    """Number dark objects with the model for bright ones, on the negative (c y x to y x)."""
    grey = image.astype(np.float32).mean(axis=0)
    return _nuclei_fluo()(grey.max() - grey, axes="yx")["labels"].to_numpy()


@cache
def _nuclei_fluo() -> Runner:
    import biozoo_runners

    return biozoo_runners.load("nuclei-fluo")


def dark_lines(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Membrane map, above 0.5 where it is darker than Otsu's threshold, and cells (y x to y x)."""
    from skimage.filters import threshold_otsu

    smooth = ndi.gaussian_filter(image.astype(np.float32), 2.0)
    threshold = threshold_otsu(smooth)
    spread = float(smooth.std()) + 1e-6
    cells, _ = ndi.label(smooth >= threshold)
    return 1 / (1 + np.exp((smooth - threshold) / spread)), cells
