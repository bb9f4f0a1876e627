"""The command line: `zoo VERB`. `main` is the entry point."""

from __future__ import annotations

import signal
import sys


def main() -> None:
    """Entry point of the `zoo` command.

    Being told to end (a job is cancelled, the terminal is closed) stops as Ctrl-C does, so that
    what is half-written is removed; where the parent wants such a signal ignored, it stays so.
    """
    try:
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)  # Windows has no SIGHUP
            if number is not None and signal.getsignal(number) is signal.SIG_DFL:
                signal.signal(number, signal.default_int_handler)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):  # a terminal that cannot show "µ" shows "?"
                stream.reconfigure(errors="replace")
        from .app import app

        app()
    except KeyboardInterrupt:  # before a verb could begin
        sys.exit(130)


__all__ = ["main"]
