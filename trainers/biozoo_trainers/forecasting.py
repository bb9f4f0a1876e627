"""What more labels would bring, from the scores after learning from fewer.

The error of a trained network falls about as a power of the number of examples (Hestness et al.,
Deep learning scaling is predictable, empirically, 2017). The next doubling is read from such a law
through the measured sizes, for many resamplings of the held-out images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .gate import Measured

__all__ = ["Forecast", "forecast"]

#: Scores that cannot be above 1: their distance from it falls as a power law.
_BOUNDED = ("AP50", "AP50:90", "Dice", "IoU", "SSIM")

_DRAWS = 2000

#: Ends of the interval that is told: 80 %.
_ENDS = (0.1, 0.9)

#: Gains in the metric that are worth labelling for, and that are hardly seen.
_WORTH, _LITTLE = 0.02, 0.01


@dataclass(frozen=True)
class Forecast:
    """What twice the labels would bring.

    Attributes
    ----------
    size
        That many images.
    score, low, high
        Expected mean score, and the ends of the 80 % interval.
    last, last_low, last_high
        What the last doubling (or the last two sizes) brought, alike.
    text
        In sentences.
    """

    size: int
    score: float
    low: float
    high: float
    last: float
    last_low: float
    last_high: float
    text: str


def forecast(measured: Mapping[int, Measured]) -> Forecast | None:
    """What twice the labels would bring; None with fewer than two sizes or two images.

    Parameters
    ----------
    measured
        Number of images learned from -> the scores on the held-out ones, the same for all.

    The uncertainty is that of the held-out images (resampled 2,000 times), not of the training:
    another seed gives other scores too.
    """
    counts = sorted(measured)
    if len(counts) < 2 or len(measured[counts[0]].values) < 2:
        return None
    metric = measured[counts[0]].metric
    sizes = np.array(counts, float)
    values = np.array([measured[n].values for n in counts])  # sizes x images
    rng = np.random.Generator(np.random.PCG64(0))
    drawn = rng.integers(0, values.shape[1], (_DRAWS, values.shape[1]))
    means = values[:, drawn].mean(axis=2)  # sizes x draws
    size = int(2 * sizes[-1])
    bounded = metric in _BOUNDED
    at = _extended(sizes, means, size, bounded)
    score = float(_extended(sizes, values.mean(axis=1)[:, None], size, bounded)[0])
    low, high = (float(v) for v in np.quantile(at, _ENDS))
    gains = means[-1] - means[-2]
    last = float(values[-1].mean() - values[-2].mean())
    last_low, last_high = (float(v) for v in np.quantile(gains, _ENDS))
    more = score - float(values[-1].mean())
    text = (
        f"From {counts[-2]} to {counts[-1]} images {metric} {_rose(last)} "
        f"(80 % interval {last_low:+.3f} to {last_high:+.3f}). With {size} expect about "
        f"{score:.3f} ({low:.3f} to {high:.3f}): {_advice(more, bounded)}"
    )
    return Forecast(size, score, low, high, last, last_low, last_high, text)


def _extended(
    sizes: NDArray[Any], means: NDArray[Any], size: int, bounded: bool
) -> NDArray[np.float64]:
    """Scores at another size: 1 - a * size ** -b for scores up to 1, else a + b * log(size).

    Parameters
    ----------
    means
        sizes x draws; each draw has its own least-squares line.
    """
    x = np.log(sizes) - np.log(sizes).mean()
    y = np.log(np.maximum(1 - means, 1e-3)) if bounded else means
    slope = (x[:, None] * (y - y.mean(axis=0))).sum(axis=0) / (x**2).sum()
    at = y.mean(axis=0) + slope * (np.log(size) - np.log(sizes).mean())
    made: NDArray[np.float64] = 1 - np.exp(at) if bounded else at
    return made


def _rose(gain: float) -> str:
    if abs(gain) < 0.0005:
        return "stayed the same"
    return f"{'rose' if gain > 0 else 'fell'} by {abs(gain):.3f}"


def _advice(more: float, bounded: bool) -> str:
    if not bounded:
        return f"{more:+.2f} more."
    if more >= _WORTH:
        return f"{more:+.3f}, so more labels would help."
    if more >= _LITTLE:
        return f"{more:+.3f}, so more labels would help a little."
    return f"{more:+.3f}, so more labels of this kind would hardly help."
