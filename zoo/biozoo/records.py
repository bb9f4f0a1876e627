"""What biozoo notes of a package it keeps, and the report of checking files against it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import InvalidPackageError
from .summary import ModelSummary
from .trust import Trust

__all__ = ["RECORD", "FileRecord", "Origin", "Problem", "Record", "VerifyReport"]

Origin = Literal["built-in", "installed", "folder", "zip", "url", "collection"]

#: Name of the record in a package folder that biozoo keeps.
RECORD = ".biozoo.json"


@dataclass(frozen=True)
class FileRecord:
    """Size in bytes and sha256 of a file as it was when it entered."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Record:
    """What biozoo noted of a package when it took it in.

    Attributes
    ----------
    rdf
        Name of the description in the folder.
    origin, source
        Where it came from: "zip" and its path, "collection" and its id, ...
    added
        Date and time, ISO 8601, UTC.
    biozoo
        Version of biozoo that took it in.
    files
        Every file of the package by its relative path.
    links
        Sources of the description that are URLs -> the relative path they were downloaded to.
    """

    id: str
    version: str
    rdf: str
    origin: Origin
    source: str
    added: str
    biozoo: str
    trust: Trust
    summary: ModelSummary
    files: dict[str, FileRecord] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> bytes:
        """As it stands in its file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False).encode()

    @classmethod
    def read(cls, folder: Path) -> Record:
        """The record of a package folder.

        Raises
        ------
        InvalidPackageError
            Where it is missing or damaged.
        """
        try:
            values = json.loads((folder / RECORD).read_bytes())
            values["summary"] = ModelSummary.from_dict(values["summary"])
            values["files"] = {k: FileRecord(**v) for k, v in values["files"].items()}
            return cls(**{k: v for k, v in values.items() if k in cls.__dataclass_fields__})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as exc:
            raise InvalidPackageError(
                source=folder,
                why=f"its record {RECORD} cannot be read ({exc}).",
                hint="Remove the model and add it again.",
            ) from exc


@dataclass(frozen=True)
class Problem:
    """One file that is not as it should be.

    Attributes
    ----------
    package
        "id version".
    file
        Relative path.
    what
        "changed", "missing", "extra" or "unreadable".
    expected, got
        sha256, where there is one.
    """

    package: str
    file: str
    what: Literal["changed", "missing", "extra", "unreadable"]
    expected: str = ""
    got: str = ""

    def __str__(self) -> str:
        told = {
            "changed": f"is changed: sha256 {self.got[:16]}..., expected {self.expected[:16]}...",
            "missing": "is missing",
            "extra": "was not there when the package was added",
            "unreadable": f"cannot be read ({self.got})",
        }
        return f"{self.package}: {self.file} {told[self.what]}"


@dataclass(frozen=True)
class VerifyReport:
    """Every file of one or more packages against its hash.

    Attributes
    ----------
    packages
        "id version" of each package looked at.
    files
        How many files were hashed.
    problems
        Empty where all is well.
    """

    packages: tuple[str, ...]
    files: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether every file is what it was."""
        return not self.problems

    def __str__(self) -> str:
        counted = f"{len(self.packages)} model(s), {self.files} files"
        if self.ok:
            return f"{counted}: all as they were."
        todo = "Remove the model and add it again: zoo remove MODEL, zoo add SOURCE."
        return "\n".join(
            [f"{counted}: {len(self.problems)} problem(s)", *map(str, self.problems), todo]
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"ok": self.ok, **asdict(self)}

    @classmethod
    def joined(cls, reports: list[VerifyReport]) -> VerifyReport:
        """One report of many."""
        return cls(
            tuple(p for r in reports for p in r.packages),
            sum(r.files for r in reports),
            tuple(p for r in reports for p in r.problems),
        )
