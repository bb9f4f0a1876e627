"""What a network is made from, told by how it is written; nothing is opened."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from biozoo import rdf as rdfs

__all__ = ["kind_of_source"]

#: Files that are networks or weights by themselves.
_FILES = (".py", ".onnx", ".pt", ".pth", ".torchscript", ".ts", ".jit", ".ckpt", ".safetensors")


def kind_of_source(source: str, root: Path) -> Literal["network", "package"]:
    """Whether a source names a network or an existing package.

    A package is a folder, a zip, a description, an https address, or an id; a network is
    ``FILE.py:NAME``, ``module:NAME``, or a file of weights.
    """
    if not source or source.startswith(("https://", "http://")):
        return "package" if source else "network"
    path = root / source
    if path.is_dir() or path.suffix.lower() == ".zip" or rdfs.is_rdf_name(path.name):
        return "package"
    if path.is_file() or path.suffix.lower() in _FILES:
        return "network"
    return "network" if re.search(r":[A-Za-z_]\w*$", source) else "package"
