"""What a file of weights is, told from its bytes; nothing in it is executed."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

__all__ = ["Kind", "kind_of", "refusal"]

Kind = Literal[
    "state", "torchscript", "exported", "code", "safetensors", "onnx", "keras", "empty", "unknown"
]

#: Modules whose names a pickle of numbers holds.
_PLAIN = ("torch", "torch._utils", "torch.storage", "torch.nn.parameter", "collections")
_PLAIN_STARTS = ("numpy", "_codecs", "torch.")

_SAVE = (
    "Save the numbers alone: torch.save(model.state_dict(), 'weights.pt'), or "
    "safetensors.torch.save_file(model.state_dict(), 'weights.safetensors')."
)


def kind_of(path: Path) -> Kind:
    """What a file is.

    ``"state"`` is a pickle of numbers as far as the names in it tell (torch's own safe reader
    decides); ``"code"`` a pickle that names classes or functions: a whole network, or something
    that would run when it is loaded.
    """
    with path.open("rb") as file:
        start = file.read(8)
    if not start:
        return "empty"
    if path.suffix == ".safetensors":
        return "safetensors"
    if start.startswith(b"\x89HDF"):
        return "keras"
    if zipfile.is_zipfile(path):
        return _zip_kind(path)
    if path.suffix == ".onnx":
        return "onnx"
    if start[:1] == b"\x80" and start[1:2] in b"\x02\x03\x04\x05":
        return "code" if next(_foreign(path.read_bytes()), "") else "state"
    return "unknown"


def _zip_kind(path: Path) -> Kind:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {n.partition("/")[2] for n in archive.namelist()}
            if any(n.startswith("code/") for n in names):
                return "torchscript"
            if any(n.endswith("model.json") or n == "archive_format" for n in names):
                return "exported"
            if "config.json" in archive.namelist():
                return "keras"
            pickle = next((n for n in archive.namelist() if n.endswith("data.pkl")), None)
            if pickle is None:
                return "unknown"
            return "code" if next(_foreign(archive.read(pickle)), "") else "state"
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OSError, RuntimeError):
        return "unknown"


def _foreign(pickle: bytes) -> Iterator[str]:
    """The classes and functions a pickle names that are not containers of numbers."""
    texts: list[str] = []
    try:
        for code, value, _ in pickletools.genops(pickle):
            if code.name in ("GLOBAL", "INST"):
                module, _, name = str(value).partition(" ")
                if not _plain(module, name):
                    yield f"{module}.{name}"
            elif code.name == "STACK_GLOBAL":
                module, name = texts[-2:] if len(texts) > 1 else ("", "?")
                if not _plain(module, name):
                    yield f"{module}.{name}"
            elif isinstance(value, str):
                texts.append(value)
    except Exception:  # pickletools raises ValueError, IndexError, UnicodeDecodeError, ...
        return


def _plain(module: str, name: str) -> bool:
    if module.startswith("torch.nn.modules"):
        return False
    if module in ("builtins", "__builtin__"):
        return name in ("set", "dict", "list", "int", "float", "bool", "str", "bytes", "slice")
    return module in _PLAIN or module.startswith(_PLAIN_STARTS)


def refusal(path: Path, kind: Kind) -> str:
    """Why a file is not taken as weights of a network, and what to do."""
    name = f"'{path.name}'"
    if kind == "code":
        return (
            f"{name} holds more than numbers: it is a Python pickle that calls "
            f"{_first_foreign(path)} when it is loaded, as torch.save(model) of a whole network "
            f"does, and a pickle can run any code. It was not loaded. {_SAVE}"
        )
    if kind == "torchscript":
        return (
            f"{name} is a TorchScript archive: a whole network, which needs no class beside it. "
            "Give it alone as the network."
        )
    if kind == "exported":
        return f"{name} is an archive of torch.export, no state dict. {_SAVE}"
    if kind == "onnx":
        return (
            f"{name} is an ONNX file: a whole network, which needs no class beside it. Give it "
            "alone as the network."
        )
    if kind == "keras":
        return f"{name} is a file of Keras, no state dict of PyTorch. {_SAVE}"
    if kind == "empty":
        return f"{name} is an empty file. Save it again."
    return f"{name} is damaged, cut off, or no state dict. {_SAVE}"


def _first_foreign(path: Path) -> str:
    if not zipfile.is_zipfile(path):
        return next(_foreign(path.read_bytes()), "")
    with zipfile.ZipFile(path) as archive:
        pickle = next(n for n in archive.namelist() if n.endswith("data.pkl"))
        return next(_foreign(archive.read(pickle)), "")
