"""The Zarr images of one run, each made by whoever has the first values of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from .store import ResultStore

if TYPE_CHECKING:
    import numpy as np

__all__ = ["Stores"]

#: How a store of this result is made: given its path and type.
Make = Callable[[str, Path, "np.dtype[Any]"], ResultStore]


class Stores:
    """Results of a run by id, below one folder.

    The type of a result is what postprocessing makes of it, so a store is made with its first
    values. Several processes may have those at once: one makes it, the others open it.
    """

    def __init__(self, folder: Path, make: Make) -> None:
        self.folder, self._make = folder, make
        self._open: dict[str, ResultStore] = {}

    def path(self, result: str) -> Path:
        """Where the store of a result is, or will be."""
        return self.folder / f"{result}.ome.zarr"

    def of(self, result: str, dtype: np.dtype[Any] | None = None) -> ResultStore:
        """The store of a result; made where `dtype` is given and it is not there."""
        if result not in self._open:
            self.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(self.folder / "making.lock"):
                path = self.path(result)
                if dtype is None or (path / "zarr.json").is_file():
                    self._open[result] = ResultStore.open(path)
                else:
                    self._open[result] = self._make(result, path, dtype)
        return self._open[result]
