"""Measure a model of ``nuclei-fluo``, and choose its thresholds on the validation images.

    python zoo/models/nuclei-fluo/evaluate.py CHECKPOINT_OR_ONNX --tune
    python zoo/models/nuclei-fluo/evaluate.py CHECKPOINT_OR_ONNX --out evaluation.json

``--tune`` tries settings on the validation split only; the best go into `INSTANCES` of
``model.py``. Average precision is that of ``benchmarks/ap50.py``. Images are also measured at half
and at twice their size, with the labels scaled alike, and empty images are counted for false
nuclei.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from data import label_file, scale_range
from imageio.v3 import imread
from model import CHANNEL_NAMES, INSTANCES, STEP
from split import image_files

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "runners"), str(ROOT / "zoo")]

from ap50 import average_precision, pooled  # noqa: E402

from biozoo_runners.instances import label_objects  # noqa: E402

# As in the package: the whole image is mirrored by this before it is run. Measured on tiles against
# the whole image: 48 changes outputs by up to 0.045, 64 by 0.005, 96 by nothing.
HALO = 64
Predictor = Callable[[np.ndarray], np.ndarray]


def load_predictor(path: Path, halo: int = HALO) -> Predictor:
    """Load a checkpoint (.pt, its averaged weights) or an .onnx file.

    The returned function mirrors an image (y x) at its edges by `halo`, runs it and returns three
    maps of the image's size (3 y x).
    """
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

        def run(x: np.ndarray) -> np.ndarray:
            return session.run(None, {"raw": x})[0]
    else:
        import torch
        from model import UNet

        model = UNet().eval()
        model.load_state_dict(torch.load(path, weights_only=True)["average"])
        model = model.to(memory_format=torch.channels_last)

        def run(x: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                return model(torch.from_numpy(x)).numpy()

    def predict(image: np.ndarray) -> np.ndarray:
        y, x = image.shape
        pad = ((halo, halo + -y % STEP), (halo, halo + -x % STEP))
        padded = np.pad(scale_range(image), pad, mode="symmetric")
        return run(padded[None, None])[0][:, halo : halo + y, halo : halo + x]

    return predict


def rescale(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Scale an image (smoothed where it shrinks) and its labels (nearest) by `factor`."""
    from skimage.transform import resize

    shape = tuple(round(n * factor) for n in image.shape)
    scaled = resize(image.astype(np.float32), shape, order=1, anti_aliasing=factor < 1)
    nearest = resize(labels, shape, order=0, preserve_range=True, anti_aliasing=False)
    return scaled, nearest.astype(labels.dtype)


def find_objects(maps: np.ndarray, settings: dict) -> np.ndarray:
    """Number the objects in three maps (3 y x) under settings such as `INSTANCES` (int32 y x)."""
    named = dict(zip(CHANNEL_NAMES, maps, strict=True))
    channels = {k: named[settings[k]] for k in CHANNEL_NAMES if k in settings}
    rest = {k: v for k, v in settings.items() if k not in (*channels, "output")}
    return label_objects(**channels, **rest)


def score(predictions: list[np.ndarray], labels: list[np.ndarray], settings: dict) -> dict:
    """Average precision of predictions (each 3 y x) under `settings`."""
    scores = [
        average_precision(true, find_objects(maps, settings))
        for maps, true in zip(predictions, labels, strict=True)
    ]
    mean = np.mean([s.average_precision for s in scores], axis=0)
    together = pooled(scores).average_precision
    return {
        "images": len(scores),
        "nuclei": sum(s.n_true for s in scores),
        "ap50_mean": round(float(mean[0]), 4),
        "ap50_pooled": round(float(together[0]), 4),
        "ap50_90_mean": round(float(mean.mean()), 4),
        "ap50_90_pooled": round(float(together.mean()), 4),
    }


def score_empty(predict: Predictor, settings: dict, n: int = 40) -> dict:
    """Count objects in images that hold none: noise of several kinds, and flat images."""
    rng = np.random.default_rng(7)
    found = 0
    for i in range(n):
        kind = i % 4
        if kind == 0:
            image = rng.poisson(rng.uniform(3, 300), (256, 256))
        elif kind == 1:
            image = 100 + rng.normal(0, 6, (256, 256))
        elif kind == 2:
            slope = np.linspace(0, rng.uniform(5, 60), 256)[:, None]
            image = 200 + slope + rng.normal(0, 8, (256, 256))
        else:
            image = np.full((256, 256), rng.uniform(0, 4000))
        found += int(find_objects(predict(image), settings).max())
    return {"images": n, "found": found}


def tune(predictions: list[np.ndarray], labels: list[np.ndarray], settings: dict) -> dict:
    """Try settings and return the best, by the mean of AP 0.5 over the images."""
    best = (-1.0, settings)
    grid = itertools.product((0.4, 0.5), (0.5, 0.55, 0.6, 0.65), (0.7, 1.2), (0, 10))
    for foreground, seed, smoothing, seed_size in grid:
        trial = settings | {
            "foreground_threshold": foreground,
            "seed_threshold": seed,
            "smoothing": smoothing,
            "min_seed_size": seed_size,
        }
        result = score(predictions, labels, trial)
        print(foreground, seed, smoothing, seed_size, *list(result.values())[2:5], flush=True)
        if (value := result["ap50_mean"] + 0.1 * result["ap50_90_mean"]) > best[0]:
            best = (value, trial)
    return best[1]


def measure(
    predict: Predictor, files: list[Path], settings: dict, scales: list[float]
) -> dict[str, dict]:
    """Score the images in `files` at several scales."""
    images = [(imread(p), imread(label_file(p))) for p in files]
    results = {}
    for factor in scales:
        pairs = [rescale(*pair, factor) if factor != 1 else pair for pair in images]
        predictions = [predict(image) for image, _ in pairs]
        results[str(factor)] = score(predictions, [truth for _, truth in pairs], settings)
        print(factor, json.dumps(results[str(factor)]), flush=True)
    return results


def main() -> None:
    """Tune, or measure and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nuclei/fluo"))
    parser.add_argument("--scales", type=float, nargs="*", default=[1.0, 0.5, 2.0])
    parser.add_argument("--tune", action="store_true", help="choose settings, measure nothing")
    parser.add_argument("--out", type=Path, help="JSON file; with it the test split is measured")
    args = parser.parse_args()
    predict = load_predictor(args.model)
    validation = image_files(args.data / "images", "validation")
    if args.tune:
        predictions = [predict(imread(p)) for p in validation]
        labels = [imread(label_file(p)) for p in validation]
        print(json.dumps(tune(predictions, labels, INSTANCES), indent=2))
        return
    results = {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "instances": INSTANCES,
        "validation": measure(predict, validation, INSTANCES, args.scales),
        "empty": score_empty(predict, INSTANCES),
    }
    print(results["empty"])
    if args.out:
        test = image_files(args.data / "images", "test")
        results["test"] = measure(predict, test, INSTANCES, args.scales)
        args.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
