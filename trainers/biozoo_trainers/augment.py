"""How images are varied while a network is trained, so that it learns what matters.

Geometry moves image and labels alike: flips and quarter turns exactly, turns by any angle and
magnification by MONAI's affine resampling (labels to the nearest pixel, what lies beyond the edge
mirrored). Intensities are varied by MONAI's transforms after the preprocessing; their strengths are
in units of the images' own standard deviation, so they suit every normalisation.

Options of the kinds, with what they are where nothing is said:

=========== ================================================================
flip        axes: ["y", "x"], each mirrored or not
turn        quarter turns in the plane of the last two axes
affine      angle: 180 (degrees, either way), scale: [0.8, 1.25]
brightness  by: 0.3 (standard deviations, either way)
contrast    by: 0.25 (part, either way)
gamma       range: [0.7, 1.4]
noise       by: 0.2 (standard deviations)
blur        sigma: [0.3, 1.0] (pixels)
shading     by: 0.2 (part, a smooth field over the patch)
=========== ================================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import MissingDependencyError, UsageError
from biozoo.install import install_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .recipe import AugmentationSpec

__all__ = ["OPTIONS", "Augmentation", "Variant"]

#: Kind -> option -> default.
OPTIONS: dict[str, dict[str, Any]] = {
    "flip": {"axes": ("y", "x")},
    "turn": {},
    "affine": {"angle": 180.0, "scale": (0.8, 1.25)},
    "brightness": {"by": 0.3},
    "contrast": {"by": 0.25},
    "gamma": {"range": (0.7, 1.4)},
    "noise": {"by": 0.2},
    "blur": {"sigma": (0.3, 1.0)},
    "shading": {"by": 0.2},
}

_GEOMETRY = ("flip", "turn", "affine")


@dataclass(frozen=True)
class Variant:
    """One of the exact ways to lay an image: mirrored axes, then quarter turns."""

    flips: tuple[int, ...] = ()
    turns: int = 0

    def reduced(self, ndim: int) -> Variant:
        """The same with the last but one axis not mirrored: half a turn does that.

        So of each of the eight ways to lay a plane there is one.
        """
        if ndim < 2 or ndim - 2 not in self.flips:
            return self
        last = {ndim - 1} ^ (set(self.flips) & {ndim - 1})
        rest = set(self.flips) - {ndim - 2, ndim - 1}
        return Variant(tuple(sorted(rest | last)), (self.turns + 2) % 4)

    def of(self, array: NDArray[Any], ndim: int) -> NDArray[Any]:
        """An array whose last `ndim` axes are spatial, laid this way."""
        first = array.ndim - ndim
        for axis in self.flips:
            array = np.flip(array, first + axis)
        if self.turns:
            array = np.rot90(array, self.turns, (array.ndim - 2, array.ndim - 1))
        return array

    def shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """Sizes of the spatial axes after it."""
        if self.turns % 2:
            return (*shape[:-2], shape[-1], shape[-2])
        return tuple(shape)

    def places(self, places: NDArray[np.intp], shape: Sequence[int]) -> NDArray[np.intp]:
        """Where positions (n, spatial axes) of an image of this shape come to lie."""
        made, sizes = places.copy(), list(shape)
        for axis in self.flips:
            made[:, axis] = sizes[axis] - 1 - made[:, axis]
        for _ in range(self.turns):  # as np.rot90: the new row is the last column first
            made[:, -2], made[:, -1] = sizes[-1] - 1 - made[:, -1], made[:, -2].copy()
            sizes[-2], sizes[-1] = sizes[-1], sizes[-2]
        return made


class Augmentation:
    """The augmentations of a recipe; every draw takes the random numbers of a given generator.

    Parameters
    ----------
    specs
        Of the recipe.
    spatial
        Ids of the spatial axes.
    spread
        Standard deviation of the preprocessed images.

    Raises
    ------
    UsageError
        An option that its kind does not have.
    MissingDependencyError
        MONAI is not installed.
    """

    def __init__(
        self, specs: Sequence[AugmentationSpec], spatial: Sequence[str], spread: float = 1.0
    ) -> None:
        self._spatial = tuple(spatial)
        self._geometry: dict[str, tuple[float, dict[str, Any]]] = {}
        transforms = []
        for spec in specs:
            options = _options(spec)
            if spec.kind in _GEOMETRY:
                self._geometry[spec.kind] = (spec.probability, options)
            else:
                transforms.append(_intensity(spec.kind, spec.probability, options, spread))
        self._intensity = _composed(transforms) if transforms else None

    def variant(self, rng: np.random.Generator) -> Variant:
        """An exact way to lay an image."""
        flips: tuple[int, ...] = ()
        turns = 0
        if "flip" in self._geometry:
            chance, options = self._geometry["flip"]
            axes = [n for n, a in enumerate(self._spatial) if a in options["axes"]]
            flips = tuple(n for n in axes if rng.random() < chance)
        if "turn" in self._geometry and len(self._spatial) > 1:
            drawn = rng.random() < self._geometry["turn"][0]
            turns = int(rng.integers(4)) if drawn else 0
        return Variant(flips, turns).reduced(len(self._spatial))

    def affine(self, rng: np.random.Generator) -> tuple[float, float] | None:
        """Angle in radians and magnification of a free view, None for a straight one."""
        if "affine" not in self._geometry:
            return None
        chance, options = self._geometry["affine"]
        if rng.random() >= chance:
            return None
        low, high = np.log(options["scale"])
        angle = math.radians(options["angle"])
        return float(rng.uniform(-angle, angle)), float(np.exp(rng.uniform(low, high)))

    def resample(
        self,
        array: NDArray[Any],
        view: tuple[float, float],
        shape: Sequence[int],
        *,
        nearest: bool,
    ) -> NDArray[Any]:
        """A turned and magnified view from the middle of an array (c, then spatial axes).

        Parameters
        ----------
        view
            Of `affine`; the turn is in the plane of the last two axes, the magnification along
            these too.
        shape
            Of the view.
        nearest
            For labels: no value that is not there.
        """
        import torch
        from monai.transforms.spatial.array import Affine

        angle, scale = view
        ndim = len(shape)
        rotate: Any = angle if ndim == 2 else (angle, 0.0, 0.0)
        factor = (*(1.0,) * (ndim - 2), 1 / scale, 1 / scale)
        transform = Affine(
            rotate_params=rotate,
            scale_params=factor,
            spatial_size=tuple(shape),
            mode="nearest" if nearest else "bilinear",
            padding_mode="reflection",
            image_only=True,
        )
        # Labels as float32 are exact up to 16 million.
        made = transform(torch.from_numpy(np.ascontiguousarray(array, np.float32)))
        values: NDArray[np.float32] = np.asarray(made)
        if nearest:
            return np.round(values).astype(array.dtype)
        return values

    def vary(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """The intensities of a patch (c, then spatial axes) varied."""
        if self._intensity is None:
            return image
        self._intensity.set_random_state(seed=int(rng.integers(2**31)))
        made: NDArray[np.float32] = np.asarray(
            self._intensity(np.ascontiguousarray(image)), np.float32
        )
        return made


def _options(spec: AugmentationSpec) -> dict[str, Any]:
    known = OPTIONS[spec.kind]
    if unknown := [o for o in spec.options if o not in known]:
        raise UsageError(
            f"Augmentation '{spec.kind}' has no option '{unknown[0]}'. Its options: "
            f"{', '.join(known) or 'none'}."
        )
    return {**known, **spec.options}


def _composed(transforms: Sequence[Any]) -> Any:
    from monai.transforms.compose import Compose

    return Compose(list(transforms))


def _intensity(kind: str, chance: float, options: dict[str, Any], spread: float) -> Any:
    """The transform of MONAI that a kind stands for."""
    try:
        from monai.transforms.intensity import array as mt
    except ImportError as exc:
        raise MissingDependencyError(
            what="Varying images for the training", library="monai", install=install_line("train")
        ) from exc
    if kind == "brightness":
        return mt.RandShiftIntensity(offsets=options["by"] * spread, prob=chance)
    if kind == "contrast":
        return mt.RandScaleIntensityFixedMean(
            factors=options["by"], prob=chance, preserve_range=False
        )
    if kind == "gamma":
        return mt.RandAdjustContrast(gamma=tuple(options["range"]), prob=chance)
    if kind == "noise":
        return mt.RandGaussianNoise(std=options["by"] * spread, prob=chance)
    if kind == "shading":
        by = options["by"]
        return mt.RandBiasField(degree=2, coeff_range=(-by, by), prob=chance)
    sigma = tuple(options["sigma"])
    return mt.RandGaussianSmooth(sigma_x=sigma, sigma_y=sigma, sigma_z=(0.01, 0.01), prob=chance)
