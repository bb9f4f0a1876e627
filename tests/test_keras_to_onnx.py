"""Keras networks and TensorFlow bundles to ONNX: in a child, proven, their code asked for."""

from __future__ import annotations

import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

import biozoo
from biozoo.consent import grant
from biozoo.package import ModelPackage
from biozoo_converters.conversion import keras_to_onnx
from biozoo_converters.conversion.base import Job
from biozoo_converters.conversion.convert import convert
from biozoo_converters.conversion.keras_to_onnx import KerasToOnnx
from biozoo_converters.proof.setting import network_inputs
from biozoo_runners import test_package as run_test
from command import run_zoo
from packages import make_package, read_rdf, write_rdf
from weights_keras import add_keras, material, set_weights

zoo = partial(run_zoo, code=None)


def both(folder: Path, *formats: str) -> ModelPackage:
    """Two inputs, two outputs; the axes are channels last."""
    made = make_package(folder, axes="byxc", channels=2, inputs=2, outputs=2, validate=False)
    return ModelPackage.from_folder(add_keras(made, *formats))


@pytest.mark.parametrize(("weights_format", "way"), [("keras_v3", 0), ("keras_hdf5", 1)])
def test_each_engine_exports_its_networks(tmp_path: Path, weights_format: str, way: int) -> None:
    """Without the proof, which takes a second process with Keras."""
    package = both(tmp_path / "p", weights_format)
    inputs = network_inputs(package)
    attempts = list(KerasToOnnx.attempts(Job(package, weights_format, inputs)))
    assert [a.strategy for a in attempts[:2]] == ["tf2onnx", "dynamo of keras on torch"]
    entry = attempts[way].make(tmp_path)
    assert entry["opset_version"] == 18
    session = ort.InferenceSession(tmp_path / entry["source"])
    assert [v.shape for v in session.get_inputs()] == [
        ["batch", "y", "x", 2], ["batch", "raw1_y", "raw1_x", 2],
    ]  # fmt: skip
    wanted = ["prediction", "prediction1"]
    made = session.run(wanted, inputs)
    for name, array in zip(wanted, made, strict=True):
        expected = np.load(package.root / f"test_{name}.npy")
        np.testing.assert_allclose(array, expected, atol=1e-5)
    pair = {i: np.concatenate([a, a])[:, :12, :8] for i, a in inputs.items()}
    for array, whole in zip(session.run(wanted, pair), made, strict=True):
        assert array.shape == (2, 12, 8, 1)
        np.testing.assert_allclose(array[1, :11, :7], whole[0, :11, :7], atol=1e-5)


def test_a_bundle_becomes_a_proven_package(tmp_path: Path) -> None:
    package = both(tmp_path / "p", "tensorflow_saved_model_bundle")
    done = convert(package, "onnx", out=tmp_path / "out.zip", timing=False)
    assert done.proof.ok
    assert done.proof.strategy == "tf2onnx"
    out = biozoo.open(str(tmp_path / "out.zip"))
    assert out.raw["weights"]["onnx"]["parent"] == "tensorflow_saved_model_bundle"
    assert run_test(out, "onnx").ok
    assert not {"keras", "tensorflow"} & set(sys.modules)  # only ever in the child


def test_layers_that_are_code_need_consent(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", axes="byxc", validate=False)
    (folder / "weights.onnx").unlink()
    folder = set_weights(folder, "keras_v3", material("lambda.keras"))
    rdf = read_rdf(folder)
    del rdf["weights"]["onnx"]
    write_rdf(folder, rdf)
    refused = zoo("convert", folder, "--to", "onnx", "-o", tmp_path / "out.zip")
    assert refused.exit_code == 3
    assert "zoo trust" in refused.stderr
    assert not (tmp_path / "out.zip").exists()

    grant(biozoo.open(str(folder)))
    allowed = zoo("convert", folder, "--to", "onnx", "-o", tmp_path / "out.zip", "--dry-run")
    assert allowed.exit_code == 0, allowed.stderr


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = add_keras(make_package(tmp_path / "p", axes="byxc", validate=False))
    monkeypatch.setattr(keras_to_onnx, "importable", lambda name: name == "keras")
    done = zoo("convert", package, "--to", "onnx")
    assert done.exit_code == 3
    assert "tf2onnx" in done.stderr
    assert "keras2onnx" in done.stderr


def test_the_module_imports_neither_keras_nor_tensorflow() -> None:
    code = "import biozoo_converters.conversion.keras_to_onnx, sys; print('keras' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
