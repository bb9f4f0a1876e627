"""Attempts in order, and the first that is proven: no weights are kept on an exporter's word.

entry, proof = first_proven(draft, "onnx", onnx_attempts(network, request), reference)
entry, proof = optimised(draft, "onnx", entry, proof, reference)         # see `optimise`
draft.raw["weights"]["onnx"] = entry
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from biozoo.errors import (
    BiozooError,
    Cancelled,
    ConversionError,
    MissingDependencyError,
    OutOfMemoryError,
    StorageError,
    UntrustedCodeError,
)

from ..networks.network import Progress, Reference
from .base import Attempt
from .drafts import RDF

if TYPE_CHECKING:
    from ..proof.certificate import FormatProof
    from .drafts import Draft

__all__ = ["Files", "first_proven", "trial"]

#: What no other strategy would change.
_FINAL = (Cancelled, MissingDependencyError, OutOfMemoryError, StorageError, UntrustedCodeError)

#: So many reasons are told why weights may be wrong.
_DOUBTS = 3


def first_proven(
    draft: Draft,
    weights_format: str,
    attempts: Iterable[Attempt],
    reference: Reference,
    *,
    real: Mapping[str, npt.NDArray[Any]] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], FormatProof]:
    """The weights of the first attempt whose results agree with the original's.

    Parameters
    ----------
    draft
        The package in the making. The winner's files stay in its folder, those of the others are
        removed; its description is not changed.
    weights_format
        What the attempts make, as bioimageio.spec calls it.
    attempts
        Best first; the next one is asked for only when the one before it failed.
    reference
        What the results have to agree with; one made by `prove.remembered` runs once per input.
    real
        Per input tensor id an array as the network takes it, of a real image.
    progress
        Called with (what is being done, done, total or None).

    Returns
    -------
    dict, FormatProof
        The entry for ``weights``, and the proof that it is right.

    Raises
    ------
    ConversionError
        No attempt is proven; says of each why.
    UntrustedCodeError, MissingDependencyError, OutOfMemoryError, StorageError
        What stands in the way of every attempt.
    """
    from ..proof.prove import prove

    tried: dict[str, str] = {}
    for number, attempt in enumerate(_asked(attempts, tried)):
        if progress is not None:
            progress(f"{weights_format}: {_name(attempt)}", number, None)
        with trial(draft.root) as files:
            try:
                entry = attempt.make(files.folder)
            except _FINAL:
                raise
            except Exception as exc:
                tried[_unused(_name(attempt), tried)] = _told(exc)
                continue
            files.place()
            proof = prove(
                draft.with_weights(weights_format, entry),
                reference,
                weights_format,
                real=real,
                strategy=attempt.strategy,
                optimised=attempt.optimised,
                progress=progress,
            )
            if proof.ok:
                files.keep()
                return entry, proof
            why = [(proof.fault or str(proof)).rstrip("."), *list(attempt.doubts())[:_DOUBTS]]
            tried[_unused(_name(attempt), tried)] = ". ".join(why)
    raise ConversionError(
        what=f"Model '{draft.raw.get('name') or draft.root.name}'",
        target=weights_format,
        tried=tried or {"every way": "there is none for these weights"},
        hint="Nothing was added: weights that do not agree with the original are not kept.",
    )


@dataclass
class Files:
    """What one attempt wrote: first in a folder of its own, then in its place."""

    root: Path
    folder: Path
    kept: bool = False
    placed: list[str] = field(default_factory=list)
    replaced: dict[str, bytes] = field(default_factory=dict)

    def place(self) -> None:
        """Move every file to its place in the package."""
        for path in sorted(p for p in self.folder.rglob("*") if p.is_file()):
            name = path.relative_to(self.folder).as_posix()
            target = self.root / name
            if target.exists():
                self.replaced[name] = target.read_bytes()
            target.parent.mkdir(parents=True, exist_ok=True)
            self.placed.append(name)
            path.replace(target)

    def keep(self) -> None:
        """Let them stay."""
        self.kept = True

    def undo(self) -> None:
        """The package as it was."""
        for name in self.placed:
            (self.root / name).unlink(missing_ok=True)
        for name, content in self.replaced.items():
            (self.root / name).write_bytes(content)


@contextlib.contextmanager
def trial(root: Path) -> Iterator[Files]:
    """A folder for the files of one attempt; what `place` moved goes again, unless `keep`."""
    described = root / RDF
    before = described.read_bytes() if described.exists() else None
    files = Files(root, Path(tempfile.mkdtemp(prefix=".attempt-", dir=root)))
    try:
        yield files
    finally:
        shutil.rmtree(files.folder, ignore_errors=True)
        if not files.kept:
            files.undo()
        if before is not None:
            described.write_bytes(before)
        else:
            described.unlink(missing_ok=True)


def _asked(attempts: Iterable[Attempt], tried: dict[str, str]) -> Iterator[Attempt]:
    """The attempts; where the source itself cannot be had, that is the fault of the rest."""
    try:
        yield from attempts
    except _FINAL:
        raise
    except Exception as exc:
        tried["the original" if not tried else "further ways"] = _told(exc)


def _name(attempt: Attempt) -> str:
    return f"{attempt.strategy} + {attempt.optimised}" if attempt.optimised else attempt.strategy


def _unused(name: str, taken: Mapping[str, str]) -> str:
    """A key that overwrites nobody's fault."""
    numbered = (f"{name} ({n})" for n in range(2, len(taken) + 3))
    return name if name not in taken else next(n for n in numbered if n not in taken)


def _told(error: Exception) -> str:
    """The fault of an attempt, in one line: a framework's name is worth telling."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = (lines[0] if lines else "")[:600]
    return text if isinstance(error, BiozooError) else f"{type(error).__name__}: {text}"
