"""Weights formats beside ONNX, where the author asks for them: TorchScript, and the state dict."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import ConversionError, NetworkError, UsageError

from ..conversion.drafts import Draft
from ..networks.network import Named, Network, Progress, Reference
from .drafting import file_entry
from .plan import Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..proof.certificate import FormatProof

__all__ = ["add_state_dict", "add_torchscript", "check_also", "set_parents"]

Real = Mapping[str, "NDArray[Any]"]

#: Libraries of which a conda package has another name than the module.
_CONDA = {"torch": "pytorch"}


def check_also(plan: Plan, network: Network) -> None:
    """Ask before long work whether the further formats can be made at all.

    Raises
    ------
    UsageError
        They need a PyTorch network, or one that is built from its class.
    """
    file = plan.file
    if file.also and network.module is None:
        raise UsageError(
            f"{' and '.join(file.also)} can be made of PyTorch networks only; {network.name} is "
            f"{network.format}. Leave --also out."
        )
    if "pytorch_state_dict" in file.also:
        if network.format != "pytorch_state_dict":
            raise UsageError(
                f"A state dict needs the class of its network: net.py:Net or module:Net; "
                f"{network.name} is {network.format}. Leave --also pytorch_state_dict out."
            )
        place = str(file.source).rpartition(":")[0]
        if place.endswith(".py") and (beside := _siblings(plan.root / place)):
            raise NetworkError(
                f"{place} imports {', '.join(beside)} from its folder, and a package holds one "
                "file of code. Put all that the network needs into one file, or leave --also "
                "pytorch_state_dict out: ONNX needs no code."
            )


def _siblings(path: Path) -> list[str]:
    """What a Python file imports that lies beside it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {a.name.partition(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                return ["a module by a relative import"]
            names.add((node.module or "").partition(".")[0])
    folder = path.parent
    return sorted(
        n for n in names if (folder / f"{n}.py").is_file() or (folder / n / "__init__.py").is_file()
    )


def add_torchscript(
    network: Network, draft: Draft, reference: Reference, real: Real, tell: Progress
) -> FormatProof:
    """TorchScript weights, proven, in the draft.

    Raises
    ------
    ConversionError
        Neither the compiler nor tracing gives the same.
    """
    from ..conversion.proving import first_proven
    from ..conversion.to_torchscript import torchscript_attempts

    attempts = torchscript_attempts(network, list(real.values()))
    entry, proof = first_proven(draft, "torchscript", attempts, reference, real=real, progress=tell)
    draft.raw["weights"]["torchscript"] = dict(entry)
    return proof


def add_state_dict(
    plan: Plan, network: Network, draft: Draft, reference: Reference, real: Real, tell: Progress
) -> FormatProof:
    """The state dict with its architecture, built anew from what is in the package and compared.

    Raises
    ------
    ConversionError
        What is in the package does not give the same network.
    """
    import torch

    from ..networks.torch_source import open_network
    from ..proof.prove import prove

    tell("pytorch_state_dict", 0, None)
    file = plan.file
    place, _, name = str(file.source).rpartition(":")
    torch.save(network.module.state_dict(), draft.root / "weights.pt")
    architecture: dict[str, Any] = {"callable": name, "kwargs": dict(file.kwargs)}
    if place.endswith(".py"):
        source = plan.root / place
        shutil.copyfile(source, draft.root / source.name)
        architecture = {**file_entry(draft.root, source.name), **architecture}
        again = f"{source.name}:{name}"
    else:
        architecture["import_from"] = place
        again = f"{place}:{name}"
    entry: dict[str, Any] = {
        **file_entry(draft.root, "weights.pt"),
        "architecture": architecture,
        "pytorch_version": torch.__version__.partition("+")[0],
    }
    if file.environment is not None:
        shutil.copyfile(file.environment, draft.root / "environment.yaml")
    else:
        text = _environment(plan.root / place if place.endswith(".py") else None, place)
        (draft.root / "environment.yaml").write_text(text, encoding="utf-8", newline="\n")
    entry["dependencies"] = file_entry(draft.root, "environment.yaml")
    ids_in, ids_out = (tuple(t["id"] for t in draft.raw[s]) for s in ("inputs", "outputs"))
    with open_network(
        again,
        callable_kwargs=file.kwargs,
        weights=Path("weights.pt"),
        root=draft.root,
        outputs=file.keep_outputs or None,
    ) as rebuilt:
        proof = prove(
            draft.with_weights("pytorch_state_dict", entry),
            reference,
            "pytorch_state_dict",
            real=real,
            strategy="as it is",
            candidate=Named(rebuilt, ids_in, ids_out),
        )
    if not proof.ok:
        raise ConversionError(
            what=f"Model '{draft.raw.get('name')}'",
            target="pytorch_state_dict",
            tried={"built from the file in the package": proof.fault},
            hint="Its architecture is not what these weights were saved from.",
        )
    draft.raw["weights"]["pytorch_state_dict"] = entry
    return proof


def _environment(path: Path | None, module: str) -> str:
    """A conda environment with the libraries that the architecture imports, as installed here."""
    import sys
    from importlib.metadata import packages_distributions, version

    names = {"torch"}
    if path is None:
        names.add(module.partition(".")[0])
    else:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {a.name.partition(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add((node.module or "").partition(".")[0])
    known = packages_distributions()
    wanted = {}
    for name in sorted(names - set(sys.stdlib_module_names)):
        if name in known:
            library = known[name][0]
            wanted[library] = version(library).partition("+")[0]
    conda = [f"  - {_CONDA[n]}={v}" for n, v in wanted.items() if n in _CONDA]
    pip = [f"    - {n}=={v}" for n, v in wanted.items() if n not in _CONDA]
    lines = [
        "channels:",
        "  - conda-forge",
        "  - nodefaults",
        "dependencies:",
        f"  - python={sys.version_info.major}.{sys.version_info.minor}",
        *conda,
        "  - pip",
        *(["  - pip:", *pip] if pip else []),
    ]
    return "\n".join(lines) + "\n"


def set_parents(weights: dict[str, Any], name: str) -> None:
    """Which format the others were made from; the specification wants exactly one without parent.

    Without the state dict itself its place is taken by TorchScript, and a comment says so.
    """
    first = next(f for f in ("pytorch_state_dict", "torchscript", "onnx") if f in weights)
    for weights_format, entry in weights.items():
        if weights_format != first:
            entry["parent"] = first
            if first == "torchscript":
                entry["comment"] = f"Made, as the {first} weights were, from {name}."
