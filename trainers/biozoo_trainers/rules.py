"""How a model's maps become numbered objects, and which settings of that suit a person's images.

A network that was trained on few images is less sure than its parent was: its maps are lower, and
thresholds chosen for the parent miss objects that the maps do show. So after a training the
thresholds are chosen anew, on images that were learned from, never on held-out ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo_runners.instances import InstancesConfig, label_objects

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from .recipe import Recipe
    from .targets.base import Target

__all__ = ["objects_of", "rule_of", "tune"]

#: What is tried, beside the settings that there are.
SEEDS = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
SMOOTHING = (0.7, 1.5, 2.5)

#: A setting is changed where that is better by at least this (mean of AP50).
WORTH = 0.005

Score = Callable[["NDArray[Any]", "NDArray[Any]"], float]


def rule_of(package: ModelPackage, recipe: Recipe, target: Target) -> InstancesConfig | None:
    """The rule of a package, else its target's, channels by number; None where there is none."""
    from biozoo_runners.program import program_of

    program = program_of(package)
    if target.supplies != "instances":
        return None
    if program.instances is not None and program.instances.output == recipe.output:
        return program.instances
    tensor = program.geometry.tensor(recipe.input)
    ndim = sum(a not in ("batch", "channel") for a in tensor.dims)
    names = [str(n) for n in range(len(target.channels(ndim)))]
    entry = target.instances(recipe.output, names)
    if entry is None:
        return None
    for field in ("foreground", "distance", "boundary"):
        if entry.get(field) is not None:
            entry[field] = names.index(str(entry[field]))
    return InstancesConfig.model_validate(entry)


def objects_of(maps: NDArray[Any], rule: InstancesConfig) -> NDArray[np.int32]:
    """Numbered objects of maps (c, then spatial axes), as `zoo run` makes them."""
    fields = ("foreground", "distance", "boundary")
    chosen = {f: maps[int(ref)] for f in fields if (ref := getattr(rule, f)) is not None}
    settings = rule.model_dump(exclude={"output", *fields})
    labels: NDArray[np.int32] = label_objects(**chosen, **settings)
    return labels


def tune(
    rule: InstancesConfig,
    maps: Sequence[NDArray[Any]],
    labels: Sequence[NDArray[Any]],
    score: Score,
) -> tuple[InstancesConfig, float]:
    """The rule with the seed threshold and smoothing that suit these images, and its mean score.

    Parameters
    ----------
    rule
        What is begun with, and kept where nothing is clearly better.
    maps, labels
        Per image the network's maps (c, then spatial axes) and what a person says (spatial axes).
    score
        Called with labels and found objects, higher is better.
    """

    def mean(candidate: InstancesConfig) -> float:
        found = (objects_of(m, candidate) for m in maps)
        return float(np.mean([score(t, f) for t, f in zip(labels, found, strict=True)]))

    best, value = rule, mean(rule)
    tried = {
        (seed, smoothing): mean(
            rule.model_copy(update={"seed_threshold": seed, "smoothing": smoothing})
        )
        for seed, smoothing in itertools.product(SEEDS, sorted({*SMOOTHING, rule.smoothing}))
    }
    # A threshold beside which others are as good is a safer choice than a lone peak.
    smooth = {k: _around(tried, *k) for k in tried}
    (seed, smoothing), _ = max(smooth.items(), key=lambda entry: entry[1])
    if tried[seed, smoothing] >= value + WORTH:
        best = rule.model_copy(update={"seed_threshold": seed, "smoothing": smoothing})
        value = tried[seed, smoothing]
    return best, value


def _around(tried: dict[tuple[float, float], float], seed: float, smoothing: float) -> float:
    """The mean of a setting's score, twice, and of the seed thresholds beside it."""
    place = SEEDS.index(seed)
    near = [tried[s, smoothing] for s in SEEDS[max(0, place - 1) : place + 2]]
    return (sum(near) + tried[seed, smoothing]) / (len(near) + 1)
