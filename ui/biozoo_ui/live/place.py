"""Where in an image live mode works: what is seen, cut as a preview is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import UsageError

from ..jobs.images import open_images
from ..jobs.region import Range, View, region_of

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Image

    from ..jobs.model import JobImage


@dataclass(frozen=True)
class Place:
    """An opened image and the part of it that is seen.

    Attributes
    ----------
    region
        First and the one after the last position, by axis of the image.
    whole
        Whether the model sees in it all that it would see in the whole image.
    """

    image: Image
    region: Mapping[str, Range]
    whole: bool


def place_of(package: ModelPackage, source: JobImage, view: View) -> Place:
    """What is seen of an image, at most about a megapixel; no pixels are read.

    Raises
    ------
    UsageError
        The view holds no part of the image, or the model sees several images.
    BiozooError
        As `biozoo_runners.open_image`.
    """
    from biozoo_runners.sizes import geometry

    model = geometry(package.descr)
    needed = [t.id for t in model.inputs if not t.optional]
    if len(needed) > 1:
        raise UsageError(
            f"Live mode works with models that see one image; '{package.id}' sees {len(needed)}: "
            f"{', '.join(needed)}. Choose another model."
        )
    opened = open_images({"": source})
    assert not isinstance(opened, dict)
    region = region_of(model, opened, view)
    own = {"y", "x"} | {axis for tensor in model.inputs for axis in tensor.dims}
    whole = all(b - a == opened.sizes[axis] for axis, (a, b) in region.items() if axis in own)
    return Place(opened, region, whole)
