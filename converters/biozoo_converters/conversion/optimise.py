"""Proven ONNX weights made smaller, where they stay proven.

Two tools are tried: onnxslim, and ONNX Runtime's own offline optimisation at its basic level. That
level folds constants and fuses what the ONNX standard itself can say; the levels above it write
operators of Microsoft's own and layouts of one processor, which no other program reads, and which
ONNX Runtime makes for itself whenever it loads a graph. So a shipped graph gains size and clarity
by this, hardly speed, and that is what decides: fewer operators, or a file that is notably smaller.
Both are the same on every machine; a timing would not be.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from biozoo.errors import ConversionError

from ..networks.network import Progress, Reference
from .base import Attempt
from .onnx_tidy import checked, import_onnx, opset_of, strip
from .proving import first_proven
from .to_onnx import onnx_entry

if TYPE_CHECKING:
    from ..proof.certificate import FormatProof
    from .drafts import Draft

__all__ = ["optimised"]

#: A graph of fewer operators may be this much larger: folding writes constants out. One with as
#: many has to be this much smaller.
_LARGER, _SMALLER = 1.01, 0.98


def optimised(
    draft: Draft,
    entry: Mapping[str, Any],
    proof: FormatProof,
    reference: Reference,
    *,
    real: Mapping[str, npt.NDArray[Any]] | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], FormatProof]:
    """Proven ONNX weights, optimised where that is worth it and the proof still holds.

    Parameters
    ----------
    draft
        Holds the weights of `entry`; the better file takes their place under the same name.
    entry, proof
        What `first_proven` gave.
    reference, real, progress
        As for `first_proven`.

    Returns
    -------
    dict, FormatProof
        Of the optimised weights, `proof.optimised` naming the tool; else what was given.
    """
    before = (draft.root / entry["source"]).read_bytes()
    attempts = [
        Attempt(proof.strategy, _writer(entry, content), optimised=tool)
        for tool, content in _worthwhile(before)
    ]
    if not attempts:
        return dict(entry), proof
    try:
        return first_proven(draft, "onnx", attempts, reference, real=real, progress=progress)
    except ConversionError:  # none of them agrees: the weights stay as they were
        return dict(entry), proof


def _writer(entry: Mapping[str, Any], content: bytes) -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        name = entry["source"]
        (folder / name).write_bytes(content)
        return {**entry, **onnx_entry(folder, name)}

    return make


def _worthwhile(before: bytes) -> list[tuple[str, bytes]]:
    """Tools and what they make of a graph, where it is better; the best first."""
    was = _cost(before)
    found = []
    for tool, content in _candidates(before):
        nodes, size = _cost(content)
        fewer = nodes < was[0] and size <= was[1] * _LARGER
        smaller = nodes <= was[0] and size < was[1] * _SMALLER
        if fewer or smaller:
            found.append((nodes, size, tool, content))
    return [(tool, content) for _, _, tool, content in sorted(found, key=lambda f: f[:3])]


def _candidates(before: bytes) -> Iterator[tuple[str, bytes]]:
    """What each installed tool makes of a graph; a tool that fails on it is left out."""
    for tool in (_slimmed, _by_onnxruntime):
        try:
            made = tool(before)
        except Exception:  # an optimiser may fail for whatever reason: the graph is fine without
            continue
        if made is not None:
            name, model = made
            yield name, _restored(before, model)


def _slimmed(before: bytes) -> tuple[str, Any] | None:
    try:
        import onnxslim
    except ImportError:
        return None
    model = onnxslim.slim(import_onnx().load_model_from_string(before))
    return f"onnxslim {onnxslim.__version__}", model


def _by_onnxruntime(before: bytes) -> tuple[str, Any] | None:
    import tempfile

    try:
        import onnxruntime as ort
    except ImportError:
        return None
    with tempfile.TemporaryDirectory(prefix="biozoo-") as folder:
        path = Path(folder, "optimised.onnx")
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.log_severity_level = 4
        ort.InferenceSession(before, sess_options=options, providers=["CPUExecutionProvider"])
        return f"onnxruntime {ort.__version__} basic", import_onnx().load_model(path)


def _restored(before: bytes, model: Any) -> bytes:
    """The tool's graph with inputs, outputs and version of the standard as they were.

    Raises
    ------
    ValueError
        It needs operators that the graph did not need: those of one runtime.
    """
    onnx = import_onnx()
    original = onnx.load_model_from_string(before)
    strip(model)
    domains = {str(o.domain) for o in model.opset_import}
    if domains - {str(o.domain) for o in original.opset_import} - {"", "ai.onnx"}:
        raise ValueError(f"operators of {domains}")
    if opset_of(model) != opset_of(original):
        raise ValueError(f"opset {opset_of(model)}")
    model.ir_version = original.ir_version
    for ports, wanted in (
        (model.graph.input, original.graph.input),
        (model.graph.output, original.graph.output),
    ):
        copies = [type(v).FromString(v.SerializeToString()) for v in wanted]
        del ports[:]
        ports.extend(copies)
    return checked(model)


def _cost(content: bytes) -> tuple[int, int]:
    """Operators, constants not counted, and bytes."""
    model = import_onnx().load_model_from_string(content)
    return sum(node.op_type != "Constant" for node in model.graph.node), len(content)
