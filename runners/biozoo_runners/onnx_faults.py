"""What to do about an ONNX file that ONNX Runtime does not load, from the words it says."""

from __future__ import annotations

import re

__all__ = ["load_hint"]


def load_hint(cause: str) -> str:
    """What to do; `cause` is the text of ONNX Runtime's exception."""
    if found := re.search(r"IR version: (\d+), max supported IR version: (\d+)", cause):
        return (
            f"It is written in version {found[1]} of ONNX's file format, this onnxruntime reads up "
            f"to {found[2]}. {_NEWER}"
        )
    if found := re.search(r"Opset (\d+) is under development|opset (\d+) .*not supported", cause):
        return (
            f"It is written in ONNX operator set {found[1] or found[2]}, which this onnxruntime "
            f"does not know. {_NEWER}"
        )
    if (
        (found := re.search(r"([\w.]+:[\w.]+)\(-?\d+\) is not a registered function", cause))
        or (found := re.search(r"No opset import for domain '([\w.]+)'", cause))
    ):  # fmt: skip
        return (
            f"It calls operators of its author's own ({found[1]}): code that is not part of ONNX "
            "and is not loaded. Ask the package's author for weights of standard operators."
        )
    if found := re.search(r"No Op registered for (\w+)|No schema registered for (\w+)", cause):
        return f"It calls the operator {found[1] or found[2]}, which is unknown here. {_NEWER}"
    if found := re.search(r"Could not find an implementation for (\w+)\((\d+)\)", cause):
        return (
            f"This onnxruntime cannot compute {found[1]} as operator set {found[2]} has it, or not "
            "in this type. Ask the package's author to export with another operator set."
        )
    return "Fetch the package again and run `zoo verify` on it, or install a newer onnxruntime."


_NEWER = (
    "Install a newer onnxruntime, or ask the package's author to export with an older operator set."
)
