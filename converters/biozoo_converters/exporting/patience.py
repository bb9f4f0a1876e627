"""An end to computing that may not end: torch.export can reason about sizes for hours.

Counted is what this process computed, not the clock, so that a busy machine finds the same.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["Overdue", "computing_at_most"]


class Overdue(BaseException):  # not Exception: torch catches those and goes on
    """The time is over; raised wherever the process happens to be.

    Attributes
    ----------
    frame
        What was running.
    """

    def __init__(self, frame: FrameType | None):
        super().__init__("the time is over")
        self.frame = frame


@contextmanager
def computing_at_most(seconds: float) -> Iterator[None]:
    """Raise `Overdue` in the block after so many seconds of computing.

    Only in the main thread, and only where the system counts them (not on Windows); elsewhere the
    block takes as long as it takes.

    Raises
    ------
    Overdue
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer"):
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise Overdue(frame)

    before = signal.signal(signal.SIGVTALRM, end)
    try:
        # Again every few seconds: what is raised within a callback of C++ may be lost.
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds, 5.0)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
