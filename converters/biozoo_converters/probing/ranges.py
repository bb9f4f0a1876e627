"""Between which numbers an output must lie, where its last operation says so.

A range seen in a few runs is no promise, that of a sigmoid is. Which operation made an output is
asked of autograd for a torch module, and read in the graph for ONNX.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..networks.network import Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["bounds"]

Range = tuple[float, float]

_UNIT, _ABOVE = (0.0, 1.0), (0.0, math.inf)
#: autograd's names, without "Backward" and a number
_TORCH = {
    "Sigmoid": _UNIT, "Softmax": _UNIT, "Hardsigmoid": _UNIT, "Tanh": (-1.0, 1.0),
    "Relu": _ABOVE, "Softplus": _ABOVE, "LogSoftmax": (-math.inf, 0.0),
    "LogSigmoid": (-math.inf, 0.0), "Exp": _ABOVE, "Abs": _ABOVE, "Sin": (-1.0, 1.0),
    "Cos": (-1.0, 1.0),
}  # fmt: skip
#: operations that move values, or average them, and keep their range
_TORCH_KEEP = {
    "View", "UnsafeView", "ReshapeAlias", "Permute", "Transpose", "T", "Squeeze", "Unsqueeze",
    "Slice", "Select", "Narrow", "Clone", "Expand", "Cat", "Stack", "ToCopy", "Index", "Alias",
    "ConstantPadNd", "UpsampleBilinear2D", "UpsampleNearest2D", "UpsampleTrilinear3D",
    "UpsampleNearest3D", "MaxPool2DWithIndices", "AvgPool2D", "Mean", "Max", "Amax", "Split",
    "Unbind", "Flip", "Unsafe", "SplitWithSizes", "Detach", "AdaptiveAvgPool2D",
}  # fmt: skip
_ONNX = {
    "Sigmoid": _UNIT, "HardSigmoid": _UNIT, "Softmax": _UNIT, "Tanh": (-1.0, 1.0), "Relu": _ABOVE,
    "Softplus": _ABOVE, "LogSoftmax": (-math.inf, 0.0), "Exp": _ABOVE, "Abs": _ABOVE,
}  # fmt: skip
_ONNX_KEEP = {
    "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Identity", "Flatten", "Expand",
    "Gather", "Split", "Concat", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool",
    "ReduceMean", "ReduceMax", "Cast",
}  # fmt: skip


def bounds(
    network: Network, arrays: Sequence[NDArray[Any]], made: Sequence[NDArray[Any]]
) -> list[Range | None]:
    """The range that each output cannot leave, None where that is not known.

    Never raises: a network that cannot be asked has no known range.

    Parameters
    ----------
    network
        What was run.
    arrays, made
        What it was given, and what it gave.
    """
    path = getattr(network, "_path", None) if network.format == "onnx" else None
    try:
        if network.module is not None:
            return _torch(network.module, arrays, made)
        if path is not None:
            return _onnx(path, network.output_names)
    except Exception:  # of whatever framework: no answer is an answer here
        return [None] * len(made)
    return [None] * len(made)


def _torch(
    module: Any, arrays: Sequence[NDArray[Any]], made: Sequence[NDArray[Any]]
) -> list[Range | None]:
    import torch

    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    with torch.enable_grad():
        for t in tensors:
            if t.is_floating_point():
                t.requires_grad_(True)
        flat = _flat(module(*tensors))
    known: list[Range | None] = []
    for a in made:  # a network may give some of them only, or in another order
        same = (t for t in flat if tuple(t.shape) == a.shape and _equal(t, a))
        found = next(same, None)
        known.append(None if found is None else _node(found.grad_fn))
    return known


def _equal(tensor: Any, array: NDArray[Any]) -> bool:
    return np.allclose(tensor.detach().float().numpy(), array, rtol=1e-3, atol=1e-6)


def _flat(made: Any) -> list[Any]:
    if hasattr(made, "grad_fn"):
        return [made]
    if isinstance(made, Mapping):
        made = made.values()
    return [t for v in made for t in _flat(v)] if isinstance(made, Iterable) else []


def _node(node: Any, depth: int = 0) -> Range | None:
    """The range of what an autograd node computes."""
    if node is None or depth > 40:
        return None
    name = node.name().split("Backward")[0].rpartition("::")[2]
    if name in _TORCH:
        return _TORCH[name]
    if name in ("Clamp", "Hardtanh", "ClampMin", "ClampMax"):
        low = [getattr(node, a, None) for a in ("_saved_min", "_saved_min_val")]
        high = [getattr(node, a, None) for a in ("_saved_max", "_saved_max_val")]
        least = next((v for v in low if isinstance(v, int | float)), -math.inf)
        most = next((v for v in high if isinstance(v, int | float)), math.inf)
        return (float(least), float(most))
    if name not in _TORCH_KEEP:
        return None
    before = [n for n, _ in node.next_functions]
    return _joined([_node(n, depth + 1) for n in before], padded=name == "ConstantPadNd")


def _onnx(path: Any, names: Sequence[str]) -> list[Range | None]:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path), load_external_data=False)
    made = {o: n for n in model.graph.node for o in n.output}
    constants = {i.name: i for i in model.graph.initializer}

    def number(name: str, default: float) -> float | None:
        if not name:
            return default
        if name in constants:
            return float(np.asarray(numpy_helper.to_array(constants[name])))
        node = made.get(name)
        if node is not None and node.op_type == "Constant":
            return float(np.asarray(numpy_helper.to_array(node.attribute[0].t)))
        return None

    def of(name: str, depth: int = 0) -> Range | None:
        node = made.get(name)
        if node is None or depth > 40:
            return None
        if node.op_type in _ONNX:
            return _ONNX[node.op_type]
        if node.op_type == "Clip":
            given = [*node.input, "", ""]
            low, high = number(given[1], -math.inf), number(given[2], math.inf)
            return None if low is None or high is None else (low, high)
        if node.op_type not in _ONNX_KEEP:
            return None
        inputs = node.input if node.op_type == "Concat" else node.input[:1]
        return _joined([of(i, depth + 1) for i in inputs])

    return [of(name) for name in names]


def _joined(parts: Sequence[Range | None], *, padded: bool = False) -> Range | None:
    known = [p for p in parts if p is not None]
    if not known or len(known) < len(parts):
        return None
    low, high = min(p[0] for p in known), max(p[1] for p in known)
    return (min(low, 0.0), max(high, 0.0)) if padded else (low, high)
