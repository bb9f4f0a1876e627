"""Masks where numbered objects are needed: told apart from labels, and cut into objects."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from biozoo_trainers.contract import touching_objects
from biozoo_trainers.masks import is_mask, split_mask
from biozoo_trainers.scores import mean_scores, score_instances


def disks(*places: tuple[int, int, int], size: int = 60) -> NDArray[np.int32]:
    """Numbered disks (y, x, radius)."""
    y, x = np.indices((size, size))
    labels = np.zeros((size, size), np.int32)
    for number, (cy, cx, radius) in enumerate(places, start=1):
        labels[(y - cy) ** 2 + (x - cx) ** 2 <= radius**2] = number
    return labels


APART = disks((10, 10, 6), (30, 30, 8), (48, 12, 5))


def test_one_number_for_several_objects_is_a_mask() -> None:
    """As 1, as 255, as one number per class, with unpainted pixels; in 3D too."""
    mask = (APART > 0).astype(np.int32)
    assert is_mask(mask)
    assert is_mask((255 * mask).astype(np.uint8))
    assert is_mask(APART > 0)
    with_classes = np.vstack([mask, 2 * mask])
    assert is_mask(with_classes)
    hidden = mask.copy()
    hidden[:, 50:] = -1
    assert is_mask(hidden)
    assert is_mask(np.stack([mask] * 4))


def test_numbered_objects_are_no_mask() -> None:
    """Whatever their numbers; and neither is one object, none, or one with a speck beside it."""
    assert not is_mask(APART)
    assert not is_mask(APART * 1000)
    assert not is_mask(np.zeros((9, 9), np.int32))
    assert not is_mask((APART == 1).astype(np.uint8))
    speck = (APART == 2).astype(np.int32)
    speck[55, 55] = 1
    assert not is_mask(speck)
    assert not is_mask(touching_objects(3))


def test_objects_that_touch_are_cut_at_their_neck() -> None:
    labels = disks((20, 16, 9), (20, 32, 9), (45, 40, 7))
    found = split_mask(labels > 0)
    assert found.dtype == np.int32
    assert np.array_equal(found > 0, labels > 0)
    assert score_instances(labels, found).value == 1


def test_what_is_long_or_rough_stays_whole() -> None:
    """An ellipse has no neck, and neither has a ragged outline."""
    y, x = np.indices((60, 60))
    ellipse = ((y - 30) / 8) ** 2 + ((x - 30) / 25) ** 2 <= 1
    assert split_mask(ellipse).max() == 1
    ragged = ellipse & ~((x % 5 == 0) & (abs(y - 30) > 6))
    assert split_mask(ragged).max() == 1


def test_numbers_of_classes_are_kept_apart_and_the_unpainted_stays() -> None:
    mask = np.zeros((10, 20), np.int32)
    mask[2:8, 2:10], mask[2:8, 10:18] = 1, 2
    mask[:, 18:] = -1
    found = split_mask(mask)
    assert found[5, 5] != found[5, 15]
    assert (found[:, 18:] == -1).all()
    assert (found[mask > 0] > 0).all()


def test_volumes_are_cut_too() -> None:
    z, y, x = np.indices((24, 24, 40))
    ball = np.minimum(
        (z - 12) ** 2 + (y - 12) ** 2 + (x - 12) ** 2,
        (z - 12) ** 2 + (y - 12) ** 2 + (x - 27) ** 2,
    )
    found = split_mask(ball <= 64)
    assert found.max() == 2
    assert found[12, 12, 12] != found[12, 12, 27]


def test_an_empty_mask_stays_empty() -> None:
    assert not split_mask(np.zeros((8, 8), np.uint8)).any()


@pytest.mark.shared
def test_real_masks_are_told_and_cut_better_than_into_connected_parts(shared: Path) -> None:
    """Every real annotation is taken for what it is, and so is every mask made from one."""
    import tifffile
    from scipy import ndimage as ndi

    for world, least in (("fluo", 0.90), ("stained", 0.80)):
        files = sorted((shared / "data" / "nuclei" / world / "labels").glob("*.tif"))
        cut, parts = [], []
        for file in files[::8]:
            labels = tifffile.imread(file).astype(np.int32)
            assert not is_mask(labels), file.name
            assert is_mask(labels > 0), file.name
            cut.append(score_instances(labels, split_mask(labels > 0)))
            parts.append(score_instances(labels, ndi.label(labels > 0)[0]))
        assert mean_scores(cut).value >= least
        assert mean_scores(cut).value > mean_scores(parts).value + 0.03
