"""The child's main program: confine, load one executor, answer calls until the parent hangs up.

Started by path as ``python -I -B worker.py SETTINGS`` (JSON). The pipes it was given as standard
input and output are moved to private descriptors first, so that what foreign code prints or reads
cannot disturb the messages. Until it is confined it imports nothing that starts a thread: the
confinement holds for the calling thread and what it starts.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any


def main(settings: dict[str, Any]) -> None:
    """Serve the parent; returns when it hangs up."""
    inbox, outbox = _private_pipes()
    _find_packages(settings["roots"], settings["user_site"])
    from biozoo_runners.isolated.confine import confine
    from biozoo_runners.isolated.wire import read_message, write_message

    hello = read_message(inbox)
    if hello is None:
        return
    missing = confine(
        scratch=Path(settings["scratch"]),
        readable=[Path(p) for p in hello["readable"]],
        private=[Path(p) for p in hello["private"]],
        device=hello["device"],
        parent=settings["parent"],
    )
    write_message(outbox, {"unprotected": missing})

    from biozoo_runners.isolated.arrays import Mapped

    try:
        given, made = (Mapped(_open(r)) for r in settings["regions"])
        executor = _load(hello["executor"], hello["facts"], Path(settings["scratch"]))
        ready = {"facts": executor.describe(), **_usage(executor)}
        write_message(outbox, ready)
    except BaseException as exc:  # SystemExit of foreign code too: the parent is told
        write_message(outbox, _fault(exc))
        return
    while (call := read_message(inbox)) is not None:
        try:
            if "free" in call:
                _free(executor, given, made)
                write_message(outbox, {})
                continue
            answer = {"arrays": made.put(executor.run(given.views(call["arrays"])))}
        except BaseException as exc:
            answer = _fault(exc)
        write_message(outbox, {**answer, **_usage(executor)})


def _private_pipes() -> tuple[int, int]:
    """Standard input and output moved away; the new ones are empty and the log."""
    inbox, outbox = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    if sys.platform == "win32":
        import msvcrt

        for fd in (inbox, outbox):
            msvcrt.setmode(fd, os.O_BINARY)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    return inbox, outbox


def _find_packages(roots: list[str], user_site: str | None) -> None:
    """Make importable what the parent has installed, and nothing else."""
    if user_site is not None:
        import site

        site.addsitedir(user_site)
    sys.path += [root for root in roots if root not in sys.path]


def _open(region: int | str) -> int:
    if isinstance(region, int):
        return region
    return os.open(region, os.O_RDWR | getattr(os, "O_BINARY", 0))


def _load(executor: str, facts: dict[str, Any], scratch: Path) -> Any:
    from importlib import import_module

    module, _, name = executor.partition(":")
    return getattr(import_module(module), name)(facts, scratch)


def _free(executor: Any, *regions: Any) -> None:
    for region in regions:
        region.forget()
    if hasattr(executor, "free_cached"):
        executor.free_cached()


def _usage(executor: Any) -> dict[str, Any]:
    """Most bytes taken so far, by the process and on its graphics card."""
    on_card = getattr(executor, "peak_device_memory", None)
    return {"peak": _peak(), "device_peak": on_card() if on_card else None}


def _peak() -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as file:
            for line in file:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _fault(exc: BaseException) -> dict[str, Any]:
    """An exception as plain values, cut to what a person would read."""
    try:
        text = str(exc)
    except Exception:
        text = "(its text cannot be made)"
    # Source that was handed over has a relative name: that is where its author should look.
    frames = traceback.extract_tb(exc.__traceback__)
    own = [f for f in frames if not f.filename.startswith("<") and not os.path.isabs(f.filename)]
    where = f"{own[-1].filename}, line {own[-1].lineno}, in {own[-1].name}" if own else ""
    trace = "".join(traceback.format_exception(exc))
    fault = {"kind": type(exc).__name__, "message": text[:4000], "where": where}
    return {"error": {**fault, "trace": trace[-4000:]}}


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
