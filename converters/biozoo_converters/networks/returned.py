"""What a network returned, as a flat list of named values; and which of them are kept.

Networks return a tensor, or tuples, lists, dicts, named tuples and dataclasses of them, one inside
the other. Names come from dicts and fields; what has none is "output", "output1", ...
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biozoo.errors import NetworkError, closest

__all__ = ["ReturnedError", "chosen", "flat", "not_a_tensor"]


class ReturnedError(NetworkError):
    """The network ran, and what it returned is no output of a package, whatever its input."""


def flat(made: Any) -> list[tuple[str, Any]]:
    """Name -> value of everything that was returned, in order; names are unique."""
    named: list[tuple[str, Any]] = []
    seen: set[str] = set()
    for path, value in _leaves(made, ()):
        parts = [str(p) for p in path if not isinstance(p, int)]
        name = "_".join(parts) or "output"
        if name in seen:
            name = next(f"{name}{n}" for n in range(1, len(seen) + 2) if f"{name}{n}" not in seen)
        seen.add(name)
        named.append((name, value))
    return named


def _leaves(value: Any, path: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, (*path, str(key)))
    elif isinstance(value, tuple | list):
        keys: Sequence[str | int] = getattr(value, "_fields", range(len(value)))
        for key, inner in zip(keys, value, strict=True):
            yield from _leaves(inner, (*path, key))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name), (*path, field.name))
    else:
        yield path, value


def chosen(
    named: Sequence[tuple[str, Any]], outputs: Sequence[int | str] | None, who: str
) -> list[tuple[str, Any]]:
    """The outputs that are kept, by number or name, in the order asked for; None: all.

    Raises
    ------
    NetworkError
        There is no such output, or none at all.
    """
    if not named:
        raise ReturnedError(f"{who} returns nothing. Let its forward return a tensor.")
    if outputs is None:
        return list(named)
    by_name = dict(named)
    made = []
    for wanted in outputs:
        if isinstance(wanted, str) and wanted in by_name:
            made.append((wanted, by_name[wanted]))
        elif isinstance(wanted, int) and -len(named) <= wanted < len(named):
            made.append(named[wanted])
        else:
            near = closest(wanted, by_name) if isinstance(wanted, str) else []
            offer = f" Did you mean {' or '.join(near)}?" if near else ""
            listed = ", ".join(f"{i} ({n})" for i, n in enumerate(by_name))
            raise ReturnedError(f"{who} has no output {wanted!r}.{offer} It has {listed[:400]}.")
    return made


def not_a_tensor(
    who: str, number: int, name: str, value: Any, count: int, tensors: Sequence[str] = ()
) -> ReturnedError:
    """The error for an output that is kept and is something else than a tensor.

    `tensors` are the names of those that are.
    """
    kind = "None" if value is None else _kind(value)
    if count == 1:
        todo = "Wrap the network in one whose forward returns a tensor"
    else:
        todo = "Wrap the network in one whose forward returns tensors"
        if tensors:
            names = ",".join(tensors)
            todo = f"Keep only those that are tensors: --outputs {names} (pack.yaml: keep_outputs)"
    which = f"output {number} ('{name}')" if count > 1 else "its output"
    return ReturnedError(
        f"{who} gives an output that is not a tensor: {which} is {kind}. Each output of a package "
        f"is an array. {todo}."
    )


def _kind(value: Any) -> str:
    kind = type(value)
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    return f"{'an' if name[:1] in 'aeiou' else 'a'} {name}"
