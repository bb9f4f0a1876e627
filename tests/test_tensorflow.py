"""SavedModel bundles: looked into before anything loads them, then run in a child on the CPU."""

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
from biozoo.errors import BackendError, MissingDependencyError
from biozoo.package import ModelPackage
from biozoo_runners.devices import CudaDevice, Machine
from biozoo_runners.saved_model import UnfitBundle, look_into, parse, unpack
from biozoo_runners.selection import Wish, select
from biozoo_runners.tensorflow import TensorFlowBackend
from biozoo_runners.testing import BackendContract
from core_run import core_run
from executor_cases import Cases
from kept_backends import KeptBackends
from packages import make_package
from weights_keras import add_keras, material, set_weights

if not importlib.util.find_spec("tensorflow") or not importlib.util.find_spec("keras"):
    pytest.skip("tensorflow is not installed", allow_module_level=True)

FORMAT = "tensorflow_saved_model_bundle"
EXECUTOR = "biozoo_runners.executors.tensorflow:TensorFlow"
PAIR = {"inputs": ("raw", "raw1"), "outputs": ("prediction", "prediction1")}
LIMIT = 2**30


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(3).random((1, 12, 16, 1), np.float32)


@pytest.fixture(scope="module", autouse=True)
def cases(tmp_path_factory: pytest.TempPathFactory, image: np.ndarray) -> Iterator[Cases]:
    """What needs TensorFlow but no process of its own, in one process beside the tests."""
    found = Cases(tmp_path_factory.mktemp("tensorflow") / "cases")
    both = [image, image[:, ::-1].copy()]
    for kind in ("pair", "pair-mapping", "pair-unnamed"):
        found.add(kind, EXECUTOR, material(f"{kind}.zip"), both, **PAIR, max_bytes=LIMIT)
    found.add("swapped", EXECUTOR, material("pair.zip"), both, inputs=("raw1", "raw"),
              outputs=PAIR["outputs"], max_bytes=LIMIT)  # fmt: skip
    found.add("too-few", EXECUTOR, material("pair.zip"), [image], max_bytes=LIMIT)
    found.add("half", EXECUTOR, material("half.zip"), [image.astype(np.float16)], max_bytes=LIMIT)
    found.add("axes", EXECUTOR, material("plain.zip"), [image[0]], max_bytes=LIMIT)
    for name in ("tf1", "named", "two-signatures", "no-signature"):
        found.add(name, EXECUTOR, material(f"{name}.zip"), [image], max_bytes=LIMIT)
    found.add("channels", EXECUTOR, material("plain.zip"), [image.repeat(2, -1)], max_bytes=LIMIT)
    found.add("reads-file", EXECUTOR, material("reads-file.zip"), [image], max_bytes=LIMIT)
    found.add("plain", EXECUTOR, material("plain.zip"), [core_run().raw], max_bytes=LIMIT)
    found.start()
    yield found
    found.end()


def package_with(folder: Path, file: Path) -> ModelPackage:
    made = make_package(folder, axes="byxc", validate=False)
    return biozoo.open(set_weights(made, FORMAT, file))


def load(package: ModelPackage) -> TensorFlowBackend:
    return TensorFlowBackend.open(package, FORMAT, device="cpu", threads=1)


# ---------------------------------------------------------------------------------------- backend


@pytest.fixture(scope="module")
def kept() -> Iterator[KeptBackends]:
    backends = KeptBackends()
    yield backends
    backends.end()


@pytest.fixture(scope="module")
def blur(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("blur") / "tiny"
    return add_keras(make_package(folder, axes="bzyxc", out_channels=2), FORMAT)


def test_what_ran_is_told(blur: Path, kept: KeptBackends) -> None:
    backend = kept.open(TensorFlowBackend, biozoo.open(blur), FORMAT, device="cpu", threads=1)
    assert backend.info.providers == ("signature serving_default", "cpu")
    assert backend.info.version.count(".") == 2
    assert backend.peak_host_memory > 10e6
    assert "tensorflow" not in sys.modules, "this program must not find it in itself"


def test_a_volume_is_reproduced(blur: Path, kept: KeptBackends) -> None:
    """Selected, and equal to the package's own tensors."""
    package = biozoo.open(blur)
    machine = Machine(libraries={"tensorflow-cpu": "2.21"})
    chosen = select(package, machine, Wish(weights=FORMAT), {"tensorflow": TensorFlowBackend})
    assert (chosen.backend, chosen.device) == (TensorFlowBackend, "cpu")
    backend = kept.open(TensorFlowBackend, package, FORMAT, device="cpu", threads=1)
    made = backend.run({"raw": np.load(blur / "test_raw.npy")})["prediction"]
    np.testing.assert_allclose(made, np.load(blur / "test_prediction.npy"), rtol=1e-5, atol=1e-6)


def test_bioimageio_core_gives_the_same(cases: Cases) -> None:
    expected = core_run().output(FORMAT)
    np.testing.assert_allclose(cases.told("plain").outputs[0], expected, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------------------------- tensors


@pytest.mark.parametrize("name", ["pair", "pair-mapping", "pair-unnamed"])
def test_several_tensors_go_by_name_else_by_order(
    name: str, cases: Cases, image: np.ndarray
) -> None:
    told = cases.told(name)
    assert told.error == ""
    other = image[:, ::-1]
    np.testing.assert_allclose(told.outputs[0], image - other, atol=1e-6)
    np.testing.assert_allclose(told.outputs[1], 2 * other, atol=1e-6)


def test_the_order_of_the_description_does_not_matter_for_names(
    cases: Cases, image: np.ndarray
) -> None:
    made = cases.told("swapped").outputs
    np.testing.assert_allclose(made[0], image[:, ::-1] - image, atol=1e-6)
    np.testing.assert_allclose(made[1], 2 * image, atol=1e-6)


def test_names_are_sorted_as_people_count() -> None:
    from biozoo_runners.executors.tensorflow import _arranged

    specs = {f"input_{n}": n for n in (10, 2, 1)}
    assert list(_arranged("input", ["a", "b", "c"], specs)) == ["input_1", "input_2", "input_10"]


def test_results_keep_their_type(cases: Cases, image: np.ndarray) -> None:
    told = cases.told("half")
    assert told.described["inputs"][0][2] == "float16"
    assert told.outputs[0].dtype == np.float16
    np.testing.assert_array_equal(told.outputs[0], image.astype(np.float16) * 2)


def test_signatures(cases: Cases, image: np.ndarray) -> None:
    """The one there is, whatever its name; several or none that could be meant is an error."""
    assert cases.told("named").described["providers"] == ["signature predict", "cpu"]
    np.testing.assert_allclose(cases.told("named").outputs[0], image + 1)
    assert "one, two" in cases.told("two-signatures").error
    assert "no signature" in cases.told("no-signature").error


def test_a_bundle_of_tensorflow_1(cases: Cases, image: np.ndarray) -> None:
    """Reference variables, no functions, in a folder within the zip."""
    told = cases.told("tf1")
    assert told.error == ""
    np.testing.assert_allclose(told.outputs[0], image + 1)


def test_what_does_not_fit_is_told(cases: Cases) -> None:
    assert "2 input(s) (raw, raw1)" in cases.told("too-few").error
    assert "array of 3 axes" in cases.told("axes").error
    fault = cases.told("channels").error
    assert "depth" in fault
    assert "{{" not in fault


# -------------------------------------------------------------------------------------- operators


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("reads-file", "ReadFile, which reads or writes files"),
        ("runs-python", "EagerPyFunc, which runs Python"),
        ("prints-file", "PrintV2, which writes files"),
    ],
)
def test_a_graph_that_does_more_than_compute_is_refused(
    name: str, told: str, tmp_path: Path
) -> None:
    package = package_with(tmp_path / "p", material(f"{name}.zip"))
    with pytest.raises(BackendError, match=rf"'tiny' \(weights.zip\).*{told}.*not loaded"):
        load(package)


def test_the_child_looks_again(cases: Cases) -> None:
    assert "NotFitting: its graph has the operator ReadFile" in cases.told("reads-file").error


def test_what_networks_need_is_not_refused() -> None:
    for name in ("plain", "tf1", "pair", "half"):
        assert not look_into(material(f"{name}.zip"), max_bytes=LIMIT).refused


def part(number: int, *content: bytes) -> bytes:
    """A length-delimited protobuf field."""
    data = b"".join(content)
    size = len(data)
    length = b""
    while size > 0x7F:
        length += bytes([size & 0x7F | 0x80])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + data


def graph(*nodes: bytes, functions: bytes = b"") -> bytes:
    library = part(2, part(1, functions)) if functions else b""
    info = part(1, part(4, b"serve"))
    return part(2, info, part(2, *(part(1, n) for n in nodes), library))


def node(op: bytes, *attributes: bytes) -> bytes:
    return part(1, b"name") + part(2, op) + b"".join(part(5, a) for a in attributes)


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (graph(node(b"Conv2D")), set()),
        (graph(node(b"SaveV2"), node(b"RestoreV2"), node(b"MergeV2Checkpoints")), set()),
        (graph(node(b"WriteFile"), node(b"Conv2D")), {"WriteFile"}),
        (graph(functions=part(3, node(b"PyFunc"))), {"PyFunc"}),
        (
            graph(node(b"PartitionedCall", part(1, b"f") + part(2, part(10, part(1, b"PyFunc"))))),
            {"PyFunc"},
        ),
        (
            graph(node(b"Case", part(1, b"b") + part(2, part(1, part(9, part(1, b"Abort")))))),
            {"Abort"},
        ),
        (graph(node(b"TextLineDataset"), node(b"CacheDatasetV2")),
         {"TextLineDataset", "CacheDatasetV2"}),
        (graph(node(b"PrintV2", part(1, b"output_stream") + part(2, part(2, b"stderr")))), set()),
        (graph(node(b"PrintV2", part(1, b"output_stream") + part(2, part(2, b"file:///elsewhere")))),
         {"PrintV2"}),
        (graph(node(b"CollectiveReduceV2"), node(b"ReadVariableOp")), {"CollectiveReduceV2"}),
    ],
)  # fmt: skip
def test_operators_are_found_wherever_they_stand(content: bytes, found: set[str]) -> None:
    assert set(parse(content).refused) == found


def test_the_graph_for_serving() -> None:
    def tagged(*tags: bytes) -> bytes:
        return part(2, part(1, *(part(4, t) for t in tags)), part(2, part(1, node(b"Add"))))

    assert parse(tagged(b"train") + tagged(b"serve")).serving == ("serve",)
    assert parse(tagged(b"mine")).serving == ("mine",)
    with pytest.raises(UnfitBundle, match="train; serve, gpu"):
        _ = parse(tagged(b"train") + tagged(b"serve", b"gpu")).serving


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"\x12\x7f", b"\x12\x02\x0a", b"text"])
def test_what_is_no_graph(content: bytes) -> None:
    with pytest.raises(UnfitBundle):
        parse(content)


# ------------------------------------------------------------------------------------------- zips


def zip_of(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


GRAPH = graph(node(b"Conv2D"))


@pytest.mark.parametrize("part", [0.0, 0.4, 0.95])
def test_a_truncated_zip(part: float, tmp_path: Path) -> None:
    content = material("plain.zip").read_bytes()
    cut = tmp_path / "cut.zip"
    cut.write_bytes(content[: int(len(content) * part)])
    with pytest.raises(BackendError, match=r"damaged or cut off.*zoo verify"):
        load(package_with(tmp_path / "p", cut))


def test_a_zip_without_or_with_several_graphs(tmp_path: Path) -> None:
    none = zip_of(tmp_path / "none.zip", **{"weights.h5": b"x"})
    with pytest.raises(UnfitBundle, match=r"none \(weights.h5"):
        look_into(none, max_bytes=LIMIT)
    two = {"a/saved_model.pb": GRAPH, "b/saved_model.pb": GRAPH}
    with pytest.raises(UnfitBundle, match="2 of them"):
        look_into(zip_of(tmp_path / "two.zip", **two), max_bytes=LIMIT)


def test_a_second_description_of_the_graph_is_refused(tmp_path: Path) -> None:
    """TensorFlow would read it in place of the one that was looked into."""
    both = {"m/saved_model.pb": GRAPH, "m/saved_model.cpb": GRAPH}
    with pytest.raises(UnfitBundle, match="cpb"):
        look_into(zip_of(tmp_path / "both.zip", **both), max_bytes=LIMIT)


def test_unpacking_keeps_to_its_folder_and_limit(tmp_path: Path) -> None:
    outside = {"saved_model.pb": GRAPH, "../outside.txt": b"x"}
    with pytest.raises(UnfitBundle, match="leave the folder"):
        unpack(zip_of(tmp_path / "outside.zip", **outside), tmp_path / "o", max_bytes=LIMIT)
    large = {"saved_model.pb": GRAPH, "variables/variables.index": bytes(5000)}
    with pytest.raises(UnfitBundle, match="allowed"):
        unpack(zip_of(tmp_path / "large.zip", **large), tmp_path / "l", max_bytes=4000)
    assert not (tmp_path / "outside.txt").exists()


def test_a_folder_within_the_zip_is_the_bundle(tmp_path: Path) -> None:
    deep = {"readme.txt": b"hello", "m/saved_model.pb": GRAPH, "m/variables/v.index": b"1"}
    folder, _ = unpack(zip_of(tmp_path / "d.zip", **deep), tmp_path / "d", max_bytes=LIMIT)
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == ["saved_model.pb", "variables/v.index"]


# ------------------------------------------------------------------------------------- dependency


def test_available_on_the_cpu_only() -> None:
    card = (CudaDevice(0, "card"),)
    for name in ("tensorflow", "tensorflow-cpu"):
        found = TensorFlowBackend.available(Machine(libraries={name: "2.21"}, cuda=card))
        assert found.devices == ("cpu",)
        assert "CPU only" in found.reason
    missing = TensorFlowBackend.available(Machine())
    assert not missing.ok
    assert "[tensorflow]" in missing.install


def test_without_tensorflow_the_message_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = package_with(tmp_path / "p", material("plain.zip"))
    version = importlib.metadata.version

    def absent(name: str) -> str:
        if name.startswith("tensorflow"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(MissingDependencyError, match=r"tensorflow.*\[tensorflow\]"):
        load(package)


# --------------------------------------------------------------------------------------- contract


class TestKeepsTheContract(BackendContract):
    """The contract of every backend; one process per number of threads serves all its tests."""

    @pytest.fixture(autouse=True)
    def _keep(self, kept: KeptBackends) -> None:
        self.kept = kept

    @pytest.fixture
    def backend_class(self) -> type[TensorFlowBackend]:
        return TensorFlowBackend

    @pytest.fixture
    def package(self, blur: Path) -> ModelPackage:
        return biozoo.open(blur)

    def open(self, backend_class: type[Any], package: ModelPackage, **more: Any) -> Any:
        return self.kept.open(backend_class, package, FORMAT, **{"device": "cpu", **more})
