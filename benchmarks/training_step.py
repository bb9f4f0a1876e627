"""Seconds per training step against a bare torch loop of the same network, patch and batch.

    python benchmarks/training_step.py

Both sides run in turns in one process, so that what else the machine does touches both alike. The
bare loop has one batch in memory: no patches are cut or varied, nothing is averaged or reported.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from bench import Bench

import biozoo
from biozoo.samples import simulate_nuclei
from biozoo_runners.devices import usable_cores
from biozoo_runners.images.base import Image
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.network import Differentiable, differentiable
from biozoo_trainers.pairs import Pair, content_digest
from biozoo_trainers.training import TrainOptions, train

MODEL, IMAGES, SIDE = "nuclei-fluo", 12, 256

#: Of a step; see the issue.
BUDGET = 1.15


def pairs() -> list[Pair]:
    """Simulated nuclei: what they look like does not matter for the time."""
    made = []
    for seed in range(IMAGES):
        sample = simulate_nuclei((SIDE, SIDE), seed=seed, diameter=22, density=0.25)
        image = Image.from_array(sample.image)
        labels = Image.from_array(sample.labels)
        made.append(Pair(f"{seed:02}", image, labels, content_digest(image)))
    return made


def bare(module: Any, batch: int, size: int, steps: int) -> list[float]:
    """Seconds of each step of forward, loss, backward, clip and AdamW."""
    module.train()
    optimiser = torch.optim.AdamW(module.parameters(), lr=1e-9)
    x = torch.randn(batch, 1, size, size)
    with torch.no_grad():
        target = torch.rand_like(module(x))
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        loss = torch.nn.functional.binary_cross_entropy_with_logits(module(x), target)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
        optimiser.step()
        seconds.append(time.perf_counter() - start)
    return seconds


def trained(network: Differentiable, package: Any, steps: int, folder: Path) -> list[float]:
    """Seconds from one step to the next of a real training."""
    recipe = infer_recipe(package).recipe
    ends: list[float] = []

    def listen(event: str, info: Any) -> None:
        if event == "step":
            ends.append(time.perf_counter())

    options = TrainOptions(
        steps=steps, epoch=steps, learning_rate=1e-9, device="cpu", validation=0.0
    )
    train(package, recipe, pairs(), folder=folder, options=options, hooks=[listen], network=network)
    return [b - a for a, b in itertools.pairwise(ends)]


def training_step(bench: Bench, steps: int = 12, rounds: int = 3) -> None:
    """One line per figure."""
    package = biozoo.open(MODEL)
    recipe = infer_recipe(package).recipe
    network = differentiable(package, recipe)
    assert recipe.patch is not None
    size, batch = recipe.patch.size["y"], recipe.optimiser.batch
    torch.set_num_threads(usable_cores()[1])
    sides: dict[str, list[float]] = {"bare": [], "train": []}
    with tempfile.TemporaryDirectory() as folder:

        def turn(side: str) -> list[float]:
            if side == "bare":
                return bare(network.module, batch, size, steps)[2:]
            # The first steps fill what is kept of images; a training of hundreds has few of them.
            return trained(network, package, 3 * steps, Path(folder))[2 * steps :]

        for _ in range(rounds):
            for side in sides:
                sides[side] += turn(side)
    own, ours = median(sides["bare"]), median(sides["train"])
    what = f"{batch} patches of {size} x {size}, {torch.get_num_threads()} threads"
    bench.tell(f"bare torch step, {MODEL}", own, " s", what)
    bench.at_most("training step against the bare loop", ours / own, BUDGET, " x", f"{ours:.2f} s")


def main() -> int:
    """Print what was measured; 1 where a budget is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    bench = Bench()
    training_step(bench, given.steps, given.rounds)
    return int(bench.failed)


if __name__ == "__main__":
    sys.exit(main())
