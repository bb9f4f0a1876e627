"""Seconds per megapixel of several ways to compute the same, measured side by side.

The calls take turns, so that a machine that is busy for a while is so for all of them, and the
median of each counts. What was measured once on a machine for these weights and these versions is
kept below the zoo's cache: packing the same model again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from biozoo.errors import BiozooError
from biozoo.files import write_atomic

__all__ = ["interleaved", "kept", "machine_name", "versions"]

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


def kept(key: Mapping[str, Any], measure: Callable[[], Mapping[str, float]]) -> dict[str, float]:
    """What `measure` gave the first time that it was asked for with this key on this machine.

    Parameters
    ----------
    key
        Plain values that say what is measured: hashes of weights, sizes. Machine and versions are
        added.
    """
    from biozoo import Settings

    facts = {**key, "machine": machine_name(), "versions": versions()}
    text = json.dumps(facts, sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:40]
    path = Settings.from_env().cache / "timings" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        found = json.loads(path.read_bytes())
        if found["of"] == facts:
            return {str(k): float(v) for k, v in found["seconds"].items()}
    made = dict(measure())
    with suppress(BiozooError, OSError):  # a zoo that cannot be written to: measured each time
        write_atomic(path, json.dumps({"of": facts, "seconds": made}, sort_keys=True).encode())
    return made


def machine_name() -> str:
    """Processor, usable cores and system: what a speed belongs to."""
    from biozoo_runners.devices import usable_cores

    logical, physical = usable_cores()
    return f"{_processor()}, {physical} of {logical} cores, {platform.system()}"


def versions() -> dict[str, str]:
    """Python and the libraries that may have taken part, as installed; nothing is imported."""
    from biozoo_runners.devices import installed

    return {"python": platform.python_version(), **installed(_LIBRARIES)}


def _processor() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
