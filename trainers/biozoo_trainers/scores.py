"""How good a result is against what a person supplied; ignored pixels count for nothing.

    scores = score_instances(truth, found)
    scores["AP50"], scores.main, scores.value

Average precision and Dice are those of `biozoo_runners.comparison.scores`. Every number is better
the higher it is. Where a truth says -1 (labels) or NaN (images), what was found there changes no
score.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .targets.base import Supplies

__all__ = [
    "METRICS",
    "Scores",
    "main_metric",
    "mean_scores",
    "score",
    "score_classes",
    "score_images",
    "score_instances",
]

#: What a person supplies -> the numbers that there are for it, the one that decides first.
METRICS: Mapping[str, tuple[str, ...]] = {
    "instances": ("AP50", "AP50:90"),
    "classes": ("Dice", "IoU"),
    "image": ("PSNR", "SSIM"),
    "nothing": ("PSNR",),  # of pixels that were hidden here and there: they have no structure
}
#: Edge of the window of SSIM in pixels (Wang et al. 2004: 7 is scikit-image's).
SSIM_WINDOW = 7
#: PSNR of two equal images, which is infinite, in dB: so that a mean of several is a number.
MOST_PSNR = 100.0


@dataclass(frozen=True)
class Scores(Mapping[str, float]):
    """The scores of one image, or their mean over several, by name.

    Attributes
    ----------
    main
        The score that decides, one of `each`.
    each
        All of them, by name.
    counts
        What they were counted over: objects, classes or pixels; added up over images.
    """

    main: str
    each: Mapping[str, float]
    counts: Mapping[str, int] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The score that decides."""
        return self.each[self.main]

    def __getitem__(self, name: str) -> float:
        return self.each[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.each)

    def __len__(self) -> int:
        return len(self.each)


def main_metric(supplies: Supplies) -> str:
    """The score that decides for what a person supplies: "AP50", "Dice" or "PSNR"."""
    return METRICS[supplies][0]


def score(supplies: Supplies, truth: NDArray[Any], found: NDArray[Any]) -> Scores:
    """Score one result by the kind of what a person supplied: see the function of each kind."""
    if supplies == "instances":
        return score_instances(truth, found)
    return score_classes(truth, found) if supplies == "classes" else score_images(truth, found)


def mean_scores(scores: Sequence[Scores]) -> Scores:
    """The mean over images, each counting alike; what is NaN in an image is left out there.

    Raises
    ------
    UsageError
        If there is none.
    """
    if not scores:
        raise UsageError("There are no scores to take the mean of. Score one image at least.")
    names = dict.fromkeys(n for s in scores for n in s)
    values = {}
    for name in names:
        each = np.array([s.get(name, np.nan) for s in scores])
        known = each[~np.isnan(each)]
        values[name] = float(known.mean()) if known.size else float("nan")
    kinds = dict.fromkeys(n for s in scores for n in s.counts)
    counts = {kind: sum(s.counts.get(kind, 0) for s in scores) for kind in kinds}
    return Scores(scores[0].main, values, counts)


def score_instances(truth: NDArray[Any], found: NDArray[Any]) -> Scores:
    """Average precision of objects.

    Parameters
    ----------
    truth
        Signed integers, any number of axes: 0 background, 1..n objects, negative where ignored.
    found
        Of the same shape: 0 background, other numbers one object each.

    Returns
    -------
    Scores
        "AP50": TP / (TP + FP + FN) at an intersection over union of 0.5; "AP50:90": its mean over
        0.5, 0.55 ... 0.9. Counted are "objects" and "found".

    Notes
    -----
    An object that was found beside ignored pixels, most of which lies on background, is not
    counted: it may be the rest of an object that is there.

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    from biozoo_runners.comparison.scores import average_precision

    _check_shapes(truth, found)
    ignored = truth < 0
    if ignored.any():
        found = _without_rests(np.where(ignored, 0, found), truth, ignored)
        truth = np.where(ignored, 0, truth)
    counted = average_precision(truth, found)
    each = counted.average_precision
    return Scores(
        "AP50",
        {"AP50": float(each[0]), "AP50:90": float(each.mean())},
        {"objects": counted.n_true, "found": counted.n_predicted},
    )


def score_classes(truth: NDArray[Any], found: NDArray[Any]) -> Scores:
    """Overlap of classes: the mean over those that are in the truth or in the result.

    Parameters
    ----------
    truth
        Signed integers, any number of axes: 0 background, 1..k classes, negative where ignored.
    found
        Classes alike, of the same shape.

    Returns
    -------
    Scores
        "Dice": 2 |A and B| / (|A| + |B|); "IoU": |A and B| / |A or B|; the background is no class
        of its own. Both are 1 where there is no class and none is found. "Dice 1", "Dice 2" and so
        on are those of the classes. Counted are "pixels", those of the truth.

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    _check_shapes(truth, found)
    known = truth >= 0
    there, said = truth[known], found[known]
    classes = [int(c) for c in np.union1d(there, said) if c > 0]
    values: dict[str, float] = {}
    ious = []
    for c in classes:
        a, b = there == c, said == c
        both, total = int((a & b).sum()), int(a.sum()) + int(b.sum())
        values[f"Dice {c}"] = 2 * both / total
        ious.append(both / (total - both))
    mean_dice = float(np.mean(list(values.values()))) if classes else 1.0
    mean_iou = float(np.mean(ious)) if classes else 1.0
    return Scores(
        "Dice", {"Dice": mean_dice, "IoU": mean_iou, **values}, {"pixels": int(known.sum())}
    )


def score_images(truth: NDArray[Any], found: NDArray[Any]) -> Scores:
    """Likeness of two images.

    Parameters
    ----------
    truth
        Numbers (c, then the spatial axes), NaN where ignored.
    found
        Numbers in the same units, of the same shape.

    Returns
    -------
    Scores
        "PSNR" in dB, against the range of the truth, `MOST_PSNR` at most; "SSIM", the mean
        structural similarity (Wang et al. 2004) over all windows without an ignored pixel, NaN
        where there is none. Counted are "pixels".

    Raises
    ------
    UsageError
        If the shapes differ.
    """
    _check_shapes(truth, found)
    known = np.isfinite(truth)
    a, b = np.where(known, truth, 0).astype(np.float64), np.where(known, found, 0)
    b = np.nan_to_num(b.astype(np.float64))
    n = int(known.sum())
    values = a[known]
    extent = float(np.ptp(values)) if n else 0.0
    extent = extent or 1.0  # a flat image has no range of its own
    error = float(((a - b)[known] ** 2).mean()) if n else 0.0
    psnr = 10 * np.log10(extent**2 / error) if error > 0 else MOST_PSNR
    psnr = float(min(psnr, MOST_PSNR)) if n else float("nan")
    return Scores("PSNR", {"PSNR": psnr, "SSIM": _ssim(a, b, known, extent)}, {"pixels": n})


def _ssim(
    truth: NDArray[np.float64],
    found: NDArray[np.float64],
    known: NDArray[np.bool_],
    extent: float,
) -> float:
    """The mean over the windows of each channel that hold known pixels only."""
    from scipy import ndimage as ndi
    from skimage.metrics import structural_similarity

    sides = truth.shape[1:]
    window = min(SSIM_WINDOW, *sides)
    window -= 1 - window % 2
    if window < 3:
        return float("nan")
    reach = window // 2
    inner = tuple(slice(reach, s - reach) for s in sides)
    parts = []
    for a, b, k in zip(truth, found, known, strict=True):
        _, similar = structural_similarity(  # type: ignore[no-untyped-call]
            a, b, data_range=extent, win_size=window, full=True
        )
        whole = ndi.minimum_filter(k, window, mode="nearest")[inner]
        parts.append(similar[inner][whole])
    each = np.concatenate(parts)
    return float(each.mean()) if each.size else float("nan")


def _without_rests(
    found: NDArray[Any], truth: NDArray[Any], ignored: NDArray[np.bool_]
) -> NDArray[Any]:
    """What was found, but for objects at the edge of what is ignored that lie on background."""
    from scipy import ndimage as ndi

    near = ndi.maximum_filter(ignored, 3, mode="nearest") & (found != 0)
    values, numbers = np.unique(found, return_inverse=True)
    numbers = numbers.reshape(found.shape)
    beside = np.zeros(values.size, bool)
    beside[numbers[near]] = True
    size = np.bincount(numbers.ravel(), minlength=values.size)
    on_object = np.bincount(numbers[truth > 0], minlength=values.size)
    drop = beside & (2 * on_object < size) & (values != 0)
    return np.where(drop[numbers], 0, found)


def _check_shapes(truth: NDArray[Any], found: NDArray[Any]) -> None:
    if truth.shape != found.shape:
        raise UsageError(
            f"A result of shape {found.shape} cannot be scored against a truth of shape "
            f"{truth.shape}. Run the model on the annotated image in its own size."
        )
