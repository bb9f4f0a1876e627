"""A network that needs no training: how steep an image is after a little smoothing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Edges(nn.Module):
    """Gaussian smoothing, then the length of the gradient."""

    def __init__(self, sigma: float = 1.5) -> None:
        super().__init__()
        radius = round(3 * sigma)
        at = torch.arange(-radius, radius + 1, dtype=torch.float32)
        line = torch.exp(-(at**2) / (2 * sigma**2))
        window = line[:, None] * line
        self.radius = radius
        self.register_buffer("smooth", (window / window.sum())[None, None])  # 1 1 y x
        slope = torch.tensor([[-1.0, 0.0, 1.0]] * 3) / 6
        self.register_buffer("slopes", torch.stack([slope, slope.T])[:, None])  # 2 1 y x

    def forward(self, x: Tensor) -> Tensor:
        """Take b 1 y x, give b 1 y x."""
        x = nn.functional.conv2d(x, self.smooth, padding=self.radius)
        return nn.functional.conv2d(x, self.slopes, padding=1).norm(dim=1, keepdim=True)
