"""Average precision of predicted objects against annotated ones.

    python benchmarks/ap50.py PREDICTIONS LABELS [--images IMAGES --split test] [--verbose]

Predictions are label images named ``<stem>.labels.ome.tif`` (or ``<stem>.tif``, ``<stem>.png``),
labels are label images of the same stem. Average precision is as `biozoo_runners.comparison.scores`
defines it, TP / (TP + FP + FN).

``--split test`` keeps the images that the built-in model `nuclei-fluo` never saw in training. The
split goes by the bytes of the image files, looked for in ``../images`` beside the labels unless
``--images`` says otherwise.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

import numpy as np

from biozoo_runners.comparison.scores import THRESHOLDS, Score, average_precision, pooled

__all__ = ["THRESHOLDS", "Score", "average_precision", "pooled"]

LABEL_SUFFIXES = (".labels.ome.tif", ".ome.tif", ".tif", ".tiff", ".png")
SPLIT_RULE = Path(__file__).parent.parent / "zoo" / "models" / "common" / "splits.py"


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
