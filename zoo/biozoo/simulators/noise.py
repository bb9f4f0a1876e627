"""What the simulators share: smooth noise, uneven light, bent outlines, numbers of objects."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

Array = np.ndarray


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> Array:
    """Gaussian noise of unit deviation, smooth over `sigma` pixels, float32 (y x)."""
    # A wide blur of noise is the same as a narrow one on a coarser grid, enlarged.
    coarse = max(int(sigma / 4), 1)
    small = tuple(-(-n // coarse) + 4 for n in shape)
    noise = ndi.gaussian_filter(rng.standard_normal(small, np.float32), sigma / coarse)
    if coarse > 1:
        noise = ndi.zoom(noise, coarse, order=1)
    unit: Array = noise / max(float(noise.std()), 1e-9)
    return unit[: shape[0], : shape[1]]


def illumination(rng: np.random.Generator, shape: tuple[int, int]) -> Array:
    """Brightness of the lamp over the field, 1 at its brightest (y x)."""
    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    cy, cx = rng.uniform(-0.35, 0.35, 2)
    fall: Array = rng.uniform(0.12, 0.28) * ((y - cy) ** 2 + (x - cx) ** 2) / 2
    return 1 - fall


def bent_ellipse(
    rng: np.random.Generator,
    centre: tuple[float, float],
    size: float,
    stretch: float,
    roughness: float,
    shape: tuple[int, ...],
    turn: float | None = None,
) -> tuple[tuple[slice, slice], Array]:
    """Make one bent ellipse; return its box and, in it, the radius with 1 at its edge (y x)."""
    reach = int(np.ceil(size * np.sqrt(stretch) * 1.3)) + 2
    start = [max(int(c) - reach, 0) for c in centre]
    stop = [min(int(c) + reach + 1, n) for c, n in zip(centre, shape, strict=True)]
    y, x = np.ogrid[start[0] : stop[0], start[1] : stop[1]]
    y, x = y - centre[0], x - centre[1]
    if turn is None:
        turn = rng.uniform(0, np.pi)
    along = (np.cos(turn) * x + np.sin(turn) * y) / np.sqrt(stretch)
    across = (np.cos(turn) * y - np.sin(turn) * x) * np.sqrt(stretch)
    angle = np.arctan2(across, along)
    edge = np.ones_like(angle)
    for waves in range(2, 6):
        phase = rng.uniform(0, 2 * np.pi)
        edge += roughness * rng.normal() * 2 / waves * np.cos(waves * angle + phase)
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]))
    return box, np.hypot(along, across) / (size * edge)


def chromatin(rng: np.random.Generator, shape: tuple[int, int], diameter: float) -> Array:
    """Texture of chromatin, mean 0 and deviation about 1 (y x): clumps of two sizes, and specks."""
    coarse = smooth_noise(rng, shape, 0.075 * diameter)
    fine = smooth_noise(rng, shape, 0.03 * diameter)
    specks = np.clip(smooth_noise(rng, shape, 0.04 * diameter) - 1.4, 0, None)
    texture: Array = 0.75 * coarse + 0.45 * fine + 1.2 * specks
    return texture


def renumber(labels: Array, least: int = 8) -> Array:
    """Give the objects that the image shows the numbers 1..n; slivers at the edge are dropped."""
    sizes = np.bincount(labels.ravel())
    keep = sizes >= least
    keep[0] = False
    numbers: Array = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    renumbered: Array = numbers[labels]
    return renumbered
