"""Live mode: how long the overlay takes to follow a stroke, and what five strokes bring.

    python benchmarks/live.py [--runs 5] [--size 1024] [--threads 2] [--images IMAGES LABELS]

Also part of `make bench`. Dark nuclei of a simulated section under `nuclei-fluo`, whose world is
bright nuclei on dark. With `--images` the same five strokes are painted on every image of a folder
(labels of the same stem), and what became of the wrong pixels is printed as a distribution.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bench
from measure import seconds
from numpy.typing import NDArray

MODEL = "nuclei-fluo"
RADIUS = 3
STROKES = 5


def main() -> int:
    """Measure; 1 if a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=1024, help="edge of the region")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--model", default=MODEL, help="built-in id or package folder")
    parser.add_argument("--images", nargs=2, type=Path, metavar=("IMAGES", "LABELS"))
    parser.add_argument("--channel", default="gray")
    args = parser.parse_args()
    bench = Bench()
    live_mode(bench, args.runs, model=args.model, size=args.size, threads=args.threads)
    if args.images:
        real_images(bench, *args.images, model=args.model, channel=args.channel)
    return 1 if bench.failed else 0


def live_mode(
    bench: Bench, runs: int, *, model: str = MODEL, size: int = 1024, threads: int = 2
) -> None:
    """One region: features once, then refit, maps and objects after a stroke; a package at the end.

    The page adds what the server and the browser need to the second of these (`test_page_live`).
    """
    from biozoo.samples import simulate
    from biozoo_trainers.live import ChildFacts, open_live

    sample = simulate("histology", (size, size))
    image, _ = sample.to_xarray()
    painted = scribbles(sample.labels, STROKES, np.random.default_rng(0))
    with open_live(model, threads=threads) as live:
        features = live.features(image, channel="gray")
        bench.tell(
            f"live mode, {size} x {size}: features, once per region", features.seconds, " s",
            f"{features.values.sizes['channel']} of them, {features.nbytes / 1e6:.0f} MB, "
            f"{threads} threads",
        )  # fmt: skip
        head = live.refit(features, painted)
        live.result(features, head)
        fits, looks, stages = [], [], []
        for _ in range(runs):
            fits.append(seconds(lambda: live.refit(features, painted)))
            looks.append(seconds(lambda: stages.append(live.result(features, head).seconds)))
        fit = statistics.median(fits)
        parts = {s: statistics.median(t[s] for t in stages) for s in stages[0]}
        bench.at_most(f"live mode, {size} x {size}: refit after {STROKES} strokes", fit, 0.3, " s")
        bench.at_most(
            f"live mode, {size} x {size}: refit, maps and objects after a stroke",
            statistics.median(a + b for a, b in zip(fits, looks, strict=True)), 0.6, " s",
            f"refit {fit:.2f} s, " + ", ".join(f"{s} {t:.2f} s" for s, t in parts.items()),
        )  # fmt: skip
        truth = sample.labels > 0
        before, after = (wrong(live, features, h, truth) for h in (None, head))
        bench.at_most(
            f"live mode: wrongly classified pixels after {STROKES} strokes / before",
            after / before, 2 / 3, " x", f"{before:.3f} -> {after:.3f} of all, nucleus or not",
        )  # fmt: skip
        with tempfile.TemporaryDirectory() as folder:
            kept = seconds(lambda: live.child(head, Path(folder) / "kept.zip", facts=ChildFacts()))
        bench.tell("live mode: a refitted head as a proven package", kept, " s")


def real_images(bench: Bench, images: Path, labels: Path, *, model: str, channel: str) -> None:
    """Five strokes on every image of a folder, the worst image and the middle one."""
    from biozoo_runners import find_images, open_image
    from biozoo_trainers.live import open_live

    gains = []
    with open_live(model) as live:
        for number, path in enumerate(find_images([images])):
            found = next(p for p in sorted(labels.iterdir()) if p.name.split(".")[0] == path.stem)
            truth = np.squeeze(open_image(found).read().values).astype(np.int32)
            features = live.features(path, channel=channel)
            painted = scribbles(truth, STROKES, np.random.default_rng(number))
            head = live.refit(features, painted)
            before, after = (wrong(live, features, h, truth > 0) for h in (None, head))
            gains.append(1 - after / before)
    tenths = ", ".join(f"{np.percentile(gains, p):.2f}" for p in (0, 10, 25, 50, 75, 90, 100))
    bench.tell(
        f"{len(gains)} images: share of the wrong pixels that {STROKES} strokes put right, median",
        float(np.median(gains)), "", f"percentiles 0, 10, 25, 50, 75, 90, 100: {tenths}",
    )  # fmt: skip
    third = float(np.mean(np.array(gains) >= 1 / 3))
    bench.at_least(f"{len(gains)} images: of them at least a third better", third, 0.9, "")


def wrong(live: Any, features: Any, head: Any, truth: NDArray[np.bool_]) -> float:
    """Share of the pixels whose class, object or not, is wrong."""
    instances = live.parent.instances
    front = 0 if instances is None else instances.foreground
    maps = live.apply(features, head)
    return float(((maps.values[front] > 0.5) != truth).mean())


def scribbles(labels: NDArray[np.int32], count: int, rng: np.random.Generator) -> NDArray[np.int32]:
    """Short random strokes inside objects and between them, in turn, -1 where there is none."""
    painted = np.full(labels.shape, -1, np.int32)
    numbers = np.unique(labels[labels > 0])
    sizes = np.bincount(labels.ravel())[numbers]
    numbers = numbers[sizes >= np.median(sizes)]
    for stroke in range(count):
        inside = labels == rng.choice(numbers) if stroke % 2 == 0 else labels == 0
        painted[_stroke(inside, 20 if stroke % 2 == 0 else 40, rng)] = int(stroke % 2 == 0)
    return painted


def _stroke(inside: NDArray[np.bool_], length: int, rng: np.random.Generator) -> NDArray[np.bool_]:
    """A line that wanders where it may, as wide as the brush."""
    from scipy import ndimage as ndi

    box = ndi.find_objects(inside.astype(np.int32))[0]
    depth = ndi.distance_transform_edt(np.pad(inside[box], 1, constant_values=False))[1:-1, 1:-1]
    places = np.argwhere(depth >= min(RADIUS, 0.6 * depth.max()))
    at = places[rng.integers(len(places))].astype(float)
    angle, line = rng.uniform(0, 2 * np.pi), np.zeros(depth.shape, bool)
    for _ in range(length):
        line[tuple(np.rint(at).astype(int))] = True
        ahead = at + np.array([np.sin(angle), np.cos(angle)])
        y, x = np.rint(ahead).astype(int)
        free = 0 <= y < depth.shape[0] and 0 <= x < depth.shape[1] and depth[y, x] > 1.5
        at = ahead if free else at
        angle += rng.normal(0, 0.25) if free else rng.uniform(1, 3)
    painted = np.zeros(inside.shape, bool)
    painted[box] = ndi.distance_transform_edt(~line) <= RADIUS + 0.5
    return painted & inside


if __name__ == "__main__":
    sys.exit(main())
