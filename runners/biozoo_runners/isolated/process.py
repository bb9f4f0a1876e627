"""The operating system's process behind a `Child`: its pipes, its log, its end."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import site
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from .arrays import Region
from .wire import MOST_FROM_CHILD, Garbled, read_message, write_message

__all__ = ["Late", "Process", "code_folders"]

_WORKER = Path(__file__).with_name("worker.py")
_LOG = 32 * 1024  # bytes kept of what foreign code prints


class Late(Exception):
    """No answer in time."""


class Process:
    """The operating system's process, its two pipes and its log.

    Two threads serve it. One starts it and reads its log, and stays until `kill`: Linux ends the
    child with the *thread* that started it, which must therefore outlive every caller. The other
    reads one message each time one is asked for, so that a flood of messages stays in the pipe.
    """

    def __init__(self, scratch: Path, regions: Sequence[Region], env: Mapping[str, str]):
        self._asked: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[dict[str, Any] | Garbled | None] = queue.SimpleQueue()
        self._log = bytearray()
        self._ended = threading.Event()
        started: queue.SimpleQueue[subprocess.Popen[bytes] | BaseException] = queue.SimpleQueue()
        settings = {
            "scratch": str(scratch),
            "regions": [r.fd if r.path is None else str(r.path) for r in regions],
            "parent": os.getpid(),
            "roots": code_folders(),
            "user_site": _user_site(),
        }
        fds = tuple(r.fd for r in regions if r.path is None)
        threading.Thread(
            target=self._host, args=(started, settings, fds, env), name="biozoo-log", daemon=True
        ).start()
        try:
            outcome = started.get()
        except BaseException:  # Ctrl-C: it starts even so, and nobody would end it
            late = started.get()
            if isinstance(late, subprocess.Popen):
                late.kill()
            self._ended.set()
            raise
        if isinstance(outcome, BaseException):
            raise outcome
        self._process = outcome
        assert outcome.stdin is not None
        assert outcome.stdout is not None
        self._stdin: IO[bytes] = outcome.stdin
        threading.Thread(
            target=self._read, args=(outcome.stdout,), name="biozoo-answers", daemon=True
        ).start()

    def _host(
        self,
        started: queue.SimpleQueue[Any],
        settings: Mapping[str, Any],
        fds: tuple[int, ...],
        env: Mapping[str, str],
    ) -> None:
        try:
            process = _spawn(settings, fds, env)
        except BaseException as exc:
            started.put(exc)
            return
        started.put(process)
        assert process.stderr is not None
        with process.stderr as log:
            while part := os.read(log.fileno(), 65536):
                self._log += part
                del self._log[:-_LOG]
        self._ended.wait()

    def _read(self, pipe: IO[bytes]) -> None:
        with pipe:
            while self._asked.get():
                try:
                    message = read_message(pipe.fileno(), MOST_FROM_CHILD)
                except Garbled as exc:
                    self._inbox.put(exc)
                except OSError:
                    self._inbox.put(None)
                else:
                    self._inbox.put(message)

    def ask(self, message: dict[str, Any] | None, deadline: float) -> dict[str, Any] | None:
        """Send, and wait for the answer; None where the process has ended."""
        if message is not None:
            try:
                write_message(self._stdin.fileno(), message)
            except (OSError, ValueError):
                return None
        self._asked.put(True)
        while True:
            # In slices: Windows delivers Ctrl-C between them, and a child that has ended may have
            # left its pipe to another process.
            left = deadline - time.monotonic()
            try:
                answer = self._inbox.get(timeout=max(0.0, min(left, 0.25)))
            except queue.Empty:
                if self._process.poll() is not None and self._inbox.empty():
                    return None
                if left <= 0:
                    raise Late from None
                continue
            if isinstance(answer, Garbled):
                raise answer
            return answer

    def exit_code(self) -> int | None:
        """With what it ended, negative for a signal; None where it goes on."""
        try:
            return self._process.wait(2)
        except subprocess.TimeoutExpired:
            return None

    def log_tail(self) -> str:
        """The end of what was printed."""
        text = bytes(self._log[-2000:]).decode("utf-8", "replace").strip()
        return f"...{text[-500:]}" if len(text) > 500 else text

    def kill(self) -> None:
        """End it, and what it started."""
        if sys.platform != "win32":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()
        self._asked.put(False)
        self._ended.set()
        with contextlib.suppress(OSError):
            self._stdin.close()


def _spawn(
    settings: Mapping[str, Any], fds: tuple[int, ...], env: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    if not sys.executable or getattr(sys, "frozen", False):
        raise OSError("this program holds no Python that could be started beside it")
    more: dict[str, Any] = {"start_new_session": True, "pass_fds": fds}
    if sys.platform == "win32":
        more = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return subprocess.Popen(
        [sys.executable, "-I", "-B", "-X", "faulthandler", str(_WORKER), json.dumps(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        env=dict(env),
        cwd=settings["scratch"],
        **more,
    )


def code_folders() -> list[str]:
    """Where biozoo itself is, for an installation that Python's site packages do not lead to."""
    import biozoo

    homes = (biozoo.__file__, __file__)
    return [str(Path(home).resolve().parents[i]) for home, i in zip(homes, (1, 2), strict=True)]


def _user_site() -> str | None:
    """The user's own site packages where this process uses them: ``-I`` leaves them out."""
    folder = site.getusersitepackages() if site.ENABLE_USER_SITE else None
    return folder if folder in sys.path else None
