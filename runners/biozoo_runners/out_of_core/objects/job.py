"""The search for objects in one plane or volume, as stages of tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

from ...instances import InstancesConfig
from .files import Scratch
from .grid import BlockGrid, Region
from .large import find_seeds, flood_block, join_seeds, note
from .maps import Maps, Readable
from .numbering import TOTAL, Write, number_objects, write_labels
from .parts import find_parts, merge_parts
from .windows import Rules, label_windows

__all__ = ["BYTES_PER_PIXEL", "ONE_TASK", "STAGES", "Objects"]

STAGES = ("parts", "merge", "windows", "seeds", "join", "flood", "numbers", "labels")
"""Names of the stages, in their order. Tasks of one stage may run in any order."""

ONE_TASK = frozenset({"merge", "join", "numbers"})
"""Stages of a single task; the others have one for each block."""

BYTES_PER_PIXEL = 80
"""What flooding takes for each pixel of a window, maps and labels included."""


@dataclass(frozen=True)
class ObjectStage:
    """One stage; a task's number is that of its block."""

    name: str
    tasks: int
    work: Callable[[int], None]

    def __len__(self) -> int:
        return self.tasks

    def run(self, task: int) -> None:
        """Do a task; may be repeated."""
        self.work(task)


class Objects:
    """Objects of a map that may be larger than memory, as `instances.label_objects` finds them.

    Labels are the same but for their order. Only connected parts of the foreground whose box takes
    more than `memory` are divided, see `large`; then `notes` tells.

    What tasks find lies below `scratch`, so that other processes, and later ones, go on from there.
    Numbers depend on the blocks and on `memory`: a run keeps to its own.

    Parameters
    ----------
    config
        Which channels to use, by index, and how.
    prediction
        One plane or volume of the output.
    blocks
        Regions of the tasks: a grid in raster order, over the whole shape.
    scratch
        A folder of this plane or volume alone.
    write
        Takes the finished labels (int32, 0 background) of a block.
    min_size, fill_holes
        Replace the values of `config`.
    memory
        Bytes that one task may take. What a single block takes is needed in any case.
    """

    def __init__(
        self,
        config: InstancesConfig,
        prediction: Readable,
        blocks: Sequence[Region],
        scratch: Path,
        write: Write,
        *,
        min_size: int | None = None,
        fill_holes: bool | None = None,
        memory: int,
    ) -> None:
        self._grid = grid = BlockGrid.of(blocks, prediction.shape)
        self._scratch = files = Scratch(scratch)
        maps = Maps(prediction, config)
        rules = Rules(
            seed_threshold=config.seed_threshold,
            min_seed_size=config.min_seed_size,
            min_size=config.min_size if min_size is None else min_size,
            fill_holes=config.fill_holes if fill_holes is None else fill_holes,
        )
        most = max(memory // BYTES_PER_PIXEL, prod(grid.largest))
        work: dict[str, Callable[[int], None]] = {
            "parts": lambda n: find_parts(maps, grid, files, n),
            "merge": lambda _: merge_parts(grid, files, most),
            "windows": lambda n: label_windows(maps, grid, files, n, rules, most),
            "seeds": lambda n: find_seeds(maps, grid, files, n, rules),
            "join": lambda _: join_seeds(grid, files, rules),
            "flood": lambda n: flood_block(maps, grid, files, n, rules, most),
            "numbers": lambda _: number_objects(grid, files, rules),
            "labels": lambda n: write_labels(grid, files, n, write),
        }
        self.stages = tuple(
            ObjectStage(name, 1 if name in ONE_TASK else len(grid), work[name]) for name in STAGES
        )

    def notes(self) -> list[str]:
        """What a user should know of the result; after the stage `merge`."""
        told = note(self._grid, self._scratch)
        return [told] if told else []

    def count(self) -> int:
        """Number of objects; after the stage `numbers`."""
        return int(self._scratch.load(TOTAL, None, "count")[0])
