"""ONNX weights in float16 or int8, kept only where they are faster here and agree.

    told = add_variant(biozoo.open("model.zip"), "int8", out=Path("model-int8.zip"))
    print(told)        # kept or not, with the measured error and how long it takes

Inputs and outputs stay float32. A processor without float16 arithmetic casts back and forth, and
small networks lose more to quantization than they gain, so "no" is a common answer; what was
measured is told either way. A variant is no weights format: it is an attachment that
``config.biozoo.variants`` describes, and no tool runs it unasked.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from biozoo.errors import BiozooError, ConversionError, UsageError
from biozoo.package import check_files
from biozoo_runners.tolerance import Tolerance, tolerance_for

from ..networks.network import Progress, Reference
from ..networks.opening import open_weights, with_weights
from ..proof.agreement import agree
from ..proof.setting import network_inputs, remembered
from ..proof.timing import interleaved, kept
from .base import Attempt
from .convert import Plan, free_axes, out_path
from .proving import trial
from .source_package import attach, copied
from .writing import check_target, write_package

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..proof.agreement import Agreement
    from ..proof.certificate import FormatProof
    from .drafts import Draft

__all__ = ["PRECISIONS", "WORTH", "Variant", "add_variant", "plan", "variant", "variant_name"]

PRECISIONS = ("float16", "int8")

#: A variant must take at most this part of float32's time: less is within what a clock scatters.
WORTH = 0.9


@dataclass(frozen=True)
class Variant:
    """What became of a precision.

    Attributes
    ----------
    kept
        Whether it agrees and is faster; only then anything was added.
    why
        Why it was not kept, "" where it was.
    ratio
        Its seconds by those of float32, here, on the sample; None where it was not timed.
    seen, tolerance
        Its differences on the real input, and what is allowed; None where it did not run.
    proof
        The comparison at all sizes; None where the real input or the time decided already.
    bytes, bytes_before
        Size of its file and of the float32 one.
    """

    model: str
    precision: str
    kept: bool
    why: str = ""
    ratio: float | None = None
    seen: Agreement | None = None
    tolerance: Tolerance | None = None
    proof: FormatProof | None = None
    bytes: int = 0
    bytes_before: int = 0
    out: Path | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        worst = self.worst
        return {
            "model": self.model,
            "precision": self.precision,
            "kept": self.kept,
            "why": self.why,
            "time_ratio": self.ratio,
            "bytes": self.bytes,
            "bytes_float32": self.bytes_before,
            "out": None if self.out is None else str(self.out),
            "absolute_error": worst and worst.absolute_error,
            "relative_error": worst and worst.relative_error,
            "off_per_million": worst and worst.off_per_million,
            "proof": None if self.proof is None else self.proof.to_dict(),
        }

    @property
    def worst(self) -> Agreement | FormatProof | None:
        """The largest differences that were seen."""
        return self.proof or self.seen

    def __str__(self) -> str:
        head = f"{self.model} in {self.precision}: {'kept' if self.kept else 'not kept'}"
        lines = [f"{head}{f', {self.why}' if self.why else ''}"]
        if (worst := self.worst) is not None:
            lines.append(
                f"largest error {worst.absolute_error:.2g} absolute, {worst.relative_error:.2g} "
                f"relative, {worst.off_per_million:.0f} per million off (allowed: {self.tolerance})"
            )
        if self.ratio is not None:
            lines.append(f"takes {self.ratio:.2f} of float32's time on this machine")
        if self.bytes:
            lines.append(f"{self.bytes:,} bytes in place of {self.bytes_before:,}")
        return "\n".join([*lines, *([str(self.out)] if self.kept and self.out else [])])


def add_variant(
    package: ModelPackage,
    precision: str,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Variant:
    """Add a precision to a copy of a package, where it is faster here and agrees.

    Raises
    ------
    UsageError
        The package has no ONNX weights, or has this variant.
    MissingDependencyError
        A library is not installed.
    StorageError
        The new package cannot be written.
    """
    target = plan(package, precision, out=out).out
    check_files(package)
    with (
        tempfile.TemporaryDirectory(prefix="biozoo-convert-") as folder,
        open_weights(package, "onnx") as original,
    ):
        draft = copied(package, Path(folder))
        told = variant(draft, precision, original, real=network_inputs(package), progress=progress)
        if not told.kept:
            return told
        write_package(draft.root, target)
        return replace(told, out=target)


def plan(
    package: ModelPackage, precision: str, *, source: str | None = None, out: Path | None = None
) -> Plan:
    """What `add_variant` would do with the same arguments; raises as it does for a wrong wish."""
    if source not in (None, "onnx"):
        raise UsageError(f"{precision} is made of ONNX weights. Leave --from {source} out.")
    if "onnx" not in package.summary.weights:
        have = ", ".join(package.summary.weights) or "none"
        raise UsageError(
            f"Model '{package.id}' has no ONNX weights, of which {precision} is made; it has "
            f"{have}. Make them first: zoo convert {package.id} --to onnx"
        )
    own = (package.raw.get("config") or {}).get("biozoo") or {}
    if precision in (own.get("variants") or {}):
        raise UsageError(
            f"Model '{package.id}' has its {precision} variant already "
            f"({own['variants'][precision].get('source')}). To make it anew, take "
            f"config.biozoo.variants.{precision} out of its description first."
        )
    target = out_path(package, precision, out)
    check_target(target)
    return Plan(package.id, precision, (("onnx", "quantization"),), target, free_axes(package))


def variant(
    draft: Draft,
    precision: str,
    reference: Reference,
    *,
    real: Mapping[str, npt.NDArray[Any]],
    progress: Progress | None = None,
) -> Variant:
    """Try a precision on a package in the making; its files and description change where kept.

    Parameters
    ----------
    draft
        With proven ONNX weights.
    precision
        One of `PRECISIONS`.
    reference
        The original network.
    real
        Per input tensor id an array as the network takes it: calibrates, and is timed.
    """
    from .quantizing import attempts

    package = draft.package()
    memory = remembered(reference)
    source = package.path(package.raw["weights"]["onnx"]["source"])
    name = variant_name(precision)
    best: Variant | None = None
    told: dict[str, str] = {}
    for attempt in attempts(source, name, precision, real):
        with trial(draft.root) as files:
            try:
                entry = attempt.make(files.folder)
            except ConversionError as exc:
                told[attempt.strategy] = exc.message
                continue
            files.place()
            found = _measured(package, precision, attempt, memory, real, progress)
            if found.kept:
                files.keep()
        if best is None or _rank(found) < _rank(best):
            best = found
        if found.kept:
            _describe(draft, found, entry)
            return found
    if best is not None:
        return best
    why = "; ".join(told.values()) or "there is no way to make it"
    return Variant(package.id, precision, False, why)


def variant_name(precision: str) -> str:
    """The variant's file in a package."""
    return f"weights.{precision}.onnx"


def _measured(
    package: ModelPackage,
    precision: str,
    attempt: Attempt,
    reference: Reference,
    real: Mapping[str, npt.NDArray[Any]],
    progress: Progress | None,
) -> Variant:
    """Error and time of a variant that lies in the package's folder; the proof where both will do.

    The real input comes first: what is wrong or slow there needs no other.
    """
    from ..proof.prove import prove

    weights = package.root / variant_name(precision)
    allowed = _tolerance(package)
    before = package.path(package.raw["weights"]["onnx"]["source"]).stat().st_size
    found = Variant(
        package.id, precision, kept=False, bytes=weights.stat().st_size, bytes_before=before
    )
    try:
        with open_weights(with_weights(package, "onnx", weights), "onnx") as opened:
            seen = agree(opened.run(real), reference.run(real), allowed, _dims(package))
    except BiozooError as exc:
        return replace(found, why=f"it does not run: {exc.message}")
    found = replace(found, seen=seen, tolerance=allowed, ratio=_ratio(package, weights, real))
    if not seen.ok:
        return replace(found, why=f"it does not agree: {seen.fault}")
    if found.ratio is None:
        return replace(found, why="it could not be timed")
    if found.ratio > WORTH:
        why = f"it is not faster here: it must take at most {WORTH:.0%} of float32's time"
        return replace(found, why=why)
    proof = prove(
        package,
        reference,
        "onnx",
        real=real,
        strategy=attempt.strategy,
        tolerance=allowed,
        weights=weights,
        progress=progress,
    )
    why = "" if proof.ok else f"it does not agree: {proof.fault}"
    return replace(found, kept=proof.ok, proof=proof, why=why)


def _dims(package: ModelPackage) -> dict[str, tuple[str, ...]]:
    """Axis ids of each output."""
    from biozoo_runners.program import program_of

    return {t.id: t.dims for t in program_of(package).geometry.outputs}


def _tolerance(package: ModelPackage) -> Tolerance:
    """What the package allows its ONNX weights; of several outputs the least."""
    allowed = [tolerance_for(package.descr, "onnx", str(t.id)) for t in package.descr.outputs]
    return Tolerance(
        min(t.relative for t in allowed),
        min(t.absolute for t in allowed),
        min(t.per_million for t in allowed),
    )


def _ratio(
    package: ModelPackage, weights: Path, real: Mapping[str, npt.NDArray[Any]]
) -> float | None:
    """Seconds of a variant by those of the float32 weights: median of calls that take turns."""
    other = with_weights(package, "onnx", weights)
    hashes = [p.raw["weights"]["onnx"].get("sha256") for p in (package, other)]
    shapes = {i: list(a.shape) for i, a in real.items()}

    def measure() -> dict[str, float]:
        with contextlib.ExitStack() as stack:
            ways = [stack.enter_context(open_weights(p, "onnx")) for p in (package, other)]
            float32, smaller = (partial(way.run, real) for way in ways)
            seconds = interleaved({"float32": float32, "variant": smaller})
        return {"ratio": float(f"{seconds['variant'] / seconds['float32']:.2g}")}

    try:
        return kept({"variant": hashes, "shapes": shapes}, measure)["ratio"]
    except BiozooError:
        return None


def _describe(draft: Draft, found: Variant, entry: Mapping[str, Any]) -> None:
    """Name a variant in the draft's description."""
    assert found.proof is not None
    config = draft.raw["config"] = dict(draft.raw.get("config") or {})
    own = config["biozoo"] = dict(config.get("biozoo") or {})
    own["variants"] = {
        **(own.get("variants") or {}),
        found.precision: {
            "source": entry["source"],
            "sha256": entry["sha256"],
            "time_ratio": found.ratio,
            "proof": found.proof.to_dict(),
        },
    }
    attach(draft.raw, str(entry["source"]), str(entry["sha256"]))
    draft.package()


def _rank(found: Variant) -> tuple[bool, float]:
    """What is nearest to being kept comes first."""
    seen = found.seen
    return (seen is None or not seen.ok, seen.relative_error if seen else 0.0)
