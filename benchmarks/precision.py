"""float32, `--precision auto` and bfloat16 with `--tolerance 0.01` on one image, against
bioimageio.core blockwise on the same tiles.

    python benchmarks/precision.py [--runs 3] [--model FOLDER] [--size 1024]

The proofs are made before anything is timed: a later run, as a user of many images has it, is what
the budgets are about. Its check of a few tiles is in what is timed.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backends import core_blockwise
from bench import Bench
from measure import compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from biozoo import ModelPackage

NUCLEI_BROAD = Path(__file__).resolve().parents[2] / "shared" / "models" / "nuclei-broad"

#: Name -> what `load` is asked for, and the least throughput against bioimageio.core.
WISHES: Mapping[str, tuple[dict[str, Any], float]] = {
    "float32": ({}, 1.25),
    "auto": ({"precision": "auto"}, 2.0),
    "bfloat16, tolerance 0.01": ({"precision": "bfloat16", "tolerance": 0.01}, 3.0),
}


def main() -> int:
    """Measure; 1 if a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default=str(NUCLEI_BROAD), help="built-in id or package folder")
    parser.add_argument("--size", type=int, default=1024, help="edge of the image")
    args = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(BIOZOO_HOME=f"{folder}/home", TQDM_DISABLE="1")
        precisions(bench, args.model, args.size, args.runs)
    return 1 if bench.failed else 0


def precisions(bench: Bench, model: str, size: int, runs: int) -> None:
    """Every wish against the reference, on one image."""
    import biozoo
    from biozoo.errors import BiozooError

    package = biozoo.open(model)
    image = _image(size)
    for name, (wish, budget) in WISHES.items():
        try:
            _against_core(bench, package, image, name, wish, budget, runs)
        except BiozooError as exc:
            print(f"     {name}: {exc}", flush=True)


def _against_core(
    bench: Bench,
    package: ModelPackage,
    image: Any,
    name: str,
    wish: dict[str, Any],
    budget: float,
    runs: int,
) -> None:
    import biozoo_runners

    with biozoo_runners.load(package, device="cpu", **wish) as runner:
        plan = runner.plan(image)
        report = runner(image).report  # makes the proof, the first time
        ran = report.precision.ran if report.precision else "the first choice"
        with core_blockwise(package, "onnx", image, plan) as core:
            if core is None:
                return
            ours: Callable[[], object] = lambda: runner(image)  # noqa: E731
            found = compare(core, ours, runs=runs)
    bench.at_least(
        f"{name}: throughput against bioimageio.core blockwise, {len(plan)} same tiles",
        found.ratio, budget, " x", f"{found.b:.2f} s against {found.a:.2f} s; ran {ran}",
    )  # fmt: skip


def _image(size: int) -> Any:
    from biozoo.samples import simulate

    return simulate("nuclei", (size, size)).to_xarray()[0]


if __name__ == "__main__":
    sys.exit(main())
