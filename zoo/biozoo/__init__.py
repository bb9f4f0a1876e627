"""biozoo: a local-first model zoo for bioimage analysis.

>>> import biozoo
>>> package = biozoo.open("nuclei-fluo")             # doctest: +SKIP
>>> [found.summary.id for found in biozoo.search("nuclei")]  # doctest: +SKIP

Names resolve when they are first used, so that importing biozoo costs next to nothing.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING

# Importing onnxruntime 1.32 writes an id and a database of usage data below ~/.cache, and the
# library holds an address for uploads, unless this is set before. biozoo promises no upload.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

# `search` is a function and a module of the same name. Importing it here binds the function once
# and for all; a later import of the module finds it loaded and leaves the name alone.
from .search import Found, search

__version__ = "0.1.0"

__all__ = [
    "BiozooError",
    "Collection",
    "Found",
    "ModelPackage",
    "ModelSummary",
    "Settings",
    "TensorSummary",
    "VerifyReport",
    "Zoo",
    "__version__",
    "builtin_packages",
    "list_packages",
    "open",
    "search",
]

if TYPE_CHECKING:
    from .collection import Collection
    from .errors import BiozooError
    from .package import ModelPackage, builtin_packages
    from .records import VerifyReport
    from .settings import Settings
    from .sources import open_package as open
    from .store import Zoo, list_packages
    from .summary import ModelSummary, TensorSummary
else:
    _WHERE = {
        "BiozooError": ("errors", "BiozooError"),
        "Collection": ("collection", "Collection"),
        "ModelPackage": ("package", "ModelPackage"),
        "ModelSummary": ("summary", "ModelSummary"),
        "Settings": ("settings", "Settings"),
        "TensorSummary": ("summary", "TensorSummary"),
        "VerifyReport": ("records", "VerifyReport"),
        "Zoo": ("store", "Zoo"),
        "builtin_packages": ("package", "builtin_packages"),
        "list_packages": ("store", "list_packages"),
        "open": ("sources", "open_package"),
    }

    def __getattr__(name):
        if name not in _WHERE:
            raise AttributeError(f"module 'biozoo' has no attribute {name!r}")
        module, attribute = _WHERE[name]
        value = getattr(import_module(f".{module}", __name__), attribute)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
