"""Decisions by size that an exported graph has frozen, and that allowed sizes decide otherwise.

torch.export keeps as guards what had to hold for the sizes that it followed the network with. Some
do not matter for the result (how a tensor lies in memory), so whether a graph holds only a
comparison decides; a guard tells why it did not.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..networks.author_code import is_own_line

__all__ = ["frozen_decisions"]

_Free = Sequence[Mapping[int, tuple[str, int, int]]]

#: Steps above the least size for the axes of an input, in turn: odd and even, equal and not.
_STEPS = ((8, 9), (9, 8), (11, 10), (10, 13), (8, 8))


def frozen_decisions(given: Sequence[Any], free: _Free) -> list[str]:
    """The first guard that some allowed sizes break, as a clause; empty for none.

    Parameters
    ----------
    given
        The symbolic input tensors of the exported program.
    free
        As `ExportRequest.free`.
    """
    try:
        guards = next(t.fake_mode.shape_env.guards for t in given if hasattr(t, "fake_mode"))
        for sizes in _allowed(given, free):
            for guard in guards:
                if _matters(guard.expr) and str(guard.expr.xreplace(sizes)) == "False":
                    return [_told(guard, sizes, given, free)]
    except Exception:  # torch's own classes, which may change: a hint less
        pass
    return []


def _matters(expr: Any) -> bool:
    """Not a guard of torch's own against sizes of 0 and 1, such as Ne(y//4, 1)."""
    kind = type(expr).__name__
    trivial = kind in ("Unequality", "GreaterThan", "StrictGreaterThan", "LessThan")
    small = any(str(side) in ("0", "1") for side in expr.args)
    return not (trivial and small) or "Mod" in str(expr)


def _symbols(given: Sequence[Any], free: _Free) -> dict[Any, tuple[str, int, int, int]]:
    """Symbol -> name, step, least and number of its axis."""
    found: dict[Any, tuple[str, int, int, int]] = {}
    for tensor, axes in zip(given, free, strict=True):
        for number, (axis, (name, step, least)) in enumerate(axes.items()):
            symbol = getattr(getattr(tensor.shape[axis], "node", None), "expr", None)
            if symbol is not None and symbol.is_Symbol:
                found.setdefault(symbol, (name, step, least, number))
    return found


def _allowed(given: Sequence[Any], free: _Free) -> Iterator[dict[Any, Any]]:
    """Symbol -> size, several times."""
    import sympy  # type: ignore[import-untyped,unused-ignore]

    for steps in _STEPS:
        yield {
            symbol: sympy.Integer(least + step * steps[number % 2])
            for symbol, (_, step, least, number) in _symbols(given, free).items()
        }


def _told(guard: Any, sizes: Mapping[Any, Any], given: Sequence[Any], free: _Free) -> str:
    import sympy  # type: ignore[import-untyped,unused-ignore]

    names = {symbol: axis[0] for symbol, axis in _symbols(given, free).items()}
    words = guard.expr.xreplace({s: sympy.Symbol(n) for s, n in names.items()})
    place = guard.sloc.framework_loc
    line = str(getattr(place, "filename", ""))
    at = f" ({Path(line).name}, line {place.lineno})" if line and is_own_line(line) else ""
    decides = str(words) if len(str(words)) <= 80 else "a condition on sizes"
    used = {s: n for s, n in names.items() if s in guard.expr.free_symbols}
    where = ", ".join(f"{name} = {sizes[symbol]}" for symbol, name in used.items())
    return (
        f"the network decides by {decides}{at}; the graph has what it does where that holds, and "
        f"it does not hold for {where}"
    )
