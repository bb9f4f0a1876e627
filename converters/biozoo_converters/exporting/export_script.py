"""Export by the older exporter, from a recorded run or from compiled TorchScript."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy.typing as npt

from biozoo_runners.torch_devices import import_torch

from ..networks.network import ExportRequest

__all__ = ["FrozenError", "by_torchscript", "by_trace"]


class FrozenError(Exception):
    """A recorded run froze a decision, and the network cannot be compiled; the text is where."""


def by_torchscript(shown: Any, arrays: Sequence[npt.NDArray[Any]], request: ExportRequest) -> Any:
    """The graph of a compiled network where a recorded run would freeze its decisions."""
    torch: Any = import_torch("Exporting to ONNX", extra="pack")
    tensors = shown.tensors(arrays)
    if isinstance(shown.network, torch.jit.ScriptModule):
        plain = _is_plain(shown)
        return _exported(shown.network if plain else _traced(shown.flat, tensors), tensors, request)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        traced = _traced(shown.flat, tensors)
    frozen = _frozen_at(seen)
    if not frozen:
        return _exported(traced, tensors, request)
    try:
        # Recorded around the compiled network, whose own decisions stay decisions in the graph.
        compiled = shown.around(torch.jit.script(shown.network))
    except Exception as exc:
        raise FrozenError(frozen[0]) from exc
    return _exported(_traced(compiled, tensors), tensors, request)


def by_trace(shown: Any, arrays: Sequence[npt.NDArray[Any]], request: ExportRequest) -> Any:
    """The graph of a recorded run."""
    tensors = shown.tensors(arrays)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        traced = _traced(shown.flat, tensors)
    shown.doubts += [
        f"Python decides by a tensor or a size in {place}; the graph has one outcome"
        for place in _frozen_at(seen)
    ]
    return _exported(traced, tensors, request)


def _traced(module: Any, tensors: tuple[Any, ...]) -> Any:
    torch: Any = import_torch("Exporting to ONNX", extra="pack")
    return torch.jit.trace(module, tensors, check_trace=False, strict=False)


def _frozen_at(seen: Sequence[warnings.WarningMessage]) -> list[str]:
    """The lines at which recording froze something, as torch warns."""
    torch: Any = import_torch("Exporting to ONNX", extra="pack")
    found = (w for w in seen if issubclass(w.category, torch.jit.TracerWarning))
    return list(dict.fromkeys(f"{Path(w.filename).name}, line {w.lineno}" for w in found))


def _is_plain(shown: Any) -> bool:
    """Whether a TorchScript module takes tensors and returns one: what is exported as it is."""
    schema = shown.network._c._get_method("forward").schema
    kinds = [str(a.type) for a in (*schema.arguments[1:], *schema.returns)]
    return shown.outputs is None and all(kind == "Tensor" for kind in kinds)


def _exported(module: Any, tensors: tuple[Any, ...], request: ExportRequest) -> Any:
    import onnx

    torch: Any = import_torch("Exporting to ONNX", extra="pack")
    axes = {
        name: {axis: label for axis, (label, _, _) in free.items()}
        for name, free in zip(request.input_names, request.free, strict=False)
    }
    file = io.BytesIO()
    torch.onnx.export(
        module,
        tensors,
        file,
        dynamo=False,
        input_names=list(request.input_names),
        output_names=list(request.output_names),
        opset_version=request.opset,
        dynamic_axes={name: free for name, free in axes.items() if free},
    )
    return onnx.load_model_from_string(file.getvalue())
