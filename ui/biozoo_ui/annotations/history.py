"""Steps back and forward: of each edit the blocks as they were before, compressed, on disk.

A step is written before the pixels are, as `pending`; who is killed in between finds it again and
takes the blocks back. Undoing swaps what the step holds with what is in the pixels.
"""

from __future__ import annotations

import io
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from biozoo.files import write_atomic, writing

from .blocks import Key, Pixels

MOST_STEPS = 200
MOST_BYTES = 256 * 2**20

_NAME = re.compile(r"(\d{8})\.npz")

Step = dict[Key, Pixels]


class Pending(NamedTuple):
    """A version in the making, the number of its step, the blocks before it."""

    version: int
    number: int
    step: Step


class History:
    """The steps of one annotation, numbered from 0; those from `done` on are undone.

    Parameters
    ----------
    folder
        Its own; made with the first step.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def numbers(self) -> list[int]:
        """The steps that are kept, the oldest first."""
        if not self._folder.is_dir():
            return []
        found = (_NAME.fullmatch(path.name) for path in self._folder.iterdir())
        return sorted(int(match[1]) for match in found if match)

    def read(self, number: int) -> Step:
        """The blocks of a step."""
        return _unpacked(self._path(number).read_bytes())

    def begin(self, pending: Pending) -> Pending:
        """Write what the pixels of a coming version take the place of; the same again.

        Raises
        ------
        StorageError
            The disk is full.
        """
        with writing(self._folder):
            self._folder.mkdir(parents=True, exist_ok=True)
        write_atomic(self._pending(pending), _packed(pending.step))
        return pending

    def end(self, pending: Pending) -> None:
        """The version is there: what was before it is a step from now on."""
        with writing(self._folder):
            self._pending(pending).replace(self._path(pending.number))

    def pending(self) -> Pending | None:
        """What was begun and not ended."""
        for path in self._folder.glob("pending-*.npz"):
            version, number = map(int, path.stem.split("-")[1:])
            return Pending(version, number, _unpacked(path.read_bytes()))
        return None

    def give_up(self, pending: Pending) -> None:
        """The version will not be."""
        self._pending(pending).unlink(missing_ok=True)

    def forget_from(self, number: int) -> None:
        """Steps that an edit after an undo makes impossible."""
        for known in self.numbers():
            if known >= number:
                self._path(known).unlink(missing_ok=True)

    def trim(self) -> None:
        """Let the oldest steps go where there are too many, but never the last one."""
        known = self.numbers()
        sizes = {number: self._path(number).stat().st_size for number in known}
        total = sum(sizes.values())
        for number in known[:-1]:
            if len(sizes) <= MOST_STEPS and total <= MOST_BYTES:
                return
            self._path(number).unlink(missing_ok=True)
            total -= sizes.pop(number)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.npz"

    def _pending(self, pending: Pending) -> Path:
        return self._folder / f"pending-{pending.version}-{pending.number}.npz"


def _packed(step: Mapping[Key, Pixels]) -> bytes:
    keys = np.array(list(step), np.int64).reshape(-1, 4)
    shapes = np.array([block.shape for block in step.values()], np.int64).reshape(-1, 2)
    # Labels shrink to little at the quickest level already.
    parts = [zlib.compress(block.tobytes(), 1) for block in step.values()]
    ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
    dtype = np.array(str(next(iter(step.values())).dtype) if step else "uint8")
    out = io.BytesIO()
    data = np.frombuffer(b"".join(parts), np.uint8)
    np.savez(out, keys=keys, shapes=shapes, ends=ends, dtype=dtype, data=data)
    return out.getvalue()


def _unpacked(content: bytes) -> Step:
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        keys, shapes, ends = found["keys"], found["shapes"], found["ends"]
        data, dtype = found["data"], np.dtype(str(found["dtype"]))
    step: Step = {}
    begin = 0
    for key, shape, end in zip(keys, shapes, ends, strict=True):
        pixels = np.frombuffer(zlib.decompress(data[begin:end]), dtype).reshape(shape)
        step[Key(*(int(i) for i in key))] = pixels
        begin = end
    return step
