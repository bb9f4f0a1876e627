"""What tasks leave for later ones: named arrays in files that are whole or not there."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...images.atomic import written_beside


@dataclass(frozen=True)
class Scratch:
    """A folder with a file for each kind of result and block, `<kind>/<block>.npz`.

    Without a block it is the file of the whole map, `<kind>.npz`. Files carry the zip's checksums:
    one that is damaged cannot be read.
    """

    folder: Path

    def path(self, kind: str, block: int | None = None) -> Path:
        """Where a result is, or will be."""
        return self.folder / (f"{kind}.npz" if block is None else f"{kind}/{block}.npz")

    def has(self, kind: str, block: int | None = None) -> bool:
        """Whether the result is there."""
        return self.path(kind, block).is_file()

    def save(self, kind: str, block: int | None = None, **arrays: NDArray[Any]) -> None:
        """Write a result.

        Raises
        ------
        StorageError
            No space is left, or the folder may not be written to.
        """
        with (
            written_beside(self.path(kind, block)) as part,
            # The fastest level: maps of labels get hardly smaller by more, which takes thrice the
            # time. (`np.savez_compressed` has no choice.)
            zipfile.ZipFile(part, "x", zipfile.ZIP_DEFLATED, compresslevel=1) as file,
        ):
            for name, array in arrays.items():
                with file.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)

    def load(self, kind: str, block: int | None = None, *names: str) -> list[NDArray[Any]]:
        """The arrays of these names of one result."""
        with np.load(self.path(kind, block), allow_pickle=False) as file:
            return [file[name] for name in names]


def smallest(labels: NDArray[Any]) -> NDArray[Any]:
    """The same labels in the smallest unsigned integers that hold them."""
    return labels.astype(np.min_scalar_type(int(labels.max(initial=0))))
