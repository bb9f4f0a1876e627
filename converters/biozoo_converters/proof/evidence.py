"""What equal results prove: little where the original gives the same whatever goes in."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .agreement import rms_of, varies

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .setting import Setting

__all__ = ["Dead", "idle_outputs", "unprovable"]

Arrays = Mapping[str, "NDArray[Any]"]


def idle_outputs(setting: Setting, outputs: Arrays) -> list[str]:
    """The outputs that are the same everywhere, or no number anywhere."""
    return [o for o, a in outputs.items() if not varies(a, setting.dims.get(o, ()))]


class Dead:
    """Whether all outputs of the original were the same everywhere, and the same in every case."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._known: dict[str, tuple[float, float]] = {}
        self.all = True

    def look(self, outputs: Arrays) -> None:
        """Take one more case into account."""
        self.all = self.all and len(idle_outputs(self._setting, outputs)) == len(outputs)
        for o, array in outputs.items() if self.all else ():
            now = (float(array.mean(dtype=np.float64)), rms_of(array))
            same = np.allclose(now, self._known.setdefault(o, now), 1e-5, 0, equal_nan=True)
            self.all = self.all and bool(same)


def unprovable(absent: Collection[str], dead: Dead) -> str:
    """Why equal results would prove nothing of the weights; "" where they would.

    Parameters
    ----------
    absent
        Outputs of the description that the original does not give.
    """
    if absent:
        names = ", ".join(f"'{o}'" for o in sorted(absent))
        return f"the original gives no output {names}: nothing proves what the description promises"
    if dead.all:
        return (
            "nothing could be compared: whatever goes in, every output of the original is the "
            "same everywhere, as of a network that died in training"
        )
    return ""
