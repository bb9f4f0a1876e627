"""Whose code a package would run, read from its raw description.

Two things in a description are Python code of its author: the architecture of a
`pytorch_state_dict` (a file of the package or a class of a library), and a `custom` processing
step. A package needs that code where it has no other weights, or where a step cannot be left out.
This is about the description alone; whether files are what was described is `verify`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

__all__ = ["Trust", "code_of", "trust_of"]

Trust = Literal["built-in", "no code", "untrusted code"]


def code_of(raw: Mapping[str, Any]) -> tuple[str, ...]:
    """What of the author's code would run, in words, empty where the package needs none.

    Examples
    --------
    >>> code_of({"weights": {"onnx": {"source": "w.onnx"}}})
    ()
    >>> code_of({"weights": {"pytorch_state_dict": {"architecture": "unet.py:UNet"}}})
    ('weights.pytorch_state_dict: architecture unet.py:UNet',)
    """
    return (*_processing(raw), *_weights(raw))


def trust_of(raw: Mapping[str, Any], *, built_in: bool = False) -> Trust:
    """The trust state in the words of `zoo list`."""
    if built_in:
        return "built-in"
    return "untrusted code" if code_of(raw) else "no code"


def _processing(raw: Mapping[str, Any]) -> Iterator[str]:
    for side, kind in (("inputs", "preprocessing"), ("outputs", "postprocessing")):
        for tensor in _list(raw.get(side)):
            for i, step in enumerate(_list(tensor.get(kind))):
                if step.get("id", step.get("name")) == "custom":
                    name = tensor.get("id", tensor.get("name", "?"))
                    yield (
                        f"{side}.{name}.{kind}.{i}: custom step "
                        f"{step.get('callable', '?')} from {step.get('source', '?')}"
                    )


def _weights(raw: Mapping[str, Any]) -> Iterator[str]:
    weights = raw.get("weights")
    if not isinstance(weights, Mapping) or set(weights) != {"pytorch_state_dict"}:
        return
    entry = weights["pytorch_state_dict"]
    architecture = entry.get("architecture") if isinstance(entry, Mapping) else None
    if isinstance(architecture, Mapping):
        origin = architecture.get("source") or architecture.get("import_from") or "?"
        architecture = f"{origin}:{architecture.get('callable', '?')}"
    yield f"weights.pytorch_state_dict: architecture {architecture or raw.get('source', 'unknown')}"


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, Mapping)] if isinstance(value, list) else []
