"""Nervous tissue in a thin section under a transmission electron microscope.

What is simulated follows the sight: profiles of neurites of very uneven size packed without gaps,
dark membranes between them that blur where they are cut at a slant, grainy cytoplasm with vesicles
and microtubules, mitochondria with cristae, dark synapses, uneven stain, and the noise of few
electrons.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi
from scipy.spatial import cKDTree

from .noise import Array, bent_ellipse, renumber, smooth_noise

MEMBRANE = 2.5  # half the thickness that is drawn as membrane in the truth, pixels
READ_NOISE = 0.065  # of the range from black to white


def simulate(
    shape: tuple[int, int], *, seed: int, diameter: float, contrast: float
) -> tuple[Array, Array]:
    """Image (uint8 y x) and labels (int32 y x); see `biozoo.samples.simulate_em`."""
    rng = np.random.default_rng(seed)
    margin = int(diameter)
    full = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    profiles = _profiles(rng, full, diameter)
    edges = (profiles != np.roll(profiles, 1, 0)) | (profiles != np.roll(profiles, 1, 1))
    distance = ndi.distance_transform_edt(~edges).astype(np.float32)

    n = int(profiles.max()) + 1
    grey = 0.62 + 0.035 * rng.standard_normal(n).clip(-2, 2)[profiles]
    grey += 0.065 * smooth_noise(rng, full, 1.1) + 0.035 * smooth_noise(rng, full, 3.0)
    _specks(rng, grey, distance)
    _organelles(rng, grey, profiles, distance, diameter)
    slant = np.clip(smooth_noise(rng, full, 0.5 * diameter) - 1.1, 0, 1.4)  # oblique membranes
    width = 2.1 + 3.2 * slant
    depth = 0.46 / (1 + 0.5 * slant) * (1 + 0.12 * smooth_noise(rng, full, 4.0))
    grey -= depth * np.exp(-((distance / width) ** 2))
    _synapses(rng, grey, np.argwhere(distance < 1), diameter)
    grey = ndi.gaussian_filter(grey, 0.7) + 0.035 * smooth_noise(rng, full, 2.5 * diameter)
    grey = 0.5 + contrast * (grey - 0.5)

    inner = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    noisy = grey[inner] + rng.normal(0, READ_NOISE, shape)
    image = np.clip(np.round(255 * noisy), 0, 255).astype(np.uint8)
    numbers, _ = ndi.label(distance[inner] >= MEMBRANE)
    return image, renumber(numbers, 12)


def _profiles(rng: np.random.Generator, shape: tuple[int, int], diameter: float) -> Array:
    """Number the profiles that fill the field (y x): many thin ones between few wide ones."""
    n = int(5 * shape[0] * shape[1] / diameter**2)
    points = rng.uniform((0, 0), shape, (n, 2))
    owner = np.arange(n)
    for wide in range(int(0.22 * shape[0] * shape[1] / diameter**2)):
        centre = rng.uniform((0, 0), shape)
        reach = diameter * np.exp(rng.normal(-0.3, 0.35))
        turn, stretch = rng.uniform(0, np.pi), np.exp(rng.uniform(0, 0.7))
        y, x = (points - centre).T
        along = (np.cos(turn) * x + np.sin(turn) * y) / stretch
        across = (np.cos(turn) * y - np.sin(turn) * x) * stretch
        owner[np.hypot(along, across) < reach] = n + wide
    # Pairs and triples of small ones join too, which makes bent outlines.
    tree = cKDTree(points)
    for i in np.flatnonzero(rng.random(n) < 0.35):
        if owner[i] < n:
            owner[i] = owner[tree.query(points[i], k=2)[1][1]]
    y, x = np.indices(shape, np.float32)
    for size, amount in ((0.55, 0.2), (0.2, 0.06)):
        y = y + amount * diameter * smooth_noise(rng, shape, size * diameter)
        x = x + amount * diameter * smooth_noise(rng, shape, size * diameter)
    nearest = owner[tree.query(np.stack((y, x), -1))[1]]
    numbers = np.unique(nearest, return_inverse=True)[1].reshape(shape)
    smooth: Array = ndi.median_filter(numbers, 5)
    return smooth


def _specks(rng: np.random.Generator, grey: Array, distance: Array) -> None:
    """Draw microtubules and ribosomes, dark dots away from membranes, into `grey` (y x)."""
    dots = (rng.random(grey.shape) < 0.006) & (distance > 4)
    grey -= 1.6 * ndi.gaussian_filter(dots.astype(np.float32), 0.9)


def _organelles(
    rng: np.random.Generator,
    grey: Array,
    profiles: Array,
    distance: Array,
    diameter: float,
) -> None:
    """Draw a mitochondrion or vesicles into some of the profiles of `grey` (y x)."""
    for number, box in enumerate(ndi.find_objects(profiles + 1)):
        if box is None:
            continue
        room = np.where(profiles[box] == number, distance[box], 0)
        free = float(room.max())
        if free > 0.24 * diameter and rng.random() < 0.4:
            middle = np.unravel_index(int(room.argmax()), room.shape)
            centre = (float(box[0].start + middle[0]), float(box[1].start + middle[1]))
            size = min(0.62 * free, 0.34 * diameter) * rng.uniform(0.75, 1.0)
            _mitochondrion(rng, grey, centre, size)
        elif free > 0.18 * diameter and rng.random() < 0.35:
            spots = np.argwhere(room > 8) + np.array([box[0].start, box[1].start])
            for spot in spots[rng.integers(len(spots), size=rng.integers(4, 24))]:
                _vesicle(rng, grey, (float(spot[0]), float(spot[1])))


def _mitochondrion(
    rng: np.random.Generator, grey: Array, centre: tuple[float, float], size: float
) -> None:
    """Draw one into `grey` (y x): dark, striped by its cristae, in a membrane."""
    box, radius = bent_ellipse(rng, centre, size, rng.uniform(1.0, 1.7), 0.04, grey.shape)
    inside = np.clip((1 - radius) * size / 2, 0, 1)
    y, x = np.ogrid[: radius.shape[0], : radius.shape[1]]
    turn, period = rng.uniform(0, np.pi), rng.uniform(4.5, 6.5)
    bend = 2 * smooth_noise(rng, (radius.shape[0], radius.shape[1]), 5.0)
    cristae = np.sin(2 * np.pi * (np.cos(turn) * x + np.sin(turn) * y + bend) / period)
    rim = np.exp(-(((radius - 0.95) * size / 1.6) ** 2))
    grey[box] += inside * (0.34 + 0.09 * cristae - grey[box]) - 0.16 * rim


def _vesicle(rng: np.random.Generator, grey: Array, centre: tuple[float, float]) -> None:
    """Draw a small bubble into `grey` (y x)."""
    box, radius = bent_ellipse(rng, centre, rng.uniform(3.2, 4.6), 1.05, 0.02, grey.shape)
    rim = 0.66 - 0.2 * np.exp(-(((radius - 1) / 0.3) ** 2))
    grey[box] = np.where(radius < 1.3, np.minimum(grey[box], rim + 0.1 * (radius < 0.8)), grey[box])


def _synapses(rng: np.random.Generator, grey: Array, edges: Array, diameter: float) -> None:
    """Draw dark smears on membranes (`edges`, points x 2) into `grey` (y x)."""
    for _ in range(int(rng.poisson(0.11 * grey.size / diameter**2))):
        y, x = edges[rng.integers(len(edges))]
        size = rng.uniform(0.06, 0.14) * diameter
        box, radius = bent_ellipse(rng, (y, x), size, rng.uniform(1, 2), 0.15, grey.shape)
        grey[box] -= 0.3 * np.exp(-(radius**2))
