"""Train the network of ``nuclei-fluo``.

    python zoo/models/nuclei-fluo/train.py --data ../shared/data/nuclei/fluo --out build/nuclei-fluo

Writes ``<out>/checkpoint.pt`` every few minutes; the same command goes on from there. The learning
rate rises, stays, and falls over the last part of ``--steps``, so a run can be lengthened; the
averaged weights (EMA) are the result.
"""

from __future__ import annotations

import argparse
import copy
import math
import sys
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from data import Batch, Item, ViewMaker, load_items, make_item
from model import UNet
from split import image_files

WARM_UP = 100  # steps


def loss(logits: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Weighted cross-entropy per channel, plus Dice for the two that are yes or no.

    The distance is a soft target of a cross-entropy, as the object probability of StarDist.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, batch.target, reduction="none")
    inside = batch.target[:, 0:1]
    weight = torch.cat(
        (batch.weight, batch.weight * (1 + inside), batch.weight * (1 + batch.target[:, 2:3])), 1
    )
    cross = ((entropy * weight).mean(dim=(0, 2, 3)) * entropy.new_tensor([1.0, 1.5, 0.5])).sum()
    chance = torch.sigmoid(logits[:, ::2])  # b 2 y x: foreground, boundary
    target = batch.target[:, ::2]
    overlap = (chance * target).sum(dim=(0, 2, 3))
    dice = 1 - (2 * overlap + 1) / ((chance + target).sum(dim=(0, 2, 3)) + 1)
    return cross + (dice * dice.new_tensor([0.5, 0.25])).sum()


def learning_rate(step: int, steps: int, peak: float, decay: float) -> float:
    """Rise over `WARM_UP` steps, stay at `peak`, fall as a cosine over the last `decay` part."""
    left = (steps - step) / max(decay * steps, 1)
    fall = 1.0 if left >= 1 else 0.5 * (1 - math.cos(math.pi * left))
    return peak * min((step + 1) / WARM_UP, 1.0) * max(fall, 0.005)


def simulated_items(n: int, seed: int) -> list[Item]:
    """Simulated images of different magnification, from the simulator behind ``zoo sample``."""
    if n == 0:
        return []
    from biozoo.samples import simulate_nuclei

    rng = np.random.default_rng(seed)
    items = []
    for _ in range(n):
        diameter = float(np.exp(rng.uniform(np.log(9), np.log(55))))
        sample = simulate_nuclei(
            (256, 256),
            seed=int(rng.integers(2**31)),
            diameter=diameter,
            density=float(rng.uniform(0.08, 0.35)),
            clustering=float(rng.uniform(0, 0.8)),
            photons=float(np.exp(rng.uniform(np.log(25), np.log(600)))),
        )
        items.append(make_item(sample.image, sample.labels))
    return items


def main() -> None:
    """Train, or go on training."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, default=Path("../shared/data/nuclei/fluo"))
    parser.add_argument("--out", type=Path, default=Path("build/nuclei-fluo"))
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, default=176, help="edge of a view, a multiple of 16")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.4, help="last part of the steps")
    parser.add_argument("--simulated", type=int, default=64, help="number of simulated images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    args.out.mkdir(parents=True, exist_ok=True)
    checkpoint = args.out / "checkpoint.pt"

    model = UNet().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    average = copy.deepcopy(model).eval()
    start = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start = state["step"]
    files = image_files(args.data / "images", "train")
    # The step is part of the seed, so that a resumed run sees new views.
    views = ViewMaker(
        load_items(files),
        simulated_items(args.simulated, args.seed),
        size=args.size,
        seed=args.seed + start,
    )
    print(f"{len(files)} images, from step {start} to {args.steps}", flush=True)

    began, losses = time.monotonic(), []
    for step in range(start, args.steps):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr, args.decay)
        batch = views.batch(args.batch)
        logits = model.logits(batch.image.contiguous(memory_format=torch.channels_last))
        value = loss(logits, batch)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        _update_average(average, model, min(0.998, (step + 1) / (step + 10)))
        losses.append(value.item())
        done = step + 1
        if done % args.save_every == 0 or done == args.steps:
            pace = (time.monotonic() - began) / (done - start)
            print(f"step {done} loss {np.mean(losses):.4f} {pace:.2f} s/step", flush=True)
            losses = []
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": done,
            }
            torch.save(state, checkpoint.with_suffix(".tmp"))
            checkpoint.with_suffix(".tmp").replace(checkpoint)


@torch.no_grad()
def _update_average(average: torch.nn.Module, model: torch.nn.Module, keep: float) -> None:
    """Move every averaged value towards the model's; counters are copied."""
    for old, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
        if old.is_floating_point():
            old.lerp_(new, 1 - keep)
        else:
            old.copy_(new)


if __name__ == "__main__":
    sys.exit(main())
