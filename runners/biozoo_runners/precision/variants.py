"""Converted ONNX weights that a package holds beside its own: ``config.biozoo.variants``.

`zoo convert --to float16|int8` makes them (`biozoo_converters.conversion.precision`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BackendError

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["variant_file", "variants"]

#: What ONNX weights are converted to.
KINDS = ("float16", "int8")


def variants(package: ModelPackage) -> dict[str, str]:
    """Precision -> "" where the package has a variant of it, else why it cannot be run."""
    here = _described(package)
    return {
        kind: ""
        if kind in here
        else f"the package has no {kind} variant; zoo convert {package.id} --to {kind} makes one "
        "where it agrees and is faster"
        for kind in KINDS
    }


def variant_file(package: ModelPackage, precision: str) -> Path:
    """The weights file of a variant; an attachment, so its hash was verified with the package.

    Raises
    ------
    BackendError
        The package has no such variant.
    MissingFileError
        Its file is not there.
    """
    entry = _described(package).get(precision)
    if entry is None:
        raise BackendError(f"Model '{package.id}': {variants(package).get(precision, precision)}.")
    return package.path(entry["source"])


def _described(package: ModelPackage) -> dict[str, Mapping[str, Any]]:
    """The entries that name a file; others are as if they were not there."""
    own = (package.raw.get("config") or {}).get("biozoo") or {}
    found = own.get("variants") if isinstance(own, Mapping) else None
    if not isinstance(found, Mapping):
        return {}
    return {
        str(kind): entry
        for kind, entry in found.items()
        if isinstance(entry, Mapping) and entry.get("source")
    }
