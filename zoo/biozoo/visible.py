"""Text of a stranger, so that it shows what it is and nothing else on a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["visible"]

#: Directions of writing that reorder what stands beside them.
_RIGHT_TO_LEFT = ("R", "AL", "AN")


def visible(text: str) -> str:
    r"""`text` with every character written out that does not show by itself, or where it stands.

    Those are control characters (a terminal obeys them), marks without width, spaces that are no
    plain ones, and whatever changes the direction of writing: Python reads a source in another
    order than it is shown then.

    >>> visible("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if _shows(c) else _written(c) for c in text)


def _shows(char: str) -> bool:
    if char.isascii():
        return char.isprintable()
    return (
        char.isprintable()
        and not unicodedata.combining(char)
        and unicodedata.bidirectional(char) not in _RIGHT_TO_LEFT
    )


def _written(char: str) -> str:
    number = ord(char)
    if number < 0x100:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
