"""The live sessions of a server: each person has one, the longest unused are closed."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

from biozoo.closing import Closing

from ..jobs.model import Choices, JobImage
from ..jobs.newest import NewestFirst, Stopped, SupersededError, Wish
from ..jobs.pruner import Pruner
from ..jobs.region import View
from .model import gone
from .place import place_of
from .session import LiveSession

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_trainers.live import LiveModel

    OpenModel = Callable[[ModelPackage], LiveModel]

MOST = 4
"""Sessions that stay open, of all people."""

MOST_BYTES = 2 * 2**30
"""Of the features of all of them; one alone may hold more."""

IDLE_SECONDS = 30 * 60.0
"""After which one that nobody asked for anything is closed: its page was left, most likely."""


class LiveSessions(Closing):
    """The live sessions of one server.

    Parameters
    ----------
    open_model
        Opens a package for live mode; that of `biozoo_trainers` unless a test says otherwise.
    most, most_bytes
        How many stay open, and how much they hold together.
    idle_seconds, clock
        After how long an unused one is closed; seconds that only grow.
    """

    def __init__(
        self,
        open_model: OpenModel | None = None,
        *,
        most: int = MOST,
        most_bytes: int = MOST_BYTES,
        idle_seconds: float = IDLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_model, self._most, self._most_bytes = open_model or _open_live, most, most_bytes
        self._idle, self._clock = idle_seconds, clock
        self._queue = NewestFirst("biozoo-live")
        self._lock = threading.Lock()
        self._sessions: OrderedDict[str, LiveSession] = OrderedDict()  # the longest unused first
        self._used: dict[str, float] = {}
        self._pruner = Pruner(self.prune, after=idle_seconds)

    def open(
        self, package: ModelPackage, image: JobImage, view: View, choices: Choices, *, owner: str
    ) -> Wish[LiveSession]:
        """Begin a session on what is seen; the owner's earlier one ends.

        Raises
        ------
        Cancelled
            The server ends. The answer raises SupersededError where something newer was asked for,
            and the errors of `open_live` and `LiveModel.features`.
        """
        return self._queue.ask(
            owner, lambda stopped: self._begin(package, image, view, choices, owner, stopped)
        )

    def show(self, session_id: str, view: View, *, owner: str) -> Wish[LiveSession]:
        """See another part of the image in a session; what was painted before still counts.

        Raises
        ------
        NotFoundError
            As `get`. The answer raises as that of `open`.
        """
        session = self.get(session_id, owner)
        return self._queue.ask(owner, lambda stopped: self._show(session, view, stopped))

    def get(self, session_id: str, owner: str) -> LiveSession:
        """The session of this id and owner.

        Raises
        ------
        NotFoundError
            There is none, or it is another's.
        """
        with self._lock:
            found = self._sessions.get(session_id)
            if found is not None and found.owner == owner:
                self._sessions.move_to_end(session_id)
                self._used[session_id] = self._clock()
                return found
        raise gone(session_id)

    def remove(self, session_id: str, owner: str) -> None:
        """End a session.

        Raises
        ------
        NotFoundError
            As `get`.
        """
        session = self.get(session_id, owner)
        self._end([session])

    def prune(self) -> None:
        """End those that nobody has used for long, unless one is on its way into the zoo."""
        before = self._clock() - self._idle
        with self._lock:
            idle = [s for i, s in self._sessions.items() if self._used[i] < before]
        self._end([s for s in idle if s.keeping is None or s.keeping.state != "running"])

    def close(self) -> None:
        """End all of them; may be called twice."""
        self._pruner.close()
        self._queue.close()
        self._end(list(self._sessions.values()))

    def _end(self, sessions: list[LiveSession]) -> None:
        with self._lock:
            for one in sessions:
                self._sessions.pop(one.id, None)
                self._used.pop(one.id, None)
        for one in sessions:
            one.close()

    def _begin(
        self,
        package: ModelPackage,
        source: JobImage,
        view: View,
        choices: Choices,
        owner: str,
        stopped: Stopped,
    ) -> LiveSession:
        place = place_of(package, source, view)
        began = time.perf_counter()
        model = self._open_model(package)
        loaded = time.perf_counter() - began
        session = LiveSession(
            secrets.token_hex(8), owner, model, source, choices, load_seconds=loaded
        )
        try:
            if stopped():
                raise SupersededError
            session.show(place, stopped)
        except BaseException:
            session.close()
            raise
        with self._lock:
            earlier = [s for s in self._sessions.values() if s.owner == owner]
            self._sessions[session.id] = session
            self._used[session.id] = self._clock()
        self._end(earlier)
        self._make_room(session)
        return session

    def _show(self, session: LiveSession, view: View, stopped: Stopped) -> LiveSession:
        session.show(place_of(session.package, session.image, view), stopped)
        self._make_room(session)
        return session

    def _make_room(self, session: LiveSession) -> None:
        """End the longest unused others where there are too many, or they hold too much."""
        with self._lock:
            others = [s for s in self._sessions.values() if s is not session]
        held, left = session.nbytes + sum(s.nbytes for s in others), len(others) + 1
        ending = []
        for one in others:
            if left <= self._most and held <= self._most_bytes:
                break
            ending.append(one)
            held, left = held - one.nbytes, left - 1
        self._end(ending)


def _open_live(package: ModelPackage) -> LiveModel:
    from biozoo_trainers.live import open_live

    return open_live(package)
