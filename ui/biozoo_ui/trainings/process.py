"""The process of one training: `python -m biozoo_ui.trainings.process FOLDER`.

It reads what is asked in the folder's record, has `biozoo_trainers.retrain` do it, and tells how
far it is by appending events. It is told "pause", "go on", "cancel" and "stop" on its standard
input; the input's end is a "stop": its server has gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Literal

from filelock import Timeout

from biozoo.errors import BiozooError, Cancelled, StorageError

from .events import Events
from .folder import Folder
from .model import ENDED_FULL, Training
from .running import KILL_AFTER

if TYPE_CHECKING:
    from biozoo_trainers.training import Control

Outcome = Literal["done", "failed", "cancelled", "interrupted"]

_NICE = 5
"""How much it stands back: runs and the page's previews go first, and yet it gets on meanwhile."""

ENDED_LATE = 5
"""Exit status of a process that did not stop in time after its server was gone."""

_FIRST_TO_GO = 500
"""Of 1000: how much rather than others it is ended where memory runs out. It can be resumed."""


class Orders:
    """What the server says, put into effect in a thread of its own.

    Parameters
    ----------
    gone
        Called when there is no server any more.

    Attributes
    ----------
    why
        How the training is to end that was told to stop: the first order counts.
    """

    def __init__(self, control: Control, source: IO[str], gone: Callable[[], None]) -> None:
        self._control, self._source, self._gone = control, source, gone
        self.why: Outcome | None = None
        threading.Thread(target=self._listen, name="biozoo-orders", daemon=True).start()

    def _listen(self) -> None:
        for line in self._source:
            order = line.strip()
            if order == "pause":
                self._control.pause()
            elif order == "go on":
                self._control.resume()
            elif order in ("cancel", "stop"):
                self._end("cancelled" if order == "cancel" else "interrupted")
        self._end("interrupted")
        self._gone()

    def _end(self, why: Outcome) -> None:
        self.why = self.why or why
        self._control.cancel()


def _end_late() -> None:
    """End a process that still works after it had the time to stop: its server does so, too."""
    time.sleep(KILL_AFTER)
    os._exit(ENDED_LATE)


def stand_back() -> None:
    """Leave processors and memory to the server: runs, previews and the page go first.

    Linux may share processor time out by terminal sessions first, and this process has one of its
    own: its niceness then only counts within. So its session is told to be nice, too.
    """
    with contextlib.suppress(OSError, AttributeError):
        os.nice(_NICE)
    for name, value in (("autogroup", _NICE), ("oom_score_adj", _FIRST_TO_GO)):
        with contextlib.suppress(OSError):
            Path("/proc/self", name).write_text(str(value))


def main(path: Path, orders: IO[str] | None = None) -> int:
    """Do the training of a folder; the exit status is 0 also where it failed and said so.

    Parameters
    ----------
    orders
        In place of the standard input, whose end is also that of this process.
    """
    from biozoo_trainers.training import Control

    place = Folder(path)
    training = place.read()
    if training is None:
        print(f"no training in {path}", file=sys.stderr)
        return 2
    try:
        lock = place.lock().acquire(timeout=0)
    except Timeout:
        print(f"another process works in {path}", file=sys.stderr)
        return 3
    control = Control()
    if orders is None:
        listening = Orders(control, sys.stdin, _end_late)
    else:
        listening = Orders(control, orders, lambda: None)
    try:
        with lock, contextlib.closing(Events(place.events)) as events:
            events.tell("begin", at=time.time())
            state, error = _outcome(training, place, events, control, listening)
            events.tell("end", state=state, error=error)
    except StorageError as exc:
        print(exc.message, file=sys.stderr)
        return ENDED_FULL
    return 0


def _outcome(
    training: Training, place: Folder, events: Events, control: Control, orders: Orders
) -> tuple[Outcome, str]:
    from .work import work

    try:
        work(training, place, events, control)
    except Cancelled:
        return orders.why or "cancelled", ""
    except BiozooError as exc:
        return "failed", exc.message
    except MemoryError:
        return "failed", (
            "This computer has too little memory for this training. Close other programs, or train "
            "with fewer or smaller images."
        )
    except Exception as exc:
        logging.getLogger(__name__).exception("training %s", training.id)
        words = f"The training failed in a way nobody foresaw: {type(exc).__name__}: {exc}"
        return "failed", words
    return "done", ""


if __name__ == "__main__":
    stand_back()
    sys.exit(main(Path(sys.argv[1])))
