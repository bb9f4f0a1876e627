"""Weights that show something: repeatable, random, and such that the output varies.

A network as it is constructed is often blind: batch norms that have seen no data, layer scales of
1e-6, last layers of zeros. A comparison of two constants would prove nothing.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["enliven", "image"]

#: Below this a parameter that is the same everywhere is a switch that training would open.
_CLOSED = 1e-3


def enliven(module: Any, shape: tuple[int, ...], *, batches: int = 2) -> None:
    """Draw anew what is constant, then let batch norms see images.

    Parameters
    ----------
    module
        In evaluation mode; changed in place.
    shape
        Of the sample, batch first. Batch norms see larger images where the network takes them:
        the few pixels of a deep level of a small image, most of them padding, are no statistics.
        Variances stay half way to the 1 that they are constructed with: a deep random network
        normalised at every layer amplifies rounding a thousandfold, a trained one does not.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in module.parameters():
            if parameter.requires_grad and parameter.is_floating_point():
                _draw(parameter, generator)
        norms = [
            m for m in module.modules() if isinstance(m, torch.nn.modules.batchnorm._BatchNorm)
        ]
        norms = [m for m in norms if m.track_running_stats and m.running_mean is not None]
        if not norms:
            return
        larger = next(s for s in _larger(shape) if _takes(module, s))
        kept = [m.momentum for m in norms]
        try:
            for m in norms:
                m.reset_running_stats()
                m.momentum = None  # the mean over all batches
                m.train()
            for seed in range(batches):
                module(torch.from_numpy(image((2, *larger[1:]), seed)))
        finally:
            for m, momentum in zip(norms, kept, strict=True):
                m.running_var.lerp_(torch.ones_like(m.running_var), 0.5)
                m.momentum = momentum
                m.eval()


def image(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Noise at two scales, float32: fine grain on soft blobs, as an image has them."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    soft = gaussian_filter(rng.normal(size=shape), (0, 0, *[4] * (len(shape) - 2)))
    soft /= soft.std()
    return (0.8 * soft + 0.4 * rng.normal(size=shape)).astype(np.float32)


def _larger(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The shape with larger edges, then as it is."""
    most, factor = (256, 4) if len(shape) == 4 else (64, 2)
    return [(*shape[:2], *(max(n, min(n * factor, most // n * n)) for n in shape[2:])), shape]


def _takes(module: Any, shape: tuple[int, ...]) -> bool:
    import torch

    try:
        module(torch.zeros(shape))
    except Exception:
        return False
    return True


def _draw(parameter: Any, generator: Any) -> None:
    """Spread a parameter that is one number everywhere; leave the others."""
    import torch

    values = parameter.detach()
    if values.numel() < 2 or bool((values != values.reshape(-1)[0]).any()):
        return
    level = float(values.reshape(-1)[0])
    noise = torch.randn(values.shape, generator=generator, dtype=torch.float32)
    if abs(level) < _CLOSED:
        fan_in = math.prod(values.shape[1:]) if values.dim() > 1 else 100
        parameter.copy_(noise / math.sqrt(fan_in))
    else:
        parameter.copy_(level * (1 + 0.1 * noise))
