"""Runs of any size: peak memory against the image's size, and what tasks and a cluster cost.

    python benchmarks/large.py                      # 4096, 8192 and 16384 pixels squared
    python benchmarks/large.py --sizes 4096,32768   # a 2 GiB image

Each run is `zoo run nuclei-fluo IMAGE -o OUT.zarr` in a process of its own, from a store that is
made here piece by piece. Memory is the most that the process ever had resident.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench import Bench

from biozoo.samples import simulate_nuclei

MODEL = "nuclei-fluo"
SIDE = 2048

#: Peak memory of an image 16 times as large, against the smaller one's; see the design.
FLAT = 1.2

#: Out of core against in memory, and two workers against one process of two threads.
OVERHEAD = 1.1

PROGRAM = "from biozoo_ui.cli import main; main()"


def make_store(path: Path, size: int) -> Path:
    """An OME-Zarr 0.5 of uint16, `size` squared: simulated nuclei, turned piece by piece."""
    import zarr

    nuclei = simulate_nuclei((SIDE, SIDE), seed=1, diameter=24, density=0.25).image
    values = (nuclei / nuclei.max() * 40000).astype("uint16")
    group: Any = zarr.open_group(path, mode="w", zarr_format=3)
    side = min(SIDE, size)
    array = group.create_array(
        "0", shape=(size, size), chunks=(512, 512), shards=(side, side), dtype="uint16"
    )
    rng = np.random.default_rng(0)
    for y in range(0, size, side):
        for x in range(0, size, side):
            piece = np.rot90(values, int(rng.integers(4)))[:side, :side]
            array[y : y + side, x : x + side] = piece[: size - y, : size - x]
    scale = {"type": "scale", "scale": [0.5, 0.5]}
    axes = [{"name": a, "type": "space", "unit": "micrometer"} for a in "yx"]
    datasets = [{"path": "0", "coordinateTransformations": [scale]}]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]}
    return path


def run(image: Path, out: Path, *options: str) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole `zoo run`, and its report."""
    command = [sys.executable, "-c", PROGRAM, "run", MODEL, str(image), "-o", str(out), "--json"]
    start = time.perf_counter()
    done = subprocess.run([*command, *options], capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr.decode())
    return time.perf_counter() - start, json.loads(done.stdout)["files"][0]["report"]


def memory(bench: Bench, folder: Path, sizes: list[int], limit: str) -> None:
    """Peak memory and seconds per megapixel by size."""
    peaks = []
    for size in sizes:
        image = make_store(folder / f"{size}.zarr", size)
        seconds, report = run(image, folder / f"{size}-out.zarr", "--memory", limit)
        peaks.append(report["peak_memory"])
        what = f"{report['objects']} objects, {seconds:.0f} s, {seconds / size**2 * 1e6:.3f} s/Mpx"
        bench.tell(f"{size} x {size}, --memory {limit}: peak", peaks[-1] / 2**20, " MiB", what)
    if len(peaks) > 1:
        times = (sizes[-1] / sizes[0]) ** 2
        ratio = peaks[-1] / peaks[0]
        bench.at_most(f"peak memory, image {times:.0f} times as large", ratio, FLAT, " x")


def overhead(bench: Bench, folder: Path, size: int) -> None:
    """Out of core and on two workers, against the run in memory."""
    image = make_store(folder / "same.zarr", size)
    plain, _ = run(image, folder / "plain.ome.tif")
    large, _ = run(image, folder / "large.zarr")
    bench.tell(f"{size} x {size} in memory, OME-TIFF", plain, " s")
    bench.at_most("out of core against in memory", large / plain, OVERHEAD, " x", f"{large:.1f} s")
    workers, _ = run(image, folder / "workers.zarr", "--dask", "local:2")
    what = f"{workers:.1f} s, starting the workers included"
    bench.tell("two workers against one process of two threads", workers / large, " x", what)


def main() -> int:
    """Print what was measured; 1 where a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="4096,8192,16384")
    parser.add_argument("--memory", default="1GiB")
    parser.add_argument("--same", type=int, default=4096, help="size for the comparisons")
    given = parser.parse_args()
    bench = Bench()
    with tempfile.TemporaryDirectory() as folder:
        overhead(bench, Path(folder), given.same)
        memory(bench, Path(folder), [int(n) for n in given.sizes.split(",")], given.memory)
    return int(bench.failed)


if __name__ == "__main__":
    sys.exit(main())
