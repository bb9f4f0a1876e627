"""The training loop of the built-in models: resumable, with a running average of the weights.

The learning rate rises, stays, and falls over the last part of the training, and so depends on how
much of it is done: the part of ``--steps``, or of ``--minutes`` of this run if that is more. A run
on a slow machine therefore still ends with a low learning rate.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from .views import Batch, ViewMaker

WARM_UP = 100  # steps
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]


def learning_rate(step: int, done: float, peak: float, decay: float) -> float:
    """Rise over `WARM_UP` steps, stay at `peak`, fall as a cosine over the last `decay` part."""
    left = (1 - done) / max(decay, 1e-9)
    fall = 1.0 if left >= 1 else 0.5 * (1 - math.cos(math.pi * max(left, 0.0)))
    return peak * min((step + 1) / WARM_UP, 1.0) * max(fall, 0.005)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that `train` reads."""
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop after this long")
    parser.add_argument("--batch", type=int, default=6)
    parser.add_argument("--size", type=int, default=176, help="edge of a view, a multiple of 16")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.4, help="last part of the training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--save-every", type=int, default=100, help="steps")


def train(
    make_network: Callable[[], torch.nn.Module],
    make_views: Callable[[int, int], ViewMaker],
    loss: Loss,
    out: Path,
    args: argparse.Namespace,
) -> None:
    """Train, or go on training, and keep ``<out>/checkpoint.pt``.

    Parameters
    ----------
    make_network
        Gives the untrained network; it has a method ``logits``.
    make_views
        Gives the views for a size and a seed.
    loss
        From logits and batch to one number.
    out
        Folder of the checkpoint.
    args
        The options of `add_arguments`.
    """
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    out.mkdir(parents=True, exist_ok=True)
    checkpoint = out / "checkpoint.pt"
    model = make_network().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=1e-3)
    average = copy.deepcopy(model).eval()
    start, before = 0, 0.0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        optimiser.load_state_dict(state["optimiser"])
        start, before = state["step"], state["seconds"]
    # The step is part of the seed, so that a resumed run sees new views.
    views = make_views(args.size, args.seed + start)
    print(f"from step {start} to {args.steps}", flush=True)

    began, losses, step, part = time.monotonic(), [], start, 0.0
    while step < args.steps and part < 1:
        seconds = before + time.monotonic() - began
        part = max(step / args.steps, seconds / (60 * args.minutes))
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, part, args.lr, args.decay)
        batch = views.batch(args.batch)
        logits = model.logits(batch.image.contiguous(memory_format=torch.channels_last))
        value = loss(logits, batch)
        optimiser.zero_grad()
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
        optimiser.step()
        step += 1
        _update_average(average, model, min(0.998, step / (step + 9)))
        losses.append(value.item())
        if step % args.save_every == 0 or step == args.steps or part >= 1:
            seconds = before + time.monotonic() - began
            pace = (seconds - before) / (step - start)
            print(
                f"step {step} loss {np.mean(losses):.4f} {pace:.2f} s/step "
                f"{part:.0%} done {seconds / 60:.1f} min",
                flush=True,
            )
            losses = []
            state = {
                "model": model.state_dict(),
                "average": average.state_dict(),
                "optimiser": optimiser.state_dict(),
                "step": step,
                "seconds": seconds,
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
