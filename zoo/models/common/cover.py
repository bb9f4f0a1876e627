"""The cover of a package: a simulated image, and over its lower right half what the model finds."""

from __future__ import annotations

import numpy as np


def draw_cover(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Paint objects into an image.

    Parameters
    ----------
    image
        Any type (y x), or of three colours (c y x).
    labels
        0 background, 1..n objects (y x).

    Returns
    -------
    np.ndarray
        uint8 (y x rgb).
    """
    from skimage.color import hsv2rgb
    from skimage.segmentation import find_boundaries

    stack = np.broadcast_to(image, (3, *labels.shape)).transpose(1, 2, 0).astype(np.float32)
    low, high = np.percentile(stack, [0.5, 99.7])
    plain = np.clip((stack - low) / (high - low), 0, 1)
    hue = (np.arange(labels.max() + 1) * 0.618) % 1  # golden ratio: neighbours differ
    colour = hsv2rgb(np.stack([hue, np.full_like(hue, 0.65), np.ones_like(hue)], -1))[labels]
    light = plain.mean(axis=-1, keepdims=True)
    painted = np.where(labels[..., None] > 0, 0.35 * plain + 0.65 * colour * (0.3 + light), plain)
    edge = find_boundaries(labels, mode="inner")
    painted[edge] = colour[edge]
    y, x = np.indices(labels.shape)
    cover = np.where((x + y > labels.shape[1])[..., None], painted, plain)
    cover[np.abs(x + y - labels.shape[1]) <= 1] = 1
    return (np.clip(cover, 0, 1) * 255).astype(np.uint8)
