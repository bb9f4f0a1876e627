"""How a result lies: its axes in the order of files, names of channels, pixel sizes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from biozoo.axes import CANONICAL

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .prepare import Fitting
    from .sizes import ModelGeometry, TensorGeometry

__all__ = ["ResultLayout", "layout_of"]


@dataclass(frozen=True)
class ResultLayout:
    """One result of a run: the looped axes of the image and those of the tensor, without batch.

    Attributes
    ----------
    dims
        Axis ids in the order of the result. With looped axes that is the order of files, and axes
        that files do not know come last; else it is the tensor's.
    order
        Where each of them stands among the looped axes, then the tensor's.
    loops
        How many looped axes there are.
    channel_names
        Empty without a channel axis.
    pixel_size, unit
        By axis id, scaled where the output is; absent where unknown.
    name
        Of the image.
    """

    dims: tuple[str, ...]
    order: tuple[int, ...]
    loops: int
    channel_names: tuple[str, ...]
    pixel_size: Mapping[str, float]
    unit: Mapping[str, str]
    name: str

    @property
    def attrs(self) -> dict[str, Any]:
        """Of the result as a `DataArray`."""
        return {"name": self.name, "pixel_size": dict(self.pixel_size), "unit": dict(self.unit)}

    def arranged(self, data: NDArray[Any]) -> NDArray[Any]:
        """A view with the result's axes of an array with the looped axes, then the tensor's."""
        batch = [i for i in range(data.ndim) if i not in self.order]
        return data.transpose([*self.order, *batch]).reshape([data.shape[i] for i in self.order])

    def of_item(self, values: NDArray[Any]) -> NDArray[Any]:
        """The same of a piece of one item, which has the tensor's axes only."""
        return self.arranged(values.reshape((1,) * self.loops + values.shape))

    def place(self, at: Sequence[int], region: Sequence[slice]) -> tuple[slice, ...]:
        """Where a region of the item at `at` lies in the result."""
        everything = [*(slice(i, i + 1) for i in at), *region]
        return tuple(everything[i] for i in self.order)

    def without(self, axis: str) -> ResultLayout:
        """The layout of a result that lacks this axis: of labels, the channels."""
        if axis not in self.dims:
            return self
        gone = self.order[self.dims.index(axis)]
        kept = [i for i, d in zip(self.order, self.dims, strict=True) if d != axis]
        return replace(
            self,
            dims=tuple(d for d in self.dims if d != axis),
            order=tuple(i - (i > gone) for i in kept),
            channel_names=() if axis == "channel" else self.channel_names,
        )


def layout_of(model: ModelGeometry, tensor: TensorGeometry, fitting: Fitting) -> ResultLayout:
    """The layout of one output of a run on a fitted image."""
    order = list(range(len(fitting.loops)))
    dims = [*fitting.loops, *tensor.dims]
    order += [i for i, a in enumerate(tensor.axes, start=len(order)) if a.kind != "batch"]
    if fitting.loops:  # into the order of files; axes that files do not know last
        last = len(CANONICAL)
        order.sort(key=lambda i: CANONICAL.index(dims[i]) if dims[i] in CANONICAL else last)
    kept = tuple(dims[i] for i in order)
    first = fitting.inputs[0].image
    size = {a: first.pixel_size[a] for a in fitting.loops if a in first.pixel_size}
    unit = {a: first.unit[a] for a in fitting.loops if a in first.unit}
    images = {f.tensor.id: f.image for f in fitting.inputs}
    for a in tensor.axes:
        (source, axis), ratio = model.referenced(tensor.id, a.id)
        image = images.get(source)
        if image is not None and axis in image.pixel_size and a.kind in ("space", "time"):
            size[a.id] = image.pixel_size[axis] / float(ratio)
            if axis in image.unit:
                unit[a.id] = image.unit[axis]
    names = next((a.channels for a in tensor.axes if a.kind == "channel" and a.id in kept), ())
    return ResultLayout(
        kept, tuple(order), len(fitting.loops), tuple(names), size, unit, first.name
    )
