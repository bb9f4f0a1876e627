"""Runs one planned item through a backend and puts the tiles' results in their places."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import BackendError, ImageMismatchError, OutOfMemoryError

from .tiling import InputBlock, OutputBlock, TensorPlan, TilePlan, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .base import Backend
    from .kept_tiles import Keeper

Before = Callable[[str, "NDArray[Any]", InputBlock], "NDArray[Any]"]
After = Callable[[str, "NDArray[Any]", OutputBlock], "NDArray[Any]"]


class TileTooLarge(Exception):
    """Memory ended while a tile was prepared or run; `reason` is what was raised."""

    def __init__(self, reason: MemoryError) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass
class Canvas:
    """The whole result of one output over all items, allocated once, at its first tile.

    `data` has the items' axes first, then those of the tensor; it stays None until `put`.
    """

    plan: TensorPlan
    items: tuple[int, ...]
    data: NDArray[Any] | None = None
    _wanted: tuple[tuple[int, ...], np.dtype[Any]] | None = None

    @property
    def lacking(self) -> bool:
        """Whether there was no memory for it so far."""
        return self.data is None and self._wanted is not None

    def make(self) -> None:
        """Allocate what was `lacking`; raises `OutOfMemoryError` again where that fails."""
        if self.data is None and self._wanted is not None:
            self.data = allocate(*self._wanted, f"The result '{self.plan.id}'")

    def put(self, at: tuple[int, ...], block: OutputBlock, value: NDArray[Any]) -> None:
        """Write one tile's (cropped) result."""
        if self.data is None:
            sizes = zip(self.plan.shape, value.shape, strict=True)
            shape = self.items + tuple(n if s is None else s for s, n in sizes)
            self._wanted = shape, value.dtype
            self.make()
        assert self.data is not None
        try:
            index: tuple[int | slice, ...] = (*at, *block.place)
            self.data[index] = value
        except ValueError as exc:  # only a size that depends on the data can differ
            raise ImageMismatchError(
                f"Output '{self.plan.id}' has another size at each position of the image "
                f"({value.shape} after {self.data.shape[len(at) :]}). Run one position at a time."
            ) from exc


def run_tiles(
    backend: Backend,
    plan: TilePlan,
    pixels: Mapping[str, NDArray[Any]],
    before: Before,
    after: After,
    targets: Mapping[str, tuple[Canvas, tuple[int, ...]]],
    *,
    on_tile: Callable[[], None],
    kept: Keeper | None = None,
) -> float:
    """Run every tile of one item.

    Parameters
    ----------
    pixels
        The whole inputs by tensor id, unprocessed.
    before, after
        Processing of one tile of the tensor with this id. Padding comes before preprocessing: a
        constant is in units of the image.
    targets
        Where results go, by tensor id: the canvas and the item's position in it.
    on_tile
        Called before each tile; raises to stop.
    kept
        Asked for each tile before it is computed, and given those that were computed.

    Returns
    -------
    float
        Seconds spent in the backend.

    Raises
    ------
    TileTooLarge
        Memory ended in a tile. What was put into the canvases is put again by another run.
    """
    spent = 0.0
    pads = {t.id: t.pad for t in plan.inputs}
    for tile in plan:
        on_tile()
        try:
            results = None if kept is None else kept.get(tile.index)
            if results is None:
                feed = {
                    i: before(i, cut(pixels[i], block, pads[i]), block)
                    for i, block in tile.inputs.items()
                }
                start = time.perf_counter()
                results = backend.run(feed)
                spent += time.perf_counter() - start
                for t in plan.outputs:
                    block = tile.outputs[t.id]
                    check_shape(t, results[t.id])
                    results[t.id] = after(t.id, results[t.id][block.crop], block)
                if kept is not None:
                    kept.put(tile.index, {t.id: results[t.id] for t in plan.outputs})
        except MemoryError as exc:
            raise TileTooLarge(exc) from exc
        for t in plan.outputs:
            canvas, at = targets[t.id]
            canvas.put(at, tile.outputs[t.id], results[t.id])
    return spent


def check_shape(plan: TensorPlan, value: NDArray[Any]) -> None:
    """Refuse a result of another shape than the description says.

    Raises
    ------
    BackendError
        Naming both shapes.
    """
    sizes = zip(plan.tile, value.shape, strict=False)
    if len(plan.tile) != value.ndim or any(e is not None and e != n for e, n in sizes):
        expected = ", ".join("?" if n is None else str(n) for n in plan.tile)
        raise BackendError(
            f"Output '{plan.id}' came out of the network as {value.shape}, its description says "
            f"({expected}) for axes {', '.join(plan.dims)}. The package is wrong: its author must "
            "correct the sizes of this output (size reference, scale, offset)."
        )


def allocate(shape: tuple[int, ...], dtype: np.dtype[Any], what: str) -> NDArray[Any]:
    """An uninitialised array.

    Raises
    ------
    OutOfMemoryError
        If there is no memory for it.
    """
    try:
        return np.empty(shape, dtype)
    except MemoryError as exc:
        need = np.prod(shape, dtype=float) * dtype.itemsize / 2**30
        raise OutOfMemoryError(
            f"{what} of shape {shape} needs {need:.1f} GiB, more than is free. Write "
            "OME-Zarr, which takes images of any size (-o NAME.zarr), or crop the image."
        ) from exc
