"""Fluorescently stained nuclei under a widefield microscope.

What is simulated follows the light: chromatin of uneven density in nuclei of uneven size, blur by
focus, haze from out of focus, uneven illumination, then photons counted by a camera with read noise
and an offset.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from .noise import Array, bent_ellipse, chromatin, illumination, renumber, smooth_noise

CAMERA_OFFSET = 100.0  # grey values
GREY_PER_PHOTON = 4.0
READ_NOISE = 6.0  # grey values
FOCUS_SIGMAS = (0.7, 1.4, 2.8)  # blur of sharp, near and far planes, pixels
FOCUS_CHANCES = (0.65, 0.25, 0.10)


def simulate(
    shape: tuple[int, int],
    *,
    seed: int,
    diameter: float,
    density: float,
    clustering: float,
    photons: float,
) -> tuple[Array, Array]:
    """Image (uint16 y x) and labels (int32 y x); see `biozoo.samples.simulate_nuclei`."""
    rng = np.random.default_rng(seed)
    margin = int(np.ceil(1.5 * diameter))  # nuclei outside still reach in and light up the edge
    full = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    labels = np.zeros(full, np.int32)
    planes = np.zeros((len(FOCUS_SIGMAS), *full), np.float32)  # focus y x
    texture = chromatin(rng, full, diameter)
    _place_nuclei(rng, labels, planes, texture, diameter, density, clustering)

    sharp = sum(
        ndi.gaussian_filter(plane, sigma * max(diameter / 34, 0.6))
        for plane, sigma in zip(planes, FOCUS_SIGMAS, strict=True)
    )
    total = planes.sum(axis=0)
    haze = 0.12 * ndi.gaussian_filter(total, 0.5 * diameter)
    haze += 0.05 * ndi.gaussian_filter(total, 2.0 * diameter, mode="reflect")
    # Cells hold a little stain outside the nucleus, so the background is not flat.
    background = 0.035 + 0.02 * smooth_noise(rng, full, 1.5 * diameter)
    background += 0.012 * smooth_noise(rng, full, 0.4 * diameter)
    light = (sharp + haze + np.clip(background, 0.01, None)) * illumination(rng, full)

    inner = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    counted = rng.poisson(photons * light[inner]) * GREY_PER_PHOTON
    grey = counted + CAMERA_OFFSET + rng.normal(0, READ_NOISE, shape)
    image = np.clip(np.round(grey), 0, 65535).astype(np.uint16)
    return image, renumber(labels[inner])


def _place_nuclei(
    rng: np.random.Generator,
    labels: Array,
    planes: Array,
    texture: Array,
    diameter: float,
    density: float,
    clustering: float,
) -> None:
    """Draw nuclei into `labels` (y x) and their light into `planes` (focus y x)."""
    goal = density * labels.size
    covered, number = 0, 0
    placed: list[tuple[float, float, float]] = []  # y, x, size
    for _ in range(int(20 * goal / diameter**2) + 1):
        if covered >= goal:
            break
        mitotic = rng.random() < 0.03
        size = diameter * np.exp(rng.normal(0, 0.16)) / 2
        stretch = np.exp(abs(rng.normal(0, 0.22)))
        if mitotic:  # a metaphase plate seen from the side: narrow and bright
            size, stretch = 0.62 * diameter / 2, rng.uniform(1.7, 2.3)
        if placed and rng.random() < clustering:
            y, x, other = placed[rng.integers(len(placed))]
            angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.82, 1.08) * (other + size)
            centre = (y + gap * np.sin(angle), x + gap * np.cos(angle))
        else:
            centre = (rng.uniform(0, labels.shape[0]), rng.uniform(0, labels.shape[1]))
        if not all(0 <= c < n for c, n in zip(centre, labels.shape, strict=True)):
            continue
        box, radius = bent_ellipse(
            rng, centre, size, stretch, 0.02 if mitotic else 0.05, labels.shape
        )
        mask: Array = radius < 1
        free = mask & (labels[box] == 0)
        if mask.sum() < 8 or free.sum() < 0.93 * mask.sum():
            continue
        number += 1
        labels[box][free] = number
        covered += int(free.sum())
        placed.append((*centre, size))
        focus = 0 if mitotic else rng.choice(len(FOCUS_SIGMAS), p=FOCUS_CHANCES)
        light = _nucleus_light(rng, radius, texture[box], mitotic)
        planes[focus][box] += light


def _nucleus_light(rng: np.random.Generator, radius: Array, texture: Array, mitotic: bool) -> Array:
    """Light of one nucleus (y x): its thickness times the density of its chromatin."""
    thickness = np.clip(1 - radius**2, 0, None) ** 0.35
    light: Array
    if mitotic:
        light = rng.uniform(1.7, 2.4) * thickness * (1 + 0.15 * texture)
        return light.astype(np.float32)
    density = np.clip(1 + rng.uniform(0.16, 0.34) * texture, 0.25, None)
    inside = np.argwhere(radius < 0.7)
    extent = np.sqrt((radius < 1).sum() / np.pi)
    if len(inside):
        y, x = np.ogrid[: radius.shape[0], : radius.shape[1]]
        for _ in range(rng.integers(0, 5)):  # nucleoli hold little DNA and stay dark
            cy, cx = inside[rng.integers(len(inside))]
            width = extent * rng.uniform(0.08, 0.2)
            distance2 = (y - cy) ** 2 + (x - cx) ** 2
            density *= 1 - rng.uniform(0.3, 0.6) * np.exp(-distance2 / (2 * width**2))
    # DNA content doubles over the cell cycle; staining varies on top.
    content = rng.choice([0.7, 0.95, 1.3], p=[0.55, 0.25, 0.2]) * np.exp(rng.normal(0, 0.18))
    light = content * thickness * density
    return light.astype(np.float32)
