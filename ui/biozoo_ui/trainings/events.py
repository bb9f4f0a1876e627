"""What the process of a training tells: lines of JSON that are only ever appended to.

A process that is killed in the middle of a line leaves a part of one at the end. It is no event:
readers wait for the line's end, and what is written next begins on a new line.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from biozoo.files import writing

from .model import Epoch, Layer, Progress

FILE = "events.jsonl"

ENDS = ("done", "failed", "cancelled", "interrupted")
"""States that a process ends with, as `{"event": "end", "state": ..., "error": ...}`."""


_FACTS = (
    "step", "steps", "loss", "seconds_left", "metric", "device", "recipe", "reasons", "child",
    "held_out", "trained",
)  # fmt: skip


class Events:
    """Appends events to a file.

    Parameters
    ----------
    path
        Made where it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._path = path
        with writing(path):
            self._torn = path.exists() and not path.read_bytes().endswith(b"\n")
            self._file = path.open("ab", buffering=0)

    def tell(self, event: str, **facts: Any) -> None:
        """Append one; not a number and infinite values become null.

        Raises
        ------
        StorageError
            The disk is full. A part of the line may be there: the next one begins a new line.
        """
        line = json.dumps(_plain({"event": event, **facts}), allow_nan=False).encode() + b"\n"
        with self._lock, writing(self._path):
            left = memoryview(b"\n" + line if self._torn else line)
            self._torn = True
            while left:  # a disk that is nearly full takes a part, and refuses the rest
                left = left[self._file.write(left) :]
            self._torn = False

    def layers(self, event: str, layers: tuple[Layer, ...], **facts: Any) -> None:
        """Append one with layers."""
        self.tell(event, layers=[asdict(layer) for layer in layers], **facts)

    def close(self) -> None:
        """No more events; may be called twice."""
        self._file.close()


class Reader:
    """Reads a file of events as it grows, and adds them up."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._at = 0
        self._progress = Progress()
        self._end: dict[str, str] | None = None

    def begin(self) -> None:
        """A new process begins: how the one before ended is of no interest any more."""
        with self._lock:
            self._end = None

    def look(self) -> tuple[Progress, dict[str, str] | None]:
        """How far it is, and how its process ended: None while it has not said so."""
        with self._lock:
            try:
                with self._path.open("rb") as file:
                    file.seek(self._at)
                    fresh = file.read()
            except OSError:  # it is not there yet, or cannot be read now
                return self._progress, self._end
            whole = fresh[: fresh.rfind(b"\n") + 1]
            self._at += len(whole)
            for line in whole.splitlines():
                self._take(line)
            return self._progress, self._end

    def _take(self, line: bytes) -> None:
        """Add one up; what is no event is left out, such as a part of a line that a kill left."""
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            facts = json.loads(line)
            event = facts.pop("event")
            if event == "end":
                if facts["state"] in ENDS:
                    self._end = {"state": facts["state"], "error": str(facts.get("error", ""))}
                return
            if event == "begin":
                self._end = None
            self._progress = added(self._progress, event, facts)


def added(now: Progress, event: str, facts: Mapping[str, Any]) -> Progress:
    """The progress after an event; an unknown one changes nothing."""
    change: dict[str, Any] = {}
    if event == "begin":
        change = {"stage": "Begins", "loss": None, "seconds_left": None}
    elif event == "stage":
        change = {"stage": facts["words"], "seconds_left": None}
    elif event == "facts":
        change = {
            n: tuple(v) if isinstance(v, list) else v for n, v in facts.items() if n in _FACTS
        }
    elif event == "epoch":
        # After a resume an epoch may come a second time; the later one counts.
        kept = [e for e in now.epochs if e.number < facts["number"]]
        change = {"epochs": (*kept, Epoch(**facts))}
    elif event in ("preview", "before", "after"):
        change = {event: tuple(Layer(**layer) for layer in facts["layers"])}
        if event == "preview":
            change["preview_epoch"] = facts["epoch"]
    elif event == "gate":
        change = {"gate": facts["report"]}
    elif event == "note" and facts["text"] not in now.notes:
        change = {"notes": (*now.notes, facts["text"])}
    return replace(now, **change)


def _plain(value: Any) -> Any:
    """The same with null for numbers that JSON does not have."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    if isinstance(value, Path):
        return str(value)
    return value
