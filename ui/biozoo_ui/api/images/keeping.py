"""How much of each session's uploads is kept."""

from __future__ import annotations

import threading

from biozoo.files import size_text

from .errors import TooMuchKeptError


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
