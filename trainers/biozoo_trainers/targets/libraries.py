"""Libraries whose geometry some targets use, imported when such a target does its work."""

from __future__ import annotations

import warnings
from importlib import import_module
from types import ModuleType

__all__ = ["imported"]


def imported(module: str, *, extra: str, target: str) -> ModuleType:
    """A module of a library that is an extra of biozoo.

    Parameters
    ----------
    module
        Its full name.
    extra
        The extra, which is named as the library is.
    target
        The target that needs it.

    Raises
    ------
    MissingDependencyError
        With the line that installs it.
    """
    from biozoo_runners.steps_external import is_installed, missing_library

    if not is_installed(extra):
        raise missing_library(extra, f"Target '{target}'")
    kept = warnings.formatwarning  # stardist replaces how the whole program prints warnings
    try:
        return import_module(module)
    except ImportError as exc:
        raise missing_library(extra, f"Target '{target}'") from exc
    finally:
        warnings.formatwarning = kept
