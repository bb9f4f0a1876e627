"""A model that is bad at first and learns in seconds: nuclei as blobs, a network of 500 numbers.

learner(folder / "learner")               # the package, with a recipe of 60 steps
for name, image, labels in blobs(6): ...   # uint16 and uint16, 96 x 96
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from packages import SIGMOID, ZERO_MEAN, make_package, read_rdf, sha256, write_rdf

__all__ = ["RECIPE", "blobs", "learner"]

Array = np.ndarray[Any, Any]

RECIPE: dict[str, Any] = {
    "version": 1,
    "input": "raw",
    "output": "prediction",
    "target": {"kind": "foreground"},
    "activation": "postprocessing",
    "patch": {"size": {"y": 32, "x": 32}, "multiple": {"y": 4, "x": 4}},
    "optimiser": {"learning_rate": 0.02, "steps": 60, "batch": 4, "warm_up": 5, "average": 0.8},
}


def learner(folder: Path, *, id: str = "learner", steps: int = 60, seed: int = 0) -> Path:
    """A package of two layers of 3 x 3 and one of 1 x 1, which finds nothing yet."""
    recipe = RECIPE | {"optimiser": RECIPE["optimiser"] | {"steps": steps}}
    make_package(
        folder, id=id, name="Learner", halo=2, size=(8, 4), test_size=32, validate=False,
        preprocessing=[ZERO_MEAN], postprocessing=[SIGMOID], channel_names=["gray"],
        config={"biozoo": {"training": recipe}},
    )  # fmt: skip
    graph = _graph(np.random.default_rng(seed))
    (folder / "weights.onnx").write_bytes(graph)
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    np.save(folder / "test_prediction.npy", _expected(graph, np.load(folder / "test_raw.npy")))
    rdf["outputs"][0]["test_tensor"]["sha256"] = sha256(folder / "test_prediction.npy")
    rdf["outputs"][0]["axes"][1]["channel_names"] = ["foreground"]
    write_rdf(folder, rdf)
    return folder


def blobs(count: int, *, side: int = 96, seed: int = 1) -> Iterator[tuple[str, Array, Array]]:
    """Images of bright blobs on dark, and their objects."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    for number in range(count):
        labels = np.zeros((side, side), np.uint16)
        centres = [(r, c) for r in range(14, side - 8, 24) for c in range(14, side - 8, 24)]
        for n, (row, column) in enumerate(centres, 1):
            row, column = row + rng.integers(-4, 5), column + rng.integers(-4, 5)
            radius = rng.uniform(4, 7)
            labels[(y - row) ** 2 + (x - column) ** 2 < radius**2] = n
        image = 200 + 500 * (labels > 0) + rng.normal(0, 60, labels.shape)
        yield f"cells-{number}", image.clip(0).astype(np.uint16), labels


def _graph(rng: np.random.Generator) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    def weights(name: str, *shape: int) -> Any:
        values = rng.normal(0, 1.4 / np.sqrt(np.prod(shape[1:])), shape)
        return numpy_helper.from_array(values.astype(np.float32), name)

    def biases(name: str, count: int, value: float) -> Any:
        return numpy_helper.from_array(np.full(count, value, np.float32), name)

    nodes = [
        helper.make_node("Conv", ["raw", "w1", "b1"], ["c1"], pads=[1] * 4),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], pads=[1] * 4),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("Conv", ["r2", "w3", "b3"], ["prediction"]),
    ]
    constants = [
        weights("w1", 6, 1, 3, 3), biases("b1", 6, 0.1), weights("w2", 6, 6, 3, 3),
        biases("b2", 6, 0.1), weights("w3", 1, 6, 1, 1), biases("b3", 1, -4.0),
    ]  # fmt: skip
    dims = [["b", 1, f"{name}_y", f"{name}_x"] for name in ("raw", "prediction")]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(("raw", "prediction"), dims, strict=True)
    ]
    graph = helper.make_graph(nodes, "learner", [values[0]], [values[1]], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def _expected(graph: bytes, raw: Array) -> Array:
    from onnx import load_model_from_string
    from onnx.reference import ReferenceEvaluator

    data = raw.astype(np.float32)
    data = (data - data.mean((1, 2, 3), keepdims=True)) / (
        data.std((1, 2, 3), keepdims=True) + 1e-6
    )
    [found] = ReferenceEvaluator(load_model_from_string(graph)).run(None, {"raw": data})
    return np.asarray(1 / (1 + np.exp(-found)), np.float32)
