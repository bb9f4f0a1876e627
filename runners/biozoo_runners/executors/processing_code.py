"""Custom processing steps in the child: the author's functions, made once and called per image.

The facts are ``{"steps": [{"source", "text", "callable", "kwargs"}, ...]}``. A call gives the
number of a step and the tensor, and gets the processed tensor.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from ..isolated.executor import NotFitting
from ..isolated.source import module_of

__all__ = ["ProcessingCode"]


class ProcessingCode:
    """All custom steps of one package, in the order in which they were given."""

    def __init__(self, facts: Mapping[str, Any], scratch: Path) -> None:
        """Run each source once and make each step's function."""
        modules: dict[tuple[str, str], ModuleType] = {}
        self._operations = []
        for step in facts["steps"]:
            key = (step["source"], step["text"])
            if key not in modules:
                modules[key] = module_of(step["text"], step["source"])
            self._operations.append(_operation(modules[key], step))

    def describe(self) -> dict[str, Any]:
        """How many steps there are."""
        return {"version": "", "providers": [], "threads": 0, "steps": len(self._operations)}

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Process one tensor; the first array holds the number of the step."""
        number, tensor = arrays
        assert number is not None
        assert tensor is not None
        given = np.array(tensor)  # its own: it may change or keep it
        made = self._operations[int(number)](given)
        if not isinstance(made, np.ndarray):
            got = f"{type(made).__module__}.{type(made).__qualname__}".removeprefix("builtins.")
            raise NotFitting(f"it returned {got} and not a numpy array")
        if made.dtype.kind not in "biuf":
            raise NotFitting(f"it returned an array of {made.dtype} and not of real numbers")
        return [made]


def _operation(module: ModuleType, step: Mapping[str, Any]) -> Any:
    """``callable(**kwargs)``, which must be callable with one tensor."""
    name = step["callable"]
    factory = getattr(module, name, None)
    if not callable(factory):
        is_what = "is no class or function in it" if hasattr(module, name) else "is not in it"
        raise NotFitting(f"'{name}' {is_what}")
    operation = factory(**step["kwargs"])
    if not callable(operation):
        raise NotFitting(
            f"'{name}' makes {type(operation).__name__}, which cannot be called with a tensor"
        )
    try:
        signature = inspect.signature(operation)
    except (TypeError, ValueError):  # a builtin that does not tell
        return operation
    try:
        signature.bind(None)
    except TypeError:
        raise NotFitting(
            f"'{name}' takes {signature}. It is called with one array, the tensor whose processing "
            "it is, as bioimageio.core does"
        ) from None
    return operation
