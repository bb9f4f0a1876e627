"""The network of ``nuclei-fluo``: a small 2D U-Net of plain operators.

Only Conv, ReLU, MaxPool, ConvTranspose, Concat and Sigmoid are used, so that the exported ONNX
graph runs in every runtime (browser included) and can be turned back into a trainable module.
"""

from __future__ import annotations

import itertools

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

CHANNEL_NAMES = ("foreground", "distance", "boundary")
WIDTHS = (16, 32, 56, 72, 96)
# How objects are made from the channels; the thresholds are those best on the validation images.
INSTANCES = {
    "output": "probability",
    "foreground": "foreground",
    "distance": "distance",
    "foreground_threshold": 0.5,
    "seed_threshold": 0.6,
    "min_seed_size": 4,
    "min_size": 10,
    "fill_holes": True,
    "smoothing": 0.7,
}
STEP = 2 ** (len(WIDTHS) - 1)  # image sizes must be multiples of this


class ConvBlock(nn.Sequential):
    """Two 3 x 3 convolutions, each with batch normalisation and ReLU."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(
            nn.Conv2d(n_in, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, padding=1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
        )


class UNet(nn.Module):
    """U-Net (Ronneberger et al. 2015) with padded convolutions and transposed up-convolutions.

    Parameters
    ----------
    widths
        Feature channels per resolution level, finest first.
    n_out
        Output channels, by default one per name in `CHANNEL_NAMES`.
    """

    def __init__(self, widths: tuple[int, ...] = WIDTHS, n_out: int = len(CHANNEL_NAMES)) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(
            ConvBlock(n_in, n) for n_in, n in zip((1, *widths[:-1]), widths, strict=True)
        )
        pairs = list(itertools.pairwise(widths))[::-1]
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, kernel_size=2, stride=2) for fine, coarse in pairs
        )
        self.decoder = nn.ModuleList(ConvBlock(2 * fine, fine) for fine, _ in pairs)
        self.head = nn.Conv2d(widths[0], n_out, kernel_size=1)
        self.pool = nn.MaxPool2d(2)

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """Network output before the sigmoid; the losses work on it."""
        skips = []
        for i, block in enumerate(self.encoder):
            x = block(x if i == 0 else self.pool(x))  # b c y/2^i x/2^i
            skips.append(x)
        skips.pop()
        for up, block in zip(self.up, self.decoder, strict=True):
            x = block(torch.cat((up(x), skips.pop()), dim=1))
        return self.head(x)  # b 3 y x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map normalised images (b 1 y x, float32) to three maps in 0..1 (b 3 y x)."""
        return torch.sigmoid(self.logits(x))


def fuse_batch_norm(model: nn.Module) -> nn.Module:
    """Fold every batch normalisation of `model` (in evaluation mode) into its convolution.

    The result computes the same and has fewer operators; `model` itself is changed.
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
