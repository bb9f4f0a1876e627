"""Measure a built-in model through its package, or choose how objects are made of its output.

    python zoo/models/evaluate.py em-membrane --tune
    python zoo/models/evaluate.py em-membrane

``--tune`` tries settings on the validation part only; the best belong into ``config.biozoo`` of the
model's ``pack.yaml``. Without it the test part is measured too, and the numbers are written to
``evaluation.json`` beside the recipe, from where ``build.py`` takes them.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
from common.recipes import BUILT_IN, MODELS, load_recipe

import biozoo
import biozoo_runners
from biozoo_runners.instances import read_instances_config


def main() -> None:
    """Tune, or measure and write the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name")
    parser.add_argument("--package", type=Path, help="default: the built-in one")
    parser.add_argument("--data", type=Path, help="default: the folder that the recipe names")
    parser.add_argument("--tune", action="store_true", help="choose settings, measure nothing")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    recipe = load_recipe(args.name)
    data = args.data or recipe.DATA
    package = biozoo.open(args.package or BUILT_IN / args.name)
    config = read_instances_config(package.descr)
    if config is None:
        raise SystemExit("The package does not say how objects are made (config.biozoo.instances).")
    settings = dict(package.raw["config"]["biozoo"]["instances"])  # as they are written

    with biozoo_runners.load(package, threads=args.threads) as runner:

        def run(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            result = runner(image, axes="yx" if image.ndim == 2 else "cyx")
            maps = result[config.output].transpose("channel", "y", "x")
            return maps.to_numpy(), result["labels"].to_numpy()

        if args.tune:
            print(json.dumps(recipe.tune(run, settings, data), indent=2))
            return
        results = {
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "instances": settings,
            "validation": recipe.measure(run, data, "validation"),
            "test": recipe.measure(run, data, "test"),
        }
    target = MODELS / args.name / "evaluation.json"
    target.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
