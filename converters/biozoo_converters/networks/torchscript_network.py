"""A TorchScript archive as a network: looked at before it is loaded, as the runners do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biozoo.errors import BackendError, NetworkError
from biozoo.files import sha256_of
from biozoo_runners.torch_devices import import_torch
from biozoo_runners.torchscript_loading import load_archive

from .torch_network import TorchNetwork
from .weights_files import kind_of, refusal

__all__ = ["TorchScriptNetwork", "open_torchscript"]


class TorchScriptNetwork(TorchNetwork):
    """A `torch.jit.ScriptModule`, its code checked: it reaches no files, processes or network."""

    format = "torchscript"


def open_torchscript(
    path: Path, *, name: str = "", outputs: Sequence[int | str] | None = None
) -> TorchScriptNetwork:
    """Load an archive.

    Raises
    ------
    NetworkError
        It is no TorchScript archive, or wants to do what a network need not.
    """
    kind = kind_of(path)
    if kind == "state":
        raise NetworkError(
            f"'{path.name}' is a state dict: numbers without a network. Name the class that they "
            f"are for, and give them as its weights: net.py:UNet --weights {path.name}"
        )
    if kind != "torchscript":
        raise NetworkError(refusal(path, kind))
    torch = import_torch("Opening a TorchScript archive", extra="pack")
    try:
        module = load_archive(path, torch.device("cpu"), model=path.stem, device="cpu").module
    except BackendError as exc:
        raise NetworkError(str(exc)) from exc
    notes = []
    kinds = {t.dtype for t in _tensors(module) if t.is_floating_point()}
    if kinds - {torch.float32} and "quint8" not in str(kinds):
        module = module.float()
        other = " and ".join(sorted(str(k).removeprefix("torch.") for k in kinds - {torch.float32}))
        notes.append(f"Its {other} numbers are computed with as float32.")
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return TorchScriptNetwork(
        module, name=name or path.name, sha256=sha256_of(path), notes=notes, outputs=outputs
    )


def _tensors(module: Any) -> list[Any]:
    return [*module.parameters(), *module.buffers()]
