"""What an annotation is, in plain values: its kind, its classes, an edit, what an edit changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from biozoo.errors import UsageError

Kind = Literal["classes", "instances"]
"""What the numbers mean. `classes`: 0 unpainted, 1 background, 2 and more the classes.
`instances`: 0 background, 1 and more the objects, complete over the image."""

Tool = Literal["brush", "erase", "fill", "outline", "add", "delete", "merge", "split"]

Range = tuple[int, int]
"""First position and the one after the last."""

AXES = ("time", "z", "y", "x")
SIDE = 256
"""Edge of a block in pixels: a chunk on disk, a tile on the screen."""

MOST_CLASSES = 200


class AnnotationStateError(UsageError):
    """What was asked of an annotation is not possible in the state it is in."""

    http_status = 409


@dataclass(frozen=True)
class ClassLabel:
    """One class: its number in the pixels, its name, its colour as "#rrggbb"."""

    value: int
    name: str
    color: str


COLORS = (
    "#3b82f6", "#f59e0b", "#e11d8f", "#22c55e", "#a78bfa", "#ef4444", "#14b8a6", "#eab308",
    "#f472b6", "#84cc16",
)  # fmt: skip
"""Of classes that have none: blue for background, then what is far from it and each other."""

BACKGROUND, OBJECT = 1, 2
FIRST_CLASSES = (
    ClassLabel(BACKGROUND, "Background", COLORS[0]),
    ClassLabel(OBJECT, "Object", COLORS[1]),
)


def color_of(value: int) -> str:
    """The colour that a class of this number has at first."""
    return COLORS[(value - 1) % len(COLORS)]


@dataclass(frozen=True, order=True)
class Plane:
    """Which plane of the image, by position along time and z."""

    time: int = 0
    z: int = 0


@dataclass(frozen=True)
class Edit:
    """One stroke of a tool.

    Attributes
    ----------
    plane
        On which it is drawn; delete, merge and split act on objects in all their planes.
    points
        (y, x) in pixels, edges counted: pixel 0 reaches from 0 to 1. A line for brush, erase,
        merge and split, a closed outline for outline and add, places for fill and delete.
    radius
        Of brush and erase, pixels.
    value
        The number to paint. None, of objects: that of the object where a brush begins, else the
        next free one; of a filled hole that of the object around it.
    over
        Whether pixels of other numbers are painted over, too.
    key
        Name of this stroke; one that is sent again under the same name counts once. "" for none.
    """

    tool: Tool
    plane: Plane
    points: tuple[tuple[float, float], ...]
    radius: float = 0.5
    value: int | None = None
    over: bool = True
    key: str = ""


@dataclass(frozen=True)
class Change:
    """Where pixels changed with a version, by axis: first and the one after the last."""

    version: int
    time: Range
    z: Range
    y: Range
    x: Range


@dataclass(frozen=True)
class Counts:
    """What is painted: objects, and pixels of each number (of classes only)."""

    objects: int | None
    pixels: Mapping[int, int] | None


@dataclass(frozen=True)
class Done:
    """How an annotation stands after an edit.

    Attributes
    ----------
    version
        Grows with everything that changes a pixel.
    changes
        What changed since the version that was asked from.
    made
        Numbers of objects that the edit made.
    notes
        What one should know about how it was done.
    undo, redo
        How many steps back and forward there are.
    """

    version: int
    changes: tuple[Change, ...]
    counts: Counts
    made: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()
    undo: int = 0
    redo: int = 0


@dataclass(frozen=True)
class Facts:
    """What is kept of an annotation beside its pixels.

    Attributes
    ----------
    image
        Name of the image.
    dims
        Axis ids of the pixels, those of `AXES` that the image has.
    sizes
        Pixels along each of `AXES`, 1 where the image has no such axis.
    pixel_size
        Micrometres along z, y and x, where known.
    version, last
        How often pixels changed; the highest number that an object ever had.
    done
        How many steps of the history are in the pixels; the others are undone.
    created, edited
        When, ISO 8601 in UTC.
    """

    kind: Kind
    image: str
    dims: tuple[str, ...]
    sizes: Mapping[str, int]
    pixel_size: Mapping[str, float] | None
    classes: tuple[ClassLabel, ...]
    version: int = 0
    last: int = 0
    done: int = 0
    created: str = ""
    edited: str = ""
