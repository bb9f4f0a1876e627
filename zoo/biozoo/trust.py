"""The trust state of a package: whether it would run its author's code, in the words of `zoo list`.

A package needs that code where it has no other weights, or where a step cannot be left out. What
the code is stands in `biozoo.code`, who allowed it in `biozoo.consent`; this is about the
description alone, as it is kept of a package and of the collection's index.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from .code import needed

__all__ = ["Trust", "code_of", "trust_of"]

Trust = Literal["built-in", "no code", "untrusted code", "trusted code"]


def code_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the author's code would have to run, in words, empty where the package needs none.

    Examples
    --------
    >>> code_of({"weights": {"onnx": {"source": "w.onnx"}}})
    ()
    >>> code_of({"weights": {"pytorch_state_dict": {"architecture": "unet.py:UNet"}}})
    ('weights.pytorch_state_dict: architecture unet.py:UNet',)
    """
    return tuple(map(str, needed(raw)))


def trust_of(raw: Mapping[str, Any], *, built_in: bool = False) -> Trust:
    """The trust state as the description tells it; nobody's consent is looked at."""
    if built_in:
        return "built-in"
    return "untrusted code" if needed(raw) else "no code"
