"""From a TorchScript archive to a module that may be run, or the error that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from biozoo.errors import BackendError

from .base import framework_error
from .torch_devices import import_torch
from .torchscript_safety import check_archive, check_operators, constants_of, nodes_of, silence

__all__ = ["Loaded", "load_archive", "prepacked"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A module on its device, in evaluation mode, and what was seen of its code.

    Attributes
    ----------
    operators
        Of all its functions, such as ``aten::conv2d``.
    constants
        The tensors written into the code.
    """

    module: Any
    operators: frozenset[str]
    constants: tuple[Any, ...]


def load_archive(path: Path, on: Any, *, model: str, device: str, autocast: bool = False) -> Loaded:
    """Look at the archive `path`, load it onto the torch device `on`, and look at its operators.

    With `autocast` its convolutions are of the kind that torch's autocast knows.

    Raises
    ------
    BackendError
        It is no sound TorchScript archive, wants to do what a network need not, or this torch
        cannot load it.
    """
    torch: Any = import_torch("Running TorchScript weights")
    check_archive(path, model=model)
    unit = torch._C.CompilationUnit()
    try:
        # What torch.jit.load does, less its warning; and the unit holds every function.
        loaded = torch._C.import_ir_module(unit, str(path), on, {}, False)
        functions = unit.get_functions()
        operators = check_operators(functions, model=model, weights=path.name)
        silence(functions)
        if on.type == "cuda":
            _no_tf32(functions)
        elif autocast:
            _known_to_autocast(functions)
        module = torch.jit._recursive.wrap_cpp_module(loaded).eval()
    except BackendError:
        raise
    except Exception as exc:
        raise framework_error(
            exc,
            doing="load",
            model=model,
            weights=path.name,
            device=device,
            facts=f"torch {torch.__version__}.",
            hint=_load_hint(str(exc), str(torch.__version__)),
        ) from exc
    if not loaded._has_method("forward"):
        raise BackendError(
            f"Model '{model}': {path.name} has no method 'forward', so there is nothing to run. "
            "Ask the package's author to export the network itself."
        )
    return Loaded(module, operators, tuple(constants_of(functions)))


#: The place of allow_tf32 among what ``aten::_convolution`` takes.
_ALLOW_TF32 = 12


def _no_tf32(functions: Iterable[Any]) -> None:
    """Take TF32 out of traced convolutions: they carry the settings of the program that traced
    them, and those of this one count for nothing there.
    """
    for function in functions:
        graph = function.graph
        for node in [n for n in nodes_of(graph) if n.kind() == "aten::_convolution"]:
            if len(list(node.inputs())) > _ALLOW_TF32:  # the form of torch before 1.7 has none
                off = graph.insertConstant(False)
                off.node().moveBefore(node)
                node.replaceInput(_ALLOW_TF32, off)


def _known_to_autocast(functions: Iterable[Any]) -> None:
    """Take the settings of TF32 away from traced convolutions: on the CPU, where they mean nothing,
    autocast knows the form without them only (torch 2.14), and leaves the other in float32.
    """
    for function in functions:
        for node in [n for n in nodes_of(function.graph) if n.kind() == "aten::_convolution"]:
            if len(list(node.inputs())) > _ALLOW_TF32:
                node.removeInput(_ALLOW_TF32)


def prepacked(module: Any) -> Any:
    """The module with its weights laid out once as oneDNN wants them, or as it is.

    What torch.jit.freeze and torch.jit.optimize_for_inference do, less their warnings: weights
    become constants, BatchNorm is folded into convolutions, and these keep oneDNN's layout from one
    to the next. Only for float32 on the CPU.
    """
    torch: Any = import_torch("Running TorchScript weights")
    try:
        made = torch.jit._recursive.wrap_cpp_module(torch._C._freeze_module(module._c, []))
        torch._C._jit_pass_optimize_frozen_graph(made.graph, True)
        torch._C._jit_pass_optimize_for_inference(made._c, [])
    except Exception:  # code that freezing does not understand; it runs all the same
        return module
    return made


def _load_hint(cause: str, version: str) -> str:
    if "Unknown builtin op" in cause:
        operator = cause.partition("Unknown builtin op:")[2].split()[0].rstrip(".")
        library = operator.partition("::")[0]
        if library not in ("aten", "prim"):
            return (
                f"It needs the operator {operator} of the library {library}, which is not part of "
                "torch: such code is not loaded. Ask the package's author for weights without it."
            )
        return (
            f"It calls {operator}, which torch {version} does not know: it was made with a newer "
            "torch. Install a newer torch, or ask the package's author to export with an older one."
        )
    if "Arguments for call are not valid" in cause:
        return (
            "An operator is called as another torch knows it: install the version that the "
            "description names (weights.torchscript.pytorch_version)."
        )
    return "Fetch the package again, and run `zoo verify` on it; or install a newer torch."
