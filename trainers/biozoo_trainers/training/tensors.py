"""Small things that are done with tensors in several places."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import torch

from ..patches import Batch

__all__ = ["cropped", "loses_edges", "optimiser_of", "put", "size_text", "tensors_of", "volume"]


def tensors_of(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    """State-dict name -> tensor, parameters and buffers; TorchScript may hold other values too."""
    return {n: v for n, v in module.state_dict().items() if isinstance(v, torch.Tensor)}


@torch.no_grad()
def put(module: torch.nn.Module, values: Mapping[str, torch.Tensor]) -> None:
    """Copy values into a module, in place, wherever it lies."""
    own = module.state_dict()
    for name, value in values.items():
        own[name].copy_(value)


def optimiser_of(
    kind: str, parameters: Sequence[torch.nn.Parameter], rate: float, decay: float
) -> torch.optim.Optimizer:
    """AdamW, or SGD with momentum ("sgd"); biases and factors of norms are not pulled towards 0."""
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if kind == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=rate)


def cropped(batch: Batch, logits: torch.Tensor) -> Batch:
    """The middle of targets and weights, where the network gives less than it sees."""
    have, want = batch.target.shape[2:], logits.shape[2:]
    if have == want:
        return batch
    middle = (slice((h - w) // 2, (h - w) // 2 + w) for h, w in zip(have, want, strict=True))
    inside: tuple[Any, ...] = (..., *middle)
    return Batch(batch.image, batch.target[inside], batch.weight[inside])


def loses_edges(made: Sequence[int], given: Sequence[int]) -> bool:
    """Whether an output is the middle of the input: as much is lost on every side."""
    lost = {g - m for g, m in zip(given[2:], made[2:], strict=True)}
    return len(lost) == 1 and all(0 < n < min(given[2:]) // 2 for n in lost)


def size_text(size: Mapping[str, int]) -> str:
    """``192 x 192``."""
    return " x ".join(map(str, size.values()))


def volume(size: Mapping[str, int]) -> int:
    """Pixels of a patch."""
    return prod(size.values())
