"""What was proven of a package on this machine, kept below the zoo's home.

A file is named by all that the choice depends on: the digest of what the model loads, the machine
and the versions of its libraries, and what was asked for. So a choice is never that of other
weights or another processor, and an update of a library asks for a new proof.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError

from ..timing import machine_name, versions
from ..tolerance import Tolerance

if TYPE_CHECKING:
    from ..devices import Machine

__all__ = ["Remembered", "facts_of", "recall", "remember"]

#: Of the file: another way of proving makes it another number.
VERSION = 1


@dataclass(frozen=True)
class Remembered:
    """A choice and what it rests on.

    Attributes
    ----------
    choice
        `Candidate.key` of what was taken, None for the reference.
    allowed
        Per output, how far a candidate may be from the reference.
    evidence
        In words: the proofs of all candidates.
    seconds
        Of one tile, as a part of the reference's, by candidate; empty where nothing was timed.
    """

    choice: str | None
    allowed: Mapping[str, Tolerance]
    evidence: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)


def facts_of(
    digest: str, machine: Machine, device: str, threads: int, asked: Mapping[str, Any]
) -> dict[str, Any]:
    """What a choice belongs to.

    Parameters
    ----------
    digest
        `kept_tiles.model_digest` of the package.
    device
        Where the reference runs.
    asked
        Plain values: the wishes that a choice depends on.
    """
    cards = [card.name for card in machine.cuda] if device != "cpu" else []
    return {
        "model": digest,
        "machine": machine_name(),
        "cards": cards,
        "device": device,
        "threads": threads,
        "versions": versions(),
        "asked": dict(asked),
    }


def recall(facts: Mapping[str, Any]) -> Remembered | None:
    """What was kept under these facts; None where nothing was, or it cannot be read."""
    try:
        found = json.loads(_path(facts).read_bytes())
        if found["version"] != VERSION or found["of"] != facts:
            return None
        return Remembered(
            choice=found["choice"],
            allowed={str(o): Tolerance(**t) for o, t in found["allowed"].items()},
            evidence=tuple(map(str, found["evidence"])),
            seconds={str(k): float(v) for k, v in found["seconds"].items()},
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def remember(facts: Mapping[str, Any], known: Remembered) -> None:
    """Keep a choice; a home that cannot be written to is no reason not to run."""
    from biozoo.files import write_atomic

    kept = {"version": VERSION, "of": facts, **asdict(known)}
    with suppress(BiozooError, OSError):
        write_atomic(_path(facts), json.dumps(kept, indent=1).encode())


def _path(facts: Mapping[str, Any]) -> Path:
    from biozoo import Settings

    name = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:40]
    return Settings.from_env().home / "precisions" / f"{name}.json"
