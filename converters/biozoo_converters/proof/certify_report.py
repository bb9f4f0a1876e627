"""What a repeated certificate says: rows of comparisons per weights format, and a verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from .certificate import Certificate
from .proof import Case

__all__ = ["CertifyReport", "Check", "FormatReport", "check_of"]


@dataclass(frozen=True)
class Check:
    """One kind of comparison of one format.

    `counts` False: measured for information, as seams of a network that declares no halo.
    """

    what: str
    cases: int
    ok: bool
    absolute_error: float = 0.0
    relative_error: float = 0.0
    off_per_million: float = 0.0
    allowed: float = 100.0
    fault: str = ""
    counts: bool = True

    @property
    def verdict(self) -> str:
        """In a word."""
        if self.ok:
            return "holds"
        return "DOES NOT HOLD" if self.counts else "differs"


@dataclass(frozen=True)
class FormatReport:
    """One weights format: its comparisons here; `fault` says why there are none or they are void.

    `broken`: the fault is the package's, not this machine's.
    """

    weights_format: str
    runs_on: str = ""
    checks: tuple[Check, ...] = ()
    fault: str = ""
    broken: bool = False
    seconds_per_megapixel: float | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing that counts speaks against it."""
        return not self.broken and all(c.ok for c in self.checks if c.counts)

    @property
    def tried(self) -> bool:
        """Whether it ran here."""
        return bool(self.checks)


@dataclass(frozen=True)
class CertifyReport:
    """A certificate repeated here.

    Attributes
    ----------
    certificate
        What the package carries; None where it carries none.
    compared_with
        What stands for the original: "the original's values ...", "net.py:Net", "".
    faults
        Against the package as a whole: a changed attachment, sizes that the original refuses.
    """

    model: str
    version: str | None
    certificate: Certificate | None
    compared_with: str
    formats: tuple[FormatReport, ...]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether something was compared, and all of it holds."""
        tried = [f for f in self.formats if f.tried or f.broken]
        return bool(tried) and all(f.ok for f in tried) and not self.faults

    @property
    def exit_code(self) -> int:
        """0 all holds, 1 something does not."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; an error that is no finite number is null."""
        plain = asdict(self)
        plain["certificate"] = None if self.certificate is None else self.certificate.to_dict()
        plain["ok"] = self.ok
        plain["versions"] = dict(self.versions)
        for made, given in zip(plain["formats"], self.formats, strict=True):
            made["ok"] = given.ok
            for row, check in zip(made["checks"], given.checks, strict=True):
                for name in ("absolute_error", "relative_error"):
                    row[name] = value if math.isfinite(value := getattr(check, name)) else None
        return plain

    def rows(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        """Headers and cells of the table."""
        headers = (
            "FORMAT", "RUNS ON", "COMPARED", "CASES", "LARGEST ERROR", "RELATIVE", "PER MILLION",
            "ALLOWED", "S/MP", "VERDICT",
        )  # fmt: skip
        cells: list[tuple[str, ...]] = []
        for f in self.formats:
            speed = "" if f.seconds_per_megapixel is None else f"{f.seconds_per_megapixel:.3g}"
            for n, c in enumerate(f.checks):
                first = n == 0
                cells.append(
                    (
                        f.weights_format if first else "",
                        f.runs_on if first else "",
                        c.what,
                        str(c.cases),
                        f"{c.absolute_error:.2g}",
                        f"{c.relative_error:.2g}",
                        f"{c.off_per_million:.0f}",
                        f"{c.allowed:.0f}",
                        speed if first else "",
                        c.verdict,
                    )
                )
        return headers, cells

    @property
    def headline(self) -> str:
        """The verdict in one sentence."""
        name = f"{self.model}{f' {self.version}' if self.version else ''}"
        if not self.ok:
            return f"{name}: NOT certified"
        if self.certificate is not None or self.compared_with:
            return f"{name}: the certificate holds here"
        return f"{name}: what could be compared agrees; nothing proves it against an original"

    def lines(self) -> Sequence[str]:
        """What stands below the table: faults, then notes."""
        told = [f"{f.weights_format}: {f.fault}" for f in self.formats if f.fault]
        told += [
            f"{f.weights_format}, {c.what}: {c.fault}"
            for f in self.formats
            for c in f.checks
            if c.fault
        ]
        return (*self.faults, *told)


def check_of(what: str, cases: Sequence[Case], allowed: float, *, counts: bool = True) -> Check:
    """One row from several cases; the fault is that of the first that differs."""
    wrong = [c for c in cases if not c.ok]
    fault = f"{wrong[0].what}: {wrong[0].fault}" if wrong else ""
    if len(wrong) > 1:
        fault = f"{len(wrong)} of {len(cases)} cases differ, the first with {fault}"
    return Check(
        what,
        len(cases),
        not wrong,
        max((c.absolute_error for c in cases), default=0.0),
        max((c.relative_error for c in cases), default=0.0),
        max((c.off_per_million for c in cases), default=0.0),
        allowed,
        fault,
        counts,
    )
