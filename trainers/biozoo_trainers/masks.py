"""Masks where numbered objects are needed: how to tell, and how to cut them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .labels import IGNORE, as_labels

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["is_mask", "is_scattered", "split_mask"]

#: Parts smaller than this share of the median part are specks: they tell nothing.
SPECK = 0.05
#: So many parts per number, and the numbers are no objects.
PARTS_PER_NUMBER = 2.0
#: The same where there are several numbers: an object of many may well be in two pieces.
SCATTERED = 5.0
#: Fewer pixels deep than this, a neck is no place to cut: it is roughness of the outline.
SHALLOWEST = 1.0
#: A neck narrower than the smaller of its two sides by this part of it is cut.
NECK = 0.1


def is_mask(labels: NDArray[Any]) -> bool:
    """Whether these labels are a mask: one number for several separate objects.

    Parameters
    ----------
    labels
        Integers over the spatial axes: 0 background, negative where ignored.

    Returns
    -------
    bool
        True where there are at least twice as many separate parts as numbers. Specks are left
        out, and so are parts that differ by less than a pixel's width (they touch at a corner).
    """
    sizes, objects = _parts(labels)
    if not objects:
        return False
    counted = int((sizes >= SPECK * np.median(sizes)).sum())
    return counted >= PARTS_PER_NUMBER * objects


def is_scattered(labels: NDArray[Any]) -> bool:
    """Whether the numbers stand for no objects: each is found in many separate places.

    Parameters
    ----------
    labels
        As of `is_mask`.

    Returns
    -------
    bool
        True where there are at least five times as many separate parts as numbers, as in classes
        or in an image. An object may be in pieces: parts that are small beside the part in which a
        pixel of an object usually lies are left out.
    """
    sizes, objects = _parts(labels)
    if not objects:
        return False
    ordered = np.sort(sizes)
    covered = np.cumsum(ordered)
    usual = ordered[np.searchsorted(covered, covered[-1] / 2)]
    return int((sizes >= SPECK * usual).sum()) >= SCATTERED * objects


def _parts(labels: NDArray[Any]) -> tuple[NDArray[np.int64], int]:
    """Pixels of every connected part of one number, and how many numbers there are."""
    from skimage.measure import label

    positive = np.maximum(as_labels(labels), 0)
    parts: NDArray[Any] = label(  # type: ignore[no-untyped-call]
        positive, background=0, connectivity=positive.ndim
    )
    sizes = np.bincount(parts.ravel())[1:]
    return sizes, int((np.unique(positive) > 0).sum())


def split_mask(mask: NDArray[Any]) -> NDArray[np.int32]:
    """Number the objects of a mask: its connected parts, cut at their necks.

    Parameters
    ----------
    mask
        Integers or booleans over the spatial axes: 0 background, negative where ignored; objects
        of different numbers are kept apart.

    Returns
    -------
    NDArray
        int32 of the same shape: 1..n objects, ignored pixels as they were.

    Notes
    -----
    A watershed of the distance to the background, flooded from its maxima. A maximum counts if the
    way to a higher one leads through a neck that is clearly narrower than itself.
    """
    from scipy import ndimage as ndi
    from skimage.segmentation import watershed

    labels = as_labels(mask)
    result = np.zeros(labels.shape, np.int32)
    n = 0
    for number in np.unique(labels[labels > 0]):
        inside = labels == number
        parts, _ = ndi.label(inside)
        for part, box in enumerate(ndi.find_objects(parts), start=1):
            here = parts[box] == part
            seeds = _middles(here)
            count = int(seeds.max(initial=0))
            if count < 2:
                result[box][here] = n + 1
                n += 1
                continue
            away = ndi.distance_transform_edt(np.pad(here, 1))[(slice(1, -1),) * here.ndim]
            cut = watershed(-away, seeds, mask=here)  # type: ignore[no-untyped-call]
            result[box][here] = cut[here] + n
            n += count
    result[labels < 0] = IGNORE
    return result


def _middles(part: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The middles of the objects of one connected part, numbered."""
    from scipy import ndimage as ndi
    from skimage.morphology import reconstruction

    away = ndi.distance_transform_edt(np.pad(part, 1))[(slice(1, -1),) * part.ndim]
    every = ndi.generate_binary_structure(part.ndim, part.ndim)
    deep = np.maximum(NECK * away, SHALLOWEST)
    lowered = np.where(part, np.maximum(away - deep, 0), 0)
    flood = reconstruction(lowered, away, footprint=every)  # type: ignore[no-untyped-call]
    domes = away - flood
    # A flood from all lowered peaks leaves a dome on each; one of full height is a middle.
    tops, n = ndi.label(domes > 1e-6, every, output=np.int32)
    full = np.zeros(n + 1, bool)
    full[tops[part & (domes >= deep - 1e-6)]] = True
    full[0] = False
    numbers = np.where(full, np.cumsum(full), 0).astype(np.int32)
    seeds: NDArray[np.int32] = numbers[tops]
    return seeds
