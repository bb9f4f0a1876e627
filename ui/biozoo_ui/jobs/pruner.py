"""What nobody uses any more: looked for again and again."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from biozoo.closing import Closing

_SLOWEST = 300.0  # seconds between two looks


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
            except Exception:  # the thread goes on: the next look may do better
                logging.getLogger(__name__).exception("what is old could not be removed")
