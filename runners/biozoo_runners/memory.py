"""Memory of this process as the system counts it, and giving back what was freed."""

from __future__ import annotations

import ctypes
import sys
from contextlib import suppress
from pathlib import Path

__all__ = ["HostMemory", "resident", "trim_heap"]

_STATUS = Path("/proc/self/status")


def resident(status: Path = _STATUS) -> tuple[int, int]:
    """Resident bytes of this process now, and the most since it began; some 0.1 ms.

    On Linux from VmRSS and VmHWM: unlike ``ru_maxrss``, VmHWM does not inherit the size of the
    program that started this one.
    """
    try:
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        return _bytes(lines["VmRSS"]), _bytes(lines["VmHWM"])
    except (OSError, KeyError, ValueError, IndexError):
        pass
    import psutil

    now = psutil.Process().memory_info()
    if sys.platform == "win32":
        return int(now.rss), int(getattr(now, "peak_wset", now.rss))
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(now.rss), max(int(now.rss), peak if sys.platform == "darwin" else peak * 1024)


def trim_heap() -> None:
    """Return freed memory to the system where the C library is glibc, which keeps much of it."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _bytes(entry: str) -> int:
    number, unit = entry.split()
    if unit != "kB":
        raise ValueError(entry)
    return int(number) * 1024


class HostMemory:
    """What is added to this process from now on.

    The system keeps one high-water mark for the whole life of a process, and setting it back would
    disturb a program that looks at it too. So: where the mark rises, it is this run's peak,
    exactly; else the largest of the sizes seen by `look` stands for it, which misses what is taken
    and given back between two looks. Other threads' memory is in it either way.
    """

    def __init__(self) -> None:
        self._start, self._mark = resident()
        self._seen = self._start

    def look(self) -> None:
        """Take note of the size now."""
        self._seen = max(self._seen, resident()[0])

    @property
    def peak(self) -> int:
        """Most resident bytes of this process so far in its life."""
        return resident()[1]

    @property
    def added(self) -> int:
        """Most bytes above those at the start."""
        self.look()
        mark = resident()[1]
        return max(0, (mark if mark > self._mark else self._seen) - self._start)
