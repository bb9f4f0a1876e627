"""What a check for seams found, in words and as plain values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from .differences import ObjectSeams, OutputSeams

if TYPE_CHECKING:
    from biozoo_runners.contexts import KnownContext

__all__ = ["Cause", "SeamReport", "TiledRun"]

Cause = Literal["none", "whole image", "halo", "strides", "unknown"]


@dataclass(frozen=True)
class TiledRun:
    """The part in one way of laying tiles.

    Attributes
    ----------
    halo
        Per axis id, pixels of the input around each tile.
    measured
        Whether that is the measured one, in place of none.
    """

    plan: str
    halo: Mapping[str, int]
    measured: bool
    outputs: tuple[OutputSeams, ...]
    objects: tuple[ObjectSeams, ...]

    @property
    def ok(self) -> bool:
        """Whether tiles give what the whole gives."""
        return all(o.ok for o in self.outputs) and all(o.ok for o in self.objects)

    def lines(self) -> Iterator[str]:
        """For people."""
        with_ = " with the measured halo" if self.measured else ""
        yield f"in tiles{with_}: {self.plan}"
        for found in (*self.outputs, *self.objects):
            yield f"  {found}"


@dataclass(frozen=True)
class SeamReport:
    """Do tiles give what the whole gives, and if not, why not?

    Attributes
    ----------
    part
        Which pixels of the image were run, first and the one after the last per axis id.
    against
        What the tiles were compared with.
    runs
        As declared first; where a package declares no halo and one was measured, with that one too.
    declared
        Halo of the description in pixels of the input, per axis id; 0: none.
    context
        What was measured of the network; None where it cannot be.
    measured_how
        When it was measured, or why it cannot be.
    cause
        Why tiles differ: the network looks at the "whole image", the "halo" is too small, tiles do
        not lie whole "strides" apart, "unknown"; "none" where they do not.
    operators
        What in the network looks at the whole image, as seen in its files.
    verdict, todo
        The same in words.
    """

    model: str
    image: str
    part: Mapping[str, tuple[int, int]]
    against: str
    runs: tuple[TiledRun, ...]
    declared: Mapping[str, int]
    context: KnownContext | None
    measured_how: str
    cause: Cause
    operators: tuple[str, ...]
    verdict: str
    todo: str
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether tiles give what the whole gives, laid as a run lays them from now on."""
        return self.runs[-1].ok

    @property
    def exit_code(self) -> int:
        """0 no seams, 1 seams."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"ok": self.ok}
        for made, run in zip(values["runs"], self.runs, strict=True):
            made["ok"] = run.ok
            for found, one in zip(made["outputs"], run.outputs, strict=True):
                found["ok"] = one.ok
            for found, labels in zip(made["objects"], run.objects, strict=True):
                found |= {"ok": labels.ok, "other": labels.other}
        return values

    def __str__(self) -> str:
        lines = [f"{self.model} on {self.image}: {self.verdict}"]
        where = ", ".join(f"{a} {first} to {last}" for a, (first, last) in self.part.items())
        lines.append(f"  compared: {where}, with {self.against}")
        for run in self.runs:
            lines += [f"  {line}" for line in run.lines()]
        lines.append(f"  declared halo: {_sizes(self.declared) or 'none'}")
        lines.append(f"  measured context: {self._context()} ({self.measured_how})")
        if self.operators:
            lines.append(f"  looks at all pixels: {', '.join(self.operators)}")
        lines += [f"  note: {n}" for n in self.notes]
        lines += [f"  -> {self.todo}"] if self.todo else []
        return "\n".join(lines)

    def _context(self) -> str:
        if self.context is None:
            return "not known"
        if not self.context.local:
            return "without end"
        strides = _sizes({a: n for a, n in self.context.unit.items() if n > 1})
        halo = _sizes(self.context.halo) or "none, each pixel by itself"
        return f"{halo}{f'; strides {strides}' if strides else ''}"


def _sizes(by_axis: Mapping[str, int]) -> str:
    """``y 32, x 32 pixels``; axes without are left out."""
    some = ", ".join(f"{a} {n}" for a, n in by_axis.items() if n)
    return f"{some} pixels" if some else ""
