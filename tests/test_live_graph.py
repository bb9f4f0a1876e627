"""Graphs taken apart before their last layer, and what live mode refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo.errors import NetworkError
from biozoo_trainers.live import open_live
from biozoo_trainers.live.opening import open_parts
from livable import INSTANCES, discs, livable, strokes
from packages import change_rdf, make_package, read_rdf, write_rdf

pytest.importorskip("onnx")
ort = pytest.importorskip("onnxruntime")

Array = np.ndarray[Any, Any]


def run(graph: bytes, **inputs: Array) -> Array:
    return np.asarray(ort.InferenceSession(graph).run(None, inputs)[0])


@pytest.mark.parametrize(
    ("tail", "channels", "last"),
    [
        ("sigmoid", 1, 1),
        ("softmax", 3, 1),
        ("none", 2, 1),
        ("postprocessing", 1, 1),
        ("both", 2, 1),
        ("sigmoid", 2, 3),  # the last layer sees its neighbours: another one goes behind it
        ("added", 1, 1),  # and the same where two layers are added
    ],
)
def test_features_head_and_tail_together_are_the_graph(
    tmp_path: Path, tail: str, channels: int, last: int
) -> None:
    package = livable(tmp_path / "p", tail=tail, channels=channels, last=last)
    parts = open_parts(package).parts
    raw = np.random.default_rng(0).normal(0, 1, (2, 1, 24, 20)).astype(np.float32)
    whole = run((package.root / "weights.onnx").read_bytes(), raw=raw)

    def by_hand(weight: Array, bias: Array) -> Array:
        features = run(parts.features(), raw=raw)
        logits = np.einsum("kc,bcyx->bkyx", weight, features) + bias[:, None, None]
        return run(parts.tail(), live_logits=logits.astype(np.float32))

    np.testing.assert_allclose(by_hand(parts.weight, parts.bias), whole, atol=1e-5)
    rng = np.random.default_rng(1)
    other = rng.normal(0, 1, parts.weight.shape).astype(np.float32)
    shift = rng.normal(0, 1, parts.bias.shape).astype(np.float32)
    kept = run(parts.with_head(other, shift), raw=raw)
    np.testing.assert_allclose(kept, by_hand(other, shift), atol=1e-4)
    assert not np.allclose(kept, whole, atol=0.05)
    assert parts.replaced == (last == 1 and tail != "added")
    # the image itself, and the 4 channels that see 3 x 3 pixels, come to what the layer sees
    deep = 8 if parts.replaced else len(parts.bias)
    assert (parts.late, parts.weight.shape[1]) == (deep, deep + 5)


def test_a_head_that_uses_nothing_early_needs_no_more_than_the_graph_has(tmp_path: Path) -> None:
    import onnx

    parts = open_parts(livable(tmp_path / "p")).parts
    weight = parts.weight.copy()
    weight[:, : parts.late] += 1
    made = onnx.load_model_from_string(parts.with_head(weight, parts.bias))
    assert [n.op_type for n in made.graph.node].count("Concat") == 1  # its own


def no_onnx(folder: Path) -> None:
    make_package(folder, validate=False)
    rdf = read_rdf(folder)
    rdf["weights"] = {"torchscript": {**rdf["weights"]["onnx"], "pytorch_version": "2.0"}}
    del rdf["weights"]["torchscript"]["opset_version"]
    write_rdf(folder, rdf)


def two_outputs(folder: Path) -> None:
    make_package(folder, outputs=2, validate=False)


def half_size(folder: Path) -> None:
    make_package(folder, scale=2, validate=False)


def cropped(folder: Path) -> None:
    make_package(folder, valid=True, validate=False)


def no_layer(folder: Path) -> None:
    make_package(folder, network="pointwise", validate=False)


def channels_last(folder: Path) -> None:
    make_package(folder, axes="byxc", validate=False)


def values(folder: Path) -> None:
    livable(folder, tail="none")


def colours(folder: Path) -> None:
    livable(folder, tail="none", channels=3)


def several_layers(folder: Path) -> None:
    livable(folder, tail="joined", channels=2)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (no_onnx, "needs ONNX weights, and 'tiny' has torchscript. Convert it: zoo convert tiny"),
        (two_outputs, "refits one output, and 'tiny' has 2"),
        (half_size, "as large as the image; 'prediction' is not, along 'y'"),
        (cropped, "as large as the image"),
        (no_layer, "this one has none"),
        (channels_last, "axes batch, channel, then y x"),
        (values, "no probabilities of classes"),
        (colours, "no probabilities of classes"),
        (several_layers, "joined from several: Conv, Conv"),
    ],
)
def test_why_a_model_cannot_be_refitted_live(tmp_path: Path, make: Any, said: str) -> None:
    make(tmp_path / "p")
    with pytest.raises(NetworkError, match=said):
        open_live(tmp_path / "p").close()


def test_objects_of_a_channel_that_is_no_probability(tmp_path: Path) -> None:
    package = livable(tmp_path / "p", channels=2, config={"biozoo": {"instances": INSTANCES}})
    steps = [{"id": "scale_linear", "kwargs": {"gain": 2.0, "offset": 0.0}}]
    outputs = read_rdf(package.root)["outputs"]
    outputs[0]["postprocessing"] = steps
    change_rdf(package.root, outputs=outputs)
    with pytest.raises(NetworkError, match="for the channel 0 that are no probabilities"):
        open_live(package.root).close()


def test_what_differs_from_pixel_to_pixel_is_no_tail(tmp_path: Path) -> None:
    with open_live(livable(tmp_path / "p", tail="uneven", size=32)) as live:
        assert live.classes == ("background", "object")


def test_bare_scores_are_classes_where_the_package_says_so(tmp_path: Path) -> None:
    package = livable(tmp_path / "p", tail="none", channels=3, tags=["semantic-segmentation"])
    with open_live(package) as live:
        assert live.classes == ("channel0", "channel1", "channel2")


def test_a_model_of_one_fixed_size_works_on_any_image(tmp_path: Path) -> None:
    import xarray as xr

    pixels, labels = discs(dark=True)
    with open_live(livable(tmp_path / "p", size=64)) as live:
        features = live.features(xr.DataArray(pixels, dims=("y", "x")))
        head = live.refit(features, strokes(labels))
        found = live.apply(features, head).values[0] > 0.5
    assert (found != (labels > 0)).mean() < 0.1
