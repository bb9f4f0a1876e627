"""NumPy's .npy, memory-mapped. It has no metadata: more than two dimensions need `axes`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .base import Image, Index, describe
from .decoding import reading


class NpyReader:
    """Arrays saved by numpy.save; a two-dimensional one is yx, like a plain TIFF."""

    suffixes = (".npy",)

    def claims(self, path: Path, head: bytes) -> bool:
        """By content: NumPy's magic."""
        return head.startswith(b"\x93NUMPY")

    def open(self, path: Path, *, axes: str | Sequence[str] | None, scene: int | None) -> Image:
        """Read the header only."""

        def stored() -> NDArray[Any]:
            return np.load(path, mmap_mode="r", allow_pickle=False)  # type: ignore[no-any-return]

        def read(index: tuple[Index, ...]) -> NDArray[Any]:
            return np.array(stored()[index])

        with reading(path, "it is no complete array of numbers"):
            array = stored()
        return describe(
            path=path,
            axes=("y", "x") if array.ndim == 2 else (None,) * array.ndim,
            given=axes,
            source="format",
            shape=array.shape,
            dtype=array.dtype,
            reader=read,
        )


READER = NpyReader()
