"""What the routes of annotations are asked and answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from ...annotations import (
    Annotation,
    ClassLabel,
    Counts,
    Done,
    Edit,
    Kind,
    Lying,
    Plane,
    Tool,
)
from ..images.answers import ChannelAnswer, ImageAnswer, LevelAnswer, SizesAnswer
from ..images.pyramid import TILE, level_sizes

MOST_POINTS = 20_000
LARGEST_RADIUS = 1024.0


class ClassAnswer(BaseModel):
    """A class: its number in the pixels, 1 for background, and how it is called and shown."""

    model_config = ConfigDict(extra="forbid")

    value: int = Field(ge=1, le=255)
    name: str = Field(min_length=1, max_length=100)
    color: str = Field(pattern=r"^#[0-9a-fA-F]{6}$")

    @classmethod
    def of(cls, label: ClassLabel) -> ClassAnswer:
        return cls(value=label.value, name=label.name, color=label.color)

    def label(self) -> ClassLabel:
        return ClassLabel(self.value, self.name.strip(), self.color.lower())


class StartLabels(BaseModel):
    """A label image of this session and how it lies over the image, as layers are answered."""

    model_config = ConfigDict(extra="forbid")

    image: str
    at: dict[str, FiniteFloat] | None = None
    scale: dict[str, FiniteFloat] | None = None

    def lying(self) -> Lying:
        return Lying(self.at, self.scale)


class NewAnnotation(BaseModel):
    """An annotation of an image: `classes` (scribbles) or `instances` (objects).

    `start`: the objects to begin with. `again`: begin anew where there is one already; that can be
    undone. `classes`: else background and object.
    """

    model_config = ConfigDict(extra="forbid")

    image: str
    kind: Kind
    start: StartLabels | None = None
    classes: list[ClassAnswer] | None = None
    again: bool = False


class SeenPlane(BaseModel):
    """Positions along z and time."""

    model_config = ConfigDict(extra="forbid")

    z: int = 0
    time: int = 0


class NewEdit(BaseModel):
    """One stroke: a tool along points (y, x) in pixels, edges counted.

    `value`: the number to paint; null, of objects: that where a brush begins, else the next free
    one. `over`: whether other numbers are painted over. `key`: one that is sent again under the
    same key counts once. `since`: the version that the sender has seen.
    """

    model_config = ConfigDict(extra="forbid")

    tool: Tool
    plane: SeenPlane = SeenPlane()
    points: list[tuple[FiniteFloat, FiniteFloat]] = Field(min_length=1, max_length=MOST_POINTS)
    radius: float = Field(default=0.5, ge=0, le=LARGEST_RADIUS)
    value: Annotated[int, Field(ge=1, lt=2**32)] | None = None
    over: bool = True
    key: str = Field(default="", max_length=64)
    since: int | None = None

    def edit(self) -> Edit:
        return Edit(
            self.tool,
            Plane(time=self.plane.time, z=self.plane.z),
            tuple(self.points),
            radius=self.radius,
            value=self.value,
            over=self.over,
            key=self.key,
        )


class CountsAnswer(BaseModel):
    """What is painted: how many objects, or pixels of each class by its number."""

    objects: int | None
    pixels: dict[int, int] | None

    @classmethod
    def of(cls, counts: Counts) -> CountsAnswer:
        return cls(
            objects=counts.objects, pixels=None if counts.pixels is None else dict(counts.pixels)
        )


class ChangeAnswer(BaseModel):
    """Where pixels changed with a version: first and the one after the last."""

    version: int
    time: tuple[int, int]
    z: tuple[int, int]
    y: tuple[int, int]
    x: tuple[int, int]


class DoneAnswer(BaseModel):
    """How an annotation stands: what changed since the asked version, steps back and forward."""

    version: int
    changes: list[ChangeAnswer]
    counts: CountsAnswer
    made: list[int] = Field(description="Numbers of the objects that this edit made.")
    next: int = Field(description="The number that the next object gets.")
    undo: int
    redo: int
    notes: list[str]

    @classmethod
    def of(cls, done: Done, last: int, notes: tuple[str, ...] = ()) -> DoneAnswer:
        return cls(
            version=done.version,
            changes=[
                ChangeAnswer(version=c.version, time=c.time, z=c.z, y=c.y, x=c.x)
                for c in done.changes
            ],
            counts=CountsAnswer.of(done.counts),
            made=list(done.made),
            next=last + 1,
            undo=done.undo,
            redo=done.redo,
            notes=list(notes),
        )


class AnnotationAnswer(ImageAnswer):
    """An annotation, described as an image of labels so that a viewer shows it as any other."""

    annotation: Kind
    image: str = Field(description="Name of the image.")
    classes: list[ClassAnswer]
    version: int
    counts: CountsAnswer
    next: int = Field(description="The number that the next object gets.")
    undo: int
    redo: int
    edited: str = Field(description="When it was last changed, ISO 8601 in UTC.")
    formats: list[Literal["tiff", "zarr", "rois", "geojson"]]

    @classmethod
    def about(cls, annotation: Annotation) -> AnnotationAnswer:
        facts, done = annotation.facts, annotation.stands()
        sizes = facts.sizes
        classes = facts.kind == "classes"
        highest = max((c.value for c in facts.classes), default=1) if classes else facts.last
        whole = (0, max(1, highest))
        return cls(
            id=annotation.id,
            v=done.version,
            name="Scribbles" if classes else "Corrected objects",
            kind="labels",
            dims=list(facts.dims),
            sizes=SizesAnswer(channel=1, **sizes),
            axes_known=True,
            dtype="uint8" if classes else "uint32",
            pixels="uint32",
            pixel_size=dict(facts.pixel_size) if facts.pixel_size else None,
            unit="µm",
            channels=[ChannelAnswer(name="0", color="#ffffff", range=whole, contrast=whole)],
            rgb=False,
            tile=TILE,
            levels=[LevelAnswer(y=y, x=x) for y, x in level_sizes(sizes["y"], sizes["x"])],
            scene=0,
            scenes=[],
            notes=[],
            result=True,
            annotation=facts.kind,
            image=facts.image,
            classes=[ClassAnswer.of(label) for label in facts.classes],
            version=done.version,
            counts=CountsAnswer.of(done.counts),
            next=facts.last + 1,
            undo=done.undo,
            redo=done.redo,
            edited=facts.edited,
            formats=["tiff", "zarr", "rois", "geojson"],
        )
