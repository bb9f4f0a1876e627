"""What the Keras and TensorFlow executors share: quiet, order of tensors, messages."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ..isolated.executor import NotFitting

__all__ = [
    "cause_of",
    "check_axes",
    "in_order",
    "limit_tensorflow",
    "plain",
    "port_of",
    "quieten",
    "restated",
]

#: Kinds of numpy's own types of numbers; what ml_dtypes adds, as bfloat16, has another.
_NUMBERS = "biufc"

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_ADVICE = re.compile(r"\.\s+(?:Please|Make sure|Full object config)")
_NODE = re.compile(r"\{\{[^{}]*\}\}\s*")


def quieten(*, on_card: bool = False) -> None:
    """Keep TensorFlow's notes to itself; to be called before it is imported. Numbers stay.

    Parameters
    ----------
    on_card
        Whether another framework of this process is to use a card; else none is visible.
    """
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    if not on_card:
        os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def limit_tensorflow(tf: Any, threads: int) -> None:
    """Hold TensorFlow to the CPU and to so many threads; before it has done anything."""
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.set_visible_devices([], "GPU")


def in_order(ids: Sequence[str], names: Sequence[str]) -> list[int]:
    """Which of a graph's tensors is which of the description.

    Where a tensor id is the name of one tensor of the graph, that is the one. The ids without such
    a name take the tensors that are left, in the graph's order.

    Returns
    -------
    list of int
        Places in `names`: those of the ids, then what is left over.

    Examples
    --------
    >>> in_order(["raw", "mask"], ["mask", "image"])
    [1, 0]
    """
    own = {i: names.index(i) for i in ids if names.count(i) == 1}
    left = [n for n in range(len(names)) if n not in own.values()]
    chosen = [own[i] if i in own else left.pop(0) for i in ids if i in own or left]
    return chosen + left


def port_of(name: str, tensor: Any) -> list[Any]:
    """A framework's symbolic tensor as `Executor.describe` gives it."""
    dtype = getattr(tensor.dtype, "name", None) or str(tensor.dtype)
    try:
        known = np.dtype(dtype).kind in _NUMBERS
    except TypeError:  # text
        known = False
    return [name, sizes_of(tensor) or [], dtype if known else None]


def plain(value: Any) -> npt.NDArray[Any]:
    """A framework's array as one of numpy's own types; bfloat16, which it lacks, as float32."""
    array = np.asarray(value)
    return array if array.dtype.kind in _NUMBERS else array.astype(np.float32)


def check_axes(array: npt.NDArray[Any], tensor: Any) -> None:
    """Refuse an array of another number of axes; Keras would drop or add one of size 1.

    Raises
    ------
    NotFitting
        Says how many are taken.
    """
    sizes = sizes_of(tensor)
    if sizes is not None and array.ndim != len(sizes):
        raise NotFitting(
            f"an array of {array.ndim} axes was given where the network takes {len(sizes)}."
        )


def sizes_of(tensor: Any) -> list[int | None] | None:
    """Sizes of a symbolic tensor, None for a free one; None where it may have any axes."""
    try:
        return [None if n is None else int(n) for n in tensor.shape]
    except (TypeError, ValueError):
        return None


def cause_of(error: BaseException) -> str:
    """The line of a framework's message that says what happened.

    Keras puts where it happened before that, what it was given after it, and the exception behind
    an exception at the end; TensorFlow puts a node's name before it.
    """
    text = _COLOURS.sub("", str(error)).rpartition("Exception encountered: ")[2]
    lines = [_NODE.sub("", line).strip() for line in text.splitlines()]
    said = [x for x in lines if x and not x.startswith(("Exception encountered when", "Arguments"))]
    first = _ADVICE.split(said[0])[0] if said else ""
    return first[:400].rstrip(". ") or type(error).__name__


def restated(error: Exception) -> Exception:
    """The exception under its own name, with `cause_of` as its text."""
    made: Exception = type(type(error).__name__, (Exception,), {})(cause_of(error))
    return made
