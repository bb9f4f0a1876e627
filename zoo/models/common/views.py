"""Annotated images in memory, and random views of them.

A view is made by one warp (crop, turn, flip, scale, bend), so image and labels stay aligned. All
random numbers come from one generator.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage as ndi

EPS = 1e-6


@dataclass(frozen=True)
class Item:
    """One annotated image, ready to be warped.

    Attributes
    ----------
    image
        Scaled image, float32 (c y x).
    labels
        0 background, 1..n objects, float32 (1 y x).
    distance
        Distance of each pixel to the edge of its own object in pixels, float32 (1 y x).
    areas, reach
        Area of each label in pixels, and its largest distance; background first (labels).
    centres
        Position of each object, float (objects 2).
    """

    image: torch.Tensor
    labels: torch.Tensor
    distance: torch.Tensor
    areas: torch.Tensor
    reach: torch.Tensor
    centres: np.ndarray


@dataclass(frozen=True)
class Batch:
    """Inputs and targets of one training step, all float32 (b c y x)."""

    image: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor  # b 1 y x


@dataclass(frozen=True)
class Placement:
    """How a view lies in its image.

    Attributes
    ----------
    centre
        Middle of the view in the image (y, x).
    scale, stretch
        Magnification, and its ratio between the two axes.
    turn
        Angle in radians.
    flip
        1.0, or -1.0 for a mirrored view.
    bend
        Largest displacement of an elastic deformation in pixels of the view.
    """

    centre: tuple[float, float]
    scale: float = 1.0
    stretch: float = 1.0
    turn: float = 0.0
    flip: float = 1.0
    bend: float = 0.0


def scale_range(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Scale the percentiles `low` and `high` of the whole image to 0 and 1, float32.

    The same as the packages' ``scale_range`` preprocessing over all axes.
    """
    bottom, top = np.percentile(image, [low, high])
    scaled: np.ndarray = (image.astype(np.float32) - bottom) / (top - bottom + EPS)
    return scaled.astype(np.float32)


def edge_distance(labels: np.ndarray) -> np.ndarray:
    """Distance of each pixel to the edge of its own object in pixels, float32 (y x).

    The image's edge is no object edge: runners mirror an image there, so a cut object continues.

    Parameters
    ----------
    labels
        0 background, 1..n objects (y x).
    """
    result = np.zeros(labels.shape, np.float32)
    for number, box in enumerate(ndi.find_objects(labels), start=1):
        if box is None:
            continue
        wide = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
        mask = labels[wide] == number
        result[wide][mask] = ndi.distance_transform_edt(mask)[mask]
    return result


def make_item(image: np.ndarray, labels: np.ndarray) -> Item:
    """Prepare one scaled image (float32, c y x) and its labels (integers, y x)."""
    labels = labels.astype(np.int64)
    distance = edge_distance(labels)
    n = int(labels.max())
    numbers = np.unique(labels[labels > 0])
    reach = np.zeros(n + 1, np.float32)
    np.maximum.at(reach, labels.ravel(), distance.ravel())
    return Item(
        torch.from_numpy(np.ascontiguousarray(image, np.float32)),
        torch.from_numpy(labels[None].astype(np.float32)),
        torch.from_numpy(distance[None]),
        torch.from_numpy(np.bincount(labels.ravel()).astype(np.float32)),
        torch.from_numpy(np.maximum(reach, EPS)),
        np.array(ndi.center_of_mass(labels > 0, labels, numbers)).reshape(-1, 2),
    )


class ViewMaker:
    """Makes random views; a model's own class says which, and with what targets.

    Parameters
    ----------
    size
        Edge of a view in pixels.
    seed
        Start of the random numbers.
    """

    def __init__(self, *, size: int, seed: int) -> None:
        self.size = size
        self.rng = np.random.default_rng(seed)

    def view(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """One view: image, target and weight (each c y x)."""
        raise NotImplementedError

    def batch(self, n: int) -> Batch:
        """Make `n` views."""
        views = [self.view() for _ in range(n)]
        return Batch(*(torch.stack(parts) for parts in zip(*views, strict=True)))

    def clip_centre(self, aim: np.ndarray, item: Item, scale: float) -> tuple[float, float]:
        """Move `aim` (y, x) so that the view passes the image's edge only where it must."""
        reach = self.size / scale
        y, x = (
            float(np.clip(a, min(reach, n) / 2, n - min(reach, n) / 2)) - 0.5
            for a, n in zip(aim, item.labels.shape[1:], strict=True)
        )
        return y, x

    def warp(self, item: Item, place: Placement) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cut a view: image (c y x), labels and distance in the view's pixels (1 y x)."""
        size, scale = self.size, place.scale
        height, width = item.labels.shape[1:]
        steps = torch.arange(size, dtype=torch.float32) - (size - 1) / 2
        y, x = torch.meshgrid(steps, steps, indexing="ij")
        if place.bend > 0:
            y, x = y + place.bend * self.field(3, 7)[0], x + place.bend * self.field(3, 7)[0]
        y, x = y / (scale * place.stretch), x * place.flip * place.stretch / scale
        cos, sin = float(np.cos(place.turn)), float(np.sin(place.turn))
        source_y = cos * y - sin * x + place.centre[0]
        source_x = sin * y + cos * x + place.centre[1]
        grid = torch.stack(  # y x 2, in grid_sample's -1..1 with pixel edges at the ends
            ((2 * source_x + 1) / width - 1, (2 * source_y + 1) / height - 1), dim=-1
        )[None]
        smooth = _sample(torch.cat((item.image, item.distance)), grid, "bilinear")
        labels = _sample(item.labels, grid, "nearest")
        return smooth[:-1], labels, smooth[-1:] * scale

    def noise(self, sigma: float, channels: int = 1) -> torch.Tensor:
        """Independent Gaussian noise (c y x)."""
        shape = (channels, self.size, self.size)
        return torch.from_numpy(self.rng.standard_normal(shape, np.float32)) * sigma

    def field(self, least: int = 2, most: int = 4) -> torch.Tensor:
        """A smooth random surface in about -1..1, from `least` to `most` knots (1 y x)."""
        n = int(self.rng.integers(least, most + 1))
        knots = torch.from_numpy(self.rng.uniform(-1, 1, (1, 1, n, n)).astype(np.float32))
        size = (self.size, self.size)
        return F.interpolate(knots, size, mode="bicubic", align_corners=True)[0]


def _sample(planes: torch.Tensor, grid: torch.Tensor, mode: str) -> torch.Tensor:
    return F.grid_sample(
        planes[None], grid, mode=mode, padding_mode="reflection", align_corners=False
    )[0]


def two_objects_within(labels: torch.Tensor, window: int) -> torch.Tensor:
    """1 where a window x window neighbourhood holds two different objects, else 0 (1 y x)."""
    largest = F.max_pool2d(labels, window, 1, window // 2)
    smallest = -F.max_pool2d(-labels.masked_fill(labels == 0, 1e9), window, 1, window // 2)
    return ((largest > 0) & (largest != smallest)).float()


def blur(image: torch.Tensor, sigma: float) -> torch.Tensor:
    """Gaussian blur of each channel (c y x)."""
    return torch.from_numpy(ndi.gaussian_filter(image.numpy(), (0, sigma, sigma), mode="mirror"))
