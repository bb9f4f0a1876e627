"""Pause, go on, cancel: from another thread, or through a file from another process."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from biozoo.files import write_atomic

__all__ = ["Control"]

_LOOK = 0.2  # seconds between two looks at the file


class Control:
    """What others may ask of a training that runs.

    Parameters
    ----------
    path
        File through which another process asks: it holds "pause", "cancel" or "run". None: this
        process only. Each side makes its own `Control` with the same path.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._paused = threading.Event()
        self._cancelled = threading.Event()

    def pause(self) -> None:
        """Let it wait after the step at work."""
        self._ask("pause")

    def resume(self) -> None:
        """Let it go on."""
        self._ask("run")

    def cancel(self) -> None:
        """Let it end after the step at work; what was learned is kept in the checkpoint."""
        self._ask("cancel")

    @property
    def paused(self) -> bool:
        """Whether it is to wait."""
        self._read()
        return self._paused.is_set()

    @property
    def cancelled(self) -> bool:
        """Whether it is to end."""
        self._read()
        return self._cancelled.is_set()

    def wait(self) -> bool:
        """Return at once, or when a pause is over; whether to go on (False: cancelled)."""
        while self.paused and not self.cancelled:
            time.sleep(_LOOK)
        return not self.cancelled

    def _ask(self, what: str) -> None:
        if self.path is not None:
            write_atomic(self.path, what.encode())
        self._set(what)

    def _set(self, what: str) -> None:
        if what == "cancel":
            self._cancelled.set()
        elif what == "pause":
            self._paused.set()
        elif what == "run":
            self._paused.clear()

    def _read(self) -> None:
        if self.path is None:
            return
        try:
            self._set(self.path.read_text("utf-8").strip())
        except OSError:
            return
