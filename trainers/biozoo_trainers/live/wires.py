"""Reads an ONNX graph: where its last linear layer is, and what is near to the image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import MissingDependencyError, NetworkError
from biozoo.install import install_line

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Wires", "early_of", "import_onnx", "logits_of", "plain_layer"]

#: Operators whose output at a pixel depends on the inputs at that pixel and channel alone.
_POINTWISE = frozenset((
    "Abs", "Add", "Cast", "Ceil", "Clip", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor",
    "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
    "Less", "LessOrEqual", "Log", "Max", "Min", "Mul", "Neg", "Not", "PRelu", "Pow", "Reciprocal",
    "Relu", "Round", "Selu", "Sigmoid", "Sign", "Softplus", "Softsign", "Sqrt", "Sub", "Tanh",
    "Where",
))  # fmt: skip

#: Operators that mix channels of one pixel where their axis is the channels'.
_ACROSS_CHANNELS = frozenset(("Concat", "LogSoftmax", "Slice", "Softmax", "Split"))

#: Operators that, with strides of 1, keep sizes and see few pixels: what is near to the image.
_LOCAL = _POINTWISE | {"BatchNormalization", "Concat", "Conv", "Pad"}

#: Pixels across that an early tensor may see.
_SEES = 9


def import_onnx() -> Any:
    """The onnx module with its helpers.

    Raises
    ------
    MissingDependencyError
        It is not installed.
    """
    try:
        import onnx
        import onnx.helper
        import onnx.numpy_helper
        import onnx.shape_inference
    except ImportError as exc:
        raise MissingDependencyError(
            what="Live mode", library="onnx", install=install_line("ui")
        ) from exc
    return onnx


class Wires:
    """Who makes which tensor of a graph."""

    def __init__(self, graph: Any) -> None:
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self._initial = {t.name: t for t in graph.initializer}
        self.inputs = [v.name for v in graph.input if v.name not in self._initial]

    def constant(self, name: str) -> NDArray[Any] | None:
        """The value of a tensor that no input changes, where it is plainly there; else None."""
        helper = import_onnx().numpy_helper
        if name in self._initial:
            return np.asarray(helper.to_array(self._initial[name]))
        node = self.makers.get(name)
        if node is not None and node.op_type == "Constant":
            for a in node.attribute:
                if a.name == "value":
                    return np.asarray(helper.to_array(a.t))
        if node is not None and node.op_type == "Identity":
            return self.constant(node.input[0])
        return None

    @cached_property
    def _changing(self) -> frozenset[str]:
        """Tensors that depend on the inputs."""
        found = set(self.inputs)
        for node in self.makers.values():  # a graph lists its nodes in order
            if found.intersection(node.input):
                found.update(node.output)
        return frozenset(found)

    def data(self, node: Any) -> list[str]:
        """The inputs of a node that depend on the graph's inputs."""
        return [name for name in node.input if name in self._changing]

    def ancestors(self, name: str) -> set[str]:
        """All tensors that a tensor is computed from, itself included."""
        found, todo = set(), [name]
        while todo:
            here = todo.pop()
            if here not in found:
                found.add(here)
                if here in self.makers:
                    todo += self.data(self.makers[here])
        return found


def logits_of(wires: Wires, output: str) -> str:
    """The one tensor from which on every pixel of the output is computed from itself alone.

    Raises
    ------
    NetworkError
        There are several.
    """
    above: dict[str, list[str]] = {}  # tensors behind the last layers: what each comes from
    todo = [output]
    while todo:
        name = todo.pop()
        if name not in above:
            node = wires.makers.get(name)
            plain = node is not None and _keeps_pixels(wires, node)
            above[name] = wires.data(node) if plain else []
            todo += above[name]
    ends = [name for name, sources in above.items() if not sources]
    # Where several layers meet (a sum of two), the place where all have met counts as the layer.
    gates = [name for name in above if not _reached(above, output, ends, around=name)]
    found = min(gates, key=lambda name: len(_upstream(above, name)))
    maker = wires.makers.get(found)
    if len(ends) > 1 and (maker is None or maker.op_type == "Concat"):
        layers = sorted(wires.makers[n].op_type if n in wires.makers else n for n in ends)
        raise NetworkError(
            f"Live mode refits the last layer of an output, and '{output}' is joined from "
            f"several: {', '.join(layers)}. Retrain the model in full."
        )
    return found


def _upstream(above: dict[str, list[str]], name: str, around: str = "") -> set[str]:
    """A tensor and all that it comes from, not looking past `around`."""
    found: set[str] = set()
    todo = [name]
    while todo:
        here = todo.pop()
        if here not in found and here != around:
            found.add(here)
            todo += above[here]
    return found


def _reached(above: dict[str, list[str]], name: str, ends: list[str], around: str) -> bool:
    """Whether any of the ends is reached otherwise than through `around`."""
    return not _upstream(above, name, around).isdisjoint(ends)


def _keeps_pixels(wires: Wires, node: Any) -> bool:
    """Whether an operator computes every pixel from itself alone."""
    if node.op_type not in _POINTWISE | _ACROSS_CHANNELS:
        return False
    for name in node.input:
        if not name or name in wires.data(node) or node.op_type in ("Slice", "Split", "Clip"):
            continue
        value = wires.constant(name)
        # One value, or one per channel: anything larger may differ from pixel to pixel.
        if value is None or (value.size > 1 and any(n > 1 for n in value.shape[-2:])):
            return False
    if node.op_type in _ACROSS_CHANNELS:
        return _axes(wires, node) == [1]
    return True


def _axes(wires: Wires, node: Any) -> list[int] | None:
    """The axes along which an operator works, None where that is not plainly said."""
    if node.op_type == "Slice":
        if len(node.input) > 3 and node.input[3]:
            value = wires.constant(node.input[3])
            return None if value is None else [int(a) for a in value.ravel()]
        given = [list(a.ints) for a in node.attribute if a.name == "axes"]
        return given[0] if given else None
    given = [[int(a.i)] for a in node.attribute if a.name == "axis"]
    return given[0] if given else None


def plain_layer(
    wires: Wires, logits: str
) -> tuple[str, NDArray[np.float32], NDArray[np.float32]] | None:
    """Input, weight and bias of the 1 x 1 convolution that makes the logits; None: it is none."""
    node = wires.makers.get(logits)
    if node is None or node.op_type not in ("Conv", "ConvTranspose"):
        return None
    weight = wires.constant(node.input[1])
    given = {a.name: a for a in node.attribute}
    if weight is None or weight.ndim < 3 or any(n != 1 for n in weight.shape[2:]):
        return None
    plain = all(
        set(given[name].ints) <= {allowed}
        for name, allowed in (("strides", 1), ("pads", 0), ("output_padding", 0))
        if name in given
    )
    if not plain or ("group" in given and given["group"].i != 1):
        return None
    flat = weight.reshape(weight.shape[:2]).astype(np.float32)
    if node.op_type == "ConvTranspose":
        flat = flat.T
    bias: NDArray[Any] | None = np.zeros(len(flat), np.float32)
    if len(node.input) > 2 and node.input[2]:
        bias = wires.constant(node.input[2])
    if bias is None or wires.data(node) != [node.input[0]]:
        return None
    return node.input[0], np.ascontiguousarray(flat), bias.astype(np.float32)


def early_of(wires: Wires, graph: Any) -> Iterator[str]:
    """The network's input and the last activation that sees at most `_SEES` pixels across.

    Both only where every operator up to there keeps the size: what a network knows of an image at
    its full resolution, before it looks at it from afar.
    """
    sees = dict.fromkeys(wires.inputs, 1)
    best, most = "", 1
    for node in graph.node:
        data = wires.data(node)
        if not data or any(name not in sees for name in data) or node.op_type not in _LOCAL:
            continue
        given = {a.name: a for a in node.attribute}
        reach = max(sees[name] for name in data)
        if node.op_type == "Conv":
            if set(given["strides"].ints if "strides" in given else ()) - {1}:
                continue
            kernel = list(given["kernel_shape"].ints) if "kernel_shape" in given else []
            if not kernel:
                weight = wires.constant(node.input[1])
                kernel = list(weight.shape[2:]) if weight is not None else [_SEES]
            steps = list(given["dilations"].ints) if "dilations" in given else [1] * len(kernel)
            reach += max(((k - 1) * d for k, d in zip(kernel, steps, strict=True)), default=0)
        for name in node.output:
            sees[name] = reach
        # Of equals the last: the activation behind the convolution.
        if most <= reach <= _SEES and node.op_type not in ("Pad", "Concat", "Cast"):
            best, most = node.output[0], reach
    yield from wires.inputs[:1]
    if best and most > 1:
        yield best
