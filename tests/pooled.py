"""Networks that pool, so that only tiles whole strides apart can agree with the whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from packages import make_package, read_rdf, sha256, write_rdf


def make_pooled(folder: Path, by: int, **more: Any) -> Path:
    """A package whose network gives each pixel the largest of its block of `by` x `by` pixels.

    Blocks are counted from the first pixel of what the network is given. It takes any size, and
    `size` of `make_package` says which ones are declared.
    """
    from onnx import helper

    made = make_package(folder, kernel=1, validate=False, **more)
    enlarged = {
        "mode": "nearest",
        "coordinate_transformation_mode": "asymmetric",
        "nearest_mode": "floor",
    }
    nodes = [
        helper.make_node(
            "MaxPool", ["raw"], ["largest"], kernel_shape=[by, by], strides=[by, by], ceil_mode=1
        ),
        helper.make_node("Resize", ["largest", "", "factors"], ["enlarged"], **enlarged),
        helper.make_node("Shape", ["raw"], ["shape"], start=2),
        helper.make_node("Slice", ["enlarged", "first", "shape", "plane"], ["fed"]),
    ]
    constants: dict[str, np.ndarray] = {
        "factors": np.array([1, 1, by, by], np.float32),
        "first": np.zeros(2, np.int64),
        "plane": np.array([2, 3], np.int64),
    }
    change_graph(made, nodes, constants)
    return made


def change_graph(folder: Path, nodes: list[Any], constants: Mapping[str, np.ndarray]) -> None:
    """Put nodes in front of a package's network: they make "fed" of "raw"."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(folder / "weights.onnx"))
    for node in model.graph.node:
        for i, name in enumerate(node.input):
            if name == "raw":
                node.input[i] = "fed"
    old = list(model.graph.node)
    del model.graph.node[:]
    model.graph.node.extend([*nodes, *old])
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "weights.onnx"))
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    write_rdf(folder, rdf)
