"""The one region of an image on which models are compared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.axes import LETTERS
from biozoo.errors import UsageError

from ..images.base import Image

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import NDArray

__all__ = ["Region", "settle"]

Bounds = int | slice | tuple[int, int]

#: Largest height and width of a region that is chosen here.
SIZE = 512
#: Planes of a stack that a model which takes stacks gets around the one that is shown.
DEPTH = 32
#: Places that are looked at along one axis, and the side of the squares that are judged there.
PLACES, SQUARE = 8, 16


@dataclass(frozen=True)
class Region:
    """A part of an image: positions from start to stop along every axis but the channels.

    `how` says who chose it.
    """

    slices: Mapping[str, slice]
    how: str = "as asked"

    @property
    def sizes(self) -> dict[str, int]:
        """Positions along each axis."""
        return {a: s.stop - s.start for a, s in self.slices.items()}

    @property
    def megapixels(self) -> float:
        """Pixels of one channel, in millions."""
        return float(np.prod(list(self.sizes.values()), dtype=float)) / 1e6

    def __str__(self) -> str:
        return ", ".join(
            f"{a}={s.start}" if s.stop == s.start + 1 else f"{a}={s.start}:{s.stop}"
            for a, s in self.slices.items()
        )

    def deeper(self, image: Image) -> Region:
        """With up to `DEPTH` planes around a single one: what a model that takes stacks gets."""
        if "z" not in self.slices or self.sizes["z"] > 1:
            return self
        planes, at = image.sizes["z"], self.slices["z"].start
        depth = min(DEPTH, planes)
        start = min(max(at - depth // 2, 0), planes - depth)
        return replace(self, slices={**self.slices, "z": slice(start, start + depth)})

    def inside(self, other: Region) -> dict[str, slice]:
        """Where this lies in another region that holds it."""
        return {
            a: slice(s.start - other.slices[a].start, s.stop - other.slices[a].start)
            for a, s in self.slices.items()
        }

    def read(self, image: Image) -> xr.DataArray:
        """Its pixels; every axis of the image stays, also those of one position."""
        return image.read(dict(self.slices))


def settle(image: Image, wanted: str | Mapping[str, Bounds] | None = None) -> Region:
    """The region that a caller asked for, or the most varied one.

    Parameters
    ----------
    wanted
        "all", "y=100:612,x=0:512" or the same as a mapping (slices, pairs or single positions).
        Along y and x what is not named is taken whole, of other axes the middle position. None:
        the square of at most 512 x 512 pixels whose pixels vary most locally, of the middle plane.

    Raises
    ------
    UsageError
        For an image without y and x, or a region that it does not have.
    """
    if missing := [a for a in ("y", "x") if a not in image.axes]:
        raise UsageError(
            f"Models are compared on images with the axes y and x; this one has "
            f"{', '.join(image.axes)}, so {' and '.join(missing)} is missing."
        )
    sizes = {a: n for a, n in image.sizes.items() if a != "channel"}
    if isinstance(wanted, str) and wanted.strip().lower() == "all":
        return Region({a: slice(0, n) for a, n in sizes.items()}, "the whole image")
    middle = {a: slice(n // 2, n // 2 + 1) for a, n in sizes.items() if a not in ("y", "x")}
    if wanted is None:
        y, x, how = _most_varied(image, middle)
        return Region({a: {"y": y, "x": x}.get(a) or middle[a] for a in sizes}, how)
    named = _named(wanted)
    if unknown := [a for a in named if a not in sizes]:
        raise UsageError(
            f"The image has no axis '{unknown[0]}' to take a region along; it has "
            f"{', '.join(f'{a} ({n})' for a, n in sizes.items())}. {_HOW}"
        )
    found = {}
    for axis, size in sizes.items():
        start, stop = named.get(axis) or (0, size)
        stop = size if stop is None else stop
        if axis in named or axis in ("y", "x"):
            if not 0 <= start < stop <= size:
                raise UsageError(
                    f"The region {axis}={start}:{stop} is not in the image, which has {size} "
                    f"positions along {axis}, 0 to {size - 1}. {_HOW}"
                )
            found[axis] = slice(start, stop)
        else:
            found[axis] = middle[axis]
    return Region(found)


_HOW = "Write it as y=100:612,x=0:512 (from:to, counted from 0), or --region all."


def _named(wanted: str | Mapping[str, Bounds]) -> dict[str, tuple[int, int | None]]:
    """Start and stop (None: the end) of each named axis."""
    given: Mapping[str, Any] = wanted if isinstance(wanted, Mapping) else {}
    if isinstance(wanted, str):
        parts = [part.partition("=") for part in wanted.split(",")]
        if bare := [axis for axis, equals, _ in parts if not equals]:
            raise UsageError(f"Region {wanted}: '{bare[0]}' names no axis. {_HOW}")
        given = {axis.strip(): _bounds(text.strip(), wanted) for axis, _, text in parts}
        if len(given) < len(parts):
            raise UsageError(f"Region {wanted}: an axis stands more than once. {_HOW}")
    named: dict[str, tuple[int, int | None]] = {}
    for axis, at in given.items():
        if isinstance(at, slice):
            if at.step not in (None, 1):
                raise UsageError(f"The region along {axis} leaves out positions. {_HOW}")
            at = (at.start or 0, at.stop)
        elif not isinstance(at, tuple):
            at = (int(at), int(at) + 1)
        named[LETTERS.get(axis, axis)] = at
    return named


def _bounds(text: str, whole: str) -> tuple[int, int | None]:
    """Start and stop of "100:612", "100:", ":612" or "7"."""
    match = re.fullmatch(r"(\d*)(:?)(\d*)", text)
    if match is None or not text:
        raise UsageError(f"Region {whole}: '{text}' is no range. {_HOW}")
    start, colon, stop = match.groups()
    if not colon:
        return int(start), int(start) + 1
    return int(start or 0), int(stop) if stop else None


def _most_varied(image: Image, middle: Mapping[str, slice]) -> tuple[slice, slice, str]:
    """Rows and columns of the square that has most to see, and how it was found.

    What counts is the mean standard deviation within small squares: cells and edges, neither a
    slope in the light nor a single bright speck. Read in bands, so that a huge image need not be.
    """
    rows, columns = (_starts(image.sizes[a]) for a in ("y", "x"))
    height, width = (min(image.sizes[a], SIZE) for a in ("y", "x"))
    if len(rows) == len(columns) == 1:
        return slice(0, height), slice(0, width), "the whole plane"
    best, chosen = -1.0, (rows[0], columns[0])
    centre = ((image.sizes["y"] - height) / 2, (image.sizes["x"] - width) / 2)
    # From the centre outwards: among equals the most central is taken.
    for top in sorted(rows, key=lambda y: abs(y - centre[0])):
        band = image.read({**middle, "y": slice(top, top + height)})
        pixels = band.transpose("y", "x", ...).values.reshape(*(band.sizes[a] for a in "yx"), -1)
        for left in sorted(columns, key=lambda x: abs(x - centre[1])):
            found = _variation(pixels[:, left : left + width])
            if found > best * (1 + 1e-9):
                best, chosen = found, (top, left)
    top, left = chosen
    how = f"the part of {height} x {width} pixels with most to see"
    return slice(top, top + height), slice(left, left + width), how


def _starts(size: int) -> list[int]:
    """Where squares start along an axis, from one end to the other."""
    free = size - SIZE
    if free <= 0:
        return [0]
    places = min(PLACES, 1 + -(-free // (SIZE // 4)))
    return [round(i * free / (places - 1)) for i in range(places)]


def _variation(pixels: NDArray[Any]) -> float:
    """Mean standard deviation within squares of pixels (y x other); what is not finite is 0."""
    y, x = (max(n // SQUARE, 1) for n in pixels.shape[:2])
    high, wide = min(SQUARE, pixels.shape[0]), min(SQUARE, pixels.shape[1])
    whole = np.nan_to_num(
        pixels[: y * high, : x * wide].astype(np.float32), posinf=0.0, neginf=0.0
    ).reshape(y, high, x, wide, -1)
    return float(whole.std(axis=(1, 3)).mean())
