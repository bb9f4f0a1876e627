"""Text of a stranger, so that it shows what it is and nothing else on a terminal."""

from __future__ import annotations

import unicodedata

__all__ = ["other_letters", "visible"]

#: Directions of writing that reorder what stands beside them.
_RIGHT_TO_LEFT = ("R", "AL", "AN")

_UNLIKE = ("LATIN ", "CJK ", "HIRAGANA ", "KATAKANA ", "HANGUL ", "MICRO SIGN")


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


def other_letters(text: str) -> str:
    r"""The letters of `text`, each once, that can pass for those of the Latin alphabet.

    The Cyrillic "\u0435" is no "e", and Python takes the mathematical "\U0001d41e" for one.

    >>> other_letters("n\u0435t.py, \u00e9")
    '\u0435'
    """
    if text.isascii():
        return ""
    found = (c for c in text if not c.isascii() and c.isalpha())
    return "".join(dict.fromkeys(c for c in found if not _unlike(c)))


def _unlike(char: str) -> bool:
    """Whether a letter is Latin itself, or of a writing that looks otherwise."""
    return unicodedata.name(char, "").startswith(_UNLIKE)


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
