"""Networks to portable packages: packing, weights format to weights format, each with proof.

zoo pack net.py:Net --weights w.pt --sample x.npy --axes bcyx ... -o out.zip

From the bottom: `networks` (an author's code or file, run), `exporting` (to ONNX), `proof` (whether
two compute the same), `probing` (what running one tells), `conversion` (one weights format to
another), `packing`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

__all__ = ["Attempt", "Converter", "Job", "pack", "to_module"]

if TYPE_CHECKING:
    from .conversion.base import Attempt, Converter, Job
    from .conversion.onnx_to_torch import to_module
    from .packing.build import pack
else:
    _WHERE = {
        "Attempt": "conversion.base",
        "Converter": "conversion.base",
        "Job": "conversion.base",
        "pack": "packing.build",
        "to_module": "conversion.onnx_to_torch",
    }

    def __getattr__(name):
        if name not in _WHERE:
            raise AttributeError(f"module 'biozoo_converters' has no attribute {name!r}")
        value = getattr(import_module(f".{_WHERE[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
