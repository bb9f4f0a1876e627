"""Strokes and outlines as masks of the pixels they cover. Pure functions.

Coordinates are edges of pixels, (y, x): the middle of pixel (0, 0) is (0.5, 0.5). A pixel is
covered where its middle is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .model import Range

Point = tuple[float, float]
Points = Sequence[Point]
Piece = tuple[Point, Point]
Ring = NDArray[np.float64]
"""Corners (y, x) of a closed outline."""
Mask = NDArray[np.bool_]

THIN = 0.75
"""Radius of a line that no path of touching pixels crosses, corner to corner either: it covers
both pixels of each step sideways."""


def box_of(points: Points | Ring, radius: float = 0.0) -> tuple[Range, Range]:
    """Rows and columns of the pixels that points and what is around them may cover."""
    places, reach = np.asarray(points, np.float64), radius + 1
    (top, left), (bottom, right) = (
        (places.min(0) - reach).tolist(),
        (places.max(0) + reach).tolist(),
    )
    return (math.floor(top), math.ceil(bottom)), (math.floor(left), math.ceil(right))


def stroke(points: Points, radius: float, y: Range, x: Range) -> Mask:
    """Pixels of a box within `radius` of a line through the points, and those under the points."""
    return covered(list(_pieces(points)), radius, y, x)


def covered(pieces: Sequence[Piece], radius: float, y: Range, x: Range) -> Mask:
    """Pixels of a box within `radius` of pieces of a line, and those under their ends."""
    mask = np.zeros((y[1] - y[0], x[1] - x[0]), bool)
    for first, second in pieces:
        rows, columns = box_of((first, second), radius)
        top, bottom = max(rows[0], y[0]), min(rows[1], y[1])
        left, right = max(columns[0], x[0]), min(columns[1], x[1])
        if top >= bottom or left >= right:
            continue
        part = mask[top - y[0] : bottom - y[0], left - x[0] : right - x[0]]
        part |= _near(first, second, radius, (top, bottom), (left, right))
        for row, column in cells((first, second)):  # a fine brush that hits no middle still paints
            if y[0] <= row < y[1] and x[0] <= column < x[1]:
                mask[row - y[0], column - x[0]] = True
    return mask


def reached(
    points: Points, radius: float, side: int, rows: int, columns: int
) -> dict[tuple[int, int], list[Piece]]:
    """Which of rows x columns blocks of a side a line may cover, and the pieces that do so.

    What a stroke costs is so what it covers, not the box around it.
    """
    found: dict[tuple[int, int], list[Piece]] = {}
    for piece in _pieces(points):
        (top, bottom), (left, right) = box_of(piece, radius)
        down = np.arange(max(0, top // side), min(rows, -(-bottom // side)))
        along = np.arange(max(0, left // side), min(columns, -(-right // side)))
        if not len(down) or not len(along):
            continue
        near = np.ones((len(down), len(along)), bool)
        if near.size > 4:  # of a slanted piece most blocks of its box lie beside it
            y, x = (down[:, None] + 0.5) * side, (along[None, :] + 0.5) * side
            near = _apart(*piece, y, x) <= (radius + 1 + side * math.sqrt(0.5)) ** 2
        for i, j in np.argwhere(near).tolist():
            found.setdefault((int(down[i]), int(along[j])), []).append(piece)
    return dict(sorted(found.items()))


def length(points: Points) -> float:
    """Pixels along a line through the points."""
    return sum(math.dist(first, second) for first, second in pairwise(points))


def _pieces(points: Points) -> Iterator[Piece]:
    if len(points) == 1:
        yield points[0], points[0]
    yield from pairwise(points)


def _near(first: Point, second: Point, radius: float, y: Range, x: Range) -> Mask:
    """Pixels whose middle is within `radius` of a piece of a line."""
    rows, columns = np.arange(*y)[:, None] + 0.5, np.arange(*x)[None, :] + 0.5
    near: Mask = _apart(first, second, rows, columns) <= radius * radius
    return near


def _apart(
    first: Point, second: Point, y: NDArray[np.floating[Any]], x: NDArray[np.floating[Any]]
) -> NDArray[np.floating[Any]]:
    """Squares of the distances of places (y, x) from a piece of a line."""
    rows, columns = y - first[0], x - first[1]
    down, right = second[0] - first[0], second[1] - first[1]
    square = down * down + right * right
    along = np.clip((rows * down + columns * right) / square, 0, 1) if square else 0.0
    apart: NDArray[np.floating[Any]] = (rows - along * down) ** 2 + (columns - along * right) ** 2
    return apart


def polygon(points: Points, y: Range, x: Range) -> Mask:
    """Pixels of a box inside a closed outline; where it crosses itself, the even-odd rule."""
    return rings([points], y, x)


def rings(outlines: Sequence[Points | Ring], y: Range, x: Range) -> Mask:
    """Pixels of a box inside an odd number of closed outlines: a ring inside another is a hole."""
    return Area(outlines).mask(y, x)


class Area:
    """Closed outlines that are asked for box by box; those of the same rows best one by one.

    Even-odd rule per row of pixel middles; on an edge the lower and right side is inside, so two
    outlines that share an edge share no pixel.
    """

    def __init__(self, outlines: Sequence[Points | Ring]) -> None:
        closed = [np.asarray(points, float).reshape(-1, 2) for points in outlines]
        begin = np.concatenate(closed)
        end = np.concatenate([np.roll(points, -1, axis=0) for points in closed])
        self._edges = np.concatenate([begin, end], axis=1)  # y, x of both ends
        # The first and the one after the last row whose middle the edge passes.
        low, high = np.minimum(begin[:, 0], end[:, 0]), np.maximum(begin[:, 0], end[:, 0])
        self._top, self._bottom = (np.ceil(end - 0.5).astype(np.int64) for end in (low, high))
        self._rows: Range = (0, 0)
        self._crossings = (np.zeros(0, np.int64), np.zeros(0, np.int64))

    def mask(self, y: Range, x: Range) -> Mask:
        """Pixels of a box inside of it."""
        if y != self._rows:
            self._rows, self._crossings = y, self._cross(y)
        rows, columns = self._crossings
        flips = np.zeros((y[1] - y[0], x[1] - x[0] + 1), np.int32)
        np.add.at(flips, (rows, np.clip(columns, *x) - x[0]), 1)
        inside: Mask = (np.cumsum(flips[:, :-1], axis=1) & 1).astype(bool)
        return inside

    def _cross(self, y: Range) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where edges pass the middles of rows: the row in the box, the first column behind."""
        top, bottom = np.maximum(self._top, y[0]), np.minimum(self._bottom, y[1])
        passing = np.flatnonzero(bottom > top)
        count = (bottom - top)[passing]
        edge = np.repeat(passing, count)
        row = np.arange(len(edge)) - np.repeat(np.cumsum(count) - count, count) + top[edge]
        y0, x0, y1, x1 = self._edges[edge].T
        crossing = x0 + (row + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
        return row - y[0], np.ceil(crossing - 0.5).astype(np.int64)


def cells(points: Points) -> list[tuple[int, int]]:
    """The pixels (row, column) under the points themselves, in order."""
    return [(math.floor(y), math.floor(x)) for y, x in points]


def trail(points: Points, rows: int, columns: int) -> list[tuple[int, int]]:
    """The pixels (row, column) under a line, in order, each named once; those of the image."""
    found: dict[tuple[int, int], None] = {}
    for (y0, x0), (y1, x1) in _pieces(points):
        count = 2 + 2 * math.ceil(max(abs(y1 - y0), abs(x1 - x0)))
        for y, x in zip(np.linspace(y0, y1, count), np.linspace(x0, x1, count), strict=True):
            if 0 <= y < rows and 0 <= x < columns:
                found[math.floor(y), math.floor(x)] = None
    return list(found)


def longer(points: Points, by: float) -> list[Point]:
    """The same line, drawn on at both ends by so many pixels."""
    line = list(points)
    return [_beyond(line[0], line[1:], by), *line, _beyond(line[-1], line[-2::-1], by)]


def _beyond(end: Point, others: Points, by: float) -> Point:
    for y, x in others:
        if (length := math.hypot(end[0] - y, end[1] - x)) > 0.5:
            return end[0] + (end[0] - y) / length * by, end[1] + (end[1] - x) / length * by
    return end
