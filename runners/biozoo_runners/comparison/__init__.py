"""Several models, at several scales, on one region of an image: side by side, and against labels.

    comparison = biozoo_runners.compare("cells.tif", labels="cells-labels.tif")
    print(comparison)
    comparison.write("compare-cells/")

`region` chooses the pixels, `candidates` the models that fit them, `comparing` runs these,
`judging` scores what they made (`scores` has the definitions), and a `Comparison` holds all of it;
`sheet` draws it as a picture, `page` as a page.
"""

from __future__ import annotations

from .comparing import SCALES, compare
from .result import Comparison, Entry, Skipped, targets

__all__ = ["SCALES", "Comparison", "Entry", "Skipped", "compare", "targets"]
