"""Training material: annotated images in memory, and random views of them with their targets.

A view is made by one affine warp (crop, turn, flip, scale), so image and labels stay aligned; the
targets are then computed from the warped labels. All random numbers come from one generator.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from imageio.v3 import imread
from scipy import ndimage as ndi

LOW, HIGH = 1.0, 99.8  # percentiles of the whole image that become 0 and 1
CLIP = (-1.0, 3.0)  # range after scaling: a hot pixel must not outshine an image
EPS = 1e-6


@dataclass(frozen=True)
class Item:
    """One annotated image, ready to be warped.

    Attributes
    ----------
    planes
        Scaled image, label numbers and normalised distance, float32 (3 y x).
    areas
        Area of each label in pixels, background first, float32 (labels).
    centres
        Position of each object, float (objects 2).
    """

    planes: torch.Tensor
    areas: torch.Tensor
    centres: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one training step, all float32 (b c y x)."""

    image: torch.Tensor  # b 1 y x
    target: torch.Tensor  # b 3 y x: foreground, distance, boundary
    weight: torch.Tensor  # b 1 y x


def scale_range(image: np.ndarray) -> np.ndarray:
    """Scale percentiles 1 and 99.8 of the whole image to 0 and 1, then clip (float32 y x).

    The same as the package's `scale_range` and `clip` preprocessing.
    """
    low, high = np.percentile(image, [LOW, HIGH])
    scaled = (image.astype(np.float32) - low) / (high - low + EPS)
    return np.clip(scaled, *CLIP).astype(np.float32)


def normalised_distance(labels: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the edge of its own object, divided by the object's largest.

    The image's edge is no object edge: runners mirror an image there, so a cut nucleus continues.

    Parameters
    ----------
    labels
        0 background, 1..n objects (y x).

    Returns
    -------
    np.ndarray
        0 outside objects, in (0, 1] inside, float32 (y x).
    """
    result = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        if box is None:
            continue
        wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        mask = labels[wide] == number
        distance = ndi.distance_transform_edt(mask)
        result[wide][mask] = (distance / distance.max())[mask]
    return result


def make_item(image: np.ndarray, labels: np.ndarray) -> Item:
    """Prepare one image (any integer or float type, y x) and its labels (integers, y x)."""
    labels = labels.astype(np.int64)
    numbers = np.unique(labels[labels > 0])
    planes = np.stack([scale_range(image), labels, normalised_distance(labels)])
    return Item(
        torch.from_numpy(planes.astype(np.float32)),
        torch.from_numpy(np.bincount(labels.ravel()).astype(np.float32)),
        np.array(ndi.center_of_mass(labels > 0, labels, numbers)),
    )


def label_file(image_file: Path) -> Path:
    """Return the label image that belongs to ``<data>/images/<stem>.png``."""
    return image_file.parent.parent / "labels" / f"{image_file.stem}.tif"


def load_items(files: list[Path]) -> list[Item]:
    """Read and prepare annotated images."""
    return [make_item(imread(p), imread(label_file(p))) for p in files]


class ViewMaker:
    """Makes random training batches from annotated images and from images of nothing.

    Parameters
    ----------
    items
        Real images, drawn with the probability that `simulated` and `empty` leave.
    simulated
        Simulated images.
    size
        Edge of a view in pixels.
    seed
        Start of the random numbers.
    p_simulated, p_empty
        Probability of a simulated view, and of a view without any nucleus.
    """

    def __init__(
        self,
        items: list[Item],
        simulated: list[Item],
        *,
        size: int,
        seed: int,
        p_simulated: float = 0.12,
        p_empty: float = 0.04,
    ) -> None:
        self.items, self.simulated, self.size = items, simulated, size
        self.rng = np.random.default_rng(seed)
        self.p_simulated = p_simulated if simulated else 0.0
        self.p_empty = p_empty
        # Large images hold more to learn from, but must not drown the many small ones.
        pixels = np.array([i.planes[0].numel() for i in items], float)
        self.chance = np.sqrt(pixels) / np.sqrt(pixels).sum()

    def batch(self, n: int) -> Batch:
        """Make `n` views."""
        views = [self._view() for _ in range(n)]
        return Batch(*(torch.stack(parts) for parts in zip(*views, strict=True)))

    def _view(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        kind = self.rng.random()
        if kind < self.p_empty:
            return self._empty()
        if kind < self.p_empty + self.p_simulated:
            item = self.simulated[self.rng.integers(len(self.simulated))]
        else:
            item = self.items[self.rng.choice(len(self.items), p=self.chance)]
        return self._annotated(item)

    def _annotated(self, item: Item) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scale, planes = self._warp(item)
        image, labels, distance = planes[0:1], planes[1:2], planes[2:3]  # each 1 y x
        image = self._intensity(image, labels, len(item.areas))
        foreground = (labels > 0).float()
        boundary = _two_objects_within(labels, 5)
        gap = _two_objects_within(labels, 9)
        areas = item.areas * scale**2
        small = torch.sqrt(400.0 / areas.clamp(min=1.0)).clamp(0.7, 3.0)
        small[0] = 1.0
        weight = small[labels.long()] + 2.0 * gap
        target = torch.cat((foreground, distance * foreground, boundary))
        return image, target, weight

    def _warp(self, item: Item) -> tuple[float, torch.Tensor]:
        """Cut a random view; return its scale and planes (3 y x)."""
        rng, size = self.rng, self.size
        height, width = item.planes.shape[1:]
        turn, scale, stretch = rng.integers(4) * np.pi / 2, 1.0, 1.0
        if rng.random() < 0.65:
            # Nuclei below 6 or above 110 pixels across are beyond what this network is for.
            across = float(np.sqrt(np.median(item.areas[1:]) * 4 / np.pi))
            limits = np.log([np.clip(6 / across, 0.5, 1.0), np.clip(110 / across, 1.0, 2.0)])
            scale = float(np.exp(rng.uniform(*limits)))
            stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
            turn = rng.uniform(0, 2 * np.pi)
        flip = rng.choice([-1.0, 1.0])
        reach = size / scale
        aim = item.centres[rng.integers(len(item.centres))] + rng.uniform(-0.5, 0.5, 2) * reach
        centre = [  # near a nucleus, and past the image's edge only if the image is too small
            float(np.clip(a, min(reach, n) / 2, n - min(reach, n) / 2)) - 0.5
            for a, n in zip(aim, (height, width), strict=True)
        ]
        steps = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        y, x = y / (scale * stretch), x * flip * stretch / scale
        cos, sin = float(np.cos(turn)), float(np.sin(turn))
        source_y = cos * y - sin * x + centre[0]
        source_x = sin * y + cos * x + centre[1]
        grid = torch.stack(  # y x 2, in grid_sample's -1..1 with pixel edges at the ends
            ((2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1), dim=-1
        )[None]
        kwargs = {"padding_mode": "reflection", "align_corners": False}
        smooth = F.grid_sample(item.planes[None, ::2], grid, mode="bilinear", **kwargs)[0]
        nearest = F.grid_sample(item.planes[None, 1:2], grid, mode="nearest", **kwargs)[0]
        return scale, torch.stack((smooth[0], nearest[0], smooth[1]))

    def _intensity(self, image: torch.Tensor, labels: torch.Tensor, n: int) -> torch.Tensor:
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
            image = image * (1 + rng.uniform(0.1, 0.6) * self._field())
        if rng.random() < 0.3:
            image = image + rng.uniform(0.05, 0.35) * (self._field() + 1)
        if rng.random() < 0.25:
            image = _blur(image, rng.uniform(0.4, 2.0))
        image = image * float(np.exp(rng.uniform(-0.5, 0.35))) + rng.uniform(-0.06, 0.1)
        if rng.random() < 0.5:
            image = image + self._noise(rng.uniform(0, 0.12)) * (
                image.clamp(min=0).sqrt() if rng.random() < 0.5 else 1.0
            )
        return image.clamp(*CLIP)

    def _empty(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """An image without nuclei: noise, a smooth background, or one flat value."""
        rng, size = self.rng, self.size
        image = torch.zeros(1, size, size)
        if rng.random() < 0.85:
            noise = self._noise(1.0)
            if rng.random() < 0.5:
                noise = _blur(noise, rng.uniform(0.3, 1.2))
            image = noise + rng.uniform(0, 3) * (rng.random() < 0.5) * self._field()
            low, high = np.percentile(image, [LOW, HIGH])
            image = (image - low) / (high - low + EPS)
        zeros = torch.zeros(3, size, size)
        return image.clamp(*CLIP), zeros, torch.ones(1, size, size)

    def _noise(self, sigma: float) -> torch.Tensor:
        shape = (1, self.size, self.size)
        return torch.from_numpy(self.rng.standard_normal(shape, np.float32)) * sigma

    def _field(self) -> torch.Tensor:
        """A smooth random surface in about -1..1 (1 y x)."""
        n = int(self.rng.integers(2, 5))
        knots = torch.from_numpy(self.rng.uniform(-1, 1, (1, 1, n, n)).astype(np.float32))
        size = (self.size, self.size)
        return F.interpolate(knots, size, mode="bicubic", align_corners=True)[0]


def _two_objects_within(labels: torch.Tensor, window: int) -> torch.Tensor:
    """1 where a window x window neighbourhood holds two different objects, else 0 (1 y x)."""
    largest = F.max_pool2d(labels, window, 1, window // 2)
    smallest = -F.max_pool2d(-labels.masked_fill(labels == 0, 1e9), window, 1, window // 2)
    return ((largest > 0) & (largest != smallest)).float()


def _blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    return torch.from_numpy(ndi.gaussian_filter(image[0].numpy(), sigma, mode="mirror"))[None]
