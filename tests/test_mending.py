"""A known, harmless slip of a description is repaired, and told; all else stays refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo import rdf as rdfs
from biozoo.errors import InvalidPackageError
from biozoo.mending import mend, without_weights
from biozoo.package import ModelPackage
from biozoo.validation import build_mended
from packages import change_rdf, make_package, read_rdf

LINEAR: dict[str, Any] = {"gain": 0.5, "offset": 2.0}


def descr_of(folder: Path) -> Any:
    return ModelPackage.from_folder(folder).descr


def changed(tmp_path: Path, **axis: Any) -> Path:
    """A package whose output has a halo and, on its y axis, what is given."""
    folder = make_package(tmp_path / "p", halo=1, **({"size": 16} if "fixed" in axis else {}))
    outputs = read_rdf(folder)["outputs"]
    outputs[0]["axes"][2] |= {k: v for k, v in axis.items() if k != "fixed"}
    change_rdf(folder, outputs=outputs)
    return folder


def test_a_sound_description_is_not_touched(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    package = ModelPackage.from_folder(folder)
    assert package.mended == ()
    assert mend(read_rdf(folder)) == (read_rdf(folder), ())


@pytest.mark.parametrize(
    "step",
    [
        {"id": "scale_linear", "kwargs": LINEAR},
        {"id": "binarize", "kwargs": {"threshold": 0.5}},
        {"id": "fixed_zero_mean_unit_variance", "kwargs": {"mean": 3.0, "std": 2.0}},
    ],
    ids=lambda step: step["id"],
)
def test_an_axis_beside_single_numbers_is_left_out(tmp_path: Path, step: dict[str, Any]) -> None:
    """And the run gives what it gives without that axis."""
    import biozoo_runners

    folder = make_package(tmp_path / "p", postprocessing=[])
    image = np.random.default_rng(0).random((1, 1, 16, 16)).astype("float32") * 10
    results = []
    for more in ({}, {"axis": "channel"}):
        outputs = read_rdf(folder)["outputs"]
        outputs[0]["postprocessing"] = [{"id": step["id"], "kwargs": step["kwargs"] | more}]
        change_rdf(folder, outputs=outputs)
        package = ModelPackage.from_folder(folder)
        assert bool(package.mended) == bool(more)
        with biozoo_runners.load(package, device="cpu") as runner:
            results.append(runner(image, axes="bcyx")["prediction"].values)
    assert "'channel' is left out" in package.mended[0]
    np.testing.assert_array_equal(*results)


def test_values_per_index_keep_their_axis(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", channels=2, out_channels=2)
    raw = read_rdf(folder)
    kwargs = {"gain": [1.0, 2.0], "offset": 0.0, "axis": "channel"}
    raw["outputs"][0]["postprocessing"] = [{"id": "scale_linear", "kwargs": kwargs}]
    assert mend(raw) == (raw, ())


def test_a_step_of_0_4_with_letters_for_axes() -> None:
    step = {"name": "scale_linear", "kwargs": {**LINEAR, "axes": "xy"}}
    raw = {"inputs": [{"name": "raw", "axes": "bcyx", "preprocessing": [step]}]}
    mended, notes = mend(raw)
    assert mended["inputs"][0]["preprocessing"][0]["kwargs"] == LINEAR
    assert step["kwargs"]["axes"] == "xy"  # the original stays as it is
    assert len(notes) == 1


def test_an_axis_called_as_the_batch_is_renamed_with_what_refers_to_it() -> None:
    boxes = {"id": "boxes", "axes": [{"type": "space", "id": "b", "size": 4}]}
    size = {"tensor_id": "boxes", "axis_id": "b"}
    more = {"id": "more", "axes": [{"type": "space", "id": "x", "size": size}]}
    mended, notes = mend({"outputs": [boxes, more]})
    assert mended["outputs"][0]["axes"][0]["id"] == "axis_b"
    assert mended["outputs"][1]["axes"][0]["size"]["axis_id"] == "axis_b"
    assert len(notes) == 1


def test_an_axis_name_that_could_mean_the_batch_is_left_alone() -> None:
    axes = [{"type": "batch"}, {"type": "space", "id": "b", "size": 4}]
    raw = {"outputs": [{"id": "boxes", "axes": axes}]}
    assert mend(raw) == (raw, ())
    step = {"id": "softmax", "kwargs": {"axis": "b"}}
    raw = {"outputs": [{"id": "boxes", "axes": axes[1:], "postprocessing": [step]}]}
    assert mend(raw) == (raw, ())


@pytest.mark.parametrize("fixed", [True, False], ids=["fixed input", "free input"])
def test_a_halo_on_a_fixed_size_ties_the_output_to_the_input(tmp_path: Path, fixed: bool) -> None:
    folder = changed(tmp_path, size=16, **({"fixed": True} if fixed else {}))
    package = ModelPackage.from_folder(folder)
    assert package.descr.inputs[0].axes[2].size == 16
    assert package.descr.outputs[0].axes[2].size.axis_id == "y"
    assert package.descr.outputs[0].axes[2].halo == 1
    assert "cut into tiles" in package.mended[0]


def test_a_halo_on_a_fixed_size_that_the_input_does_not_take_is_refused(tmp_path: Path) -> None:
    folder = changed(tmp_path, size=15)  # the input takes 8 + n*4
    with pytest.raises(InvalidPackageError, match=r"outputs\.0"):
        descr_of(folder)


def test_a_halo_on_a_fixed_size_in_0_4() -> None:
    raw = {
        "inputs": [
            {"name": "raw", "axes": "bcyx", "shape": {"min": [1, 1, 64, 32], "step": [0, 0, 16, 8]}}
        ],
        "outputs": [{"name": "out", "axes": "bcyx", "shape": [1, 3, 96, 32], "halo": [0, 0, 8, 8]}],
    }
    mended, notes = mend(raw)
    assert mended["inputs"][0]["shape"] == [1, 1, 96, 32]
    assert mended["outputs"][0]["shape"] == {
        "reference_tensor": "raw",
        "scale": [1.0, 0.0, 1.0, 1.0],
        "offset": [0, 1.5, 0, 0],
    }
    assert len(notes) == 1


def test_weights_that_fail_on_their_own_are_left_out(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    weights = read_rdf(folder)["weights"]
    weights["onnx"]["parent"] = "pytorch_state_dict"
    weights["pytorch_state_dict"] = {"source": "weights.pt", "pytorch_version": "2.0"}
    change_rdf(folder, weights=weights)
    package = ModelPackage.from_folder(folder)
    assert package.descr.weights.pytorch_state_dict is None
    assert package.descr.weights.onnx is not None
    assert "the pytorch_state_dict weights are left out" in package.mended[0]
    assert "architecture" in package.mended[0]


def test_the_only_weights_are_never_left_out() -> None:
    raw = {"weights": {"onnx": {}}}
    assert without_weights(raw, {"weights.onnx.source": "missing"}) == (raw, ())
    two = {"weights": {"onnx": {}, "torchscript": {}}}
    assert without_weights(two, {"weights.onnx": "x", "license": "y"})[1] == ()


def test_what_is_not_mended_is_refused_as_written(tmp_path: Path) -> None:
    """The message is about the author's file, not about a repaired copy of it."""
    folder = make_package(tmp_path / "p")
    raw = read_rdf(folder)
    step = {"id": "scale_linear", "kwargs": {**LINEAR, "axis": "channel"}}
    raw["outputs"][0]["postprocessing"] = [step]
    change_rdf(folder, outputs=raw["outputs"], name="")
    with pytest.raises(InvalidPackageError) as caught:
        descr_of(folder)
    assert any("postprocessing" in field for field in caught.value.fields)
    assert "name" in caught.value.fields


def test_the_zoo_takes_a_mended_package(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p")
    outputs = read_rdf(folder)["outputs"]
    outputs[0]["postprocessing"] = [{"id": "scale_linear", "kwargs": {**LINEAR, "axis": "channel"}}]
    change_rdf(folder, outputs=outputs)
    written = (folder / "rdf.yaml").read_bytes()
    package = biozoo.Zoo().add(folder)
    assert package.rdf.read_bytes() == written
    assert len(package.mended) == 1


@pytest.mark.shared
def test_every_published_description_builds_and_four_are_mended(shared: Path) -> None:
    mended = {}
    for path in sorted((shared / "corpus" / "rdfs").glob("*.yaml")):
        _, notes = build_mended(rdfs.read(path), path.parent, source=path.name)
        if notes:
            mended[path.name.partition("__")[0]] = len(notes)
    assert mended == {
        "dynamic-t-rex": 1,
        "joyful-deer": 2,
        "modest-spider": 1,
        "stupendous-sheep": 1,
    }
