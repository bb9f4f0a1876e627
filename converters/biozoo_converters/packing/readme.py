"""A README for a package whose author gave none: what was measured, and what only they can add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["readme"]


def readme(raw: Mapping[str, Any], facts: Sequence[str]) -> str:
    """Markdown with a section Validation, as bioimage.io asks for one.

    Parameters
    ----------
    raw
        The description.
    facts
        What was found out of the network, a sentence each.
    """
    lines = [
        f"# {raw['name']}",
        "",
        raw["description"],
        "",
        "*This text was written by `zoo pack` from what it measured. The author has not yet "
        "added anything.*",
        "",
        "## Input",
        "",
        *(_tensor(t) for t in raw["inputs"]),
        "",
        *_steps("Before the network", raw["inputs"], "preprocessing"),
        "## Output",
        "",
        *(_tensor(t) for t in raw["outputs"]),
        "",
        *_steps("After the network", raw["outputs"], "postprocessing"),
        "## What was measured",
        "",
        *(f"- {fact}" for fact in facts),
        "",
        "## Training",
        "",
        "Not described by the author.",
        "",
        "## Validation",
        "",
        "The author reports no evaluation. Before you trust results, run the model on some of your "
        "own images that were annotated by hand, and compare: for objects, the share found at an "
        "overlap (IoU) of 0.5; for masks, the Dice score. Look at the worst images, not only at "
        "the mean.",
        "",
        "## Limits",
        "",
        "Not described by the author. Expect worse results on images that differ from the sample "
        "in this package: another microscope, stain, magnification or kind of specimen.",
        "",
    ]
    return "\n".join(lines)


def _tensor(tensor: Mapping[str, Any]) -> str:
    axes = []
    for axis in tensor["axes"]:
        size = axis.get("size")
        text = axis["id"]
        if axis["type"] == "channel":
            text += f" ({', '.join(axis['channel_names'])})"
        elif isinstance(size, int):
            text += f" (exactly {size})"
        elif isinstance(size, Mapping) and "step" in size:
            step = f" in steps of {size['step']}" if size["step"] > 1 else ""
            text += f" (from {size['min']}{step})"
        if axis.get("halo"):
            text += f" (context {axis['halo']})"
        axes.append(text)
    about = f": {tensor['description']}" if tensor.get("description") else ""
    return f"- `{tensor['id']}`{about}. Axes: {', '.join(axes)}."


def _steps(title: str, tensors: Sequence[Mapping[str, Any]], side: str) -> list[str]:
    rows = []
    for tensor in tensors:
        for step in tensor.get(side, ()):
            kwargs = ", ".join(f"{k} {_plain(v)}" for k, v in step.get("kwargs", {}).items())
            rows.append(f"- `{step['id']}`{f' ({kwargs})' if kwargs else ''}")
    return [f"{title}:", "", *rows, ""] if rows else []


def _plain(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
