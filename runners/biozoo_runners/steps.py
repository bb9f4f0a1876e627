"""The processing steps of bioimageio.spec 0.5, one class each, named and computed as specified.

A step works on any block of a tensor: what depends on the whole tensor reaches it as statistics.
Numbers stay in float32 (float64 where the block's dtype does not fit into float32), and a block
that belongs to the chain is changed in place.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from biozoo.errors import ImageMismatchError

from .statistics import Measure, Statistic, Stats

__all__ = [
    "Binarize",
    "Block",
    "Clip",
    "EnsureDtype",
    "FixedZeroMeanUnitVariance",
    "PerAxis",
    "ScaleLinear",
    "ScaleMeanVariance",
    "ScaleRange",
    "Sigmoid",
    "Softmax",
    "Step",
    "ZeroMeanUnitVariance",
]

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Positions = slice | npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class PerAxis:
    """A parameter: one number (`axis` None) or one per index of an axis."""

    values: float | tuple[float, ...]
    axis: str | None = None


@dataclass(frozen=True, slots=True)
class Block:
    """Where the array at hand stands: its axes, the statistics, and its place in the tensor.

    `at` gives, per axis, the block's positions in the whole tensor: needed only for an axis along
    which a parameter or statistic differs and which the block does not span whole.
    """

    axes: tuple[str, ...]
    stats: Stats = field(default_factory=Stats)
    at: Mapping[str, Positions] = field(default_factory=dict)

    def of(self, source: Measure | PerAxis, x: Array) -> Floats:
        """Values to combine with the block `x`: float64, shaped to broadcast against it."""
        if isinstance(source, Measure):
            found = self.stats[source]
        else:
            axes = () if source.axis is None else (source.axis,)
            found = Statistic(axes, np.asarray(source.values, np.float64))
        values = found.values
        if not found.axes:
            return values
        for i, axis in enumerate(found.axes):
            if axis in self.at and values.shape[i] > 1:
                taken: Positions = self.at[axis]
                values = values[(slice(None),) * i + (taken,)]
        order = [found.axes.index(axis) for axis in self.axes if axis in found.axes]
        if len(order) != len(found.axes):
            missing = [axis for axis in found.axes if axis not in self.axes]
            raise ImageMismatchError(
                f"Processing needs the axis {', '.join(missing)}, the tensor has "
                f"{', '.join(self.axes)}."
            )
        values = values.transpose(order)
        shape = iter(values.shape)
        values = values.reshape([next(shape) if a in found.axes else 1 for a in self.axes])
        for axis, have, size in zip(self.axes, values.shape, x.shape, strict=True):
            if have not in (1, size):
                raise ImageMismatchError(
                    f"Processing has {have} values along '{axis}', the tensor has {size}. "
                    "The image must have as many."
                )
        return values


class Step(ABC):
    """One entry of a tensor's ``preprocessing`` or ``postprocessing``."""

    #: Whether it takes the whole tensor of one item: such a step is never given a tile.
    whole: ClassVar[bool] = False

    #: Whether what it gives are numbers of objects, 0 where there is none.
    makes_labels: ClassVar[bool] = False

    @property
    def measures(self) -> tuple[Measure, ...]:
        """The statistics that `apply` looks up."""
        return ()

    @property
    def parameter_axes(self) -> tuple[str, ...]:
        """Axes along which the step's parameters differ."""
        return ()

    @abstractmethod
    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        """Process one block.

        Parameters
        ----------
        x
            The block, axes as in `block.axes`.
        block
            Its axes, place and statistics.
        own
            Whether `x` may be overwritten.

        Returns
        -------
        numpy.ndarray
            The same shape (a `whole` step may change it); may be `x`.
        """


@dataclass(frozen=True, slots=True)
class EnsureDtype(Step):
    """``ensure_dtype``: ``out = tensor.astype(dtype)``, as numpy casts (floats are cut off)."""

    dtype: str

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        with np.errstate(invalid="ignore"):  # NaN to integer: as numpy's platform has it
            return x.astype(self.dtype, copy=False)


@dataclass(frozen=True, slots=True)
class Binarize(Step):
    """``binarize``: ``out = tensor > threshold``; bool."""

    threshold: PerAxis

    @property
    def parameter_axes(self) -> tuple[str, ...]:
        return () if self.threshold.axis is None else (self.threshold.axis,)

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        threshold: Array = block.of(self.threshold, x)
        if x.dtype.kind == "f":  # 0.3 means the tensor's own 0.3, not the float64 next to it
            threshold = threshold.astype(x.dtype)
        return np.asarray(x > threshold)


@dataclass(frozen=True, slots=True)
class Clip(Step):
    """``clip``: ``out = minimum(maximum(tensor, min), max)``, bounds fixed or percentiles."""

    low: PerAxis | Measure | None
    high: PerAxis | Measure | None

    @property
    def measures(self) -> tuple[Measure, ...]:
        return tuple(bound for bound in (self.low, self.high) if isinstance(bound, Measure))

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        if self.low is not None:
            np.maximum(y, block.of(self.low, y).astype(y.dtype), out=y)
        if self.high is not None:
            np.minimum(y, block.of(self.high, y).astype(y.dtype), out=y)
        return y


@dataclass(frozen=True, slots=True)
class ScaleLinear(Step):
    """``scale_linear``: ``out = tensor * gain + offset``."""

    gain: PerAxis
    offset: PerAxis

    @property
    def parameter_axes(self) -> tuple[str, ...]:
        return tuple({p.axis: None for p in (self.gain, self.offset) if p.axis is not None})

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        y *= block.of(self.gain, y).astype(y.dtype)
        y += block.of(self.offset, y).astype(y.dtype)
        return y


@dataclass(frozen=True, slots=True)
class Sigmoid(Step):
    """``sigmoid``: ``out = 1 / (1 + exp(-tensor))``."""

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        np.negative(y, out=y)
        with np.errstate(over="ignore"):  # exp(large) is infinite and 1 / infinite is 0, as wanted
            np.exp(y, out=y)
        y += 1
        return np.reciprocal(y, out=y)


@dataclass(frozen=True, slots=True)
class Softmax(Step):
    """``softmax``: ``out = exp(tensor) / sum(exp(tensor))`` along an axis that is never tiled."""

    axis: str

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        if self.axis not in block.axes:
            raise ImageMismatchError(
                f"Softmax along '{self.axis}' was asked for, the tensor has "
                f"{', '.join(block.axes)}."
            )
        axis = block.axes.index(self.axis)
        y = _floating(x, own)
        y -= y.max(axis=axis, keepdims=True)  # changes nothing but keeps exp finite
        np.exp(y, out=y)
        y /= y.sum(axis=axis, keepdims=True)
        return y


@dataclass(frozen=True, slots=True)
class ZeroMeanUnitVariance(Step):
    """``zero_mean_unit_variance``: ``out = (tensor - mean) / (std + eps)``."""

    mean: Measure
    std: Measure
    eps: float

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (self.mean, self.std)

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        return _shift_divide(y, block.of(self.mean, y), block.of(self.std, y) + self.eps)


@dataclass(frozen=True, slots=True)
class FixedZeroMeanUnitVariance(Step):
    """``fixed_zero_mean_unit_variance``: ``out = (tensor - mean) / (std + 1e-6)``.

    The specification names no epsilon here; bioimageio.core adds 1e-6, and so do we.
    """

    mean: PerAxis
    std: PerAxis

    @property
    def parameter_axes(self) -> tuple[str, ...]:
        return () if self.mean.axis is None else (self.mean.axis,)

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        return _shift_divide(y, block.of(self.mean, y), block.of(self.std, y) + 1e-6)


@dataclass(frozen=True, slots=True)
class ScaleRange(Step):
    """``scale_range``: ``out = (tensor - v_lower) / (v_upper - v_lower + eps)``, percentiles of
    the tensor or of an unprocessed reference tensor.
    """

    lower: Measure
    upper: Measure
    eps: float

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (self.lower, self.upper)

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        lower, upper = block.of(self.lower, y), block.of(self.upper, y)
        return _shift_divide(y, lower, upper - lower + self.eps)


@dataclass(frozen=True, slots=True)
class ScaleMeanVariance(Step):
    """``scale_mean_variance``:
    ``out = (tensor - mean) / (std + eps) * (ref_std + eps) + ref_mean``, the reference being an
    unprocessed input.
    """

    mean: Measure
    std: Measure
    ref_mean: Measure
    ref_std: Measure
    eps: float

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (self.mean, self.std, self.ref_mean, self.ref_std)

    def apply(self, x: Array, block: Block, *, own: bool) -> Array:
        y = _floating(x, own)
        y = _shift_divide(y, block.of(self.mean, y), block.of(self.std, y) + self.eps)
        y *= (block.of(self.ref_std, y) + self.eps).astype(y.dtype)
        y += block.of(self.ref_mean, y).astype(y.dtype)
        return y


def working_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The float type that holds every value: float32 for 8 and 16 bits, else float64."""
    return np.result_type(dtype, np.float32)


def _floating(x: Array, own: bool) -> Array:
    """`x` in its working dtype, free to be overwritten."""
    return x.astype(working_dtype(x.dtype), copy=not own)


def _shift_divide(y: Array, shift: Floats, divisor: Floats) -> Array:
    """``(y - shift) / divisor`` in place, accurate to the last digit of `y`'s dtype.

    In float32 the shift of a bright image of low contrast is rounded by more than the result
    shows, so what the rounding lost is subtracted too where it counts.
    """
    rounded = shift.astype(y.dtype)
    y -= rounded
    lost = shift - rounded
    if np.any(np.abs(lost) > 3e-8 * np.abs(divisor)):
        y -= lost.astype(y.dtype)
    y /= divisor.astype(y.dtype)
    return y


def kept_axes(measure: Measure, axes: Sequence[str]) -> tuple[str, ...]:
    """Axes along which a measure of a tensor with `axes` has one value per index."""
    return () if measure.axes is None else tuple(a for a in axes if a not in measure.axes)
