"""What a training works with: patches to learn from, images to look at, the loss, and the plan."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch

from biozoo.errors import BackendError
from biozoo_runners.base import ran_out_of_memory

from ..items import Item, items_of
from ..patches import Patches
from ..rules import rule_of
from ..scores import main_metric
from .objective import Objective
from .plan import Plan, own_sizes, plan_of
from .tensors import loses_edges, size_text, volume
from .validation import Validation, kept_aside

if TYPE_CHECKING:
    from biozoo_runners.instances import InstancesConfig

    from .job import Job

__all__ = ["Material"]


@dataclass(frozen=True)
class Material:
    """What follows from a job before the first step.

    Attributes
    ----------
    plan
        With the patch that the network takes.
    exact
        Whether the network takes no other size.
    images, aside
        How many are learned from, and looked at between epochs.
    metric, rule
        What the score is; how objects are made (None: the target decodes).
    validation, tuning
        Images to look at between epochs; those on which thresholds are chosen in the end.
    """

    plan: Plan
    exact: bool
    images: int
    aside: int
    patches: Patches
    metric: str
    rule: InstancesConfig | None
    validation: Validation
    tuning: Validation
    objective: Objective
    notes: tuple[str, ...]

    @classmethod
    def of(cls, job: Job) -> Material:
        """The material of a job.

        Raises
        ------
        UsageError
            Options, recipe or images cannot be used.
        BackendError
            The network takes no patch of any size.
        """
        options, recipe = job.options, job.recipe
        train_on, aside = kept_aside(job.pairs, options.validation)
        items, notes = items_of(job.package, recipe, train_on, job.channel)
        looked, _ = items_of(job.package, recipe, aside, job.channel, cache=items[0].cache)
        plan, exact, fitted = _fitted(job, plan_of(job.package, recipe, options, items), items[0])
        patches = Patches(recipe, items, plan.size, plan.seed)
        target = patches.target
        metric: str = recipe.gate.metric
        metric = main_metric(target.supplies) if metric == "auto" else metric
        if target.supplies == "instances" and any(p.scribbles for p in job.pairs):
            metric = "Dice"  # of the foreground: scribbles do not tell objects apart
        rule = rule_of(job.package, recipe, target)

        def looks(chosen: Sequence[Item]) -> Validation:
            return Validation(
                chosen, target, metric, plan.size, plan.multiple, rule=rule, exact=exact
            )

        return cls(
            plan=plan,
            exact=exact,
            images=len(train_on),
            aside=len(aside),
            patches=patches,
            metric=metric,
            rule=rule,
            validation=looks(looked),
            tuning=looks([*looked, *items]),
            objective=Objective(recipe, target, len(items[0].shape)),
            notes=(*notes, *plan.notes, *fitted),
        )


def _fitted(job: Job, plan: Plan, item: Item) -> tuple[Plan, bool, list[str]]:
    """The plan with a patch that the network takes, whether it takes no other size, and a note.

    Most networks whose description fixes a size take others too: that is tried.
    """
    from biozoo_runners.program import program_of

    channels = len(item.read(tuple(slice(0, 1) for _ in item.shape))[0])
    shape = (1, channels, *plan.size.values())
    try:
        with torch.no_grad():
            made = job.network.module(torch.zeros(shape))
        if made.shape[2:] == shape[2:] or loses_edges(made.shape, shape):
            return plan, False, []
    except Exception as exc:  # whatever a network raises for a size that it does not take
        if ran_out_of_memory(exc):
            return plan, False, []
    tensor = program_of(job.package).geometry.tensor(job.recipe.input)
    own = own_sizes(tensor, plan)
    if own is None:
        raise BackendError(
            f"Model '{job.package.id}': the network takes no patch of {size_text(plan.size)}, or "
            "gives another size. Ask the package's author."
        )
    batch = max(1, round(plan.batch * volume(plan.size) / volume(own)))
    note = f"the network takes patches of {size_text(own)} only: {batch} in a step"
    return replace(plan, size=own, batch=batch), True, [note]
