"""What an ONNX graph says of itself: the files it refers to, none outside the package, its opset.

An ONNX file may keep tensors in other files, named in the graph by a path. A stranger's graph
could name any file of this machine, so the paths are read and checked before a framework sees
the graph. The protobuf fields are walked here (some 1 ms for a 2 MB model) because importing the
onnx package for it costs more than loading most models.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

from biozoo.errors import BackendError

__all__ = ["check_external_data", "external_locations", "opset_version"]

# Field numbers of onnx.proto3 (github.com/onnx/onnx, IR version 13) that lead to a tensor.
_CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {13: "entry"},
}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def external_locations(path: Path) -> set[str]:
    """The paths of all external data that the ONNX file `path` names, as written in it.

    Raises
    ------
    ValueError
        The file is no ONNX protobuf.
    OSError
        The file cannot be read.
    """
    found: set[str] = set()
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        stack = [("model", 0, len(data))]
        while stack:
            kind, start, stop = stack.pop()
            if kind == "entry":
                key, value = _entry(data, start, stop)
                if key == b"location":
                    found.add(value.decode("utf-8", "surrogateescape"))
                continue
            children = _CHILDREN[kind]
            for number, begin, end in _fields(data, start, stop):
                if number in children:
                    stack.append((children[number], begin, end))
    return found


def check_external_data(graph: Path, root: Path, *, model: str) -> tuple[Path, ...]:
    """The external data files of `graph`, all inside `root` once links are followed.

    Raises
    ------
    BackendError
        The graph is unreadable, names a file outside the package, or one that is missing.
    """
    try:
        locations = external_locations(graph)
    except (ValueError, OSError) as exc:
        raise BackendError(
            f"Model '{model}': {graph.name} is no readable ONNX file ({exc}). Fetch the package "
            "again."
        ) from exc
    inside = root.resolve()
    files = []
    for location in sorted(locations):
        file = (graph.parent / location).resolve()
        pure = (PurePosixPath(location), PureWindowsPath(location))
        if any(
            p.is_absolute() or p.drive or ".." in p.parts for p in pure
        ) or not file.is_relative_to(inside):
            raise BackendError(
                f"Model '{model}': {graph.name} wants to read '{location}', which is outside the "
                "package's folder. It was not loaded; do not use this package."
            )
        if not file.is_file():
            raise BackendError(
                f"Model '{model}': {graph.name} keeps tensors in '{location}', which the package "
                "does not hold. Ask its author to pack it (weights.onnx.external_data)."
            )
        files.append(file)
    return tuple(files)


def opset_version(path: Path) -> int:
    """Which version of ONNX's own operators the graph is written in; 0 where it does not say.

    Raises
    ------
    ValueError
        The file is no ONNX protobuf.
    OSError
        The file cannot be read.
    """
    found = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for number, start, stop in _fields(data, 0, len(data)):
            if number == 8:  # ModelProto.opset_import
                numbers: dict[int, int] = {}
                texts = {n: data[a:b] for n, a, b in _fields(data, start, stop, numbers)}
                if texts.get(1, b"") in (b"", b"ai.onnx"):
                    found = max(found, numbers.get(2, 0))
    return found


def _fields(
    data: mmap.mmap, at: int, stop: int, numbers: dict[int, int] | None = None
) -> Iterator[tuple[int, int, int]]:
    """Number, start and end of each length-delimited field; integers go into `numbers`."""
    while at < stop:
        tag, at = _varint(data, at, stop)
        number, wire = tag >> 3, tag & 7
        if wire == _BYTES:
            size, at = _varint(data, at, stop)
            if at + size > stop:
                raise ValueError("a field is longer than its message")
            yield number, at, at + size
            at += size
        elif wire == _VARINT:
            value, at = _varint(data, at, stop)
            if numbers is not None:
                numbers[number] = value
        elif wire in (_FIXED32, _FIXED64):
            at += 4 if wire == _FIXED32 else 8
        else:
            raise ValueError(f"unknown wire type {wire}")
    if at != stop:
        raise ValueError("a field is longer than its message")


def _varint(data: mmap.mmap, at: int, stop: int) -> tuple[int, int]:
    """A variable-length integer and where it ends."""
    value = shift = 0
    while at < stop and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number does not end")


def _entry(data: mmap.mmap, start: int, stop: int) -> tuple[bytes, bytes]:
    """Key and value of a StringStringEntryProto."""
    found = {number: data[begin:end] for number, begin, end in _fields(data, start, stop)}
    return found.get(1, b""), found.get(2, b"")
