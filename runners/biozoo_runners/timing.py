"""Calls timed side by side, and what names the machine that their times belong to.

The calls take turns, so that a machine that is busy for a while is so for all of them, and the
median of each counts.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

__all__ = ["interleaved", "machine_name", "versions"]

WARM_UP = 1
ROUNDS = 7
#: Rounds end early after so many seconds, but not before the third.
PATIENCE = 20.0

#: What may have taken part in making or comparing weights.
_LIBRARIES = (
    "biozoo", "numpy", "torch", "onnx", "onnxruntime", "onnxruntime-gpu", "onnxscript", "onnxslim",
    "onnxconverter-common", "openvino", "keras", "tensorflow-cpu", "tensorflow", "tf2onnx",
)  # fmt: skip


def interleaved(
    calls: Mapping[str, Callable[[], object]],
    *,
    rounds: int = ROUNDS,
    patience: float = PATIENCE,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, float]:
    """Median seconds of each call; they take turns, each once before anything counts.

    Parameters
    ----------
    rounds
        At most; at least three.
    patience
        Seconds after which no further round begins.
    """
    for call in calls.values():
        for _ in range(WARM_UP):
            call()
    spent: dict[str, list[float]] = {name: [] for name in calls}
    begin = clock()
    for done in range(max(rounds, 3)):
        if done >= 3 and clock() - begin > patience:
            break
        for name, call in calls.items():
            start = clock()
            call()
            spent[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in spent.items()}


def machine_name() -> str:
    """Processor, usable cores and system: what a speed belongs to."""
    from .devices import usable_cores

    logical, physical = usable_cores()
    return f"{_processor()}, {physical} of {logical} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Python and the libraries that may have taken part, as installed; nothing is imported."""
    from .devices import installed

    return {"python": platform.python_version(), **installed(_LIBRARIES)}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
