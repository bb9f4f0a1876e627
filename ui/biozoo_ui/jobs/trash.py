"""Folders of what is deleted: gone at once, even where a kill stops the removal of their files."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from pathlib import Path

from biozoo.files import writing

_TRASH = ".trash-"


def throw_away(folder: Path) -> None:
    """Remove a folder with all that is in it; nothing happens where it is not there.

    Raises
    ------
    StorageError
        That is not possible; it is whole then.
    """
    trash = folder.with_name(f"{_TRASH}{folder.name}-{secrets.token_hex(4)}")
    with writing(folder), contextlib.suppress(FileNotFoundError):
        folder.rename(trash)
    shutil.rmtree(trash, ignore_errors=True)


def clean_trash(parent: Path) -> None:
    """Remove what a server was removing when it was killed."""
    for trash in parent.glob(f"{_TRASH}*"):
        shutil.rmtree(trash, ignore_errors=True)
