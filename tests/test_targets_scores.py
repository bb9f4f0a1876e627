"""Scores with ignored pixels, on cases that can be counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from biozoo.errors import UsageError
from biozoo_trainers.scores import (
    METRICS,
    MOST_PSNR,
    Scores,
    main_metric,
    mean_scores,
    score,
    score_classes,
    score_images,
    score_instances,
)


def squares(*corners: tuple[int, int], side: int = 4, size: int = 20) -> NDArray[np.int32]:
    """Squares numbered 1, 2, ... on an empty plane."""
    labels = np.zeros((size, size), np.int32)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def test_scores_are_read_by_name_and_know_which_decides() -> None:
    made = score_instances(squares((0, 0), (10, 10)), squares((0, 0)))
    assert made.main == "AP50"
    assert made.value == made["AP50"] == pytest.approx(1 / 2)
    assert dict(made) == {"AP50": 0.5, "AP50:90": 0.5}
    assert made.counts == {"objects": 2, "found": 1}
    assert list(made) == list(METRICS["instances"])


@pytest.mark.parametrize("supplies", METRICS)
def test_what_decides_is_among_the_scores(supplies: str) -> None:
    truth = np.arange(400).reshape(1, 20, 20) % 3
    truth = truth.astype(np.float32) if supplies in ("image", "nothing") else truth
    made = score(supplies, truth, truth)  # type: ignore[arg-type]
    assert made.main == main_metric(supplies)  # type: ignore[arg-type]
    assert set(METRICS[supplies]) <= set(made)
    assert made.value == max(made.values())


# ------------------------------------------------------------------------------------- instances


def test_what_is_found_where_nobody_painted_changes_nothing() -> None:
    """Whatever stands there: objects of its own, or parts of others."""
    truth = squares((2, 2), (10, 10))
    truth[:, 16:] = -1
    found = squares((2, 2), (10, 11))
    expected = score_instances(truth, found)
    rng = np.random.default_rng(0)
    for number in (0, 1, 2, 99):
        other = found.copy()
        other[:, 16:] = number
        assert score_instances(truth, other) == expected
    other[:, 16:] = rng.integers(0, 50, (20, 4))
    assert score_instances(truth, other) == expected
    assert expected.counts["objects"] == 2
    assert expected["AP50"] == 1


def test_the_rest_of_an_object_that_was_not_painted_is_no_mistake() -> None:
    """A square half of which is hidden, found as a whole: its other half was in the truth's
    background or not, nobody knows. Away from the edge it is a mistake.
    """
    truth = squares((2, 2))
    truth[:, 16:] = -1
    beside = truth.clip(0) + 5 * squares((10, 13))
    away = truth.clip(0) + 5 * squares((10, 8))
    assert score_instances(truth, beside)["AP50"] == 1
    assert score_instances(truth, away)["AP50"] == pytest.approx(1 / 2)
    # What is painted as an object up to the edge is one, found or not.
    truth[10:14, 12:16] = 7
    assert score_instances(truth, truth.clip(0))["AP50"] == 1
    assert score_instances(truth, squares((2, 2)))["AP50"] == pytest.approx(1 / 2)


def test_average_precision_falls_with_the_overlap_asked_for() -> None:
    # Of 16 pixels 12 are shared, 20 are covered: IoU 0.6, above 3 of 9 thresholds.
    made = score_instances(squares((0, 0)), squares((0, 1)))
    assert made["AP50"] == 1
    assert made["AP50:90"] == pytest.approx(3 / 9)


# --------------------------------------------------------------------------------------- classes


def test_dice_of_classes_by_hand() -> None:
    truth = np.array([[0, 1, 1, 2, 2, -1]], np.int32)
    found = np.array([[1, 1, 0, 2, 2, 1]], np.int32)
    made = score_classes(truth, found)
    assert made["Dice 1"] == pytest.approx(1 / 2)
    assert made["Dice 2"] == 1
    assert made["Dice"] == pytest.approx(3 / 4)
    assert made["IoU"] == pytest.approx((1 / 3 + 1) / 2)
    assert made.counts == {"pixels": 5}
    found[0, 5] = 9
    assert score_classes(truth, found) == made
    nothing = np.zeros((2, 2), np.int32)
    assert score_classes(nothing, nothing)["Dice"] == 1
    assert score_classes(nothing, nothing + 1)["Dice"] == 0


# ---------------------------------------------------------------------------------------- images


def test_psnr_by_hand_and_of_equal_images() -> None:
    truth = np.zeros((1, 16, 16), np.float32)
    truth[0, :, 8:] = 10
    made = score_images(truth, truth + 1)
    assert made["PSNR"] == pytest.approx(20)  # range 10, error 1
    assert score_images(truth, truth)["PSNR"] == MOST_PSNR
    assert score_images(truth, truth)["SSIM"] == pytest.approx(1)
    noisy = truth + np.random.default_rng(0).normal(size=truth.shape)
    assert score_images(truth, noisy)["SSIM"] < 0.9


def test_pixels_that_are_no_number_count_in_no_way() -> None:
    """Neither in the error nor in a window of the structural similarity."""
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(2, 24, 24)).astype(np.float32)
    found = truth + 0.1 * rng.normal(size=truth.shape).astype(np.float32)
    truth[:, :6] = np.nan
    made = score_images(truth, found)
    for filling in (0.0, 1e6, np.nan):
        other = found.copy()
        other[:, :6] = filling
        assert dict(score_images(truth, other)) == dict(made)
    assert made.counts == {"pixels": 2 * 18 * 24}
    known = score_images(truth[:, 6:], found[:, 6:])
    assert made["PSNR"] == pytest.approx(known["PSNR"])
    assert made["SSIM"] == pytest.approx(known["SSIM"])


def test_images_too_small_or_hidden_have_no_structure() -> None:
    tiny = np.random.default_rng(0).normal(size=(1, 2, 9))
    assert math.isnan(score_images(tiny, tiny)["SSIM"])
    hidden = np.full((1, 9, 9), np.nan)
    assert math.isnan(score_images(hidden, np.zeros_like(hidden))["PSNR"])


# ------------------------------------------------------------------------------------------ mean


def test_the_mean_takes_images_alike_and_leaves_out_what_is_unknown() -> None:
    one = Scores("PSNR", {"PSNR": 20.0, "SSIM": float("nan")}, {"pixels": 5})
    two = Scores("PSNR", {"PSNR": 30.0, "SSIM": 0.5}, {"pixels": 7})
    made = mean_scores([one, two])
    assert dict(made) == {"PSNR": 25.0, "SSIM": 0.5}
    assert made.main == "PSNR"
    assert made.counts == {"pixels": 12}
    with pytest.raises(UsageError, match="no scores"):
        mean_scores([])


def test_other_shapes_are_told() -> None:
    for function in (score_instances, score_classes, score_images):
        with pytest.raises(UsageError, match=r"\(4, 4\).*\(4, 5\)"):
            function(np.zeros((4, 5), np.int32), np.zeros((4, 4), np.int32))
