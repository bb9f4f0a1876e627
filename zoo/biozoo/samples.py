"""Simulated microscopy images with known objects, for demonstrations and tests without a download.

What is simulated follows the light: chromatin of uneven density in nuclei of uneven size, blur by
focus, haze from out of focus, uneven illumination, then photons counted by a camera with read noise
and an offset. One seed gives one image on every machine with the same numpy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import NotFoundError

if TYPE_CHECKING:
    import numpy as np
    import xarray as xr

__all__ = ["Sample", "sample_names", "simulate", "simulate_nuclei"]

NUCLEUS_UM = 11.0  # diameter of a typical cultured mammalian nucleus
CAMERA_OFFSET = 100.0  # grey values
GREY_PER_PHOTON = 4.0
READ_NOISE = 6.0  # grey values
FOCUS_SIGMAS = (0.7, 1.4, 2.8)  # blur of sharp, near and far planes, pixels
FOCUS_CHANCES = (0.65, 0.25, 0.10)


@dataclass(frozen=True)
class Sample:
    """A simulated image and the truth about it.

    Attributes
    ----------
    image
        Grey values, uint16 (y x).
    labels
        0 background, 1..n one nucleus each, int32 (y x).
    pixel_size
        Edge of a pixel in micrometres, by axis.
    channel_names
        The one channel's name.
    """

    image: np.ndarray
    labels: np.ndarray
    pixel_size: dict[str, float]
    channel_names: tuple[str, ...] = ("DAPI",)

    def to_xarray(self) -> tuple[xr.DataArray, xr.DataArray]:
        """Image (channel y x) and labels (y x) as arrays that carry the pixel size."""
        import xarray as xr

        attrs = {
            "pixel_size": self.pixel_size,
            "unit": dict.fromkeys(self.pixel_size, "micrometer"),
        }
        image = xr.DataArray(
            self.image[None],
            dims=("channel", "y", "x"),
            coords={"channel": list(self.channel_names)},
            attrs=attrs,
        )
        return image, xr.DataArray(self.labels, dims=("y", "x"), attrs=attrs)


def sample_names() -> tuple[str, ...]:
    """Names of the samples there are."""
    return ("nuclei",)


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
            hint=f"There is {', '.join(sample_names())}.",
        )
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
    import numpy as np
    from scipy import ndimage as ndi

    rng = np.random.default_rng(seed)
    margin = int(np.ceil(1.5 * diameter))  # nuclei outside still reach in and light up the edge
    full = (shape[0] + 2 * margin, shape[1] + 2 * margin)
    labels = np.zeros(full, np.int32)
    planes = np.zeros((len(FOCUS_SIGMAS), *full), np.float32)  # focus y x
    chromatin = _chromatin(rng, full, diameter)
    _place_nuclei(rng, labels, planes, chromatin, diameter, density, clustering)

    sharp = sum(
        ndi.gaussian_filter(plane, sigma * max(diameter / 34, 0.6))
        for plane, sigma in zip(planes, FOCUS_SIGMAS, strict=True)
    )
    total = planes.sum(axis=0)
    haze = 0.12 * ndi.gaussian_filter(total, 0.5 * diameter)
    haze += 0.05 * ndi.gaussian_filter(total, 2.0 * diameter, mode="reflect")
    # Cells hold a little stain outside the nucleus, so the background is not flat.
    background = 0.035 + 0.02 * _smooth_noise(rng, full, 1.5 * diameter)
    background += 0.012 * _smooth_noise(rng, full, 0.4 * diameter)
    light = (sharp + haze + np.clip(background, 0.01, None)) * _illumination(rng, full)

    inner = (slice(margin, margin + shape[0]), slice(margin, margin + shape[1]))
    counted = rng.poisson(photons * light[inner]) * GREY_PER_PHOTON
    grey = counted + CAMERA_OFFSET + rng.normal(0, READ_NOISE, shape)
    image = np.clip(np.round(grey), 0, 65535).astype(np.uint16)
    pixel = round(NUCLEUS_UM / diameter, 3)
    return Sample(image, _renumber(labels[inner]), {"y": pixel, "x": pixel})


def _place_nuclei(
    rng: np.random.Generator,
    labels: np.ndarray,
    planes: np.ndarray,
    chromatin: np.ndarray,
    diameter: float,
    density: float,
    clustering: float,
) -> None:
    """Draw nuclei into `labels` (y x) and their light into `planes` (focus y x)."""
    import numpy as np

    goal = density * labels.size
    covered, number = 0, 0
    placed: list[tuple[float, float, float]] = []  # y, x, size
    for _ in range(int(20 * goal / diameter**2) + 1):
        if covered >= goal:
            break
        mitotic = rng.random() < 0.03
        size = diameter * np.exp(rng.normal(0, 0.16)) / 2
        stretch = np.exp(abs(rng.normal(0, 0.22)))
        if mitotic:  # a metaphase plate seen from the side: narrow and bright
            size, stretch = 0.62 * diameter / 2, rng.uniform(1.7, 2.3)
        if placed and rng.random() < clustering:
            y, x, other = placed[rng.integers(len(placed))]
            angle, gap = rng.uniform(0, 2 * np.pi), rng.uniform(0.82, 1.08) * (other + size)
            centre = (y + gap * np.sin(angle), x + gap * np.cos(angle))
        else:
            centre = (rng.uniform(0, labels.shape[0]), rng.uniform(0, labels.shape[1]))
        if not all(0 <= c < n for c, n in zip(centre, labels.shape, strict=True)):
            continue
        box, radius = _shape(rng, centre, size, stretch, 0.02 if mitotic else 0.05, labels.shape)
        mask: np.ndarray = radius < 1
        free = mask & (labels[box] == 0)
        if mask.sum() < 8 or free.sum() < 0.93 * mask.sum():
            continue
        number += 1
        labels[box][free] = number
        covered += int(free.sum())
        placed.append((*centre, size))
        focus = 0 if mitotic else rng.choice(len(FOCUS_SIGMAS), p=FOCUS_CHANCES)
        light = _nucleus_light(rng, radius, chromatin[box], mitotic)
        planes[focus][box] += light


def _shape(
    rng: np.random.Generator,
    centre: tuple[float, float],
    size: float,
    stretch: float,
    roughness: float,
    shape: tuple[int, ...],
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Make one bent ellipse; return its box and, in it, the radius with 1 at its edge (y x)."""
    import numpy as np

    reach = int(np.ceil(size * np.sqrt(stretch) * 1.3)) + 2
    start = [max(int(c) - reach, 0) for c in centre]
    stop = [min(int(c) + reach + 1, n) for c, n in zip(centre, shape, strict=True)]
    y, x = np.ogrid[start[0] : stop[0], start[1] : stop[1]]
    y, x = y - centre[0], x - centre[1]
    turn = rng.uniform(0, np.pi)
    along = (np.cos(turn) * x + np.sin(turn) * y) / np.sqrt(stretch)
    across = (np.cos(turn) * y - np.sin(turn) * x) * np.sqrt(stretch)
    angle = np.arctan2(across, along)
    edge = np.ones_like(angle)
    for waves in range(2, 6):
        phase = rng.uniform(0, 2 * np.pi)
        edge += roughness * rng.normal() * 2 / waves * np.cos(waves * angle + phase)
    box = (slice(start[0], stop[0]), slice(start[1], stop[1]))
    return box, np.hypot(along, across) / (size * edge)


def _nucleus_light(
    rng: np.random.Generator, radius: np.ndarray, chromatin: np.ndarray, mitotic: bool
) -> np.ndarray:
    """Light of one nucleus (y x): its thickness times the density of its chromatin."""
    import numpy as np

    thickness = np.clip(1 - radius**2, 0, None) ** 0.35
    light: np.ndarray
    if mitotic:
        light = rng.uniform(1.7, 2.4) * thickness * (1 + 0.15 * chromatin)
        return light.astype(np.float32)
    density = np.clip(1 + rng.uniform(0.16, 0.34) * chromatin, 0.25, None)
    inside = np.argwhere(radius < 0.7)
    extent = np.sqrt((radius < 1).sum() / np.pi)
    if len(inside):
        y, x = np.ogrid[: radius.shape[0], : radius.shape[1]]
        for _ in range(rng.integers(0, 5)):  # nucleoli hold little DNA and stay dark
            cy, cx = inside[rng.integers(len(inside))]
            width = extent * rng.uniform(0.08, 0.2)
            distance2 = (y - cy) ** 2 + (x - cx) ** 2
            density *= 1 - rng.uniform(0.3, 0.6) * np.exp(-distance2 / (2 * width**2))
    # DNA content doubles over the cell cycle; staining varies on top.
    content = rng.choice([0.7, 0.95, 1.3], p=[0.55, 0.25, 0.2]) * np.exp(rng.normal(0, 0.18))
    light = content * thickness * density
    return light.astype(np.float32)


def _chromatin(rng: np.random.Generator, shape: tuple[int, int], diameter: float) -> np.ndarray:
    """Texture of chromatin, mean 0 and deviation about 1 (y x): clumps of two sizes, and specks."""
    import numpy as np

    coarse = _smooth_noise(rng, shape, 0.075 * diameter)
    fine = _smooth_noise(rng, shape, 0.03 * diameter)
    specks = np.clip(_smooth_noise(rng, shape, 0.04 * diameter) - 1.4, 0, None)
    return 0.75 * coarse + 0.45 * fine + 1.2 * specks


def _smooth_noise(rng: np.random.Generator, shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Gaussian noise of unit deviation, smooth over `sigma` pixels, float32 (y x)."""
    import numpy as np
    from scipy import ndimage as ndi

    # A wide blur of noise is the same as a narrow one on a coarser grid, enlarged.
    coarse = max(int(sigma / 4), 1)
    small = tuple(-(-n // coarse) + 4 for n in shape)
    noise = ndi.gaussian_filter(rng.standard_normal(small, np.float32), sigma / coarse)
    if coarse > 1:
        noise = ndi.zoom(noise, coarse, order=1)
    unit: np.ndarray = noise / max(float(noise.std()), 1e-9)
    return unit[: shape[0], : shape[1]]


def _illumination(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Brightness of the lamp over the field, 1 at its brightest (y x)."""
    import numpy as np

    y, x = np.ogrid[-1 : 1 : shape[0] * 1j, -1 : 1 : shape[1] * 1j]
    cy, cx = rng.uniform(-0.35, 0.35, 2)
    fall: np.ndarray = rng.uniform(0.12, 0.28) * ((y - cy) ** 2 + (x - cx) ** 2) / 2
    return 1 - fall


def _renumber(labels: np.ndarray) -> np.ndarray:
    """Give the nuclei that the image shows the numbers 1..n; slivers at the edge are dropped."""
    import numpy as np

    sizes = np.bincount(labels.ravel())
    keep = sizes >= 8
    keep[0] = False
    numbers: np.ndarray = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    renumbered: np.ndarray = numbers[labels]
    return renumbered
