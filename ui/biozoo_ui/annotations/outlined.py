"""Shapes of other programs on their way in and out: outlines with a name, on a plane."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from biozoo.errors import UsageError

from .annotation import Annotation
from .blocks import Key, Pixels
from .model import COLORS, MOST_CLASSES, OBJECT, SIDE, ClassLabel, Kind, Plane, color_of
from .outlines import Patch, patches
from .shapes import Area, Ring, box_of

MOST_BLOCKS = 4096
"""That one import may fill: 268 million pixels, 1 GB while they are in memory."""

FURTHEST = 1e9
"""Pixels; what lies beyond is damaged."""

_NUMBERED = re.compile(r"^(.*?)[-_ ]\d+$")


@dataclass(frozen=True, eq=False)
class Outlined:
    """An object or a class on one plane, as an annotation has it.

    `number`: in the pixels. `label`: its class, None of an object.
    """

    number: int
    plane: Plane
    patches: tuple[Patch, ...]
    label: ClassLabel | None


def outlined(annotation: Annotation) -> Iterator[Outlined]:
    """All that is painted, number by number and plane by plane."""
    classes = {label.value: label for label in annotation.facts.classes}
    for number, plane, (y, x), mask in annotation.masks():
        label = classes.get(number) if annotation.kind == "classes" else None
        yield Outlined(number, plane, tuple(patches(mask, y, x)), label)


@dataclass(frozen=True, eq=False)
class Shape:
    """What a file holds: closed outlines, of polygons with holes.

    Attributes
    ----------
    polygons
        Each an outline and its holes: corners (y, x), at most `FURTHEST` from the image.
    name, label
        What the shape and its class are called there, "" where it says nothing.
    color
        Of the class, "#rrggbb" or "".
    plane
        None where it says none.
    """

    polygons: tuple[tuple[Ring, ...], ...]
    name: str = ""
    label: str = ""
    color: str = ""
    plane: Plane | None = None


@dataclass(frozen=True)
class Drawn:
    """Shapes as pixels: the blocks, the classes there are then, what one should know."""

    blocks: dict[Key, Pixels]
    classes: tuple[ClassLabel, ...]
    notes: tuple[str, ...]


def drawn(
    annotation: Annotation, shapes: Sequence[Shape], here: Plane, *, add: bool, name: str
) -> Drawn:
    """Shapes as blocks of an annotation.

    Parameters
    ----------
    here
        For shapes that name no plane.
    add
        Begin with what is painted; else with nothing.
    name
        Of the file, for what is told.

    Raises
    ------
    UsageError
        None of them lies in the image.
    """
    sizes = annotation.facts.sizes
    inside = [(shape, _plane_of(shape, here)) for shape in shapes]
    kept = [(s, p) for s, p in inside if p.time < sizes["time"] and p.z < sizes["z"]]
    notes = []
    if gone := len(shapes) - len(kept):
        lie = "1 shape lies" if gone == 1 else f"{gone} shapes lie"
        notes.append(f"{lie} on planes that this image does not have.")
    if annotation.kind == "classes":
        values, classes = _classes(annotation.facts.classes, [shape for shape, _ in kept])
    else:
        values, classes = _numbers(annotation, kept, add=add), ()
    sheet = _Sheet(annotation, name, add=add)
    for (shape, plane), value in zip(kept, values, strict=True):
        sheet.draw(shape, plane, value)
    if not sheet.some:
        raise UsageError(
            f"Nothing of {name} lies in this image, which has {sizes['y']} x {sizes['x']} pixels. "
            "Was it made for another image?"
        )
    if sheet.beside:
        lie = "1 shape lies" if sheet.beside == 1 else f"{sheet.beside} shapes lie"
        notes.append(f"{lie} beside the image.")
    if sheet.over:
        lie = "1 shape overlaps" if sheet.over == 1 else f"{sheet.over} shapes overlap"
        notes.append(f"{lie} others; what came later lies on top.")
    return Drawn(sheet.blocks, classes, tuple(notes))


def ring_of(points: Any) -> Ring:
    """Corners (y, x) of an outline as an array.

    Raises
    ------
    ValueError
        They are fewer than three, no numbers, or out of reach of any image.
    """
    ring = np.asarray(points, np.float64)
    if ring.ndim != 2 or ring.shape[1] != 2 or len(ring) < 3:
        raise ValueError("an outline of fewer than three points")
    if not (np.abs(ring) <= FURTHEST).all():  # nor not a number
        y, x = ring[np.flatnonzero(~(np.abs(ring) <= FURTHEST).all(1))[0]]
        raise ValueError(f"x {x}, y {y}")
    return ring


def refuse_more(blocks: int, name: str) -> None:
    """Refuse an import that would fill the memory.

    Raises
    ------
    UsageError
        There are as many blocks already as may be.
    """
    if blocks >= MOST_BLOCKS:
        raise UsageError(
            f"{name} covers more than {MOST_BLOCKS * SIDE**2 / 1e6:,.0f} million pixels of this "
            "image, more than is imported at once. Import a part of it."
        )


def _plane_of(shape: Shape, here: Plane) -> Plane:
    return here if shape.plane is None else shape.plane


class _Sheet:
    """Blocks that shapes are drawn on."""

    def __init__(self, annotation: Annotation, name: str, *, add: bool) -> None:
        self._annotation, self.name = annotation, name
        self.blocks: dict[Key, Pixels] = {}
        self.some, self.beside, self.over = False, 0, 0
        for key, pixels in annotation.filled():
            self.blocks[key] = pixels.astype(np.uint32) * np.uint32(add)
        self._drawn: dict[Key, Pixels] = {}

    def draw(self, shape: Shape, plane: Plane, value: int) -> None:
        hit = over = False
        for polygon in shape.polygons:
            area = Area(polygon)
            y, x = box_of(np.concatenate(polygon))
            for key, rows, columns in self._annotation.blocks_in(plane, y, x):
                # Of a block only the part that the shape may reach.
                top, bottom = max(rows[0], y[0]), min(rows[1], y[1])
                left, right = max(columns[0], x[0]), min(columns[1], x[1])
                mask = area.mask((top, bottom), (left, right))
                if not mask.any():
                    continue
                hit = True
                shape_of = (rows[1] - rows[0], columns[1] - columns[0])
                for blocks in (self.blocks, self._drawn):
                    if key not in blocks:
                        refuse_more(len(self.blocks), self.name)
                        blocks[key] = np.zeros(shape_of, np.uint32)
                part = np.s_[
                    top - rows[0] : bottom - rows[0], left - columns[0] : right - columns[0]
                ]
                block, before = self.blocks[key][part], self._drawn[key][part]
                over |= bool(((before[mask] != 0) & (before[mask] != value)).any())
                block[mask] = before[mask] = value
        self.some |= hit
        self.beside += not hit
        self.over += over


def _numbers(
    annotation: Annotation, shapes: Sequence[tuple[Shape, Plane]], *, add: bool
) -> list[int]:
    """The number of each object: its name where all have numbers for names, else in order."""
    named = [(int(shape.name), plane) for shape, plane in shapes if _is_number(shape.name)]
    if len(named) == len(shapes) == len(set(named)) and not add:
        return [number for number, _ in named]
    first = annotation.facts.last + 1 if add else 1
    return list(range(first, first + len(shapes)))


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdecimal() and 0 < int(name) < 2**32


def _classes(
    known: Sequence[ClassLabel], shapes: Iterable[Shape]
) -> tuple[list[int], tuple[ClassLabel, ...]]:
    """The class of each shape, by what it is called; new ones where there are none of the name."""
    classes = list(known)
    values = []
    for shape in shapes:
        words = shape.label or _stem(shape.name)
        found = next((c for c in classes if c.name.lower() == words.lower()), None)
        if found is None and not shape.label and (not words or words.isdecimal()):
            found = next((c for c in classes if c.value == OBJECT), None)
        if found is None:
            found = new_class(classes, words or "Object", shape.color)
            classes.append(found)
        values.append(found.value)
    return values, tuple(classes)


def _stem(name: str) -> str:
    """What several shapes of one class are called: "Nucleus-0002" -> "Nucleus"."""
    match = _NUMBERED.match(name.strip())
    return (match[1] if match and match[1] else name).strip()


def new_class(
    classes: Sequence[ClassLabel], name: str, color: str = "", value: int = 0
) -> ClassLabel:
    """A class beside others, with a number and a colour of its own.

    Raises
    ------
    UsageError
        There are too many.
    """
    if len(classes) >= MOST_CLASSES:
        raise UsageError(
            f"That are more than {MOST_CLASSES} classes. Did you mean to import objects?"
        )
    used = {label.value for label in classes}
    value = value or next(n for n in range(OBJECT, 256) if n not in used)
    taken = {label.color for label in classes}
    own = color_of(value)
    if own in taken:
        own = next((one for one in COLORS if one not in taken), own)
    return ClassLabel(value, name[:100], color if color and color not in taken else own)


def kind_words(kind: Kind) -> str:
    """What a person calls it."""
    return "objects" if kind == "instances" else "classes"
