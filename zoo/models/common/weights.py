"""Weights between training, repository and package: fused, as ``weights.safetensors``."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch

from .unet import fuse_batch_norm


def release(recipe: ModuleType, checkpoint: Path, target: Path) -> int:
    """Write the averaged weights of a checkpoint without batch normalisation.

    Returns
    -------
    int
        The number of parameters.

    Raises
    ------
    RuntimeError
        If the network made of them computes something else than the trained one.
    """
    from safetensors.torch import save_file

    model = recipe.make_network().eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["average"])
    n_in = model.encoder[0][0].in_channels
    x = torch.rand((1, n_in, 96, 128), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = model(x)
    fuse_batch_norm(model)
    state = {k: v.detach().contiguous().clone() for k, v in model.state_dict().items()}
    save_file(state, target)
    target.chmod(0o644)  # safetensors leaves it to its owner alone
    with torch.inference_mode():
        difference = (load_network(recipe, target)(x) - expected).abs().max().item()
    if difference > 1e-4:
        raise RuntimeError(f"The fused network differs from the trained one by {difference}.")
    return sum(v.numel() for v in state.values())


def load_network(recipe: ModuleType, weights: Path) -> torch.nn.Module:
    """The network of a recipe with the weights of a ``weights.safetensors``, to be run."""
    from safetensors.torch import load_file

    model: torch.nn.Module = recipe.make_network(fused=True).eval()
    model.load_state_dict(load_file(weights))
    return model
