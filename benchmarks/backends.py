"""Every backend on one network, 2D and 3D: against its own bare calls, against ONNX Runtime, and
against bioimageio.core blockwise on the same tiles.

    python benchmarks/backends.py [--runs 5] [--threads N]

Also part of `make bench`.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from bench import Bench
from measure import compare

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_runners import Runner

#: Edge of the image and of a tile by number of space axes.
EDGES = {2: (1024, 256), 3: (96, 48)}

#: (weights format, backend) of the U-Net package, the first one being what others are compared to.
TORCH_NET = (
    ("onnx", "onnxruntime"),
    ("onnx", "openvino"),
    ("torchscript", "torch"),
    ("pytorch_state_dict", "torch-code"),
)
KERAS_NET = (("keras_v3", "keras"), ("tensorflow_saved_model_bundle", "tensorflow"))


def main() -> int:
    """Measure; 1 if a budget is missed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=None)
    args = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.update(BIOZOO_HOME=f"{folder}/home", TQDM_DISABLE="1")
        all_backends(bench, Path(folder), args.runs, args.threads)
    return 1 if bench.failed else 0


def all_backends(bench: Bench, folder: Path, runs: int, threads: int | None = None) -> None:
    """Both networks in 2D and 3D."""
    import networks

    from biozoo import consent

    for nd in EDGES:
        package = networks.make(f"unet-{nd}d", folder, nd=nd, base=16 if nd == 2 else 8)
        consent.grant(package)
        measure(bench, package, TORCH_NET, nd, runs, threads)
        package = networks.make_keras(f"keras-{nd}d", folder, nd=nd, base=16 if nd == 2 else 8)
        measure(bench, package, KERAS_NET, nd, runs, threads)


def measure(
    bench: Bench,
    package: ModelPackage,
    candidates: tuple[tuple[str, str], ...],
    nd: int,
    runs: int,
    threads: int | None,
) -> None:
    """One package in several formats on one image."""
    import xarray as xr

    import biozoo_runners

    edge, tile_edge = EDGES[nd]
    axes = ("z", "y", "x")[-nd:]
    tile = dict.fromkeys(axes, tile_edge)
    pixels = np.random.default_rng(0).random([edge] * nd, dtype=np.float32)
    image = xr.DataArray(pixels, dims=axes)
    first: Runner | None = None
    with contextlib.ExitStack() as stack:
        for weights, backend in candidates:
            runner = stack.enter_context(
                biozoo_runners.load(
                    package, device="cpu", weights=weights, backend=backend, threads=threads
                )
            )
            plan = runner.plan(image, tile=tile)
            block = {t.id: t.tile for t in plan.inputs}
            one = {i: np.ones([n or 1 for n in shape], np.float32) for i, shape in block.items()}
            name = f"{nd}D {weights} on {backend}"

            def ours(runner: Runner = runner) -> None:
                runner(image, tile=tile)

            def bare(
                runner: Runner = runner, one: Mapping[str, Any] = one, n: int = len(plan)
            ) -> None:
                for _ in range(n):
                    runner.backend.run(one)

            overhead = compare(ours, bare, runs=runs)
            bench.at_most(
                f"{name}: tiled run, {len(plan)} tiles / bare backend calls",
                overhead.ratio, 1.10, " x", f"{overhead.a:.2f} s / {overhead.b:.2f} s",
            )  # fmt: skip
            if first is None:
                first = runner
            else:

                def reference(runner: Runner = first) -> None:
                    runner(image, tile=tile)

                against = compare(reference, ours, runs=runs)
                bench.tell(
                    f"{name}: speed against {first.info.backend}",
                    against.ratio, " x", f"{against.b:.2f} s against {against.a:.2f} s",
                )  # fmt: skip
            with core_blockwise(package, weights, image, plan) as core:
                if core is None:
                    continue
                throughput = compare(core, ours, runs=runs)
                what = f"{name}: throughput against bioimageio.core blockwise, same tiles"
                detail = f"{throughput.b:.2f} s against {throughput.a:.2f} s"
                if backend == "onnxruntime":
                    bench.at_least(what, throughput.ratio, 1.25, " x", detail)
                else:
                    bench.tell(what, throughput.ratio, " x", detail)


@contextlib.contextmanager
def core_blockwise(package: ModelPackage, weights: str, image: Any, plan: Any) -> Iterator[Any]:
    """A call that runs the image through bioimageio.core, or None where core cannot (and why)."""
    from bioimageio.core import create_prediction_pipeline
    from bioimageio.core.digest_spec import create_sample_for_model
    from loguru import logger

    logger.disable("bioimageio")
    descr = package.descr
    raw = descr.inputs[0]
    dims = [str(a.id) for a in raw.axes]
    shapes = {t.id: dict(zip(t.dims, t.tile, strict=True)) for t in plan.inputs}
    array = image.expand_dims([d for d in dims if d not in image.dims]).transpose(*dims).values

    def call() -> None:
        sample = create_sample_for_model(descr, inputs=array)
        # Keras draws a bar per tile.
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            pipeline.predict_sample_with_fixed_blocking(sample, shapes)

    with contextlib.ExitStack() as stack:
        # core unpacks TensorFlow weights into the current folder
        stack.enter_context(contextlib.chdir(package.root))
        try:
            pipeline = create_prediction_pipeline(descr, weights_format=weights)
            stack.enter_context(pipeline)
            call()
            able = call
        except Exception as exc:  # whatever it is, it is what a user of core would meet
            why = f"{type(exc).__name__}: {exc}".splitlines()[0][:120]
            print(f"     bioimageio.core cannot run {weights} here: {why}")
            able = None
        yield able


if __name__ == "__main__":
    sys.exit(main())
