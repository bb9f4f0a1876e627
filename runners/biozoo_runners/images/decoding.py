"""What decoders raise, turned into an error that says why in plain words."""

from __future__ import annotations

import contextlib
import errno
import re
import struct
from collections.abc import Iterator
from pathlib import Path

from biozoo.errors import BiozooError, ImageReadError, MissingDependencyError

# How decoders word that a file is too short.
_ENDS_EARLY = re.compile(
    r"truncated|\bEOF\b|greater than file size|failed to read \d+ bytes"
    r"|not enough data read|read \d+ bytes, expected|invalid chunkmap signature",  # CZI, LIF, ND2
    re.I,
)


@contextlib.contextmanager
def reading(path: Path | None, what: str = "") -> Iterator[None]:
    """Turn what decoders raise into an `ImageReadError` that says why in plain words."""
    try:
        yield
    except (BiozooError, MemoryError):
        raise
    except Exception as exc:  # a damaged file can make a decoder raise anything
        if path is None:
            raise
        if "imagecodecs" in str(exc):
            raise MissingDependencyError(
                what=f"Reading {path}", library="imagecodecs", install="pip install imagecodecs"
            ) from exc
        if isinstance(exc, OSError) and exc.errno in (errno.EACCES, errno.EPERM):
            raise ImageReadError(path=path, why="there is no permission to read it.") from exc
        said = str(exc).replace(str(path), "")  # its name may hold any word
        if isinstance(exc, struct.error | EOFError) or _ENDS_EARLY.search(said):
            raise ImageReadError(
                path=path,
                why="it is truncated: the file ends before its content does.",
                hint="Copy or download it again.",
            ) from exc
        why = f"{type(exc).__name__}: {exc}".strip().rstrip(".:")
        raise ImageReadError(
            path=path,
            why=f"{what or 'its content cannot be decoded'} ({why}).",
            hint="The file is damaged or of a kind that biozoo does not know; "
            "open it in Fiji and save it as OME-TIFF, or get it again from its source.",
        ) from exc
