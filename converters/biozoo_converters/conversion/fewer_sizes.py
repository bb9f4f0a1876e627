"""Fewer sizes than a network takes, for a graph that cannot follow it to all of them.

A U-Net that pads odd rows decides at every size anew; an exporter keeps what it decided at one. At
multiples of 16 or 32 there is nothing to decide, and the graph is right. A package that says so is
worth more than none; what it allows is proven all the same.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from math import lcm

from biozoo_runners.sizes import (
    AxisGeometry,
    FixedSize,
    ModelGeometry,
    ParameterizedSize,
    TensorGeometry,
)

__all__ = ["fewer_sizes"]

#: Steps of networks that halve four and five times.
STEPS = (16, 32)

Rule = FixedSize | ParameterizedSize


def fewer_sizes(
    geometry: ModelGeometry,
    sizes: Mapping[str, Mapping[str, int]],
    keep: Collection[tuple[str, str]] = (),
) -> Iterator[tuple[ModelGeometry, str]]:
    """The same geometry with coarser steps, then with fixed sizes, each with a note for the author.

    Parameters
    ----------
    geometry
        What a network was found to take.
    sizes
        Per input tensor id and axis, the size to fix it at.
    keep
        Axes (tensor id, axis id) whose sizes the author gave: they stay.
    """
    for step in STEPS:
        coarse = _ruled(geometry, keep, partial(_coarser, step))
        if coarse != geometry:
            yield (
                coarse,
                f"No graph follows the network to every size that it takes: sizes in steps of "
                f"{step} are allowed.",
            )
    fixed = _ruled(geometry, keep, lambda t, a, rule: FixedSize(sizes[t][a]))
    if fixed != geometry:
        yield (
            fixed,
            "No graph follows the network to other sizes: they are fixed at those of the test "
            "input. Give a sample of the size that is needed.",
        )


def _coarser(step: int, tensor: str, axis: str, rule: ParameterizedSize) -> ParameterizedSize:
    """Multiples of `step` among the sizes of a rule; the rule itself where there are none."""
    wide = lcm(rule.step, step)
    sizes = range(rule.min, rule.min + wide, rule.step)
    first = next((size for size in sizes if size % step == 0), None)
    return rule if first is None else ParameterizedSize(first, wide)


def _ruled(
    geometry: ModelGeometry,
    keep: Collection[tuple[str, str]],
    new: Callable[[str, str, ParameterizedSize], Rule],
) -> ModelGeometry:
    """Other rules for the free axes of the inputs; all else follows them."""

    def axis(tensor: TensorGeometry, a: AxisGeometry) -> AxisGeometry:
        if not isinstance(a.size, ParameterizedSize) or (tensor.id, a.id) in keep:
            return a
        return replace(a, size=new(tensor.id, a.id, a.size))

    inputs = tuple(replace(t, axes=tuple(axis(t, a) for a in t.axes)) for t in geometry.inputs)
    return replace(geometry, inputs=inputs)
