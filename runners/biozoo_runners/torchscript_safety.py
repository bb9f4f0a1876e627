"""What a TorchScript archive may hold, and which operators its code may call.

TorchScript is code, of a language that has no imports and no system calls of its own: what it can
do to a machine is what torch's operators do. `check_archive` looks at the file before torch loads
it: is it a TorchScript archive at all, are its sizes sound, and would anything of it already run
while it is loaded. `check_operators` looks at every function that was loaded, before one is run,
and lets through namespaces of operators that only compute, less those of them that open files or
connections.

What is left to a hostile archive: to compute for ever or to take all memory, and faults in torch's
own operators.
"""

from __future__ import annotations

import pickletools
import re
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from biozoo.errors import BackendError

__all__ = [
    "ALLOWED",
    "REFUSED",
    "check_archive",
    "check_operators",
    "constants_of",
    "nodes_of",
    "silence",
]

#: Namespaces of operators that compute and nothing else.
ALLOWED = frozenset(
    {"aten", "prim", "quantized", "_quantized", "prepacked", "profiler", "torchvision"}
)

#: Operators of those namespaces that reach files, other processes or Python.
REFUSED = frozenset(
    {
        "aten::save",
        "aten::from_file",
        "prim::rpc_async",
        "prim::rpc_remote",
        "prim::rpc_sync",
        "prim::PythonOp",
        "prim::IgnoredPythonOp",
    }
)

_MEMBERS = 200_000
_TEXT = 64 * 2**20  # of code and pickles, bytes
_SPARE = 256 * 2**20  # what an archive may grow by whatever its size
_GROWTH = 8  # tensors are stored as they are; code shrinks to a tenth

_DO = (
    "Ask the package's author for TorchScript weights: torch.jit.trace(network, example).save(file)"
)


def check_archive(path: Path, *, model: str) -> None:
    """Raise where a file is no TorchScript archive, or should not be handed to torch.

    Raises
    ------
    BackendError
        It is cut off, something else (a state dict, a pickled network, ...), absurdly large once
        unpacked, or would run code while it is loaded.
    """
    told = f"Model '{model}': {path.name}"
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {name.partition("/")[2] for name in archive.namelist()}
            if not any(name.startswith("code/") for name in names):
                raise BackendError(f"{told} is {_other_archive(archive, names)}")
    except (zipfile.BadZipFile, NotImplementedError, EOFError) as exc:
        raise BackendError(f"{told} is {_no_archive(path)}") from exc
    except OSError as exc:
        raise BackendError(f"{told} cannot be read: {exc}") from exc
    _check_sizes(members, path, told)
    _check_loading(path, names, told)


def check_operators(functions: Iterable[Any], *, model: str, weights: str) -> frozenset[str]:
    """The operators that the functions of a loaded archive call; none of them has been run.

    Parameters
    ----------
    functions
        Of torch's compilation unit: all methods of all classes, and all free functions.

    Raises
    ------
    BackendError
        One reaches files, processes or Python, or is of a namespace that is not known to only
        compute.
    """
    used: set[str] = set()
    refused: dict[str, str] = {}
    for function in functions:
        for node in nodes_of(function.graph):
            kind = str(node.kind())
            used.add(kind)
            if kind in REFUSED or kind.partition("::")[0] not in ALLOWED:
                refused[kind] = str(function.qualified_name)
            elif kind == "prim::CreateObject":
                made = str(node.output().type())
                if ".torch.classes." in made and ".torch.classes.profiler." not in made:
                    refused[made.removeprefix("__torch__.")] = str(function.qualified_name)
    if refused:
        listed = "; ".join(f"{op} (in {where})" for op, where in sorted(refused.items()))
        raise BackendError(
            f"Model '{model}': the code in {weights} calls operators that can reach files, other "
            f"processes or the network, or that nobody has looked at: {listed}. Nothing of it was "
            "run; do not use this package unless its author can say why it needs them."
        )
    return frozenset(used)


def silence(functions: Iterable[Any]) -> None:
    """Take out what prints: standard output belongs to the program that runs the model."""
    for function in functions:
        printing = [
            node
            for node in nodes_of(function.graph)
            if node.kind() in ("prim::Print", "aten::_print") and not list(node.outputs())
        ]
        for node in printing:
            node.destroy()


def constants_of(functions: Iterable[Any]) -> list[Any]:
    """The tensors that are written into the code itself."""
    return [
        node.t("value")
        for function in functions
        for node in nodes_of(function.graph)
        if node.kind() == "prim::Constant"
        and node.hasAttribute("value")
        and node.kindOf("value") == "t"
    ]


def nodes_of(graph: Any) -> Iterator[Any]:
    """All nodes of a graph, those of branches, loops and forks included."""
    stack = [graph]
    while stack:
        for node in stack.pop().nodes():
            yield node
            stack.extend(node.blocks())
            for name in node.attributeNames():
                kind = node.kindOf(name)
                if kind == "g":
                    stack.append(node.g(name))
                elif kind == "gs":
                    stack.extend(node.gs(name))


# ------------------------------------------------------------------------- before it is loaded


def _check_sizes(members: list[zipfile.ZipInfo], path: Path, told: str) -> None:
    total = sum(member.file_size for member in members)
    text = sum(m.file_size for m in members if m.filename.endswith((".py", "pkl")))
    allowed = _GROWTH * path.stat().st_size + _SPARE
    if len(members) > _MEMBERS or total > allowed or text > _TEXT:
        raise BackendError(
            f"{told} unpacks to {len(members):,} files of {total / 2**20:,.0f} MB, "
            f"{text / 2**20:,.0f} MB of them code: more than a network needs. It was not loaded; "
            "do not use this package."
        )


def _check_loading(path: Path, names: set[str], told: str) -> None:
    """Raise where loading alone would run something.

    Looked for in what torch's own reader reads: another reader could be shown another archive in
    the same file.
    """
    import torch

    try:
        reader = torch._C.PyTorchFileReader(str(path))
        records = {str(name) for name in reader.get_all_records()}
        read = {n: reader.get_record(n) for n in sorted(records) if n.endswith((".py", ".pkl"))}
    except RuntimeError as exc:
        if "maximum supported version" in str(exc):
            raise BackendError(
                f"{told} was written by a newer torch than {torch.__version__}, which is "
                "installed here and cannot read it. Install a newer torch, or ask the package's "
                "author to export it with an older one."
            ) from exc
        raise BackendError(f"{told} is damaged. {_FETCH}") from exc
    if not records <= names:
        raise BackendError(f"{told} is two archives in one file. Do not use this package.")
    for name, content in read.items():
        if name.endswith(".py"):
            acts = "__setstate__" if re.search(rb"\b__setstate__\b", content) else ""
        else:
            acts = next((g for g in _globals(content, told) if ".torch.classes." in g), "")
        if acts:
            raise BackendError(
                f"{told} would run code while it is loaded ({acts.removeprefix('__torch__.')} in "
                f"{name}), before anyone can look at it. It was not loaded. Ask the package's "
                "author for weights without it; quantized networks hold such objects."
            )


def _globals(pickle: bytes, told: str) -> Iterator[str]:
    """The classes and functions that a pickle names; nothing of it is executed."""
    try:
        for code, value, _ in pickletools.genops(pickle):
            if code.name in ("GLOBAL", "INST"):
                yield str(value).replace(" ", ".")
            elif code.name == "STACK_GLOBAL":
                yield "by a computed name.torch.classes."
    except Exception as exc:  # pickletools raises ValueError, IndexError, UnicodeDecodeError, ...
        raise BackendError(f"{told} is damaged. {_FETCH}") from exc


# ------------------------------------------------------------------- what it is if it is not one

_FETCH = "Fetch the package again, and run `zoo verify` on it."

#: Modules whose names a state dict holds: tensors and containers.
_PLAIN = ("torch", "torch._utils", "torch.storage", "torch.nn.parameter", "collections", "numpy")


def _no_archive(path: Path) -> str:
    """What a file without a readable zip directory is."""
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        return f"an empty file. {_FETCH}"
    if start.startswith(b"PK"):
        return f"cut off or damaged. {_FETCH}"
    if start.startswith(b"\x80") and start[1:2] in b"\x02\x03\x04\x05":
        return (
            "a Python pickle as torch.save wrote it before torch 1.6 (a state dict or a whole "
            f"network), no TorchScript archive. A pickle can run any code: it was not read. {_DO}"
        )
    if start.startswith(b"\x89HDF"):
        return "an HDF5 file, no TorchScript archive. The description names the wrong format. " + (
            "Ask the package's author to correct it."
        )
    return f"no TorchScript archive, nor any other zip. {_FETCH}"


def _other_archive(archive: zipfile.ZipFile, names: set[str]) -> str:
    """What a zip without code is."""
    pickle = next((n for n in archive.namelist() if n.partition("/")[2] == "data.pkl"), None)
    if pickle is None:
        if any(name.endswith("model.json") or name == "archive_format" for name in names):
            return f"an archive of torch.export, no TorchScript archive. {_DO}"
        return f"a zip, but no TorchScript archive: it holds no code. {_DO}"
    own = ""
    if archive.getinfo(pickle).file_size <= _TEXT:
        found = _globals(archive.read(pickle), archive.filename or "The file")
        own = next((g for g in found if g.rpartition(".")[0] not in _PLAIN), "")
    if own:
        return (
            f"a whole network as a Python pickle (it names {own}), no TorchScript archive. A "
            f"pickle can run any code: it was not loaded. {_DO}"
        )
    return (
        "a state dict as torch.save writes it, no TorchScript archive: numbers without a network. "
        "The description should call it pytorch_state_dict and name its architecture. Or else: "
        f"{_DO[0].lower()}{_DO[1:]}"
    )
