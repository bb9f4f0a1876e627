"""One thing after the other, in a thread of its own: here jobs and trainings wait their turn."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

from biozoo.closing import Closing

Do = Callable[[], object]


class Turns(Closing):
    """Does what it was given in its order.

    The thread does not hold up the end of the program: a server that is told twice to end does.
    """

    def __init__(self, name: str) -> None:
        self._todo: SimpleQueue[Do | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._lock = threading.Lock()
        self._closed = False

    def add(self, do: Do) -> None:
        """Have something done after what was added before; returns at once."""
        with self._lock:
            if self._closed:
                raise RuntimeError(f"{self._thread.name} has ended")
            if self._thread.ident is None:
                self._thread.start()
            self._todo.put(do)

    def close(self) -> None:
        """Wait until all had its turn; may be called twice. The caller has told all to stop."""
        with self._lock:
            self._closed = True
            self._todo.put(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self) -> None:
        while (do := self._todo.get()) is not None:
            try:
                do()
            except Exception:  # whoever comes next must have their turn
                logging.getLogger(__name__).exception("a turn of %s", self._thread.name)
