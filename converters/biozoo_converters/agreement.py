"""Whether two networks gave the same arrays, and where they differ most.

An element is off where

    |got - expected| > relative * |expected| + max(absolute * min(1, rms), 3e-5 * rms)

with the root mean square `rms` of the expected output. So outputs of 1e-5 are not proven by an
absolute tolerance made for outputs of 1, and in outputs of 1e4 an element next to zero may carry
the rounding of its neighbours (`docs/design/certificate.md` has the measurements).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.tolerance import Tolerance

__all__ = ["Agreement", "agree", "rms_of", "varies"]

#: Rounding of float32 networks in terms of an output's rms, with a wide margin.
ROUNDING = 3e-5


@dataclass(frozen=True)
class Agreement:
    """The largest differences over all outputs; `output` and `at` say where the largest is."""

    absolute_error: float = 0.0
    relative_error: float = 0.0
    off_per_million: float = 0.0
    ok: bool = True
    fault: str = ""
    output: str = ""
    at: Mapping[str, int] = field(default_factory=dict)


def agree(
    got: Mapping[str, NDArray[Any]],
    expected: Mapping[str, NDArray[Any]],
    tolerance: Tolerance,
    dims: Mapping[str, Sequence[str]] | None = None,
    rms: Mapping[str, float] | None = None,
) -> Agreement:
    """Compare outputs by tensor id.

    Parameters
    ----------
    tolerance
        `absolute` is in units of min(1, rms of the expected output).
    dims
        Axis ids of each output, to say where the largest error is; numbers without.
    rms
        Of each expected output, where `expected` are only some of its values.
    """
    parts = [
        _one(o, got.get(o), array, tolerance, (dims or {}).get(o, ()), (rms or {}).get(o))
        for o, array in expected.items()
    ]
    if not parts:
        return Agreement(ok=False, fault="there is no output to compare")
    worst = next((p for p in parts if not p.ok), None) or max(parts, key=lambda p: p.relative_error)
    return Agreement(
        absolute_error=max(p.absolute_error for p in parts),
        relative_error=max(p.relative_error for p in parts),
        off_per_million=max(p.off_per_million for p in parts),
        ok=all(p.ok for p in parts),
        fault=worst.fault,
        output=worst.output,
        at=worst.at,
    )


def _one(
    output: str,
    got: NDArray[Any] | None,
    expected: NDArray[Any],
    tolerance: Tolerance,
    dims: Sequence[str],
    rms: float | None,
) -> Agreement:
    if got is None:
        return nothing_alike(f"gives no output '{output}'", output)
    if got.shape != expected.shape:
        fault = f"'{output}' has the shape {got.shape}, the original's is {expected.shape}"
        return nothing_alike(fault, output)
    if not expected.size:
        return Agreement(output=output)
    a, b = got.astype(np.float64), expected.astype(np.float64)
    same_kind = (np.isnan(a) == np.isnan(b)) & np.where(np.isinf(a) | np.isinf(b), a == b, True)
    with np.errstate(invalid="ignore"):
        error = np.abs(a - b)
    error[same_kind & ~np.isfinite(b)] = 0.0
    error[~same_kind] = np.inf
    level = rms_of(expected) if rms is None else rms
    size = np.abs(np.where(np.isfinite(b), b, 0.0))
    absolute = max(tolerance.absolute * min(1.0, level), ROUNDING * level)
    off = error > absolute + tolerance.relative * size
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(error > 0, error / np.maximum(size, level), 0.0)
    worst = np.unravel_index(int(error.argmax()), error.shape)
    names = dims if len(dims) == len(worst) else [f"axis {n}" for n in range(len(worst))]
    at = {str(n): int(i) for n, i in zip(names, worst, strict=True)}
    per_million = float(off.mean() * 1e6)
    fault = ""
    if not same_kind.all() or per_million > tolerance.per_million:
        fault = (
            f"{per_million:,.0f} per million of '{output}' are off "
            f"({tolerance.per_million:,.0f} allowed), most at "
            f"{', '.join(f'{n} {i}' for n, i in at.items()) or 'its one value'}: {a[worst]:.6g} "
            f"where the original gives {b[worst]:.6g}"
        )
    return Agreement(
        float(error.max()), float(relative.max()), per_million, not fault, fault, output, at
    )


def nothing_alike(fault: str, output: str = "") -> Agreement:
    """What is said where no value can be compared."""
    return Agreement(math.inf, math.inf, 1e6, ok=False, fault=fault, output=output)


def rms_of(array: NDArray[Any]) -> float:
    """Root mean square of the finite values; 0 where there are none."""
    finite = array[np.isfinite(array)] if array.dtype.kind in "fc" else array
    return float(np.sqrt(np.mean(np.square(finite, dtype=np.float64)))) if finite.size else 0.0


def varies(array: NDArray[Any], dims: Sequence[str] = ()) -> bool:
    """Whether an output differs from place to place by more than rounding.

    A constant per channel does not. An output without places (one value per channel) counts as
    varying: there is nothing to see in one of them.

    Parameters
    ----------
    dims
        Axis ids; "channel" is the one that is looked at one by one.
    """
    if "channel" in dims and len(dims) == array.ndim:
        array = np.moveaxis(array, list(dims).index("channel"), 0)
        array = array.reshape(len(array), -1)
    else:
        array = array.reshape(1, -1)
    if array.shape[1] < 2:
        return True
    values = array.astype(np.float64)
    values = np.where(np.isfinite(values), values, np.nan)
    if np.isnan(values).all():
        return False
    values = np.where(np.isnan(values), np.nanmean(values), values)
    spread = values.max(1) - values.min(1)
    return bool((spread > 1e-5 * np.maximum(np.abs(values).max(1), 1e-30)).any())
