"""Maps that are made from numbered objects: gaps, boundaries, distances. 2D and 3D alike.

Labels here are int32 over the spatial axes, 0 background, 1..n objects, negative where ignored.
The image's edge is no object edge: runners mirror an image there, so a cut object continues. What
ignored pixels hide is not guessed; each function says where its result is unknown for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from biozoo.errors import MissingDependencyError
from biozoo.install import install_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Labels = NDArray[np.int32]
    Mask = NDArray[np.bool_]

__all__ = [
    "consecutive",
    "edge_distance",
    "gaps",
    "largest_extent",
    "near_unknown",
    "numbered",
    "outlines",
    "touching_unknown",
    "two_objects_within",
    "with_core",
]

#: Numbers up to this are looked up in a table; larger ones are sorted, at ten times the time.
_DIRECT = 2**22

#: A table of so many entries takes less time than numbering the objects of a patch anew.
_SHORT = 2**16


def two_objects_within(labels: Labels, window: int) -> Mask:
    """Where a neighbourhood of `window` pixels along each axis holds two different objects."""
    from scipy import ndimage as ndi

    none = np.iinfo(np.int32).max
    largest = ndi.maximum_filter(labels, window, mode="nearest")
    smallest = ndi.minimum_filter(np.where(labels > 0, labels, none), window, mode="nearest")
    found: Mask = (largest > 0) & (largest != smallest)
    return found


def gaps(labels: Labels, *, frail: float = 0.4) -> Mask:
    """Pixels to take from objects that touch, so that no two of them share a side.

    Both objects give the pixels at which they meet. An object that would lose more than the part
    `frail` of its pixels to all its neighbours gives none where the other can; of two such, the
    larger one gives.
    """
    numbers, n = consecutive(labels)
    sizes = np.bincount(numbers.ravel(), minlength=n + 1)
    meeting = np.zeros(labels.shape, bool)
    for left, right, at_left, at_right in _contacts(numbers, meeting):
        contact = (left > 0) & (right > 0) & (left != right)
        at_left |= contact
        at_right |= contact
    lost = np.bincount(numbers[meeting], minlength=n + 1)
    is_frail = lost > frail * sizes
    rank = np.empty(n + 1, np.int64)
    rank[np.lexsort((np.arange(n + 1), sizes))] = np.arange(n + 1)
    # What gives comes after what does not: the sturdy by no rank, the frail by their size.
    order = np.where(is_frail, rank, 2 * n + 2)
    found = np.zeros(labels.shape, bool)
    for left, right, at_left, at_right in _contacts(numbers, found):
        contact = (left > 0) & (right > 0) & (left != right)
        at_left |= contact & (order[left] >= order[right])
        at_right |= contact & (order[right] >= order[left])
    return found


def outlines(labels: Labels) -> Mask:
    """Pixels that share a side with another object or with the background: two pixels thick."""
    found = np.zeros(labels.shape, bool)
    for left, right, at_left, at_right in _contacts(labels, found):
        edge = (left != right) & (left >= 0) & (right >= 0)
        at_left |= edge
        at_right |= edge
    return found


def with_core(boundary: Mask, labels: Labels) -> Mask:
    """The boundary, open in the middle of each object that it would cover as a whole."""
    covered = np.setdiff1d(labels[labels > 0], labels[(labels > 0) & ~boundary])
    if not covered.size:
        return boundary
    distance, largest = edge_distance(np.where(np.isin(labels, covered), labels, 0))
    core: Mask = boundary & (distance < largest)
    return np.where(np.isin(labels, covered), core, boundary)


def near_unknown(labels: Labels, window: int) -> Mask:
    """Where a neighbourhood of `window` pixels along each axis holds an ignored pixel."""
    from scipy import ndimage as ndi

    if (labels >= 0).all():
        return np.zeros(labels.shape, bool)
    found: Mask = ndi.maximum_filter(labels < 0, window, mode="nearest")
    return found


def touching_unknown(labels: Labels) -> Mask:
    """All pixels of objects that lie beside an ignored pixel: where they end is not known."""
    beside = np.unique(labels[near_unknown(labels, 3) & (labels > 0)])
    found: Mask = np.isin(labels, beside) if beside.size else np.zeros(labels.shape, bool)
    return found


def edge_distance(labels: Labels) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Distance of each pixel to the edge of its own object.

    Parameters
    ----------
    labels
        Objects; ignored pixels end an object as background does.

    Returns
    -------
    distance
        In pixels, float32: 1 in the outermost pixels of an object, 0 outside of all.
    largest
        The largest distance in the object of each pixel, float32; 1 outside of all.

    Raises
    ------
    MissingDependencyError
        edt is not installed.
    """
    try:
        import edt
    except ImportError as exc:
        raise MissingDependencyError(
            what="Measuring distances in objects", library="edt", install=install_line("train")
        ) from exc
    numbers, n = numbered(labels)
    distance: NDArray[np.float32] = edt.edt(numbers)  # of all objects at once
    # An object that fills the whole image has no edge: all of it is its middle.
    distance[np.isinf(distance)] = 1
    largest = np.zeros(n + 1, np.float32)
    np.maximum.at(largest, numbers.ravel(), distance.ravel())
    largest[0] = 1
    return distance, largest[numbers]


def largest_extent(labels: Labels) -> int:
    """Pixels along the longest side of any object's bounding box; 0 where there is no object."""
    from scipy import ndimage as ndi

    boxes = ndi.find_objects(consecutive(labels)[0])
    return max((s.stop - s.start for box in boxes for s in box), default=0)


def numbered(labels: Labels) -> tuple[Labels, int]:
    """Objects by their own numbers where these are small, else by 1..n, all else 0; and the
    largest number.
    """
    positive = np.maximum(labels, 0)
    top = int(positive.max(initial=0))
    return (positive, top) if top <= _SHORT else consecutive(labels)


def consecutive(labels: Labels) -> tuple[Labels, int]:
    """Objects as 1..n, all else 0; and n. Numbers may be large and have gaps."""
    positive = np.maximum(labels, 0)
    top = int(positive.max(initial=0))
    if top > _DIRECT:
        values, order = np.unique(positive, return_inverse=True)
        first = int(values.size > 0 and values[0] > 0)  # no background at all
        numbers = (order.reshape(labels.shape) + first).astype(np.int32)
        return numbers, values.size - 1 + first
    there = np.zeros(top + 1, bool)
    there[positive] = True
    there[0] = False
    number_of = np.where(there, np.cumsum(there), 0).astype(np.int32)
    return number_of[positive], int(there.sum())


def _contacts(labels: Labels, result: Mask) -> Iterator[tuple[Labels, Labels, Mask, Mask]]:
    """Along each axis: each pixel and the next, as views of the labels and of the result."""
    for axis in range(labels.ndim):
        numbers, found = np.moveaxis(labels, axis, 0), np.moveaxis(result, axis, 0)
        yield numbers[:-1], numbers[1:], found[:-1], found[1:]
