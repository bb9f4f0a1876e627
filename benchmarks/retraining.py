"""Retraining: how long until the gate's verdict for 20 images, and how good it gets.

    python benchmarks/retraining.py                   # the verdict for 20 images, stage by stage
    python benchmarks/retraining.py --curves          # and both tables of docs/retraining.md

The images are those of ../shared (stained nuclei, which `nuclei-fluo` has never seen); without that
folder simulated ones, whose score says little. `--curves` needs the folder and takes long: it is
`zoo train MODEL IMAGES LABELS --curve ...`, twice.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from bench import Bench

SHARED = Path(__file__).resolve().parents[2] / "shared"
BIN = Path(sys.executable).parent


def the_verdict(bench: Bench, folder: Path, *, count: int = 20) -> None:
    """Seconds from the command to the verdict, and what of them is training."""
    from biozoo_trainers import retrain

    images, labels = _pairs(folder / "pairs", count)
    report = retrain("nuclei-fluo", images, labels, channel="gray", output=folder / "child.zip")
    seconds = report.seconds
    bench.tell(f"retraining nuclei-fluo on {count} images: to the verdict", _verdict(seconds), " s")
    for stage in ("network", "parent", "training", "child"):
        bench.tell(f"  {stage}", seconds[stage], " s")
    if "packing" in seconds:
        bench.tell("  and then the package", seconds["packing"], " s")
    gate = report.gate
    detail = f"before {gate.parent.mean:.3f}, {len(report.held_out)} held out, {report.steps} steps"
    bench.tell(f"  {gate.rule.metric} after", gate.child.mean, "", detail)


def _verdict(seconds: dict[str, float]) -> float:
    return seconds["total"] - seconds.get("packing", 0.0)


def _pairs(folder: Path, count: int) -> tuple[Path, Path]:
    """Folders with so many stained images and their labels, real or simulated."""
    images, labels = folder / "images", folder / "labels"
    images.mkdir(parents=True)
    labels.mkdir()
    real = SHARED / "data" / "nuclei" / "stained"
    if real.is_dir():
        for path in sorted((real / "images").iterdir())[:count]:
            shutil.copy(path, images)
            shutil.copy(real / "labels" / f"{path.stem}.tif", labels)
        return images, labels
    from biozoo.samples import simulate
    from biozoo_runners import write_image

    for seed in range(count):
        image, truth = simulate("histology", (256, 256), seed=seed).to_xarray()
        write_image(images / f"{seed}.ome.tif", image)
        write_image(labels / f"{seed}.ome.tif", truth)
    return images, labels


def curves(folder: Path) -> None:
    """The tables of the documentation, by the command that prints them."""
    from PIL import Image

    stained = SHARED / "data" / "nuclei" / "stained"
    fluo = SHARED / "data" / "nuclei" / "fluo"
    wide = folder / "wide"
    (wide / "images").mkdir(parents=True)
    (wide / "labels").mkdir()
    for path in sorted((fluo / "images").iterdir()):
        if Image.open(path).size == (696, 520):
            shutil.copy(path, wide / "images")
            shutil.copy(fluo / "labels" / f"{path.stem}.tif", wide / "labels")
    broad = SHARED / "models" / "nuclei-broad"
    for model, data, more in (
        ("nuclei-fluo", stained, ("--channel", "gray", "--curve", "5,10,20,40")),
        (str(broad), wide, ("--curve", "5,10,20")),
    ):
        images, labels = str(data / "images"), str(data / "labels")
        command = [str(BIN / "zoo"), "train", model, images, labels, *more]
        print(" ".join(command), flush=True)
        subprocess.run(command, check=False)


def main() -> int:
    """Measure; 0, as there is no budget but the user's patience."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--curves", action="store_true", help="the tables too (long)")
    parser.add_argument("--count", type=int, default=20, help="images for the verdict")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        the_verdict(Bench(), Path(made), count=args.count)
        if args.curves:
            curves(Path(made))
    return 0


if __name__ == "__main__":
    sys.exit(main())
