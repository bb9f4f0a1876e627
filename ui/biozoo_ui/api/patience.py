"""How often a password may be guessed: slower after a few mistakes, then not for a while."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable

from biozoo.errors import UsageError

FORGET_SECONDS = 15 * 60.0
"""After this time a mistake is forgotten."""

_FREE = 3  # mistakes that cost nothing but the time of the check
_SLOWEST = 8.0  # seconds
_MOST_KEYS = 20_000

#: Mistakes after which nothing more is tried. One name from one address is one person; an address
#: may be that of a whole institute; a name may be guessed at from many addresses, and yet its owner
#: should not be locked out by a stranger's few attempts.
_MOST = {"both": 10, "address": 60, "name": 100}


class TooManyAttemptsError(UsageError):
    """Passwords are guessed at; nothing is checked for a while."""

    http_status = 429

    def __init__(self, seconds: float) -> None:
        minutes = max(1, math.ceil(seconds / 60))
        super().__init__(
            "Too many attempts with a wrong name or password. Try again in "
            f"{minutes} minute{'' if minutes == 1 else 's'}."
        )
        self.seconds = math.ceil(seconds)


class Patience:
    """Counts mistakes by name, by address, and by both.

    An attempt counts as a mistake from its beginning, so that many at once are not free.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._mistakes: OrderedDict[tuple[str, ...], deque[float]] = OrderedDict()

    def begin(self, name: str, address: str) -> float:
        """Take note of an attempt; seconds by which the answer to a mistake is to be delayed.

        Raises
        ------
        TooManyAttemptsError
            Nothing may be tried now.
        """
        now = self._clock()
        with self._lock:
            found = {key: self._recent(key, now) for key in _keys(name, address)}
            for (kind, *_), times in found.items():
                if len(times) >= _MOST[kind]:
                    raise TooManyAttemptsError(times[0] + FORGET_SECONDS - now)
            for key, times in found.items():
                times.append(now)
                self._mistakes[key] = times
                self._mistakes.move_to_end(key)
            while len(self._mistakes) > _MOST_KEYS:
                self._mistakes.popitem(last=False)
            count = len(found["both", name, address])
        return float(min(_SLOWEST, 2.0 ** (count - _FREE) / 2)) if count > _FREE else 0.0

    def forgive(self, name: str, address: str) -> None:
        """The attempt was none of a stranger: the person's mistakes are forgotten."""
        with self._lock:
            for key in _keys(name, address):
                if key[0] == "both":
                    self._mistakes.pop(key, None)
                elif times := self._mistakes.get(key):
                    times.pop()

    def _recent(self, key: tuple[str, ...], now: float) -> deque[float]:
        times = self._mistakes.get(key, deque())
        while times and times[0] <= now - FORGET_SECONDS:
            times.popleft()
        return times


def _keys(name: str, address: str) -> tuple[tuple[str, ...], ...]:
    return ("both", name, address), ("address", address), ("name", name)
