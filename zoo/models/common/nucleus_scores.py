"""How well nuclei are found, and the settings that find them best.

Average precision is that of `biozoo_runners.comparison.scores` (Schmidt et al. 2018). Images are
also measured at half and at twice their size, with the labels scaled alike, and images without
nuclei are counted for false ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from biozoo_runners.comparison.scores import average_precision, pooled
from biozoo_runners.instances import label_objects

from .nuclei import CHANNEL_NAMES

Pairs = list[tuple[np.ndarray, np.ndarray]]
Run = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
Find = Callable[[np.ndarray], np.ndarray]
Settings = dict[str, Any]
SCALES = (1.0, 0.5, 2.0)
# How the numbers are called in a card: key to short and long name.
METRICS = {
    "ap50_mean": ("AP50", "TP / (TP + FP + FN) at IoU 0.5, mean over images"),
    "ap50_pooled": ("AP50 pooled", "the same with the counts of all images added up"),
    "ap50_90_mean": ("AP50:90", "mean of AP at IoU 0.5, 0.55 ... 0.9, mean over images"),
}
FACTORS = {
    "1.0": ("original", "held-out images as they are"),
    "0.5": ("half size", "the same images scaled to half"),
    "2.0": ("double size", "the same images scaled to double"),
}


def rescale(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image (... y x, smoothed where it shrinks) and its labels (nearest) by `factor`."""
    from skimage.transform import resize

    if factor == 1:
        return image, labels
    shape = tuple(round(n * factor) for n in labels.shape)
    scaled = resize(
        image.astype(np.float32),
        (*image.shape[:-2], *shape),
        order=1,
        anti_aliasing=factor < 1,
    )
    nearest = resize(labels, shape, order=0, preserve_range=True, anti_aliasing=False)
    return scaled, nearest.astype(labels.dtype)


def find_objects(
    maps: np.ndarray, settings: Settings, names: tuple[str, ...] = CHANNEL_NAMES
) -> np.ndarray:
    """Number the objects in maps (channel y x) under ``config.biozoo.instances`` (int32 y x)."""
    named = dict(zip(names, maps, strict=True))
    roles = [r for r in ("foreground", "distance", "boundary") if r in settings]
    channels = {role: named[settings[role]] for role in roles}
    rest = {k: v for k, v in settings.items() if k not in (*roles, "output")}
    return label_objects(**channels, **rest)


def score(found: list[np.ndarray], truth: list[np.ndarray]) -> dict[str, Any]:
    """Average precision of label images against annotated ones.

    `ap50_low` and `ap50_high` hold 95 % of the means over images drawn anew (bootstrap).
    """
    scores = [average_precision(t, f) for f, t in zip(found, truth, strict=True)]
    mean = np.mean([s.average_precision for s in scores], axis=0)
    together = pooled(scores).average_precision
    each = np.array([s.average_precision[0] for s in scores])
    draws = np.random.default_rng(0).integers(len(each), size=(2000, len(each)))
    low, high = np.percentile(each[draws].mean(axis=1), [2.5, 97.5])
    return {
        "images": len(scores),
        "nuclei": sum(s.n_true for s in scores),
        "ap50_mean": round(float(mean[0]), 4),
        "ap50_low": round(float(low), 4),
        "ap50_high": round(float(high), 4),
        "ap50_pooled": round(float(together[0]), 4),
        "ap50_90_mean": round(float(mean.mean()), 4),
        "ap50_90_pooled": round(float(together.mean()), 4),
        "ap50_each": [round(float(a), 4) for a in each],
    }


def say(split: str, what: object, scores: dict[str, Any]) -> None:
    """Print the scores of one part of the data."""
    print(split, what, {k: v for k, v in scores.items() if not isinstance(v, list)}, flush=True)


def measure(
    run: Run,
    data: Path,
    split: str,
    *,
    read_split: Callable[[Path, str], Pairs],
    nothing: Callable[[np.random.Generator, int], np.ndarray],
    baselines: dict[str, Find] | None = None,
) -> dict[str, Any]:
    """Score one part of the data at several scales, and other ways to find nuclei beside it.

    Parameters
    ----------
    run
        Image to maps (channel y x) and labels (y x).
    data
        Folder of the data.
    split
        ``"test"`` or ``"validation"``.
    read_split
        Gives the images and labels of a part.
    nothing
        Makes an image without nuclei, of one of four kinds.
    baselines
        Name to another way from image to labels, measured at the original scale.
    """
    pairs = read_split(data, split)
    results: dict[str, Any] = {"scales": {}, "baselines": {}}
    for factor in SCALES:
        scaled = [rescale(*pair, factor) for pair in pairs]
        found = [run(image)[1] for image, _ in scaled]
        results["scales"][str(factor)] = score(found, [labels for _, labels in scaled])
        say(split, factor, results["scales"][str(factor)])
    for name, other in (baselines or {}).items():
        found = [other(image) for image, _ in pairs]
        results["baselines"][name] = score(found, [labels for _, labels in pairs])
        say(split, name, results["baselines"][name])
    rng, n = np.random.default_rng(7), 40
    count = sum(int(run(nothing(rng, i % 4))[1].max()) for i in range(n))
    results["empty"] = {"images": n, "found": count}
    say(split, "empty", results["empty"])
    return results


def tune(
    run: Run,
    settings: Settings,
    data: Path,
    *,
    read_split: Callable[[Path, str], Pairs],
    scales: tuple[float, ...] = (1.0,),
) -> Settings:
    """Try settings on the validation part and return the best, by the mean of AP 0.5."""
    pairs = [rescale(*pair, factor) for factor in scales for pair in read_split(data, "validation")]
    maps = [run(image)[0] for image, _ in pairs]
    truth = [labels for _, labels in pairs]
    best = (-1.0, settings)
    grid = itertools.product(
        (0.4, 0.5), (False, True), (0.2, 0.3, 0.4, 0.5, 0.55, 0.6, 0.65), (0.7, 1.2), (0, 10, 25)
    )
    for foreground, boundary, seed, smoothing, seed_size in grid:
        trial = {k: v for k, v in settings.items() if k != "boundary"} | {
            "foreground_threshold": foreground,
            "seed_threshold": seed,
            "smoothing": smoothing,
            "min_seed_size": seed_size,
        }
        if boundary:
            trial["boundary"] = "boundary"
        result = score([find_objects(m, trial) for m in maps], truth)
        scores = (result[k] for k in METRICS)
        print(foreground, boundary, seed, smoothing, seed_size, *scores, flush=True)
        value = result["ap50_mean"] + 0.1 * result["ap50_90_mean"]
        if value > best[0]:
            best = (value, trial)
    return best[1]
