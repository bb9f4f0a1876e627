"""Stained tissue in transmitted light.

What is simulated follows the stains: haematoxylin in nuclei of uneven size and texture, eosin in
cytoplasm and in fibres that run together, holes where there is no tissue, and light that both
stains absorb by the law of Beer and Lambert, with the colours of Ruifrok and Johnston (2001,
Analytical and Quantitative Cytology and Histology 23:291-299).
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from .noise import Array, bent_ellipse, chromatin, renumber, smooth_noise

# Optical density of the stains in red, green and blue, each of length 1.
HAEMATOXYLIN = np.array([0.65, 0.70, 0.29])
EOSIN = np.array([0.07, 0.99, 0.11])
WHITE = np.array([243.0, 241.0, 244.0])  # the lamp without tissue, grey values
READ_NOISE = 1.6  # grey values


def simulate(
    shape: tuple[int, int],
    *,
    seed: int,
    diameter: float,
    density: float,
    clustering: float,
    haematoxylin: float,
    eosin: float,
) -> tuple[Array, Array]:
    """Image (uint8 c y x) and labels (int32 y x); see `biozoo.samples.simulate_histology`."""
    rng = np.random.default_rng(seed)
    margin = int(np.ceil(1.5 * diameter))
    full = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    labels = np.zeros(full, np.int32)
    blue = np.zeros((2, *full), np.float32)  # sharp and out of focus; y x
    holes = _holes(rng, full, diameter)
    direction = np.pi * smooth_noise(rng, full, 4 * diameter) * 0.35 + rng.uniform(0, np.pi)
    _place(rng, labels, blue, holes, direction, diameter, density, clustering)

    fine = max(diameter / 26, 0.5)  # structures grow with the magnification
    nuclear = ndi.gaussian_filter(blue[0], 0.6 * fine) + ndi.gaussian_filter(blue[1], 2.2 * fine)
    pink = _tissue(rng, full, labels, holes, direction, diameter)
    pink *= 1 - 0.55 * np.clip(ndi.gaussian_filter(nuclear, 0.7 * fine), 0, 1)
    tint = 0.07 + 0.025 * smooth_noise(rng, full, 0.25 * diameter)  # haematoxylin outside nuclei
    amount_h = haematoxylin * (nuclear + np.clip(tint, 0, None) * (pink > 0.05))

    inner = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    stain_h, stain_e = (_vary(rng, stain) for stain in (HAEMATOXYLIN, EOSIN))
    density_rgb = (  # c y x
        stain_h[:, None, None] * amount_h[inner] + stain_e[:, None, None] * (eosin * pink[inner])
    )
    lamp = WHITE[:, None, None] * (1 - 0.04 * smooth_noise(rng, shape, 3 * diameter).clip(-2, 2))
    light = np.clip(lamp, 0, 252) * 10**-density_rgb
    grey = light + rng.normal(0, READ_NOISE, light.shape)
    image = np.clip(np.round(grey), 0, 255).astype(np.uint8)
    return image, renumber(labels[inner])


def _holes(rng: np.random.Generator, shape: tuple[int, int], diameter: float) -> Array:
    """1 where there is tissue, 0 in lumina and clefts, soft between (y x)."""
    level = rng.uniform(1.0, 2.2)
    surface = smooth_noise(rng, shape, 1.7 * diameter) + 0.12 * smooth_noise(
        rng, shape, 0.25 * diameter
    )
    tissue: Array = np.clip((level - surface) * 5, 0, 1)
    return tissue


def _place(
    rng: np.random.Generator,
    labels: Array,
    blue: Array,
    holes: Array,
    direction: Array,
    diameter: float,
    density: float,
    clustering: float,
) -> None:
    """Draw nuclei into `labels` (y x) and their stain into `blue` (focus y x)."""
    texture = chromatin(rng, (labels.shape[0], labels.shape[1]), diameter)
    goal = density * labels.size
    covered, number = 0, 0
    placed: list[tuple[float, float, float]] = []  # y, x, size
    for _ in range(int(25 * goal / diameter**2) + 1):
        if covered >= goal:
            break
        slender = rng.random() < 0.25  # fibroblasts lie along the fibres
        size = diameter * np.exp(rng.normal(0, 0.18)) / 2 * (0.75 if slender else 1.0)
        stretch = rng.uniform(2.0, 3.6) if slender else np.exp(abs(rng.normal(0, 0.25)))
        if placed and rng.random() < clustering:
            y, x, other = placed[rng.integers(len(placed))]
            angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.88, 1.15) * (other + size)
            centre = (y + gap * np.sin(angle), x + gap * np.cos(angle))
        else:
            centre = (rng.uniform(0, labels.shape[0]), rng.uniform(0, labels.shape[1]))
        if not all(0 <= c < n for c, n in zip(centre, labels.shape, strict=True)):
            continue
        at = (int(centre[0]), int(centre[1]))
        if holes[at] < 0.5:
            continue
        turn = float(direction[at]) if slender else None
        box, radius = bent_ellipse(rng, centre, size, stretch, 0.05, labels.shape, turn)
        mask: Array = radius < 1
        free = mask & (labels[box] == 0)
        if mask.sum() < 8 or free.sum() < 0.9 * mask.sum():
            continue
        number += 1
        labels[box][free] = number
        covered += int(free.sum())
        placed.append((*centre, size))
        blurred = int(rng.random() < 0.12)
        blue[blurred][box] += _stain(rng, radius, texture[box], slender)


def _stain(rng: np.random.Generator, radius: Array, texture: Array, slender: bool) -> Array:
    """Haematoxylin of one nucleus (y x): pale with a dark rim and clumps, or dark all over."""
    inside = np.clip((1 - radius) * 8, 0, 1)  # soft edge
    rim = np.exp(-(((radius - 0.9) / 0.12) ** 2))
    pale = rng.random() < (0.2 if slender else 0.5)
    depth = rng.uniform(0.30, 0.45) if pale else rng.uniform(0.5, 0.85)
    clumps = (0.38 if pale else 0.2) * texture
    stain = depth * inside * np.clip(1 + clumps + (0.7 if pale else 0.25) * rim, 0.3, None)
    if pale and not slender:
        core = np.argwhere(radius < 0.6)
        if len(core):
            y, x = np.ogrid[: radius.shape[0], : radius.shape[1]]
            cy, cx = core[rng.integers(len(core))]  # a nucleolus
            width2 = (0.12 * np.sqrt((radius < 1).sum() / np.pi)) ** 2
            stain = stain + 0.4 * depth * np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (2 * width2))
    return np.asarray(stain, np.float32)


def _tissue(
    rng: np.random.Generator,
    shape: tuple[int, int],
    labels: Array,
    holes: Array,
    direction: Array,
    diameter: float,
) -> Array:
    """Eosin of fibres and cytoplasm (y x)."""
    fibres = _fibres(rng, shape, direction, diameter)
    around = np.exp(-((ndi.distance_transform_edt(labels == 0) / (0.45 * diameter)) ** 2))
    grain = 1 + 0.1 * smooth_noise(rng, shape, 0.06 * diameter)
    stroma = np.clip(0.19 + 0.06 * fibres + 0.05 * smooth_noise(rng, shape, diameter), 0.03, None)
    pink: Array = holes * grain * (stroma + 0.12 * around)
    return pink


def _fibres(
    rng: np.random.Generator, shape: tuple[int, int], direction: Array, diameter: float
) -> Array:
    """Noise smeared along `direction`, of unit deviation (y x)."""
    noise = rng.standard_normal(shape, np.float32)
    noise = ndi.gaussian_filter(noise, 0.05 * diameter)
    y, x = np.indices(shape, np.float32)
    total = np.zeros(shape, np.float32)
    for step in np.linspace(-0.8, 0.8, 33) * diameter:
        at = (y + step * np.sin(direction), x + step * np.cos(direction))
        total += ndi.map_coordinates(noise, at, order=1, mode="mirror")
    unit: Array = total / max(float(total.std()), 1e-9)
    return unit


def _vary(rng: np.random.Generator, stain: Array) -> Array:
    """Turn a stain's colour a little, as between laboratories (of length 1)."""
    turned = np.clip(stain + rng.normal(0, 0.035, 3), 0.02, None)
    unit: Array = turned / np.linalg.norm(turned)
    return unit
