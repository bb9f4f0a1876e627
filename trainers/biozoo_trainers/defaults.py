"""What a training does where nobody says otherwise. Measured on `../shared/data/nuclei/stained`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from biozoo_runners.sizes import FixedSize, ParameterizedSize

from .recipe import AugmentationSpec, OptimiserSpec, PatchSpec

if TYPE_CHECKING:
    from biozoo_runners.sizes import TensorGeometry

    from .targets.base import Supplies

__all__ = ["augmentations", "optimiser", "patch"]

#: Pixels of a patch along each axis of an image with so many axes.
SIDE = {2: 192, 3: 64}

#: Fixed sizes mostly come from the description alone; networks take multiples of one of these.
USUAL_MULTIPLES = (32, 16, 8)


def patch(tensor: TensorGeometry) -> PatchSpec:
    """The patch for an input: near the usual size, as its description allows."""
    axes = [a for a in tensor.axes if a.kind == "space"]
    usual = SIDE[len(axes)]
    size: dict[str, int] = {}
    multiple: dict[str, int] = {}
    for axis in axes:
        rule = axis.size
        if isinstance(rule, ParameterizedSize):
            multiple[axis.id] = math.gcd(rule.min, rule.step)
            more = max(0, round((usual - rule.min) / rule.step))
            size[axis.id] = rule.min + more * rule.step
        elif isinstance(rule, FixedSize):
            step = next((n for n in USUAL_MULTIPLES if rule.size % n == 0), 0)
            free = step > 0 and rule.size > usual
            multiple[axis.id] = step if free else rule.size
            size[axis.id] = usual if free else rule.size
        else:
            multiple[axis.id], size[axis.id] = USUAL_MULTIPLES[0], usual
    if len({a.id for a in axes} & {"z"}):  # a volume is often shallow: no more planes than needed
        size["z"] = max(multiple["z"], min(size["z"], -(-32 // multiple["z"]) * multiple["z"]))
    return PatchSpec(size=size, multiple=multiple)


def augmentations(tensor: TensorGeometry, supplies: Supplies) -> tuple[AugmentationSpec, ...]:
    """How images are varied: a restored image must keep its intensities, objects must not."""
    straight = (
        AugmentationSpec(kind="flip", probability=0.5),
        AugmentationSpec(kind="turn", probability=1.0),
    )
    if supplies in ("image", "nothing"):
        return straight
    return (
        *straight,
        AugmentationSpec(kind="affine", probability=0.6, options={"scale": [0.6, 1.6]}),
        AugmentationSpec(kind="brightness", probability=0.5),
        AugmentationSpec(kind="contrast", probability=0.5),
        AugmentationSpec(kind="gamma", probability=0.3),
        AugmentationSpec(kind="noise", probability=0.2),
        AugmentationSpec(kind="blur", probability=0.15),
    )


def optimiser(ndim: int, supplies: Supplies) -> OptimiserSpec:
    """Enough steps for a few dozen images; a volume counts for several planes."""
    if supplies == "nothing":
        return OptimiserSpec(learning_rate=3e-4, steps=600, batch=4 if ndim == 2 else 1)
    return OptimiserSpec(learning_rate=1e-3, steps=500, batch=4 if ndim == 2 else 1)
