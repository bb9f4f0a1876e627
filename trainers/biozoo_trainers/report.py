"""What a retraining tells: from what, on what, what came of it, and whether it may stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biozoo.files import size_text

from .gate import GateReport, Measured

if TYPE_CHECKING:
    from biozoo_converters.packing.packed import PackReport

    from .recipe import Recipe
    from .training import Epoch

__all__ = ["RetrainReport", "duration"]


@dataclass(frozen=True)
class RetrainReport:
    """One retraining.

    Attributes
    ----------
    model
        The parent, with its version.
    recipe, reasons, declared
        How it was trained; why so, a sentence per guess; whether the package says so itself.
    images, held_out
        Names of the images that were learned from, and of those that both were measured on.
    gate
        The verdict.
    package
        The new package; None where the gate refused or none was asked for.
    outcome
        "done", or "early" where the score had become worse.
    steps
        Training steps.
    seconds
        By stage: "network", "parent", "training", "child", "packing", and "total".
    history
        The curves: one point per epoch.
    share
        Part of the trained weights in the child, the parent's being the rest; 1 is unmixed.
    device
        Where it was trained.
    channel
        The channel that was asked for, "" where none.
    notes
        What a person should know.
    """

    model: str
    recipe: Recipe
    reasons: tuple[str, ...]
    declared: bool
    images: tuple[str, ...]
    held_out: tuple[str, ...]
    gate: GateReport
    package: PackReport | None
    outcome: str
    steps: int
    seconds: Mapping[str, float]
    history: tuple[Epoch, ...] = ()
    share: float = 1.0
    device: str = "cpu"
    channel: str = ""
    notes: tuple[str, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether the child may take the parent's place."""
        return self.gate.passed

    @property
    def exit_code(self) -> int:
        """0 it passed, 1 it did not."""
        return 0 if self.passed else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "passed": self.passed,
            "why": self.gate.why,
            "package": None if self.package is None else self.package.to_dict(),
            "images": list(self.images),
            "held_out": list(self.held_out),
            "gate": self.gate.to_dict(),
            "recipe": self.recipe.plain(),
            "reasons": list(self.reasons),
            "declared": self.declared,
            "outcome": self.outcome,
            "steps": self.steps,
            "seconds": dict(self.seconds),
            "history": [dict(vars(e)) for e in self.history],
            "share": self.share,
            "device": self.device,
            "channel": self.channel,
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        many = len(self.images)
        lines = [
            f"{self.model}: {self.steps} steps on {many} image{'' if many == 1 else 's'} in "
            f"{duration(self.seconds['training'])} ({self.device}), "
            f"{duration(self.seconds['total'])} in all",
            *score_lines(self.gate),
            f"{'passed' if self.passed else 'REFUSED'}: {self.gate.why}",
        ]
        if self.package is not None:
            made = self.package
            choice = f" --channel {self.channel}" if self.channel else ""
            lines += [
                f"{made.target}  {size_text(made.size)}  {made.name} ({made.id})",
                "next:",
                f"  zoo run {made.target} IMAGE{choice} -o out/",
                f"  zoo card {made.target} -o card.html",
                f"  zoo add {made.target}",
            ]
        elif not self.passed:
            lines.append("Nothing was written; the parent stays as it is.")
        return "\n".join(lines)


def score_lines(gate: GateReport) -> list[str]:
    """The scores before and after, a line each, and what was forgotten."""
    count = len(gate.child.values)
    rows = [(gate.rule.metric, gate.parent.mean, gate.child.mean)]
    rows += [(n, v, gate.child.further[n]) for n, v in _further(gate.parent, gate.child)]
    width = max(len(name) for name, _, _ in rows)
    lines = [f"  {n:{width}}  before {a:.3f}  now {b:.3f}" for n, a, b in rows]
    judged = f"  better on {gate.better} of {count} held-out image{'' if count == 1 else 's'}"
    if gate.worse:
        judged += f", worse on {gate.worse}"
    if gate.gain > 0:
        judged += f"; as large a gain by chance alone: {percent(gate.chance)}"
    lines.append(judged)
    return lines + [f"  what it kept: {f}" for f in gate.forgetting]


def _further(parent: Measured, child: Measured) -> Sequence[tuple[str, float]]:
    return [(n, v) for n, v in parent.further.items() if n in child.further]


def percent(part: float) -> str:
    """``6 %``, ``below 1 %``."""
    return "below 1 %" if part < 0.01 else f"{100 * part:.0f} %"


def duration(seconds: float) -> str:
    """``48 s``, ``3 min 20 s``, ``1 h 12 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
