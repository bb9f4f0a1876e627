"""The stages that make the smaller levels of a result, each a level of the one below it.

Which levels there are, and how they are made, is said in `images.pyramid`. A task makes one shard.
It reads what it needs of the level below chunk by chunk, so its memory is that of a shard.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, prod

import numpy as np

from ..images import pyramid
from .store import ResultStore

__all__ = ["LevelStage", "levels_of"]


@dataclass(frozen=True)
class LevelStage:
    """Level `number` of a store, one task per shard; the level below must be complete."""

    store: ResultStore
    number: int
    prefix: str = ""

    @property
    def name(self) -> str:
        """Of the stage, unique in a run where `prefix` tells stores apart."""
        return f"{self.prefix}level-{self.number}"

    def __len__(self) -> int:
        return prod(self._counts)

    def run(self, task: int) -> None:
        """Make one shard.

        Raises
        ------
        ImageReadError
            The level below is damaged.
        StorageError
            The shard cannot be written.
        """
        array, store = self.store.arrays[self.number], self.store
        at = np.unravel_index(task, self._counts)
        sides = list(zip(at, array.shards, array.shape, strict=True))
        region = tuple(slice(int(i) * n, min((int(i) + 1) * n, size)) for i, n, size in sides)
        steps = store.levels[self.number].step(store.levels[self.number - 1])
        values = np.empty([r.stop - r.start for r in region], store.dtype)
        for piece in pyramid.pieces(region, array.chunks):
            source = store.read_level(self.number - 1, pyramid.below(piece, steps))
            inside = tuple(
                slice(p.start - r.start, p.stop - r.start)
                for p, r in zip(piece, region, strict=True)
            )
            values[inside] = pyramid.halve(source, steps, nearest=store.labels)
        store.write_level(self.number, region, values)

    @property
    def _counts(self) -> tuple[int, ...]:
        array = self.store.arrays[self.number]
        return tuple(ceil(n / s) for n, s in zip(array.shape, array.shards, strict=True))


def levels_of(store: ResultStore, *, prefix: str = "") -> list[LevelStage]:
    """The stages of all smaller levels, to be run one after the other.

    Parameters
    ----------
    prefix
        Of the names of the stages, where a run has several stores.
    """
    return [LevelStage(store, n, prefix) for n in range(1, len(store.levels))]
