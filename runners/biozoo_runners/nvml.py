"""What the NVIDIA driver itself says: memory in use on the cards, and whether CUDA would start.

Through the driver's own libraries (libnvidia-ml, libcuda), which come with every driver. Asking
them opens no context, so it takes no memory on a card. Without a driver every answer is None or "".
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

__all__ = ["DeviceMemory", "cuda_start_error"]

Load = Callable[[str], Any]

_NVML = "nvml.dll" if sys.platform == "win32" else "libnvidia-ml.so.1"
_CUDA = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"

#: What NVML answers where a process's memory is not known (Windows, some virtual cards).
_UNKNOWN = (1 << 64) - 1

#: Processes that are looked at per card.
_MANY = 1024


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong),
                ("used", ctypes.c_ulonglong))  # fmt: skip


class _Process(ctypes.Structure):
    """nvmlProcessInfo_t of the functions that end in _v3."""

    _fields_ = (("pid", ctypes.c_uint), ("used", ctypes.c_ulonglong),
                ("gpu_instance", ctypes.c_uint), ("compute_instance", ctypes.c_uint))  # fmt: skip


class DeviceMemory:
    """Memory that this process takes on the NVIDIA cards, as far as the driver tells.

    `look` may be called often (some 0.1 ms); `peak` is the largest answer so far. The driver's
    count per process is exact, and includes what CUDA itself takes (some 100 to 500 MB). Where the
    driver does not know this process (in a container it may have another number), the growth of
    all used memory since the start stands for it: then other programs' changes are in it.
    """

    def __init__(self, load: Load = ctypes.CDLL, pid: int | None = None) -> None:
        self.peak: int | None = None
        self._pid = os.getpid() if pid is None else pid
        try:
            self._nvml: Any = load(_NVML)
            if self._nvml.nvmlInit_v2() != 0:
                self._nvml = None
        except (OSError, AttributeError):
            self._nvml = None
        self._start = self._used()

    def look(self) -> int | None:
        """Bytes now; None where the driver does not tell."""
        if self._nvml is None:
            return None
        now = self._own()
        if now is None and self._start is not None:
            used = self._used()
            now = None if used is None else max(0, used - self._start)
        if now is not None:
            self.peak = max(self.peak or 0, now)
        return now

    def _cards(self) -> Iterator[ctypes.c_void_p]:
        count = ctypes.c_uint(0)
        if self._nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
            return
        for index in range(count.value):
            handle = ctypes.c_void_p()
            if self._nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) == 0:
                yield handle

    def _own(self) -> int | None:
        """Bytes that the driver counts for this process over all cards."""
        found = None
        try:
            for handle in self._cards():
                count, rows = ctypes.c_uint(_MANY), (_Process * _MANY)()
                ask = self._nvml.nvmlDeviceGetComputeRunningProcesses_v3
                if ask(handle, ctypes.byref(count), rows) != 0:
                    continue
                for row in rows[: min(count.value, _MANY)]:
                    if row.pid == self._pid and row.used != _UNKNOWN:
                        found = (found or 0) + int(row.used)
        except AttributeError:  # a driver older than that function
            return None
        return found

    def _used(self) -> int | None:
        """Bytes in use on all cards, by whomever."""
        if self._nvml is None:
            return None
        total = None
        for handle in self._cards():
            memory = _Memory()
            if self._nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0:
                total = (total or 0) + int(memory.used)
        return total


def cuda_start_error(load: Load = ctypes.CDLL) -> str:
    """What the driver answers to the first call of CUDA, in words; "" where CUDA starts."""
    try:
        cuda = load(_CUDA)
        code = int(cuda.cuInit(0))
    except (OSError, AttributeError) as exc:
        return f"the driver's library {_CUDA} cannot be loaded ({exc})"
    if code == 0:
        return ""
    text = ctypes.c_char_p()
    with suppress(AttributeError):
        cuda.cuGetErrorString(code, ctypes.byref(text))
    said = text.value.decode(errors="replace") if text.value else "no description"
    return f"the driver refuses to start CUDA: error {code}, {said}"
