"""Average precision and Dice on cases that can be counted by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from biozoo_runners.comparison.scores import average_precision, dice, pooled

Labels = NDArray[np.int64]


def squares(*corners: tuple[int, int], side: int = 4, size: int = 20) -> Labels:
    """Squares numbered 1, 2, ... on an empty plane."""
    labels = np.zeros((size, size), np.int64)
    for number, (y, x) in enumerate(corners, start=1):
        labels[y : y + side, x : x + side] = number
    return labels


def ap50(true: Labels, found: Labels) -> float:
    return float(average_precision(true, found, (0.5,)).average_precision[0])


TWO = squares((0, 0), (10, 10))
EMPTY = np.zeros((20, 20), np.int64)


def test_numbers_and_gaps_in_them_do_not_matter() -> None:
    assert ap50(TWO, TWO) == 1.0
    assert ap50(TWO, np.where(TWO == 1, 900, np.where(TWO == 2, 7, 0))) == 1.0


def test_a_small_shift_is_a_match_and_a_large_one_is_not() -> None:
    # Of 16 pixels 12 are shared, 20 are covered: IoU 0.6. Shifted by two it is 8 of 24.
    assert ap50(squares((0, 0)), squares((0, 1))) == 1.0
    assert ap50(squares((0, 0)), squares((0, 2))) == 0.0
    assert average_precision(squares((0, 0)), squares((0, 1)), (0.5, 0.6, 0.65)).average_precision[
        1:
    ].tolist() == [1.0, 0.0]


def test_missed_and_invented_objects_count_once_each() -> None:
    assert ap50(TWO, squares((0, 0))) == pytest.approx(1 / 2)  # TP 1, FN 1
    assert ap50(squares((0, 0)), TWO) == pytest.approx(1 / 2)  # TP 1, FP 1
    assert ap50(TWO, squares((0, 0), (0, 10))) == pytest.approx(1 / 3)  # TP 1, FP 1, FN 1


def test_two_merged_into_one_count_as_all_wrong() -> None:
    true = squares((0, 0), (0, 4))
    merged = (true > 0).astype(np.int64)  # IoU with each is exactly 0.5: one pair, one missed
    assert ap50(true, merged) == pytest.approx(1 / 2)
    merged[4:6, :8] = 1  # now it is below
    assert ap50(true, merged) == 0.0


def test_one_split_in_two_leaves_one_partner_at_most() -> None:
    true = squares((0, 0))
    halves = true.copy()
    halves[:, 2:] *= 2  # IoU 0.5 with both halves
    assert ap50(true, halves) == pytest.approx(1 / 2)
    thirds = true.copy()
    thirds[:, 1:] *= 2  # the larger part has 0.75
    assert ap50(true, thirds) == pytest.approx(1 / 2)
    assert ap50(true, np.where(thirds == 2, 0, thirds)) == 0.0


def test_nothing_to_find_and_nothing_found_is_perfect() -> None:
    assert ap50(EMPTY, EMPTY) == 1.0
    assert ap50(EMPTY, TWO) == 0.0
    assert ap50(TWO, EMPTY) == 0.0


def test_an_image_without_background_is_one_object() -> None:
    assert ap50(np.full((4, 4), 3), np.full((4, 4), 1)) == 1.0


def test_volumes_count_like_planes() -> None:
    stack = np.stack([TWO, TWO, EMPTY])
    assert ap50(stack, stack) == 1.0
    assert ap50(stack, np.stack([TWO, EMPTY, EMPTY])) == pytest.approx(1.0)  # half of each volume


def test_pooled_adds_up_counts_and_does_not_average() -> None:
    many = squares(*((y, x) for y in (0, 5, 10, 15) for x in (0, 5, 10, 15)))
    scores = [average_precision(many, many, (0.5,)), average_precision(TWO, EMPTY, (0.5,))]
    assert pooled(scores).average_precision[0] == pytest.approx(16 / 18)


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(20, 20\).*\(5, 5\)"):
        average_precision(TWO, np.zeros((5, 5), int))
    with pytest.raises(ValueError, match="shape"):
        dice(TWO > 0, np.zeros((5, 5), bool))


def test_dice_by_hand() -> None:
    a, b = squares((0, 0)) > 0, squares((0, 2)) > 0
    assert dice(a, a) == 1.0
    assert dice(a, b) == pytest.approx(2 * 8 / 32)
    assert dice(a, squares((10, 10)) > 0) == 0.0
    assert dice(EMPTY > 0, EMPTY > 0) == 1.0
    assert dice(EMPTY > 0, a) == 0.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([0.1, 0.34, 0.5, 0.75]))
def test_as_many_pairs_as_an_optimal_assignment(seed: int, threshold: float) -> None:
    """Overlapping candidates are not taken greedily: the definition is the best assignment."""
    from scipy.optimize import linear_sum_assignment

    rng = np.random.default_rng(seed)
    true, found = (rng.integers(0, 5, (6, 6)) for _ in range(2))
    iou = np.array(
        [
            [((true == i) & (found == j)).sum() / ((true == i) | (found == j)).sum()
             for j in np.unique(found[found > 0])]
            for i in np.unique(true[true > 0])
        ]
    )  # fmt: skip
    good = (iou >= threshold).astype(int)
    rows, columns = linear_sum_assignment(-good)
    score = average_precision(true, found, (threshold,))
    assert score.true_positives.tolist() == [good[rows, columns].sum()]
    swapped = average_precision(found, true, (threshold,))
    assert swapped.average_precision.tolist() == score.average_precision.tolist()
