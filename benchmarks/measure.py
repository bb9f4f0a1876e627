"""Timing helpers: medians of several runs, both sides taken in turn within one process.

Machines drift (clocks, other work), so a ratio is taken pair by pair, A B A B ..., and its median
is what is reported. Absolute seconds are printed beside it and mean little elsewhere.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Median seconds of both sides and the median of the pairwise ratios A / B."""

    a: float
    b: float
    ratio: float


def seconds(run: Callable[[], object]) -> float:
    """Wall seconds of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def compare(a: Callable[[], object], b: Callable[[], object], *, runs: int) -> Ratio:
    """Time `a` and `b` in turn `runs` times, after one uncounted round of each."""
    a()
    b()
    pairs = [(seconds(a), seconds(b)) for _ in range(runs)]
    return Ratio(
        a=statistics.median(p[0] for p in pairs),
        b=statistics.median(p[1] for p in pairs),
        ratio=statistics.median(p[0] / p[1] for p in pairs),
    )


def median_seconds(run: Callable[[], object], *, runs: int) -> float:
    """Median wall seconds of `runs` calls, after one uncounted call."""
    run()
    return statistics.median(seconds(run) for _ in range(runs))


def command(arguments: Sequence[str], *, env: dict[str, str] | None = None) -> Callable[[], None]:
    """A whole process as something to time; its failure is an error with what it said last."""

    def run() -> None:
        done = subprocess.run(arguments, capture_output=True, text=True, env=env)
        if done.returncode:
            raise SystemExit(f"{' '.join(arguments)} failed:\n{done.stderr[-2000:]}")

    return run
