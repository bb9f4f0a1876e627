"""How much of each session's uploads is kept, and for how long."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from biozoo.closing import Closing
from biozoo.files import size_text

from .errors import TooMuchKeptError

_SLOWEST = 300.0  # seconds between two looks


class Shares:
    """Bytes that each session keeps on the disk of the server.

    Parameters
    ----------
    most
        What one session may keep.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._kept: dict[str, int] = {}

    def begin(self, owner: str) -> Share:
        """What one upload of a session takes; nothing yet."""
        return Share(self, owner)

    def kept(self, owner: str) -> int:
        """What a session keeps."""
        with self._lock:
            return self._kept.get(owner, 0)

    def change(self, owner: str, by: int, name: str) -> None:
        """Add to what a session keeps, or take from it.

        Raises
        ------
        TooMuchKeptError
            It would be more than it may; nothing is changed.
        """
        with self._lock:
            kept = self._kept.get(owner, 0)
            if by > 0 and kept + by > self.most:
                raise TooMuchKeptError(name=name, kept=size_text(kept), most=size_text(self.most))
            self._kept[owner] = kept + by
            if not self._kept[owner]:
                del self._kept[owner]


class Share:
    """The bytes of one upload."""

    def __init__(self, shares: Shares, owner: str) -> None:
        self._shares, self._owner, self.size = shares, owner, 0

    def fits(self, size: int, name: str) -> None:
        """Raise `TooMuchKeptError` where there is no room for so many bytes now."""
        self.add(size, name)
        self.add(-size, name)

    def add(self, size: int, name: str) -> None:
        """Take so many bytes more, or fewer; raises `TooMuchKeptError`."""
        self._shares.change(self._owner, size, name)
        self.size += size

    def give_back(self) -> None:
        """All of it; may be called twice."""
        self.add(-self.size, "")


class Pruner(Closing):
    """Calls `prune` again and again in a thread of its own.

    Parameters
    ----------
    after
        Seconds after which something is old; it is looked for ten times as often.
    """

    def __init__(self, prune: Callable[[], None], *, after: float) -> None:
        self._prune, self._every = prune, min(_SLOWEST, max(0.05, after / 10))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="biozoo-pruner", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop; may be called twice."""
        self._over.set()
        with contextlib.suppress(RuntimeError):  # from within
            self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            try:
                self._prune()
            except Exception:
                logging.getLogger(__name__).exception("old images could not be removed")
