"""What is needed to go on: written beside and renamed, so that it is whole or the one before."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from biozoo.errors import StorageError, UsageError

from .options import Epoch

__all__ = ["NAME", "State", "read", "write"]

NAME = "checkpoint.pt"


@dataclass
class State:
    """A training between two steps.

    Attributes
    ----------
    identity
        Of `plan.identity`.
    step, seconds
        Done so far.
    module, average, optimiser
        Their states.
    best
        Step, score and averaged values of the best epoch, or None.
    pivot
        What images are subtracted from before the network sees them; None: they stay as they are.
    sums, count
        Losses of the epoch at work, added up, and how many steps.
    """

    identity: Mapping[str, str]
    step: int
    seconds: float
    batch: int
    size: Mapping[str, int]
    module: Mapping[str, Any]
    average: Mapping[str, Any]
    optimiser: Mapping[str, Any]
    best: Mapping[str, Any] | None
    history: tuple[Epoch, ...]
    notes: tuple[str, ...]
    pivot: float | None
    sums: Mapping[str, float]
    count: int
    outcome: str = ""


def write(folder: Path, state: State) -> Path:
    """Keep a state in a folder.

    Raises
    ------
    StorageError
        It cannot be written.
    """
    path = folder / NAME
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    values = {k: getattr(state, k) for k in State.__dataclass_fields__}
    values["history"] = [asdict(e) for e in state.history]
    values["notes"] = list(state.notes)
    try:
        with beside.open("wb") as file:
            torch.save(values, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except (OSError, RuntimeError) as exc:  # torch's own writer raises the latter on a full disk
        beside.unlink(missing_ok=True)
        why = str(exc) if isinstance(exc, OSError) else "it could not be written to its end"
        raise StorageError(path=path, why=why, hint="Free space, or another folder.") from exc
    return path


def read(folder: Path, identity: Mapping[str, str]) -> State | None:
    """The state that a folder holds, None where it holds none.

    Raises
    ------
    UsageError
        It is of another training, or damaged.
    """
    path = folder / NAME
    if not path.is_file():
        return None
    try:
        values = torch.load(path, weights_only=True, map_location="cpu")
        values["history"] = tuple(Epoch(**e) for e in values["history"])
        values["notes"] = tuple(values["notes"])
        state = State(**values)
    except Exception as exc:  # whatever torch raises for a file that is none of ours
        raise UsageError(
            f"The checkpoint {path} cannot be read ({type(exc).__name__}). Remove it and train "
            "from the beginning."
        ) from exc
    differ = [part for part, value in identity.items() if state.identity.get(part) != value]
    if differ:
        raise UsageError(
            f"The checkpoint {path} is of another training: {', '.join(differ)} differ. Give what "
            "it was started with, or train from the beginning (without --resume)."
        )
    return state
