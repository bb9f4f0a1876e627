"""A stranger's words, made harmless once, before any card is written.

A description is data from somebody unknown: its values may be of any type, hold what a terminal
obeys, or marks that turn the direction of writing. What comes out of here is plain text; what a
kind of card gives a meaning to (`<`, `|`, `{`) is escaped where that card is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from biozoo.visible import visible

__all__ = ["items", "lines", "mapping", "number", "one_line", "sequence", "web"]

#: Longest text of one field; what is longer is no sentence but an attack on the reader's patience.
MAX_FIELD = 4000

#: What a terminal obeys, what turns the direction of writing, and halves of characters, which no
#: file can hold.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)


def one_line(value: Any, limit: int = MAX_FIELD) -> str:
    """A value as one line of plain text; "" for None, mappings and lists."""
    if value is None or isinstance(value, Mapping | list | tuple | set | bytes):
        return ""
    text = " ".join(_safe(str(value)[: 2 * limit]).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def lines(value: Any) -> str:
    """A text of several lines, such as documentation."""
    return _safe(str(value).replace("\r\n", "\n").replace("\r", "\n"))


def web(value: Any) -> str:
    """An http(s) address, "" for anything else."""
    text = one_line(value)
    try:
        parts = urlsplit(text)
    except ValueError:  # "http://["
        return ""
    known = parts.scheme.lower() in ("http", "https") and parts.netloc
    return text if known and not re.search(r"[\s<>\"\\^`{|}]", text) else ""


def mapping(value: Any) -> Mapping[str, Any]:
    """The value where it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def sequence(value: Any) -> list[Any]:
    """The value where it is a list, else an empty one."""
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str | bytes) else []


def items(value: Any) -> list[Mapping[str, Any]]:
    """The mappings of a list."""
    return [item for item in sequence(value) if isinstance(item, Mapping)]


def number(value: Any) -> float | None:
    """A number, None for anything else (and for True)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def _safe(text: str) -> str:
    return _OBEYED.sub(_written, text)


def _written(found: re.Match[str]) -> str:
    char = found[0]
    if "\ud800" <= char <= "\udfff":
        return f"\\u{ord(char):04x}"
    return visible(char) if char not in "\x0b\x0c\x1c\x1d\x1e\x1f\x85" else " "
