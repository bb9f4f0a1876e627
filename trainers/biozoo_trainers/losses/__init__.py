"""How far a network's output is from its target, one module per loss.

`make_loss` makes the loss of a recipe; torch is imported with the module of the loss.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .base import Loss

__all__ = ["make_loss"]


def make_loss(kind: str, options: Mapping[str, Any] | None = None) -> Loss:
    """The loss of a recipe.

    Parameters
    ----------
    kind
        A name in the entry-point group ``biozoo.losses``.
    options
        What its class takes, by name.

    Raises
    ------
    NotFoundError
        If no loss has this name.
    UsageError
        If it does not take these options.
    BackendError
        If its module cannot be imported, as where torch is missing.
    """
    from biozoo.errors import UsageError
    from biozoo.plugins import load_one

    from ..making import build

    loss = build(load_one("biozoo.losses", kind), f"Loss '{kind}'", options or {})
    from .base import Loss

    if not isinstance(loss, Loss):
        raise UsageError(
            f"Loss '{kind}' makes a {type(loss).__name__}, expected a "
            "biozoo_trainers.losses.base.Loss. Ask its author to inherit from that."
        )
    return loss
