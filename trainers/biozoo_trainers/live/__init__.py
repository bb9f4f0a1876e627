"""Live mode: the last layer of a model refitted to what a person paints, without torch.

    with open_live(biozoo.open("nuclei-fluo")) as live:
        features = live.features("cells.tif", channel="gray")     # once per region
        head = live.refit(features, scribbles)                     # after each stroke
        result = live.result(features, head)                       # maps and labels
        live.child(head, Path("mine"), facts=ChildFacts(name="Nuclei, my stain"))

Names are imported when first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = ["ChildFacts", "Features", "Head", "LiveModel", "LiveResult", "open_live"]

if TYPE_CHECKING:
    from .child import ChildFacts
    from .features import Features
    from .head import Head
    from .model import LiveModel, LiveResult, open_live
else:
    _HOME = {
        "ChildFacts": "child",
        "Features": "features",
        "Head": "head",
        "LiveModel": "model",
        "LiveResult": "model",
        "open_live": "model",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted(__all__)
