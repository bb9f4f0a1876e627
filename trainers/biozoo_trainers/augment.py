"""How images are varied while a network is trained, so that it learns what matters.

Geometry moves image and labels alike: flips and quarter turns exactly, turns by any angle and
magnification by torch's sampling on a grid (labels to the nearest pixel, what lies beyond the edge
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
        self._intensity: list[tuple[float, Any]] = []
        for spec in specs:
            options = _options(spec)
            if spec.kind in _GEOMETRY:
                self._geometry[spec.kind] = (spec.probability, options)
            else:
                transform = _intensity(spec.kind, options, spread)
                self._intensity.append((spec.probability, transform))

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
        arrays: Sequence[tuple[NDArray[Any], bool]],
        view: tuple[float, float],
        centre: Sequence[int],
        shape: Sequence[int],
    ) -> list[NDArray[Any]]:
        """A turned and magnified view of arrays that lie alike; what is beyond the edge mirrored.

        Parameters
        ----------
        arrays
            Each (c, then spatial axes), and whether it holds labels: no value is made up then.
        view
            Of `affine`; the turn is in the plane of the last two axes, the magnification along
            these too. Axes before are as long as in the view.
        centre
            The pixel of the plane, row and column, that comes to lie in the view's middle.
        shape
            Of the view.
        """
        import torch
        from torch.nn import functional

        angle, scale = view
        (rows, columns), (height, width) = arrays[0][0].shape[-2:], shape[-2:]
        # Where in the plane a pixel of the view comes from; both are -1..1 from edge to edge.
        cos, sin = math.cos(angle) / scale, math.sin(angle) / scale
        back = [
            [cos * width / columns, sin * height / columns, (2 * centre[1] + 1) / columns - 1],
            [-sin * width / rows, cos * height / rows, (2 * centre[0] + 1) / rows - 1],
        ]
        grid = functional.affine_grid(
            torch.tensor([back]), [1, 1, height, width], align_corners=False
        )
        made: list[NDArray[Any]] = []
        for array, is_labels in arrays:
            # Labels as float32 are exact up to 16 million.
            planes = torch.from_numpy(np.ascontiguousarray(array, np.float32))
            found = functional.grid_sample(
                planes.reshape(1, -1, rows, columns),
                grid,
                mode="nearest" if is_labels else "bilinear",
                padding_mode="reflection",
                align_corners=False,
            )
            values = found.reshape((*array.shape[:-2], height, width)).numpy()
            made.append(values.astype(array.dtype) if is_labels else values)
        return made

    def vary(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
        """The intensities of a patch (c, then spatial axes) varied."""
        varied: Any = image
        for chance, transform in self._intensity:
            # Drawn here: to have all drawn by MONAI's own takes longer than what they do.
            if rng.random() < chance:
                transform.set_random_state(seed=int(rng.integers(2**31)))
                varied = transform(varied)
        return np.asarray(varied, np.float32)


def _options(spec: AugmentationSpec) -> dict[str, Any]:
    known = OPTIONS[spec.kind]
    if unknown := [o for o in spec.options if o not in known]:
        raise UsageError(
            f"Augmentation '{spec.kind}' has no option '{unknown[0]}'. Its options: "
            f"{', '.join(known) or 'none'}."
        )
    return {**known, **spec.options}


def _intensity(kind: str, options: dict[str, Any], spread: float) -> Any:
    """The transform of MONAI that a kind stands for, always applied."""
    try:
        from monai.transforms.intensity import array as mt
    except ImportError as exc:
        raise MissingDependencyError(
            what="Varying images for the training", library="monai", install=install_line("train")
        ) from exc
    if kind == "brightness":
        return mt.RandShiftIntensity(offsets=options["by"] * spread, prob=1.0)
    if kind == "contrast":
        return mt.RandScaleIntensityFixedMean(factors=options["by"], prob=1.0, preserve_range=False)
    if kind == "gamma":
        return mt.RandAdjustContrast(gamma=tuple(options["range"]), prob=1.0)
    if kind == "noise":
        return mt.RandGaussianNoise(std=options["by"] * spread, prob=1.0)
    if kind == "shading":
        by = options["by"]
        return mt.RandBiasField(degree=2, coeff_range=(-by, by), prob=1.0)
    sigma = tuple(options["sigma"])
    return mt.RandGaussianSmooth(sigma_x=sigma, sigma_y=sigma, sigma_z=(0.01, 0.01), prob=1.0)
