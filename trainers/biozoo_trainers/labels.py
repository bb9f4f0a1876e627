"""What the numbers in a label image mean, in memory and as people paint them.

In memory labels are signed integers over the spatial axes: 0 background, 1..n objects (or classes
1..k), and every negative number is unpainted: no loss and no score looks there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IGNORE", "as_labels", "from_scribbles", "to_scribbles"]

#: The label of a pixel that nobody has painted. Every negative label is treated like it.
IGNORE = -1


def as_labels(array: NDArray[Any]) -> NDArray[np.int32]:
    """Labels as the encoders take them.

    Parameters
    ----------
    array
        Whole numbers over spatial axes, of any integer or boolean type.

    Returns
    -------
    NDArray
        The same numbers as int32, without a copy where they are that already.

    Raises
    ------
    UsageError
        If the array holds no whole numbers by its type, or numbers beyond int32.
    """
    if array.dtype == np.int32:
        return array
    if array.dtype.kind not in "iub":
        raise UsageError(
            f"Labels are whole numbers, one per object or class; these are {array.dtype}. "
            "Save them as a label image (integers) and try again."
        )
    if array.size and array.dtype.itemsize > 2:
        low, high = int(array.min()), int(array.max())
        limits = np.iinfo(np.int32)
        if low < limits.min or high > limits.max:
            raise UsageError(
                f"Labels run from {low} to {high}; biozoo takes numbers up to {limits.max}. "
                "Number the objects anew, from 1."
            )
    return array.astype(np.int32)


def from_scribbles(painted: NDArray[Any]) -> NDArray[np.int32]:
    """Labels from what was painted class by class.

    Parameters
    ----------
    painted
        Unsigned: 0 unpainted, 1 background, 2, 3, ... classes (2 is the object where a model
        finds objects).

    Returns
    -------
    NDArray
        int32 of the same shape: `IGNORE`, 0 background, 1, 2, ... classes.
    """
    return as_labels(painted) - 1


def to_scribbles(labels: NDArray[Any]) -> NDArray[np.uint32]:
    """What `from_scribbles` turns into `labels`; every negative label becomes unpainted."""
    return (np.maximum(as_labels(labels), IGNORE) + 1).astype(np.uint32)
