"""What `zoo pack` tells: what was found out, what is proven, what is in the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.files import size_text

if TYPE_CHECKING:
    from ..proof.certificate import Certificate

__all__ = ["PackReport", "tensor_lines"]


@dataclass(frozen=True)
class PackReport:
    """One package that was made, or would be.

    Attributes
    ----------
    id, name
        Of the model.
    target
        Where it is; None after a dry run without one.
    raw
        Its description.
    files
        Its files with their sizes in bytes; without weights after a dry run.
    facts
        What was measured.
    certificate
        What is proven; None after a dry run.
    added
        What an existing package got.
    notes
        What was assumed, and what would make the package better.
    """

    id: str
    name: str
    target: Path | None
    raw: Mapping[str, Any]
    files: Mapping[str, int]
    facts: Sequence[str] = ()
    certificate: Certificate | None = None
    added: Sequence[str] = ()
    notes: Sequence[str] = field(default=())
    dry_run: bool = False
    size: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "id": self.id,
            "name": self.name,
            "target": None if self.target is None else str(self.target),
            "dry_run": self.dry_run,
            "size": self.size,
            "files": dict(self.files),
            "facts": list(self.facts),
            "certificate": None if self.certificate is None else self.certificate.to_dict(),
            "added": list(self.added),
            "notes": list(self.notes),
            "description": dict(self.raw),
        }

    def __str__(self) -> str:
        lines = []
        if self.dry_run:
            lines.append(f"{self.name} ({self.id}): a dry run, nothing was written")
        else:
            lines.append(f"{self.target}  {size_text(self.size)}  {self.name} ({self.id})")
        lines += [f"  {line}" for line in tensor_lines(self.raw)]
        lines += _block("measured", self.facts)
        lines += _block("added", self.added)
        lines += _block("proof", self._proofs())
        lines += _block("tags", [", ".join(self.raw.get("tags", ()))])
        if self.dry_run:
            lines += _block("files", [f"{n}  {size_text(s)}" for n, s in self.files.items()])
        lines += _block("notes", self.notes)
        if not self.dry_run:
            lines += _block(
                "next",
                [
                    f"zoo test {self.target}{self._allowed()}",
                    f"zoo run {self.target} IMAGE -o out/",
                    f"zoo card {self.target} -o card.html",
                ],
            )
        return "\n".join(lines)

    def _allowed(self) -> str:
        """Code in a package runs after `zoo trust` only, its author's own too."""
        return " --weights onnx" if "pytorch_state_dict" in self.raw.get("weights", {}) else ""

    def _proofs(self) -> list[str]:
        if self.certificate is None:
            return []
        lines = [str(p) for p in self.certificate.proofs]
        reference = self.certificate.reference
        speeds = {"original": reference.seconds_per_megapixel}
        speeds |= {p.weights_format: p.seconds_per_megapixel for p in self.certificate.proofs}
        told = [f"{name} {s:.3g}" for name, s in speeds.items() if s is not None]
        if told:
            lines.append(f"seconds per megapixel here: {', '.join(told)}")
        return lines


def _block(title: str, lines: Sequence[str]) -> list[str]:
    wanted = [line for line in lines if line]
    return [f"{title}:", *(f"  {line}" for line in wanted)] if wanted else []


def tensor_lines(raw: Mapping[str, Any]) -> list[str]:
    """Each tensor of a description on one line."""
    lines = []
    for side in ("inputs", "outputs"):
        for tensor in raw[side]:
            axes = ", ".join(_axis(a, _coarser(a, raw)) for a in tensor["axes"])
            data = tensor.get("data") or {}
            first = data[0] if isinstance(data, list) else data
            text = f"{side[:-1]} {tensor['id']}: {axes}; {first.get('type', 'float32')}"
            low, high = first.get("range") or (None, None)
            if low is not None and high is not None:
                text += f" {low:g} to {high:g}"
            steps = tensor.get("preprocessing") or tensor.get("postprocessing") or ()
            names = [s["id"] for s in steps if s["id"] != "ensure_dtype"]
            lines.append(text + (f"; {', '.join(names)}" if names else ""))
    return lines


def _coarser(axis: Mapping[str, Any], raw: Mapping[str, Any]) -> float:
    """How many pixels of the axis that it follows one pixel of an axis covers."""
    size = axis.get("size")
    if not isinstance(size, Mapping) or "axis_id" not in size:
        return 1.0
    for tensor in (*raw["inputs"], *raw["outputs"]):
        for other in tensor["axes"]:
            if (tensor["id"], other.get("id")) == (size["tensor_id"], size["axis_id"]):
                return float(axis.get("scale", 1) / other.get("scale", 1))
    return 1.0


def _axis(axis: Mapping[str, Any], coarser: float) -> str:
    name = str(axis.get("id", axis["type"]))
    size = axis.get("size")
    if axis["type"] == "channel":
        names = axis["channel_names"]
        shown = ", ".join(map(str, names[:4])) + (", ..." if len(names) > 4 else "")
        return f"{name} {len(names)} ({shown})"
    if axis["type"] == "batch":
        return f"{name} 1" if size == 1 else name
    if isinstance(size, int):
        name += f" {size}"
    elif isinstance(size, Mapping) and "step" in size:
        name += f" {size['min']} + n*{size['step']}"
    elif isinstance(size, Mapping) and "axis_id" in size:
        offset = size.get("offset", 0)
        name += f" as {size['axis_id']}" if size["axis_id"] != axis.get("id") else ""
        if abs(coarser - 1) > 1e-6:
            name += f" / {coarser:g}" if coarser > 1 else f" * {1 / coarser:g}"
        name += f" {offset:+d}" if offset else ""
    if axis.get("halo"):
        name += f" (halo {axis['halo']})"
    return name
