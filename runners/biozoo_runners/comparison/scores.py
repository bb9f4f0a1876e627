"""How well a result agrees with annotation: average precision of objects, Dice of a foreground.

The definitions that biozoo reports anywhere. Average precision is that of the StarDist paper
(Schmidt et al. 2018): TP / (TP + FP + FN), where a predicted and an annotated object match if their
intersection over union reaches the threshold, each with one partner at most. Dice is
2 * |A and B| / (|A| + |B|). Both are 1 where there is nothing to find and nothing is found, and 0
where only one side has something.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["THRESHOLDS", "Score", "average_precision", "dice", "pooled"]

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(9))  # 0.5, 0.55 ... 0.9


@dataclass(frozen=True)
class Score:
    """Counts of one image, or of several added up, per IoU threshold."""

    true_positives: NDArray[np.int64]  # (thresholds,)
    n_true: int
    n_predicted: int

    @property
    def average_precision(self) -> NDArray[np.float64]:
        """TP / (TP + FP + FN) per threshold; 1 where there is nothing to find and none is found."""
        union = self.n_true + self.n_predicted - self.true_positives
        return np.where(union > 0, self.true_positives / np.maximum(union, 1), 1.0)


def average_precision(
    labels_true: NDArray[Any],
    labels_pred: NDArray[Any],
    thresholds: Sequence[float] = THRESHOLDS,
) -> Score:
    """Match objects of one image one to one and count.

    Parameters
    ----------
    labels_true, labels_pred
        0 background, other numbers one object each; same shape, any number of dimensions.
    thresholds
        Smallest intersection over union of a match, above 0.

    Returns
    -------
    Score
        Counts, and with them the average precision, per threshold. As many pairs count as can be
        made with each object in one at most.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    if labels_true.shape != labels_pred.shape:
        raise ValueError(
            f"Labels of shape {labels_true.shape} cannot be compared with a prediction of shape "
            f"{labels_pred.shape}. Predict on the annotated image in its own size."
        )
    n_true, true = _consecutive(labels_true)
    n_pred, pred = _consecutive(labels_pred)
    both = (true > 0) & (pred > 0)
    # Only pairs that touch are listed: a table of all would not fit for large images.
    codes, overlap = np.unique(true[both] * (n_pred + 1) + pred[both], return_counts=True)
    rows, columns = np.divmod(codes, n_pred + 1)
    sizes_true = np.bincount(true, minlength=n_true + 1)
    sizes_pred = np.bincount(pred, minlength=n_pred + 1)
    iou = overlap / (sizes_true[rows] + sizes_pred[columns] - overlap)
    matched = []
    for threshold in thresholds:
        good = iou >= threshold
        pairs = (np.ones(int(good.sum()), np.int8), (rows[good] - 1, columns[good] - 1))
        graph = coo_array(pairs, shape=(max(n_true, 1), max(n_pred, 1))).tocsr()
        matched.append(int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum()))
    return Score(np.array(matched, np.int64), n_true, n_pred)


def pooled(scores: Sequence[Score]) -> Score:
    """Add the counts of several images: large images then weigh more than in their mean."""
    return Score(
        np.sum([s.true_positives for s in scores], axis=0),
        sum(s.n_true for s in scores),
        sum(s.n_predicted for s in scores),
    )


def dice(mask_true: NDArray[np.bool_], mask_pred: NDArray[np.bool_]) -> float:
    """Dice coefficient of two masks of one shape; 1 where both are empty.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if mask_true.shape != mask_pred.shape:
        raise ValueError(
            f"A mask of shape {mask_true.shape} cannot be compared with one of {mask_pred.shape}."
        )
    total = int(mask_true.sum()) + int(mask_pred.sum())
    return 2 * int((mask_true & mask_pred).sum()) / total if total else 1.0


def _consecutive(labels: NDArray[Any]) -> tuple[int, NDArray[np.int64]]:
    """Number objects 1..n, background 0; return n and the flat labels."""
    values, flat = np.unique(labels, return_inverse=True)
    objects = values != 0
    numbers = np.where(objects, np.cumsum(objects), 0)
    return int(objects.sum()), numbers[flat.ravel()].astype(np.int64)
