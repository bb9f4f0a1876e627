"""Whether two networks gave the same arrays, and where they differ most.

An element is off where

    |got - expected| > relative * |expected| + max(absolute * min(1, level), 3e-5 * rms)

with the root mean square `rms` of the expected output and `level` that of the element's channel. So
outputs of 1e-5 are not proven by an absolute tolerance made for outputs of 1, nor is a faint
channel beside a strong one; and in outputs of 1e4 an element next to zero may carry the rounding of
its neighbours (`docs/design/certificate.md` has the measurements).

Some elements per million may be off, but none by more than `WILD` times what is allowed: rounding
does not do that, a wrong corner does. Outputs of whole numbers (classes, masks) jump by nature, so
of those the number alone counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo_runners.tolerance import Tolerance

__all__ = ["Agreement", "agree", "rms_of", "varies"]

#: Rounding of float32 networks in terms of an output's rms, with a wide margin.
ROUNDING = 3e-5

#: Rounding of values between 0 and 1, whatever their size: ONNX Runtime's sigmoid is off by up to
#: 1.4e-7 everywhere, so far below 1 by a quarter of the value and more.
SIGMOID = 3e-7

#: An element of a continuous output may be off by so many times its tolerance: 0.03 of the rms.
#: The worst element of 36 exported architectures was at 0.0002, of float16 weights at 0.004.
WILD = 30.0

#: Places that a channel needs for a root mean square of its own.
PLACES = 64

#: Elements compared at a time: eight float64 arrays of them are 0.25 GB.
AT_ONCE = 2**22

#: What a value is: a mask is no image, even where its zeros and ones agree.
_KINDS = {"b": "boolean", "i": "whole", "u": "whole", "f": "real"}


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
        Of each expected output, where `expected` are only some of its values; all channels are
        then measured by it.
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
    if _KINDS.get(got.dtype.kind) != _KINDS.get(expected.dtype.kind):
        fault = f"'{output}' is {got.dtype}, the original's is {expected.dtype}"
        return nothing_alike(fault, output)
    if not expected.size:
        return Agreement(output=output)
    known = rms_of(expected) if rms is None else rms
    limit = math.inf if _whole(expected) else WILD
    own = dims if rms is None else ()
    found = [_part(*part, tolerance, known, limit) for part in _parts(got, expected, own)]
    worst = max(found, key=lambda p: p.error)
    per_million = sum(p.off for p in found) / expected.size * 1e6
    place = np.unravel_index(worst.place, expected.shape)
    names = dims if len(dims) == len(place) else [f"axis {n}" for n in range(len(place))]
    at = {str(n): int(i) for n, i in zip(names, place, strict=True)}
    fault = ""
    where = (
        f"at {', '.join(f'{n} {i}' for n, i in at.items()) or 'its one value'}: "
        f"{float(got[place]):.6g} where the original gives {float(expected[place]):.6g}"
    )
    if any(p.unlike for p in found) or per_million > tolerance.per_million:
        fault = (
            f"{per_million:,.0f} per million of '{output}' are off "
            f"({tolerance.per_million:,.0f} allowed), most {where}"
        )
    elif any(p.wild for p in found):
        fault = (
            f"only {per_million:,.1f} per million of '{output}' are off, but by more than rounding "
            f"explains: {where}"
        )
    relative = max(p.relative for p in found)
    return Agreement(worst.error, relative, per_million, not fault, fault, output, at)


@dataclass(frozen=True)
class _Part:
    """Of some elements: the largest error and its flat place, how many are off, and how badly."""

    error: float
    place: int
    relative: float
    off: int
    unlike: bool
    wild: bool


def _parts(
    got: NDArray[Any], expected: NDArray[Any], dims: Sequence[str]
) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[np.intp] | slice, float | None]]:
    """Elements side by side with their flat places and their channel's rms, a few at a time."""
    axis = list(dims).index("channel") if "channel" in dims else 0
    count = expected.shape[axis] if len(dims) == expected.ndim and "channel" in dims else 1
    if count == 1 or expected.size < PLACES * count:
        a, b = got.reshape(-1), expected.reshape(-1)
        for n in range(0, a.size, AT_ONCE):
            yield a[n : n + AT_ONCE], b[n : n + AT_ONCE], slice(n, n + AT_ONCE), None
        return
    after = math.prod(expected.shape[axis + 1 :])
    for channel in range(count):
        index = (slice(None),) * axis + (channel,)
        a, b = got[index].reshape(-1), expected[index].reshape(-1)
        level = rms_of(b)
        for n in range(0, a.size, AT_ONCE):
            before, rest = np.divmod(np.arange(n, min(n + AT_ONCE, a.size)), after)
            places = (before * count + channel) * after + rest
            yield a[n : n + AT_ONCE], b[n : n + AT_ONCE], places, level


def _part(
    got: NDArray[Any],
    expected: NDArray[Any],
    places: NDArray[np.intp] | slice,
    level: float | None,
    tolerance: Tolerance,
    rms: float,
    limit: float,
) -> _Part:
    a, b = got.astype(np.float64), expected.astype(np.float64)
    same_kind = (np.isnan(a) == np.isnan(b)) & np.where(np.isinf(a) | np.isinf(b), a == b, True)
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.abs(a - b)
    error[same_kind & ~np.isfinite(b)] = 0.0
    error[~same_kind] = np.inf
    size = np.abs(np.where(np.isfinite(b), b, 0.0))
    level = rms if level is None else level
    bounded = bool(np.isfinite(b).all() and b.min() >= 0 and b.max() <= 1)
    floor = max(tolerance.absolute * min(1.0, level), ROUNDING * rms, SIGMOID if bounded else 0.0)
    allowed = floor + tolerance.relative * size
    with np.errstate(invalid="ignore", divide="ignore"):
        relative = np.where(error > 0, error / np.maximum(size, rms), 0.0)
    top = int(error.argmax())
    place = (places.start or 0) + top if isinstance(places, slice) else int(places[top])
    off = error > allowed
    wild = bool(off.any()) and math.isfinite(limit) and bool((error > limit * allowed).any())
    return _Part(
        float(error[top]), place, float(relative.max()), int(off.sum()),
        not same_kind.all(), wild,
    )  # fmt: skip


def _whole(array: NDArray[Any]) -> bool:
    """Whether an output is of whole numbers: classes, labels, a mask. Zeros alone are no mask."""
    if array.dtype.kind != "f":
        return True
    finite = array[np.isfinite(array)]
    return bool(finite.any() and (finite == np.rint(finite)).all())


def nothing_alike(fault: str, output: str = "") -> Agreement:
    """What is said where no value can be compared."""
    return Agreement(math.inf, math.inf, 1e6, ok=False, fault=fault, output=output)


def rms_of(array: NDArray[Any]) -> float:
    """Root mean square of the finite values; 0 where there are none."""
    finite = array[np.isfinite(array)] if array.dtype.kind == "f" else array
    if not finite.size:
        return 0.0
    values = finite.astype(np.float64)
    scale = float(np.abs(values).max()) or 1.0
    if 1e-150 < scale < 1e150:  # else its square is no number
        scale = 1.0
    return scale * float(np.sqrt(np.mean(np.square(values / scale if scale != 1 else values))))


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
