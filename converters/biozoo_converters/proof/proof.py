"""One format against the original: the comparisons, and what became of them.

Plain values; `certificate` documents their layout in a description.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, cast

if TYPE_CHECKING:
    from biozoo_runners.tolerance import Tolerance

__all__ = ["Case", "FormatProof"]

Kind = Literal["real", "random", "batch", "tiled"]


@dataclass(frozen=True)
class Case:
    """One comparison of all outputs; see the module for what its fields mean."""

    shapes: Mapping[str, tuple[int, ...]]
    kind: Kind
    seed: int = 0
    absolute_error: float = 0.0
    relative_error: float = 0.0
    off_per_million: float = 0.0
    ok: bool = True
    fault: str = ""
    draw: str = ""
    scale: float = 1.0
    output: str = ""
    at: Mapping[str, int] = field(default_factory=dict)
    note: str = ""

    @property
    def what(self) -> str:
        """``random input raw 1 x 1 x 64 x 64``."""
        sizes = ", ".join(f"{i} {' x '.join(map(str, s))}" for i, s in self.shapes.items())
        kinds = {"batch": "a batch against single images", "tiled": "tiles of"}
        return f"{kinds.get(self.kind, f'{self.kind} input')} {sizes}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON."""
        made: dict[str, Any] = {
            "shapes": {i: list(s) for i, s in self.shapes.items()},
            "kind": self.kind,
            "ok": self.ok,
        }
        for name in ("absolute_error", "relative_error", "off_per_million"):
            if math.isfinite(value := getattr(self, name)):
                made[name] = rounded(value)
        if self.seed:
            made["seed"] = self.seed
        if self.scale != 1:
            made["scale"] = self.scale
        if self.absolute_error and self.output:
            made |= {"output": self.output, "at": dict(self.at)}
        for name in ("draw", "fault", "note"):
            if value := getattr(self, name):
                made[name] = value
        return made

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Case:
        """What `to_dict` gave."""

        def number(name: str) -> float:
            return float(raw.get(name, math.inf))

        return cls(
            shapes={str(i): tuple(map(int, s)) for i, s in raw["shapes"].items()},
            kind=cast("Kind", str(raw["kind"])),
            seed=int(raw.get("seed", 0)),
            absolute_error=number("absolute_error"),
            relative_error=number("relative_error"),
            off_per_million=number("off_per_million"),
            ok=bool(raw["ok"]),
            fault=str(raw.get("fault", "")),
            draw=str(raw.get("draw", "")),
            scale=float(raw.get("scale", 1.0)),
            output=str(raw.get("output", "")),
            at={str(a): int(n) for a, n in raw.get("at", {}).items()},
            note=str(raw.get("note", "")),
        )


@dataclass(frozen=True)
class FormatProof:
    """How one weights format compares with the original network.

    Attributes
    ----------
    source_sha256
        Of the weights file itself; `files` has it and all others of the format.
    tiled
        The format's tiles against its whole. Not counted in `ok`: a network that needs more
        context than its halo has seams in every format.
    tiled_reference
        Its tiles against the original's tiles; counted.
    description
        What the description allows and the original network does not do, a sentence each.
    """

    weights_format: str
    source_sha256: str
    tolerance: Tolerance
    strategy: str = ""
    optimised: str = ""
    opset: int | None = None
    cases: tuple[Case, ...] = ()
    batch: Case | None = None
    tiled: Case | None = None
    tiled_reference: Case | None = None
    seconds_per_megapixel: float | None = None
    ok: bool = False
    fault: str = ""
    runs_on: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    description: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def counted(self) -> tuple[Case, ...]:
        """The comparisons that decide."""
        return tuple(filter(None, (*self.cases, self.batch, self.tiled_reference)))

    @property
    def seamless(self) -> bool | None:
        """Whether tiles equal the whole; None where that was not asked."""
        return None if self.tiled is None else self.tiled.ok

    @property
    def absolute_error(self) -> float:
        """The largest of all counted comparisons."""
        return max((c.absolute_error for c in self.counted), default=0.0)

    @property
    def relative_error(self) -> float:
        """The largest of all counted comparisons."""
        return max((c.relative_error for c in self.counted), default=0.0)

    @property
    def off_per_million(self) -> float:
        """The largest of all counted comparisons."""
        return max((c.off_per_million for c in self.counted), default=0.0)

    def __str__(self) -> str:
        made = ", ".join(filter(None, (self.strategy, self.optimised)))
        head = f"{self.weights_format}{f' ({made})' if made else ''}"
        if not self.ok:
            return f"{head}: NOT proven: {self.fault}"
        return (
            f"{head}: agrees in {len(self.cases)} cases, largest error "
            f"{self.absolute_error:.2g} absolute, {self.relative_error:.2g} relative, "
            f"{self.off_per_million:.0f} per million off ({self.tolerance.per_million:.0f} allowed)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for YAML and JSON; see the module."""
        worst = {
            name: rounded(value)
            for name in ("absolute_error", "relative_error", "off_per_million")
            if math.isfinite(value := getattr(self, name))
        }
        made: dict[str, Any] = {"weights_format": self.weights_format, "ok": self.ok}
        for name in ("fault", "runs_on", "files", "strategy", "optimised", "opset"):
            if value := getattr(self, name):
                made[name] = dict(value) if name == "files" else value
        if self.seconds_per_megapixel is not None:
            made["seconds_per_megapixel"] = self.seconds_per_megapixel
        made["tolerance"] = {
            "relative": self.tolerance.relative,
            "absolute": self.tolerance.absolute,
            "per_million": self.tolerance.per_million,
        }
        made["worst"] = worst
        made["cases"] = [c.to_dict() for c in self.cases]
        for name in ("batch", "tiled", "tiled_reference"):
            if (case := getattr(self, name)) is not None:
                made[name] = case.to_dict()
        for name in ("description", "notes"):
            if value := getattr(self, name):
                made[name] = list(value)
        return made

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> FormatProof:
        """What `to_dict` gave."""
        from biozoo_runners.tolerance import Tolerance

        def case(name: str) -> Case | None:
            return Case.from_dict(raw[name]) if raw.get(name) else None

        files = {str(n): str(s) for n, s in raw.get("files", {}).items()}
        seconds = raw.get("seconds_per_megapixel")
        return cls(
            weights_format=str(raw["weights_format"]),
            source_sha256=next(iter(files.values()), ""),
            tolerance=Tolerance(**{str(k): float(v) for k, v in raw["tolerance"].items()}),
            strategy=str(raw.get("strategy", "")),
            optimised=str(raw.get("optimised", "")),
            opset=int(raw["opset"]) if raw.get("opset") else None,
            cases=tuple(map(Case.from_dict, raw.get("cases", ()))),
            batch=case("batch"),
            tiled=case("tiled"),
            tiled_reference=case("tiled_reference"),
            seconds_per_megapixel=None if seconds is None else float(seconds),
            ok=bool(raw["ok"]),
            fault=str(raw.get("fault", "")),
            runs_on=str(raw.get("runs_on", "")),
            files=files,
            description=tuple(map(str, raw.get("description", ()))),
            notes=tuple(map(str, raw.get("notes", ()))),
        )


def rounded(value: float) -> float:
    """Two significant digits: more would differ from run to run on one machine."""
    return float(f"{value:.1e}")
