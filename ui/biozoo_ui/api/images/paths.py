"""Which paths of the server may be opened, and under which names uploads are kept."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from .errors import RefusedPathError


def allowed_path(path: str, folders: Sequence[Path]) -> Path:
    """A path within the folders, links resolved; a relative one is looked for in each.

    Parameters
    ----------
    folders
        Resolved.

    Raises
    ------
    RefusedPathError
        For another one, whether it exists or not.
    """
    for folder in folders:
        try:
            found = (folder / Path(path).expanduser()).resolve()
            if any(found.is_relative_to(one) for one in folders) and (
                found.exists() or folder == folders[-1]
            ):
                return found
        except (OSError, RuntimeError, ValueError):  # loops of links, unknown users, NUL
            break
    raise RefusedPathError(path=path)


def safe_name(name: str) -> str:
    """A file name without folders or what a file system refuses; its ending stays.

    >>> safe_name("../../etc/my cells.tif"), safe_name("..")
    ('my cells.tif', 'image')
    """
    last = re.split(r"[\\/]", name)[-1]
    clean = re.sub(r'[\x00-\x1f\x7f<>:"|?*\ud800-\udfff]', "_", last).strip().lstrip(".")
    return clean.encode()[-150:].decode(errors="ignore").lstrip(". ") or "image"
