"""What the network makes, where postprocessing changes the axes that a description gives.

StarDist and Cellpose steps turn many channels into one, and StarDist's labels are `grid` times as
large as the maps they are made of. The specification has one list of axes per output, and authors
write one of two things into it:

- the **labels**, as the specification's own check of test tensors wants it (and as StarDist's and
  bioimageio.core's exporters do): an axis follows the input at the input's scale, and the network's
  axis is `grid` times coarser;
- the **network's** output, as bioimageio.core's blockwise run reads it: an axis has `grid` times
  the scale of the input, and the labels are `grid` times finer.

In both, a pixel of the labels is a pixel of the image: that tells which is meant. The channels are
the step's own in both, whatever the description says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING

from biozoo.errors import InvalidPackageError

from .sizes import (
    AxisGeometry,
    DataDependentSize,
    FixedSize,
    ModelGeometry,
    SizeReference,
    TensorGeometry,
)

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import ModelDescr, StardistPostprocessingDescr

__all__ = ["network_outputs"]

FLOWS = ("flow_y", "flow_x", "cellprob")


def network_outputs(descr: ModelDescr, model: ModelGeometry) -> ModelGeometry:
    """The geometry with `outputs` as the network makes them, and `results` as described.

    Parameters
    ----------
    model
        As described.

    Raises
    ------
    InvalidPackageError
        The sizes of an output are neither those of labels nor those of the network.
    """
    from bioimageio.spec.model import v0_5

    name = str(descr.id or descr.name)
    made, results = [], []
    for tensor, described in zip(model.outputs, descr.outputs, strict=True):
        network = result = tensor
        for step in described.postprocessing:
            if isinstance(step, v0_5.CellposeFlowDynamicsDescr):
                network = _channels(tensor, FLOWS)
                result = _channels(tensor, ("labels",))
                break
            if isinstance(step, v0_5.StardistPostprocessingDescr):
                rays = range(step.kwargs.n_rays)
                network, result = _stardist(model, tensor, step, name)
                network = _channels(network, ("probability", *(f"distance{i}" for i in rays)))
                result = _channels(result, ("labels",))
                break
        made.append(network)
        if result is not network:
            results.append(result)
    return replace(model, outputs=tuple(made), results=tuple(results))


def _channels(tensor: TensorGeometry, names: Sequence[str]) -> TensorGeometry:
    """The tensor with so many channels; its own names where they are as many."""

    def channel(a: AxisGeometry) -> AxisGeometry:
        if a.kind != "channel":
            return a
        own = a.channels if len(a.channels) == len(names) else tuple(names)
        return replace(a, size=FixedSize(len(names)), channels=own)

    return replace(tensor, axes=tuple(map(channel, tensor.axes)))


def _stardist(
    model: ModelGeometry, tensor: TensorGeometry, step: StardistPostprocessingDescr, name: str
) -> tuple[TensorGeometry, TensorGeometry]:
    """The network's output and the labels, spatial axes only."""
    grid = dict(zip(("z", "y", "x")[-len(step.kwargs.grid) :], step.kwargs.grid, strict=True))
    coarse = {a.id: grid[a.id] for a in tensor.axes if grid.get(a.id, 1) > 1}
    ratios = {i: _ratio(model, tensor, i) for i in coarse}
    ratios = {i: ratio for i, ratio in ratios.items() if ratio is not None}
    if not ratios:  # no grid, or sizes that depend on the data: then the network decides
        return tensor, tensor
    tensor = _with(tensor, {i: _following(model, tensor, i, r) for i, r in ratios.items() if r})
    axes = {i: tensor.axis(i) for i in ratios}
    if all(ratio == 1 for ratio in ratios.values()):
        where = f"outputs.{tensor.id}.axes"
        return _with(
            tensor, {i: _coarser(a, coarse[i], name, where) for i, a in axes.items()}
        ), tensor
    if all(ratio == Fraction(1, coarse[i]) for i, ratio in ratios.items()):
        return tensor, _with(tensor, {i: _finer(a, coarse[i]) for i, a in axes.items()})
    listed = ", ".join(f"{i} {ratio}" for i, ratio in ratios.items())
    raise InvalidPackageError(
        source=name,
        fields={
            f"outputs.{tensor.id}.axes": f"pixels per pixel of the input: {listed}. With "
            f"stardist_postprocessing of grid {', '.join(map(str, step.kwargs.grid))} they are 1 "
            "(the axes are those of the labels) or 1/grid (those of the network)"
        },
    )


def _ratio(model: ModelGeometry, tensor: TensorGeometry, axis: str) -> Fraction | None:
    """Pixels of an output axis per pixel of the input axis that it follows; None: unknown."""
    if isinstance(tensor.axis(axis).size, DataDependentSize):
        return None
    root, ratio = model.referenced(tensor.id, axis)
    if root[0] in {t.id for t in model.inputs}:
        return ratio
    source = _same(model, axis)
    size = tensor.axis(axis).size
    if source is None or not isinstance(size, FixedSize):
        return None
    of = source.axis(axis).size
    return Fraction(size.size, of.size) if isinstance(of, FixedSize) else None


def _same(model: ModelGeometry, axis: str) -> TensorGeometry | None:
    """The only input with such an axis."""
    found = [t for t in model.inputs if axis in t.dims]
    return found[0] if len(found) == 1 else None


def _following(
    model: ModelGeometry, tensor: TensorGeometry, axis: str, ratio: Fraction
) -> AxisGeometry:
    """An axis of plain size as one that follows the input, so that the image can be tiled."""
    here, source = tensor.axis(axis), _same(model, axis)
    if not isinstance(here.size, FixedSize) or source is None:
        return here
    scale = float(source.axis(axis).scale / ratio)
    return replace(here, size=SizeReference(source.id, axis), scale=scale)


def _coarser(axis: AxisGeometry, grid: int, name: str, where: str) -> AxisGeometry:
    """The network's axis below an axis of labels: rounded up, so that the labels cover it all."""
    size = axis.size
    if isinstance(size, SizeReference):
        if size.offset % grid:
            fault = f"is {size.offset}, no multiple of the grid of stardist_postprocessing, {grid}"
            raise InvalidPackageError(source=name, fields={f"{where}.{axis.id}.size.offset": fault})
        size = replace(size, offset=size.offset // grid, up=True)
    return replace(axis, size=size, scale=axis.scale * grid, halo=-(-axis.halo // grid))


def _finer(axis: AxisGeometry, grid: int) -> AxisGeometry:
    """The labels' axis above an axis of the network."""
    size = axis.size
    if isinstance(size, SizeReference):
        size = replace(size, offset=size.offset * grid)
    return replace(axis, size=size, scale=axis.scale / grid, halo=axis.halo * grid)


def _with(tensor: TensorGeometry, axes: dict[str, AxisGeometry]) -> TensorGeometry:
    return replace(tensor, axes=tuple(axes.get(a.id, a) for a in tensor.axes))
