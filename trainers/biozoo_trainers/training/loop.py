"""The training of one package: what a caller gives, and what it gets.

    trained = train(package, recipe, pairs, folder=Path("run"))

By Lightning Fabric, so that devices, several cards and mixed precision are options. What a step
does follows from the seed and the step alone, and what a checkpoint holds is all that a step needs:
so a training that was killed goes on as if it had not been, and ends with the same weights (on the
CPU, with the same number of threads).
"""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from biozoo.files import writing
from biozoo_runners.torch_devices import torch_threads

from ..hooks import End, Hooks
from ..network import differentiable
from . import checkpoint as checkpoints
from .control import Control
from .devices import fabric_of, threads_of
from .job import Job, Made
from .options import Trained, TrainOptions
from .polarity import inverted
from .session import Session
from .tensors import tensors_of

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.prepare import Channel

    from ..hooks import HookLike
    from ..network import Differentiable
    from ..pairs import Pair
    from ..recipe import Recipe

__all__ = ["train"]


def train(
    package: ModelPackage,
    recipe: Recipe,
    pairs: Sequence[Pair],
    *,
    folder: Path,
    options: TrainOptions | None = None,
    channel: Channel | None = None,
    hooks: Sequence[HookLike | str] = (),
    control: Control | None = None,
    resume: bool = False,
    network: Differentiable | None = None,
) -> Trained:
    """Train a package's network.

    Parameters
    ----------
    recipe
        The package's own or an inferred one.
    pairs
        What is trained on, as `check_pairs` gave it; none of them held out. A part of them is
        looked at between epochs and not learned from.
    folder
        Of the checkpoint; made where it does not exist. What is in it is overwritten unless
        `resume`.
    channel
        Which channel(s) of the images are taken, as for a run.
    hooks
        Objects, callables, or names of the entry-point group biozoo.hooks. With several devices
        they run in the first one's process, a copy of this one.
    control
        Through which it can be paused and cancelled.
    resume
        Go on from the folder's checkpoint; without one the training begins.
    network
        What `differentiable` gave, where it is there already; its weights are changed.

    Returns
    -------
    Trained
        Also where it was cancelled: with what was learned until then.

    Raises
    ------
    NotTrainableError
        The package's weights cannot be trained.
    UsageError
        Options or recipe cannot be used, or the checkpoint is of another training.
    OutOfMemoryError
        Not even one small patch fits in memory.
    MissingDependencyError, DeviceError, StorageError
        A library, the asked device, or space is missing.
    BackendError
        The loss is no number, step after step.
    """
    options = options or TrainOptions()
    network = network or differentiable(package, recipe)
    before = {n: v.detach().clone() for n, v in tensors_of(network.module).items()}
    takes = [(p, p.requires_grad) for p in network.module.parameters()]
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if not resume:
        (folder / checkpoints.NAME).unlink(missing_ok=True)
    job = Job(
        package,
        recipe,
        tuple(pairs),
        folder,
        options,
        channel,
        Hooks(hooks),
        control or Control(),
        resume,
        network,
    )
    fabric = fabric_of(options)
    with torch.random.fork_rng(devices=[]), torch_threads(threads_of(options)):
        made: Made = pickle.loads(fabric.launch(_run, job))  # of another process, with several
    network.module_for_export()
    network.module.eval()
    for parameter, gradient in takes:  # what the recipe froze is free again
        parameter.requires_grad_(gradient)
    own = tensors_of(network.module)
    with torch.no_grad():
        for name, value in made.values.items():
            own[name].copy_(value)
    names = {n for n, _ in network.module.named_parameters()}
    changed = sum(int((own[n] != before[n]).sum()) for n in names)
    if made.pivot is not None:
        package = inverted(package, recipe.input, made.pivot, folder)
    return Trained(
        package=package,
        inverted=made.pivot is not None,
        differentiable=network,
        before=before,
        history=made.history,
        metric=made.metric,
        outcome=made.outcome,
        steps=made.step,
        seconds=made.seconds,
        notes=made.notes,
        parameters_changed=changed,
        rule=made.rule,
    )


def _run(fabric: Any, job: Job) -> bytes:
    """The training in its process; what it made as bytes, with tensors by value, not by handle."""
    session = Session(fabric, job)
    try:
        made = session.run()
    except BaseException:
        job.hooks.tell(End("failed", session.step, session.seconds, None, tuple(session.notes)))
        raise
    finally:
        session.close()
    last = next((e.score for e in reversed(made.history) if e.score is not None), None)
    job.hooks.tell(End(made.outcome, made.step, made.seconds, last, made.notes))
    return pickle.dumps(replace(made, notes=(*made.notes, *job.hooks.notes)))
