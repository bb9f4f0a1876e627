"""How ``nuclei-fluo`` is trained: nuclei in fluorescence images."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from common import nucleus_scores
from common.nuclei import CHANNEL_NAMES, NucleusViews, loss
from common.splits import image_files
from common.unet import UNet
from common.views import Item, blur, make_item, scale_range
from imageio.v3 import imread

__all__ = ["CHANNEL_NAMES", "loss", "make_network", "make_views", "measure", "tune"]

DATA = Path("../shared/data/nuclei/fluo")
WIDTHS = (16, 32, 56, 72, 96)
LOW, HIGH = 1.0, 99.8  # percentiles of the whole image that become 0 and 1
CLIP = (-1.0, 3.0)  # range after scaling: a hot pixel must not outshine an image
N_SIMULATED = 64

FACTORS, METRICS, OBJECTS = nucleus_scores.FACTORS, nucleus_scores.METRICS, "nuclei"
DATASET = ("bbbc038v1-fluorescence-held-out", "https://bbbc.broadinstitute.org/BBBC038")
SUMMARY = (
    "Comparable with the StarDist paper's average precision, on another split of the same image "
    "set."
)


def make_network(*, fused: bool = False) -> UNet:
    """The network, untrained."""
    return UNet(1, len(CHANNEL_NAMES), WIDTHS, fused=fused)


def scale(image: np.ndarray) -> np.ndarray:
    """What the package's preprocessing does (y x to float32 1 y x)."""
    return np.clip(scale_range(image, LOW, HIGH), *CLIP)[None]


def read_pair(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (any integer or float type, y x) and labels (y x) of ``<data>/images/<stem>.png``."""
    return imread(file), imread(file.parent.parent / "labels" / f"{file.stem}.tif")


class Views(NucleusViews):
    """Views of fluorescent nuclei under other microscopes."""

    def vary(self, image: torch.Tensor, labels: torch.Tensor, n: int) -> torch.Tensor:
        """Vary brightness, contrast, background, sharpness and noise (1 y x)."""
        rng = self.rng
        if rng.random() < 0.3:  # dim nuclei beside bright ones
            low = rng.uniform(0.2, 0.9)
            gains = torch.from_numpy(rng.uniform(low, 1.0, n).astype(np.float32))
            gains[0] = 1.0
            gain = F.avg_pool2d(gains[labels.long()], 5, 1, 2, count_include_pad=False)
            floor = float(np.percentile(image[0, ::4, ::4], 3))
            image = floor + (image - floor) * torch.where(labels > 0, gain, 1.0)
        if rng.random() < 0.5:
            gamma = float(np.exp(rng.uniform(-0.6, 0.6)))
            image = torch.sign(image) * image.abs().clamp(min=1e-6) ** gamma
        if rng.random() < 0.25:
            image = image * (1 + rng.uniform(0.1, 0.6) * self.field())
        if rng.random() < 0.3:
            image = image + rng.uniform(0.05, 0.35) * (self.field() + 1)
        if rng.random() < 0.25:
            image = blur(image, rng.uniform(0.4, 2.0))
        image = image * float(np.exp(rng.uniform(-0.5, 0.35))) + rng.uniform(-0.06, 0.1)
        if rng.random() < 0.5:
            image = image + self.noise(rng.uniform(0, 0.12)) * (
                image.clamp(min=0).sqrt() if rng.random() < 0.5 else 1.0
            )
        return image.clamp(*CLIP)

    def empty(self) -> torch.Tensor:
        """Noise, a smooth background, or one flat value (1 y x)."""
        rng = self.rng
        image = torch.zeros(1, self.size, self.size)
        if rng.random() < 0.85:
            noise = self.noise(1.0)
            if rng.random() < 0.5:
                noise = blur(noise, rng.uniform(0.3, 1.2))
            image = noise + rng.uniform(0, 3) * (rng.random() < 0.5) * self.field()
            image = torch.from_numpy(scale_range(image.numpy(), LOW, HIGH))
        return image.clamp(*CLIP)


def simulated_items(n: int, seed: int) -> list[Item]:
    """Simulated images of different magnification, from the simulator behind ``zoo sample``."""
    from biozoo.samples import simulate_nuclei

    rng = np.random.default_rng(seed)
    items = []
    for _ in range(n):
        diameter = float(np.exp(rng.uniform(np.log(9), np.log(55))))
        sample = simulate_nuclei(
            (256, 256),
            seed=int(rng.integers(2**31)),
            diameter=diameter,
            density=float(rng.uniform(0.08, 0.35)),
            clustering=float(rng.uniform(0, 0.8)),
            photons=float(np.exp(rng.uniform(np.log(25), np.log(600)))),
        )
        items.append(make_item(scale(sample.image), sample.labels))
    return items


def make_views(data: Path, size: int, seed: int) -> Views:
    """The views of the training part of `data`."""
    pairs = [read_pair(p) for p in image_files(data / "images", "train")]
    items = [make_item(scale(image), labels) for image, labels in pairs]
    return Views(items, simulated_items(N_SIMULATED, 0), size=size, seed=seed)


def read_split(data: Path, split: str) -> list[tuple[np.ndarray, np.ndarray]]:
    """Images and labels of one part of `data`."""
    return [read_pair(p) for p in image_files(data / "images", split)]


def nothing(rng: np.random.Generator, kind: int) -> np.ndarray:
    """An image of noise, a gradient or flat grey (y x)."""
    if kind == 0:
        return rng.poisson(rng.uniform(3, 300), (256, 256))
    if kind == 1:
        return 100 + rng.normal(0, 6, (256, 256))
    if kind == 2:
        slope = np.linspace(0, rng.uniform(5, 60), 256)[:, None]
        return 200 + slope + rng.normal(0, 8, (256, 256))
    return np.full((256, 256), rng.uniform(0, 4000))


measure = partial(nucleus_scores.measure, read_split=read_split, nothing=nothing)
tune = partial(nucleus_scores.tune, read_split=read_split)


def sample() -> tuple[np.ndarray, str]:
    """The simulated image that the test tensors are made of, and its axes."""
    from biozoo.samples import simulate_nuclei

    return simulate_nuclei((144, 144), seed=12, diameter=24, density=0.16).image, "yx"


def cover() -> np.ndarray:
    """A simulated image for the cover (y x)."""
    from biozoo.samples import simulate_nuclei

    return simulate_nuclei((224, 224), seed=4, diameter=28, density=0.32, clustering=0.7).image
