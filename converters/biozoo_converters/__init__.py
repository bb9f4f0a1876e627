"""Networks to portable packages: packing, weights format to weights format, each with proof.

zoo pack net.py:Net --weights w.pt --sample x.npy --axes bcyx ... -o out.zip
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["pack"]

if TYPE_CHECKING:
    from .packing import pack
else:
    _WHERE = {"pack": ("packing", "pack")}

    def __getattr__(name):
        if name not in _WHERE:
            raise AttributeError(f"module 'biozoo_converters' has no attribute {name!r}")
        module, attribute = _WHERE[name]
        value = getattr(import_module(f".{module}", __name__), attribute)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
