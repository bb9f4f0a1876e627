"""What the nucleus models are taught: foreground, distance to the edge, and where nuclei meet."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from .views import Batch, Item, Placement, ViewMaker, two_objects_within

CHANNEL_NAMES = ("foreground", "distance", "boundary")


class NucleusViews(ViewMaker):
    """Views of annotated nuclei; a model's own class adds how images vary.

    Parameters
    ----------
    items
        Real images, drawn with the probability that `simulated` and `empty` leave.
    simulated
        Simulated images.
    size, seed
        See `ViewMaker`.
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
        super().__init__(size=size, seed=seed)
        self.items, self.simulated = items, simulated
        self.p_simulated = p_simulated if simulated else 0.0
        self.p_empty = p_empty
        # Large images hold more to learn from, but must not drown the many small ones.
        pixels = np.array([i.labels.numel() for i in items], float)
        self.chance = np.sqrt(pixels) / np.sqrt(pixels).sum()

    def view(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Image, targets and weight (each c y x)."""
        kind = self.rng.random()
        if kind < self.p_empty:
            image = self.empty()
            return image, torch.zeros(3, self.size, self.size), torch.ones(1, self.size, self.size)
        if kind < self.p_empty + self.p_simulated:
            item = self.simulated[self.rng.integers(len(self.simulated))]
        else:
            item = self.items[self.rng.choice(len(self.items), p=self.chance)]
        place = self._place(item)
        image, labels, distance = self.warp(item, place)
        target, weight = targets(labels, distance, item, place.scale)
        return self.vary(image, labels, len(item.areas)), target, weight

    def vary(self, image: torch.Tensor, labels: torch.Tensor, n: int) -> torch.Tensor:
        """Vary the look of an image (c y x) with `n` - 1 nuclei in `labels` (1 y x)."""
        raise NotImplementedError

    def empty(self) -> torch.Tensor:
        """An image without nuclei (c y x)."""
        raise NotImplementedError

    def _place(self, item: Item) -> Placement:
        """Choose a view near a nucleus."""
        rng = self.rng
        turn, scale, stretch = rng.integers(4) * np.pi / 2, 1.0, 1.0
        if rng.random() < 0.65:
            # Nuclei below 6 or above 110 pixels across are beyond what these networks are for.
            across = float(np.sqrt(np.median(item.areas[1:]) * 4 / np.pi))
            limits = np.log([np.clip(6 / across, 0.5, 1.0), np.clip(110 / across, 1.0, 2.0)])
            scale = float(np.exp(rng.uniform(*limits)))
            stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
            turn = rng.uniform(0, 2 * np.pi)
        flip = rng.choice([-1.0, 1.0])
        aim = item.centres[rng.integers(len(item.centres))]
        aim = aim + rng.uniform(-0.5, 0.5, 2) * self.size / scale
        return Placement(self.clip_centre(aim, item, scale), scale, stretch, turn, flip)


def targets(
    labels: torch.Tensor, distance: torch.Tensor, item: Item, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Targets (3 y x, as `CHANNEL_NAMES`) and weight (1 y x) of a view at magnification `scale`.

    The distance is divided by each object's largest, so that large and small nuclei look alike to
    the watershed. Small nuclei and the gaps between nuclei count more, else they are lost first.
    """
    foreground = (labels > 0).float()
    boundary = two_objects_within(labels, 5)
    gap = two_objects_within(labels, 9)
    small = torch.sqrt(400.0 / (item.areas * scale**2).clamp(min=1.0)).clamp(0.7, 3.0)
    small[0] = 1.0
    weight = small[labels.long()] + 2.0 * gap
    normalised = (distance / (item.reach * scale)[labels.long()]).clamp(max=1) * foreground
    return torch.cat((foreground, normalised, boundary)), weight


def loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Weighted cross-entropy per channel, plus Dice for the two that are yes or no.

    The distance is a soft target of a cross-entropy, as the object probability of StarDist.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    inside = batch.target[:, 0:1]
    weight = torch.cat(
        (batch.weight, batch.weight * (1 + inside), batch.weight * (1 + batch.target[:, 2:3])), 1
    )
    cross = ((entropy * weight).mean(dim=(0, 2, 3)) * entropy.new_tensor([1.0, 1.5, 0.5])).sum()
    chance = torch.sigmoid(logits[:, ::2])  # b 2 y x: foreground, boundary
    target = batch.target[:, ::2]
    overlap = (chance * target).sum(dim=(0, 2, 3))
    dice = 1 - (2 * overlap + 1) / ((chance + target).sum(dim=(0, 2, 3)) + 1)
    return cross + (dice * dice.new_tensor([0.5, 0.25])).sum()
