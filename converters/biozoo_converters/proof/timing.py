"""Seconds per megapixel of several ways to compute the same, measured side by side.

See `biozoo_runners.timing` for how. What was measured once on a machine for these weights and these
versions is kept below the zoo's cache: packing the same model again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from biozoo.errors import BiozooError
from biozoo.files import write_atomic
from biozoo_runners.timing import interleaved, machine_name, versions

__all__ = ["interleaved", "kept", "machine_name", "versions"]


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
