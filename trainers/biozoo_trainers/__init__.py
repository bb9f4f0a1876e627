"""Retraining by one rule for every model, with a gate; live mode.

    report = biozoo_trainers.retrain("nuclei-fluo", "images/", "labels/", output="mine.zip")

Names are imported when first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__all__ = [
    "Control",
    "CurveReport",
    "GateReport",
    "Hook",
    "Lineage",
    "LiveModel",
    "Naming",
    "Recipe",
    "RetrainReport",
    "TrainOptions",
    "curve",
    "infer_recipe",
    "open_live",
    "recipe_of",
    "retrain",
]

if TYPE_CHECKING:
    from .child_facts import Naming
    from .curves import CurveReport, curve
    from .gate import GateReport
    from .hooks import Hook
    from .inference import infer_recipe, recipe_of
    from .lineage import Lineage
    from .live import LiveModel, open_live
    from .recipe import Recipe
    from .report import RetrainReport
    from .retraining import retrain
    from .training import Control, TrainOptions
else:
    _HOME = {
        "Control": "training",
        "CurveReport": "curves",
        "GateReport": "gate",
        "Hook": "hooks",
        "Lineage": "lineage",
        "LiveModel": "live",
        "Naming": "child_facts",
        "Recipe": "recipe",
        "RetrainReport": "report",
        "TrainOptions": "training",
        "curve": "curves",
        "infer_recipe": "inference",
        "open_live": "live",
        "recipe_of": "inference",
        "retrain": "retraining",
    }

    def __getattr__(name):
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f".{_HOME[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__():
        return sorted(__all__)
