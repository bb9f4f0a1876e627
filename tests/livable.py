"""Tiny packages for live mode, and images of dark and bright discs. No torch.

    package = livable(tmp_path / "p")                    # ends with 1 x 1 and a sigmoid
    package = livable(tmp_path / "p", tail="softmax", channels=3)
    image, labels = discs(dark=True)                     # (96, 96) float32, int32

The network: a convolution of 3 x 3 (4 channels, ReLU), of which one half of the size is computed
and enlarged again (4 channels, ReLU), joined with the first, a 1 x 1 convolution, and a tail. What
is brighter than the mean of the image is an object to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import biozoo
from biozoo.package import ModelPackage
from packages import SIGMOID, ZERO_MEAN, make_package, read_rdf, sha256, write_rdf

__all__ = ["INSTANCES", "discs", "livable", "strokes"]

Array = np.ndarray[Any, Any]

#: Objects of an output of two channels: foreground and distance.
INSTANCES = {
    "output": "prediction", "foreground": "channel0", "distance": "channel1",
    "seed_threshold": 0.5, "min_size": 4,
}  # fmt: skip


def livable(
    folder: Path,
    *,
    tail: str = "sigmoid",
    channels: int = 1,
    last: int = 1,
    config: Mapping[str, Any] | None = None,
    tags: Sequence[str] = ("nuclei",),
    size: Any = (16, 4),
    axes: str = "bcyx",
    id: str = "livable",
) -> ModelPackage:
    """A package with the network as its ONNX weights.

    Parameters
    ----------
    tail
        Behind the last convolution: "sigmoid", "softmax", "none", "postprocessing" (the sigmoid is
        the description's), "both" (a channel and 1 minus it), "added" and "joined" (two last
        layers, added up or side by side), "uneven" (times a map of 32 x 32: give that size).
    channels
        Of the output.
    last
        Edge of the last convolution.
    """
    steps = [SIGMOID] if tail == "postprocessing" else []
    over = [{"t": "time", "c": "channel"}.get(a, a) for a in axes if a != "b"]
    mean = {**ZERO_MEAN, "kwargs": {**ZERO_MEAN["kwargs"], "axes": over}}
    make_package(
        folder, id=id, axes=axes, size=size, test_size=size if isinstance(size, int) else 32,
        out_channels=channels, halo=6, preprocessing=[mean], postprocessing=steps, config=config,
        tags=tags, validate=False,
    )  # fmt: skip
    graph = _graph(tail, channels, last, len(axes) - 2)
    (folder / "weights.onnx").write_bytes(graph)
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    np.save(
        folder / "test_prediction.npy", _expected(graph, np.load(folder / "test_raw.npy"), tail)
    )
    rdf["outputs"][0]["test_tensor"]["sha256"] = sha256(folder / "test_prediction.npy")
    write_rdf(folder, rdf)
    return biozoo.open(folder)


def discs(*, dark: bool = False, side: int = 96, seed: int = 0) -> tuple[Array, Array]:
    """Discs on a plain ground with noise, and their numbers."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), np.int32)
    places = [(r, c) for r in range(14, side - 8, 24) for c in range(14, side - 8, 24)]
    for number, (row, column) in enumerate(places, 1):
        radius = rng.uniform(6, 8)
        labels[(y - row) ** 2 + (x - column) ** 2 < radius**2] = number
    image = 500 + (-300 if dark else 300) * (labels > 0) + rng.normal(0, 40, labels.shape)
    return image.astype(np.float32), labels


def strokes(labels: Array, objects: int = 2, background: int = 2) -> Array:
    """Scribbles of five pixels across: in the middle of objects, and between them."""
    painted = np.full(labels.shape, -1, np.int32)
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]]
    for number in range(1, objects + 1):
        rows, columns = np.nonzero(labels == number)
        row, column = int(rows.mean()), int(columns.mean())
        painted[(abs(y - row) <= 2) & (abs(x - column) <= 4) & (labels == number)] = 1
    for number in range(background):
        row = 2 + 24 * number
        painted[(abs(y - row) <= 2) & (x > 4) & (x < 60) & (labels == 0)] = 0
    return painted


def _graph(tail: str, channels: int, last: int, ndim: int) -> bytes:
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(3)
    ones = (1,) * ndim
    layers = 1 if tail in ("both", "joined") else channels
    first = rng.normal(0, 0.05, (4, 1, *(3,) * ndim)) + 1 / 3**ndim
    first[1] *= -1  # what is dark is seen too, by one channel of four
    values = {
        "first.w": first,
        "first.b": np.array([0, 0, 0.2, -0.2]),
        "deep.w": rng.normal(0, 0.1, (4, 4, *(3,) * ndim)) + 0.05,
        "deep.b": np.full(4, 0.1),
        "last.w": rng.normal(0, 0.1, (layers, 8, *(last,) * ndim)) / last**ndim,
        "last.b": np.full(layers, -1.5),
        "factors": np.array([1, 1, *(2,) * ndim]),
        "one": np.array([1]),
    }
    values["last.w"][:, [4, 6]] += 3.0 / last**ndim  # ReLUs of bright pixels (the early half)
    if tail == "softmax" or (tail == "none" and channels > 1):
        values["last.w"][0] *= -1
        values["last.b"][0] *= -1
    nodes = [
        helper.make_node("Conv", ["raw", "first.w", "first.b"], ["c1"], pads=[1] * ndim * 2),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node(
            "AveragePool", ["r1"], ["low"], kernel_shape=[2] * ndim, strides=[2] * ndim
        ),
        helper.make_node("Conv", ["low", "deep.w", "deep.b"], ["c2"], pads=[1] * ndim * 2),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node(
            "Resize", ["r2", "", "factors"], ["up"], mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        ),
        helper.make_node("Concat", ["up", "r1"], ["joined"], axis=1),
        helper.make_node("Conv", ["joined", "last.w", "last.b"], ["logits"],
                         pads=[last // 2] * ndim * 2),
    ]  # fmt: skip
    ends = {
        "sigmoid": [("Sigmoid", ["logits"], {})],
        "softmax": [("Softmax", ["logits"], {"axis": 1})],
        "none": [("Identity", ["logits"], {})],
        "postprocessing": [("Identity", ["logits"], {})],
        "both": [
            ("Sigmoid", ["logits"], {}),
            ("Sub", ["one", "end0"], {}),
            ("Concat", ["end1", "end0"], {"axis": 1}),
        ],
        "added": [
            ("Conv", ["up", "other.w"], {}),
            ("Add", ["logits", "end0"], {}),
            ("Sigmoid", ["end1"], {}),
        ],
        "uneven": [("Mul", ["logits", "map"], {}), ("Sigmoid", ["end0"], {})],
        "joined": [
            ("Conv", ["up", "other.w"], {}),
            ("Sigmoid", ["logits"], {}),
            ("Concat", ["end1", "end0"], {"axis": 1}),
        ],
    }[tail]
    values["map"] = np.linspace(0.5, 1.5, 32**ndim).reshape(1, 1, *(32,) * ndim)
    values["other.w"] = rng.normal(0, 0.1, (layers, 4, *ones))
    for number, (op, inputs, given) in enumerate(ends):
        name = "prediction" if number == len(ends) - 1 else f"end{number}"
        nodes.append(helper.make_node(op, inputs, [name], **given))
    used = {name for node in nodes for name in node.input}
    letters = "zyx"[-ndim:]
    shapes = [
        [name, ["b", count, *(f"{name}_{a}" for a in letters)]]
        for name, count in (("raw", 1), ("prediction", channels))
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in shapes]
    graph = helper.make_graph(
        nodes, "livable", infos[:1], infos[1:],
        [numpy_helper.from_array(np.asarray(v, np.float32), k) for k, v in values.items()
         if k in used],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(model.SerializeToString())


def _expected(graph: bytes, raw: Array, tail: str) -> Array:
    import onnxruntime

    over = tuple(range(1, raw.ndim))
    data = raw.astype(np.float32)
    data = (data - data.mean(over, keepdims=True)) / (data.std(over, keepdims=True) + 1e-6)
    made = onnxruntime.InferenceSession(graph).run(None, {"raw": data.astype(np.float32)})[0]
    return np.asarray(1 / (1 + np.exp(-made)) if tail == "postprocessing" else made, np.float32)
