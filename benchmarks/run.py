"""The budgets that apply so far, each as a ratio within one run: `make bench`.

    python benchmarks/run.py [--model nuclei-fluo] [--runs 5] [--size 2048]

Prints one line per budget: what was measured, the ratio (median of several runs, both sides taken
in turn), the budget, and whether it holds. Ends with 1 if one does not hold.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
from backends import all_backends
from bench import Bench
from live import live_mode
from measure import command, compare, median_seconds
from page import the_page
from retraining import the_verdict
from training_step import training_step

BIN = Path(sys.executable).parent


def main() -> int:
    """Measure everything; 1 if a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--model", default="nuclei-fluo", help="built-in id or package folder")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", type=int, default=2048, help="edge of the tiled image")
    parser.add_argument("--tile", type=int, default=512, help="edge of a tile")
    args = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory() as folder:
        # tqdm: the reference draws a bar per run, which would drown the figures.
        env = {**os.environ, "BIOZOO_HOME": f"{folder}/home", "TQDM_DISABLE": "1"}
        os.environ.update(env)
        cold_starts(bench, Path(folder), args.model, args.runs, env)
        tiled_runs(bench, args.model, args.size, args.tile, args.runs)
        all_backends(bench, Path(folder), args.runs)
        the_page(bench, Path(folder), args.model, args.runs)
        live_mode(bench, args.runs)
        training_step(bench)
        the_verdict(bench, Path(folder))
    return 1 if bench.failed else 0


def cold_starts(bench: Bench, folder: Path, model: str, runs: int, env: dict[str, str]) -> None:
    """Whole processes: help, list, and a small image against `bioimageio predict`."""
    import biozoo
    from biozoo.samples import simulate
    from biozoo_runners import write_image

    zoo = str(BIN / "zoo")
    for verb, budget in (("--help", 0.25), ("list", 0.5)):
        took = median_seconds(command([zoo, verb], env=env), runs=runs)
        bench.at_most(f"zoo {verb}", took, budget, " s")

    # As large as the reference needs: its block of min + 10 * step must fit into the image.
    image, _ = simulate("nuclei", (384, 384)).to_xarray()
    write_image(folder / "small.ome.tif", image)
    np.save(folder / "small.npy", image.values[None])  # bcyx, as the reference takes it
    ours = command([zoo, "run", model, f"{folder}/small.ome.tif", "-o", f"{folder}/ours/"], env=env)
    reference = command(
        [
            str(BIN / "bioimageio"), "predict", str(biozoo.open(model).rdf),
            f"--inputs={folder}/small.npy", f"--outputs={folder}/reference_{{output_id}}.npy",
            "--blockwise=10", "--weight-format=onnx", "--overwrite",
            f"--stats={folder}/stats.json",
        ],
        env=env,
    )  # fmt: skip

    def first() -> None:
        shutil.rmtree(env["BIOZOO_HOME"], ignore_errors=True)
        ours()

    # A model's first run on a machine reads its description with bioimageio.spec and keeps what it
    # needs of it; later processes start from that. Both are what a user waits for.
    for what, side in (("first", first), ("later", ours)):
        cold = compare(side, reference, runs=runs)
        bench.at_most(
            f"zoo run, small image, cold process, {what} run of the model / "
            "bioimageio predict --blockwise 10",
            cold.ratio, 0.7, " x", f"{cold.a:.2f} s / {cold.b:.2f} s",
        )  # fmt: skip


def tiled_runs(bench: Bench, model: str, size: int, tile: int, runs: int) -> None:
    """A large image against the bare backend and against bioimageio.core, same tiles."""
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model

    import biozoo
    import biozoo_runners
    from biozoo.samples import simulate

    package = biozoo.open(model)
    descr = package.descr
    raw = descr.inputs[0]
    image, _ = simulate("nuclei", (size, size)).to_xarray()
    edges = {"y": tile, "x": tile}
    block = {a.id: edges.get(str(a.id), 1) for a in raw.axes}
    with biozoo_runners.load(package, device="cpu") as runner:
        runner.instances = None  # objects are made after the tiles, and the others make none
        one = {raw.id: np.random.default_rng(0).random(tuple(block.values()), dtype=np.float32)}
        count = len(runner.plan(image, tile=edges))

        def ours() -> None:
            runner(image, tile=edges)

        def bare() -> None:
            for _ in range(count):
                runner.backend.run(one)

        overhead = compare(ours, bare, runs=runs)
        bench.at_most(
            f"tiled run, {size} x {size} in {count} tiles / bare backend calls on such tiles",
            overhead.ratio, 1.10, " x", f"{overhead.a:.2f} s / {overhead.b:.2f} s",
        )  # fmt: skip
        threads = runner.info.threads

        pipeline = create_prediction_pipeline(descr, weight_format="onnx")

        def reference() -> None:
            sample = create_sample_for_model(descr, inputs=image.values[None])
            pipeline.predict_sample_with_fixed_blocking(sample, input_block_shape={raw.id: block})

        with pipeline:
            throughput = compare(reference, ours, runs=runs)
        bench.at_least(
            f"throughput against bioimageio.core blockwise, same tiles, onnxruntime fp32, "
            f"{threads} threads",
            throughput.ratio, 1.25, " x", f"{throughput.b:.2f} s against {throughput.a:.2f} s",
        )  # fmt: skip


if __name__ == "__main__":
    sys.exit(main())
