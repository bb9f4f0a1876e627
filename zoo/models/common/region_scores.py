"""How well membranes and the cells between them are found.

- F1 and area under the ROC curve of the membrane's pixels.
- Rand F-score: 1 - the adapted Rand error (`skimage.metrics.adapted_rand_error`), the measure of
  the ISBI 2012 challenge (Arganda-Carreras et al. 2015, Frontiers in Neuroanatomy 9:142): the
  harmonic mean of precision and recall over pairs of pixels that lie in one cell. Pixels that are
  membrane in the annotation do not count, and found cells are first grown until they meet, so that
  the thickness of membranes does not count either.
- AP50: average precision of cells at IoU 0.5, as for nuclei.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from biozoo_runners.comparison.scores import average_precision

from .nucleus_scores import Settings, find_objects

# How the numbers are called in a card: key to short and long name.
METRICS = {
    "f1": ("membrane F1", "harmonic mean of precision and recall of membrane pixels, at 0.5"),
    "auc": ("membrane AUC", "area under the ROC curve of membrane pixels"),
    "rand_f_mean": ("Rand F", "1 - adapted Rand error of the cells, mean over slices"),
    "ap50_mean": ("AP50 of cells", "TP / (TP + FP + FN) at IoU 0.5, mean over slices"),
}


def rand_f(truth: np.ndarray, found: np.ndarray) -> float:
    """Rand F-score of found cells against annotated ones (labels y x, 0 membrane)."""
    from scipy import ndimage as ndi
    from skimage.metrics import adapted_rand_error

    if not found.any():
        grown = np.zeros_like(found)
    else:
        nearest = ndi.distance_transform_edt(
            found == 0, return_distances=False, return_indices=True
        )
        grown = found[tuple(nearest)]
    return 1 - float(adapted_rand_error(truth, grown + 1)[0])


def roc_auc(positive: np.ndarray, score: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a positive pixel scores above a negative one."""
    from scipy.stats import rankdata

    ranks = rankdata(score.ravel())
    where = positive.ravel()
    n = int(where.sum())
    above = ranks[where].sum() - n * (n + 1) / 2
    return float(above / (n * (where.size - n)))


def f1(truth: np.ndarray, found: np.ndarray) -> float:
    """Harmonic mean of precision and recall of two masks."""
    return float(2 * (truth & found).sum() / max(int(truth.sum()) + int(found.sum()), 1))


def score(
    membrane: list[np.ndarray], cells: list[np.ndarray], truth: list[np.ndarray]
) -> dict[str, Any]:
    """Scores of membrane maps and cell labels against annotated cells (each y x)."""
    lines = [t == 0 for t in truth]
    ap = [average_precision(t, c).average_precision[0] for t, c in zip(truth, cells, strict=True)]
    rand = [rand_f(t, c) for t, c in zip(truth, cells, strict=True)]
    return {
        "images": len(truth),
        "cells": int(sum(t.max() for t in truth)),
        "f1": round(f1(np.stack(lines), np.stack(membrane) > 0.5), 4),
        "auc": round(roc_auc(np.stack(lines), np.stack(membrane)), 4),
        "rand_f_mean": round(float(np.mean(rand)), 4),
        "rand_f_min": round(float(np.min(rand)), 4),
        "rand_f_each": [round(r, 4) for r in rand],
        "ap50_mean": round(float(np.mean(ap)), 4),
    }


def tune(
    maps: list[np.ndarray],
    truth: list[np.ndarray],
    settings: Settings,
    names: tuple[str, ...],
) -> Settings:
    """Try settings on maps (each channel y x) and return the best, by the mean Rand F-score."""
    best = (-1.0, settings)
    grid = itertools.product(
        (0.3, 0.4, 0.5, 0.6), (0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (0.0, 1.0), (0, 20)
    )
    for foreground, seed, smoothing, seed_size in grid:
        trial = settings | {
            "foreground_threshold": foreground,
            "seed_threshold": seed,
            "smoothing": smoothing,
            "min_seed_size": seed_size,
        }
        found = [find_objects(m, trial, names) for m in maps]
        both = list(zip(truth, found, strict=True))
        rand = float(np.mean([rand_f(t, f) for t, f in both]))
        ap = float(np.mean([average_precision(t, f).average_precision[0] for t, f in both]))
        print(f"{foreground} {seed} {smoothing} {seed_size} {rand:.4f} {ap:.4f}", flush=True)
        if rand + 0.1 * ap > best[0]:
            best = (rand + 0.1 * ap, trial)
    return best[1]
