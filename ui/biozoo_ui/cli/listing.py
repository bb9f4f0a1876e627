"""A source on a terminal, line by line.

Lines are cut here and not by the terminal, so that no line can pass for the next one's number.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from biozoo.visible import other_letters, visible

__all__ = ["line_count", "listing", "odd_lines"]

#: What Python takes for the end of a line; others (form feed, U+2028) are not.
_LINE_END = re.compile(r"\r\n|\r|\n")


def listing(text: str, *, width: int | None = None, limit: int | None = None) -> Iterator[str]:
    """The lines of a source with their numbers; a "!" marks those with characters written out.

    Parameters
    ----------
    text
        The source.
    width
        Columns of the terminal, None for lines of any length.
    limit
        Most lines of the source to give, None for all.
    """
    lines = _lines(text)
    digits = len(str(len(lines)))
    for number, line in enumerate(lines[:limit], start=1):
        plain = line.expandtabs(4)
        shown = visible(plain)
        mark = "!" if shown != plain else " "
        parts = list(_cut(shown, max(20, width - digits - 6))) if width else [shown]
        yield f"{number:>{digits + 2}} {mark}| {parts[0]}".rstrip()
        for more in parts[1:]:
            yield f"{'':>{digits + 2}}  : {more}"


def line_count(text: str) -> int:
    """How many lines a source has."""
    return len(_lines(text))


def odd_lines(text: str) -> Iterator[str]:
    """What to tell of lines that are not what they seem, with their numbers; often nothing."""
    lines = list(enumerate(_lines(text), start=1))
    written = [n for n, line in lines if visible(plain := line.expandtabs(4)) != plain]
    other = [n for n, line in lines if other_letters(line)]
    if written:
        yield f"! marks characters that a terminal hides or obeys, written out: {_where(written)}"
    if other:
        yield f"Letters of another alphabet that can pass for plain ones: {_where(other)}"


def _where(numbers: Sequence[int]) -> str:
    more = ", ..." if len(numbers) > 8 else ""
    return f"line {', '.join(map(str, numbers[:8]))}{more}"


def _lines(text: str) -> list[str]:
    lines = _LINE_END.split(text)
    return lines if lines[-1] else lines[:-1]


def _cut(line: str, width: int) -> Iterator[str]:
    """A line in parts that fit; what is not ASCII may take two columns."""
    part, used = "", 0
    for char in line:
        takes = 1 if char.isascii() else 2
        if used + takes > width:
            yield part
            part, used = "", 0
        part, used = part + char, used + takes
    yield part
