"""Arrays in shared memory: one region per direction, used again and grown.

The parent reads and writes a region as a file and never maps it, so nothing that the child does to
it can harm the parent: a region cut short is a short read, not a bus error. The child maps it.
"""

from __future__ import annotations

import math
import mmap
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .wire import Garbled

__all__ = ["Mapped", "Region", "Slot", "layout"]

#: dtype, shape and offset of one array, as they cross the pipe; None for an absent array.
Slot = list[Any] | None

_ALIGN = 64  # bytes; what vector instructions like
_MOST_ARRAYS = 64
_DTYPE = re.compile(r"[<>|][buifc][0-9]{1,2}")


def layout(arrays: Sequence[npt.NDArray[Any] | None]) -> tuple[list[Slot], int]:
    """Where each array lies in a region, and the bytes of all.

    Raises
    ------
    TypeError
        One is no array of numbers.
    """
    slots: list[Slot] = []
    end = 0
    for array in arrays:
        if array is None:
            slots.append(None)
            continue
        if not isinstance(array, np.ndarray) or not _DTYPE.fullmatch(array.dtype.str):
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise TypeError(f"{kind} cannot be shared; it takes arrays of numbers")
        slots.append([array.dtype.str, list(array.shape), end])
        end += -(-array.nbytes // _ALIGN) * _ALIGN
    return slots, end


def _checked(slot: object, size: int) -> tuple[np.dtype[Any], tuple[int, ...], int, int] | None:
    """dtype, shape, offset and bytes of a slot that lies within `size` bytes."""
    if slot is None:
        return None
    if not isinstance(slot, list) or len(slot) != 3:
        raise Garbled("an array that is not described by three values")
    name, shape, offset = slot
    if not isinstance(name, str) or not _DTYPE.fullmatch(name):
        raise Garbled(f"an array of the type {str(name)[:20]!r}")
    try:
        dtype = np.dtype(name)
    except TypeError as exc:
        raise Garbled(f"an array of the type {name!r}") from exc
    numbers = [*shape, offset] if isinstance(shape, list) and len(shape) <= 32 else [-1]
    if any(type(n) is not int or not 0 <= n < 2**62 for n in numbers):
        raise Garbled("an array whose shape or place are no sizes")
    if math.prod(n for n in shape if n) * dtype.itemsize >= 2**62:  # numpy has none, even if empty
        raise Garbled("an array of a size that cannot be")
    count = math.prod(shape) * dtype.itemsize
    if offset + count > size:
        raise Garbled(f"an array of {count} bytes that is not in the shared memory")
    return dtype, tuple(shape), offset, count


class Region:
    """The parent's side."""

    def __init__(self, scratch: Path, name: str):
        """Make an empty region: anonymous memory on Linux, else a file in `scratch`."""
        self.path: Path | None = None
        if hasattr(os, "memfd_create"):
            try:
                self._fd = os.memfd_create(name, os.MFD_CLOEXEC)
                return
            except OSError:
                pass
        self.path = scratch / name
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
        self._fd = os.open(self.path, flags, 0o600)

    @property
    def fd(self) -> int:
        """To hand to the child where there is no path."""
        return self._fd

    def write(self, arrays: Sequence[npt.NDArray[Any] | None]) -> list[Slot]:
        """Copy arrays in; returns where they lie."""
        slots, size = layout(arrays)
        if os.fstat(self._fd).st_size < size:
            os.ftruncate(self._fd, size)
        for array, slot in zip(arrays, slots, strict=True):
            if array is None or slot is None or not array.nbytes:
                continue
            data = _bytes_of(np.asarray(array, order="C"))
            os.lseek(self._fd, slot[2], os.SEEK_SET)
            while data:
                data = data[os.write(self._fd, data[: 2**30]) :]
        return slots

    def read(self, slots: object) -> list[npt.NDArray[Any]]:
        """Copies of the arrays that the child says it has put there.

        Raises
        ------
        Garbled
            What it says is not true.
        MemoryError
            They do not fit in this process.
        """
        if not isinstance(slots, list) or len(slots) > _MOST_ARRAYS:
            raise Garbled("no list of arrays")
        size = os.fstat(self._fd).st_size
        places = [_checked(slot, size) for slot in slots]
        _check_memory(sum(place[3] for place in places if place))
        arrays: list[npt.NDArray[Any]] = []
        for place in places:
            if place is None:
                raise Garbled("no array where one was due")
            dtype, shape, offset, count = place
            array = np.empty(shape, dtype)
            if count:
                data = _bytes_of(array)
                os.lseek(self._fd, offset, os.SEEK_SET)
                while data:
                    got = _read_into(self._fd, data[: 2**30])
                    if not got:
                        raise Garbled("an array that is cut off")
                    data = data[got:]
            arrays.append(array)
        return arrays

    def shrink(self) -> None:
        """Give the memory back and stay usable; the child must have forgotten its view."""
        os.ftruncate(self._fd, 0)

    def close(self) -> None:
        """Give the memory back; may be called twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _check_memory(size: int) -> None:
    """Refuse what a child claims to have made where it would take this process down."""
    if size > 2**28:
        import psutil

        if size > psutil.virtual_memory().available:
            raise MemoryError(f"{size / 2**20:.0f} MiB")


def _bytes_of(array: npt.NDArray[Any]) -> memoryview:
    return array.reshape(-1).view(np.uint8).data


def _read_into(fd: int, data: memoryview) -> int:
    if sys.platform != "win32":
        return os.readv(fd, [data])
    part = os.read(fd, len(data))
    data[: len(part)] = part
    return len(part)


class Mapped:
    """The child's side of a region."""

    def __init__(self, fd: int):
        self._fd = fd
        self._map: mmap.mmap | None = None

    def views(self, slots: list[Slot]) -> list[npt.NDArray[Any] | None]:
        """The arrays that the parent has put there, without a copy."""
        size = os.fstat(self._fd).st_size
        places = [_checked(slot, size) for slot in slots]
        return [None if p is None else self._view(p[0], p[1], p[2], size) for p in places]

    def put(self, arrays: Sequence[npt.NDArray[Any]]) -> list[Slot]:
        """Copy arrays in; returns where they lie."""
        slots, size = layout(arrays)
        if (there := os.fstat(self._fd).st_size) < size:
            os.ftruncate(self._fd, size)
            there = size
        for array, slot in zip(arrays, slots, strict=True):
            if slot is not None:
                np.copyto(self._view(array.dtype, array.shape, slot[2], there), array)
        return slots

    def forget(self) -> None:
        """Let go of the memory, once no array of a call lives."""
        self._map = None

    def _view(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], offset: int, size: int
    ) -> npt.NDArray[Any]:
        if 0 in shape:
            return np.empty(shape, dtype)
        if self._map is None or len(self._map) < size:
            self._map = mmap.mmap(self._fd, size)  # an old one goes when its last view goes
        return np.ndarray(shape, dtype, self._map, offset)
