"""Image files: in as `Image`, read lazily, with axes, pixel size and channel names; and out.

In: TIFF, OME-TIFF, ImageJ hyperstack, PNG, JPEG, npy, OME-Zarr 0.4 and 0.5, with `[bioio]` CZI, LIF
and ND2, and what entry points of the group `biozoo.images` add. Out: OME-TIFF, OME-Zarr 0.5, npy,
PNG for previews. Nothing about axes is guessed: they come from the file's metadata, from the
caller, or from the format (a picture is yx or yxc).
"""

from __future__ import annotations

from .base import Image, ImageReader
from .find import find_images, is_image
from .preview import preview
from .readers import open_image
from .write import write_image

__all__ = [
    "Image",
    "ImageReader",
    "find_images",
    "is_image",
    "open_image",
    "preview",
    "write_image",
]
