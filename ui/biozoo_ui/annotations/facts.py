"""What is kept of an annotation beside its pixels: read, written, and its classes checked."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from biozoo.errors import NotFoundError, UsageError
from biozoo.files import write_atomic

from .model import MOST_CLASSES, ClassLabel, Edit, Facts, Plane
from .shapes import length

FACTS = "annotation.json"

_LARGEST = 2**20  # pixels beyond the image that a stroke may lie
_LONGEST = 2**17  # pixels of a line that is followed pixel by pixel
_WIDEST = 2**30  # pixels of a stroke's length times its width


def check_classes(classes: Sequence[ClassLabel]) -> None:
    """Refuse classes that cannot be told apart.

    Raises
    ------
    UsageError
        See `Annotation.set_classes`.
    """
    if not 1 <= len(classes) <= MOST_CLASSES:
        raise UsageError(f"Between 1 and {MOST_CLASSES} classes are possible, not {len(classes)}.")
    for label in classes:
        if not 1 <= label.value <= 255:
            raise UsageError(f"{label.value} cannot be the number of a class: use 1 to 255.")
        if not label.name.strip():
            raise UsageError(f"Class {label.value} has no name. Give it one.")
    for what, values in (
        ("number", [label.value for label in classes]),
        ("name", [label.name.strip().lower() for label in classes]),
    ):
        if len(set(values)) < len(values):
            raise UsageError(f"Two classes have the same {what}. Give each its own.")


def check_edit(facts: Facts, edit: Edit) -> None:
    """Refuse an edit that lies beside the image, or has a number that cannot be.

    Raises
    ------
    UsageError
        See there.
    """
    check_plane(facts, edit.plane)
    if not edit.points:
        raise UsageError("An edit needs at least one point.")
    for y, x in edit.points:
        if not (math.isfinite(y) and math.isfinite(x)) or max(abs(y), abs(x)) > _LARGEST:
            raise UsageError(f"The point y {y}, x {x} is not near the image.")
    along = 0.0 if edit.tool in ("outline", "add", "fill", "delete") else length(edit.points)
    followed = edit.tool in ("merge", "split")
    if along * max(1.0, 2 * edit.radius) > _WIDEST or (followed and along > _LONGEST):
        raise UsageError(
            f"This line is {along:,.0f} pixels long, more than is drawn at once. Draw it in parts."
        )
    if edit.value is not None:
        if facts.kind == "classes" and edit.value not in {c.value for c in facts.classes}:
            raise UsageError(f"There is no class {edit.value}. Add it first.")
        if not 0 < edit.value < 2**32:
            raise UsageError(f"{edit.value} cannot be the number of an object.")


def check_plane(facts: Facts, plane: Plane) -> None:
    """Refuse a plane that the image does not have.

    Raises
    ------
    UsageError
        It has none of that number.
    """
    for axis, at in (("time", plane.time), ("z", plane.z)):
        if not 0 <= at < facts.sizes[axis]:
            raise UsageError(
                f"There is no plane {at} along {axis}: the image has {facts.sizes[axis]}."
            )


def read_facts(folder: Path) -> Facts:
    """What was kept.

    Raises
    ------
    NotFoundError
        It is gone.
    """
    try:
        told = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise gone(folder.name) from None
    classes = tuple(ClassLabel(**label) for label in told.pop("classes"))
    return Facts(classes=classes, dims=tuple(told.pop("dims")), **told)


def gone(annotation_id: str) -> NotFoundError:
    """The error of an annotation that is not there, or is another's."""
    return NotFoundError(
        kind="annotation",
        got=annotation_id,
        known=(),
        hint="It was deleted, or it is somebody else's.",
    )


def write_facts(folder: Path, facts: Facts) -> None:
    """Keep it: whole or not at all.

    Raises
    ------
    StorageError
        The disk is full.
    """
    text = json.dumps(dataclasses.asdict(facts), ensure_ascii=False, indent=1)
    write_atomic(folder / FACTS, text.encode())


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
