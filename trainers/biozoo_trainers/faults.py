"""What is told of images, one by one, told once for all of which the same holds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

__all__ = ["grouped", "notes_of", "some"]

#: So many names stand for all images of a group.
_NAMED = 3


def some(names: Sequence[str], most: int = 8) -> str:
    """The first of these names, and how many more there are.

    >>> some(["a", "b", "c"], 2)
    'a, b and 1 more'
    """
    listed = ", ".join(names[:most])
    return f"{listed} and {len(names) - most} more" if len(names) > most else listed


def grouped(told: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Whom it is about -> what is told.

    Parameters
    ----------
    told
        Name of an image and a sentence about it. Sentences that differ in numbers and names of
        files only are one, that of the first image.

    Returns
    -------
    dict
        In the order of the first image of each group.

    >>> grouped([("a", "it has 3 channels"), ("b", "it is empty"), ("c", "it has 4 channels")])
    {'2 images (a, c)': 'it has 3 channels (a; the others alike)', 'b': 'it is empty'}
    """
    found: dict[str, str] = {}
    for names, text in _groups(told):
        found[_free(_called(names), found)] = text
    return found


def notes_of(told: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """The same as sentences, the name of a single image in quotes."""
    return tuple(
        f"{_called(names)}: {text}" if len(names) > 1 else f"'{names[0]}': {text}"
        for names, text in _groups(told)
    )


def _groups(told: Iterable[tuple[str, str]]) -> list[tuple[list[str], str]]:
    """Names of the images of each group, and what is told of them."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for name, text in told:
        groups.setdefault(_kind(name, text), []).append((name, text))
    found = []
    for members in groups.values():
        name, text = members[0]
        if any(t != text for _, t in members):
            text = f"{text} ({name}; the others alike)"
        found.append(([n for n, _ in members], text))
    return found


def _called(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} images ({some(names, _NAMED)})"


def _kind(name: str, text: str) -> str:
    """The sentence without what differs from image to image: its file's name, and numbers."""
    own = re.compile(rf"(?<![A-Za-z0-9]){re.escape(name)}(?![A-Za-z0-9])")
    words = [own.sub("*", w) if re.search(r"[./\\]", w) else w for w in text.split(" ")]
    return re.sub(r"\d[\d.,]*", "#", " ".join(words))


def _free(name: str, taken: dict[str, str]) -> str:
    """Two images may have one name."""
    number = 2
    free = name
    while free in taken:
        free, number = f"{name} [{number}]", number + 1
    return free
