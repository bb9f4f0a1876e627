"""Average precision of predicted objects against annotated ones.

    python benchmarks/ap50.py PREDICTIONS LABELS [--images IMAGES --split test] [--verbose]

Predictions are label images named ``<stem>.labels.ome.tif`` (or ``<stem>.tif``, ``<stem>.png``),
labels are label images of the same stem. Average precision is that of the StarDist paper (Schmidt
et al. 2018): TP / (TP + FP + FN), where a predicted and an annotated object match if their
intersection over union reaches the threshold, each with one partner at most.

``--split test`` keeps the images that the built-in model `nuclei-fluo` never saw in training. The
split goes by the bytes of the image files, looked for in ``../images`` beside the labels unless
``--images`` says otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

THRESHOLDS = tuple(round(0.5 + 0.05 * i, 2) for i in range(9))  # 0.5, 0.55 ... 0.9
LABEL_SUFFIXES = (".labels.ome.tif", ".ome.tif", ".tif", ".tiff", ".png")
SPLIT_RULE = Path(__file__).parent.parent / "zoo" / "models" / "nuclei-fluo" / "split.py"


@dataclass(frozen=True)
class Score:
    """Counts of one image, or of several added up, per IoU threshold."""

    true_positives: np.ndarray  # thresholds
    n_true: int
    n_predicted: int

    @property
    def average_precision(self) -> np.ndarray:
        """TP / (TP + FP + FN) per threshold; 1 where there is nothing to find and none is found."""
        union = self.n_true + self.n_predicted - self.true_positives
        return np.where(union > 0, self.true_positives / np.maximum(union, 1), 1.0)


def average_precision(
    labels_true: np.ndarray,
    labels_pred: np.ndarray,
    thresholds: Sequence[float] = THRESHOLDS,
) -> Score:
    """Match objects of one image one to one and count.

    Parameters
    ----------
    labels_true, labels_pred
        0 background, other numbers one object each; same shape, 2D or 3D.
    thresholds
        Smallest intersection over union of a match, above 0.

    Returns
    -------
    Score
        Counts, and with them the average precision, per threshold.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    from scipy.optimize import linear_sum_assignment

    if labels_true.shape != labels_pred.shape:
        raise ValueError(
            f"Labels of shape {labels_true.shape} cannot be compared with a prediction of shape "
            f"{labels_pred.shape}. Predict on the annotated image in its own size."
        )
    iou = intersection_over_union(labels_true, labels_pred)  # true predicted
    matched = []
    for threshold in thresholds:
        good = iou >= threshold
        # At 0.5 and above no object can reach the threshold twice without overlaps; the
        # assignment settles what may happen below, preferring the larger IoU.
        rows, columns = linear_sum_assignment(-(good + iou / (2 * max(iou.shape) + 1)))
        matched.append(int(good[rows, columns].sum()))
    return Score(np.array(matched), *iou.shape)


def intersection_over_union(labels_true: np.ndarray, labels_pred: np.ndarray) -> np.ndarray:
    """Intersection over union of every annotated with every predicted object (true predicted)."""
    n_true, true = _consecutive(labels_true)
    n_pred, pred = _consecutive(labels_pred)
    pairs = np.bincount(true * (n_pred + 1) + pred, minlength=(n_true + 1) * (n_pred + 1))
    overlap = pairs.reshape(n_true + 1, n_pred + 1)
    union = overlap.sum(axis=1, keepdims=True) + overlap.sum(axis=0, keepdims=True) - overlap
    return (overlap / np.maximum(union, 1))[1:, 1:]


def pooled(scores: Sequence[Score]) -> Score:
    """Add the counts of several images: large images then weigh more than in their mean."""
    return Score(
        np.sum([s.true_positives for s in scores], axis=0),
        sum(s.n_true for s in scores),
        sum(s.n_predicted for s in scores),
    )


def _consecutive(labels: np.ndarray) -> tuple[int, np.ndarray]:
    """Number objects 1..n, background 0; return n and the flat labels."""
    values, flat = np.unique(labels, return_inverse=True)
    flat = flat.ravel() + (0 if values.size and values[0] == 0 else 1)
    return int(flat.max(initial=0)), flat


def _read(path: Path) -> np.ndarray:
    if path.suffix == ".png":
        from imageio.v3 import imread
    else:
        from tifffile import imread
    return np.squeeze(imread(path))


def _find(folder: Path, stem: str) -> Path | None:
    for suffix in LABEL_SUFFIXES:
        if (path := folder / f"{stem}{suffix}").exists():
            return path
    return None


def _stems(args: argparse.Namespace) -> list[str]:
    """Return the stems to compare: those of the split, or of every label image."""
    if args.split == "all":
        return sorted(p.name.split(".")[0] for p in args.labels.iterdir() if p.is_file())
    spec = importlib.util.spec_from_file_location("split", SPLIT_RULE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    images = args.images or args.labels.parent / "images"
    return [p.stem for p in module.image_files(images, args.split)]


def main() -> int:
    """Compare two folders and print the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("predictions", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--images", type=Path, help="folder of the images, for --split")
    parser.add_argument("--split", choices=("all", "test", "validation", "train"), default="all")
    parser.add_argument("--verbose", action="store_true", help="a line per image")
    args = parser.parse_args()

    scores, missing = {}, []
    for stem in _stems(args):
        label_path, path = _find(args.labels, stem), _find(args.predictions, stem)
        if label_path is None or path is None:
            missing.append(stem)
        else:
            scores[stem] = average_precision(_read(label_path), _read(path))
    if missing:
        print(f"{len(missing)} images lack a prediction or labels, such as {missing[0]}")
    if not scores:
        print("Nothing to compare: the two folders share no image.")
        return 1
    if args.verbose:
        print(f"{'image':<24}{'annotated':>10}{'predicted':>10}{'AP 0.5':>9}{'AP 0.5:0.9':>12}")
        for stem, s in scores.items():
            ap = s.average_precision
            print(f"{stem:<24}{s.n_true:>10}{s.n_predicted:>10}{ap[0]:>9.4f}{ap.mean():>12.4f}")
    mean = np.mean([s.average_precision for s in scores.values()], axis=0)
    together = pooled(list(scores.values())).average_precision
    print(f"{len(scores)} images, split {args.split}")
    print(f"{'':<28}{'mean over images':>18}{'pooled':>10}")
    print(f"{'AP at IoU 0.5':<28}{mean[0]:>18.4f}{together[0]:>10.4f}")
    print(f"{'AP at IoU 0.5:0.05:0.9':<28}{mean.mean():>18.4f}{together.mean():>10.4f}")
    return 2 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
