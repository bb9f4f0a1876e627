"""The planes or volumes of images as a network gets them, with their labels; read piece by piece.

An image is cut along the axes that the model lacks (a z-stack for a 2D model is as many items). The
package's own preprocessing is applied, with the statistics of the whole item, whatever piece of it
is asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo_runners.prepare import FittedInput, fit
from biozoo_runners.statistics import Stats

from .labels import IGNORE, as_labels, from_scribbles
from .regions import WHOLE, Cache, Region, finite, read_region, sample, slabs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage
    from biozoo_runners.images.base import Image
    from biozoo_runners.prepare import Channel
    from biozoo_runners.processing import Processing

    from .pairs import Pair
    from .recipe import Recipe
    from .targets.base import Supplies

__all__ = ["Cache", "Item", "items_of"]

#: Places per item that patches are drawn around.
PLACES = 4000


@dataclass(frozen=True, eq=False)
class Item:
    """One plane or volume.

    Attributes
    ----------
    stem, digest
        Of its pair.
    fitted, at
        The image in terms of the input tensor, and the position along the axes the model lacks.
    labels
        See `Pair`; None where nothing is supplied.
    supplies
        What the labels are.
    spatial, shape
        Spatial axes in the order of the input tensor, and pixels along them.
    normalised
        Whether a clean image is preprocessed like the input.
    """

    stem: str
    digest: str
    fitted: FittedInput
    at: Mapping[str, int]
    labels: Image | None
    supplies: Supplies
    scribbles: bool
    spatial: tuple[str, ...]
    shape: tuple[int, ...]
    steps: Processing
    cache: Cache = field(repr=False)
    normalised: bool = True

    @property
    def name(self) -> str:
        """The stem, with the position where the image has several."""
        many = {a: n for a, n in self.at.items() if self.fitted.loops[a] > 1}
        return f"{self.stem} ({', '.join(f'{a} {n}' for a, n in many.items())})" if many else (
            self.stem
        )  # fmt: skip

    @property
    def whole(self) -> Region:
        """All of it."""
        return tuple(slice(0, n) for n in self.shape)

    @property
    def small(self) -> bool:
        """Whether it is kept in memory as a whole."""
        return math.prod(self.shape) * 16 <= self.cache.limit // 4

    def read(self, region: Region) -> tuple[NDArray[np.float32], NDArray[Any]]:
        """Preprocessed pixels (c, then spatial axes) and labels of a region.

        Labels are int32 over the spatial axes, negative where unknown; a clean image is
        preprocessed like the input (c, then spatial axes); where nothing is supplied they are the
        pixels themselves. The arrays are not to be changed.
        """
        if self.small:
            image, labels = self._cached("whole", lambda: self._read(self.whole))
            inside: tuple[Any, ...] = (..., *region)
            return image[inside], labels[inside]
        return self._read(region)

    def _cached(
        self, what: str, make: Callable[[], tuple[NDArray[Any], ...]]
    ) -> tuple[NDArray[Any], ...]:
        return self.cache.get((id(self.fitted), tuple(self.at.values()), what), make)

    def _read(self, region: Region) -> tuple[NDArray[np.float32], NDArray[Any]]:
        image = self._preprocessed(self.fitted, region, self.stats)
        if self.labels is None:
            return image, image
        if self.supplies == "image":
            return image, self._clean(region)
        return image, self._labels(region)

    def _clean(self, region: Region) -> NDArray[np.float32]:
        """The clean image (c, then spatial axes): preprocessed like the input, or as it is."""
        assert self.labels is not None
        fitted = _clean_of(self.fitted, self.labels)
        made = self._preprocessed(
            fitted, region, self._stats_of(fitted, "clean"), as_it_is=not self.normalised
        )
        if self.labels.dtype.kind == "f":  # what is no number there is not asked for
            unknown = ~np.isfinite(self._preprocessed(fitted, region, Stats(), as_it_is=True))
            made = np.where(unknown, np.float32(np.nan), made)
        return made

    @property
    def stats(self) -> Stats:
        """Statistics of the whole item that the preprocessing needs."""
        return self._stats_of(self.fitted, "image")

    # ------------------------------------------------------------------------------------ pixels

    def _preprocessed(
        self, fitted: FittedInput, region: Region, stats: Stats, *, as_it_is: bool = False
    ) -> NDArray[np.float32]:
        """Pixels (c, then spatial axes), preprocessed unless `as_it_is`."""
        made = read_region(fitted, self.at, self.spatial, region)
        dims = fitted.tensor.dims
        if not as_it_is:
            indexed = self.steps.indexed_axes(fitted.tensor.id)
            at = {a: s for a, s in zip(self.spatial, region, strict=True) if a in indexed}
            pixels, _ = finite(made)
            made = self.steps.apply(fitted.tensor.id, pixels, dims, stats, at)
        if "batch" in dims:
            made = made.squeeze(dims.index("batch"))
            dims = tuple(d for d in dims if d != "batch")
        if "channel" not in dims:
            made, dims = made[None], ("channel", *dims)
        made = made.transpose([dims.index(a) for a in ("channel", *self.spatial)])
        return np.ascontiguousarray(made, dtype=np.float32)

    def _stats_of(self, fitted: FittedInput, what: str) -> Stats:
        known = self.cache.stats
        key = (id(self.fitted), tuple(self.at.values()), what)
        if key not in known:
            known[key] = self._measured(fitted)
        return known[key]

    def _measured(self, fitted: FittedInput) -> Stats:
        import xarray as xr

        if not self.steps.required_measures:
            return Stats()
        pixels = sample(fitted, self.at, self.spatial, self.shape)
        pixels, _ = finite(pixels)
        return self.steps.collect({fitted.tensor.id: xr.DataArray(pixels, dims=fitted.tensor.dims)})

    # ------------------------------------------------------------------------------------ labels

    def _labels(self, region: Region) -> NDArray[np.int32]:
        assert self.labels is not None
        selection: dict[str, int | slice] = {
            a: (self.at.get(a, 0) if self.labels.sizes[a] > 1 else 0)
            for a in self.labels.axes
            if a not in self.spatial
        }
        selection |= dict(zip(self.spatial, region, strict=True))
        data = self.labels.read({a: s for a, s in selection.items() if a in self.labels.axes})
        found = data.transpose(*self.spatial).values
        if found.dtype.kind == "f":  # whole numbers, as `checks` has seen
            found = np.nan_to_num(found, nan=IGNORE).astype(np.int32)
        return from_scribbles(found) if self.scribbles else as_labels(found)

    def places(self, rng: np.random.Generator) -> NDArray[np.intp]:
        """Positions (n, spatial axes) that patches are drawn around: of objects, or painted.

        Empty where every place is as good. Each object counts about the same, however large.
        """
        if self.supplies in ("image", "nothing") or self.labels is None:
            return np.zeros((0, len(self.shape)), np.intp)
        found = []
        for region in slabs(self.shape, 2**24):
            labels = self.read(region)[1]
            good = labels >= 0 if self.scribbles else labels > 0
            where = np.argwhere(good)
            if not len(where):
                continue
            if len(where) > PLACES:
                weight = _evenly(labels[good]) if self.supplies == "instances" else None
                where = where[rng.choice(len(where), PLACES, p=weight)]
            found.append(where + [s.start for s in region])
        if not found:
            return np.zeros((0, len(self.shape)), np.intp)
        everything = np.concatenate(found)
        if len(everything) > PLACES:
            everything = everything[rng.choice(len(everything), PLACES, replace=False)]
        return everything


def items_of(
    package: ModelPackage,
    recipe: Recipe,
    pairs: Sequence[Pair],
    channel: Channel | None = None,
    *,
    cache: Cache | None = None,
) -> tuple[list[Item], tuple[str, ...]]:
    """The items of all pairs, and notes.

    Items without anything painted are left out where the pair has others.

    Raises
    ------
    UsageError
        And its leaves: an image does not fit the model's input.
    """
    from biozoo_runners.program import program_of

    from .targets.base import make_target

    assert recipe.target is not None
    target = make_target(recipe.target.kind, recipe.target.options)
    supplies = target.supplies
    normalised = getattr(target, "normalise", "input") == "input"
    program = program_of(package)
    shared = cache or Cache()
    items: list[Item] = []
    notes: list[str] = []
    for pair in pairs:
        fitting = fit(program.geometry, {recipe.input: pair.image}, channel)
        notes += [n for n in fitting.notes if "axis" not in n]
        fitted = fitting.inputs[0]
        spatial = tuple(a for a in fitted.tensor.dims if a not in ("batch", "channel"))
        shape = tuple(pair.image.sizes[a] for a in spatial)
        found = [
            Item(
                pair.stem,
                pair.digest,
                fitted,
                at,
                pair.labels,
                supplies,
                pair.scribbles,
                spatial,
                shape,
                program.preprocessing,
                shared,
                normalised,
            )
            for at in fitting.items()
        ]
        if len(found) > 1 and pair.labels is not None and supplies != "image":
            painted = [i for i in found if _is_painted(i)]
            if painted and len(painted) < len(found):
                notes.append(
                    f"'{pair.stem}': {len(painted)} of {len(found)} planes have labels and are used"
                )
                found = painted
        items += found
        size = math.prod(shape) * 4
        if size > WHOLE:
            notes.append(
                f"'{pair.stem}' is read in pieces; its statistics are those of an even sample of "
                f"{WHOLE / size:.0%} of its pixels"
            )
    return items, tuple(dict.fromkeys(notes))


def _clean_of(fitted: FittedInput, clean: Image) -> FittedInput:
    """The clean image in terms of the input tensor, with all channels that it has."""
    if "channel" not in clean.axes:
        return replace(fitted, image=clean, channels=None, gray=False)
    return replace(fitted, image=clean, channels=tuple(range(clean.sizes["channel"])), gray=False)


def _is_painted(item: Item) -> bool:
    for region in slabs(item.shape, 2**24):
        labels = item._labels(region)
        if bool((labels >= 0).any() if item.scribbles else (labels > 0).any()):
            return True
    return False


def _evenly(numbers: NDArray[np.int32]) -> NDArray[np.float64]:
    """A probability per pixel with which every object is drawn about equally often."""
    _, order, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    weight: NDArray[np.float64] = 1.0 / counts[order] / len(counts)
    weight /= weight.sum()
    return weight
