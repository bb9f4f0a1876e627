"""An ONNX graph without what its exporter noted beside the network, and with axes that have names.

Exporters write the machine's paths, lines of the author's source, versions and shapes of values
into a graph. None of it computes anything; some of it says more about the author than they know,
and it makes two exports of one network differ.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from biozoo.errors import MissingDependencyError, NetworkError
from biozoo.install import install_line

if TYPE_CHECKING:
    from ..networks.network import ExportRequest

__all__ = ["checked", "describe_ports", "import_onnx", "main_graphs", "opset_of", "strip", "tidy"]

_GRAPH = "network"


def import_onnx() -> Any:
    """The onnx module, or the error that says how to get it."""
    try:
        import onnx
    except ImportError as exc:
        raise MissingDependencyError(
            what="Converting to ONNX", library="onnx", install=install_line("pack")
        ) from exc
    return onnx


def tidy(graph: bytes, request: ExportRequest) -> bytes:
    """The same network with the request's names and nothing about where it was exported.

    Inputs and outputs are called as the request has them, in its order of export; a free axis of an
    input has the name that the request gives it, any other its size. An axis of an output that an
    exporter knows to be as long as one of an input has that one's name.

    Parameters
    ----------
    graph
        A serialized `onnx.ModelProto` whose weights are inside.
    request
        What it was exported for.

    Raises
    ------
    NetworkError
        It has another number of inputs or outputs than the request, weights beside it, or is no
        valid graph by onnx's full check.
    """
    onnx = import_onnx()
    try:
        model = onnx.load_model_from_string(graph)
    except Exception as exc:  # protobuf's own errors
        raise NetworkError(f"The exporter's file is no ONNX graph: {_first(exc)}.") from exc
    _refuse_external(model)
    strip(model)
    _name_ports(model, request)
    _name_axes(model, request)
    return checked(model)


def strip(model: Any) -> None:
    """Take out, in place, notes of every kind: they compute nothing."""
    for field in ("producer_name", "producer_version", "domain", "model_version", "doc_string"):
        model.ClearField(field)
    del model.metadata_props[:]
    for graph in _graphs(model):
        graph.ClearField("doc_string")
        del graph.metadata_props[:]
        del graph.value_info[:]
        # By name: tools write them in the order of a hash table.
        weights = sorted(graph.initializer, key=lambda t: str(t.name))
        copies = [type(t).FromString(t.SerializeToString()) for t in weights]
        del graph.initializer[:]
        graph.initializer.extend(copies)
        for part in (*graph.initializer, *graph.input, *graph.output):
            _strip_part(part)
    for nodes in _node_lists(model):
        for node in nodes:
            _strip_part(node)
            for attribute in node.attribute:
                attribute.ClearField("doc_string")
                if attribute.HasField("t"):
                    _strip_part(attribute.t)
    model.graph.name = _GRAPH
    for function in model.functions:
        _strip_part(function)
        del function.value_info[:]
    used = {str(node.domain) for nodes in _node_lists(model) for node in nodes}
    used |= {"" if domain == "ai.onnx" else domain for domain in used}
    kept = sorted(
        ((str(o.domain), int(o.version)) for o in model.opset_import if _plain(o.domain) in used),
    )
    if not kept:  # a graph without a node
        kept = [("", opset_of(model))]
    del model.opset_import[:]
    for domain, version in kept:
        model.opset_import.add(domain=domain, version=version)


def checked(model: Any) -> bytes:
    """The model as bytes, always the same for the same model, after onnx's full check.

    Raises
    ------
    NetworkError
        It is no valid graph.
    """
    onnx = import_onnx()
    content: bytes = model.SerializeToString(deterministic=True)
    try:
        onnx.checker.check_model(content, full_check=True)
    except Exception as exc:  # of the checker and of shape inference, in several classes
        raise NetworkError(f"The graph is not valid: {_first(exc)}.") from exc
    return content


def opset_of(model: Any) -> int:
    """Version of ONNX's own operators that a model is written in."""
    found = [int(o.version) for o in model.opset_import if _plain(o.domain) == ""]
    return found[0] if found else 1


def describe_ports(model: Any, names: Sequence[str]) -> list[str]:
    """``raw (batch, 1, y, x)``, ... of a model's inputs and outputs of these names."""
    ports = {str(v.name): v for v in (*model.graph.input, *model.graph.output)}
    return [
        f"{name} ({', '.join(str(d.dim_param or d.dim_value) for d in _dims(ports[name]))})"
        for name in names
        if name in ports
    ]


# ------------------------------------------------------------------------------------------ names


def _name_ports(model: Any, request: ExportRequest) -> None:
    """Call inputs and outputs as the request does."""
    constants = {str(t.name) for t in model.graph.initializer}
    inputs = [v for v in model.graph.input if str(v.name) not in constants]
    if len(inputs) < len(model.graph.input):  # IR 3 listed the weights among the inputs
        copies = [type(v).FromString(v.SerializeToString()) for v in inputs]
        del model.graph.input[:]
        model.graph.input.extend(copies)
        inputs = list(model.graph.input)
    for what, ports, names in (
        ("inputs", inputs, request.input_names),
        ("outputs", list(model.graph.output), request.output_names),
    ):
        got = [str(v.name) for v in ports]
        if len(got) != len(names):
            raise NetworkError(
                f"The exported graph has {len(got)} {what} ({', '.join(got)}), the network "
                f"{len(names)} ({', '.join(names)}). One that the network does not use vanishes."
            )
        # By name where every name is there: an exporter may have changed the order.
        wanted = dict(zip(got, names, strict=True))
        if set(got) != set(names):
            _rename(model, {old: new for old, new in wanted.items() if old != new})
    _order(model.graph.input, request.input_names)
    _order(model.graph.output, request.output_names)


def _order(ports: Any, names: Sequence[str]) -> None:
    found = {str(v.name): type(v).FromString(v.SerializeToString()) for v in ports}
    if len(found) == len(names) == len(ports):
        del ports[:]
        ports.extend(found[name] for name in names)


def _rename(model: Any, names: Mapping[str, str]) -> None:
    """Rename values of the main graph everywhere; what already has a new name makes way."""
    graphs = main_graphs(model)
    taken = {str(n) for graph in graphs for node in graph.node for n in node.output}
    taken |= {str(t.name) for graph in graphs for t in graph.initializer}
    taken |= {str(v.name) for graph in graphs for v in (*graph.input, *graph.output)}
    changed = dict(names)
    for new in names.values():
        if new in taken and new not in names:
            free = next(f"{new}_{i}" for i in range(1, 2**31) if f"{new}_{i}" not in taken)
            changed[new] = free
            taken.add(free)

    def renamed(values: Any) -> None:
        for i, value in enumerate(values):
            values[i] = changed.get(str(value), str(value))

    for graph in graphs:
        for node in graph.node:
            renamed(node.input)
            renamed(node.output)
        for part in (*graph.input, *graph.output, *graph.initializer):
            part.name = changed.get(str(part.name), str(part.name))


def _name_axes(model: Any, request: ExportRequest) -> None:
    """Names for free axes, numbers for the others; see `tidy`."""
    known: dict[str, str] = {}
    free = request.free or tuple({} for _ in request.inputs)
    for value, array, axes in zip(model.graph.input, request.inputs, free, strict=True):
        dims = _dims(value)
        if len(dims) != array.ndim:
            _set_rank(value, array.ndim)
            dims = _dims(value)
        for number, dim in enumerate(dims):
            before = str(dim.dim_param)
            if number in axes:
                if before:
                    known.setdefault(before, axes[number][0])
                dim.dim_param = axes[number][0]
            else:
                dim.dim_value = array.shape[number]
    for value in model.graph.output:
        for number, dim in enumerate(_dims(value)):
            if dim.HasField("dim_param") or not dim.HasField("dim_value"):
                dim.dim_param = known.get(str(dim.dim_param), f"{value.name}_{number}")


def _dims(value: Any) -> list[Any]:
    return list(value.type.tensor_type.shape.dim)


def _set_rank(value: Any, rank: int) -> None:
    shape = value.type.tensor_type.shape
    del shape.dim[:]
    for _ in range(rank):
        shape.dim.add()


# ------------------------------------------------------------------------------------------ parts


def _graphs(model: Any) -> Iterator[Any]:
    """The main graph and every graph in an attribute of a node, of functions too."""
    yield from _graphs_of([model.graph])
    for function in model.functions:
        yield from _graphs_of(_inner(function.node))


def main_graphs(model: Any) -> list[Any]:
    """The main graph and those within its nodes; functions have names of their own."""
    return list(_graphs_of([model.graph]))


def _graphs_of(graphs: Iterable[Any]) -> Iterator[Any]:
    for graph in graphs:
        yield graph
        yield from _graphs_of(_inner(graph.node))


def _inner(nodes: Iterable[Any]) -> list[Any]:
    found = []
    for node in nodes:
        for attribute in node.attribute:
            found += [attribute.g] if attribute.HasField("g") else []
            found += list(attribute.graphs)
    return found


def _node_lists(model: Any) -> Iterator[Any]:
    for graph in _graphs(model):
        yield graph.node
    for function in model.functions:
        yield function.node


def _strip_part(part: Any) -> None:
    fields = part.DESCRIPTOR.fields_by_name
    if "doc_string" in fields:
        part.ClearField("doc_string")
    if "metadata_props" in fields:
        del part.metadata_props[:]


def _plain(domain: Any) -> str:
    return "" if str(domain) == "ai.onnx" else str(domain)


def _refuse_external(model: Any) -> None:
    onnx = import_onnx()
    for graph in _graphs(model):
        for tensor in graph.initializer:
            if onnx.external_data_helper.uses_external_data(tensor):
                raise NetworkError(
                    f"The graph keeps its weights ({tensor.name}) in a file beside it; a graph "
                    "with all in one file was expected."
                )


def _first(error: BaseException) -> str:
    lines = (line.strip() for line in str(error).splitlines())
    return next((line for line in lines if line), type(error).__name__)[:400].rstrip(".")
