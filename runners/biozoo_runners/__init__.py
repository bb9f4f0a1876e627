"""How a model is executed: backends, tiles, statistics, images, and the report of a run.

    with biozoo_runners.load(biozoo.open("nuclei-fluo")) as model:
        result = model("cells.ome.tif")

Names are imported when first used, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

# `check` is a function and a module of the same name. Imported here once and for all, the name is
# the function: a later import of the module finds it loaded and leaves the name alone.
from .check import CheckReport, check

__all__ = [
    "Backend",
    "BatchReport",
    "CheckReport",
    "Comparison",
    "Image",
    "Progress",
    "Result",
    "RunReport",
    "Runner",
    "TestReport",
    "TilePlan",
    "check",
    "compare",
    "find_images",
    "geometry",
    "load",
    "open_image",
    "plan_tiles",
    "run_batch",
    "test_package",
    "write_image",
]

if TYPE_CHECKING:
    from .base import Backend
    from .batch import BatchReport, run_batch
    from .comparison import Comparison, compare
    from .images import Image, find_images, open_image, write_image
    from .pipeline import Progress, Result, Runner, load
    from .report import RunReport
    from .sizes import geometry
    from .testing import TestReport, test_package
    from .tiling import TilePlan, plan_tiles
else:
    _HOME = {
        "Backend": "base",
        "BatchReport": "batch",
        "run_batch": "batch",
        "Comparison": "comparison",
        "compare": "comparison",
        "Image": "images",
        "find_images": "images",
        "open_image": "images",
        "write_image": "images",
        "Progress": "pipeline",
        "Result": "pipeline",
        "Runner": "pipeline",
        "load": "pipeline",
        "RunReport": "report",
        "geometry": "sizes",
        "TestReport": "testing",
        "test_package": "testing",
        "TilePlan": "tiling",
        "plan_tiles": "tiling",
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
