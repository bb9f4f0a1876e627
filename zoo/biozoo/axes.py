"""The vocabulary of axes: bioimage.io axis ids, and the one-letter notation people type.

Axis ids are those of bioimageio.spec: batch, time, channel, z, y, x (and index). In letters:
b, t, c, z, y, x (and i), so "bcyx" means (batch, channel, y, x). Nothing here guesses: an unknown
letter, a repeated axis or a count that differs from the array's is an error.
"""

from __future__ import annotations

from collections.abc import Sequence

from .errors import AxesError

LETTERS = {"b": "batch", "t": "time", "c": "channel", "z": "z", "y": "y", "x": "x", "i": "index"}
IDS = {axis: letter for letter, axis in LETTERS.items()}

#: Order in which image files are written (OME's TCZYX, preceded by what OME does not know).
CANONICAL = ("batch", "index", "time", "channel", "z", "y", "x")

SPACE = ("z", "y", "x")


def parse_axes(axes: str | Sequence[str], *, ndim: int | None = None) -> tuple[str, ...]:
    """Axis ids from letters ("bcyx"), a comma list ("batch,channel,y,x") or a sequence of ids.

    Parameters
    ----------
    axes
        One name per array dimension, slowest first.
    ndim
        The array's number of dimensions, checked where given.

    Raises
    ------
    AxesError
        For an unknown or repeated axis, or a count other than `ndim`.
    """
    if isinstance(axes, str):
        names = [a.strip() for a in axes.split(",")] if "," in axes else list(axes.strip())
    else:
        names = list(axes)
    ids = tuple(LETTERS.get(n.lower(), n.lower()) for n in names)
    if unknown := [n for n, i in zip(names, ids, strict=True) if i not in IDS]:
        raise AxesError(
            f"Axes '{axes if isinstance(axes, str) else ','.join(axes)}': unknown "
            f"{', '.join(map(repr, unknown))}. Known are "
            + ", ".join(f"{letter} ({axis})" for letter, axis in LETTERS.items())
            + ", for example --axes zyx."
        )
    if repeated := sorted({i for i in ids if ids.count(i) > 1}):
        raise AxesError(
            f"Axes '{letters(ids)}': {', '.join(repeated)} stands more than once. "
            "Each axis may be named once."
        )
    if ndim is not None and len(ids) != ndim:
        raise AxesError(
            f"Axes '{letters(ids)}' name {len(ids)} dimensions, the array has {ndim}. "
            "Name one axis per dimension, slowest first, for example --axes zyx."
        )
    return ids


def letters(ids: Sequence[str]) -> str:
    """The one-letter notation of axis ids, for messages: ("channel", "y", "x") -> "cyx"."""
    return "".join(IDS.get(i, f"[{i}]") for i in ids)
