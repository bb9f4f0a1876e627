"""From what an author types to a network: ``net.py:UNet``, ``monai.networks.nets:UNet``, a file.

The author's own Python runs in this process: it is the code of whoever types the command, as a
script of theirs would be. Files of weights are another matter, they travel: nothing in them is
executed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from biozoo.errors import MissingFileError, NetworkError, UsageError

from .network import Network

__all__ = ["open_network"]

_WAYS = (
    "A network is a Python file and what makes it (net.py:UNet), a library's (package.module:UNet),"
    " a TorchScript archive, or an ONNX file"
)


def open_network(
    source: str,
    *,
    callable_kwargs: Mapping[str, Any] = {},
    weights: Path | None = None,
    strict: bool = True,
    root: Path | None = None,
    outputs: Sequence[int | str] | None = None,
) -> Network:
    """The network that `source` names, in evaluation mode on the CPU.

    Parameters
    ----------
    source
        ``"net.py:UNet"``: a class, function or network in a Python file, which is executed in this
        process, its folder importable meanwhile; ``"monai.networks.nets:UNet"``: the same of a
        module; ``"weights.torchscript"``: a TorchScript archive; ``"weights.onnx"``.
    callable_kwargs
        What the class or function is called with.
    weights
        A state dict: .pt, .pth, .ckpt (plain tensors only) or .safetensors. None leaves the
        numbers that the network is constructed with, which a note says.
    strict
        Whether the weights must have exactly the tensors of the network.
    root
        The folder that relative paths start from; None: the current one.
    outputs
        Which outputs are kept, by number or name, in this order; None: all. For a network that
        returns more than its package should (deep supervision, intermediate features).

    Raises
    ------
    NetworkError
        It cannot be found or constructed, the weights do not fit or may not be loaded.
    MissingFileError
        A file does not exist.
    MissingDependencyError
        torch, or for ONNX files onnxruntime, is not installed.
    """
    root = Path.cwd() if root is None else root
    place, colon, name = source.rpartition(":")
    if not colon or _is_file(root / source) or (len(place) == 1 and name[:1] in "/\\"):
        return _of_file(root / source, source, callable_kwargs, weights, outputs)
    if not place or not name:
        raise UsageError(f"'{source}' names no network. {_WAYS}.")
    path = None if weights is None else _existing(root / weights, "The weights")
    from .torch_building import build
    from .torch_network import TorchNetwork

    built = build(place, name, callable_kwargs, root=root, weights=path, strict=strict)
    return TorchNetwork(
        built.module,
        name=f"{Path(place).name if place.endswith('.py') else place}:{name}",
        sha256=built.sha256,
        notes=built.notes,
        outputs=outputs,
    )


def _of_file(
    path: Path,
    source: str,
    kwargs: Mapping[str, Any],
    weights: Path | None,
    outputs: Sequence[int | str] | None,
) -> Network:
    """A network that is a file of its own."""
    if path.suffix == ".py":
        _existing(path, "The network")
        raise NetworkError(
            f"'{source}' is a Python file; what in it makes the network is not said. Add its class "
            f"or function: {source}:NAME{_offer(path)}."
        )
    _known_file(path, source)
    if kwargs or weights is not None:
        given = "arguments" if kwargs else "weights"
        raise NetworkError(
            f"'{source}' is a whole network: it takes no {given} beside it. Leave --kwargs and "
            "--weights out, or name the class that they are for: net.py:UNet."
        )
    if path.suffix == ".onnx":
        from .onnx_network import OnnxNetwork

        return OnnxNetwork(path, outputs=outputs)
    from .torchscript_network import open_torchscript

    return open_torchscript(path, outputs=outputs)


def _offer(path: Path) -> str:
    """The classes and functions at the top of a file, read, not executed."""
    import ast

    try:
        body = ast.parse(path.read_bytes()).body
    except (SyntaxError, ValueError):
        return ""
    names = [n.name for n in body if isinstance(n, ast.ClassDef | ast.FunctionDef)]
    return f" (it has {', '.join(names[:8])})" if names else ""


def _known_file(path: Path, source: str) -> None:
    """Raise where it is no file, or one of another framework."""
    words = source.split(".")
    if not path.exists() and len(words) > 1 and all(w.isidentifier() for w in words):
        offer = f"{'.'.join(words[:-1])}:{words[-1]}"
        if words[-1] not in ("pt", "pth", "ckpt", "onnx", "torchscript", "ts", "zip"):
            raise NetworkError(
                f"'{source}' is no file. Write the class of a module after a colon: {offer}"
            )
    _existing(path, "The network")
    if path.is_dir():
        raise NetworkError(f"'{source}' is a folder. {_WAYS}.")
    if path.suffix in (".keras", ".h5", ".hdf5"):
        raise NetworkError(
            f"'{source}' is a file of Keras. Put it in a package and convert that to ONNX "
            "(zoo convert), then pack the ONNX file."
        )


def _existing(path: Path, what: str) -> Path:
    if not path.exists():
        raise MissingFileError(what=what, path=path, hint="Check the path.")
    return path


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
