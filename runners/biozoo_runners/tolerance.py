"""How far two results may differ: the tolerance that a package declares, and the comparison."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from bioimageio.spec.model.v0_5 import ModelDescr
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Tolerance:
    """An element is off if |got - expected| > absolute + relative * |expected|.

    The defaults are bioimageio.spec's.
    """

    relative: float = 1e-3
    absolute: float = 1e-3
    per_million: float = 100.0
    """elements that may be off, per million"""

    def __str__(self) -> str:
        return (
            f"absolute {self.absolute:g}, relative {self.relative:g}, "
            f"{self.per_million:g} per million may be off"
        )


@dataclass(frozen=True, slots=True)
class OutputResult:
    """One output against its test tensor; `fault` says what is wrong besides single values."""

    output: str
    tolerance: Tolerance
    absolute_error: float = 0.0
    relative_error: float = 0.0
    off_per_million: float = 0.0
    fault: str = ""

    @property
    def ok(self) -> bool:
        """Whether it is reproduced."""
        return not self.fault and self.off_per_million <= self.tolerance.per_million

    def __str__(self) -> str:
        if self.fault:
            return f"{self.output}: {self.fault}"
        return (
            f"{self.output}: {'reproduced' if self.ok else 'NOT reproduced'}, "
            f"{self.off_per_million:.1f} per million are off, largest error "
            f"{self.absolute_error:.2g} absolute, {self.relative_error:.2g} relative "
            f"(allowed: {self.tolerance})"
        )


def compare(
    output: str, got: NDArray[Any], expected: NDArray[Any], tolerance: Tolerance
) -> OutputResult:
    """How far an output is from what is expected; NaN equals NaN."""
    if got.shape != expected.shape:
        fault = f"came out as {got.shape}, the test tensor has the shape {expected.shape}"
        return OutputResult(output, tolerance, fault=fault)
    a, b = got.astype(np.float64), expected.astype(np.float64)
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b)
    error[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
    error[np.isnan(error)] = np.inf
    size = np.abs(np.nan_to_num(b, posinf=0.0, neginf=0.0))
    off = error > tolerance.absolute + tolerance.relative * size
    return OutputResult(
        output,
        tolerance,
        absolute_error=float(error.max(initial=0.0)),
        relative_error=float((error / (size + 1e-6)).max(initial=0.0)),
        off_per_million=float(off.mean() * 1e6) if off.size else 0.0,
    )


def tolerance_for(descr: ModelDescr, weights_format: str, output: str) -> Tolerance:
    """What the package allows: the first declared tolerance that is for this format and output.

    Packages converted from format 0.4 keep theirs in `config.bioimageio.test_kwargs`.
    """
    config = descr.config.bioimageio
    for t in config.reproducibility_tolerance:
        formats, outputs = map(str, t.weights_formats), map(str, t.output_ids)
        if weights_format in (tuple(formats) or (weights_format,)) and output in (
            tuple(outputs) or (output,)
        ):
            return Tolerance(
                t.relative_tolerance, t.absolute_tolerance, t.mismatched_elements_per_million
            )
    legacy = (config.model_extra or {}).get("test_kwargs") or {}
    if isinstance(kwargs := legacy.get(weights_format), Mapping):
        default = Tolerance()
        return Tolerance(
            float(kwargs.get("relative_tolerance", default.relative)),
            float(kwargs.get("absolute_tolerance", default.absolute)),
        )
    return Tolerance()
