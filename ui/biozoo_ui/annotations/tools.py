"""What each tool does to the pixels. A tool changes a draft, or says why it cannot."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping

import numpy as np

from biozoo.errors import UsageError

from . import shapes
from .blocks import Key
from .draft import Draft
from .model import OBJECT, SIDE, Edit, Kind, Plane, Tool
from .shapes import Mask

_MOST_FILLED = 400  # blocks that one fill may reach: 26 million pixels
_MOST_PLACES = 20  # that one fill or delete may name: each is an area to be looked for
_MOST_AT_ONCE = 2**26  # pixels of the box of an object that is to be split
_DEBRIS = 4  # pixels: what is smaller is no part of its own

Act = Callable[[Draft, Edit, Kind], None]


def act(draft: Draft, edit: Edit, kind: Kind) -> None:
    """Do an edit.

    Raises
    ------
    UsageError
        It cannot be done there; nothing is changed then.
    """
    if kind == "classes" and edit.tool in ("add", "merge", "split"):
        raise UsageError(
            f"'{edit.tool}' is for objects, and these are classes. Use the brush or an outline."
        )
    _TOOLS[edit.tool](draft, edit, kind)


# -------------------------------------------------------------------------------- to paint


def _brush(draft: Draft, edit: Edit, kind: Kind) -> None:
    value = edit.value
    if value is None:
        value = OBJECT if kind == "classes" else _begun(draft, edit) or draft.new_number()
    _paint(draft, edit, value)


def _begun(draft: Draft, edit: Edit) -> int:
    """The object where a stroke begins, 0 where there is none."""
    return draft.at(edit.plane, *shapes.cells(edit.points[:1])[0])


def _erase(draft: Draft, edit: Edit, kind: Kind) -> None:
    """All that the stroke covers, or only one number."""
    for key, mask in _brushed(draft, edit):
        draft.set(key, mask if edit.value is None else mask & (draft.get(key) == edit.value), 0)


def _outline(draft: Draft, edit: Edit, kind: Kind) -> None:
    if len(edit.points) < 3:
        raise UsageError("An outline needs at least three points. Draw around the object.")
    value = edit.value
    if value is None or edit.tool == "add":
        value = OBJECT if kind == "classes" else draft.new_number()
    _paint(draft, edit, value)


def _paint(draft: Draft, edit: Edit, value: int) -> None:
    """Give the pixels that are covered a number."""
    for key, mask in _brushed(draft, edit) if edit.tool == "brush" else _drawn(draft, edit):
        draft.set(key, mask if edit.over else mask & (draft.get(key) == 0), value)


def _brushed(draft: Draft, edit: Edit) -> Iterator[tuple[Key, Mask]]:
    """What a brush covers, block by block."""
    tall, wide = (-(-draft.sizes[axis] // SIDE) for axis in ("y", "x"))
    for place, pieces in shapes.reached(edit.points, edit.radius, SIDE, tall, wide).items():
        key = Key(edit.plane.time, edit.plane.z, *place)
        yield key, shapes.covered(pieces, edit.radius, *draft.place(key))


def _drawn(draft: Draft, edit: Edit) -> Iterator[tuple[Key, Mask]]:
    """What lies inside of an outline, block by block."""
    area = shapes.Area([edit.points])
    for key in draft.keys(edit.plane, *shapes.box_of(edit.points)):
        yield key, area.mask(*draft.place(key))


# -------------------------------------------------------------------------------- to fill


def _fill(draft: Draft, edit: Edit, kind: Kind) -> None:
    """What hangs together and has one number under each point."""
    _refuse_many(edit)
    for row, column in shapes.cells(edit.points):
        if not _inside(draft, row, column):
            continue
        there = draft.at(edit.plane, row, column)
        value = edit.value if kind == "classes" or edit.value else None
        if kind == "classes" and value is None:
            value = OBJECT
        if value is None and there:
            continue  # an object is full
        area = _area(draft, edit.plane, row, column)
        if value is None:
            value = _around(draft, area)
        for key, mask in area.items():
            draft.set(key, mask, value)


def _refuse_many(edit: Edit) -> None:
    if len(edit.points) > _MOST_PLACES:
        raise UsageError(
            f"These are {len(edit.points)} places at once. Choose {_MOST_PLACES} at most."
        )


def _area(draft: Draft, plane: Plane, row: int, column: int) -> dict[Key, Mask]:
    """The pixels of one number that hang together, edge to edge, with one pixel of a plane."""
    from scipy import ndimage

    wanted = draft.at(plane, row, column)
    start = next(draft.keys(plane, (row, row + 1), (column, column + 1)))
    (top, _), (left, _) = draft.place(start)
    parts: dict[Key, np.ndarray] = {}
    area: dict[Key, Mask] = {}
    todo: deque[tuple[Key, int]] = deque()

    def patches(key: Key) -> np.ndarray:
        if key not in parts:
            if len(parts) >= _MOST_FILLED:
                raise UsageError(
                    "The area to fill is too large: it holds more than 26 million pixels. Close it "
                    "with a line first, or draw an outline."
                )
            parts[key], _ = ndimage.label(draft.get(key) == wanted)
        return parts[key]

    def take(key: Key, number: int) -> None:
        mask = parts[key] == number
        known = area.get(key)
        if known is not None:
            if known[mask][0]:
                return
            known |= mask
        else:
            area[key] = mask.copy()
        todo.append((key, number))

    patches(start)
    take(start, int(parts[start][row - top, column - left]))
    while todo:
        key, number = todo.popleft()
        for other, mine, theirs in _neighbours(draft, key):
            edge = parts[key][mine] == number
            if not edge.any():
                continue
            for found in np.unique(patches(other)[theirs][edge]):
                if found:
                    take(other, int(found))
    return area


def _neighbours(draft: Draft, key: Key) -> list[tuple[Key, tuple, tuple]]:  # type: ignore[type-arg]
    """Blocks beside one, with the edge of each that touches the other's."""
    every, first, last = slice(None), 0, -1
    near = [
        (key._replace(row=key.row - 1), (first, every), (last, every)),
        (key._replace(row=key.row + 1), (last, every), (first, every)),
        (key._replace(column=key.column - 1), (every, first), (every, last)),
        (key._replace(column=key.column + 1), (every, last), (every, first)),
    ]
    found = []
    for other, mine, theirs in near:
        (top, bottom), (left, right) = draft.place(other)
        if top >= 0 and left >= 0 and bottom > top and right > left:
            found.append((other, mine, theirs))
    return found


def _around(draft: Draft, area: Mapping[Key, Mask]) -> int:
    """The object that a hole lies in.

    Raises
    ------
    UsageError
        It reaches the image's edge, or lies between several objects alike.
    """
    from scipy import ndimage

    window = draft.window(area)
    hole = np.zeros([b - a for a, b in (window.y, window.x)], bool)
    for key, mask in area.items():
        (top, bottom), (left, right) = draft.place(key)
        y0, x0 = top - window.y[0], left - window.x[0]
        hole[y0 : y0 + bottom - top, x0 : x0 + right - left] = mask
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    open_ = (
        rows[0] + window.y[0] == 0
        or columns[0] + window.x[0] == 0
        or rows[-1] + window.y[0] == draft.sizes["y"] - 1
        or columns[-1] + window.x[0] == draft.sizes["x"] - 1
    )
    if open_:
        raise UsageError(
            "This place is not inside of an object: the area reaches the edge of the image. "
            "To make an object, draw its outline."
        )
    # The ring around the hole lies in its blocks or one pixel beyond them.
    wide = np.pad(hole, 1)
    ring = ndimage.binary_dilation(wide) & ~wide
    plane = Plane(next(iter(area)).time, next(iter(area)).z)
    around: dict[int, int] = {}
    for y, x in np.argwhere(ring):
        number = draft.at(plane, int(y) - 1 + window.y[0], int(x) - 1 + window.x[0])
        around[number] = around.get(number, 0) + 1
    return max(around, key=lambda number: (around[number], -number))


# -------------------------------------------------------------------------------- whole objects


def _delete(draft: Draft, edit: Edit, kind: Kind) -> None:
    """Objects under the points, in all planes of this time point; of classes the patch there."""
    found = False
    if kind == "classes":
        _refuse_many(edit)
    for row, column in shapes.cells(edit.points):
        number = draft.at(edit.plane, row, column)
        if not number:
            continue
        found = True
        if kind == "classes":
            for key, mask in _area(draft, edit.plane, row, column).items():
                draft.set(key, mask, 0)
        else:
            _renumber(draft, number, 0, edit.plane.time)
    if not found:
        what = "no object" if kind == "instances" else "nothing painted"
        raise UsageError(f"There is {what} at this place. Click on what is to be deleted.")


def _merge(draft: Draft, edit: Edit, kind: Kind) -> None:
    """All objects under a line get the number of the first."""
    numbers = _touched(draft, edit)
    if len(numbers) < 2:
        raise UsageError(
            f"The line touches {'one object' if numbers else 'no object'}. Draw it from one object "
            "to another that belongs to it."
        )
    for number in numbers[1:]:
        _renumber(draft, number, numbers[0], edit.plane.time)


def _renumber(draft: Draft, number: int, value: int, time: int) -> None:
    for key in draft.holding(number, time):
        draft.set(key, draft.get(key) == number, value)


def _touched(draft: Draft, edit: Edit) -> list[int]:
    """The objects under a line, in its order."""
    found: dict[int, None] = {}
    for row, column in shapes.trail(edit.points, draft.sizes["y"], draft.sizes["x"]):
        if number := draft.at(edit.plane, row, column):
            found[number] = None
    return list(found)


def _split(draft: Draft, edit: Edit, kind: Kind) -> None:
    """Objects that a line cuts in two, as a curtain through all their planes."""
    numbers = _touched(draft, edit)
    if not numbers:
        raise UsageError("The line touches no object. Draw it right across the one to split.")
    line = shapes.longer(edit.points, 2.0)
    if not sum(_cut(draft, number, line, edit.plane.time) for number in numbers):
        raise UsageError(
            "The line does not cut the object in two. Draw it from one side of it to the other."
        )


def _cut(draft: Draft, number: int, line: shapes.Points, time: int) -> bool:
    """Whether an object fell into parts; the largest keeps the number."""
    from scipy import ndimage

    window = draft.window(draft.holding(number, time))
    if window.size > _MOST_AT_ONCE:
        raise UsageError("The object is too large to be split. Erase along a line instead.")
    own = window.mask(number)
    corner = tuple(int(i.min()) for i in np.nonzero(own))
    box = tuple(slice(int(i.min()), int(i.max()) + 1) for i in np.nonzero(own))
    body = own[box]
    y, x = window.y[0] + corner[1], window.x[0] + corner[2]
    thin = shapes.stroke(line, shapes.THIN, (y, y + body.shape[1]), (x, x + body.shape[2]))
    cut = body & thin[None]
    touching = np.ones((3, 3, 3), bool)
    parts, count = ndimage.label(body & ~cut, touching)
    beside = np.unique(parts[ndimage.binary_dilation(cut, touching)])
    sizes = np.bincount(parts.ravel(), minlength=count + 1)
    sides = [int(n) for n in beside if n and sizes[n] >= _DEBRIS]
    if len(sides) < 2:
        return False
    sides.sort(key=lambda n: (-sizes[n], n))
    # The cut itself, and what is debris, goes to the nearest part.
    whole = np.isin(parts, [n for n in range(1, count + 1) if sizes[n] >= _DEBRIS])
    nearest = ndimage.distance_transform_edt(
        ~whole, return_distances=False, return_indices=True, sampling=(8.0, 1.0, 1.0)
    )
    parts = parts[tuple(nearest)]
    for side in sides[1:]:
        mask = np.zeros_like(own)
        mask[box] = body & (parts == side)
        window.set(mask, draft.new_number())
    return True


def _inside(draft: Draft, row: int, column: int) -> bool:
    return 0 <= row < draft.sizes["y"] and 0 <= column < draft.sizes["x"]


_TOOLS: Mapping[Tool, Act] = {
    "brush": _brush,
    "erase": _erase,
    "fill": _fill,
    "outline": _outline,
    "add": _outline,
    "delete": _delete,
    "merge": _merge,
    "split": _split,
}
