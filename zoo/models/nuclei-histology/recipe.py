"""How ``nuclei-histology`` is trained: nuclei in stained tissue."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import torch
from common import baselines, nucleus_scores
from common.nuclei import CHANNEL_NAMES, NucleusViews, loss
from common.splits import image_files
from common.unet import UNet
from common.views import Item, blur, make_item, scale_range
from imageio.v3 import imread

__all__ = ["CHANNEL_NAMES", "loss", "make_network", "make_views", "measure", "tune"]

DATA = Path("../shared/data/nuclei/stained")
WIDTHS = (16, 32, 48, 64, 96)
LOW, HIGH = 1.0, 99.8  # percentiles of the whole image, all colours together, that become 0 and 1
CLIP = (-0.5, 1.5)
N_SIMULATED = 48

FACTORS, METRICS, OBJECTS = nucleus_scores.FACTORS, nucleus_scores.METRICS, "nuclei"
DATASET = ("bbbc038v1-stained-held-out", "https://bbbc.broadinstitute.org/BBBC038")
SUMMARY = "Average precision as in the StarDist paper, on a fifth of the stained images of the set."


def make_network(*, fused: bool = False) -> UNet:
    """The network, untrained."""
    return UNet(3, len(CHANNEL_NAMES), WIDTHS, fused=fused)


def scale(image: np.ndarray) -> np.ndarray:
    """What the package's preprocessing does (c y x to float32 c y x)."""
    return np.clip(scale_range(image, LOW, HIGH), *CLIP)


def read_pair(file: Path) -> tuple[np.ndarray, np.ndarray]:
    """Image (uint8 c y x) and labels (y x) of ``<data>/images/<stem>.png``."""
    labels = imread(file.parent.parent / "labels" / f"{file.stem}.tif")
    return imread(file)[..., :3].transpose(2, 0, 1), labels


class Views(NucleusViews):
    """Views of stained tissue, with the stains of other laboratories."""

    def vary(self, image: torch.Tensor, labels: torch.Tensor, n: int) -> torch.Tensor:
        """Vary stain, colour, brightness, sharpness and noise (3 y x)."""
        rng = self.rng
        if rng.random() < 0.25:  # pale nuclei beside dark ones
            gains = torch.from_numpy(rng.uniform(rng.uniform(0.4, 0.9), 1.0, n).astype(np.float32))
            gains[0] = 1.0
            gain = torch.nn.functional.avg_pool2d(
                gains[labels.long()], 5, 1, 2, count_include_pad=False
            )
            paper = torch.quantile(image[:, ::4, ::4].flatten(1), 0.8, dim=1)[:, None, None]
            image = paper + (image - paper) * torch.where(labels > 0, gain, 1.0)
        if rng.random() < 0.8:
            image = self._restain(image)
        kind = rng.random()
        if kind < 0.06:
            image = image.mean(0, keepdim=True).expand(3, -1, -1)
        elif kind < 0.14:
            image = image[torch.from_numpy(rng.permutation(3))]
        if rng.random() < 0.3:
            image = image * (1 + rng.uniform(0.05, 0.25) * self.field())
        if rng.random() < 0.3:
            image = blur(image, rng.uniform(0.4, 1.8))
        image = image * float(np.exp(rng.uniform(-0.3, 0.2))) + rng.uniform(-0.12, 0.12)
        if rng.random() < 0.5:
            image = image + self.noise(rng.uniform(0, 0.07), 3)
        return image.clamp(*CLIP)

    def _restain(self, image: torch.Tensor) -> torch.Tensor:
        """Mix and scale the optical densities of the colours (3 y x).

        Absorbed light adds up as density, so other stains of the same structures are about another
        mixture of the same densities.
        """
        rng = self.rng
        dense = -torch.log(image.clamp(min=0) * 0.92 + 0.08)
        spread = rng.uniform(0.05, 0.3)
        mix = np.eye(3) + rng.normal(0, spread, (3, 3))
        mix *= np.exp(rng.normal(0, spread, (3, 1)))
        gain = np.exp(rng.uniform(-0.35, 0.35))
        mixed = torch.einsum(
            "ij,jyx->iyx", torch.from_numpy((mix * gain).astype(np.float32)), dense
        )
        shift = torch.from_numpy(rng.normal(0, 0.06, (3, 1, 1)).astype(np.float32))
        return (torch.exp(-(mixed + shift)) - 0.08) / 0.92

    def empty(self) -> torch.Tensor:
        """A slide without nuclei: one tint, with noise, stains or uneven light (3 y x)."""
        rng, size = self.rng, self.size
        tint = rng.uniform(0.2, 1.0, (3, 1, 1)).astype(np.float32)
        image = torch.from_numpy(tint).expand(3, size, size).clone()
        if rng.random() < 0.7:
            smear = self.field(2, 9)
            colour = torch.from_numpy(rng.uniform(-0.3, 0.3, (3, 1, 1)).astype(np.float32))
            image = image + colour * smear
        if rng.random() < 0.85:
            noise = self.noise(1.0, 3)
            if rng.random() < 0.5:
                noise = blur(noise, rng.uniform(0.3, 1.2))
            image = image + noise * rng.uniform(0.01, 0.15)
        if rng.random() < 0.8:
            image = torch.from_numpy(scale_range(image.numpy(), LOW, HIGH))
        return image.clamp(*CLIP)


def simulated_items(n: int, seed: int) -> list[Item]:
    """Simulated images of different magnification, from the simulator behind ``zoo sample``."""
    from biozoo.samples import simulate_histology

    rng = np.random.default_rng(seed)
    items = []
    for _ in range(n):
        sample = simulate_histology(
            (256, 256),
            seed=int(rng.integers(2**31)),
            diameter=float(np.exp(rng.uniform(np.log(11), np.log(48)))),
            density=float(rng.uniform(0.06, 0.35)),
            clustering=float(rng.uniform(0, 0.8)),
            haematoxylin=float(rng.uniform(0.7, 1.4)),
            eosin=float(rng.uniform(0.5, 1.6)),
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
    """An image of one tint with noise, tissue without nuclei, or a gradient (3 y x)."""
    from biozoo.samples import simulate_histology

    tint = rng.uniform(90, 240, (3, 1, 1))
    if kind == 0:
        return np.clip(tint + rng.normal(0, rng.uniform(1, 12), (3, 256, 256)), 0, 255)
    if kind == 1:
        seed = int(rng.integers(2**31))
        return simulate_histology((256, 256), seed=seed, density=0).image
    if kind == 2:
        slope = np.linspace(0, rng.uniform(5, 60), 256)[:, None]
        return np.clip(tint - slope + rng.normal(0, 3, (3, 256, 256)), 0, 255)
    return np.broadcast_to(tint, (3, 256, 256)).copy()


BASELINES = {
    "Otsu's threshold and watershed": baselines.dark_objects,
    "nuclei-fluo on the inverted grey image": baselines.nuclei_fluo_inverted,
}
measure = partial(
    nucleus_scores.measure, read_split=read_split, nothing=nothing, baselines=BASELINES
)
tune = partial(nucleus_scores.tune, read_split=read_split, scales=nucleus_scores.SCALES)


def sample() -> tuple[np.ndarray, str]:
    """The simulated image that the test tensors are made of, and its axes."""
    from biozoo.samples import simulate_histology

    return simulate_histology((176, 176), seed=12, diameter=26, clustering=0.6).image, "cyx"


def cover() -> np.ndarray:
    """A simulated image for the cover (3 y x)."""
    from biozoo.samples import simulate_histology

    return simulate_histology((288, 288), seed=4, diameter=36, density=0.32, clustering=0.7).image
