"""Words of a child package: what it is called, and its README."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from biozoo.summary import slug

__all__ = ["child_id", "child_name", "readme"]

_LONGEST_NAME = 128  # of the specification
_RETRAINED = re.compile(r" - retrained( \d+)?$")


def child_id(parent: str, target: Path) -> str:
    """An id that tells where it comes from: the parent's, then the file's own name.

    >>> child_id("nuclei-fluo", Path("stained.zip"))
    'nuclei-fluo-stained'
    >>> child_id("nuclei-fluo", Path("nuclei-fluo-mine.zip"))
    'nuclei-fluo-mine'
    """
    stem = slug(target.stem if target.suffix.lower() == ".zip" else target.name)
    if not stem or stem == parent:
        return f"{parent}-retrained"
    return stem if stem.startswith(f"{parent}-") else f"{parent}-{stem}"


def child_name(parent: str, rounds: int) -> str:
    """The parent's name, and that it was retrained; the number of times from the second on."""
    base = _RETRAINED.sub("", parent)
    end = " - retrained" if rounds < 2 else f" - retrained {rounds}"
    return base[: _LONGEST_NAME - len(end)].rstrip() + end


def readme(name: str, parent: str, sections: Sequence[str], parent_text: str) -> str:
    """The README of a child: sections of its own, then its parent's text one heading lower.

    Parameters
    ----------
    name
        Of the child.
    parent
        Id and version of the parent.
    sections
        Markdown, each with its heading of the second level.
    parent_text
        The parent's README, "" where it has none.
    """
    parts = [f"# {name}", *(s.strip() for s in sections)]
    if parent_text.strip():
        parts += [
            f"## The model it was made from: {parent}",
            "What follows was written of that model. Its scores are not this model's.",
            _lower(parent_text.strip()),
        ]
    return "\n\n".join(parts) + "\n"


def _lower(markdown: str) -> str:
    """Headings two levels lower, down to the sixth; lines of code stay as they are."""
    lines, code = [], ""
    for line in markdown.splitlines():
        if fence := re.match(r"\s*(```+|~~~+)", line):
            code = "" if code and fence[1].startswith(code) else code or fence[1]
        elif not code and (heading := re.match(r"(#{1,6})(\s.*)", line)):
            line = "#" * min(len(heading[1]) + 2, 6) + heading[2]
        lines.append(line)
    return "\n".join(lines)
