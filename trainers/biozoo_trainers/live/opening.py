"""Which output of a package is refitted, and whether it can be; the graph taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import NetworkError
from biozoo_runners.base import TensorPort, described, match_ports
from biozoo_runners.program import Program, program_of
from biozoo_runners.sizes import FixedSize, ParameterizedSize, SizeReference

from .graph import Parts, take_apart
from .links import Link, find_link
from .wires import import_onnx

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.processing import Chain
    from biozoo_runners.sizes import ModelGeometry, TensorGeometry

    from .links import Tail

__all__ = ["Opened", "open_parts"]

SPACE = ("z", "y", "x")


@dataclass(frozen=True, eq=False)
class Opened:
    """A package whose last layer can be refitted.

    Attributes
    ----------
    package, program
        The model.
    output
        Id of the output.
    names
        Of its channels.
    parts
        Its graph, taken apart.
    input_ids, optional
        Of the graph's inputs; ids, and those that may be left out.
    """

    package: ModelPackage
    program: Program
    output: str
    names: tuple[str, ...]
    parts: Parts
    input_ids: tuple[str, ...]
    optional: frozenset[str]

    @property
    def chain(self) -> Chain:
        """The output's postprocessing."""
        return self.program.postprocessing.chains[self.output]

    def link(self, tail: Tail) -> Link:
        """What painted classes mean for the layer; raises as `find_link`."""
        tags = {str(t).lower() for t in self.package.raw.get("tags") or ()}
        semantic = "semantic-segmentation" in tags or "background" in map(str.lower, self.names)
        return find_link(
            tail,
            len(self.parts.bias),
            self.names,
            self.program.instances,
            self.output,
            semantic=semantic,
        )


def open_parts(package: ModelPackage) -> Opened:
    """Take a package apart.

    Raises
    ------
    NetworkError
        Its last layer cannot be refitted; says why.
    """
    from biozoo_converters.networks.graph_names import embedded
    from biozoo_runners.onnx_external import check_external_data

    entry = package.raw["weights"].get("onnx")
    if entry is None:
        raise NetworkError(
            f"Live mode needs ONNX weights, and '{package.id}' has "
            f"{', '.join(package.raw['weights'])}. Convert it: zoo convert {package.id} --to onnx."
        )
    import_onnx()
    program = program_of(package)
    tensor = _output(package, program)
    path = package.path(entry["source"])
    check_external_data(path, package.root, model=package.id)
    model = embedded(path)
    ids = described(package)
    constants = {t.name for t in model.graph.initializer}
    ports = [_port(v) for v in model.graph.input if v.name not in constants]
    inputs = match_ports("input", ids["input_ids"], ports, model=package.id)
    outputs = match_ports(
        "output", ids["output_ids"], [_port(v) for v in model.graph.output], model=package.id
    )
    test = {
        inputs[t.id].name: _any(program.geometry, t, inputs[t.id]) for t in program.geometry.inputs
    }
    parts = take_apart(model, outputs[tensor.id].name, test=test)
    if parts.dims != len(tensor.dims) - 2:
        raise NetworkError(
            f"Live mode refits a layer that gives an image of {len(tensor.dims) - 2} dimensions, "
            f"and that of '{tensor.id}' has {parts.dims}. Retrain the model in full."
        )
    channels = next(a for a in tensor.axes if a.kind == "channel").channels
    return Opened(
        package=package,
        program=program,
        output=tensor.id,
        names=channels,
        parts=parts,
        input_ids=ids["input_ids"],
        optional=ids["optional"],
    )


def _output(package: ModelPackage, program: Program) -> TensorGeometry:
    """The output that is refitted, with axes that live mode can show."""
    model = program.geometry
    found = list(model.outputs)
    if program.instances is not None:
        found = [model.tensor(program.instances.output)]
    if len(found) != 1:
        raise NetworkError(
            f"Live mode refits one output, and '{package.id}' has {len(found)}: "
            f"{', '.join(t.id for t in found)}. Retrain it in full."
        )
    tensor = found[0]
    if program.postprocessing.chains[tensor.id].makes_labels:
        raise NetworkError(
            f"The objects of '{package.id}' are made of several maps that depend on one another "
            "(StarDist or Cellpose), and scribbles tell but one. Retrain it in full."
        )
    kinds = [a.kind for a in tensor.axes]
    if kinds[:2] != ["batch", "channel"] or any(
        a.kind != "space" or a.id not in SPACE for a in tensor.axes[2:]
    ):
        raise NetworkError(
            f"Live mode works on outputs with the axes batch, channel, then y x or z y x; "
            f"'{tensor.id}' has {', '.join(tensor.dims)}. Retrain the model in full."
        )
    for axis in tensor.axes[2:]:
        (source, _), ratio = model.referenced(tensor.id, axis.id)
        same = isinstance(axis.size, SizeReference) and not axis.size.offset and ratio == 1
        if source not in {t.id for t in model.inputs} or not same:
            raise NetworkError(
                f"Live mode works on outputs as large as the image; '{tensor.id}' is not, along "
                f"'{axis.id}'. Retrain the model in full."
            )
    return tensor


def _port(value: Any) -> TensorPort:
    kind = value.type.tensor_type
    sizes = tuple(
        d.dim_value if d.HasField("dim_value") else d.dim_param or None for d in kind.shape.dim
    )
    dtype = import_onnx().helper.tensor_dtype_to_np_dtype(kind.elem_type)
    return TensorPort(str(value.name), sizes, np.dtype(dtype))


def _any(model: ModelGeometry, tensor: TensorGeometry, port: TensorPort) -> Any:
    """Noise of the smallest size that the network takes."""
    roots = {
        (t.id, a.id): a.size.min
        for t in model.inputs
        for a in t.axes
        if isinstance(a.size, ParameterizedSize)
    }
    shape = []
    for axis in tensor.axes:
        size = axis.size.size if isinstance(axis.size, FixedSize) else None
        shape.append(size or model.size(tensor.id, axis.id, roots) or 1)
    return np.random.default_rng(0).normal(0, 1, shape).astype(port.dtype)
