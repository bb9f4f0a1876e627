"""Refusals that only the server knows."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from biozoo.errors import BiozooError, UsageError
from biozoo.files import size_text

Error = TypeVar("Error", bound=BiozooError)


class RefusedPathError(BiozooError, PermissionError):
    """A path outside of the folders that the server's owner allowed."""

    exit_code = 2
    http_status = 403

    def __init__(self, *, path: str) -> None:
        super().__init__(
            f"{path} is not within a folder whose images may be opened here. Upload the image, or "
            "ask the owner of this server to allow its folder."
        )


class UploadTooLargeError(UsageError):
    """A file larger than the server takes."""

    http_status = 413

    def __init__(self, *, name: str, most: int) -> None:
        super().__init__(
            f"{name} is too large: this server takes files of up to {size_text(most)}. "
            "Open it by its path on the server, or crop it."
        )


class TooMuchKeptError(UsageError):
    """A session keeps as much on the server as it may."""

    http_status = 413

    def __init__(self, *, name: str, kept: str, most: str) -> None:
        super().__init__(
            f"{name} is not taken: this server keeps up to {most} of images for you at a time, and "
            f"you keep {kept} already. Close an image that you no longer need, then open this one."
        )


def told_as(exc: Error, path: Path, name: str) -> Error:
    """The same error in terms of the name that the user knows, not of a folder of the server."""
    exc.args = (exc.message.replace(str(path), name),)
    return exc
