"""A small U-Net in two or three dimensions, the network that benchmarks of backends execute.

Also the architecture source of the benchmark's `pytorch_state_dict` package, so it imports nothing
but torch.
"""

from __future__ import annotations

import torch
from torch import nn


def block(nd: int, n_in: int, n_out: int) -> nn.Sequential:
    """Two 3-pixel convolutions, each with ReLU."""
    conv = nn.Conv2d if nd == 2 else nn.Conv3d
    return nn.Sequential(
        conv(n_in, n_out, 3, padding=1), nn.ReLU(), conv(n_out, n_out, 3, padding=1), nn.ReLU()
    )


class UNet(nn.Module):
    """Padded convolutions, max pooling, transposed convolutions; one channel in, one out.

    Parameters
    ----------
    nd
        2 or 3 space axes; sizes must be multiples of ``2 ** (levels - 1)``.
    base
        Channels at full resolution; each level doubles them.
    levels
        Resolution levels.
    """

    def __init__(self, nd: int = 2, base: int = 16, levels: int = 3) -> None:
        super().__init__()
        up = nn.ConvTranspose2d if nd == 2 else nn.ConvTranspose3d
        widths = [base * 2**i for i in range(levels)]
        self.down = nn.ModuleList(
            block(nd, n_in, n) for n_in, n in zip([1, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2) if nd == 2 else nn.MaxPool3d(2)
        self.up = nn.ModuleList(
            up(2 * n, n, kernel_size=2, stride=2) for n in reversed(widths[:-1])
        )
        self.join = nn.ModuleList(block(nd, 2 * n, n) for n in reversed(widths[:-1]))
        self.head = (nn.Conv2d if nd == 2 else nn.Conv3d)(base, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(batch, 1, [z,] y, x) float32 to the same shape."""
        kept: list[torch.Tensor] = []
        for i, down in enumerate(self.down):
            x = down(x if i == 0 else self.pool(x))
            kept.append(x)
        level = len(kept) - 2
        for up, join in zip(self.up, self.join):  # noqa: B905  TorchScript knows no `strict`
            x = join(torch.cat([kept[level], up(x)], 1))
            level -= 1
        return torch.sigmoid(self.head(x))
