"""A result that lies over an image, as previews and jobs answer it."""

from __future__ import annotations

from pydantic import BaseModel, Field

from ..jobs.model import Kind


class LayerAnswer(BaseModel):
    """What a result is called and shown as, and where it lies."""

    kind: Kind
    name: str
    at: dict[str, float] = Field(
        description="Where it begins, in pixels of the image by axis; it is everywhere along an "
        "axis that is not named."
    )
    scale: dict[str, float] | None = Field(
        description="How many pixels of the image one of its own covers; null where the same."
    )
