"""Which parameters are trained, and which layers stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import torch

from biozoo.errors import UsageError, closest

if TYPE_CHECKING:
    from ..recipe import Recipe

__all__ = ["chosen_parameters", "keep_statistics"]


def chosen_parameters(
    module: torch.nn.Module, recipe: Recipe, sample: torch.Tensor
) -> list[torch.nn.Parameter]:
    """The parameters that are trained; all others stop taking gradients.

    Parameters
    ----------
    module
        From preprocessed pixels to logits.
    sample
        An input: the order of the layers is that in which they are called.

    Raises
    ------
    UsageError
        A pattern fits no parameter, or none is left.
    """
    named = dict(module.named_parameters())
    frozen: set[str] = set()
    if recipe.trainable == "head":
        layers = _called(module, sample)
        frozen = set(named) - set(layers[-1][0] if layers else list(named)[-2:])
    elif recipe.freeze == "encoder":
        frozen = _encoder(module, sample, list(named))
    elif recipe.freeze != "none":
        for pattern in recipe.freeze:
            fits = {n for n in named if fnmatchcase(_plain(n), pattern)}
            if not fits:
                near = closest(pattern, [_plain(n) for n in named])
                raise UsageError(
                    f"The recipe freezes '{pattern}', which fits no parameter. There are "
                    f"{', '.join(near or [_plain(n) for n in list(named)[:6]])}, ..."
                )
            frozen |= fits
    for name in frozen & set(named):
        named[name].requires_grad_(False)
    kept = [p for p in named.values() if p.requires_grad]
    if not kept:
        raise UsageError("The recipe freezes every parameter: there is nothing to train.")
    return kept


def keep_statistics(module: torch.nn.Module) -> None:
    """Training mode, with batch normalisation left in evaluation mode.

    A few patches say less of the mean and spread of an activation than what was measured over the
    whole first training.
    """
    for part in module.modules():
        name = getattr(part, "original_name", type(part).__name__)
        if "BatchNorm" in str(name):
            part.eval()


def _encoder(module: torch.nn.Module, sample: torch.Tensor, names: Sequence[str]) -> set[str]:
    """Parameters of the layers up to the coarsest; where that is not seen, the first half."""
    layers = _called(module, sample)
    if not layers:
        return set(names[: len(names) // 2])
    sizes = [size for _, size in layers]
    last = max(n for n, size in enumerate(sizes) if size == min(sizes))
    if min(sizes) == max(sizes):
        last = len(layers) // 2 - 1
    return {name for own, _ in layers[: last + 1] for name in own}


def _called(module: torch.nn.Module, sample: torch.Tensor) -> list[tuple[list[str], int]]:
    """Layers with parameters of their own in the order of their first call: names, output size.

    Empty for TorchScript, which does not tell.
    """
    found: dict[str, tuple[list[str], int]] = {}
    handles = []
    for name, part in module.named_modules():
        own = [f"{name}.{n}" for n, _ in part.named_parameters(recurse=False)]
        if not own or isinstance(part, torch.jit.ScriptModule):
            continue

        def note(_: Any, given: Any, made: Any, name: str = name, own: list[str] = own) -> None:
            tensor = made[0] if isinstance(made, tuple) else made
            found.setdefault(name, (own, int(tensor[0, 0].numel()) if tensor.ndim > 2 else 0))

        handles.append(part.register_forward_hook(note))
    try:
        with torch.no_grad():
            module(sample)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _plain(name: str) -> str:
    """A parameter's name without what was put around the network here."""
    return name.removeprefix("network.").removeprefix("network.")
