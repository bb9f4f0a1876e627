"""Simulated microscopy images with known objects, for demonstrations and tests without a download.

The simulators follow what makes the image: stain, light, electrons, focus and camera. One seed
gives one image on every machine with the same numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import NotFoundError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

__all__ = [
    "Sample",
    "sample_names",
    "simulate",
    "simulate_em",
    "simulate_histology",
    "simulate_nuclei",
]

NUCLEUS_UM = 11.0  # diameter of a typical cultured mammalian nucleus
TISSUE_NUCLEUS_UM = 7.5  # the same in sections of fixed tissue
EM_PIXEL_UM = 0.004


@dataclass(frozen=True)
class Sample:
    """A simulated image and the truth about it.

    Attributes
    ----------
    image
        Grey values, uint16 or uint8 (y x); of several channels (channel y x).
    labels
        0 background, 1..n one object each, int32 (y x).
    pixel_size
        Edge of a pixel in micrometres, by axis.
    channel_names
        One name per channel.
    objects
        What the objects are, in a word.
    """

    image: np.ndarray
    labels: np.ndarray
    pixel_size: dict[str, float]
    channel_names: tuple[str, ...]
    objects: str = "nuclei"

    def to_xarray(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Image (channel y x) and labels (y x) as arrays that carry the pixel size."""
        import xarray as xr

        attrs = {
            "pixel_size": self.pixel_size,
            "unit": dict.fromkeys(self.pixel_size, "micrometer"),
        }
        image = xr.DataArray(
            self.image if self.image.ndim == 3 else self.image[None],
            dims=("channel", "y", "x"),
            coords={"channel": list(self.channel_names)},
            attrs=attrs,
        )
        return image, xr.DataArray(self.labels, dims=("y", "x"), attrs=attrs)


def sample_names() -> tuple[str, ...]:
    """Names of the samples there are."""
    return ("nuclei", "histology", "em")


def simulate(name: str, shape: tuple[int, int] = (512, 512), *, seed: int = 0) -> Sample:
    """The sample of that name, one of `sample_names`.

    Raises
    ------
    NotFoundError
        For another name.
    """
    if name not in sample_names():
        raise NotFoundError(
            kind="sample",
            got=name,
            known=sample_names(),
            hint=f"There are {', '.join(sample_names())}.",
        )
    if name == "histology":
        return simulate_histology(shape, seed=seed)
    if name == "em":
        return simulate_em(shape, seed=seed)
    return simulate_nuclei(shape, seed=seed)


def simulate_nuclei(
    shape: tuple[int, int] = (512, 512),
    *,
    seed: int = 0,
    diameter: float = 34.0,
    density: float = 0.22,
    clustering: float = 0.45,
    photons: float = 160.0,
) -> Sample:
    """Simulate fluorescently stained nuclei under a widefield microscope.

    Parameters
    ----------
    shape
        Size in pixels (y, x).
    seed
        Chooses the image.
    diameter
        Typical diameter of a nucleus in pixels.
    density
        Part of the image that nuclei cover, 0..0.5. 0 gives an image without nuclei.
    clustering
        Part of the nuclei that touch an earlier one, 0..1.
    photons
        Photons per pixel at the middle of a typical nucleus: few give a noisy image.

    Returns
    -------
    Sample
        16-bit image and its labels.
    """
    from .simulators import nuclei

    image, labels = nuclei.simulate(
        shape,
        seed=seed,
        diameter=diameter,
        density=density,
        clustering=clustering,
        photons=photons,
    )
    return Sample(image, labels, _square(NUCLEUS_UM / diameter), ("DAPI",))


def simulate_histology(
    shape: tuple[int, int] = (512, 512),
    *,
    seed: int = 0,
    diameter: float = 26.0,
    density: float = 0.2,
    clustering: float = 0.4,
    haematoxylin: float = 1.0,
    eosin: float = 1.0,
) -> Sample:
    """Simulate a section of tissue stained with haematoxylin and eosin, in transmitted light.

    Parameters
    ----------
    shape
        Size in pixels (y, x).
    seed
        Chooses the image, and a little of the stains' colours.
    diameter
        Typical diameter of a nucleus in pixels.
    density
        Part of the image that nuclei cover, 0..0.5. 0 gives tissue without nuclei.
    clustering
        Part of the nuclei that touch an earlier one, 0..1.
    haematoxylin, eosin
        Amount of each stain, 1 as usual.

    Returns
    -------
    Sample
        8-bit image with channels red, green, blue, and its labels.
    """
    from .simulators import histology

    image, labels = histology.simulate(
        shape,
        seed=seed,
        diameter=diameter,
        density=density,
        clustering=clustering,
        haematoxylin=haematoxylin,
        eosin=eosin,
    )
    pixel = _square(TISSUE_NUCLEUS_UM / diameter)
    return Sample(image, labels, pixel, ("red", "green", "blue"))


def simulate_em(
    shape: tuple[int, int] = (512, 512),
    *,
    seed: int = 0,
    diameter: float = 60.0,
    contrast: float = 1.0,
) -> Sample:
    """Simulate a thin section of nervous tissue under a transmission electron microscope.

    Parameters
    ----------
    shape
        Size in pixels (y, x).
    seed
        Chooses the image.
    diameter
        Diameter of a typical wide neurite in pixels; many are a third of it. Membranes are drawn
        as for 4 nm to a pixel whatever it is.
    contrast
        1 as usual, less for a pale section.

    Returns
    -------
    Sample
        8-bit image, and labels with 0 on the membranes and a number for the inside of each
        profile.
    """
    from .simulators import em

    image, labels = em.simulate(shape, seed=seed, diameter=diameter, contrast=contrast)
    return Sample(image, labels, _square(EM_PIXEL_UM), ("electrons",), "cells")


def _square(pixel_size: float) -> dict[str, float]:
    return dict.fromkeys(("y", "x"), round(pixel_size, 3))
