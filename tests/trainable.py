"""Tiny packages that can be trained, and images of discs to train them on.

    package = trainable(tmp_path / "p")                  # 1 -> 4 -> 1 channels, sigmoid inside
    pairs = discs(6)                                     # bright discs, numbered

The network is Conv 3 x 3 + Relu + Conv 1 x 1 (+ Sigmoid), 45 parameters, with weights that make
what is bright an object, poorly: a few steps let it do better.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import biozoo
from biozoo.package import ModelPackage
from biozoo_runners.images.base import Image
from biozoo_trainers.pairs import Pair, content_digest
from packages import SIGMOID, ZERO_MEAN, make_package, read_rdf, sha256, write_rdf


def trainable(
    folder: Path,
    *,
    inside: bool = True,
    hidden: int = 4,
    channels: int = 1,
    axes: str = "bcyx",
    names: Sequence[str] | None = None,
    config: Mapping[str, Any] | None = None,
    size: Any = (16, 4),
    tags: Sequence[str] = ("nuclei", "instance-segmentation"),
    seed: int = 0,
) -> ModelPackage:
    """A package with the small network as its ONNX weights.

    Parameters
    ----------
    inside
        Whether the network ends with the sigmoid; else the description's postprocessing has it.
    hidden, channels
        Channels between the convolutions, and of the output.
    axes
        Of input and output: "bcyx" or "bczyx".
    """
    folder = make_package(
        folder,
        axes=axes,
        size=size,
        test_size=size if isinstance(size, int) else 24,
        out_channels=channels,
        halo=0,
        preprocessing=[_zero_mean(axes)],
        postprocessing=() if inside else [SIGMOID],
        config=config,
        tags=tags,
        validate=False,
    )
    graph = network(axes, hidden, channels, inside, seed)
    (folder / "weights.onnx").write_bytes(graph)
    rdf = read_rdf(folder)
    rdf["weights"]["onnx"]["sha256"] = sha256(folder / "weights.onnx")
    if names is not None:
        for axis in rdf["outputs"][0]["axes"]:
            if axis["type"] == "channel":
                axis["channel_names"] = list(names)
    write_rdf(folder, rdf)
    package = biozoo.open(folder)
    import onnxruntime

    from biozoo_converters.proof.setting import network_inputs

    made = onnxruntime.InferenceSession(graph).run(None, network_inputs(package))[0]
    if not inside:
        made = 1 / (1 + np.exp(-made))
    np.save(folder / "test_prediction.npy", made)
    rdf["outputs"][0]["test_tensor"]["sha256"] = sha256(folder / "test_prediction.npy")
    write_rdf(folder, rdf)
    return biozoo.open(folder)


def network(axes: str, hidden: int, channels: int, inside: bool, seed: int = 0) -> bytes:
    """The ONNX graph."""
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(seed)
    ndim = len(axes) - 2
    first = rng.normal(0, 0.1, (hidden, 1, *(3,) * ndim)).astype(np.float32) + 0.02
    last = rng.normal(0, 0.2, (channels, hidden, *(1,) * ndim)).astype(np.float32) + 0.2
    values = {
        "first.weight": first,
        "first.bias": np.full(hidden, 0.1, np.float32),
        "last.weight": last,
        "last.bias": np.full(channels, -0.3, np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["raw", "first.weight", "first.bias"], ["a"], pads=[1] * ndim * 2),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "last.weight", "last.bias"], ["logits"]),
    ]
    end = helper.make_node("Sigmoid", ["logits"], ["prediction"])
    nodes.append(end if inside else helper.make_node("Identity", ["logits"], ["prediction"]))
    space = [f"n{n}" for n in range(ndim)]

    def port(name: str, count: int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", count, *space])

    graph = helper.make_graph(
        nodes,
        "small",
        [port("raw", 1)],
        [port("prediction", channels)],
        [numpy_helper.from_array(v, n) for n, v in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    content: bytes = model.SerializeToString()
    return content


def disc_image(
    seed: int, size: int = 64, count: int = 5, *, dark: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """A noisy image with discs (uint8, y x) and their numbers (uint16, y x), none touching."""
    rng = np.random.default_rng(seed)
    labels = np.zeros((size, size), np.uint16)
    y, x = np.mgrid[:size, :size]
    number = 0
    for _ in range(50 * count):
        if number == count:
            break
        (cy, cx), r = rng.uniform(6, size - 6, 2), rng.uniform(4, 6)
        disc = (y - cy) ** 2 + (x - cx) ** 2 < r**2
        near = (y - cy) ** 2 + (x - cx) ** 2 < (r + 3) ** 2
        if not labels[near].any():
            number += 1
            labels[disc] = number
    values = np.where(labels > 0, 180.0, 60.0)
    image = values + rng.normal(0, 12, values.shape)
    image = np.clip(255 - image if dark else image, 0, 255).astype(np.uint8)
    return image, labels


def discs(count: int, size: int = 64, *, first: int = 0, dark: bool = False) -> list[Pair]:
    """Pairs in memory, sorted by stem."""
    made = []
    for n in range(first, first + count):
        image, labels = disc_image(n, size, dark=dark)
        opened = Image.from_array(image, name=f"disc{n:02}")
        made.append(Pair(f"disc{n:02}", opened, Image.from_array(labels), content_digest(opened)))
    return made


def _zero_mean(axes: str) -> dict[str, Any]:
    spatial = ["channel", *(a for a in axes if a in "zyx")]
    return {**ZERO_MEAN, "kwargs": {**ZERO_MEAN["kwargs"], "axes": spatial}}
