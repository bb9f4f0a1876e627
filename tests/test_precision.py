"""float16 and int8: kept only where they agree and are faster here, else told what was measured."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

import biozoo
from biozoo.errors import ConversionError
from biozoo.package import ModelPackage
from biozoo_converters.conversion import precision, quantizing
from biozoo_converters.conversion.precision import add_variant
from biozoo_runners import test_package as run_test
from command import run_zoo
from packages import change_rdf, make_package, read_rdf, sha256

zoo = partial(run_zoo, code=None)


def allowing(error: float) -> dict[str, Any]:
    """A package's config that allows so much, absolute and relative."""
    allowed = {"relative_tolerance": error, "absolute_tolerance": error}
    return {"bioimageio": {"reproducibility_tolerance": [allowed]}}


def model(folder: Path, **more: Any) -> ModelPackage:
    return ModelPackage.from_folder(make_package(folder, validate=False, **more))


def takes(monkeypatch: pytest.MonkeyPatch, ratio: float) -> None:
    """What a clock would say: tests do not measure."""
    monkeypatch.setattr(precision, "_ratio", lambda *_: ratio)


def test_a_faster_variant_that_agrees_is_an_attachment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 0.6)
    package = model(tmp_path / "m", channels=2, config=allowing(0.01))
    told = add_variant(package, "float16", out=tmp_path / "out.zip")
    assert told.kept, told
    made = biozoo.open(str(tmp_path / "out.zip"))
    described = made.raw["config"]["biozoo"]["variants"]["float16"]
    assert described["source"] == "weights.float16.onnx"
    assert described["sha256"] == sha256(made.root / "weights.float16.onnx")
    assert described["time_ratio"] == 0.6
    assert described["proof"]["ok"] is True
    assert len(described["proof"]["cases"]) >= 4
    assert described["proof"]["files"] == {described["source"]: described["sha256"]}
    assert made.raw["attachments"] == [{k: described[k] for k in ("source", "sha256")}]
    assert made.raw["weights"] == package.raw["weights"]
    assert made.raw["config"]["bioimageio"] == package.raw["config"]["bioimageio"]
    assert made.verify().ok
    assert run_test(made).ok
    assert made.descr.attachments

    graph = onnx.load_model(made.root / "weights.float16.onnx").graph
    weights = [t.data_type for t in graph.initializer]
    assert TensorProto.FLOAT16 in weights
    ports = [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)]
    assert set(ports) == {TensorProto.FLOAT}

    again = zoo("convert", tmp_path / "out.zip", "--to", "float16")
    assert again.exit_code == 2
    assert "has its float16 variant already" in again.stderr


def test_a_variant_that_is_not_faster_is_told_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 0.97)
    package = model(tmp_path / "m", config=allowing(0.01))
    asked = ("convert", package.root, "--to", "float16", "-o", tmp_path / "out.zip")
    done = zoo(*asked)
    assert done.exit_code == 1
    assert "not kept, it is not faster here" in done.stdout
    assert "takes 0.97 of float32's time" in done.stdout
    assert "nothing was written" in done.stderr
    facts = json.loads(zoo(*asked, "--json").stdout)
    assert facts["kept"] is False
    assert facts["time_ratio"] == 0.97
    assert 0 < facts["absolute_error"] < 0.01
    assert not (tmp_path / "out.zip").exists()
    assert read_rdf(package.root) == package.raw
    assert "weights.float16.onnx" not in {p.name for p in package.root.iterdir()}


def test_a_fast_variant_that_disagrees_is_told_and_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes(monkeypatch, 0.4)
    package = model(tmp_path / "m", config=allowing(1e-6))
    told = add_variant(package, "int8", out=tmp_path / "out.zip")
    assert not told.kept
    assert "does not agree" in told.why
    assert told.worst is not None
    assert told.worst.off_per_million > 100
    assert told.ratio == 0.4
    assert not (tmp_path / "out.zip").exists()


def test_int8_is_quantized_per_channel_with_float_ports(tmp_path: Path) -> None:
    package = model(tmp_path / "m", out_channels=3)
    real = {"raw": np.load(package.root / "test_raw.npy")}
    bold, _ = quantizing.attempts(package.root / "weights.onnx", "w.onnx", "int8", real)
    bold.make(tmp_path)
    graph = onnx.load_model(tmp_path / "w.onnx").graph
    assert {"QuantizeLinear", "DequantizeLinear"} <= {n.op_type for n in graph.node}
    weight = next(t for t in graph.initializer if t.data_type == TensorProto.INT8 and t.dims)
    scales = [t for t in graph.initializer if t.data_type == TensorProto.FLOAT and t.dims == [3]]
    assert weight.dims[0] == 3
    assert scales
    ports = [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)]
    assert set(ports) == {TensorProto.FLOAT}
    (float32,), (int8,) = (
        ort.InferenceSession(path).run(None, real)
        for path in (package.root / "weights.onnx", tmp_path / "w.onnx")
    )
    assert 0 < np.abs(float32 - int8).max() < 0.02


def test_an_old_graph_is_quantized_too(tmp_path: Path) -> None:
    shape = [1, 1, 8, 8]
    weight = numpy_helper.from_array(np.ones((2, 1, 3, 3), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Conv", ["raw", "w"], ["out"], pads=[1, 1, 1, 1])],
        "old",
        [helper.make_tensor_value_info("raw", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 2, 8, 8])],
        [weight],
    )
    old = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9)], ir_version=4)
    onnx.save(old, tmp_path / "old.onnx")
    real = {"t1": np.random.default_rng(0).random(shape).astype(np.float32)}  # by order
    bold, gentle = quantizing.attempts(tmp_path / "old.onnx", "w.onnx", "int8", real)
    entry = bold.make(tmp_path)
    assert entry["sha256"] == sha256(tmp_path / "w.onnx")
    made = onnx.load_model(tmp_path / "w.onnx")
    assert "QuantizeLinear" in {n.op_type for n in made.graph.node}
    with pytest.raises(ConversionError, match="too few"):  # nothing would be quantized
        gentle.make(tmp_path)


def test_calibration_sees_the_image_and_values_like_its() -> None:
    image = np.random.default_rng(0).normal(5, 2, (1, 1, 8, 12)).astype(np.float32)
    arrays = quantizing.calibration({"raw": image})
    assert len(arrays) > 3
    assert np.array_equal(arrays[0]["raw"], image)
    assert all(a["raw"].shape == image.shape and a["raw"].dtype == image.dtype for a in arrays)
    assert all(image.min() <= a["raw"].min() and a["raw"].max() <= image.max() for a in arrays)
    again = quantizing.calibration({"raw": image})
    assert all(np.array_equal(a["raw"], b["raw"]) for a, b in zip(arrays, again, strict=True))


def test_a_package_without_onnx_is_told_how_to_get_it(tmp_path: Path) -> None:
    package = model(tmp_path / "m")
    entry = package.raw["weights"]["onnx"]
    change_rdf(package.root, weights={"torchscript": {**entry, "pytorch_version": "2.6"}})
    done = zoo("convert", package.root, "--to", "int8")
    assert done.exit_code == 2
    assert "--to onnx" in done.stderr


def test_what_a_clock_says_is_measured_once(tmp_path: Path) -> None:
    package = model(tmp_path / "m")
    (package.root / "weights.float16.onnx").write_bytes(
        (package.root / "weights.onnx").read_bytes()
    )
    real = {"raw": np.load(package.root / "test_raw.npy")}
    first = precision._ratio(package, package.root / "weights.float16.onnx", real)
    assert first is not None
    assert first > 0
    assert first == precision._ratio(package, package.root / "weights.float16.onnx", real)
