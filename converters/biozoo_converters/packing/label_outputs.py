"""The axes of labels that a step of postprocessing makes of a network's channels.

StarDist's and Cellpose's steps turn many channels into one, and StarDist's labels have `grid` times
the network's pixels. The specification checks a test tensor against the described axes, so an
output is described as the labels are (docs/package-format.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from biozoo.errors import NetworkError
from biozoo_runners.sizes import AxisGeometry, FixedSize, SizeReference, TensorGeometry

__all__ = ["labels_of"]

STARDIST, CELLPOSE = "stardist_postprocessing", "cellpose_flow_dynamics"


def labels_of(tensor: TensorGeometry, steps: Sequence[Mapping[str, Any]]) -> TensorGeometry:
    """The output as its postprocessing leaves it; as it is where no step makes labels.

    Parameters
    ----------
    tensor
        As the network makes it.
    steps
        Postprocessing, checked.

    Raises
    ------
    NetworkError
        The network has not the channels or the pixels that the step takes.
    """
    step = next((s for s in steps if s["id"] in (STARDIST, CELLPOSE)), None)
    if step is None:
        return tensor
    kwargs = step.get("kwargs", {})
    grid: dict[str, int] = {}
    if step["id"] == STARDIST:
        sizes = [int(g) for g in kwargs["grid"]]
        grid = dict(zip(("z", "y", "x")[-len(sizes) :], sizes, strict=True))
        count, what = int(kwargs["n_rays"]) + 1, "probability, then n_rays distances"
    else:
        count, what = 3, "flow_y, flow_x, cellprob"
    have = next((len(a.channels) for a in tensor.axes if a.kind == "channel"), 0)
    if have != count:
        raise NetworkError(
            f"{step['id']} takes {count} channels ({what}); the network's output '{tensor.id}' has "
            f"{have or 'no channel axis'}. Its axes are {', '.join(tensor.dims)}."
        )
    if step["id"] == STARDIST and tensor.dims[-1] != "channel":
        raise NetworkError(
            f"bioimageio.core puts the channels of StarDist's labels last, those of the network's "
            f"output '{tensor.id}' are not ({', '.join(tensor.dims)}), and a package's labels have "
            "the axes of the network. Let its forward end with x.movedim(1, -1)."
        )
    return replace(tensor, axes=tuple(_finer(a, grid, tensor.id) for a in tensor.axes))


def _finer(axis: AxisGeometry, grid: Mapping[str, int], name: str) -> AxisGeometry:
    if axis.kind == "channel":
        return replace(axis, size=FixedSize(1), channels=("labels",))
    factor = grid.get(axis.id, 1)
    size = axis.size
    if axis.kind != "space":
        return axis
    if abs(axis.scale - factor) > 1e-6 and isinstance(size, SizeReference):
        raise NetworkError(
            f"The network's output '{name}' has a pixel for {axis.scale:g} of the image along "
            f"{axis.id}, stardist_postprocessing is given the grid {factor}. They have to be the "
            "same."
        )
    if isinstance(size, SizeReference):
        size = replace(size, offset=size.offset * factor)
    elif isinstance(size, FixedSize):
        size = FixedSize(size.size * factor)
    return replace(axis, size=size, scale=axis.scale / factor, halo=axis.halo * factor)
