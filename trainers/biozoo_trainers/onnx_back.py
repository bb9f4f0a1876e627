"""Trained values back into the ONNX graph that they came from.

A module made by `biozoo_converters.to_module` holds the graph it executes. Its parameters are that
graph's initializers, in the same layout or transposed: a second, untrained module of the same graph
tells which is which. The result has the parent's operators, axes and sizes, and needs no exporter.
Whether it computes what the module computes is for the proof to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biozoo.errors import NetworkError

__all__ = ["came_from_onnx", "written_back"]

_OPERAND = "_initializer_"


def came_from_onnx(module: Any) -> bool:
    """Whether a torch module executes an ONNX graph that it holds."""
    return _network(module) is not None


def written_back(module: Any) -> bytes:
    """The module's ONNX graph with the module's values, serialized.

    Parameters
    ----------
    module
        A `torch.nn.Module` that came from ONNX, or holds one that did; on the CPU.

    Raises
    ------
    NetworkError
        It did not come from ONNX, or a value that was trained has no place in the graph.
    """
    network = _network(module)
    if network is None:
        raise NetworkError("The network did not come from an ONNX graph.")
    graph = type(network.onnx_model).FromString(network.onnx_model.SerializeToString())
    tensors = {str(t.name): t for t in graph.graph.initializer}
    written: dict[str, NDArray[Any]] = {}
    for key, name, transposed, value in _places(network, graph, tensors):
        array = value.T if transposed else value
        if name in written and not np.array_equal(written[name], array):
            raise NetworkError(
                f"The constant '{name}' of the graph stands for two trained ones that now differ "
                f"(one of them {key})."
            )
        written[name] = array
    from onnx import numpy_helper

    for name, array in written.items():
        old = numpy_helper.to_array(tensors[name])
        made = np.ascontiguousarray(array.reshape(old.shape), dtype=old.dtype)
        tensors[name].CopyFrom(numpy_helper.from_array(made, name))
    content: bytes = graph.SerializeToString()
    return content


def _network(module: Any) -> Any:
    """The part of a module that executes a graph, None where there is none."""
    parts = [m for m in module.modules() if hasattr(m, "onnx_model") and hasattr(m, "mapping")]
    return parts[0] if len(parts) == 1 else None


def _places(
    network: Any, graph: Any, tensors: Mapping[str, Any]
) -> Iterator[tuple[str, str, bool, NDArray[Any]]]:
    """(key, initializer, whether transposed, trained value) of every value that has a place.

    Raises `NetworkError` for one that was trained and has none.
    """
    from onnx import numpy_helper

    from biozoo_converters.conversion.onnx_to_torch import module_of

    fresh = _network(module_of(graph))
    before = {k: v.detach().cpu().numpy() for k, v in fresh.state_dict().items()}
    after = {k: v.detach().cpu().numpy() for k, v in network.state_dict().items()}
    if before.keys() != after.keys():
        raise NetworkError("The network has other parameters than its own graph.")
    nodes = {network.mapping[str(n.output[0])]: n for n in graph.graph.node}
    taken: dict[str, set[int]] = {}  # per operator, which of its inputs have found their value
    for key, value in after.items():
        part = key.partition(".")[0]
        if part.startswith(_OPERAND):
            name = part.removeprefix(_OPERAND)
            if name in tensors:
                yield key, name, False, value
                continue
        node = nodes.get(part)
        used = taken.setdefault(part, set())
        for place, given in enumerate(node.input if node is not None else ()):
            if str(given) not in tensors or place in used:
                continue
            old = numpy_helper.to_array(tensors[str(given)])
            how = _layout(old, before[key])
            if how is not None:
                used.add(place)
                yield key, str(given), how, value
                break
        else:
            if not np.array_equal(before[key], value):
                raise NetworkError(f"The trained {key} has no place in the graph.")


def _layout(old: NDArray[Any], value: NDArray[Any]) -> bool | None:
    """Whether a value is an initializer transposed; None where it is another one."""
    if old.size != value.size:
        return None
    if old.shape == value.shape and np.array_equal(old, value):
        return False
    if old.ndim == value.ndim == 2 and np.array_equal(old.T, value):
        return True
    return False if np.array_equal(old.ravel(), value.ravel()) else None
