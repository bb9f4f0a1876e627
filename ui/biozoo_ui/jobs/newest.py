"""One thread that does what was asked for last first; an older wish of the same owner gives up."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from biozoo.closing import Closing
from biozoo.errors import Cancelled

T = TypeVar("T")

Stopped = Callable[[], bool]
"""Whether nobody waits for it any more."""


class SupersededError(Cancelled):
    """Not done, as the same owner asked for something newer, or left."""

    def __init__(self) -> None:
        super().__init__()
        self.args = ("A newer preview was asked for, so this one was given up.",)


@dataclass(eq=False)
class Wish(Generic[T]):
    """Something that is to be done for an owner; `answer` is what comes of it."""

    owner: str
    do: Callable[[Stopped], T]
    answer: Future[T] = field(default_factory=Future)
    _stop: threading.Event = field(default_factory=threading.Event)

    def give_up(self) -> None:
        """Nobody waits for it: it is not begun, or ends before its next step."""
        self._stop.set()
        with contextlib.suppress(InvalidStateError):
            self.answer.set_exception(SupersededError())

    def run(self) -> None:
        """Do it now."""
        if self._stop.is_set():
            return
        try:
            done = self.do(self._stop.is_set)
        except BaseException as exc:
            with contextlib.suppress(InvalidStateError):
                self.answer.set_exception(exc)
        else:
            with contextlib.suppress(InvalidStateError):
                self.answer.set_result(done)


class NewestFirst(Closing):
    """Does one wish after the other, the newest first; each owner has at most one."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._changed = threading.Condition()
        self._waiting: list[Wish[Any]] = []
        self._current: Wish[Any] | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    def ask(self, owner: str, do: Callable[[Stopped], T]) -> Wish[T]:
        """Have something done; what this owner asked for before is given up.

        Raises
        ------
        Cancelled
            The server ends.
        """
        wish = Wish(owner, do)
        with self._changed:
            if self._closed:
                raise Cancelled("The preview")
            older = [w for w in self._waiting if w.owner == owner]
            self._waiting = [w for w in self._waiting if w.owner != owner]
            if self._current is not None and self._current.owner == owner:
                older.append(self._current)
            self._waiting.append(wish)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        for one in older:
            one.give_up()
        return wish

    def close(self) -> None:
        """Give everything up and wait for what is being done; may be called twice."""
        with self._changed:
            self._closed = True
            left = [*self._waiting, *([self._current] if self._current else [])]
            self._waiting.clear()
            self._changed.notify()
        for wish in left:
            wish.give_up()
        if self._thread is not None:
            self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._current = None
                while not self._waiting:
                    if self._closed:
                        return
                    self._changed.wait()
                self._current = wish = self._waiting.pop()
            wish.run()
            del wish  # and what came of it, which may be large: the next one may be hours away
