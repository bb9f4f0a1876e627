"""What the verbs print: aligned text for people, JSON for programs, errors on stderr.

Facts go to stdout, everything else (progress, notes, errors) to stderr, so a pipe gets only facts.
"""

from __future__ import annotations

import functools
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn, ParamSpec

import typer

from biozoo.errors import BiozooError
from biozoo.visible import visible

P = ParamSpec("P")


#: What a terminal obeys in place of showing it, but for the end of a line and the tab, and marks
#: that turn the direction of writing: names and messages hold text of strangers.
_OBEYED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def say(text: str = "") -> None:
    """One line of facts on stdout."""
    print(_harmless(text))


def note(text: str) -> None:
    """One line beside the facts, on stderr."""
    print(_harmless(text), file=sys.stderr)


def _harmless(text: str) -> str:
    return _OBEYED.sub(lambda found: visible(found[0]), text)


def emit_json(facts: Any) -> None:
    """The facts as one JSON document on stdout, in ASCII for any pipe; paths become text."""
    print(json.dumps(facts, indent=2, default=str))


def table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Left-aligned columns, as wide as their widest cell; the last one is never padded."""
    cells = [tuple(headers), *(tuple(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(headers))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    )


def shorten(text: str, width: int) -> str:
    """`text` cut to `width` characters with an ellipsis."""
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"


def fail(error: Exception) -> NoReturn:
    """Print the error as one sentence and end with its exit code; BIOZOO_DEBUG=1 raises it."""
    if os.environ.get("BIOZOO_DEBUG"):
        raise error
    if isinstance(error, BiozooError):
        note(f"zoo: {error}")
        raise typer.Exit(error.exit_code)
    if isinstance(error, OSError):  # of the system: it says itself what cannot be done
        what = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}."
        note(f"zoo: This cannot be done here. {what}")
    else:
        note(
            f"zoo: A fault of biozoo itself: {type(error).__name__}: {error}\n"
            "Please report it with what the same command prints after BIOZOO_DEBUG=1 is set."
        )
    raise typer.Exit(BiozooError.exit_code)


def verb(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors become one sentence and an exit code, never a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
            print(end="", flush=True)
        except typer.Exit:
            raise
        except KeyboardInterrupt as stop:
            kept = " ".join(getattr(stop, "__notes__", ()))
            note(f"\nzoo: stopped; {kept or 'nothing half-written was left behind.'}")
            raise typer.Exit(130) from None
        except BrokenPipeError:
            # The reader (head, less) has gone: silence the flush at exit, as other tools do.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(0) from None
        except Exception as error:
            fail(error)

    return run
