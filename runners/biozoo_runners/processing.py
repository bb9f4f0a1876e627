"""A model's pre- and postprocessing, planned from its description and applied block by block.

`preprocessing(descr)` and `postprocessing(descr)` make a frozen `Processing`: per tensor id a
chain of steps. Statistics of whole tensors are collected first, then the chain is applied to any
block of a tensor::

    steps = preprocessing(descr)
    stats = steps.collect({"raw": image})                        # whole images, xr.DataArray
    tile = steps.apply("raw", array, ("batch", "channel", "y", "x"), stats)

Outputs that need statistics of themselves, or have a step that takes the whole, are handled in two
halves, `split`: what comes before is applied per tile, the rest on the stitched whole.

What is statistics of what (compare bioimageio.core 0.11):

- An input's statistics are those of the unprocessed input, of the whole image, also for a later
  step of the chain: so does core, and a package's test tensors are made with core. (One of the 101
  published descriptions we have holds two such steps: it clips to percentiles, then normalises.)
- An output's statistics are of the output at that step. Core cannot compute any.
- ``reference_tensor`` means the unprocessed input, as the specification says and core does.
- ``axes`` absent, or with ``batch`` in it, asks for statistics of a dataset. There is no dataset
  at a run: they are taken of the one image, as core does for its first image (core's later images
  get the running mean over all images seen). Percentiles of such a clip are then interpolated
  linearly, otherwise a clip takes existing values (``inverted_cdf``): core's rule.
- ``eps`` is the description's; core always takes 1e-6 for zero_mean_unit_variance and scale_range.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .statistics import Measure, Stats, measure_tensor
from .steps import Block, EnsureDtype, Positions, Step, kept_axes
from .steps_external import check_holds

if TYPE_CHECKING:
    import xarray as xr
    from bioimageio.spec.model.v0_5 import ModelDescr

__all__ = ["Chain", "Processing", "postprocessing", "preprocessing"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Chain:
    """The steps of one tensor; `first` counts the steps that were split off before them."""

    tensor: str
    axes: tuple[str, ...]
    steps: tuple[Step, ...]
    first: int = 0

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """All statistics that the steps look up, each once."""
        return tuple(dict.fromkeys(m for step in self.steps for m in step.measures))

    @property
    def uses_own_statistics(self) -> bool:
        """Whether statistics of this tensor are needed."""
        return any(m.tensor == self.tensor for m in self.measures)

    @cached_property
    def indexed_axes(self) -> tuple[str, ...]:
        """Axes along which parameters or statistics differ: `at` must tell a block's place."""
        found = {axis for step in self.steps for axis in step.parameter_axes}
        found.update(axis for m in self.measures for axis in kept_axes(m, self.axes))
        return tuple(axis for axis in self.axes if axis in found)

    @property
    def makes_labels(self) -> bool:
        """Whether the steps end with numbers of objects, cast or not."""
        labels = False
        for step in self.steps:
            labels = self._still_labels(step, labels)
        return labels

    @staticmethod
    def _still_labels(step: Step, labels: bool) -> bool:
        kept = isinstance(step, EnsureDtype) and step.dtype != "bool"
        return step.makes_labels or (labels and kept)

    def split(self) -> tuple[Chain, Chain]:
        """The steps before the first that needs the whole tensor or statistics of it, and the
        rest.
        """
        for i, step in enumerate(self.steps):
            if step.whole or any(m.tensor == self.tensor for m in step.measures):
                head = Chain(self.tensor, self.axes, self.steps[:i], self.first)
                return head, Chain(self.tensor, self.axes, self.steps[i:], self.first + i)
        return self, Chain(self.tensor, self.axes, (), self.first + len(self.steps))

    def apply(self, array: Array, block: Block) -> Array:
        """All steps on one block; the given array is left as it is."""
        x = array
        for step in self.steps:
            x = step.apply(x, block, own=x is not array)
        return x

    def finish(self, array: Array, axes: tuple[str, ...], stats: Stats) -> Array:
        """All steps on a whole output, whose own statistics are taken where a step needs them.

        The given array is left as it is; a step that takes the whole may change the shape.
        """
        x, labels = array, False
        for step in self.steps:
            labels = self._still_labels(step, labels)
            if labels and isinstance(step, EnsureDtype):
                check_holds(x, step.dtype, self.tensor)
            own = [m for m in step.measures if m.tensor == self.tensor and m not in stats]
            if own:
                stats |= Stats(measure_tensor(x, axes, own))
            x = step.apply(x, Block(axes, stats), own=x is not array)
        return x

    def collect(self, array: Array, axes: tuple[str, ...], stats: Stats) -> Stats:
        """Add the statistics of this tensor that the chain needs, from the whole tensor."""
        by_step: dict[int, list[Measure]] = {}
        for measure in self.measures:
            if measure.tensor == self.tensor and measure not in stats:
                by_step.setdefault(measure.step, []).append(measure)
        x = array
        for i, step in enumerate(self.steps, start=self.first):
            if not any(at >= i for at in by_step):
                break
            if i in by_step:
                stats |= Stats(measure_tensor(x, axes, by_step[i]))
            if not any(at > i for at in by_step):
                break
            if isinstance(step, EnsureDtype) and np.can_cast(x.dtype, step.dtype, "safe"):
                continue  # the same values, and integers are far quicker to measure
            x = step.apply(x, Block(axes, stats), own=x is not array)
        return stats


@dataclass(frozen=True)
class Processing:
    """The chains of all inputs, or of all outputs, of one model."""

    chains: Mapping[str, Chain]

    @cached_property
    def required_measures(self) -> tuple[Measure, ...]:
        """All statistics, of these tensors and of reference tensors."""
        return tuple(dict.fromkeys(m for c in self.chains.values() for m in c.measures))

    @property
    def reference_measures(self) -> tuple[Measure, ...]:
        """The statistics of unprocessed tensors that are not processed here (an output's
        reference inputs): give them to `collect` while the inputs are at hand.
        """
        return tuple(m for m in self.required_measures if m.tensor not in self.chains)

    def collect(self, tensors: Mapping[str, xr.DataArray], stats: Stats | None = None) -> Stats:
        """Statistics of whole tensors.

        Parameters
        ----------
        tensors
            Whole tensors by id, dims = axis ids: unprocessed inputs, or what the network made.
            Those that no step needs are not read.
        stats
            What is known already.

        Returns
        -------
        Stats
            `stats` and all that `tensors` allow.
        """
        stats = stats or Stats()
        # unprocessed ones first: to reach a later step, a chain may need those of a reference
        for tensor, data in tensors.items():
            raw = [m for m in self.required_measures if m.tensor == tensor and m.step == 0]
            if raw := [m for m in raw if m not in stats]:
                axes = tuple(map(str, data.dims))
                stats |= Stats(measure_tensor(np.asarray(data.data), axes, raw))
        for tensor, data in tensors.items():
            chain = self.chains.get(tensor)
            if chain is not None and chain.uses_own_statistics:
                stats = chain.collect(np.asarray(data.data), tuple(map(str, data.dims)), stats)
        return stats

    def apply(
        self,
        tensor: str,
        array: Array,
        axes: Sequence[str],
        stats: Stats,
        at: Mapping[str, Positions] | None = None,
    ) -> Array:
        """Process one block of a tensor.

        Parameters
        ----------
        tensor
            Its id.
        array
            The block, any real dtype; it is not changed.
        axes
            The block's axis ids, in its order.
        stats
            From `collect`.
        at
            Per axis of `indexed_axes` that the block does not span whole: its positions in the
            whole tensor (a slice, or the indices where padding repeats pixels).

        Returns
        -------
        numpy.ndarray
            The same shape, in the dtype that the chain ends with; `array` itself where nothing
            had to change.

        Raises
        ------
        ImageMismatchError
            A parameter per channel, say, for a tensor with another number of channels.
        UsageError
            Statistics are needed that were not collected.
        """
        return self.chains[tensor].apply(array, Block(tuple(axes), stats, at or {}))

    def apply_whole(self, tensor: str, data: xr.DataArray, stats: Stats) -> xr.DataArray:
        """Process a whole tensor; coords and attrs stay."""
        axes = tuple(map(str, data.dims))
        return data.copy(data=self.apply(tensor, np.asarray(data.data), axes, stats))

    def is_pointwise(self, tensor: str) -> bool:
        """Whether, given statistics, `apply` may be called on tiles: true but for steps that take
        the whole (softmax needs all channels of a pixel, and channels are never tiled).
        """
        return tensor in self.chains and not any(s.whole for s in self.chains[tensor].steps)

    def indexed_axes(self, tensor: str) -> tuple[str, ...]:
        """Axes for which `apply` needs `at` when they are tiled."""
        return self.chains[tensor].indexed_axes

    def uses_own_statistics(self, tensor: str) -> bool:
        """Whether statistics of the whole tensor must be collected before `apply`."""
        return self.chains[tensor].uses_own_statistics

    def split(self) -> tuple[Processing, Processing]:
        """What may be applied before the whole tensors exist, and the rest, as two halves.

        For outputs: the first per tile, then stitch, then `Chain.finish` of the second.
        """
        halves = {tensor: chain.split() for tensor, chain in self.chains.items()}
        return (
            Processing({tensor: half[0] for tensor, half in halves.items()}),
            Processing({tensor: half[1] for tensor, half in halves.items()}),
        )

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not any(chain.steps for chain in self.chains.values())


def preprocessing(descr: ModelDescr) -> Processing:
    """The preprocessing of all inputs.

    Raises
    ------
    NoBackendError
        A step that is not executed here.
    InvalidPackageError
        A step refers to a tensor or axis that does not exist.
    """
    from .step_builder import build

    return Processing(
        {str(t.id): Chain(str(t.id), *build(descr, t, t.preprocessing)) for t in descr.inputs}
    )


def postprocessing(descr: ModelDescr) -> Processing:
    """The postprocessing of all outputs; raises as `preprocessing` does.

    Whether a step's library is there, and whether the author's code may run, is asked when a model
    is loaded: `steps_external.require_libraries`, `custom.bind`.
    """
    from .step_builder import build

    return Processing(
        {str(t.id): Chain(str(t.id), *build(descr, t, t.postprocessing)) for t in descr.outputs}
    )
