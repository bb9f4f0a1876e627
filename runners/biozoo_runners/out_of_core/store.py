"""A result on disk: an OME-Zarr whose shards are written one by one, in any order.

A shard is one file, written beside and renamed (by zarr's LocalStore, from 3.1.3 on) and waited
for until it is on the disk, so after a kill or a loss of power a shard is either whole or as if it
had never been begun. Shards of zeros have no file. The same values always make the same bytes.

What is there from the start: the arrays of all levels, without pixels, and the attribute "biozoo",
from which any process opens the store. `finish` adds the attribute "ome": until then no reader
takes the store for an image.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.axes import CANONICAL
from biozoo.errors import ImageReadError

from ..images import pyramid
from ..images.atomic import flush, storage_errors, written_beside
from ..images.ngff import create_level, display_range, has_channels, metadata
from ..images.ome_layout import Facts, ome_facts

__all__ = ["ResultStore"]

Region = tuple[slice, ...]


@dataclass(frozen=True, eq=False)
class ResultStore:
    """One result of a run; made by `create` or `open`.

    Attributes
    ----------
    axes
        Axis ids, in the order of all shapes and regions here. The file has OME's order.
    labels
        Whether the values number objects: smaller levels pick pixels rather than take means.
    """

    path: Path
    axes: tuple[str, ...]
    labels: bool
    facts: Facts
    levels: tuple[pyramid.Level, ...]
    arrays: tuple[Any, ...]

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        axes: Sequence[str],
        shape: Sequence[int],
        dtype: np.dtype[Any],
        chunks: Sequence[int],
        shards: Sequence[int],
        channel_names: Sequence[str] = (),
        pixel_size: Mapping[str, float] | None = None,
        unit: Mapping[str, str] | None = None,
        name: str = "image",
        labels: bool = False,
    ) -> ResultStore:
        """Make an empty store, with all of its levels; a folder in its place is replaced.

        Parameters
        ----------
        axes
            Some of time, channel, z, y and x, in any order.
        chunks, shards
            Of every level, along `axes`: what is compressed, and what is one file. A shard is a
            multiple of a chunk; it may be larger than the image.
        channel_names, pixel_size, unit, name
            For the metadata, per axis id where they are mappings.
        labels
            See the class.

        Raises
        ------
        ImageMismatchError
            For axes or a type that OME-Zarr does not hold.
        StorageError
            For no space or no permission.
        """
        import zarr

        order = _order(axes)
        facts = ome_facts(
            path,
            [axes[i] for i in order],
            dtype,
            name=name or "image",
            channel_names=channel_names,
            pixel_size=pixel_size or {},
            unit=unit or {},
        )
        levels = pyramid.levels(facts, [shape[i] for i in order])
        chunk, shard = (tuple(sizes[i] for i in order) for sizes in (chunks, shards))
        kept = {"axes": list(axes), "labels": labels, "facts": asdict(facts)}
        with written_beside(path, folder=True) as part:
            group: Any = zarr.open_group(part, mode="w-", zarr_format=3)
            for number, level in enumerate(levels):
                create_level(group, number, facts, level, dtype, chunk, shard)
            group.attrs["biozoo"] = kept
        return cls.open(path)

    @classmethod
    def open(cls, path: Path) -> ResultStore:
        """The store that was created at `path`.

        Raises
        ------
        ImageReadError
            There is none.
        """
        import zarr

        try:
            group: Any = zarr.open_group(path, mode="r+", zarr_format=3)
            kept: dict[str, Any] = dict(group.attrs)["biozoo"]
        except (OSError, ValueError, LookupError) as exc:
            raise _damaged(path, exc) from exc
        known = kept["facts"]
        facts = Facts(
            axes=tuple(known["axes"]),
            name=known["name"],
            channel_names=tuple(known["channel_names"]),
            pixel_size=dict(known["pixel_size"]),
            unit=dict(known["unit"]),
        )
        levels = pyramid.levels(facts, group["0"].shape)
        arrays = tuple(group[str(n)] for n in range(len(levels)))
        return cls(path, tuple(kept["axes"]), kept["labels"], facts, levels, arrays)

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the whole, along `axes`."""
        return self._own(self.arrays[0].shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the pixels."""
        dtype: np.dtype[Any] = self.arrays[0].dtype
        return dtype

    @property
    def shards(self) -> tuple[int, ...]:
        """Shape of a shard, along `axes`."""
        return self._own(self.arrays[0].shards)

    def write(self, region: Region, values: NDArray[Any]) -> None:
        """Write whole shards.

        Parameters
        ----------
        region
            Along each of `axes` from the start of a shard to the end of one, or of the image.
        values
            Of the region's shape.

        Raises
        ------
        StorageError
            For no space or no permission.
        """
        order = _order(self.axes)
        self.write_level(0, tuple(region[i] for i in order), values.transpose(order))

    def read(self, region: Region) -> NDArray[Any]:
        """Read any region along `axes`; what was not written is 0.

        Raises
        ------
        ImageReadError
            A file is damaged.
        """
        order = _order(self.axes)
        values = self.read_level(0, tuple(region[i] for i in order))
        return values.transpose([order.index(i) for i in range(len(order))])

    def write_level(self, level: int, region: Region, values: NDArray[Any]) -> None:
        """`write` for any level; axes in OME's order."""
        array = self.arrays[level]
        if values.size == 0:
            return
        for r, shard, n in zip(region, array.shards, array.shape, strict=True):
            if r.start % shard or not (r.stop % shard == 0 or r.stop == n):
                raise ValueError(f"{r.start}:{r.stop} of {n} is not whole shards of {shard}")
        with storage_errors(self.path):
            for part in pyramid.pieces(region, array.shards):
                inside = tuple(
                    slice(p.start - r.start, p.stop - r.start)
                    for p, r in zip(part, region, strict=True)
                )
                array[part] = np.ascontiguousarray(values[inside])
                place = tuple(p.start // n for p, n in zip(part, array.shards, strict=True))
                flush(self.path / str(level) / array.metadata.encode_chunk_key(place))

    def read_level(self, level: int, region: Region) -> NDArray[Any]:
        """`read` for any level; axes in OME's order."""
        try:
            return np.asarray(self.arrays[level][region])
        except (OSError, ValueError, RuntimeError) as exc:  # what the codecs raise
            raise _damaged(self.path, exc) from exc

    def finish(self) -> None:
        """Make it an OME-Zarr, once all levels are written; may be repeated.

        Channels of other types than 8 and 16 bits are shown from the smallest to the largest value
        of the coarsest level, which is small however large the image is. Single pixels of the
        image may lie outside of that.

        Raises
        ------
        StorageError
            For no space or no permission.
        """
        import zarr

        shown = display_range(self.dtype, self._coarsest()) if has_channels(self.facts) else None
        found = metadata(self.facts, self.levels, centred=not self.labels, shown=shown)
        with storage_errors(self.path):
            group: Any = zarr.open_group(self.path, mode="r+", zarr_format=3)
            group.attrs["ome"] = found
            for left in self.path.rglob("*.partial"):  # of a shard that a kill interrupted
                left.unlink(missing_ok=True)
            flush(self.path / "zarr.json")

    def _coarsest(self) -> Iterator[NDArray[Any]]:
        last = len(self.levels) - 1
        array = self.arrays[last]
        for region in pyramid.pieces(pyramid.whole(array.shape), array.shards):
            yield self.read_level(last, region)

    def _own(self, sizes: Sequence[int]) -> tuple[int, ...]:
        """Sizes in OME's order as those along `axes`."""
        order = _order(self.axes)
        return tuple(sizes[order.index(i)] for i in range(len(order)))


def _order(axes: Sequence[str]) -> tuple[int, ...]:
    """Where each axis in OME's order stands among `axes`."""
    known = {axis: i for i, axis in enumerate(CANONICAL)}
    return tuple(sorted(range(len(axes)), key=lambda i: known.get(axes[i], len(known))))


def _damaged(path: Path, exc: Exception) -> ImageReadError:
    return ImageReadError(
        path=path,
        why=f"it is damaged ({exc}).",
        hint="Remove the working folder that it is in, and run again.",
    )
