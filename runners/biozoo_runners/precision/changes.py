"""What changed values mean: pixels that land on the other side of a decision, objects that change.

A difference of 0.005 is nothing where a probability is 0.9, and another pixel of an object where it
is 0.502. So beside the differences stand the pixels whose decision changes, and the objects that
are lost, made up, cut or merged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..comparison.scores import average_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from ..instances import InstancesConfig

__all__ = ["Changed", "changed_objects", "changed_pixels"]

#: How far the probabilities of the classes of a pixel may be from 1 together.
_SUM = 0.01


@dataclass(frozen=True, slots=True)
class Changed:
    """How many of `total` (those of the reference) would be others."""

    total: int = 0
    changed: int = 0

    def __add__(self, other: Changed) -> Changed:
        return Changed(self.total + other.total, self.changed + other.changed)

    @property
    def per_million(self) -> float:
        """Changed per million; 0 where there are none."""
        return 1e6 * self.changed / self.total if self.total else 0.0


def changed_pixels(
    output: str,
    got: NDArray[Any],
    expected: NDArray[Any],
    dims: Sequence[str],
    config: InstancesConfig | None,
) -> Changed:
    """Pixels whose decision differs, by the rule that fits the output.

    Parameters
    ----------
    got, expected
        One output of one shape, axes as in `dims`.
    config
        How the model's objects are made. For the output that they are made of, its foreground
        channel and threshold count. Without it the most probable class counts where the channels
        are probabilities that add up to 1, else 0.5 where an output of one channel lies between
        0 and 1, and nothing elsewhere.

    Returns
    -------
    Changed
        Nothing of nothing where the output is no decision.
    """
    axis = dims.index("channel") if "channel" in dims else None
    if config is not None:
        if output != config.output or axis is None or not isinstance(config.foreground, int):
            return Changed()
        one, other = (a.take(config.foreground, axis=axis) for a in (got, expected))
        return _differ(one > config.foreground_threshold, other > config.foreground_threshold)
    channels = 1 if axis is None else expected.shape[axis]
    if not expected.size or expected.dtype.kind != "f" or not _are_probabilities(expected):
        return Changed()
    if channels == 1:
        return _differ(got > 0.5, expected > 0.5)
    assert axis is not None
    if np.abs(expected.sum(axis=axis, dtype=np.float64) - 1).max() > _SUM:
        return Changed()
    return _differ(got.argmax(axis), expected.argmax(axis))


def changed_objects(got: NDArray[Any], expected: NDArray[Any]) -> Changed:
    """Objects of `expected` and `got` without a partner: lost, made up, cut or merged.

    Partners overlap by half of both together or more; 0 is background, numbers do not matter.
    """
    score = average_precision(expected, got, thresholds=(0.5,))
    matched = int(score.true_positives[0])
    # One that is cut has two without a partner in its place, but it is one object that changes.
    return Changed(score.n_true, max(score.n_true, score.n_predicted) - matched)


def _are_probabilities(array: NDArray[Any]) -> bool:
    return bool(array.min() >= 0 and array.max() <= 1)


def _differ(one: NDArray[Any], other: NDArray[Any]) -> Changed:
    return Changed(other.size, int((one != other).sum()))
