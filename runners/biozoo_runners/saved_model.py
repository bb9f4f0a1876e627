"""A look into a TensorFlow SavedModel bundle without TensorFlow: what is in the zip, what it runs.

A SavedModel is a program. Its graph can hold operators that read and write files, run Python, or
talk to other machines; no network needs those, so a bundle with one is refused before it is loaded
(and what is loaded runs in a confined process all the same). What saves and restores variables is
left: every bundle has it. The protobuf fields are walked here; weights are skipped over.
"""

from __future__ import annotations

import lzma
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from biozoo.archive import members
from biozoo.errors import BiozooError
from biozoo.files import check_space, copy_file

__all__ = ["Bundle", "UnfitBundle", "look_into", "parse", "unpack"]

#: A protobuf cannot be larger; a bundle has some ten files.
_MAX_GRAPH, _MAX_FILES = 2**31, 1000

#: Operators that are refused, with what they do. Names as whole words.
_REFUSED = {
    "runs Python of its author": r"(Eager)?PyFunc(Stateless)?",
    "ends the process": r"Abort",
    "reads or writes files": (
        r"ReadFile|WriteFile|MatchingFiles|ImmutableConst|InitializeTableFromTextFile(V2)?"
        r"|GenerateVocabRemapping|LoadAndRemapMatrix|FileSystemSetConfiguration|DumpTensor"
        r"|DecodeProtoV2|EncodeProto|Skipgram|RecordInput|CalibrationStatisticsSaver"
        r"|(WholeFile|TextLine|FixedLengthRecord|TFRecord|LMDB|Identity)Reader(V2)?|ReaderRead.*"
        r"|(Experimental)?(TextLine|FixedLengthRecord|TFRecord|CSV|Sql|LMDB|MatchingFiles|Cache"
        r"|Load|Save|ListSnapshotChunks|Snapshot|SnapshotChunk|SnapshotNested)"
        r"(Dataset|DatasetReader)(V\d)?|(Experimental)?DatasetToTFRecord|DistributedSave"
        r"|SummaryWriter|CreateSummary(File|Db)Writer|Write\w*Summary|FlushSummaryWriter"
        r"|ImportEvent|Debug(Identity|NanCount|NumericSummary)(V\d)?"
    ),
    "talks to other programs": (
        r"Rpc\w+|_?(Host)?(Send|Recv)|_Host(Send|Recv)|DataServiceDataset(V\d)?|RegisterDataset(V2)?"
        r"|RemoteCall|Collective\w+|XlaCustomCall(V2)?"
    ),
}
_PATTERNS = [(re.compile(pattern), does) for does, pattern in _REFUSED.items()]

#: Where PrintV2 may print.
_STREAMS = ("", "stdout", "stderr", "log(info)", "log(warning)", "log(error)")

_BROKEN = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, NotImplementedError,
    OSError, RuntimeError, ValueError,
)  # fmt: skip


class UnfitBundle(Exception):
    """It is no bundle that can be loaded; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle says of itself.

    Attributes
    ----------
    top
        Its folder within the zip, "" or "folder/".
    tags
        Of each of its graphs.
    refused
        Operator -> what it does, of those that no network needs.
    """

    top: str
    tags: tuple[tuple[str, ...], ...] = ()
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def serving(self) -> tuple[str, ...]:
        """The tags of the graph to load: the one for serving, else the only one.

        Raises
        ------
        UnfitBundle
            There are several and none is for serving.
        """
        for tags in self.tags:
            if tags == ("serve",) or len(self.tags) == 1:
                return tags
        named = "; ".join(", ".join(tags) or "no tag" for tags in self.tags)
        raise UnfitBundle(
            f"the bundle holds {len(self.tags)} graphs ({named}) and none with the tag 'serve' "
            "alone. Ask the package's author to export it for serving."
        )


def look_into(path: Path, *, max_bytes: int) -> Bundle:
    """Check a zipped bundle without unpacking it.

    Parameters
    ----------
    path
        The zip.
    max_bytes
        How large it may be when unpacked.

    Raises
    ------
    UnfitBundle
        It is damaged, unsafe to unpack, no SavedModel, or holds an operator that is refused.
    """
    with _opened(path, max_bytes) as (archive, found):
        top = _top(found)
        info = found[f"{top}saved_model.pb"]
        if info.file_size >= _MAX_GRAPH:
            raise UnfitBundle("saved_model.pb is larger than a protobuf can be.")
        content = archive.read(info)
    bundle = parse(content, top=top)
    if bundle.refused:
        listed = ", ".join(f"{name}, which {does}" for name, does in bundle.refused.items())
        raise UnfitBundle(
            f"its graph has the operator {listed}. No network needs that, so it was not loaded. "
            "Do not use these weights; ask the package's author."
        )
    return bundle


def unpack(path: Path, target: Path, *, max_bytes: int) -> tuple[Path, Bundle]:
    """Unpack a bundle into the new folder `target`; where its `saved_model.pb` lies, and what
    `look_into` found.

    Raises
    ------
    UnfitBundle
        As `look_into`.
    """
    bundle = look_into(path, max_bytes=max_bytes)
    with _opened(path, max_bytes) as (archive, found):
        inside = {n: i for n, i in found.items() if n.startswith(bundle.top)}
        target.mkdir(parents=True)
        check_space(target, sum(info.file_size for info in inside.values()))
        for name, info in inside.items():
            place = target / name.removeprefix(bundle.top)
            place.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as member:
                size, _ = copy_file(member, place, limit=info.file_size)
            if size != info.file_size:
                raise UnfitBundle(f"'{name}' is not of the size that the zip claims.")
    return target, bundle


def parse(content: bytes, *, top: str = "") -> Bundle:
    """What a `saved_model.pb` says.

    Raises
    ------
    UnfitBundle
        It is no SavedModel.
    """
    tags: list[tuple[str, ...]] = []
    refused: dict[str, str] = {}
    try:
        data = memoryview(content)
        for graph in _sub(data, 2):  # SavedModel.meta_graphs
            tags.append(_tags(graph))
            for node in _nodes(graph):
                for name in _names(node):
                    if does := _fault(name, node):
                        refused[name] = does
    except (ValueError, UnicodeDecodeError) as exc:
        raise UnfitBundle(
            f"saved_model.pb is damaged ({exc}). Run `zoo verify` on the model, and get it again."
        ) from exc
    if not tags:
        raise UnfitBundle("saved_model.pb holds no graph. Ask the package's author.")
    return Bundle(top, tuple(tags), refused)


# -------------------------------------------------------------------------------------------- zip


class _opened:
    """The archive and its checked members; what a broken zip raises is told as UnfitBundle."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path, self._max = path, max_bytes

    def __enter__(self) -> tuple[zipfile.ZipFile, dict[str, zipfile.ZipInfo]]:
        try:
            self._archive = zipfile.ZipFile(self._path)
            found = members(
                self._archive, name=self._path.name, max_bytes=self._max, max_files=_MAX_FILES
            )
        except BaseException as exc:
            self.__exit__(type(exc), exc, None)
            raise
        return self._archive, found

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if hasattr(self, "_archive"):
            self._archive.close()
        if isinstance(error, BiozooError):
            raise UnfitBundle(error.message) from error
        if isinstance(error, _BROKEN):
            raise UnfitBundle(
                f"the zip is damaged or cut off ({error}). Run `zoo verify` on the model, and get "
                "it again."
            ) from error


def _top(found: dict[str, zipfile.ZipInfo]) -> str:
    """The folder within the zip that is the bundle."""
    graphs = [n for n in found if PurePosixPath(n).name == "saved_model.pb"]
    if len(graphs) != 1:
        held = ", ".join(sorted(found)[:5])
        many = f"{len(graphs)} of them" if graphs else "none"
        raise UnfitBundle(
            f"a SavedModel has one saved_model.pb, the zip holds {many} ({held}, ...). Ask the "
            "package's author for the folder that TensorFlow wrote, zipped."
        )
    top = graphs[0].removesuffix("saved_model.pb")
    for other in ("saved_model.cpb", "saved_model.pbtxt"):  # TensorFlow might read it in its place
        if f"{top}{other}" in found:
            raise UnfitBundle(f"the zip holds {other} beside saved_model.pb. Ask its author.")
    return top


# --------------------------------------------------------------------------------------- protobuf

# Field numbers of saved_model.proto, meta_graph.proto, graph.proto, function.proto, node_def.proto
# and attr_value.proto (github.com/tensorflow/tensorflow, version 2.21).


def _tags(graph: memoryview) -> tuple[str, ...]:
    return tuple(str(bytes(t), "utf-8") for info in _sub(graph, 1) for t in _sub(info, 4))


def _nodes(graph: memoryview) -> Iterator[memoryview]:
    """Every node of a MetaGraphDef, those of its functions too."""
    for definition in _sub(graph, 2):  # graph_def
        yield from _sub(definition, 1)  # node
        for library in _sub(definition, 2):
            for function in _sub(library, 1):
                yield from _sub(function, 3)  # node_def


def _names(node: memoryview) -> Iterator[str]:
    """The operator of a node, and the functions or operators that its attributes name."""
    for name in _sub(node, 2):
        yield str(bytes(name), "utf-8")
    for entry in _sub(node, 5):
        for value in _sub(entry, 2):
            for holder in (value, *_sub(value, 1)):  # AttrValue, or a list of them
                for function in _sub(holder, 10 if holder is value else 9):
                    yield from (str(bytes(name), "utf-8") for name in _sub(function, 1))


def _fault(name: str, node: memoryview) -> str:
    """What a refused operator does, "" for others."""
    if name == "PrintV2":
        return "" if _stream(node) in _STREAMS else "writes files"
    return next((does for pattern, does in _PATTERNS if pattern.fullmatch(name)), "")


def _stream(node: memoryview) -> str:
    for entry in _sub(node, 5):
        if any(bytes(key) == b"output_stream" for key in _sub(entry, 1)):
            for value in _sub(entry, 2):
                return "".join(str(bytes(s), "utf-8", "replace") for s in _sub(value, 2))
    return ""


def _sub(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """The length-delimited fields of one number in a message."""
    at, stop = 0, len(message)
    while at < stop:
        tag, at = _varint(message, at)
        number, wire = tag >> 3, tag & 7
        if wire == 2:
            size, at = _varint(message, at)
            if number == wanted:
                yield message[at : at + size]
            at += size
        elif wire == 0:
            _, at = _varint(message, at)
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
    if at != stop:
        raise ValueError("a field is longer than its message")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(message) and shift < 70:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise ValueError("a number does not end")
