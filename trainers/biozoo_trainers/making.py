"""Plug-ins made from the kind and the options of a recipe."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biozoo.errors import UsageError

__all__ = ["build"]


def build(made: Any, what: str, options: Mapping[str, Any]) -> Any:
    """Call a plug-in's class with its options by name.

    Parameters
    ----------
    made
        The class, or a function that makes one.
    what
        How it is called in a message, as "Loss 'dice'".
    options
        Name -> value.

    Raises
    ------
    UsageError
        Naming the options that it does not know, and those that it does; or its own complaint.
    """
    import inspect

    known = list(inspect.signature(made).parameters)
    if unknown := [o for o in options if o not in known]:
        raise UsageError(
            f"{what} has no option {', '.join(map(repr, unknown))}. "
            f"Its options: {', '.join(known) or 'none'}."
        )
    try:
        return made(**options)
    except TypeError as exc:
        given = ", ".join(f"{k}={v!r}" for k, v in options.items()) or "none"
        raise UsageError(
            f"{what} cannot be made with the options {given}: {exc}. "
            f"Its options: {', '.join(known) or 'none'}."
        ) from exc
