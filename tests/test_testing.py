"""`zoo test`: test tensors reproduced within the package's tolerance, and the backend contract."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo.errors import InvalidPackageError, NoBackendError, UntrustedCodeError, UsageError
from biozoo_runners import testing
from biozoo_runners.base import Backend
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.tolerance import Tolerance, compare, tolerance_for
from packages import change_rdf, make_package, read_rdf, sha256
from weights_state_dict import add_state_dict


def change_output(folder: Path, array: np.ndarray) -> None:
    """Replace the package's expected output."""
    np.save(folder / "test_prediction.npy", array)
    outputs = read_rdf(folder)["outputs"]
    outputs[0]["test_tensor"]["sha256"] = sha256(folder / "test_prediction.npy")
    change_rdf(folder, outputs=outputs)


@pytest.mark.parametrize("axes", ["bcyx", "byxc", "zyx"])
def test_a_good_package_is_reproduced(tmp_path: Path, axes: str) -> None:
    """Also with a halo: the test tensors are fed as they are, nothing is padded or cropped."""
    report = testing.test_package(make_package(tmp_path / "p", axes=axes, halo=1))
    assert report.ok
    assert report.exit_code == 0
    assert "tiny 1.0 reproduces its test tensors" in str(report)
    assert report.formats[0].outputs[0].off_per_million == 0
    json.dumps(report.to_dict())


def test_a_changed_output_is_not(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    array = np.load(folder / "test_prediction.npy")
    array.flat[3] += 0.5
    change_output(folder, array)
    report = testing.test_package(folder)
    assert not report.ok
    assert report.exit_code == 1
    (output,) = report.formats[0].outputs
    assert output.off_per_million == pytest.approx(1e6 / array.size)
    assert output.absolute_error == pytest.approx(0.5, abs=1e-3)
    assert "NOT reproduced" in str(report)


def test_weights_that_need_the_authors_code_do_not_hide_the_others(tmp_path: Path) -> None:
    folder = add_state_dict(make_package(tmp_path / "p"), keep_onnx=True)
    report = testing.test_package(folder)
    assert report.ok
    told = {f.weights_format: str(f) for f in report.formats}
    assert "reproduced" in told["onnx"]
    assert "not tested" in told["pytorch_state_dict"]
    assert "zoo trust" in told["pytorch_state_dict"]
    with pytest.raises(UntrustedCodeError):  # asked for by name
        testing.test_package(folder, weights="pytorch_state_dict")


def test_the_packages_tolerance_counts(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    array = np.load(folder / "test_prediction.npy")
    change_output(folder, array + 0.5)
    for entry, ok in (
        ({"absolute_tolerance": 0.4}, False),  # the field's largest allowed is below 0.5
        ({"mismatched_elements_per_million": 1000}, False),
    ):
        change_rdf(folder, config={"bioimageio": {"reproducibility_tolerance": [entry]}})
        assert testing.test_package(folder).ok == ok
    change_output(folder, array + 0.002)
    assert not testing.test_package(folder).ok
    entry = {"absolute_tolerance": 0.01, "output_ids": ["prediction"], "weights_formats": ["onnx"]}
    change_rdf(folder, config={"bioimageio": {"reproducibility_tolerance": [entry]}})
    assert testing.test_package(folder).ok


def test_tolerances_are_for_their_formats_and_outputs(tmp_path: Path) -> None:
    entries = [
        {"absolute_tolerance": 0.01, "weights_formats": ["torchscript"]},
        {"absolute_tolerance": 0.02, "output_ids": ["prediction1"]},
        {"absolute_tolerance": 0.03, "mismatched_elements_per_million": 7},
    ]
    config = {"bioimageio": {"reproducibility_tolerance": entries}}
    descr = biozoo.open(make_package(tmp_path / "p", outputs=2, config=config)).descr
    assert tolerance_for(descr, "torchscript", "prediction").absolute == 0.01
    assert tolerance_for(descr, "onnx", "prediction1").absolute == 0.02
    assert tolerance_for(descr, "onnx", "prediction") == Tolerance(1e-3, 0.03, 7)


def test_tolerances_of_old_packages(tmp_path: Path) -> None:
    config = {"bioimageio": {"test_kwargs": {"onnx": {"absolute_tolerance": 0.05}}}}
    descr = biozoo.open(make_package(tmp_path / "p", config=config)).descr
    assert tolerance_for(descr, "onnx", "prediction") == Tolerance(1e-3, 0.05)
    assert tolerance_for(descr, "torchscript", "prediction") == Tolerance()


def test_another_shape_is_told(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    change_output(folder, np.zeros((1, 1, 4, 4), "float32"))
    report = testing.test_package(folder)
    assert not report.ok
    assert "the test tensor has the shape (1, 1, 4, 4)" in str(report)


def test_a_damaged_test_tensor_is_the_packages_fault(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    (folder / "test_raw.npy").write_bytes(b"no array")
    inputs = read_rdf(folder)["inputs"]
    inputs[0]["test_tensor"]["sha256"] = sha256(folder / "test_raw.npy")
    change_rdf(folder, inputs=inputs)
    with pytest.raises(InvalidPackageError, match="raw"):
        testing.test_package(folder)


def test_weights_that_nothing_here_executes(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    onnx = read_rdf(folder)["weights"]["onnx"]
    other = {k: v for k, v in onnx.items() if k != "opset_version"} | {"tensorflow_version": "2.1"}
    change_rdf(folder, weights={"onnx": onnx, "tensorflow_js": other})
    report = testing.test_package(folder)
    assert report.ok  # the one format that runs
    assert "tensorflow_js: not tested" in str(report)
    with pytest.raises(UsageError):
        testing.test_package(folder, weights="keras_hdf5")
    change_rdf(folder, weights={"tensorflow_js": other})
    with pytest.raises(NoBackendError, match="tensorflow_js"):
        testing.test_package(folder)


def test_weights_that_cannot_be_loaded_are_not_reproduced(tmp_path: Path) -> None:
    """One bad file is told beside the good ones, and the answer is no."""
    folder = make_package(tmp_path / "p")
    onnx = read_rdf(folder)["weights"]["onnx"]
    other = {k: v for k, v in onnx.items() if k != "opset_version"} | {"pytorch_version": "2.1"}
    change_rdf(folder, weights={"onnx": onnx, "torchscript": other})
    report = testing.test_package(folder)
    assert not report.ok
    assert [f.ok for f in report.formats] == [True, False]
    assert "torchscript: NOT reproduced: Model 'tiny': weights.onnx is no TorchScript" in str(
        report
    )
    json.dumps(report.to_dict())


def test_not_a_number_equals_only_itself() -> None:
    nan, tolerance = np.nan, Tolerance(per_million=0)
    assert compare("o", np.array([nan, 1.0]), np.array([nan, 1.0]), tolerance).ok
    assert not compare("o", np.array([nan, 1.0]), np.array([1.0, 1.0]), tolerance).ok
    assert not compare("o", np.array([1.0, 1.0]), np.array([nan, 1.0]), tolerance).ok
    assert compare("o", np.array([np.inf]), np.array([np.inf]), tolerance).ok
    assert not compare("o", np.array([np.inf]), np.array([1.0]), tolerance).ok


@pytest.mark.shared
@pytest.mark.parametrize("name", ["nuclei-broad", "brain-meshnet3d"])
def test_shared_models_are_reproduced(shared: Path, name: str) -> None:
    report = testing.test_package(shared / "models" / name, weights="onnx")
    assert report.ok, str(report)


class OnnxContract(testing.BackendContract):
    @pytest.fixture(params=["2d", "3d, two inputs and outputs", "fixed"])
    def package(self, request: pytest.FixtureRequest, tmp_path: Path) -> biozoo.ModelPackage:
        kinds: dict[str, dict[str, Any]] = {
            "3d, two inputs and outputs": {"axes": "bczyx", "inputs": 2, "outputs": 2},
            "fixed": {"size": 16, "fixed_batch": True},
        }
        kind = kinds.get(request.param, {})
        return biozoo.open(make_package(tmp_path / "p", validate=False, **kind))

    @pytest.fixture
    def backend_class(self) -> type[Backend]:
        return OnnxBackend


class TestOnnxKeepsTheContract(OnnxContract):
    pass


@pytest.mark.cuda
class TestOnnxKeepsTheContractOnACard(OnnxContract):
    device = "cuda"
