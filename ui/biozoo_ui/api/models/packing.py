"""A model of the zoo as one zip: a bioimage.io package, sent while it is made."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

from biozoo.files import LITTER

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from biozoo import ModelPackage

__all__ = ["package_name", "zipped"]

CHUNK = 2**20
MADE = (1980, 1, 1, 0, 0, 0)  # the same package gives the same bytes


def package_name(package: ModelPackage) -> str:
    """What the file is called."""
    version = f"-{package.version}" if package.version else ""
    return f"{package.id}{version}.zip"


def zipped(package: ModelPackage) -> Iterator[bytes]:
    """The package's files, flat, in pieces; nothing is written on this machine.

    Weights hardly shrink, so the fastest compression is taken.
    """
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name in _files(package):
            info = zipfile.ZipInfo(name, MADE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            large = (package.root / name).stat().st_size >= 2**31
            with (
                (package.root / name).open("rb") as source,
                archive.open(info, "w", force_zip64=large) as target,
            ):
                while piece := source.read(CHUNK):
                    target.write(piece)
                    yield sink.taken()
    yield sink.taken()


def _files(package: ModelPackage) -> list[str]:
    """Relative names of its files, its description first."""
    if package.record is not None:
        names = list(package.record.files)
    else:
        found = (p for p in package.root.rglob("*") if p.is_file() and p.name not in LITTER)
        names = sorted(p.relative_to(package.root).as_posix() for p in found)
    return sorted(names, key=lambda n: n != package.rdf.name)


class _Sink(io.RawIOBase):
    """A file that can only be written to; what was written is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Buffer) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        return len(piece)

    def taken(self) -> bytes:
        pieces, self._pieces = self._pieces, []
        return b"".join(pieces)
