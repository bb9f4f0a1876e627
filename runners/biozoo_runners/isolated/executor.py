"""What lives in the child process: loads once, then maps arrays to arrays."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt

__all__ = ["DeviceRefused", "Executor", "NotFitting"]


class DeviceRefused(Exception):
    """Raised by an executor: the asked device would not be used. Its text is the cause.

    The parent raises `biozoo.errors.DeviceError` with it.
    """


class NotFitting(Exception):
    """Raised by an executor for a fault it understands: its text says what and what to do.

    The parent shows the text alone, without the name of an exception or a traceback.
    """


class Executor(Protocol):
    """One loaded network or processing step, constructed and called in the child.

    It may also have ``peak_device_memory()`` (most bytes taken on the graphics card, or None) and
    ``free_cached()`` (give back memory that is kept for later calls).

    The constructor and `run` may raise anything: the parent gets the exception's class name, its
    text and the end of its traceback.
    """

    def __init__(self, facts: Mapping[str, Any], scratch: Path) -> None:
        """Load.

        Parameters
        ----------
        facts
            What the parent gave, plain JSON values. A backend's always hold ``device``,
            ``threads``, ``input_ids`` and ``output_ids``.
        scratch
            The only folder that may be written to: home, temporary and working folder at once.
        """

    def describe(self) -> dict[str, Any]:
        """What was loaded, as JSON values.

        Returns
        -------
        dict
            ``version`` of the framework, ``providers`` (list of str), ``threads`` (int), and
            optionally ``device`` (what is really used), ``inputs`` and ``outputs``: a list of
            ``[name, shape, dtype]`` as the graph declares them (shape: list of int, str or None;
            dtype: numpy's name or None), or None where the framework does not say.
        """

    def run(self, arrays: list[npt.NDArray[Any] | None]) -> list[npt.NDArray[Any]]:
        """Execute once.

        Parameters
        ----------
        arrays
            In the order of ``inputs`` where `describe` gives them, else of the model's
            description. None stands for an optional input that was left out. They are views of
            shared memory, valid for this call.

        Returns
        -------
        list
            In the order of ``outputs`` where `describe` gives them, else of the description.
            dtype bool, integer, floating or complex.
        """
