"""Patches for the training: where they are cut, how they are varied, what the network should give.

Every patch is made from random numbers of its own: the seed of the training, the step, and its
place in the batch. So the same step has the same patches, whatever was drawn before; a training
that was killed goes on with the very patches that it would have had.

Labels are varied, then encoded: a distance, a flow or a ray is that of the patch, not of the image
that it was cut from. For straight views of images that fit into memory this is done once per way of
laying the whole image, and kept; free views and large images are encoded patch by patch, with as
much around them as the target needs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from .augment import Augmentation, Variant
from .items import Cache, Item
from .targets.base import Encoded, make_target, without_margin
from .targets.blind_spot import BlindSpot

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from .recipe import Recipe

__all__ = ["Batch", "Patch", "Patches", "covered"]

#: Part of the patches that are drawn around something painted; the others lie anywhere.
AT_PLACES = 0.85

#: Most pixels around a patch that are read for its targets.
MOST_REACH = 48


@dataclass(frozen=True)
class Patch:
    """Arrays of one patch, float32: image, target and weight (each c, then spatial axes)."""

    image: NDArray[np.float32]
    target: NDArray[np.float32]
    weight: NDArray[np.float32]


@dataclass(frozen=True)
class Batch:
    """Tensors of one step, float32: image, target and weight (each b c, then spatial axes)."""

    image: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor

    def to(self, device: Any) -> Batch:
        """The same on a device."""
        moved = (t.to(device, non_blocking=True) for t in (self.image, self.target, self.weight))
        return Batch(*moved)

    def half(self, part: int) -> Batch:
        """The first `part` patches."""
        return Batch(self.image[:part], self.target[:part], self.weight[:part])


class Patches:
    """Draws patches from items.

    Parameters
    ----------
    recipe
        For the target and the augmentations.
    items
        What is trained on; each image is drawn equally often.
    size
        Pixels of a patch by spatial axis id.
    seed
        Start of all random numbers.
    cache
        Where encoded images are kept.
    augment
        Whether patches are varied.
    """

    def __init__(
        self,
        recipe: Recipe,
        items: Sequence[Item],
        size: Mapping[str, int],
        seed: int,
        *,
        cache: Cache | None = None,
        augment: bool = True,
    ) -> None:
        assert recipe.target is not None
        self.target = make_target(recipe.target.kind, recipe.target.options)
        self.items = list(items)
        self.spatial = self.items[0].spatial
        self.size = tuple(size[a] for a in self.spatial)
        self.seed = seed
        self._cache = cache if cache is not None else self.items[0].cache
        self._by_image: dict[str, list[int]] = {}
        for n, item in enumerate(self.items):
            self._by_image.setdefault(item.digest, []).append(n)
        rng = np.random.default_rng([seed, 0])
        self._places = [item.places(rng) for item in self.items]
        self.reach = self._reach()
        specs = recipe.augmentations if augment else ()
        self._augment = Augmentation(specs, self.spatial, self._spread())
        self._masking = self.target if isinstance(self.target, BlindSpot) else None

    def resized(self, size: Mapping[str, int]) -> None:
        """Draw patches of another size from now on."""
        self.size = tuple(size[a] for a in self.spatial)

    def batch(self, step: int, count: int) -> Batch:
        """The batch of a step: always the same one."""
        import torch

        patches = [self.patch(step, n, count) for n in range(count)]
        return Batch(
            *(
                torch.from_numpy(np.stack([getattr(p, name) for p in patches]))
                for name in ("image", "target", "weight")
            )
        )

    def patch(self, step: int, number: int, count: int) -> Patch:
        """One patch of a step's batch."""
        rng = np.random.default_rng([self.seed, 1, step, number])
        item, places = self._item(step * count + number, rng)
        free = self._augment.affine(rng)
        variant = self._augment.variant(rng)
        if free is None and item.small:
            made = self._straight(item, places, variant, rng)
        else:
            made = self._free(item, places, variant, free, rng)
        image = self._augment.vary(made.image, rng)
        if self._masking is not None:
            hidden, target, weight = self._masking.mask(image, rng)
            return Patch(*(np.ascontiguousarray(a, np.float32) for a in (hidden, target, weight)))
        return Patch(image, made.target, made.weight)

    # ------------------------------------------------------------------------------------- drawing

    def _item(self, number: int, rng: np.random.Generator) -> tuple[Item, NDArray[np.intp]]:
        """Images in a random order, one after the other; of an image any of its planes."""
        images = list(self._by_image.values())
        turn, place = divmod(number, len(images))
        order = np.random.default_rng([self.seed, 2, turn]).permutation(len(images))
        chosen = images[order[place]]
        n = int(rng.choice(chosen))
        return self.items[n], self._places[n]

    def _centre(
        self,
        places: NDArray[np.intp],
        shape: Sequence[int],
        size: Sequence[int],
        rng: np.random.Generator,
    ) -> list[int]:
        """The middle of a patch: near a place, or anywhere; inside as far as the image allows."""
        if len(places) and rng.random() < AT_PLACES:
            near = places[rng.integers(len(places))]
            aim = [p + rng.uniform(-0.4, 0.4) * s for p, s in zip(near, size, strict=True)]
        else:
            aim = [rng.uniform(0, n) for n in shape]
        return [
            int(np.clip(a, min(s, n) // 2, n - min(s, n) + min(s, n) // 2))
            for a, s, n in zip(aim, size, shape, strict=True)
        ]

    def _straight(
        self, item: Item, places: NDArray[np.intp], variant: Variant, rng: np.random.Generator
    ) -> Patch:
        """A piece of the whole image, laid by `variant` and encoded as a whole."""
        image, target, weight = self._cache.get(
            ("encoded", id(item), variant), lambda: self._encoded(item, variant)
        )
        shape = variant.shape(item.shape)
        centre = self._centre(variant.places(places, item.shape), shape, self.size, rng)
        region = [c - s // 2 for c, s in zip(centre, self.size, strict=True)]
        return Patch(
            covered(image, region, self.size, "symmetric"),
            covered(target, region, self.size, "constant"),
            covered(weight, region, self.size, "constant"),
        )

    def _encoded(self, item: Item, variant: Variant) -> tuple[NDArray[np.float32], ...]:
        ndim = len(item.shape)
        image, labels = item.read(item.whole)
        image = np.ascontiguousarray(variant.of(image, ndim))
        labels = np.ascontiguousarray(variant.of(labels, ndim))
        made = self._encode(labels, image)
        return image, made.target, made.weight

    def _free(
        self,
        item: Item,
        places: NDArray[np.intp],
        variant: Variant,
        view: tuple[float, float] | None,
        rng: np.random.Generator,
    ) -> Patch:
        """A piece read with its surroundings, laid, turned and magnified, then encoded."""
        ndim = len(self.size)
        wide = [s + 2 * self.reach for s in self.size]
        read = list(variant.shape(wide))  # before it is laid
        if view is not None:  # the plane holds the view however it is turned
            factor = (abs(math.cos(view[0])) + abs(math.sin(view[0]))) / view[1]
            read[-2:] = [math.ceil(max(read[-2:]) * factor) + 2] * 2
        centre = self._centre(places, item.shape, self.size, rng)
        start = [c - r // 2 for c, r in zip(centre, read, strict=True)]
        inside = tuple(
            slice(max(s, 0), min(s + r, n)) for s, r, n in zip(start, read, item.shape, strict=True)
        )
        image, labels = item.read(inside)
        offset = [s - i.start for s, i in zip(start, inside, strict=True)]
        # What lies beyond the edge goes on mirrored, labels too: so the runner pads an image.
        if view is None:
            image, labels = (covered(a, offset, read, "symmetric") for a in (image, labels))
        else:
            middle = [c - i.start for c, i in zip(centre[-2:], inside[-2:], strict=True)]
            deep = [*read[:-2], *image.shape[-2:]]
            image, labels = (
                covered(a, [*offset[:-2], 0, 0], deep, "symmetric") for a in (image, labels)
            )
            image, labels = self._turned(item, image, labels, view, middle, variant.shape(wide))
        image, labels = variant.of(image, ndim), variant.of(labels, ndim)
        image, labels = np.ascontiguousarray(image), np.ascontiguousarray(labels)
        made = self._encode(labels, image, self.reach)
        image = np.ascontiguousarray(without_margin(image, self.reach, ndim))
        return Patch(image, made.target, made.weight)

    def _turned(
        self,
        item: Item,
        image: NDArray[np.float32],
        labels: NDArray[Any],
        view: tuple[float, float],
        middle: Sequence[int],
        wide: Sequence[int],
    ) -> tuple[NDArray[np.float32], NDArray[Any]]:
        numbers = item.supplies in ("instances", "classes")
        arrays: list[tuple[NDArray[Any], bool]] = [(image, False)]
        if item.supplies != "nothing":  # else they are the image itself
            arrays.append((labels[None], True) if numbers else (labels, False))
        made = self._augment.resample(arrays, view, middle, wide)
        return made[0], made[-1][0] if numbers else made[-1]

    def _encode(self, labels: NDArray[Any], image: NDArray[Any], margin: int = 0) -> Encoded:
        if self._masking is not None:  # hidden pixels are drawn after the intensities were varied
            shown = without_margin(image, margin, len(self.size))
            return Encoded(shown, np.ones_like(shown[:1]))
        return self.target.encode_inside(labels, image, margin)

    # ------------------------------------------------------------------------------------ measured

    def _reach(self) -> int:
        """What the target needs around a patch, for the labels that there are."""
        if self.target.supplies not in ("instances", "classes"):
            return min(self.target.reach, MOST_REACH)
        seen = 0
        for item in self.items[:32]:
            if item.small:
                seen = max(seen, self.target.needs(item.read(item.whole)[1]))
            else:
                seen = max(seen, self.target.reach)
        return min(seen, MOST_REACH)

    def _spread(self) -> float:
        """The standard deviation of the preprocessed images, from some of them."""
        found = []
        for item in self.items[:: max(1, len(self.items) // 8)]:
            middle = tuple(slice(max(0, n // 2 - 256), min(n, n // 2 + 256)) for n in item.shape)
            found.append(float(item.read(middle)[0].std()))
        return float(np.mean(found)) or 1.0


def covered(
    array: NDArray[Any], start: Sequence[int], size: Sequence[int], mode: str
) -> NDArray[Any]:
    """The region of the last axes from `start`, of `size`; beyond the edge mirrored, or 0.

    Parameters
    ----------
    array
        Any axes, then spatial ones.
    start
        May be negative, and end after the array.
    mode
        "symmetric" or "constant", as of numpy.pad.
    """
    ndim = len(size)
    shape = array.shape[-ndim:]
    inside = tuple(
        slice(max(s, 0), max(min(s + w, n), 0)) for s, w, n in zip(start, size, shape, strict=True)
    )
    index: tuple[Any, ...] = (..., *inside)
    found = array[index]
    pad = [(max(-s, 0), max(s + w - n, 0)) for s, w, n in zip(start, size, shape, strict=True)]
    if not any(b or a for b, a in pad):
        return np.ascontiguousarray(found)
    if mode == "symmetric":  # of the whole array: what was cut away is part of the picture
        mirrored = [_mirrored(s, w, n) for s, w, n in zip(start, size, shape, strict=True)]
        for axis, places in enumerate(mirrored):
            array = array.take(places, axis=array.ndim - ndim + axis)
        return np.ascontiguousarray(array)
    first = [(0, 0)] * (array.ndim - ndim)
    return np.pad(found, [*first, *pad])


def _mirrored(start: int, size: int, length: int) -> NDArray[np.intp]:
    """Positions from `start` on, those beyond the ends mirrored as numpy.pad's symmetric."""
    places = np.arange(start, start + size) % (2 * length)
    return np.where(places < length, places, 2 * length - 1 - places)
