"""What people paint on images: labels on disk, edited stroke by stroke. Knows nothing of HTTP.

    annotations = Annotations(zoo.home / "annotations")
    annotation = annotations.get(annotation_id, owner)
    annotation.kind, annotation.version
    annotation.read({"y": (0, 512), "x": (0, 512)})     # xr.DataArray, dims annotation.facts.dims
    biozoo_runners.open_image(annotation.path)          # the same pixels, lazily

Data flows one way: an edit comes as a line and a tool (`model`), the tool drafts new blocks
(`tools`, `shapes`, `draft`), the annotation writes them as one step of its history (`annotation`,
`history`, `blocks`) and tells where pixels changed.
"""

from __future__ import annotations

from .annotation import Annotation
from .model import (
    FIRST_CLASSES,
    AnnotationStateError,
    Change,
    ClassLabel,
    Counts,
    Done,
    Edit,
    Facts,
    Kind,
    Plane,
    Tool,
    color_of,
)
from .starting import Labels, Lying, copied
from .store import Annotations

__all__ = [
    "FIRST_CLASSES",
    "Annotation",
    "AnnotationStateError",
    "Annotations",
    "Change",
    "ClassLabel",
    "Counts",
    "Done",
    "Edit",
    "Facts",
    "Kind",
    "Labels",
    "Lying",
    "Plane",
    "Tool",
    "color_of",
    "copied",
]
