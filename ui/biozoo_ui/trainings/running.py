"""The process of a training, as its server holds it.

It is told what to do by lines on its standard input. The input ends when the server does, in
whatever way, and the process then stops by itself: nothing trains on behind a server that is gone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from biozoo.files import writing

from .folder import Folder

if TYPE_CHECKING:
    from biozoo import Settings

Order = Literal["pause", "go on", "cancel", "stop"]
"""What a process can be told: "cancel" is its owner's wish, "stop" that of a server that ends."""

Start = Callable[[Folder], "Running"]

KILL_AFTER = 5.0  # seconds that a process may take to stop when the server ends


class Running:
    """One process at work."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def tell(self, order: Order) -> None:
        """Ask it; nothing happens where it has ended."""
        stdin = self._process.stdin
        with contextlib.suppress(OSError, ValueError):
            assert stdin is not None
            stdin.write(f"{order}\n")
            stdin.flush()

    def wait(self, seconds: float | None = None) -> int | None:
        """How it ended; None where it still runs after so many seconds."""
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> None:
        """Make sure that it has ended."""
        self.tell("stop")
        if self.wait(KILL_AFTER) is None:
            self._process.kill()
            self._process.wait()
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()


def start(folder: Folder, settings: Settings) -> Running:
    """Start the process of a training.

    Parameters
    ----------
    settings
        Its zoo. What it needs is there, so it asks no network.

    Raises
    ------
    StorageError
        Its log cannot be written.
    """
    command = [sys.executable, "-P", "-m", "biozoo_ui.trainings.process", str(folder.path)]
    with writing(folder.log), folder.log.open("ab") as log:
        return Running(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                env={**os.environ, "BIOZOO_HOME": str(settings.home), "BIOZOO_OFFLINE": "1"},
                start_new_session=True,  # Ctrl-C at the server's terminal is not meant for it
            )
        )
