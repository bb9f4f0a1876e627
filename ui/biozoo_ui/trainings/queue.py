"""The trainings that wait or run in this server: one process at a time, in their order.

What is here knows better than the folder how a training stands. Its lock is that of every change of
a record; a record is written by the server that runs the training alone.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from biozoo.closing import Closing
from biozoo.errors import BiozooError

from ..jobs.model import now
from ..jobs.turns import Turns
from .events import Reader
from .folder import Folder
from .model import ENDED_FULL, State, Training
from .running import Running, Start

_LOOK = 0.2  # seconds between two looks at a process

_KEPT = "What was learned until the last checkpoint is kept: resume the training to go on."
_CANCELLED = "The training was cancelled. What it learned is kept: resume it to go on."
SERVER_ENDED = "The server ended first. What was learned is kept: resume the training to go on."
DISK_FULL = f"The disk is full, so the training had to stop. Free some space. {_KEPT}"


@dataclass(eq=False)
class Live:
    """A training that waits or runs here.

    Attributes
    ----------
    running
        Its process, None while it waits.
    wanted
        "cancelled" or "interrupted", once it was asked to stop.
    ended
        Set when how it ended is written down.
    """

    training: Training
    running: Running | None = None
    wanted: State | None = None
    ended: threading.Event = field(default_factory=threading.Event)


class Queue(Closing):
    """Trainings in their order.

    Parameters
    ----------
    place, reader
        The folder of a training's id, and what reads its events.
    begin
        Starts a process.

    Attributes
    ----------
    lock
        Of every change of a record; may be taken again by who has it.
    """

    def __init__(
        self, place: Callable[[str], Folder], reader: Callable[[str], Reader], begin: Start
    ) -> None:
        self._place, self._reader, self._begin = place, reader, begin
        self.lock = threading.RLock()
        self._live: dict[str, Live] = {}
        self._unwritten: dict[str, Training] = {}  # how some ended while the disk was full
        self._turns = Turns("biozoo-trainings")

    def get(self, training_id: str) -> Live | None:
        """A training that is here."""
        return self._live.get(training_id)

    def read(self, training_id: str) -> Training | None:
        """The record of one that is not here any more; how it ended is written now where that was
        not possible before.
        """
        with self.lock:
            ended = self._unwritten.get(training_id)
            if ended is None:
                return self._place(training_id).read()
            self._write(ended)
            return ended

    def add(self, training: Training) -> None:
        """Have it done after those before it."""
        with self.lock:
            self._unwritten.pop(training.id, None)
            self._live[training.id] = live = Live(training)
            self._turns.add(lambda: self._do(live))

    def pause(self, live: Live) -> bool:
        """Let one that runs wait after its next step; False where it has not begun."""
        with self.lock:
            if live.training.state == "running" and live.running is not None:
                live.running.tell("pause")
                self._enter(live, "paused")
            return live.training.state == "paused"

    def go_on(self, live: Live) -> None:
        """Let a paused one go on."""
        with self.lock:
            if live.training.state == "paused" and live.running is not None:
                live.running.tell("go on")
                self._enter(live, "running")

    def stop(self, live: Live, wanted: State) -> None:
        """Ask it to stop; one that waits has ended at once. The first wish counts."""
        with self.lock:
            if live.wanted is None:
                live.wanted = wanted
            if live.running is not None:
                live.running.tell("cancel" if wanted == "cancelled" else "stop")
            else:
                self._settle(live, None, "")

    def forget(self, training_id: str) -> None:
        """Nothing is held of one that is deleted."""
        self._unwritten.pop(training_id, None)

    def close(self) -> None:
        """Stop what runs, after its next step; what waits is interrupted, too."""
        with self.lock:
            live = list(self._live.values())
            for one in live:
                self.stop(one, "interrupted")
            running = [one.running for one in live if one.running is not None]
        for process in running:
            process.end()
        self._turns.close()

    def _do(self, live: Live) -> None:
        """Its turn: from the start of its process to its end."""
        with self.lock:  # as one step, so that no order falls between
            if live.ended.is_set():  # it was stopped while it waited
                return
            self._start(live)
        if live.running is None:
            return
        while (code := live.running.wait(_LOOK)) is None:
            pass
        with self.lock:
            said = self._reader(live.training.id).look()[1]
            why = _why(code, self._place(live.training.id).last_words())
            self._settle(live, _full() if code == ENDED_FULL else said, why)
        live.running.end()

    def _start(self, live: Live) -> None:
        """Its process; where none could be started, that is how it ended."""
        training_id = live.training.id
        live.training = replace(live.training, state="running", started=now())
        self._reader(training_id).begin()
        try:
            self._place(training_id).write(live.training)
            live.running = self._begin(self._place(training_id))
        except Exception as exc:
            logging.getLogger(__name__).exception("training %s", training_id)
            words = exc.message if isinstance(exc, BiozooError) else str(exc)
            self._settle(live, {"state": "failed", "error": words}, "")

    def _enter(self, live: Live, state: State) -> None:
        live.training = replace(live.training, state=state)
        with contextlib.suppress(BiozooError):  # memory knows it too
            self._place(live.training.id).write(live.training)

    def _settle(self, live: Live, end: dict[str, str] | None, why: str) -> None:
        """Write down how it ended: as its process said, else as it was wished, else why it did."""
        words = _CANCELLED if live.wanted == "cancelled" else SERVER_ENDED
        if end is None and live.wanted is not None:
            end = {"state": live.wanted, "error": words}
        ended = ended_as(live.training, end, why)
        if ended.state in ("cancelled", "interrupted") and not ended.error:
            ended = replace(ended, error=words)
        live.training = ended
        self._write(ended)
        self._live.pop(ended.id, None)
        live.ended.set()

    def _write(self, ended: Training) -> None:
        """Write it down, or hold it until that is possible: else it would seem to run for ever."""
        self._unwritten[ended.id] = ended
        with contextlib.suppress(BiozooError):
            self._place(ended.id).write(ended)
            del self._unwritten[ended.id]


def ended_as(training: Training, end: dict[str, str] | None, otherwise: str) -> Training:
    """The training as its process said that it ended, else interrupted for this reason."""
    if end is None:
        return replace(training, state="interrupted", error=otherwise, ended=now())
    state: State = end["state"]  # type: ignore[assignment]
    return replace(training, state=state, error=end["error"], ended=now())


def _full() -> dict[str, str]:
    return {"state": "failed", "error": DISK_FULL}


def _why(code: int, said: str) -> str:
    """Why a process ended that did not say so; `said`: the last line that it printed."""
    if code == -signal.SIGKILL:
        return (
            f"The training's process was ended from outside (signal {-code}), most often because "
            "the memory was used up: close other programs, or train with fewer or smaller images. "
            f"{_KEPT}"
        )
    if code < 0:
        names = {int(one): one.name for one in signal.Signals}
        name = names.get(-code, "unknown")
        return f"The training's process was ended by the system (signal {-code}, {name}). {_KEPT}"
    last = f": {said}" if said else ""
    return f"The training's process ended too early (exit status {code}{last}). {_KEPT}"
