"""Frozen features of a region of an image: what the last layer of a network sees.

The region is read, preprocessed, tiled, run and stitched by the runner's own code, as a run of the
model does it; only what the network gives is another tensor. Statistics of the image (percentiles,
mean) are those of the whole plane or volume, as a run over the whole image takes them: what is seen
in a region is what the kept package finds there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import Cancelled, UsageError
from biozoo_runners.prepare import Fitting, as_image, fit, replace_not_finite
from biozoo_runners.processing import Chain, Processing
from biozoo_runners.rescale import Rescaling, rescale
from biozoo_runners.retile import Tiles
from biozoo_runners.run import run_items
from biozoo_runners.sizes import FixedSize, ModelGeometry, TensorGeometry
from biozoo_runners.statistics import Stats
from biozoo_runners.tiling import plan_tiles

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage
    from biozoo_runners.base import Backend
    from biozoo_runners.images.base import Image, Index
    from biozoo_runners.prepare import Channel, ImageLike
    from biozoo_runners.program import Program
    from biozoo_runners.rescale import Scale

__all__ = ["Extractor", "Features"]

SPACE = ("z", "y", "x")

#: Largest image whose statistics are taken of the whole; of a larger one those of the region.
WHOLE = 2**26

#: Pixels of a region that a refit learns from beside the painted ones.
SAMPLE = 3000


@dataclass(frozen=True, eq=False)
class Features:
    """What the last layer sees of one region.

    Attributes
    ----------
    values
        float32, dims ("channel", then y x or z y x), at the scale at which the model runs.
    region
        Of the image, by axis: first pixel and the one after the last.
    sizes
        Size of the region along the spatial axes, in pixels of the image: the shape of scribbles
        and of results.
    image
        Name of the image.
    seconds
        That they took.
    notes
        What a person should know: channel, padding, tiles.
    stats
        Of the image, for steps behind the network that ask for them.
    scaling
        Between the image's pixels and the model's; None where they are the same.
    """

    values: xr.DataArray
    region: Mapping[str, tuple[int, int]]
    sizes: Mapping[str, int]
    image: str
    seconds: float
    notes: tuple[str, ...] = ()
    stats: Stats = field(default_factory=Stats)
    scaling: Rescaling | None = None

    @property
    def nbytes(self) -> int:
        """Bytes that the values take in memory."""
        return int(self.values.nbytes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of scribbles: the region's pixels along y x or z y x."""
        return tuple(self.sizes.values())

    def at(self, pixels: NDArray[np.intp]) -> NDArray[np.float64]:
        """Features (n, channels) of pixels of the region, given by flat index at model scale."""
        flat = self.values.values.reshape(self.values.sizes["channel"], -1)
        return np.asarray(flat[:, pixels].T, np.float64)

    def in_model(self, pixels: NDArray[np.intp]) -> NDArray[np.intp]:
        """Flat indices of the model's pixels that hold pixels of the image (n, axes)."""
        model = self.values.shape[1:]
        scaled = [
            (2 * pixels[:, i] + 1) * m // (2 * n)
            for i, (n, m) in enumerate(zip(self.shape, model, strict=True))
        ]
        return np.ravel_multi_index(tuple(scaled), model)

    @cached_property
    def coarse(self) -> NDArray[np.float32]:
        """Every second pixel along each axis (channels, ...): enough to compare two heads by."""
        every = (slice(None), *(slice(None, None, 2) for _ in self.shape))
        return np.ascontiguousarray(self.values.values[every])

    @cached_property
    def sample(self) -> NDArray[np.intp]:
        """Flat indices of `SAMPLE` pixels at model scale, drawn once and for all."""
        count = prod(self.values.shape[1:])
        drawn = np.random.default_rng(0).choice(count, min(SAMPLE, count), replace=False)
        return np.asarray(np.sort(drawn), np.intp)


class Extractor:
    """Computes features of images with one network.

    Parameters
    ----------
    package, program
        The model.
    backend
        Executes the graph whose output is the features, under the id of the model's output.
    output
        That id.
    channels
        How many features there are.
    """

    def __init__(
        self,
        package: ModelPackage,
        program: Program,
        backend: Backend,
        output: str,
        channels: int,
    ) -> None:
        self._package, self._program, self._backend = package, program, backend
        self._output = output
        whole = program.geometry
        self.geometry = ModelGeometry(whole.inputs, (_with_channels(whole, output, channels),))
        axes = self.geometry.outputs[0].dims
        self._nothing = Processing({output: Chain(output, axes, ())})

    def __call__(
        self,
        source: ImageLike,
        *,
        region: Mapping[str, tuple[int, int]] | None,
        axes: str | Sequence[str] | None,
        channel: Channel | None,
        scale: Scale | None,
        cancelled: Callable[[], bool] | None,
    ) -> Features:
        """Features of a region; see `LiveModel.features`."""
        start = time.perf_counter()
        image = as_image(source, axes)
        cut = _cut(image, region or {})
        scaling = rescale(fit(self.geometry, cut, channel), scale)
        fitting = scaling.fitting
        if many := [a for a, n in fitting.loops.items() if n > 1]:
            raise UsageError(
                f"Live mode looks at one position along '{many[0]}' at a time, because "
                f"'{self._package.id}' has no such axis; the region has {fitting.loops[many[0]]}. "
                f"Choose one, for example region {{'{many[0]}': (0, 1)}}."
            )
        stats, told = self._measured(image, cut, region or {}, fitting, channel, scale)
        before = _Measured(self._program.preprocessing.chains, stats)
        plan = plan_tiles(self.geometry, fitting.sizes)
        tiles = Tiles(self._backend, self.geometry, fitting, plan, name=self._package.id)

        def on_tile() -> None:
            if cancelled is not None and cancelled():
                raise Cancelled("The computation of features")

        made, _, notes = run_items(self.geometry, (before, self._nothing), fitting, tiles, on_tile)
        values = made[self._output].squeeze(list(fitting.loops), drop=True)
        space = [a for a in SPACE if a in values.dims]
        values = values.transpose("channel", *space)
        if values.dtype != np.float32:
            values = values.astype(np.float32)
        sizes = {a: n for a, n in cut.sizes.items() if a in space}
        return Features(
            values=values.copy(data=np.ascontiguousarray(values.values)),
            region={a: (region or {}).get(a, (0, n)) for a, n in image.sizes.items()
                    if a != "channel"},
            sizes={a: sizes[a] for a in space},
            image=image.name,
            seconds=time.perf_counter() - start,
            notes=tuple(dict.fromkeys((*fitting.notes, *tiles.notes, *told, *notes))),
            stats=stats,
            scaling=scaling,
        )  # fmt: skip

    def _measured(
        self,
        image: Image,
        cut: Image,
        region: Mapping[str, tuple[int, int]],
        fitting: Fitting,
        channel: Channel | None,
        scale: Scale | None,
    ) -> tuple[Stats, list[str]]:
        """Statistics that a run over the image takes at the region's position, and notes."""
        before, after = self._program.preprocessing, self._program.postprocessing
        if not before.required_measures and not after.reference_measures:
            return Stats(), []
        told = []
        # Along axes that are looped over, every position has statistics of its own.
        whole = _cut(image, {a: span for a, span in region.items() if a in fitting.loops})
        if whole.sizes != cut.sizes:
            if prod(whole.shape) <= WHOLE:
                fitting = rescale(fit(self.geometry, whole, channel), scale).fitting
            else:
                told.append(
                    "the image is large: its brightness is measured in this region alone, so a "
                    "run over the whole image may see it a little differently"
                )
        import xarray as xr

        arrays = {}
        for f in fitting.inputs:
            pixels, _ = replace_not_finite(f.read(dict.fromkeys(fitting.loops, 0)))
            arrays[f.tensor.id] = xr.DataArray(pixels, dims=f.tensor.dims)
        return after.collect(arrays, before.collect(arrays)), told


@dataclass(frozen=True)
class _Measured(Processing):
    """Preprocessing whose statistics are known."""

    stats: Stats

    @property
    def required_measures(self) -> tuple[Any, ...]:
        """None any more."""
        return ()

    def apply(
        self,
        tensor: str,
        array: NDArray[Any],
        axes: Sequence[str],
        stats: Stats,
        at: Mapping[str, Any] | None = None,
    ) -> NDArray[Any]:
        """As `Processing.apply`, with the statistics that are known."""
        return super().apply(tensor, array, axes, self.stats, at)


def _with_channels(model: ModelGeometry, output: str, count: int) -> TensorGeometry:
    """The output with as many channels."""
    tensor = model.tensor(output)
    axes = tuple(
        replace(a, size=FixedSize(count), channels=()) if a.kind == "channel" else a
        for a in tensor.axes
    )
    return replace(tensor, axes=axes)


def _cut(image: Image, region: Mapping[str, tuple[int, int]]) -> Image:
    """The part of an image from the first to before the last position, by axis.

    Raises
    ------
    UsageError
        The image has no such part.
    """
    sizes = image.sizes
    for axis, (first, last) in region.items():
        if axis not in sizes or axis == "channel":
            raise UsageError(
                f"The region names the axis '{axis}'; '{image.name}' has "
                f"{', '.join(a for a in sizes if a != 'channel')}. Leave it out."
            )
        if not 0 <= first < last <= sizes[axis]:
            raise UsageError(
                f"The region {axis} {first} to {last} is not inside the image, which has "
                f"{sizes[axis]} pixels along {axis}. Choose a region between 0 and {sizes[axis]}."
            )
    if all(region.get(a, (0, n)) == (0, n) for a, n in sizes.items()):
        return image
    starts = [region.get(a, (0, 0))[0] for a in sizes]

    def read(index: tuple[Index, ...]) -> Any:
        moved = (
            slice(i.start + first, i.stop + first, i.step) if isinstance(i, slice) else i + first
            for i, first in zip(index, starts, strict=True)
        )
        return image.reader(tuple(moved))

    bounds = [region.get(a, (0, n)) for a, n in sizes.items()]
    return replace(image, shape=tuple(b - a for a, b in bounds), reader=read)
