"""The parent's side: start a confined child, call it, end it.

    with Child.start("biozoo_runners.executors.torch_code:TorchCode", facts, ...) as child:
        outputs = child.run([array])

Whatever the child does, the parent gets an error at worst: its messages are checked, its arrays
are copied out of memory that the parent never maps, and it is killed when it takes too long, when
it is closed, and when the parent ends.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy.typing as npt

from biozoo.closing import Closing
from biozoo.errors import BackendError, OutOfMemoryError, UsageError
from biozoo.settings import Settings

from .arrays import Region, layout
from .environment import child_environment
from .process import Late, Process
from .scratch import remove
from .wire import Garbled

__all__ = ["Child", "ForeignError"]

LOADING_SECONDS = 300.0
CALL_SECONDS = 600.0

#: What no machine has: a child that claims to have taken more is not believed.
_MOST_BYTES = 2**56


class ForeignError(BackendError):
    """Code in the child raised an exception; the child lives on.

    Attributes
    ----------
    kind, text
        The exception's class name and its text.
    where
        File, line and function of the author's code, or "".
    trace
        The end of its traceback, or "".
    """

    def __init__(
        self, *, model: str, doing: str, kind: str, text: str, where: str = "", trace: str = ""
    ):
        place = f" ({where})" if where else ""
        said = first_line(text)
        super().__init__(
            f"Model '{model}' failed to {doing}: {kind}{f': {said}' if said else ''}{place}. "
            "Ask the package's author."
        )
        self.kind, self.text, self.where, self.trace = kind, text, where, trace


def first_line(text: str) -> str:
    """The first line that says something, without a full stop."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return line[:600].rstrip(".")


class Child(Closing):
    """A confined process with one loaded executor; see `start`.

    Attributes
    ----------
    facts
        What `Executor.describe` said after loading.
    unprotected
        The protections that could not be had on this machine, in words.
    peak_memory
        Most bytes that the process has taken so far, as it said with its last answer.
    peak_device_memory
        The same on its graphics card; None where it uses none.
    """

    facts: Mapping[str, Any]
    unprotected: tuple[str, ...]

    @classmethod
    def start(
        cls,
        executor: str,
        facts: Mapping[str, Any],
        *,
        model: str,
        doing: str,
        threads: int,
        device: str = "cpu",
        readable: Sequence[Path] = (),
        env: Mapping[str, str] = {},
        seconds: float | None = None,
    ) -> Self:
        """Start a process, confine it, and construct the executor in it.

        Parameters
        ----------
        executor
            ``"module:Class"`` of an `Executor`, importable in this Python's site packages.
        facts
            For the executor: plain JSON values.
        model
            The model's id, for messages.
        doing
            What the process is for, as in "failed to ...": ``"run its architecture unet.py"``.
        threads
            For the libraries that read a variable when they are imported (OpenMP, BLAS, ...).
        device
            ``"cpu"``, or ``"cuda"``/``"cuda:N"``, which leaves the NVIDIA card reachable.
        readable
            Files and folders that it may read besides the installed software.
        env
            Variables to add.
        seconds
            Time limit of loading; default 300, or BIOZOO_CODE_SECONDS.

        Raises
        ------
        ForeignError
            The executor raised an exception.
        BackendError
            The process cannot be started, ended, or took too long.
        UsageError
            BIOZOO_CODE_SECONDS is no number of seconds.
        """
        limit = seconds if seconds is not None else _limit(LOADING_SECONDS)
        child = cls(model, doing, threads=threads, device=device, env=env)
        try:
            child._load(executor, facts, readable, device, limit)
        except BaseException:
            child.close()
            raise
        return child

    def __init__(
        self, model: str, doing: str, *, threads: int, device: str, env: Mapping[str, str]
    ):
        """Start the bare process; use `start`."""
        self._model = model
        self.doing = doing
        self.unprotected = ()
        self.peak_memory = 0
        self.peak_device_memory: int | None = None
        scratch = Path(tempfile.mkdtemp(prefix="biozoo-"))
        regions: list[Region] = []
        try:
            regions += [Region(scratch, name) for name in ("given", "made")]
            self._process = Process(
                scratch, regions, child_environment(scratch, threads, device, env)
            )
        except BaseException as exc:
            _remove(scratch, regions)
            if isinstance(exc, OSError):
                raise self._error(f"the process cannot be started ({exc})") from exc
            raise
        self._given, self._made = regions
        self._end = weakref.finalize(
            self, _end, os.getpid(), self._process, scratch, regions
        )  # also when the interpreter ends

    def _load(
        self,
        executor: str,
        facts: Mapping[str, Any],
        readable: Sequence[Path],
        device: str,
        limit: float,
    ) -> None:
        deadline = time.monotonic() + limit
        hello = {
            "executor": executor,
            "facts": dict(facts),
            "readable": [str(path.resolve()) for path in readable],
            "private": [str(path.resolve()) for path in _private()],
            "device": device,
        }
        told = self._ask(hello, deadline, limit, "while starting")
        missing = told.get("unprotected")
        if not isinstance(missing, list):
            raise self._garbled("no list of protections")
        self.unprotected = tuple(str(m)[:200] for m in missing[:20])
        answer = self._ask(None, deadline, limit, "while loading")
        described = answer.get("facts")
        if not isinstance(described, dict):
            raise self._garbled("no description")
        self.facts = described

    @property
    def code_notes(self) -> tuple[str, ...]:
        """For the report where the author's code runs: the protections that it does without."""
        if not self.unprotected:
            return ()
        missing = "; ".join(self.unprotected)
        return (f"its author's code ran without these protections: {missing}",)

    def run(
        self, arrays: Sequence[npt.NDArray[Any] | None], *, seconds: float | None = None
    ) -> list[npt.NDArray[Any]]:
        """Call the executor once.

        Parameters
        ----------
        arrays
            Of numbers, any memory layout; None for one that is left out.
        seconds
            Time limit; default 600, or BIOZOO_CODE_SECONDS.

        Returns
        -------
        list
            Own copies.

        Raises
        ------
        ForeignError
            The executor raised an exception; the child can be called again.
        BackendError
            The process has ended, took too long, or answered rubbish. It is closed then.
        OutOfMemoryError
            The arrays do not fit in shared memory.
        """
        limit = seconds if seconds is not None else _limit(CALL_SECONDS)
        if not self._end.alive:
            raise self._error("its process has ended. Load the model again to run it")
        try:
            slots = self._given.write(arrays)
        except TypeError as exc:
            raise BackendError(f"Model '{self._model}' failed to {self.doing}: {exc}.") from exc
        except (OSError, MemoryError) as exc:
            raise self._no_memory(layout(arrays)[1], exc) from exc
        answer = self._ask({"arrays": slots}, time.monotonic() + limit, limit, "while running")
        try:
            return self._made.read(answer.get("arrays"))
        except Garbled as exc:
            raise self._garbled(str(exc)) from exc
        except MemoryError as exc:
            raise self._no_memory(0, exc) from exc

    def free_cached(self) -> None:
        """Give back what executor and shared memory keep for later calls; nothing after `close`."""
        if not self._end.alive:
            return
        self._ask({"free": True}, time.monotonic() + CALL_SECONDS, CALL_SECONDS, "while freeing")
        self._given.shrink()
        self._made.shrink()

    def close(self) -> None:
        """End the process with everything it started, and remove its scratch folder."""
        self._end()

    # ------------------------------------------------------------------------------- messages

    def _ask(
        self, message: dict[str, Any] | None, deadline: float, limit: float, when: str
    ) -> dict[str, Any]:
        """Send a message and take the answer; None only takes the next message."""
        try:
            answer = self._process.ask(message, deadline)
        except Late as exc:
            self.close()
            raise self._error(
                f"it was still {when.removeprefix('while ')} after {limit:g} s and was stopped. "
                "Where it needs longer, set BIOZOO_CODE_SECONDS to more",
            ) from exc
        except Garbled as exc:
            raise self._garbled(str(exc)) from exc
        except BaseException:  # Ctrl-C: what the child computes nobody will fetch
            self.close()
            raise
        if answer is None:
            raise self._dead(when)
        self._note(answer)
        fault = answer.get("error")
        if fault is None:
            return answer
        if not isinstance(fault, dict):
            raise self._garbled("an error without words")
        kind, where = (first_line(str(fault.get(key, "")))[:200] for key in ("kind", "where"))
        text, trace = (str(fault.get(key, ""))[:4000] for key in ("message", "trace"))
        raise ForeignError(
            model=self._model, doing=self.doing, kind=kind, text=text, where=where, trace=trace
        )

    def _note(self, answer: Mapping[str, Any]) -> None:
        peak, on_card = answer.get("peak"), answer.get("device_peak")
        if isinstance(peak, int) and peak < _MOST_BYTES:
            self.peak_memory = max(self.peak_memory, peak)
        if isinstance(on_card, int) and on_card < _MOST_BYTES:
            self.peak_device_memory = max(self.peak_device_memory or 0, on_card)

    def _dead(self, when: str) -> BackendError:
        """The error for a process that has ended or hung up."""
        if not self._end.alive:
            return self._error(f"it was closed {when}")
        code = self._process.exit_code()
        self.close()
        if code is None:
            how = "its process closed its connection"
        elif code < 0 and sys.platform != "win32":
            how = f"its process was ended by {_signal_name(-code)}"
            if -code == signal.SIGKILL:
                return self._error(
                    f"{how} {when}, as the system does when memory runs out. Close other programs "
                    "or use a smaller tile, for example --tile y=256,x=256"
                )
        else:
            how = f"its process ended with exit code {code}"
        return self._error(
            f"{how} {when}. What ran in it ended it or crashed; nothing else was harmed. Ask the "
            "package's author"
        )

    def _garbled(self, what: str) -> BackendError:
        self.close()
        return self._error(
            f"its process answered {what}, which is no answer, and was stopped. Its code "
            "interferes with biozoo; ask the package's author"
        )

    def _error(self, why: str) -> BackendError:
        log = self._process.log_tail() if hasattr(self, "_process") else ""
        said = f" It had printed:\n{log}" if log else ""
        return BackendError(f"Model '{self._model}' failed to {self.doing}: {why}.{said}")

    def _no_memory(self, size: int, exc: BaseException) -> OutOfMemoryError:
        what = f"{size / 2**20:.0f} MiB of inputs" if size else "its outputs"
        return OutOfMemoryError(
            f"Model '{self._model}' failed to {self.doing}: {what} do not fit in memory shared "
            f"with its process ({exc}). Use a smaller tile, for example --tile y=256,x=256."
        )


def _end(owner: int, process: Process, scratch: Path, regions: Sequence[Region]) -> None:
    if os.getpid() != owner:  # a fork of the parent has a copy of this object, not the child
        return
    process.kill()
    _remove(scratch, regions)


def _remove(scratch: Path, regions: Sequence[Region]) -> None:
    for region in regions:
        region.close()
    remove(scratch)


def _private() -> list[Path]:
    """What no installed folder may open up; see `confine`."""
    settings = Settings.from_env()
    return [Path.home(), settings.home, settings.cache]


def _limit(default: float) -> float:
    text = os.environ.get("BIOZOO_CODE_SECONDS", "")
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if seconds > 0:
        return seconds
    raise UsageError(f"BIOZOO_CODE_SECONDS is '{text}'; it takes a number of seconds above 0.")


def _signal_name(number: int) -> str:
    try:
        return f"signal {number} ({signal.Signals(number).name})"
    except ValueError:
        return f"signal {number}"
