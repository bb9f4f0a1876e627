"""Keras weights: on the engine that gives their numbers, in a child; code only where trusted."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo import consent
from biozoo.code import code_items
from biozoo.errors import BackendError, MissingDependencyError, UntrustedCodeError
from biozoo.package import ModelPackage
from biozoo_runners.devices import CudaDevice, Machine
from biozoo_runners.executors.frameworks import cause_of, in_order
from biozoo_runners.executors.keras_file import check_layers, differs_on_torch, read_network
from biozoo_runners.isolated.backend import IsolatedBackend
from biozoo_runners.isolated.client import ForeignError
from biozoo_runners.isolated.executor import NotFitting
from biozoo_runners.keras import KerasBackend, engines
from biozoo_runners.selection import Wish, select
from biozoo_runners.testing import BackendContract
from core_run import core_run
from executor_cases import Cases
from kept_backends import KeptBackends
from packages import make_package
from weights_keras import USUAL, add_keras, material, set_weights, stem

for library in ("keras", "torch", "tensorflow"):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f"{library} is not installed", allow_module_level=True)

EXECUTOR = "biozoo_runners.executors.keras:Keras"
PAIR = {"inputs": ("raw", "raw1"), "outputs": ("prediction", "prediction1")}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).random((1, 12, 16, 1), np.float32)


@pytest.fixture(scope="module", autouse=True)
def cases(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> Iterator[Cases]:
    """What needs the torch engine but no process of its own, in one process beside the tests."""
    found = Cases(tmp_path_factory.mktemp("keras") / "cases")
    usual: dict[str, Any] = {"engine": "torch", "native": False, "allowed": []}
    both = [image, image[:, ::-1].copy()]
    for kind in ("pair", "pair-mapping", "pair-unnamed"):
        found.add(kind, EXECUTOR, material(f"{kind}.keras"), both, **PAIR, **usual)
    found.add("pair.h5", EXECUTOR, material("pair.h5"), both, **PAIR, **usual)
    found.add("one-of-two", EXECUTOR, material("pair.keras"), both, inputs=("raw", "raw1"),
              outputs=("prediction1",), **usual)  # fmt: skip
    found.add("too-few", EXECUTOR, material("pair.keras"), [image], **usual)
    found.add("old", EXECUTOR, material("old.h5"), [np.load(material("old-x.npy"))], **usual)
    for name in ("average.keras", "unknown.h5", "newer.keras"):
        found.add(name, EXECUTOR, material(name), [image], **usual)
    for name in ("lambda.keras", "lambda.h5"):
        sha = allowed_sha(tmp_path_factory.mktemp("lambda"), name)
        found.add(name, EXECUTOR, material(name), [image], **{**usual, "allowed": [sha]})
        found.add(f"changed {name}", EXECUTOR, material(name), [image], **usual)
    sha = allowed_sha(tmp_path_factory.mktemp("custom"), "custom.h5")
    found.add("custom", EXECUTOR, material("custom.h5"), [image], **{**usual, "allowed": [sha]})
    found.add("axes", EXECUTOR, material("pair.keras"), [image[None], image], **PAIR, **usual)
    for weights, suffix in (("keras_v3", "keras"), ("keras_hdf5", "h5")):
        path = material(f"{stem(USUAL[0])}.{suffix}")
        found.add(f"blur {weights}", EXECUTOR, path, [core_run().raw], **usual)
    found.start()
    yield found
    found.end()


def format_of(name: str) -> str:
    return "keras_hdf5" if name.endswith(".h5") else "keras_v3"


def package_with(folder: Path, name: str, file: Path | None = None) -> ModelPackage:
    """A package whose only weights are a file of `keras_material.py`, or any other one."""
    made = make_package(folder, axes="byxc", validate=False)
    return biozoo.open(set_weights(made, format_of(name), file or material(name)))


def allowed_sha(folder: Path, name: str) -> str:
    (item,) = code_items(package_with(folder / "p", name))
    return item.sha256


def load(package: ModelPackage, weights: str = "keras_v3") -> KerasBackend:
    return KerasBackend.open(package, weights, device="cpu", threads=1)


# ---------------------------------------------------------------------------------------- backend


@pytest.fixture(scope="module")
def kept() -> Iterator[KeptBackends]:
    backends = KeptBackends()
    yield backends
    backends.end()


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blur") / "tiny"
    made = make_package(folder, axes="bzyxc", out_channels=2)
    return add_keras(made, "keras_v3", "keras_hdf5")


def test_what_ran_is_told(blur: Path, kept: KeptBackends) -> None:
    package = biozoo.open(blur)
    backend = kept.open(KerasBackend, package, "keras_hdf5", device="cpu", threads=1)
    assert backend.info.weights_format == "keras_hdf5"
    assert backend.info.providers == ("torch engine", "cpu")
    assert backend.info.version.startswith(importlib.metadata.version("keras"))
    assert "torch" in backend.info.version
    assert backend.peak_host_memory > 10e6
    assert not {"keras", "tensorflow"} & set(sys.modules), "this program must not find it in itself"


def test_a_volume_is_reproduced(blur: Path, kept: KeptBackends) -> None:
    """Selected, and equal to the package's own tensors, in both formats."""
    package = biozoo.open(blur)
    machine = Machine(libraries={"keras": "3.15.1", "torch": "2.14.1"})
    for weights, threads in (("keras_v3", None), ("keras_hdf5", 1)):
        chosen = select(package, machine, Wish(weights=weights), {"keras": KerasBackend})
        assert (chosen.backend, chosen.device) == (KerasBackend, "cpu")
        backend = kept.open(KerasBackend, package, weights, device="cpu", threads=threads)
        assert backend.info.weights_format == weights
        made = backend.run({"raw": np.load(blur / "test_raw.npy")})["prediction"]
        expected = np.load(blur / "test_prediction.npy")
        np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weights", ["keras_v3", "keras_hdf5"])
def test_bioimageio_core_gives_the_same(weights: str, cases: Cases) -> None:
    made = cases.told(f"blur {weights}").outputs[0]
    np.testing.assert_allclose(made, core_run().output(weights), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------- engines


def test_a_layer_that_torch_computes_otherwise_runs_on_tensorflow(
    tmp_path: Path, cases: Cases
) -> None:
    """The average of a 3 x 3 window leaves out what lies beyond the border."""
    assert "EngineUnfit" in cases.told("average.keras").error
    assert "AveragePooling2D" in cases.told("average.keras").error
    raw = np.arange(64, dtype=np.float32).reshape(1, 8, 8, 1)
    with load(package_with(tmp_path / "p", "average.keras")) as backend:
        assert backend.info.providers == ("tensorflow engine", "cpu")
        assert backend.info.threads == 1
        made = backend.run({"raw": raw})["prediction"]
    expected = [raw[0, y : y + 3, x : x + 3, 0].mean() for y in (0, 2, 4, 6) for x in (0, 2, 4, 6)]
    np.testing.assert_allclose(made.ravel(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("layer", "differs"),
    [
        ({"pool_size": [3, 3], "strides": [2, 2], "padding": "same"}, True),
        ({"pool_size": [2, 2], "strides": [2, 2], "padding": "same"}, False),
        ({"pool_size": [3, 3], "strides": [1, 1], "padding": "same"}, False),
        ({"pool_size": [3, 3], "strides": [2, 2], "padding": "valid"}, False),
    ],
)
def test_which_averages_differ(layer: dict[str, Any], differs: bool) -> None:
    inner = {"class_name": "AveragePooling2D", "config": {"name": "a", **layer}}
    network = {"class_name": "Functional", "config": {"layers": [inner]}}
    assert bool(differs_on_torch(network)) is differs


def test_the_order_in_which_engines_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    def only(*names: str) -> None:
        monkeypatch.setattr(
            "biozoo_runners.keras.installed",
            lambda asked: {n: "3.0" for n in asked if n in ("keras", *names)},
        )

    only("torch", "tensorflow-cpu", "jax")
    assert engines("cpu") == ["torch", "tensorflow", "jax"]
    assert engines("cpu", "jax") == ["torch", "jax", "tensorflow"]
    assert engines("cuda:1", "tensorflow") == ["torch"]
    only("tensorflow")
    assert engines("cpu") == ["tensorflow"]
    with pytest.raises(MissingDependencyError, match=r"\[keras\]"):
        engines("cuda")
    only()
    with pytest.raises(MissingDependencyError, match="engine"):
        engines("cpu")


def test_what_no_engine_has_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def refuse(self: Any, request: Any, **more: Any) -> None:
        tried.append(request.facts["engine"])
        why = ForeignError(model="m", doing="load", kind="EngineUnfit", text="no such layer.")
        raise BackendError("one engine") from why

    monkeypatch.setattr(IsolatedBackend, "__init__", refuse)
    with pytest.raises(BackendError) as caught:
        load(package_with(tmp_path / "p", "average.keras"))
    assert tried[:2] == ["torch", "tensorflow"]
    assert caught.value.message.count("no such layer") == 1
    assert "torch" in caught.value.message


def test_which_devices_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    card = (CudaDevice(0, "card"),)
    with_torch = {"keras": "3.15.1", "torch": "2.14.1+cu130"}
    assert KerasBackend.available(Machine(libraries=with_torch)).devices == ("cpu",)
    assert KerasBackend.available(Machine(libraries=with_torch, cuda=card)).devices == (
        "cuda",
        "cpu",
    )
    other = KerasBackend.available(
        Machine(libraries={"keras": "3.15.1", "tensorflow": "2.21"}, cuda=card)
    )
    assert other.devices == ("cpu",)
    assert "torch" in other.reason
    for libraries, why in (
        ({}, "not installed"),
        ({"keras": "2.15.0", "torch": "2.14"}, "3 is needed"),
        ({"keras": "3.15.1"}, "engine"),
    ):
        found = KerasBackend.available(Machine(libraries=libraries))
        assert not found.ok
        assert why in found.reason
        assert "[keras]" in found.install


def test_without_keras_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = package_with(tmp_path / "p", "average.keras")
    version = importlib.metadata.version

    def absent(name: str) -> str:
        if name == "keras":
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(MissingDependencyError, match=r"keras.*\[keras\]"):
        load(package)


# ---------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("name", ["pair", "pair-mapping", "pair-unnamed", "pair.h5"])
def test_several_tensors_go_by_name_else_by_order(
    name: str, cases: Cases, image: np.ndarray
) -> None:
    """The file has its inputs the other way round where they have the tensors' names."""
    told = cases.told(name)
    assert told.error == ""
    other = image[:, ::-1]
    np.testing.assert_allclose(told.outputs[0], image - other, atol=1e-6)
    np.testing.assert_allclose(told.outputs[1], 2 * other, atol=1e-6)
    assert [dtype for _, _, dtype in told.described["inputs"]] == ["float32", "float32"]


def test_more_outputs_than_described_are_left(cases: Cases, image: np.ndarray) -> None:
    np.testing.assert_allclose(cases.told("one-of-two").outputs[0], 2 * image[:, ::-1], atol=1e-6)


def test_another_number_of_inputs_or_axes_is_told(cases: Cases) -> None:
    assert "raw, raw1" in cases.told("too-few").error.replace("raw1, raw", "raw, raw1")
    assert "5 axes" in cases.told("axes").error


def test_order_of_tensors() -> None:
    assert in_order(["raw", "mask"], ["mask", "raw"]) == [1, 0]
    assert in_order(["raw", "mask"], ["a", "b"]) == [0, 1]
    assert in_order(["raw", "mask"], ["a", "raw"]) == [1, 0]
    assert in_order(["raw"], ["a", "raw", "b"]) == [1, 0, 2]
    assert in_order(["raw", "mask"], ["raw", "raw"]) == [0, 1]


# ------------------------------------------------------------------------------------------ trust


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5", "custom.keras", "custom.h5"])
def test_layers_that_are_code_are_refused(name: str, tmp_path: Path) -> None:
    package = package_with(tmp_path / "p", name)
    layer = "sly" if name.startswith("lambda") else "own"
    with pytest.raises(UntrustedCodeError, match=rf"{layer}.*zoo trust"):
        load(package, format_of(name))


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_trusted_layers_run(name: str, tmp_path: Path, cases: Cases, image: np.ndarray) -> None:
    package = package_with(tmp_path / "p", name)
    consent.grant(package)
    request = KerasBackend.request(package, format_of(name), device="cpu", threads=1)
    assert request.facts["allowed"] == [allowed_sha(tmp_path / "again", name)]
    assert request.code
    told = cases.told(name)
    assert told.error == ""
    np.testing.assert_allclose(told.outputs[0], image + 1)


def test_a_class_that_is_not_installed_is_named(cases: Cases) -> None:
    """Its code is no part of the file, so consent does not bring it."""
    error = cases.told("custom").error
    assert error.startswith("NotFitting")
    assert "Doubled" in error


@pytest.mark.parametrize("name", ["lambda.keras", "lambda.h5"])
def test_the_child_looks_again(name: str, cases: Cases) -> None:
    """A file that was changed after the look into it is not loaded."""
    assert "NotFitting: layer 'sly' (Lambda) is code" in cases.told(f"changed {name}").error
    with pytest.raises(NotFitting):
        check_layers(material(name), ["0" * 64])


# -------------------------------------------------------------------------------------- bad files


def test_a_file_of_tensorflow_1_is_read(cases: Cases) -> None:
    """Class names, lists in place of mappings, and arguments that Keras 3 no longer takes."""
    told = cases.told("old")
    assert told.error == ""
    np.testing.assert_allclose(told.outputs[0], np.load(material("old-y.npy")), rtol=1e-4)


def test_what_keras_does_not_know_is_told(cases: Cases) -> None:
    unknown, newer = cases.told("unknown.h5").error, cases.told("newer.keras").error
    for text in (unknown, newer):
        assert text.startswith("NotFitting")  # no other engine is tried for it
        assert "ONNX" in text
    assert "TFOpLambda" in unknown
    assert "99.1" in newer
    assert "pip install --upgrade keras" in newer


def test_weights_without_a_network(tmp_path: Path) -> None:
    with pytest.raises(NotFitting, match=r"no network.*model\.save"):
        read_network(material("weights-only.h5"), tmp_path)


@pytest.mark.parametrize("name", ["average.keras", "old.h5"])
@pytest.mark.parametrize("part", [0.0, 0.3, 0.9])
def test_a_truncated_file(name: str, part: float, tmp_path: Path) -> None:
    content = material(name).read_bytes()
    cut = tmp_path / name
    cut.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(NotFitting, match=r"damaged|cut off"):
        read_network(cut, tmp_path)


def test_a_truncated_file_through_the_backend(tmp_path: Path) -> None:
    """The child says so before it imports a framework, and no other engine is tried."""
    cut = tmp_path / "cut.h5"
    cut.write_bytes(material("old.h5").read_bytes()[:3000])
    package = package_with(tmp_path / "p", "old.h5", cut)
    with pytest.raises(BackendError, match=r"'tiny' \(weights.h5\).*zoo verify"):
        load(package, "keras_hdf5")


def test_a_zip_that_is_no_keras_file(tmp_path: Path) -> None:
    other = tmp_path / "weights.keras"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("notes.txt", "nothing")
    with pytest.raises(NotFitting, match=r"config\.json"):
        read_network(other, tmp_path)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("config.json", "{")
    with pytest.raises(NotFitting, match="cannot be read"):
        read_network(other, tmp_path)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("config.json", "{}")
        archive.writestr("../model.weights.h5", "")
    with pytest.raises(NotFitting, match="leave the folder"):
        read_network(other, tmp_path)


def test_a_file_is_read_as_what_it_is(tmp_path: Path) -> None:
    """Keras goes by the name's ending."""
    misnamed = tmp_path / "weights.bin"
    misnamed.write_bytes(material("old.h5").read_bytes())
    found = read_network(misnamed, tmp_path)
    assert found.hdf5
    assert found.path.suffix == ".h5"


def test_the_line_that_says_what_happened() -> None:
    text = (
        "Exception encountered when calling Functional.call().\n\n"
        "\x1b[1mInput 0 is incompatible.\x1b[0m\n\nArguments received by Functional.call():\n  x"
    )
    assert cause_of(ValueError(text)) == "Input 0 is incompatible"
    node = "{{function_node __wrapped__Conv2D_device_/job:localhost}} input depth must match [Op]"
    assert cause_of(ValueError(node)) == "input depth must match [Op]"
    behind = (
        "Model could not be read. Please ensure.\n\nException encountered: No class 'A'. Make sure"
    )
    assert cause_of(TypeError(behind)) == "No class 'A'"
    assert cause_of(ValueError()) == "ValueError"


# --------------------------------------------------------------------------------------- contract


class TestKeepsTheContract(BackendContract):
    """The contract of every backend; one process per number of threads serves all its tests, and
    that with one thread has the other format.
    """

    @pytest.fixture(autouse=True)
    def _keep(self, kept: KeptBackends) -> None:
        self.kept = kept

    @pytest.fixture
    def backend_class(self) -> type[KerasBackend]:
        return KerasBackend

    @pytest.fixture
    def package(self, blur: Path) -> ModelPackage:
        return biozoo.open(blur)

    def open(self, backend_class: type[Any], package: ModelPackage, **more: Any) -> Any:
        weights = "keras_hdf5" if more.get("threads") == 1 else "keras_v3"
        return self.kept.open(backend_class, package, weights, **{"device": "cpu", **more})
