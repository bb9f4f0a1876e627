"""The networks of the built-in models: small 2D U-Nets of plain operators.

Only Conv, ReLU, MaxPool, ConvTranspose, Concat, Sub and Sigmoid are used, so that the exported ONNX
graph runs in every runtime (browser included) and can be turned back into a trainable module. This
file imports torch alone: `zoo pack` loads it by its path.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions with ReLU, and with batch normalisation while it is trained."""

    def __init__(self, n_in: int, n_out: int, *, fused: bool = False) -> None:
        layers: list[nn.Module] = []
        for n in (n_in, n_out):
            layers.append(nn.Conv2d(n, n_out, 3, padding=1, bias=fused))
            if not fused:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padded convolutions and transposed up-convolutions.

    Parameters
    ----------
    n_in, n_out
        Input and output channels.
    widths
        Feature channels per resolution level, finest first. Image sizes must be multiples of
        ``2 ** (len(widths) - 1)``.
    fused
        Without batch normalisation, as `fuse_batch_norm` leaves a trained network.
    """

    def __init__(
        self, n_in: int, n_out: int, widths: Sequence[int], *, fused: bool = False
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            ConvBlock(a, b, fused=fused) for a, b in itertools.pairwise((n_in, *widths))
        )
        pairs = list(itertools.pairwise(widths))[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2) for fine, coarse in pairs
        )
        self.decoder = nn.ModuleList(ConvBlock(2 * fine, fine, fused=fused) for fine, _ in pairs)
        self.head = nn.Conv2d(widths[0], n_out, kernel_size=1)
        self.pool = nn.MaxPool2d(2)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Network output before the sigmoid; the losses work on it (b n_out y x)."""
        skips = []
        for i, block in enumerate(self.encoder):
            x = block(x if i == 0 else self.pool(x))  # b c y/2^i x/2^i
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat((up(x), skips.pop()), dim=1))
        result: torch.Tensor = self.head(x)
        return result

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (b n_in y x, float32) to maps in 0..1 (b n_out y x)."""
        return torch.sigmoid(self.logits(x))


class MembraneUNet(UNet):
    """A U-Net that gives membrane, its complement (the cells' inside), and distance.

    The complement is there because objects are made from a map of what belongs to one.
    """

    def __init__(self, n_in: int, widths: Sequence[int], *, fused: bool = False) -> None:
        super().__init__(n_in, 2, widths, fused=fused)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (b n_in y x, float32) to maps in 0..1 (b 3 y x)."""
        maps = torch.sigmoid(self.logits(x))
        membrane, distance = maps[:, 0:1], maps[:, 1:2]
        return torch.cat((membrane, 1 - membrane, distance), dim=1)


def fuse_batch_norm(model: nn.Module) -> nn.Module:
    """Fold every batch normalisation of `model` (in evaluation mode) into its convolution.

    The result computes the same and has fewer operators; `model` itself is changed, and its
    parameters then have the names of a network made with ``fused=True``.
    """
    for module in model.modules():
        if isinstance(module, ConvBlock):
            layers = list(module)
            fused: list[nn.Module] = []
            for layer in layers:
                if isinstance(layer, nn.BatchNorm2d):
                    fused[-1] = fuse_conv_bn_eval(fused[-1], layer)
                else:
                    fused.append(layer)
            for name in list(module._modules):
                delattr(module, name)
            for i, layer in enumerate(fused):
                module.add_module(str(i), layer)
    return model
