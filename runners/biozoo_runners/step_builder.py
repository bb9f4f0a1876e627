"""From a description's processing entries to steps; imports bioimageio.spec."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from bioimageio.spec.model import v0_5 as spec

from biozoo.errors import InvalidPackageError, NoBackendError

from .statistics import Measure, Method
from .steps import (
    Binarize,
    Clip,
    EnsureDtype,
    FixedZeroMeanUnitVariance,
    PerAxis,
    ScaleLinear,
    ScaleMeanVariance,
    ScaleRange,
    Sigmoid,
    Softmax,
    Step,
    ZeroMeanUnitVariance,
)
from .steps_external import Cellpose, Custom, Stardist

if TYPE_CHECKING:
    TensorDescr = spec.InputTensorDescr | spec.OutputTensorDescr
    Entry = spec.PreprocessingDescr | spec.PostprocessingDescr

__all__ = ["build"]


def build(
    descr: spec.ModelDescr, tensor: TensorDescr, entries: Sequence[Entry]
) -> tuple[tuple[str, ...], tuple[Step, ...]]:
    """A tensor's axis ids and its steps.

    The specification's own ``ensure_dtype`` at both ends is already among `entries`.
    """
    axes = tuple(str(a.id) for a in tensor.axes)
    builder = _Builder(_name(descr), [str(t.id) for t in descr.inputs], str(tensor.id), axes)
    steps = tuple(builder.step(entry, i) for i, entry in enumerate(entries))
    makers = [i for i, step in enumerate(steps) if step.makes_labels]
    if len(makers) > 1:
        raise builder.fault(makers[1], "its input would be the labels of an earlier step")
    return axes, steps


def _name(descr: spec.ModelDescr) -> str:
    return str(descr.id or descr.name)


class _Builder:
    """Makes the steps of one tensor and checks what they refer to."""

    def __init__(self, model: str, inputs: Sequence[str], tensor: str, axes: tuple[str, ...]):
        self.model, self.inputs, self.tensor, self.axes = model, inputs, tensor, axes

    def step(self, entry: Entry, i: int) -> Step:
        """One entry as a step; `i` is its place in the list."""
        if isinstance(entry, spec.EnsureDtypeDescr):
            return EnsureDtype(entry.kwargs.dtype)
        if isinstance(entry, spec.SigmoidDescr):
            return Sigmoid()
        if isinstance(entry, spec.SoftmaxDescr):
            return Softmax(self.axis(entry.kwargs.axis, i))
        if isinstance(entry, spec.BinarizeDescr):
            return Binarize(self.binarize(entry, i))
        if isinstance(entry, spec.ClipDescr):
            return self.clip(entry.kwargs, i)
        if isinstance(entry, spec.ScaleLinearDescr):
            linear = entry.kwargs
            if isinstance(linear, spec.ScaleLinearKwargs):
                return ScaleLinear(PerAxis(linear.gain), PerAxis(linear.offset))
            axis = self.axis(linear.axis, i)
            return ScaleLinear(_per_axis(linear.gain, axis), _per_axis(linear.offset, axis))
        if isinstance(entry, spec.ZeroMeanUnitVarianceDescr):
            axes = self.reduced(entry.kwargs.axes)
            return ZeroMeanUnitVariance(
                self.measure("mean", i, axes), self.measure("std", i, axes), entry.kwargs.eps
            )
        if isinstance(entry, spec.FixedZeroMeanUnitVarianceDescr):
            fixed = entry.kwargs
            if isinstance(fixed, spec.FixedZeroMeanUnitVarianceKwargs):
                return FixedZeroMeanUnitVariance(PerAxis(fixed.mean), PerAxis(fixed.std))
            axis = self.axis(fixed.axis, i)
            return FixedZeroMeanUnitVariance(
                _per_axis(fixed.mean, axis), _per_axis(fixed.std, axis)
            )
        if isinstance(entry, spec.ScaleRangeDescr):
            return self.scale_range(entry.kwargs, i)
        if isinstance(entry, spec.ScaleMeanVarianceDescr):
            kwargs = entry.kwargs
            axes, reference = self.reduced(kwargs.axes), str(kwargs.reference_tensor)
            return ScaleMeanVariance(
                self.measure("mean", i, axes),
                self.measure("std", i, axes),
                self.measure("mean", i, axes, reference=reference),
                self.measure("std", i, axes, reference=reference),
                kwargs.eps,
            )
        if isinstance(entry, spec.StardistPostprocessingDescr):
            return self.stardist(entry.kwargs, i)
        if isinstance(entry, spec.CellposeFlowDynamicsDescr):
            return self.cellpose(entry.kwargs, i)
        assert isinstance(entry, spec.CustomProcessingDescr)
        return Custom(self.tensor, str(entry.callable), str(entry.source))

    def stardist(
        self,
        kwargs: spec.StardistPostprocessingKwargs2D | spec.StardistPostprocessingKwargs3D,
        i: int,
    ) -> Stardist:
        """StarDist in the plane or in space."""
        if min(kwargs.grid) < 1 or kwargs.n_rays < 3:
            raise self.fault(i, f"grid {kwargs.grid}, n_rays {kwargs.n_rays}: 1 and 3 at least")
        step = Stardist(
            self.tensor,
            tuple(kwargs.grid),
            kwargs.prob_threshold,
            kwargs.nms_threshold,
            kwargs.n_rays,
            kwargs.b,
        )
        if isinstance(kwargs, spec.StardistPostprocessingKwargs3D):
            step = replace(step, anisotropy=kwargs.anisotropy, overlap_label=kwargs.overlap_label)
        self.needs(("channel", *step.spatial), i)
        return step

    def cellpose(self, kwargs: spec.CellposeFlowDynamicsKwargs, i: int) -> Cellpose:
        """Cellpose in the plane."""
        if "z" in self.axes:
            raise NoBackendError(
                package=self.model,
                reasons={
                    "processing": f"'{self.tensor}' is a volume processed by "
                    "'cellpose_flow_dynamics', which the specification and bioimageio.core define "
                    "for planes only: channels flow_y, flow_x, cellprob. Use another model, or ask "
                    "the author for one of planes"
                },
            )
        self.needs(("channel", *Cellpose.spatial), i)
        return Cellpose(
            self.tensor,
            kwargs.cellprob_threshold,
            kwargs.flow_threshold,
            kwargs.do_3D,
            kwargs.min_size,
            kwargs.output_dtype,
        )

    def needs(self, axes: tuple[str, ...], i: int) -> None:
        """The tensor must have just these axes, with or without a batch axis."""
        if set(self.axes) - {"batch"} != set(axes):
            raise self.fault(
                i, f"it takes the axes {', '.join(axes)}, the tensor has {', '.join(self.axes)}"
            )

    def fault(self, i: int, what: str) -> InvalidPackageError:
        """The error for a step that contradicts its tensor."""
        return InvalidPackageError(
            source=self.model, fields={f"{self.tensor}.processing.{i}": what}
        )

    def binarize(self, entry: spec.BinarizeDescr, i: int) -> PerAxis:
        """The threshold or thresholds."""
        if isinstance(entry.kwargs, spec.BinarizeKwargs):
            return PerAxis(entry.kwargs.threshold)
        return _per_axis(entry.kwargs.threshold, self.axis(entry.kwargs.axis, i))

    def clip(self, kwargs: spec.ClipKwargs, i: int) -> Clip:
        """Fixed bounds or percentiles; existing values unless of a dataset, as core has it."""
        axes = self.reduced(kwargs.axes)
        dataset = kwargs.axes is None or "batch" in map(str, kwargs.axes)
        method: Method = "linear" if dataset else "inverted_cdf"

        def bound(fixed: float | None, percentile: float | None) -> PerAxis | Measure | None:
            if fixed is not None:
                return PerAxis(fixed)
            if percentile is None:
                return None
            return self.measure("quantile", i, axes, q=percentile / 100, method=method)

        return Clip(
            bound(kwargs.min, kwargs.min_percentile), bound(kwargs.max, kwargs.max_percentile)
        )

    def scale_range(self, kwargs: spec.ScaleRangeKwargs, i: int) -> ScaleRange:
        """Percentiles of the tensor or of a reference."""
        axes = self.reduced(kwargs.axes)
        reference = None if kwargs.reference_tensor is None else str(kwargs.reference_tensor)
        lower, upper = (
            self.measure("quantile", i, axes, q=percentile / 100, reference=reference)
            for percentile in (kwargs.min_percentile, kwargs.max_percentile)
        )
        return ScaleRange(lower, upper, kwargs.eps)

    def measure(
        self,
        kind: Literal["mean", "std", "quantile"],
        i: int,
        axes: tuple[str, ...] | None,
        *,
        q: float = 0.0,
        method: Method = "linear",
        reference: str | None = None,
    ) -> Measure:
        """A statistic of an unprocessed input, or of an output before step `i`."""
        if reference is None:
            return Measure(
                self.tensor, 0 if self.tensor in self.inputs else i, kind, axes, q, method
            )
        if reference not in self.inputs:
            raise InvalidPackageError(
                source=self.model,
                fields={
                    f"{self.tensor}.processing.{i}.reference_tensor": f"'{reference}' is no "
                    f"input; there are {', '.join(self.inputs)}"
                },
            )
        return Measure(reference, 0, kind, axes, q, method)

    def reduced(self, axes: Sequence[spec.AxisId] | None) -> tuple[str, ...] | None:
        """The axes to reduce."""
        return None if axes is None else tuple(map(str, axes))

    def axis(self, axis: spec.AxisId, i: int) -> str:
        """An axis that the tensor must have."""
        if str(axis) not in self.axes:
            raise InvalidPackageError(
                source=self.model,
                fields={
                    f"{self.tensor}.processing.{i}.axis": f"'{axis}' is no axis of the tensor; "
                    f"there are {', '.join(self.axes)}"
                },
            )
        return str(axis)


def _per_axis(values: float | Sequence[float], axis: str) -> PerAxis:
    """One number, or one per index of `axis`; a list of one counts for all."""
    if isinstance(values, (int, float)):
        return PerAxis(float(values))
    return PerAxis(tuple(map(float, values)), axis)
