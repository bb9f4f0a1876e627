"""What one open page has chosen so far. A value: every step makes a new one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class ChosenImage:
    """The image a person wants to run on.

    Attributes
    ----------
    image
        One file, or one per input tensor id.
    name
        What the person calls it.
    about
        Where a sample comes from, in words; empty for an own image.
    command
        How to get a sample on the command line; empty for an own image.
    axes, channel
        The answers to what the image does not say.
    """

    image: Path | Mapping[str, Path]
    name: str
    about: str = ""
    command: str = ""
    axes: str | None = None
    channel: int | str | tuple[int, ...] | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file of it."""
        return tuple(self.image.values()) if isinstance(self.image, Mapping) else (self.image,)

    def own_words(self, message: str) -> str:
        """`message` with the person's name for the file in place of where the server keeps it."""
        for file in self.files:
            message = message.replace(str(file), f"'{self.name}'")
        return message


@dataclass(frozen=True)
class Session:
    """The choices of one open page.

    Attributes
    ----------
    model
        Id, empty before one is chosen.
    image
        What to run on.
    checked
        Whether the check of both said yes.
    run
        Id of the run last started.
    """

    model: str = ""
    image: ChosenImage | None = None
    checked: bool = False
    run: str = ""
