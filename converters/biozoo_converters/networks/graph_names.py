"""The names of a graph's inputs, outputs and sizes, as the description has them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from biozoo.errors import NetworkError

from .network import ExportRequest

__all__ = ["embedded", "renamed", "with_names"]

_TOO_LARGE = (
    "The graph is larger than 2 GB, which one ONNX file cannot hold. Give a smaller network, or "
    "keep it as TorchScript."
)


def with_names(model: Any, request: ExportRequest) -> bytes:
    """The serialized graph, its symbols named after the free axes.

    Sizes that the exporter found to be one size share the name of the first of them.

    Raises
    ------
    NetworkError
        It has other inputs or outputs than asked for, or does not fit in one file.
    """
    graph = model.graph
    _check(graph, request)
    del graph.value_info[:]  # sizes inside the graph: every runtime works them out itself
    names = _symbols(graph, request)
    for value in (*graph.input, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_param"):
                dim.dim_param = _renamed(dim.dim_param, names)
    return _bytes(model)


def _bytes(model: Any) -> bytes:
    try:
        data: bytes = model.SerializeToString()
    except Exception as exc:  # protobuf's limit, of a class that depends on its version
        raise NetworkError(_TOO_LARGE) from exc
    if len(data) >= 2**31:
        raise NetworkError(_TOO_LARGE)
    return data


# -------------------------------------------------------------------------- a graph that is there


def embedded(path: Path) -> Any:
    """The graph of a file, with the tensors of its external files inside."""
    import onnx

    model = onnx.load(str(path))
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.data_location = onnx.TensorProto.DEFAULT
    return model


def renamed(
    model: Any, inputs: Sequence[str], outputs: Sequence[str], request: ExportRequest
) -> bytes:
    """A graph with these inputs and outputs under the names of a request, and its sizes.

    Raises
    ------
    NetworkError
        A size that is described as variable is a number in the graph, or the numbers of tensors
        differ.
    """
    if len(inputs) != len(request.input_names) or len(outputs) != len(request.output_names):
        raise NetworkError(
            f"The graph has the inputs {', '.join(inputs)} and the outputs {', '.join(outputs)}; "
            f"{', '.join(request.input_names)} and {', '.join(request.output_names)} are described."
        )
    graph = model.graph
    kept = {v.name: v for v in graph.output}
    del graph.output[:]
    graph.output.extend(kept[name] for name in outputs)
    wanted = dict(zip(inputs, request.input_names, strict=True))
    for old, new in zip(outputs, request.output_names, strict=True):
        if old in wanted and wanted[old] != new:  # an input that is handed through
            _pass_on(graph, old, new)
        else:
            wanted[old] = new
    taken = _names(graph) - set(wanted)
    for name in sorted(taken & set(wanted.values())):
        wanted[name] = next(
            f"{name}_{n}" for n in range(len(taken) + 2) if f"{name}_{n}" not in taken
        )
    _rename(graph, wanted)
    _set_sizes(graph, request)
    return with_names(model, request)


def _pass_on(graph: Any, old: str, new: str) -> None:
    node = graph.node.add()
    node.op_type, node.name = "Identity", f"pass_{new}"
    node.input.append(old)
    node.output.append(new)
    next(v for v in graph.output if v.name == old).name = new


def _names(graph: Any) -> set[str]:
    found = {v.name for v in (*graph.input, *graph.output, *graph.initializer)}
    for node in graph.node:
        found |= {*node.input, *node.output}
        for inner in _inner(node):
            found |= _names(inner)
    return found


def _inner(node: Any) -> list[Any]:
    """The graphs of a node's branches and loops."""
    made = [a.g for a in node.attribute if a.HasField("g")]
    return made + [g for a in node.attribute for g in a.graphs]


def _rename(graph: Any, names: dict[str, str]) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for side in (node.input, node.output):
            for i, name in enumerate(side):
                side[i] = names.get(name, name)
        for inner in _inner(node):
            _rename(inner, names)


def _set_sizes(graph: Any, request: ExportRequest) -> None:
    """Fixed sizes become numbers; free ones must be free already."""
    values = {v.name: v for v in graph.input}
    free = request.free or tuple({} for _ in request.inputs)
    for name, array, axes in zip(request.input_names, request.inputs, free, strict=True):
        dims = values[name].type.tensor_type.shape.dim
        if len(dims) != array.ndim:
            continue  # the graph does not say
        for axis, (dim, size) in enumerate(zip(dims, array.shape, strict=True)):
            if axis not in axes:
                dim.dim_value = size
            elif dim.HasField("dim_value"):
                raise NetworkError(
                    f"Axis '{axes[axis][0]}' of input '{name}' is {dim.dim_value} in the ONNX "
                    "graph and cannot vary. Describe it as fixed, or export the network again "
                    "with this axis dynamic."
                )
            elif not dim.HasField("dim_param"):
                dim.dim_param = axes[axis][0]


def _check(graph: Any, request: ExportRequest) -> None:
    constants = {i.name for i in graph.initializer}
    inputs = [v.name for v in graph.input if v.name not in constants]
    missing = [n for n in request.input_names if n not in inputs]
    if missing:
        raise NetworkError(
            f"The network does not use its input {' and '.join(missing)}: the exported graph has "
            f"{', '.join(inputs) or 'none'}. Leave that input out."
        )
    found = [v.name for v in graph.output]
    if found != list(request.output_names):
        raise NetworkError(
            f"The graph has the outputs {', '.join(found)}; {', '.join(request.output_names)} are "
            "described. They must agree."
        )


def _symbols(graph: Any, request: ExportRequest) -> dict[str, str]:
    """Symbol of the exporter -> name of the axis."""
    names: dict[str, str] = {}
    values = {v.name: v for v in graph.input}
    for name, axes in zip(request.input_names, request.free, strict=False):
        dims = values[name].type.tensor_type.shape.dim
        for axis, (label, _, _) in axes.items():
            symbol = dims[axis].dim_param
            if symbol and symbol not in names:
                names[symbol] = label if label not in names.values() else f"{name}_{label}"
    return names


def _renamed(text: str, names: dict[str, str]) -> str:
    if text in names:  # a whole expression, such as 16*_y
        return names[text]
    return re.sub(r"[A-Za-z_]\w*", lambda m: names.get(m.group(), m.group()), text)
