"""Painted pixels gathered from features, and the rows of the last layer that they change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

from .regression import Evidence, fit_binary, fit_softmax

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .features import Features
    from .head import Head
    from .links import Link

__all__ = ["refit"]

#: Most painted pixels of one value that are learned from; more say nothing new and take time.
_MOST = 2000

#: Below this trust a person is told that the model is hardly followed any more.
_LITTLE = 0.05


def refit(
    painted: Sequence[tuple[Features, NDArray[Any]]], parent: Head, link: Link, *, late: int
) -> Head:
    """A head fitted to scribbles.

    Parameters
    ----------
    painted
        Features of regions, each with signed integers of its `shape`: -1 unpainted, else the value
        of a class.
    parent
        The layer that is the prior.
    link
        What the values mean.
    late
        How many of the features are the layer's own input; they come first.

    Raises
    ------
    UsageError
        Nothing is painted, a value is no class, or a shape is another.
    """
    for features, scribbles in painted:
        _check(features, scribbles, link)
    strokes = [_Strokes.of(f, s) for f, s in painted]
    counts = _counts(strokes)
    if not counts:
        raise UsageError(
            f"Nothing is painted. Paint a stroke on what is wrong: {' or '.join(link.classes)}."
        )
    evidence = _evidence(strokes, counts, late)
    weight, bias = parent.weight.astype(np.float64), parent.bias.astype(np.float64)
    trust = 1.0
    if link.kind == "sigmoid":
        for one in link.binaries:
            positive = evidence.values == one.value
            if not positive.any() and set(counts) - {0}:
                continue  # of another class: what is painted says nothing sure of this one
            fitted = fit_binary(
                evidence,
                weight[one.channel],
                float(bias[one.channel]),
                positive if one.sign > 0 else ~positive,
            )
            weight[one.channel], bias[one.channel] = fitted.weight[0], fitted.bias[0]
            trust = min(trust, fitted.trust)
    else:
        rows = np.asarray(link.rows)
        fitted = fit_softmax(evidence, weight, bias, rows[evidence.values])
        weight, bias, trust = fitted.weight, fitted.bias, fitted.trust
    return replace(
        parent,
        weight=weight.astype(np.float32),
        bias=bias.astype(np.float32),
        pixels=counts,
        trust=trust,
        notes=tuple(_notes(counts, link, trust)),
    )


def _check(features: Features, scribbles: NDArray[Any], link: Link) -> None:
    if scribbles.shape != features.shape:
        raise UsageError(
            f"The scribbles have the shape {scribbles.shape}, the region has {features.shape} "
            f"({' '.join(features.sizes)}). Give them in the pixels of the region."
        )
    if scribbles.dtype.kind not in "iu":
        raise UsageError(
            f"Scribbles are whole numbers, -1 where nothing is painted; these are "
            f"{scribbles.dtype}. Give them as int32."
        )
    top = int(scribbles.max(initial=-1))
    if top >= len(link.classes):
        listed = ", ".join(f"{i} ({name})" for i, name in enumerate(link.classes))
        raise UsageError(f"The scribbles hold the value {top}; the classes are {listed}.")


@dataclass(frozen=True, eq=False)
class _Strokes:
    """Painted pixels of one region: their positions (n, axes) and values (n,)."""

    features: Features
    at: NDArray[np.intp]
    values: NDArray[np.int64]

    @classmethod
    def of(cls, features: Features, scribbles: NDArray[Any]) -> _Strokes:
        flat = np.flatnonzero(scribbles >= 0)
        at = np.stack(np.unravel_index(flat, scribbles.shape), axis=1)
        return cls(features, at, scribbles.ravel()[flat].astype(np.int64))


def _counts(strokes: Sequence[_Strokes]) -> dict[int, int]:
    """Painted pixels by value."""
    every = np.concatenate([s.values for s in strokes])
    values, counts = np.unique(every, return_counts=True)
    return {int(v): int(n) for v, n in zip(values, counts, strict=True)}


def _evidence(strokes: Sequence[_Strokes], counts: dict[int, int], late: int) -> Evidence:
    """Features of painted pixels, at most `_MOST` of a value, and of others."""
    rng = np.random.default_rng(0)
    rows, values, others = [], [], []
    for one in strokes:
        pixels = one.features.in_model(one.at)
        for value, total in counts.items():
            own = pixels[one.values == value]
            if total > _MOST:
                share = round(len(own) * _MOST / total)
                own = own[np.sort(rng.choice(len(own), share, replace=False))]
            rows.append(one.features.at(own))
            values.append(np.full(len(own), value, np.int64))
        sample = one.features.sample
        free = sample[~np.isin(sample, pixels)]
        others.append(one.features.at(free[:: len(strokes)]))
    return Evidence(
        painted=np.concatenate(rows),
        values=np.concatenate(values),
        unpainted=np.concatenate(others),
        late=late,
    )


def _notes(counts: dict[int, int], link: Link, trust: float) -> list[str]:
    notes = []
    if len(counts) == 1 and len(link.classes) > 1:
        value = next(iter(counts))
        other = next(c for i, c in enumerate(link.classes) if i != value)
        notes.append(
            f"only {link.classes[value]} is painted: a stroke of {other} shows where it ends"
        )
    if trust < _LITTLE:
        notes.append(
            "what is painted is far from what the model expects, so it goes by the strokes and "
            "hardly by what it knew: paint a few places of each kind"
        )
    return notes
