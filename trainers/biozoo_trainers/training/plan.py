"""What a training will do, settled from recipe, options and description before the first step."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from biozoo.errors import UsageError
from biozoo_runners.sizes import FixedSize, ParameterizedSize

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.sizes import TensorGeometry

    from ..items import Item
    from ..pairs import Pair
    from ..recipe import Recipe
    from .options import TrainOptions

__all__ = ["Plan", "identity", "plan_of", "smaller"]

#: Sides below which patches are not made smaller when memory ends.
SMALLEST = 32

#: The number of images that a recipe's steps are for, and the part of them that others take.
USUAL_IMAGES, LEAST_STEPS, MOST_STEPS = 20, 0.5, 3.0


@dataclass(frozen=True)
class Plan:
    """Frozen numbers of a training; `size` is the patch by spatial axis id."""

    steps: int
    epoch: int
    batch: int
    size: Mapping[str, int]
    multiple: Mapping[str, int]
    learning_rate: float
    warm_up: int
    seed: int
    notes: tuple[str, ...] = ()

    def rate(self, step: int) -> float:
        """The learning rate of a step: it rises over the warm-up and falls as half a cosine."""
        rise = min(1.0, (step + 1) / max(1, self.warm_up))
        fall = 0.5 * (1 + math.cos(math.pi * step / self.steps))
        return self.learning_rate * rise * max(fall, 0.01)


def plan_of(
    package: ModelPackage, recipe: Recipe, options: TrainOptions, items: Sequence[Item]
) -> Plan:
    """The plan of a training.

    Raises
    ------
    UsageError
        A number that cannot be used, or a patch that the model does not take.
    """
    from biozoo_runners.program import program_of

    assert recipe.patch is not None
    own = recipe.optimiser
    steps = options.steps
    if steps is None:
        steps = max(1, round(own.steps * factor_for(len({i.digest for i in items}))))
    batch = own.batch if options.batch is None else options.batch
    rate = own.learning_rate if options.learning_rate is None else options.learning_rate
    for name, value in (("steps", steps), ("batch", batch), ("learning rate", rate)):
        if not value > 0:
            raise UsageError(f"The training needs {name} above 0, not {value}.")
    tensor = program_of(package).geometry.tensor(recipe.input)
    spatial = items[0].spatial
    multiple = {a: recipe.patch.multiple.get(a, 1) for a in spatial}
    wanted = {**recipe.patch.size, **(options.patch or {})}
    if unknown := [a for a in wanted if a not in spatial]:
        raise UsageError(
            f"The patch names the axis '{unknown[0]}', the model's input has {', '.join(spatial)}."
        )
    notes = []
    size = {}
    for n, axis in enumerate(spatial):
        given = wanted.get(axis, _least(tensor, axis))
        if given % multiple[axis]:
            nearest = max(1, round(given / multiple[axis])) * multiple[axis]
            raise UsageError(
                f"A patch of {given} pixels along '{axis}' does not fit: the model takes multiples "
                f"of {multiple[axis]}. Nearest: {nearest}."
            )
        longest = max(i.shape[n] for i in items)
        size[axis] = min(given, max(_up(longest, multiple[axis]), multiple[axis]))
    if size != {a: wanted.get(a, size[a]) for a in size}:
        what = " x ".join(map(str, size.values()))
        notes.append(f"the images are smaller than the patches of the recipe: {what} are used")
    epoch = options.epoch or min(100, max(10, round(steps / 10)))
    return Plan(
        steps=steps,
        epoch=min(epoch, steps),
        batch=batch,
        size=size,
        multiple=multiple,
        learning_rate=rate,
        warm_up=min(own.warm_up, max(1, steps // 5)),
        seed=options.seed,
        notes=tuple(notes),
    )


def factor_for(images: int) -> float:
    """How many of the recipe's steps so many images take: each image is shown as often, within
    limits. Measured in docs/design/retraining.md: with as many steps 40 images gave what 20 did.
    """
    return float(min(max(images / USUAL_IMAGES, LEAST_STEPS), MOST_STEPS))


def smaller(plan: Plan) -> Plan | None:
    """The next smaller plan for a machine whose memory ended; None where there is none."""
    if plan.batch > 1:
        return replace(plan, batch=plan.batch // 2)
    axis = max(plan.size, key=lambda a: plan.size[a])
    half = _up(plan.size[axis] // 2, plan.multiple[axis])
    if half >= plan.size[axis] or half < min(SMALLEST, plan.size[axis]):
        return None
    return replace(
        plan,
        size={
            a: max(_up(n // 2, plan.multiple[a]), plan.multiple[a]) if n == plan.size[axis] else n
            for a, n in plan.size.items()
        },
    )


def own_sizes(tensor: TensorGeometry, plan: Plan) -> dict[str, int] | None:
    """The patch that the description itself allows, where it is another than the plan's."""
    size = {}
    for axis, now in plan.size.items():
        rule = tensor.axis(axis).size
        if isinstance(rule, FixedSize):
            size[axis] = rule.size
        elif isinstance(rule, ParameterizedSize):
            size[axis] = rule.min + max(0, math.ceil((now - rule.min) / rule.step)) * rule.step
        else:
            size[axis] = now
    return None if size == dict(plan.size) else size


def identity(
    package: ModelPackage, recipe: Recipe, pairs: Sequence[Pair], options: TrainOptions, plan: Plan
) -> dict[str, str]:
    """What has to be the same for a stopped training to go on: part -> its value or hash."""
    from biozoo_runners.kept_tiles import model_digest

    asked = asdict(replace(options, device="", threads=None))
    return {
        "model": model_digest(package),
        "recipe": _hash(recipe.model_dump_json()),
        "images": _hash(json.dumps(sorted(p.digest for p in pairs))),
        "labels": _hash(json.dumps(sorted(_labels(p) for p in pairs))),
        "options": _hash(json.dumps(asked, sort_keys=True)),
        "steps": str(plan.steps),
    }


def _labels(pair: Pair) -> str:
    from ..pairs import content_digest

    return "" if pair.labels is None else content_digest(pair.labels)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _least(tensor: TensorGeometry, axis: str) -> int:
    rule = tensor.axis(axis).size
    return rule.size if isinstance(rule, FixedSize) else getattr(rule, "min", 1)


def _up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple
