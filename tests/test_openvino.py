"""The OpenVINO backend: the same numbers as ONNX Runtime, in full precision, and no telemetry."""

from __future__ import annotations

import gc
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

import biozoo
import biozoo_runners.openvino as openvino_backend
from biozoo.errors import BackendError, DeviceError, MissingDependencyError, OutOfMemoryError
from biozoo_runners import Backend, load
from biozoo_runners.devices import CudaDevice, Machine, usable_cores
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.openvino import OpenVinoBackend
from biozoo_runners.testing import BackendContract
from packages import make_package
from test_backends import FLOAT, HALF, INT64, ONE, UINT8, double, external, save, subtract


def opened(path: Path, ids: str = "x", out: str = "y", **more: Any) -> OpenVinoBackend:
    """An ONNX file as an open backend; tensor ids are the words of `ids` and `out`."""
    return OpenVinoBackend(
        path,
        root=path.parent,
        model="tiny",
        input_ids=tuple(ids.split()),
        output_ids=tuple(out.split()),
        **more,
    )


class TestKeepsTheContract(BackendContract):
    @pytest.fixture
    def backend_class(self) -> type[Backend]:
        return OpenVinoBackend

    @pytest.fixture(params=["2d", "3d, two inputs and outputs", "fixed"])
    def package(self, request: pytest.FixtureRequest, tmp_path: Path) -> biozoo.ModelPackage:
        kinds: dict[str, dict[str, Any]] = {
            "3d, two inputs and outputs": {"axes": "bczyx", "inputs": 2, "outputs": 2},
            "fixed": {"size": 16, "fixed_batch": True},
        }
        kind = kinds.get(request.param, {})
        return biozoo.open(make_package(tmp_path / "p", validate=False, **kind))


@pytest.mark.parametrize(
    "kind",
    [
        {"axes": "byxc", "channels": 3, "out_channels": 2},
        {"axes": "bczyx", "size": 16, "halo": 2},
        {"scale": 2},
        {"scale": 0.5},
        {"axes": "yx"},
        {"valid": True},
    ],
    ids=str,
)
def test_it_equals_onnxruntime(tmp_path: Path, kind: dict[str, Any]) -> None:
    """On a whole run of an image that is tiled, for graphs of every shape."""
    folder = make_package(tmp_path / "p", validate=False, **kind)
    axes = str(kind.get("axes", "bcyx")).removeprefix("b")
    sizes = {"c": kind.get("channels", 1), "z": 20, "y": 45, "x": 37}
    image = np.random.default_rng(0).random([sizes[a] for a in axes]).astype(np.float32)
    results = {}
    for backend in ("onnxruntime", "openvino"):
        with load(folder, backend=backend) as runner:
            assert runner.info.backend == backend
            results[backend] = runner(image, axes=axes)["prediction"].values
    np.testing.assert_allclose(results["openvino"], results["onnxruntime"], atol=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("model", ["nuclei-broad", "brain-meshnet3d"])
def test_it_equals_onnxruntime_on_real_models(shared: Path, model: str) -> None:
    """Largest differences seen: 4e-6 of 12 (2D), 5e-5 of 41 (3D)."""
    package = biozoo.open(shared / "models" / model)
    rng = np.random.default_rng(0)
    feed = {
        str(t.id): rng.normal(size=np.load(package.path(t.test_tensor.source)).shape).astype("f4")
        for t in package.descr.inputs
        if t.test_tensor
    }
    with (
        OpenVinoBackend.open(package, "onnx", device="cpu") as openvino,
        OnnxBackend.open(package, "onnx", device="cpu") as onnxruntime,
    ):
        assert openvino.info.providers == ("CPU", "float32")
        got, expected = openvino.run(feed), onnxruntime.run(feed)
    for i, array in expected.items():
        np.testing.assert_allclose(got[i], array, atol=1e-5 * max(1, np.abs(array).max()))


def test_info_is_what_openvino_says(tmp_path: Path) -> None:
    """Full precision whatever the CPU would prefer; the threads that were asked for."""
    with opened(double(tmp_path / "m.onnx"), threads=1) as backend:
        info = backend.info
    assert (info.backend, info.weights_format, info.device) == ("openvino", "onnx", "cpu")
    assert info.providers == ("CPU", "float32")
    assert info.threads == 1
    assert info.version.startswith("20")
    with opened(double(tmp_path / "m.onnx")) as backend:
        assert backend.info.threads == usable_cores()[1]


def test_what_it_compiled_for_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OpenVINO that takes another device or precision than it was told is not believed."""
    said = {
        "EXECUTION_DEVICES": ["GPU.0"],
        "INFERENCE_PRECISION_HINT": SimpleNamespace(to_dtype=lambda: np.dtype("float16")),
        "INFERENCE_NUM_THREADS": 2,
    }
    compiled = SimpleNamespace(
        get_property=said.__getitem__, inputs=[], outputs=[], create_infer_request=object
    )
    monkeypatch.setattr(OpenVinoBackend, "_compile", lambda *args: compiled)
    path = double(tmp_path / "m.onnx")
    with pytest.raises(DeviceError, match=r"would run the model on GPU\.0 in its place"):
        opened(path, "", "")
    said["EXECUTION_DEVICES"] = ["CPU"]
    with opened(path, "", "") as backend:
        assert backend.info.providers == ("CPU", "float16")


# ---------------------------------------------------------------------------- in and out


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_inputs_go_by_name_where_names_are_ids(tmp_path: Path, names: Any) -> None:
    sign = 1 if names == ("a", "b") else -1
    with opened(subtract(tmp_path / "m.onnx", names), "a b", "twice out") as backend:
        got = backend.run({"b": ONE, "a": 3 * ONE})
    assert list(got) == ["twice", "out"]
    np.testing.assert_array_equal(got["out"], sign * 2 * ONE)
    np.testing.assert_array_equal(got["twice"], sign * 4 * ONE)


def test_else_by_order(tmp_path: Path) -> None:
    with opened(subtract(tmp_path / "m.onnx", ("b", "z")), "a b", "first") as backend:
        np.testing.assert_array_equal(backend.run({"a": 3 * ONE, "b": ONE})["first"], 2 * ONE)
    with pytest.raises(BackendError, match=r"description has 1 input\(s\) \(a\), the graph decl"):
        opened(subtract(tmp_path / "m.onnx"), "a", "out")


@pytest.mark.parametrize(
    ("kind", "given", "dtype"),
    [
        (FLOAT, np.array([[1, 255]], np.uint8), "float32"),
        (HALF, np.array([[1, 2.5]], np.float32), "float16"),
        (INT64, np.array([[1, -2]], np.float32), "int64"),
    ],
)
def test_arrays_are_cast_where_nothing_is_lost(
    tmp_path: Path, kind: int, given: Any, dtype: str
) -> None:
    with opened(double(tmp_path / "m.onnx", kind)) as backend:
        got = backend.run({"x": given})["y"]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, 2 * given.astype(dtype))


def test_a_cast_that_would_lose_values_is_refused(tmp_path: Path) -> None:
    """OpenVINO itself would round them in silence."""
    with (
        opened(double(tmp_path / "m.onnx", UINT8)) as backend,
        pytest.raises(BackendError, match="should end with ensure_dtype"),
    ):
        backend.run({"x": np.array([[1.5, 2]], np.float32)})


def test_an_optional_input_cannot_be_left_out(tmp_path: Path) -> None:
    """OpenVINO would go on with what the call before gave it."""
    path = subtract(tmp_path / "m.onnx")
    with opened(path, "a b", "out", optional=frozenset({"b"})) as backend:
        backend.run({"a": ONE, "b": ONE})
        with pytest.raises(BackendError, match=r"leave out an optional input \(b\).*onnxruntime"):
            backend.run({"a": ONE})


def test_a_wrong_size_tells_what_was_given_and_declared(tmp_path: Path) -> None:
    with (
        opened(double(tmp_path / "m.onnx", shape=(1, 4))) as backend,
        pytest.raises(BackendError) as caught,
    ):
        backend.run({"x": ONE})
    text = str(caught.value)
    assert "'tiny' (m.onnx) failed to run on cpu. Given: x float32 (1, 2)." in text
    assert "The graph declares: x float32 (1, 4)." in text
    assert "got [1,2] expecting [1,4]" in text
    assert "\n" not in text
    assert "Exception from" not in text


def test_memory_that_ends_is_its_own_error(tmp_path: Path) -> None:
    def infer(feed: Any) -> Any:
        raise RuntimeError("Exception from src/x.cpp:1:\nstd::bad_alloc")

    backend = opened(double(tmp_path / "m.onnx"))
    backend._request = SimpleNamespace(infer=infer)
    with pytest.raises(OutOfMemoryError, match="smaller tile"):
        backend.run({"x": ONE})


def test_closing_lets_go_of_the_graph(tmp_path: Path) -> None:
    backend = opened(double(tmp_path / "m.onnx"))
    kept = backend.run({"x": ONE})["y"]
    assert kept.flags.owndata
    request = weakref.ref(backend._request)
    backend.close()
    gc.collect()
    assert request() is None
    np.testing.assert_array_equal(kept, 2 * ONE)


@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
def test_closing_gives_memory_back(tmp_path: Path, name: str) -> None:
    """Weights of 100 MB are gone from the process once the backend is closed."""
    weights = numpy_helper.from_array(np.ones((5000, 5000), np.float32), "w")
    path = save(
        tmp_path / "m.onnx",
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": FLOAT},
        {"y": FLOAT},
        shape=("b", 5000),
        initializers=[weights],
    )
    code = f"""
        import sys, psutil, numpy as np, pathlib
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        import test_backends, test_openvino
        path, given = pathlib.Path({str(path)!r}), {{"x": np.ones((1, 5000), np.float32)}}
        def megabytes():
            return psutil.Process().memory_info().rss / 2**20
        def turn():
            if {name!r} == "openvino":
                backend = test_openvino.opened(path)
            else:
                backend = test_backends.load(path, ("x",), ("y",))
            backend.run(given)
            taken = megabytes()
            backend.close()
            return taken
        turn()  # what the library keeps for good
        before = megabytes()
        print(turn() - before, megabytes() - before)
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    taken, kept = map(float, answer.stdout.split())
    assert taken > 80
    assert kept < 0.2 * taken


# ---------------------------------------------------------------------------- bad files


def test_an_operator_nobody_knows(tmp_path: Path) -> None:
    nodes = [helper.make_node("Secret", ["x"], ["y"], domain="author.example")]
    path = save(tmp_path / "m.onnx", nodes, {"x": FLOAT}, {"y": FLOAT})
    with pytest.raises(BackendError, match=r"operations: author\.example\.Secret") as caught:
        opened(path)
    assert "use --backend onnxruntime" in str(caught.value)


def test_an_operator_set_of_the_future(tmp_path: Path) -> None:
    """OpenVINO would read it as the last that it knows, without a word."""
    import onnx

    path = double(tmp_path / "m.onnx")
    graph = onnx.load(path)
    graph.opset_import[0].version = 99
    path.write_bytes(graph.SerializeToString())
    with pytest.raises(BackendError, match=r"operator set 99.*--backend onnxruntime"):
        opened(path)


@pytest.mark.parametrize("content", [b"", b"hello, this is no graph", b"\x3a\xff\xff\xff\x0f"])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes, capfd: Any) -> None:
    """Told once, as an error; OpenVINO's readers of other formats are not asked."""
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"is no readable ONNX file|failed to load"):
        opened(path)
    assert capfd.readouterr().err == ""


def test_external_data_may_not_leave_the_package(tmp_path: Path) -> None:
    root = tmp_path / "package"
    root.mkdir()
    (tmp_path / "secret").write_bytes(np.ones(2, np.float32).tobytes())
    with pytest.raises(BackendError, match="outside the package's folder"):
        opened(external(root / "m.onnx", "../secret"))
    (root / "w.data").write_bytes(np.array([10, 20], np.float32).tobytes())
    with opened(external(root / "m.onnx", "w.data")) as backend:
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], [[11, 22]])


# ---------------------------------------------------------------------- device, installation


@pytest.mark.parametrize(
    ("libraries", "cards", "reason"),
    [({}, 0, "openvino is not installed"), ({"openvino": "2026"}, 0, ""),
     ({"openvino": "2026"}, 1, "openvino runs on the CPU only")],
)  # fmt: skip
def test_availability(libraries: Any, cards: int, reason: str) -> None:
    machine = Machine(cuda=tuple(CudaDevice(i, "card") for i in range(cards)), libraries=libraries)
    found = OpenVinoBackend.available(machine)
    assert (found.ok, found.devices) == (bool(libraries), ("cpu",) if libraries else ())
    assert found.reason == reason
    assert ("[openvino]" in found.install) == (not libraries)


def test_a_card_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="'cuda' cannot be used: openvino runs on the CPU only"):
        opened(double(tmp_path / "m.onnx"), device="cuda")


def test_without_openvino_the_install_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = double(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependencyError, match=r"needs openvino.*\[openvino\]"):
        opened(path)
    monkeypatch.setattr(openvino_backend, "importable", lambda module: True)
    with pytest.raises(BackendError, match="openvino is installed but cannot be imported"):
        opened(path)


def test_nothing_is_reported_to_anyone(tmp_path: Path) -> None:
    """Importing openvino sends a message and writes two files into the home folder; not here."""
    path = double(tmp_path / "m.onnx")
    home = tmp_path / "home"
    home.mkdir()
    code = f"""
        import socket, sys, threading
        def connect(self, address):
            print("connected to", address)
            raise OSError("no")
        socket.socket.connect = connect
        socket.getaddrinfo = lambda *a, **k: print("looked up", a) or []
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_openvino import opened
        import pathlib, numpy as np
        with opened(pathlib.Path({str(path)!r})) as backend:
            backend.run({{"x": np.ones((1, 2), np.float32)}})
        import openvino
        openvino.convert_model  # the rest of it is as without us
        for thread in threading.enumerate():
            if thread is not threading.main_thread():
                print("thread", thread)
        print("telemetry" if "openvino_telemetry" in sys.modules else "silent")
    """
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
        env={"HOME": str(home), "BIOZOO_HOME": str(tmp_path / "zoo"), "PATH": ""},
    )
    assert answer.stdout.split() == ["silent"]
    assert list(home.iterdir()) == []
