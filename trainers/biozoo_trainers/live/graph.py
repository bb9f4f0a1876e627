"""Takes an ONNX graph apart before its last linear layer, and puts it together with another one.

    parts = take_apart(model, output)
    parts.features()                      graph: inputs -> frozen features
    parts.tail()                          graph: logits -> output
    parts.with_head(weight, bias)         graph: inputs -> outputs, the layer replaced

The *logits* are what the last layer gives: from there to the output every pixel is computed from
itself alone (sigmoid, softmax over channels, ...). The features are what the layer sees where it is
a 1 x 1 convolution, and the logits themselves where it is anything else: then a 1 x 1 convolution
is put behind it, which begins as the identity. To them come tensors that are near to the image (see
`early`), so that also what a network has not kept up to its end can be learned from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import NetworkError

from .wires import Wires, early_of, import_onnx, logits_of, plain_layer

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["FEATURES", "LOGITS", "Parts", "take_apart"]

#: Names of the tensors between the two halves.
FEATURES, LOGITS = "live_features", "live_logits"
_HEAD = "live_head"

#: Channels that a tensor near to the image may have: more would cost memory and tell little.
_EARLY_CHANNELS = 64


@dataclass(frozen=True, eq=False)
class Parts:
    """A graph and where it is cut.

    Attributes
    ----------
    model
        The whole graph (onnx.ModelProto); never changed.
    output
        Name of the output.
    logits
        Name of the tensor that the last layer gives.
    deep
        Name of the tensor that counts as its input.
    early
        Names of the tensors near to the image, which have the logits' size in space.
    weight, bias
        float32 (channels, features) and (channels,): the layer as it is, on all features.
    late
        How many of the features are deep; they come first.
    dims
        Axes of the features in space.
    dtype
        Of the features.
    """

    model: Any
    output: str
    logits: str
    deep: str
    early: tuple[str, ...]
    weight: NDArray[np.float32]
    bias: NDArray[np.float32]
    late: int
    dims: int
    dtype: np.dtype[Any]

    @property
    def replaced(self) -> bool:
        """Whether the layer itself is replaced; else another one is put behind it."""
        return self.deep != self.logits

    def features(self) -> bytes:
        """The graph from the inputs to `FEATURES` (batch, deep and early channels, ...)."""
        made = _copy(self.model)
        self._join(made.graph, self.deep)
        del made.graph.output[:]
        made.graph.output.append(_value(FEATURES, self._kind))
        return _pruned(made)

    def tail(self) -> bytes:
        """The graph from `LOGITS` to the output, any size in space."""
        made = _copy(self.model)
        graph = made.graph
        outputs = [v for v in graph.output if v.name == self.output]
        if self.logits == self.output:  # nothing comes after the layer
            del graph.node[:]
            graph.node.add(op_type="Identity", input=[LOGITS], output=[self.output])
        else:
            for node in graph.node:
                _rename(node.input, self.logits, LOGITS)
        del graph.input[:], graph.output[:]
        graph.input.append(_value(LOGITS, self._kind))
        graph.output.append(_value(self.output, outputs[0].type.tensor_type.elem_type))
        return _pruned(made)

    def with_head(self, weight: NDArray[np.float32], bias: NDArray[np.float32]) -> bytes:
        """The whole graph with another last layer, inputs and outputs called as they were.

        Parameters
        ----------
        weight, bias
            (channels, deep and early features) and (channels,). Early features that no channel
            uses are left out.
        """
        made = _copy(self.model)
        graph = made.graph
        used = bool(np.any(weight[:, self.late :]))
        source = self.deep
        if self.replaced:
            for node in [n for n in graph.node if self.logits in n.output]:
                graph.node.remove(node)
        else:
            source = f"{_HEAD}_before"
            for node in graph.node:
                _rename(node.output, self.logits, source)
        if used:
            self._join(graph, source)
        values = weight if used else weight[:, : self.late]
        for name, array in (
            (f"{_HEAD}.weight", values.reshape(*values.shape, *(1,) * self.dims)),
            (f"{_HEAD}.bias", bias),
        ):
            for old in [t for t in graph.initializer if t.name == name]:  # a head of live mode
                graph.initializer.remove(old)
            typed = np.ascontiguousarray(array, self.dtype)
            graph.initializer.append(import_onnx().numpy_helper.from_array(typed, name))
        graph.node.add(
            op_type="Conv",
            name=_HEAD,
            input=[FEATURES if used else source, f"{_HEAD}.weight", f"{_HEAD}.bias"],
            output=[self.logits],
        )
        return _pruned(made)

    @property
    def _kind(self) -> int:
        """ONNX's number of the type of the features."""
        return int(import_onnx().helper.np_dtype_to_tensor_dtype(self.dtype))

    def _join(self, graph: Any, deep: str) -> None:
        """Add the node that makes `FEATURES`; one of an earlier head is not used any more."""
        if self.early:
            node = graph.node.add(
                op_type="Concat", name=FEATURES, input=[deep, *self.early], output=[FEATURES]
            )
            node.attribute.append(import_onnx().helper.make_attribute("axis", 1))
        else:
            graph.node.add(op_type="Identity", name=FEATURES, input=[deep], output=[FEATURES])


def take_apart(model: Any, output: str, *, test: Mapping[str, NDArray[Any]]) -> Parts:
    """Find the last linear layer of an output and the tensors that it is refitted on.

    Parameters
    ----------
    model
        onnx.ModelProto with all its values inside.
    output
        Name of the graph's output; axes batch, channel, then space.
    test
        The graph's inputs by name, of a size that it takes: sizes inside are measured with them.

    Raises
    ------
    NetworkError
        There is no such layer; says why.
    """
    wires = Wires(model.graph)
    logits = logits_of(wires, output)
    if logits in wires.inputs:
        raise NetworkError(
            "Live mode refits the last layer of a network, and this one has none: between its "
            "input and its output every pixel is computed from itself alone. Retrain it in full."
        )
    for other in model.graph.output:
        if other.name != output and logits in wires.ancestors(other.name):
            raise NetworkError(
                f"Live mode refits the last layer of an output, and the outputs '{output}' and "
                f"'{other.name}' come from the same one. Retrain the model in full."
            )
    found = plain_layer(wires, logits)
    deep, candidates = logits, list(early_of(wires, model.graph))
    if found is not None:
        deep = found[0]
        joined = wires.makers.get(deep)
        if deep == FEATURES and joined is not None:  # a head that live mode made
            deep, *candidates = joined.input
    made = _measured(model, [logits, deep, *candidates], test)
    like = made[logits]
    if like.ndim < 3 or like.dtype.kind != "f":
        raise NetworkError(
            f"Live mode refits a layer that gives an image of real numbers; that of '{output}' "
            f"gives {like.dtype} of the shape {like.shape}. Retrain the model in full."
        )
    early = tuple(n for n in candidates if n != deep and _fits(made[n], like))
    late = made[deep].shape[1]
    count = late + sum(made[n].shape[1] for n in early)
    weight = np.zeros((like.shape[1], count), np.float32)
    bias = np.zeros(like.shape[1], np.float32)
    if found is None:
        weight[:, :late] = np.eye(late)
    else:
        weight[:, : found[1].shape[1]], bias = found[1], found[2]
    return Parts(model, output, logits, deep, early, weight, bias, late, like.ndim - 2, like.dtype)


def _fits(early: NDArray[Any], like: NDArray[Any]) -> bool:
    """Whether a tensor can be joined with features of the logits' size."""
    return (
        early.ndim == like.ndim
        and early.dtype == like.dtype
        and early.shape[:1] + early.shape[2:] == like.shape[:1] + like.shape[2:]
        and early.shape[1] <= _EARLY_CHANNELS
    )


def _measured(
    model: Any, names: list[str], test: Mapping[str, NDArray[Any]]
) -> dict[str, NDArray[Any]]:
    """Tensors inside a graph, computed."""
    import onnxruntime

    made = _copy(model)
    inputs = {v.name for v in made.graph.input}
    wanted = [n for n in dict.fromkeys(names) if n not in inputs]
    kinds = {v.name: v.type.tensor_type.elem_type for v in made.graph.output}
    kinds |= {n: k for n, k in _kinds(made).items() if n in wanted}
    del made.graph.output[:]
    made.graph.output.extend(_value(n, kinds.get(n, 1)) for n in wanted)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        made.SerializeToString(), sess_options=options, providers=["CPUExecutionProvider"]
    )
    found = dict(zip(wanted, session.run(wanted, dict(test)), strict=True))
    return {n: np.asarray(found[n] if n in found else test[n]) for n in names}


def _kinds(model: Any) -> dict[str, int]:
    """ONNX's types of the tensors inside, as far as they can be told without running it."""
    onnx = import_onnx()
    try:
        inferred = onnx.shape_inference.infer_shapes(model)
    except Exception:  # a graph that only its runtime understands
        return {}
    return {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}


def _value(name: str, kind: int = 1) -> Any:
    """A tensor of a graph whose shape is not told."""
    return import_onnx().helper.make_tensor_value_info(name, kind, None)


def _copy(model: Any) -> Any:
    made = import_onnx().ModelProto()
    made.CopyFrom(model)
    del made.graph.value_info[:]  # sizes inside, which every runtime works out itself
    return made


def _rename(names: Any, old: str, new: str) -> None:
    for i, name in enumerate(names):
        if name == old:
            names[i] = new


def _pruned(model: Any) -> bytes:
    """The serialized graph, nodes in order, without what its outputs do not need."""
    graph = model.graph
    makers = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    needed: set[str] = set()
    order: dict[int, None] = {}
    todo = [(v.name, False) for v in graph.output]
    while todo:  # depth first, every node behind those that it needs
        name, done = todo.pop()
        if done:
            order[makers[name]] = None
            continue
        if name in needed:
            continue
        needed.add(name)
        if name in makers:
            todo.append((name, True))
            todo += [(n, False) for n in _uses(graph.node[makers[name]])]
    nodes = [import_onnx().NodeProto() for _ in order]
    for made, i in zip(nodes, order, strict=True):
        made.CopyFrom(graph.node[i])
    kept = [t for t in graph.initializer if t.name in needed]
    initial = {t.name for t in graph.initializer}
    inputs = [v for v in graph.input if v.name not in initial or v.name in needed]
    for field, values in (("node", nodes), ("initializer", kept), ("input", inputs)):
        copies = [type(v)() for v in values]
        for copy, value in zip(copies, values, strict=True):
            copy.CopyFrom(value)
        graph.ClearField(field)
        getattr(graph, field).extend(copies)
    data: bytes = model.SerializeToString()
    return data


def _uses(node: Any) -> Iterator[str]:
    """Tensors that a node needs, those of its branches included."""
    yield from (n for n in node.input if n)
    for a in node.attribute:
        for inner in [*([a.g] if a.HasField("g") else []), *a.graphs]:
            for inside in inner.node:
                yield from _uses(inside)
