"""Make the packages of the built-in models: sources here to ``zoo/biozoo/builtin``.

    python zoo/models/build.py [NAME ...]

What is committed of a model are its recipe, its weights (``weights.safetensors``), what its author
says (``pack.yaml``), the text of its README and its scores (``evaluation.json``). This adds a
simulated sample, a cover and the scores to the facts, and `zoo pack` does the rest: export, proof,
test tensors, description, checks.

    python zoo/models/build.py NAME --checkpoint build/NAME/checkpoint.pt

takes new weights from a training first.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from common.cover import draw_cover
from common.nucleus_scores import find_objects
from common.recipes import BUILT_IN, MODELS, load_recipe, names
from common.weights import load_network, release
from PIL import Image

from biozoo_converters.packing.build import pack
from biozoo_converters.packing.pack_file import read_pack_file

MAX_BYTES = 3_000_000


def build(name: str, target: Path) -> None:
    """Make the package of the model `name` in the folder `target`.

    Raises
    ------
    SystemExit
        If it is larger than `MAX_BYTES`.
    """
    recipe, source = load_recipe(name), MODELS / name
    values = read_pack_file(source / "pack.yaml")
    results = read_results(source / "evaluation.json")
    network = load_network(recipe, source / "weights.safetensors")
    facts = values["config"]["bioimageio"]
    facts["model_parameter_count"] = sum(p.numel() for p in network.parameters())
    with tempfile.TemporaryDirectory(prefix="biozoo-build-") as made:
        folder = Path(made)
        sample, axes = recipe.sample()
        np.save(folder / "sample.npy", sample)
        values["inputs"][0] |= {"sample": folder / "sample.npy", "axes": axes}
        text = (source / "package_readme.md").read_text(encoding="utf-8")
        readme = text.format(**_words(recipe, values, results))
        (folder / "README.md").write_text(readme, encoding="utf-8")
        _draw_cover(folder / "cover.jpg", recipe, network, values)
        values |= {
            "documentation": folder / "README.md",
            "covers": [folder / "cover.jpg"],
        }
        if results:
            values["timestamp"] = results["date"]
            values["evaluations"] = [_evaluation(recipe, results)]
        pack(values, folder / "package", root=source)
        total = 0
        for path in sorted((folder / "package").iterdir()):
            total += path.stat().st_size
            print(f"{path.stat().st_size:>9,}  {path.name}")
        print(f"{total:>9,}  {name}")
        if total > MAX_BYTES:
            raise SystemExit(f"{name} is larger than {MAX_BYTES:,} bytes.")
        if target.exists():
            shutil.rmtree(target)
        shutil.copytree(folder / "package", target)


def read_results(path: Path) -> dict[str, Any]:
    """The scores in ``evaluation.json``; nothing where new weights are still to be measured."""
    if not path.exists():
        print(f"There is no {path.name}: the package will tell no scores. Next: evaluate.py")
        return {}
    results: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return results


def _draw_cover(
    path: Path, recipe: ModuleType, network: torch.nn.Module, values: dict[str, Any]
) -> None:
    """Write the cover: a simulated image and the objects found in it."""
    image = recipe.cover()
    halo = values["outputs"][0]["halo"]
    x = recipe.scale(image)
    padded = np.pad(x, ((0, 0), (halo, halo), (halo, halo)), mode="symmetric")
    with torch.inference_mode():
        maps = network(torch.from_numpy(padded[None]))[0].numpy()[:, halo:-halo, halo:-halo]
    labels = find_objects(maps, values["config"]["biozoo"]["instances"], recipe.CHANNEL_NAMES)
    picture = Image.fromarray(draw_cover(image, labels))
    picture.save(path, quality=76, optimize=True)


def _evaluation(recipe: ModuleType, results: dict[str, Any]) -> dict[str, Any]:
    """The scores as `config.bioimageio.evaluations` has them."""
    scales = results["test"]["scales"]
    dataset_id, source = recipe.DATASET
    return {
        "dataset_id": dataset_id,
        "dataset_source": source,
        "dataset_role": "test",
        "sample_count": scales["1.0"]["images"],
        "evaluation_factors": [recipe.FACTORS[k][0] for k in scales],
        "evaluation_factors_long": [recipe.FACTORS[k][1] for k in scales],
        "metrics": [short for short, _ in recipe.METRICS.values()],
        "metrics_long": [long for _, long in recipe.METRICS.values()],
        "results": [[scores[m] for scores in scales.values()] for m in recipe.METRICS],
        "results_summary": recipe.SUMMARY,
    }


def _words(recipe: ModuleType, values: dict[str, Any], results: dict[str, Any]) -> dict[str, str]:
    """What the text of a README leaves open."""
    facts = values["config"]["bioimageio"]
    limits = facts["bias_risks_limitations"]
    words = {
        "parameters": f"{facts['model_parameter_count']:,}",
        "halo": str(values["outputs"][0]["halo"]),
        "scope": facts["out_of_scope_use"],
        "biases": limits["known_biases"],
        "risks": limits["risks"],
        "recommendations": limits["recommendations"],
    }
    measured = ("images", "objects", "validation", "low", "high", "worst", "empty", "found")
    if not results:
        return words | dict.fromkeys((*measured, "table"), "(not measured)")
    test = results["test"]
    main, empty = test["scales"]["1.0"], test.get("empty", {})
    numbers = (
        main["images"],
        f"{main[recipe.OBJECTS]:,}",
        results["validation"]["scales"]["1.0"]["images"],
        f"{main.get('ap50_low', 0):.2f}",
        f"{main.get('ap50_high', 0):.2f}",
        f"{main.get('rand_f_min', 0):.3f}",
        empty.get("images"),
        empty.get("found"),
    )
    words |= {key: str(value) for key, value in zip(measured, numbers, strict=True)}
    return words | {"table": _table(recipe, test)}


def _table(recipe: ModuleType, test: dict[str, Any]) -> str:
    """The scores of a part of the data as a Markdown table, other ways below."""
    rows = {recipe.FACTORS[k][0]: v for k, v in test["scales"].items()} | test["baselines"]
    head = ["images", *(short for short, _ in recipe.METRICS.values())]
    lines = [head, ["---"] * len(head)]
    lines += [[name, *(f"{s[m]:.3f}" for m in recipe.METRICS)] for name, s in rows.items()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def main() -> None:
    """Build the models named, or all."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names())}")
    parser.add_argument("--checkpoint", type=Path, help="take the weights of a training first")
    parser.add_argument("--out", type=Path, default=BUILT_IN, help="folder for the packages")
    args = parser.parse_args()
    if args.checkpoint and len(args.names) != 1:
        parser.error("--checkpoint is of one model: name it")
    for name in args.names or names():
        if args.checkpoint:
            target = MODELS / name / "weights.safetensors"
            print(f"{release(load_recipe(name), args.checkpoint, target):,} parameters")
            (MODELS / name / "evaluation.json").unlink(missing_ok=True)  # it was of other weights
        build(name, args.out / name)


if __name__ == "__main__":
    main()
