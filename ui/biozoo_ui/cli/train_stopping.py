"""Ctrl-C while a model is trained: what is at work, what is kept, and how to go on."""

from __future__ import annotations

import contextlib
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from .output import note

if TYPE_CHECKING:
    from biozoo_trainers import Control

__all__ = ["Watch", "folder_beside", "stoppable", "tell_kept"]


class Watch:
    """A hook that knows whether training steps are at work, and whether a checkpoint was written.

    With `several` processes it is told in another one, so it takes steps to be at work always.
    """

    def __init__(self, *, several: bool) -> None:
        self.stepping = several
        self.kept = False

    def __call__(self, event: str, _: object) -> None:
        if event == "start":
            self.stepping = True
        elif event == "checkpoint":
            self.kept = True
        elif event == "end":
            self.stepping = False


def folder_beside(out: Path) -> Path:
    """Where the checkpoints of a training lie."""
    from biozoo.errors import UsageError

    if not out.name or out.name == "..":
        raise UsageError(f"-o {out} is a folder of its own. Name the new model: -o mine.zip.")
    return out.with_name(f"{out.name}.training")


def tell_kept(folder: Path | None) -> None:
    """After a stop or a fault: what stays, and how to go on."""
    if folder is None:
        return
    if any(folder.rglob("checkpoint.pt")):
        note(f"What was learned is kept in {folder}: the same command with --resume goes on.")
    else:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def stoppable(control: Control, watch: Watch) -> Iterator[None]:
    """Ctrl-C lets the step at work end and its checkpoint be written; the second ends at once.

    Where no step is at work there is nothing to save, and the first ends at once too.
    """

    def stop(number: int, frame: object) -> None:
        if control.cancelled or not watch.stepping:
            control.cancel()
            raise KeyboardInterrupt
        control.cancel()
        note("\nzoo: stopping after the step at work (Ctrl-C again: at once)")

    before = {}
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)  # Windows has no SIGHUP
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            try:
                before[number] = signal.signal(number, stop)
            except ValueError:  # not the main thread
                break
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
