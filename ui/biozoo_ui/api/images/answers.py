"""What the routes of images answer, as OpenAPI describes it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Number = int | float


class ChannelAnswer(BaseModel):
    """How a channel is to be shown at first."""

    name: str
    color: str = Field(description="#rrggbb")
    range: tuple[Number, Number] = Field(description="What the values can be.")
    contrast: tuple[Number, Number] = Field(description="What black and full colour should be.")


class LevelAnswer(BaseModel):
    """Pixels of a level along y and x."""

    y: int
    x: int


class SizesAnswer(BaseModel):
    """Pixels along each axis, 1 where the image has no such axis."""

    time: int
    channel: int
    z: int
    y: int
    x: int


class ImageAnswer(BaseModel):
    """An opened image."""

    id: str
    v: int = Field(description="Version, part of each tile's address; a correction raises it.")
    name: str
    kind: Literal["image", "labels"]
    dims: list[str] = Field(description="Axis ids in the file's order, slowest first.")
    sizes: SizesAnswer
    axes_known: bool = Field(description="False where the axes were guessed from the shape.")
    dtype: str = Field(description="Type of the pixels in the file.")
    pixels: Literal["uint8", "uint16", "uint32", "float32"] = Field(
        description="Type of the tiles."
    )
    pixel_size: dict[str, float] | None = Field(description="Along z, y and x, where known.")
    unit: str = Field(description="Of the pixel size.")
    channels: list[ChannelAnswer]
    rgb: bool = Field(description="Whether the channels are red, green and blue.")
    tile: int = Field(description="Edge of a tile.")
    levels: list[LevelAnswer] = Field(description="Each half of the one before, rounded up.")
    scene: int = Field(description="Which image of the file this is.")
    scenes: list[str] = Field(description="Names of the file's images where it holds several.")
    notes: list[str] = Field(description="What one should know about how the file was read.")
    result: bool = Field(description="Whether a run or a preview made it, not a user opened it.")


class ImagesAnswer(ImageAnswer):
    """An opened image, and of a model with several inputs all of them."""

    images: dict[str, ImageAnswer] | None = Field(
        description="By tensor id; null where there is one."
    )
