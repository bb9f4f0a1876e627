"""Regression of painted pixels on frozen features, with the parent's layer as prior.

Few strokes must change what they are about and leave the rest. The logit of a class is

    a * parent's logit + d . deep features + e . early features + c

with all features centred and divided by their spread. Its parameters minimise

    mean cross-entropy of the painted pixels, every painted value weighing the same
  + (FLOOR + ANCHOR * trust) * mean cross-entropy of unpainted pixels against the parent's own word
  + a normal prior: a near `trust`, all others near 0 (`PRECISION`)

*Trust* is how well the parent explains the strokes: exp(-8 * u). Here u is its surprise (the mean
cross-entropy beyond that which it expects itself) at the painted value that it explains worst,
divided by how sure it is of a usual pixel (the median of its margins). A model in its own world is
wrong where it is unsure: it is followed everywhere else. One in another world (bright nuclei are
its trade, these are dark) is wrong and sure of it, and is forgotten. docs/design/live.md has the
measurements behind the numbers.

Newton's method for one class against the rest, L-BFGS for a softmax. Plain numpy and scipy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Evidence", "Fitted", "fit_binary", "fit_softmax"]

#: Weight of the unpainted pixels where the parent is not trusted at all, and what trust adds.
FLOOR, ANCHOR = 0.1, 8.0

#: How quickly trust falls with the parent's surprise at the painted pixels.
DOUBT = 8.0


#: Rows of one matrix product. A large product goes to all cores, and where others are at work on
#: them too it waits for them: 7000 x 50 took 0.4 s on two busy cores, in blocks 0.004 s.
_BLOCK = 96


#: Least trust while one value alone is painted: nothing but the parent says where it ends.
ALONE = 0.25


@dataclass(frozen=True)
class Precision:
    """Inverse variances of the prior, in units of one painted pixel set of weight 1."""

    parent: float = 0.3
    deep: float = 10.0
    early: float = 0.1
    offset: float = 0.01


PRECISION = Precision()


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a layer is fitted to.

    Attributes
    ----------
    painted
        Features of painted pixels (n, features).
    values
        Their painted values (n,).
    unpainted
        Features of some of the other pixels (m, features); the first `late` columns of both are
        the deep ones.
    late
        How many.
    """

    painted: NDArray[np.float64]
    values: NDArray[np.int64]
    unpainted: NDArray[np.float64]
    late: int

    @property
    def everything(self) -> NDArray[np.float64]:
        """Painted and unpainted (n + m, features)."""
        return np.concatenate((self.painted, self.unpainted))


@dataclass(frozen=True, eq=False)
class Fitted:
    """Rows of a layer, in the features' own units.

    Attributes
    ----------
    weight, bias
        float64 (rows, features) and (rows,).
    trust
        See the module.
    """

    weight: NDArray[np.float64]
    bias: NDArray[np.float64]
    trust: float


def fit_binary(
    evidence: Evidence,
    weight: NDArray[np.float64],
    bias: float,
    positive: NDArray[np.bool_],
) -> Fitted:
    """One row: which pixels are positive.

    Parameters
    ----------
    weight, bias
        The parent's row (features,), and its offset.
    positive
        Of the painted pixels (n,).
    """
    space = _Space(evidence, weight[None], np.array([bias]))
    z = space.design(0)
    n = len(evidence.painted)
    y = positive.astype(np.float64)
    parent = space.parent[:, 0]
    surprise = (_sigmoid(parent[:n]) - y) * parent[:n]  # cross-entropy minus entropy
    trust = _trust(surprise, evidence.values, np.abs(parent[n:]))
    targets = np.concatenate((y, _sigmoid(parent[n:])))
    weights = np.concatenate((_balanced(positive), _anchors(len(z) - n, trust)))
    start = space.prior(trust)
    found = _newton(z, targets, weights, start, space.precision)
    w, b = space.back(found, 0)
    return Fitted(w[None], np.array([b]), trust)


def fit_softmax(
    evidence: Evidence,
    weight: NDArray[np.float64],
    bias: NDArray[np.float64],
    channel: NDArray[np.int64],
) -> Fitted:
    """All rows: which channel is the largest.

    Parameters
    ----------
    weight, bias
        The parent's rows (rows, features) and offsets (rows,).
    channel
        Of the painted pixels (n,), the row that should win.
    """
    from scipy.optimize import minimize

    rows = len(bias)
    space = _Space(evidence, weight, bias)
    n, total = len(evidence.painted), len(space.parent)
    said = _softmax(space.parent)
    logs = np.log(np.maximum(said[:n], 1e-12))
    surprise = (said[:n] * logs).sum(axis=1) - logs[np.arange(n), channel]
    ranked = np.sort(space.parent[n:], axis=1)
    trust = _trust(surprise, evidence.values, ranked[:, -1] - ranked[:, -2])
    targets = said
    targets[:n] = 0.0
    targets[np.arange(n), channel] = 1.0
    weights = np.concatenate((_balanced(evidence.values), _anchors(total - n, trust)))[:, None]
    designs = [space.design(k) for k in range(rows)]
    start = np.stack([space.prior(trust)] * rows)
    precision = np.stack([space.precision] * rows)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        b = flat.reshape(start.shape)
        scores = np.stack([z @ row for z, row in zip(designs, b, strict=True)], axis=1)
        top = scores.max(axis=1, keepdims=True)
        norm = top + np.log(np.exp(scores - top).sum(axis=1, keepdims=True))
        gap = b - start
        value = (weights * targets * (norm - scores)).sum() + 0.5 * (precision * gap**2).sum()
        wrong = weights * (np.exp(scores - norm) - targets)
        slope = np.stack([z.T @ wrong[:, k] for k, z in enumerate(designs)]) + precision * gap
        return float(value), slope.ravel()

    found = minimize(loss, start.ravel(), jac=True, method="L-BFGS-B", options={"maxiter": 100})
    b = np.asarray(found.x).reshape(start.shape)
    made = [space.back(b[k], k) for k in range(rows)]
    return Fitted(np.stack([w for w, _ in made]), np.array([c for _, c in made]), trust)


class _Space:
    """Features centred and divided by their spread, behind the parent's own logit."""

    def __init__(
        self, evidence: Evidence, weight: NDArray[np.float64], bias: NDArray[np.float64]
    ) -> None:
        x = evidence.everything
        late = evidence.late
        self.parent: NDArray[np.float64] = x @ weight.T + bias
        self._weight, self._bias = weight, bias
        # Painted pixels are no fair sample of the image; the others are.
        fair = evidence.unpainted if len(evidence.unpainted) else x
        self._mean = fair.mean(axis=0)
        self._spread = np.concatenate([_spread(g) for g in (fair[:, :late], fair[:, late:])])
        self._z = (x - self._mean) / self._spread
        p = PRECISION
        early = x.shape[1] - late
        self.precision = np.concatenate(
            ([p.parent], np.full(late, p.deep), np.full(early, p.early), [p.offset])
        )

    def design(self, row: int) -> NDArray[np.float64]:
        """Columns: the parent's logit of this row, all features, and 1."""
        ones = np.ones((len(self._z), 1))
        return np.concatenate((self.parent[:, row : row + 1], self._z, ones), axis=1)

    def prior(self, trust: float) -> NDArray[np.float64]:
        """The parameters that are expected before anything is painted."""
        start = np.zeros(len(self.precision))
        start[0] = trust
        return start

    def back(self, found: NDArray[np.float64], row: int) -> tuple[NDArray[np.float64], float]:
        """Weight and offset of the features as they are."""
        weight = found[1:-1] / self._spread
        bias = found[-1] - weight @ self._mean + found[0] * self._bias[row]
        return weight + found[0] * self._weight[row], float(bias)


def _spread(group: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations, none so small beside the others that noise becomes a feature."""
    found = group.std(axis=0)
    least = max(1e-3 * float(found.max(initial=0.0)), 1e-6)
    return np.asarray(np.maximum(found, least), np.float64)


def _trust(
    surprise: NDArray[np.float64], values: NDArray[np.int64], margins: NDArray[np.float64]
) -> float:
    """See the module; `surprise` and `values` of painted pixels, `margins` of others."""
    painted = np.unique(values)
    worst = max(0.0, *(float(surprise[values == v].mean()) for v in painted))
    sure = float(np.median(margins)) if len(margins) else 1.0
    trust = float(np.exp(-DOUBT * worst / max(sure, 1e-3)))
    return trust if len(painted) > 1 else max(trust, ALONE)


def _balanced(values: NDArray[Any]) -> NDArray[np.float64]:
    """Weights that sum to 1, every value the same share."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    shares: NDArray[np.float64] = 1.0 / (len(counts) * counts[which.ravel()])
    return shares


def _anchors(count: int, trust: float) -> NDArray[np.float64]:
    return np.full(count, (FLOOR + ANCHOR * trust) / max(count, 1))


def _sigmoid(x: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import expit

    return np.asarray(expit(x))


def _softmax(x: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.special import softmax

    return np.asarray(softmax(x, axis=1))


def _newton(
    z: NDArray[np.float64],
    y: NDArray[np.float64],
    w: NDArray[np.float64],
    start: NDArray[np.float64],
    precision: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The minimum of sum w * cross-entropy(y, sigmoid(z b)) + 0.5 * precision * (b - start)^2.

    Newton's method, steps halved until the value falls (iteratively reweighted least squares;
    Bishop, Pattern Recognition and Machine Learning, 4.3.3). The problem is convex.
    """

    def value(b: NDArray[np.float64]) -> float:
        s = z @ b
        return float((w * (np.logaddexp(0.0, s) - y * s)).sum()) + 0.5 * float(
            (precision * (b - start) ** 2).sum()
        )

    blocks = _blocks(z)
    b, now = start.copy(), value(start)
    for _ in range(50):
        p = _sigmoid(z @ b)
        slope = z.T @ (w * (p - y)) + precision * (b - start)
        bend = _blocks((w * np.maximum(p * (1 - p), 1e-6))[:, None])
        curve = ((blocks * bend).transpose(0, 2, 1) @ blocks).sum(axis=0)
        curve[np.diag_indices_from(curve)] += precision
        step = np.linalg.solve(curve, slope)
        size, new = 1.0, value(b - step)
        while new > now - 1e-4 * size * float(slope @ step) and size > 1e-4:
            size /= 2
            new = value(b - size * step)
        if not new < now:
            break
        b, gain, now = b - size * step, now - new, new
        if gain < 1e-7 * (1 + abs(now)):
            break
    return b


def _blocks(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, k) as (blocks, `_BLOCK`, k), zeros behind the end."""
    short = -len(rows) % _BLOCK
    filled = np.concatenate((rows, np.zeros((short, rows.shape[1])))) if short else rows
    return filled.reshape(-1, _BLOCK, rows.shape[1])
