"""What an image is, independent of its file format, and the seam every reader fills.

Data flows one way: a reader opens a file, learns its shape and axes without touching pixels, and
hands `describe` what the file says; `describe` settles the axes (those given, else the file's,
else an error) and returns the `Image`; `Image.read` fetches only the pixels that are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from biozoo.axes import CANONICAL, letters, parse_axes
from biozoo.errors import (
    AxesError,
    ImageReadError,
    OutOfMemoryError,
    UsageError,
)

from .decoding import reading

if TYPE_CHECKING:
    import xarray as xr

AxesSource = Literal["metadata", "given", "format"]
Index = int | slice
RGB = ("red", "green", "blue")


@runtime_checkable
class ImageReader(Protocol):
    """One file format; an entry point of the group `biozoo.images` names an instance."""

    @property
    def suffixes(self) -> tuple[str, ...]:
        """File name endings, lower case with the dot, the longest first."""

    def claims(self, path: Path, head: bytes) -> bool:
        """Whether this reader is for `path`; `head`: its first 512 bytes, empty for a folder."""

    def open(self, path: Path, *, axes: str | Sequence[str] | None, scene: int | None) -> Image:
        """The image, its pixels not yet read."""


@dataclass(frozen=True, eq=False)
class Image:
    """An image whose pixels are read on demand.

    Attributes
    ----------
    path
        Where it comes from; None for an array.
    axes
        Axis ids, slowest first.
    shape, dtype
        Of the pixels as `read` returns them. Booleans are read as uint8 (0 and 1), other byte
        orders as this machine's.
    channel_names
        One per channel, empty without a channel axis; "0", "1", ... where the file has no names.
    channel
        Name of the only channel of an image without a channel axis, where the file has it.
    rgb
        Whether the channels are the red, green and blue of a colour picture.
    colors
        "#rrggbb" to show each channel in, "" where the file says none; empty where the reader does
        not tell.
    pixel_size, unit
        Per axis id, absent where unknown; units are bioimageio.spec's words.
    axes_source
        Who said what the axes are: the file's metadata, the caller, or the format itself (a
        picture is yx or yxc).
    scene, scenes
        Which image of the file this is, and the names of all where it holds several.
    notes
        What a user should know about how the file was read.
    chunks
        Pixels along each axis of the blocks that the file is decoded in: regions that begin at
        multiples of them decode nothing twice. None where a region costs no more than itself.
    """

    path: Path | None
    name: str
    axes: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    reader: Callable[[tuple[Index, ...]], NDArray[Any]] = field(repr=False)
    channel_names: tuple[str, ...] = ()
    channel: str = ""
    rgb: bool = False
    colors: tuple[str, ...] = ()
    pixel_size: Mapping[str, float] = field(default_factory=dict)
    unit: Mapping[str, str] = field(default_factory=dict)
    axes_source: AxesSource = "metadata"
    scene: int = 0
    scenes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    chunks: tuple[int, ...] | None = None

    @property
    def sizes(self) -> dict[str, int]:
        """Axis id -> number of pixels."""
        return dict(zip(self.axes, self.shape, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes that the whole image takes in memory."""
        return math.prod(self.shape) * self.dtype.itemsize

    def read(self, selection: Mapping[str, int | slice] | None = None) -> xr.DataArray:
        """Read pixels, all of them or a region.

        Parameters
        ----------
        selection
            Axis id -> position or slice. A position drops its axis, a slice may have a positive
            step; both count from the end where negative. Axes not named are read whole.

        Returns
        -------
        xr.DataArray
            Dims are axis ids; coordinate "channel" holds the channel names; attrs "name",
            "pixel_size" and "unit" (axis id -> value) are those of the image, "channel" is the
            name of the only channel read.

        Raises
        ------
        AxesError
            For an axis that the image does not have.
        ImageReadError
            Where the file is damaged.
        """
        index = self._index(selection or {})
        try:
            with reading(self.path):
                pixels = self.reader(index)
        except MemoryError as exc:
            raise OutOfMemoryError(
                f"{self._who} does not fit in memory: its {self._size_text} of {self.dtype} take "
                f"{self.nbytes / 1e9:.1f} GB. Read a region of it, or crop the image."
            ) from exc
        expected = tuple(
            len(range(*i.indices(n))) for i, n in zip(index, self.shape, strict=True)
            if isinstance(i, slice)
        )  # fmt: skip
        if pixels.shape != expected:
            raise ImageReadError(
                path=self._who,
                why=f"its pixels have the shape {pixels.shape}, its header says {expected}.",
                hint="The file is damaged; get it again from its source.",
            )
        return self._label(np.asarray(pixels, self.dtype), index)

    def _label(self, pixels: NDArray[Any], index: tuple[Index, ...]) -> xr.DataArray:
        import xarray as xr  # 0.3 s: only once pixels are wanted

        chosen = dict(zip(self.axes, index, strict=True))
        dims = [axis for axis, i in chosen.items() if isinstance(i, slice)]
        attrs: dict[str, Any] = {
            "name": self.name,
            "pixel_size": {a: v for a, v in self.pixel_size.items() if a in dims},
            "unit": {a: v for a, v in self.unit.items() if a in dims},
        }
        coords: dict[str, list[str]] = {}
        if "channel" in chosen:
            picked = chosen["channel"]
            if isinstance(picked, slice):
                coords["channel"] = list(self.channel_names[picked])
            else:
                attrs["channel"] = self.channel_names[picked]
        elif self.channel:
            attrs["channel"] = self.channel
        return xr.DataArray(pixels, dims=dims, coords=coords, attrs=attrs, name=self.name or None)

    def _index(self, selection: Mapping[str, int | slice]) -> tuple[Index, ...]:
        """Positions and slices within bounds, one per axis."""
        if unknown := [a for a in selection if a not in self.axes]:
            raise AxesError(
                f"{self._who} has no axis {', '.join(map(repr, unknown))}: its axes are "
                f"{', '.join(self.axes)}."
            )
        index: list[Index] = []
        for axis, size in zip(self.axes, self.shape, strict=True):
            wanted = selection.get(axis, slice(None))
            if isinstance(wanted, slice):
                start, stop, step = wanted.indices(size)
                if step < 1:
                    raise UsageError(f"Axis '{axis}': the step {step} is not positive.")
                index.append(slice(start, max(start, stop), step))
            elif -size <= wanted < size:
                index.append(int(wanted) % size)
            else:
                raise AxesError(
                    f"{self._who}: {axis} {wanted} does not exist; "
                    f"axis '{axis}' has {size} positions, 0 to {size - 1}."
                )
        return tuple(index)

    @property
    def _who(self) -> str:
        return str(self.path) if self.path else f"The array '{self.name}'"

    @property
    def _size_text(self) -> str:
        return " x ".join(map(str, self.shape))

    @classmethod
    def from_array(
        cls,
        array: NDArray[Any] | xr.DataArray,
        axes: str | Sequence[str] | None = None,
        *,
        name: str = "",
        channel_names: Sequence[str] = (),
        pixel_size: Mapping[str, float] | None = None,
        unit: Mapping[str, str] | None = None,
    ) -> Image:
        """An image over an array in memory; nothing is copied.

        A `DataArray` brings its axes (its dims), channel names (coordinate "channel"),
        `attrs["pixel_size"]` and `attrs["unit"]`. A numpy array needs `axes` unless it has two
        dimensions, which are y and x.
        """
        import xarray as xr

        own: tuple[str | None, ...]
        source: AxesSource = "format"
        if isinstance(array, xr.DataArray):
            source = "metadata"
            own = parse_axes([str(d) for d in array.dims])
            if "channel" in array.coords and "channel" in own:
                channel_names = channel_names or [str(c) for c in array.coords["channel"].values]
            pixel_size = array.attrs.get("pixel_size", {}) if pixel_size is None else pixel_size
            unit = array.attrs.get("unit", {}) if unit is None else unit
            name = name or str(array.attrs.get("name") or array.name or "")
            values = array.values
        else:
            values = np.asarray(array)
            if axes is not None:
                # They are the array's own: what else is said here (channel names) is of these axes.
                own, axes, source = parse_axes(axes, ndim=values.ndim), None, "given"
            else:
                own = ("y", "x") if values.ndim == 2 else (None,) * values.ndim
        return describe(
            path=None,
            name=name,
            axes=own,
            given=axes,
            source=source,
            shape=values.shape,
            dtype=values.dtype,
            reader=values.__getitem__,
            channel_names=tuple(channel_names),
            pixel_size=pixel_size or {},
            unit=unit or {},
        )


def describe(
    *,
    path: Path | None,
    axes: tuple[str | None, ...],
    given: str | Sequence[str] | None,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    reader: Callable[[tuple[Index, ...]], NDArray[Any]],
    source: AxesSource = "metadata",
    name: str | None = None,
    own_names: str = "",
    channel_names: tuple[str, ...] = (),
    rgb: bool = False,
    colors: tuple[str, ...] = (),
    pixel_size: Mapping[str, float] | None = None,
    unit: Mapping[str, str] | None = None,
    scene: int = 0,
    scenes: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    chunks: Sequence[int] | None = None,
) -> Image:
    """Settle the axes of an image; every reader ends here.

    Parameters
    ----------
    axes
        The axis id of each dimension as the file has it, None where the file does not say.
    given
        Axes from the caller, which win over the file's.
    own_names
        What the file calls its dimensions, for messages.
    chunks
        As `Image.chunks`; a chunk may be larger than the image.

    Raises
    ------
    AxesError
        Where neither the file nor the caller names every axis, or the caller's do not fit.
    ImageReadError
        For pixels that are not numbers.
    """
    who = str(path) if path else (f"The array '{name}'" if name else "The array")
    size = " x ".join(map(str, shape))
    if dtype.kind not in "biuf":
        raise ImageReadError(
            path=who,
            why=f"its pixels are of type {dtype}; integers and real numbers can be read.",
            hint="Save its magnitude or its real part." if dtype.kind == "c" else "",
        )
    if math.prod(shape) == 0 or not shape:
        raise ImageReadError(path=who, why=f"it has no pixels; its shape is {tuple(shape)}.")
    settled = _settle(who, size, axes, given, own_names)
    # What the file knows about a dimension holds only as long as the caller agrees what it is.
    same = {a for a, b in zip(axes, settled, strict=True) if a == b}
    sizes = dict(zip(settled, shape, strict=True))
    names: tuple[str, ...] = ()
    if "channel" in settled:
        count = sizes["channel"]
        known = channel_names if "channel" in same else ()
        names = tuple(known[i] if i < len(known) and known[i] else str(i) for i in range(count))
    # A size of 1 without a unit is what writers put where they know nothing.
    units = {a: u for a, u in (unit or {}).items() if a in same and u}
    known_sizes = {
        a: float(v)
        for a, v in (pixel_size or {}).items()
        if a in same and math.isfinite(v) and v > 0 and (a in units or v != 1)
    }
    return Image(
        path=path,
        name=image_name(path) if name is None and path else name or "",
        axes=settled,
        shape=tuple(int(n) for n in shape),
        dtype=np.dtype(np.uint8) if dtype.kind == "b" else dtype.newbyteorder("="),
        reader=reader,
        channel_names=names,
        channel=channel_names[0] if len(channel_names) == 1 and "channel" not in settled else "",
        rgb=(rgb or names == RGB) and "channel" in same,
        colors=colors if "channel" in same or "channel" not in settled else (),
        pixel_size=known_sizes,
        unit={a: u for a, u in units.items() if a in known_sizes},
        axes_source="given" if given else source,
        scene=scene,
        scenes=scenes if len(scenes) > 1 else (),
        notes=notes,
        chunks=None if chunks is None else tuple(map(min, chunks, shape)),
    )


def _settle(
    who: str,
    size: str,
    axes: tuple[str | None, ...],
    given: str | Sequence[str] | None,
    own_names: str,
) -> tuple[str, ...]:
    if given:
        settled = parse_axes(given)
        if len(settled) != len(axes):
            found = tuple(a for a in axes if a)
            says = f" (axes {letters(found)} in the file)" if len(found) == len(axes) else ""
            raise AxesError(
                f"{who}: axes '{letters(settled)}' name {len(settled)} dimensions, the image has "
                f"{len(axes)}: {size}{says}. Name one axis per dimension, slowest first."
            )
        return settled
    known = tuple(a for a in axes if a)
    if len(known) == len(axes) and len(set(known)) == len(known):
        return known
    spare = [a for a in CANONICAL if a not in known][-axes.count(None) or len(CANONICAL) :]
    example = letters([a or (spare.pop(0) if spare else "x") for a in axes])
    called = f" (it calls them {own_names})" if own_names else ""
    raise AxesError(
        f"{who} has {len(axes)} dimensions, {size}, and does not say which axes they are{called}. "
        f"Name them, slowest first, for example --axes {example} (b batch, t time, c channel, "
        "z, y, x)."
    )


def choose_scene(path: Path, scene: int | None, names: Sequence[str]) -> int:
    """The number of the scene to read, 0 unless asked for another."""
    if scene is not None and not 0 <= scene < len(names):
        listed = ", ".join(f"{i} ({n})" if n else str(i) for i, n in enumerate(names))
        raise UsageError(f"{path} has no scene {scene}. It holds {len(names)}: {listed}.")
    return scene or 0


def scene_notes(scene: int | None, chosen: int, names: Sequence[str]) -> tuple[str, ...]:
    """Say which image of several was read where nobody chose one."""
    if scene is not None or len(names) < 2:
        return ()
    listed = ", ".join(f"{i} ({n})" if n else str(i) for i, n in enumerate(names))
    return (f"the file holds {len(names)} images: {listed}; this is number {chosen}",)


def image_name(path: Path) -> str:
    """The file's name without what says its format: "cells.ome.tif" -> "cells"."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") else stem
