"""How ``em-membrane`` is trained: membranes of neurons in electron microscopy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import baselines, region_scores
from common.nucleus_scores import rescale, say
from common.unet import MembraneUNet
from common.views import (
    Batch,
    Item,
    Placement,
    ViewMaker,
    blur,
    make_item,
    scale_range,
    two_objects_within,
)
from imageio.v3 import imread
from scipy import ndimage as ndi

DATA = Path("../shared/data/isbi2012_em/train")
CHANNEL_NAMES = ("membrane", "cell", "distance")
WIDTHS = (16, 32, 48, 64, 96)
LOW, HIGH = 1.0, 99.0  # percentiles of the whole image that become 0 and 1
CLIP = (-1.0, 2.0)
FULL_DISTANCE = 8.0  # pixels from the membrane at which the distance map is 1

SCALES = (1.0, 0.67, 1.5)
FACTORS = {
    "1.0": ("original", "held-out slices as they are"),
    "0.67": ("two thirds", "the same slices scaled to 0.67"),
    "1.5": ("enlarged", "the same slices scaled to 1.5"),
}
METRICS = region_scores.METRICS
OBJECTS = "cells"
DATASET = ("isbi2012-em-slices-20-24", "https://imagej.net/events/isbi-2012-segmentation-challenge")
SUMMARY = (
    "Slices 20 to 24 of the challenge's training volume; not its hidden test volume, so not to be "
    "compared with its leaderboard. Baseline: Otsu's threshold of the smoothed image."
)

# The slices are one volume, so neighbours look alike: a block at the end is held out, and the two
# slices before it, which choose thresholds, keep it apart from those that train.
SPLIT = {"train": range(18), "validation": range(18, 20), "test": range(20, 25)}


def make_network(*, fused: bool = False) -> MembraneUNet:
    """The network, untrained."""
    return MembraneUNet(1, WIDTHS, fused=fused)


def scale(image: np.ndarray) -> np.ndarray:
    """What the package's preprocessing does (y x to float32 1 y x)."""
    return np.clip(scale_range(image, LOW, HIGH), *CLIP)[None]


def cells(label_image: np.ndarray) -> np.ndarray:
    """Number the connected parts between membranes (0 membrane, 255 cell) in a slice (y x)."""
    return ndi.label(label_image > 0)[0]


def read_pair(data: Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Slice `number`: image (uint8 y x) and numbered cells (y x)."""
    return imread(data / "image" / f"{number}.png"), cells(imread(data / "label" / f"{number}.png"))


class Views(ViewMaker):
    """Random views of the training slices."""

    def __init__(self, items: list[Item], *, size: int, seed: int) -> None:
        super().__init__(size=size, seed=seed)
        self.items = items

    def view(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image, membrane and distance, and weight (each c y x)."""
        rng = self.rng
        item = self.items[rng.integers(len(self.items))]
        magnification, stretch, turn, bend = 1.0, 1.0, rng.integers(4) * np.pi / 2, 0.0
        if rng.random() < 0.65:
            magnification = float(np.exp(rng.uniform(np.log(0.65), np.log(1.5))))
            stretch = float(np.exp(rng.uniform(-0.1, 0.1)))
            turn = rng.uniform(0, 2 * np.pi)
            bend = rng.uniform(0, 9)
        aim = rng.uniform((0, 0), item.labels.shape[1:])
        place = Placement(
            self.clip_centre(aim, item, magnification),
            magnification,
            stretch,
            turn,
            rng.choice([-1.0, 1.0]),
            bend,
        )
        image, labels, distance = self.warp(item, place)
        inside = (labels > 0).float()
        full = (item.reach * magnification).clamp(max=FULL_DISTANCE)[labels.long()]
        target = torch.cat((1 - inside, (distance / full).clamp(max=1) * inside))
        # A membrane missed between two cells merges them: the thin ones count more.
        weight = 1 + 1.5 * two_objects_within(labels, 7) * (1 - inside)
        return self._intensity(image), target, weight

    def _intensity(self, image: torch.Tensor) -> torch.Tensor:
        """Vary contrast, brightness, sharpness, noise and stain (1 y x)."""
        rng = self.rng
        if rng.random() < 0.5:
            gamma = float(np.exp(rng.uniform(-0.5, 0.5)))
            image = torch.sign(image) * image.abs().clamp(min=1e-6) ** gamma
        if rng.random() < 0.3:
            image = image * (1 + rng.uniform(0.1, 0.4) * self.field())
        if rng.random() < 0.4:
            image = image + rng.uniform(0.05, 0.3) * self.field()
        if rng.random() < 0.35:
            image = blur(image, rng.uniform(0.4, 1.6))
        image = image * float(np.exp(rng.uniform(-0.45, 0.35))) + rng.uniform(-0.2, 0.2)
        if rng.random() < 0.5:
            image = image + self.noise(rng.uniform(0, 0.18))
        return image.clamp(*CLIP)


def make_views(data: Path, size: int, seed: int) -> Views:
    """The views of the training part of `data`."""
    pairs = [read_pair(data, n) for n in SPLIT["train"]]
    items = [make_item(scale(image), labels) for image, labels in pairs]
    return Views(items, size=size, seed=seed)


def loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Weighted cross-entropy of membrane and distance, plus Dice of the membrane."""
    entropy = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    cross = (entropy[:, 0:1] * batch.weight).mean() + 0.5 * entropy[:, 1:2].mean()
    chance, target = torch.sigmoid(logits[:, 0]), batch.target[:, 0]
    dice = 1 - (2 * (chance * target).sum() + 1) / ((chance + target).sum() + 1)
    return cross + 0.5 * dice


def read_split(data: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and numbered cells of one part of `data`."""
    return [read_pair(data, n) for n in SPLIT[split]]


def measure(
    run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]], data: Path, split: str
) -> dict[str, Any]:
    """Score one part of the data at several scales, and a threshold of the grey values beside it.

    `run` goes from image to maps (channel y x, as `CHANNEL_NAMES`) and cells (y x).
    """
    results: dict[str, Any] = {"scales": {}, "baselines": {}}
    pairs = read_split(data, split)
    for factor in SCALES:
        scaled = [rescale(*pair, factor) for pair in pairs]
        made = [run(image) for image, _ in scaled]
        results["scales"][str(factor)] = region_scores.score(
            [maps[0] for maps, _ in made], [found for _, found in made], [t for _, t in scaled]
        )
        say(split, factor, results["scales"][str(factor)])
    made = [baselines.dark_lines(image) for image, _ in pairs]
    scores = region_scores.score([m for m, _ in made], [c for _, c in made], [t for _, t in pairs])
    results["baselines"]["Otsu's threshold of the smoothed image"] = scores
    say(split, "baseline", scores)
    return results


def tune(
    run: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    settings: dict[str, Any],
    data: Path,
) -> dict[str, Any]:
    """Try settings on the validation part and return the best, by the mean Rand F-score."""
    pairs = read_split(data, "validation")
    maps = [run(image)[0] for image, _ in pairs]
    return region_scores.tune(maps, [t for _, t in pairs], settings, CHANNEL_NAMES)


def sample() -> tuple[np.ndarray, str]:
    """The simulated image that the test tensors are made of, and its axes."""
    from biozoo.samples import simulate_em

    return simulate_em((176, 176), seed=3).image, "yx"


def cover() -> np.ndarray:
    """A simulated image for the cover (y x)."""
    from biozoo.samples import simulate_em

    return simulate_em((288, 288), seed=5).image
