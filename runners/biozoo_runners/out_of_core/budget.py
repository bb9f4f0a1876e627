"""How much memory an out-of-core run may take, and what of it goes where."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod

from biozoo.errors import OutOfMemoryError, UsageError
from biozoo.files import size_text

from ..check_memory import FEATURES
from ..tiling import TilePlan

__all__ = ["LEAST", "block_elements", "default_memory", "fitting_plan", "read_memory"]

#: Below this the program with a network's framework and one small tile does not fit.
LEAST = 384 * 2**20

_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}


def read_memory(text: str) -> int:
    """`1GiB`, `800MB`, `2g` as bytes.

    Raises
    ------
    UsageError
        It is no amount of memory, or less than a run can do with.
    """
    found = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([kmgt]?)(i?b)?", text.strip().lower())
    if found is None:
        raise UsageError(
            f"--memory {text}: that is no amount of memory. Write for example --memory 1GiB."
        )
    number, unit, kind = found.groups()
    power = _UNITS[unit]
    if kind == "b" and unit:  # "MB" is a million bytes, "MiB" 2 ** 20
        power = 1000 ** (list(_UNITS).index(unit))
    amount = int(float(number) * power)
    if amount < LEAST:
        raise UsageError(
            f"--memory {text}: a run takes {size_text(LEAST)} at least, the program itself most of "
            "that. Give more, for example --memory 1GiB."
        )
    return amount


def default_memory() -> int:
    """A quarter of what is free, and no less than a run needs."""
    import psutil

    return max(LEAST, int(psutil.virtual_memory().available) // 4)


def block_elements(memory: int) -> int:
    """Values of a block's largest result. Two blocks are there at once, one computed and one
    written, each in float32 and once more as it lies in the file. Not larger than a few tiles: what
    is computed again after a kill is the block at hand.
    """
    return min(2**23, max(2**18, memory // 64))


def fitting_plan(
    plan: TilePlan, memory: int, smaller: Callable[[TilePlan], TilePlan | None]
) -> TilePlan:
    """The plan with tiles so small that the network's features take half of the memory.

    `smaller` gives the next smaller plan, None where there is none.

    Raises
    ------
    OutOfMemoryError
        The smallest tile that the model takes needs more than all of it.
    """
    while _features(plan) > memory / 2:
        made = smaller(plan)
        if made is None:
            break
        plan = made
    if _features(plan) > memory:
        size = " x ".join(str(g.tile) for g in plan.grid) or "the whole image"
        raise OutOfMemoryError(
            f"The smallest tile that the model takes, {size}, needs about "
            f"{size_text(_features(plan))} in the network, more than the {size_text(memory)} it "
            "may take. Give more: --memory "
            f"{max(1, -(-int(_features(plan)) // 2**29))}GiB."
        )
    return plan


def _features(plan: TilePlan) -> float:
    return 4.0 * FEATURES * prod(g.tile for g in plan.grid)
