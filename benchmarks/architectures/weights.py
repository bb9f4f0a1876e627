"""Weights that show something: repeatable, random, and such that the output varies.

A network as it is constructed is often blind: batch norms that have seen no data, layer scales of
1e-6, last layers of zeros. A comparison of two constants would prove nothing.
"""

from __future__ import annotations

import math
from typing import Any

__all__ = ["enliven"]

#: Below this a parameter that is the same everywhere is a switch that training would open.
_CLOSED = 1e-3


def enliven(module: Any, shape: tuple[int, ...], *, batches: int = 2) -> None:
    """Draw anew what is constant, then let batch norms see data.

    Parameters
    ----------
    module
        In evaluation mode; changed in place.
    shape
        Of one input, batch first; batches of two or four are made of it.
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
        kept = [m.momentum for m in norms]
        try:
            for m in norms:
                m.reset_running_stats()
                m.momentum = None  # the mean over all batches
                m.train()
            for _ in range(batches):
                count = 4 if math.prod(shape) < 2**16 else 2
                module(torch.randn((count, *shape[1:]), generator=generator))
        finally:
            for m, momentum in zip(norms, kept, strict=True):
                m.momentum = momentum
                m.eval()


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
