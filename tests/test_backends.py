"""The ONNX backend: arrays in, arrays out, the truth about the device, and clear failures."""

from __future__ import annotations

import builtins
import gc
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from biozoo.errors import (
    BackendError,
    MissingDependencyError,
    OutOfMemoryError,
)
from biozoo_runners import onnx as onnx_backend
from biozoo_runners.base import TensorPort, cast_for, framework_error, match_ports
from biozoo_runners.devices import usable_cores
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.onnx_external import check_external_data, external_locations

Array = np.ndarray[Any, Any]

FLOAT, HALF, UINT8, INT64 = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.UINT8,
    TensorProto.INT64,
)


def save(
    path: Path,
    nodes: list[Any],
    inputs: dict[str, int],
    outputs: dict[str, int],
    *,
    shape: tuple[int | str, ...] = ("b", "n"),
    initializers: Sequence[Any] = (),
) -> Path:
    """An ONNX file of some nodes; inputs and outputs are name -> element type."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(n, t, shape) for n, t in inputs.items()],
        [helper.make_tensor_value_info(n, t, shape) for n, t in outputs.items()],
        initializers,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def subtract(path: Path, names: tuple[str, str] = ("a", "b"), kind: int = FLOAT) -> Path:
    """A graph with two inputs: out = first - second, twice = out + out."""
    nodes = [
        helper.make_node("Sub", list(names), ["out"]),
        helper.make_node("Add", ["out", "out"], ["twice"]),
    ]
    return save(path, nodes, dict.fromkeys(names, kind), {"out": kind, "twice": kind})


def load(path: Path, inputs: tuple[str, ...], outputs: tuple[str, ...], **more: Any) -> OnnxBackend:
    return OnnxBackend(
        path, root=path.parent, model="tiny", input_ids=inputs, output_ids=outputs, **more
    )


def double(path: Path, kind: int = FLOAT, **more: Any) -> Path:
    """A graph of one input: y = x + x."""
    return save(
        path, [helper.make_node("Add", ["x", "x"], ["y"])], {"x": kind}, {"y": kind}, **more
    )


ONE = np.array([[1.0, 2.0]], np.float32)


# -------------------------------------------------------------------------------- running


def test_a_package_runs_and_tells_what_ran(tmp_path: Path) -> None:
    """`open` takes ids, files and optional inputs from the description."""
    import biozoo
    from packages import make_package

    package = biozoo.open(make_package(tmp_path / "tiny"))
    expected = np.load(package.root / "test_prediction.npy")
    with OnnxBackend.open(package, "onnx", device="cpu", threads=1) as backend:
        got = backend.run({"raw": np.load(package.root / "test_raw.npy")})
        info = backend.info
    assert list(got) == ["prediction"]
    np.testing.assert_allclose(got["prediction"], expected, rtol=1e-5)
    assert (info.backend, info.weights_format, info.device) == ("onnxruntime", "onnx", "cpu")
    assert info.providers == ("CPUExecutionProvider",)
    assert info.threads == 1
    assert info.version
    with pytest.raises(BackendError, match="has no torchscript weights that onnxruntime can load"):
        OnnxBackend.open(package, "torchscript", device="cpu")


def test_threads_are_the_usable_cores_unless_wished(tmp_path: Path) -> None:
    with load(double(tmp_path / "m.onnx"), ("x",), ("y",)) as backend:
        assert backend.info.threads == usable_cores()[1]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_inputs_are_matched_by_name_where_names_are_ids(tmp_path: Path, names: Any) -> None:
    """An exporter that changed the order of the inputs does no harm."""
    with load(subtract(tmp_path / "m.onnx", names), ("a", "b"), ("out", "twice")) as backend:
        got = backend.run({"b": ONE, "a": 3 * ONE})
    sign = 1 if names == ("a", "b") else -1
    assert list(got) == ["out", "twice"]
    np.testing.assert_array_equal(got["out"], sign * 2 * ONE)
    np.testing.assert_array_equal(got["twice"], sign * 4 * ONE)


def test_else_by_order_as_core_does(tmp_path: Path) -> None:
    """Names that are not the ids, or only some of them, do not count; more outputs may exist."""
    with load(subtract(tmp_path / "m.onnx", ("b", "z")), ("a", "b"), ("first",)) as backend:
        got = backend.run({"a": 3 * ONE, "b": ONE})
    assert list(got) == ["first"]
    np.testing.assert_array_equal(got["first"], 2 * ONE)


def test_outputs_by_name_in_the_order_of_the_description(tmp_path: Path) -> None:
    with load(subtract(tmp_path / "m.onnx"), ("a", "b"), ("twice", "out")) as backend:
        got = backend.run({"a": 3 * ONE, "b": ONE})
    assert list(got) == ["twice", "out"]
    np.testing.assert_array_equal(got["twice"], 4 * ONE)


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        (("a",), ("out",), r"description has 1 input\(s\) \(a\), the graph declares 2 \(a float32"),
        (("a", "b", "c"), ("out",), "description has 3 input"),
        (("a", "b"), ("o", "p", "q"), r"description has 3 output\(s\)"),
    ],
)
def test_graph_and_description_must_agree(
    tmp_path: Path, inputs: Any, outputs: Any, message: str
) -> None:
    with pytest.raises(BackendError, match=message):
        load(subtract(tmp_path / "m.onnx"), inputs, outputs)


@pytest.mark.parametrize(
    ("kind", "given", "dtype"),
    [
        (FLOAT, np.array([[1, 255]], np.uint8), "float32"),
        (FLOAT, np.array([[1, 2.5]], np.float64), "float32"),
        (HALF, np.array([[1, 2.5]], np.float32), "float16"),
        (INT64, np.array([[1, -2]], np.int16), "int64"),
        (INT64, np.array([[1, -2]], np.float32), "int64"),
        (FLOAT, np.array([[1, 2**24]], np.int32), "float32"),
        (FLOAT, np.asfortranarray(np.ones((4, 3), np.float32))[::2], "float32"),
    ],
)
def test_arrays_are_cast_where_nothing_is_lost(
    tmp_path: Path, kind: int, given: Array, dtype: str
) -> None:
    before = given.copy()
    with load(double(tmp_path / "m.onnx", kind), ("x",), ("y",)) as backend:
        got = backend.run({"x": given})["y"]
    assert got.dtype == dtype
    np.testing.assert_array_equal(got, 2 * given.astype(dtype))
    np.testing.assert_array_equal(given, before)


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        (UINT8, np.array([[1.5, 2]], np.float32)),
        (UINT8, np.array([[1, 256]], np.uint16)),
        (INT64, np.array([[np.nan]], np.float32)),
        (FLOAT, np.array([[1, 2**24 + 1]], np.int32)),
    ],
)
def test_a_cast_that_would_lose_values_is_refused(tmp_path: Path, kind: int, given: Array) -> None:
    path = save(
        tmp_path / "m.onnx", [helper.make_node("Identity", ["x"], ["y"])], {"x": kind}, {"y": kind}
    )
    with (
        load(path, ("x",), ("y",)) as backend,
        pytest.raises(BackendError, match="should end with ensure_dtype"),
    ):
        backend.run({"x": given})


def test_optional_inputs_may_be_left_out(tmp_path: Path) -> None:
    """The graph decides whether it runs without; if not, the error names what was left out."""
    path = subtract(tmp_path / "m.onnx")
    with load(path, ("a", "b"), ("out",), optional=frozenset({"b"})) as backend:
        with pytest.raises(BackendError, match=r"Left out: b\. The graph declares: a float32"):
            backend.run({"a": ONE})
        with pytest.raises(BackendError, match="needs the input 'a', which was not given"):
            backend.run({"b": ONE})
        with pytest.raises(BackendError, match="has no input 'c'; it takes a, b"):
            backend.run({"a": ONE, "b": ONE, "c": ONE})


def test_a_wrong_size_tells_what_was_given_and_declared(tmp_path: Path) -> None:
    path = double(tmp_path / "m.onnx", shape=(1, 4))
    with load(path, ("x",), ("y",)) as backend, pytest.raises(BackendError) as caught:
        backend.run({"x": ONE})
    text = str(caught.value)
    assert "'tiny' (m.onnx) failed to run on cpu. Given: x float32 (1, 2)." in text
    assert "The graph declares: x float32 (1, 4)." in text
    assert "--tile" in text
    assert caught.value.__cause__ is not None
    assert "\n" not in text


def test_results_are_copies_and_close_gives_memory_back(tmp_path: Path) -> None:
    """A kept result must not keep the session's memory; a closed backend refuses to run."""
    backend = load(double(tmp_path / "m.onnx"), ("x",), ("y",))
    first = backend.run({"x": ONE})["y"]
    assert first.flags.owndata
    assert first.flags.writeable
    session = backend._session
    backend.close()
    backend.close()
    gc.collect()
    assert sys.getrefcount(session) == 2  # this name and the call: nothing else holds it
    with pytest.raises(BackendError, match="'tiny' is closed"):
        backend.run({"x": ONE})


# ------------------------------------------------------------------------ missing, broken


def test_without_onnxruntime_the_install_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = builtins.__import__

    def no_onnxruntime(name: str, *args: Any, **more: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        return real(name, *args, **more)

    path = double(tmp_path / "m.onnx")
    monkeypatch.setattr(builtins, "__import__", no_onnxruntime)
    with pytest.raises(BackendError, match="is installed but cannot be imported"):
        load(path, ("x",), ("y",))
    monkeypatch.setattr(onnx_backend, "importable", lambda module: False)
    with pytest.raises(MissingDependencyError, match=r"pip install .*\[cpu\]"):
        load(path, ("x",), ("y",))


def test_the_remains_of_two_installations_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Removing one of the two leaves a folder that imports as an empty module."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(BackendError, match="files are incomplete"):
        load(double(tmp_path / "m.onnx"), ("x",), ("y",))


def test_importing_the_backend_imports_no_framework() -> None:
    code = (
        "import sys, biozoo_runners.onnx, biozoo_runners.selection, biozoo_runners.processing;"
        "print([m for m in ('onnxruntime', 'onnx', 'torch', 'bioimageio', 'xarray')"
        " if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_an_operator_nobody_knows(tmp_path: Path) -> None:
    """Custom operators would be code; without it the graph does not load, and that is told."""
    nodes = [helper.make_node("Secret", ["x"], ["y"], domain="author.example")]
    path = save(tmp_path / "m.onnx", nodes, {"x": FLOAT}, {"y": FLOAT})
    with pytest.raises(BackendError, match=r"'tiny' \(m.onnx\) failed to load on cpu"):
        load(path, ("x",), ("y",))


@pytest.mark.parametrize(
    ("operator", "domain", "version", "words"),
    [
        ("Secret", "author.example", 1, r"author's own \(author\.example:Secret\)"),
        ("Secret", "author.example", 0, r"operators of its author's own \(author\.example\)"),
        ("ShinyNew", "", 0, "calls the operator ShinyNew, which is unknown here. Install a newer"),
    ],
)
def test_operators_that_are_not_known_are_named(
    tmp_path: Path, operator: str, domain: str, version: int, words: str
) -> None:
    """Those of the author's own, declared or not, and those of an ONNX to come."""
    nodes = [helper.make_node(operator, ["x"], ["y"], domain=domain)]
    path = save(tmp_path / "m.onnx", nodes, {"x": FLOAT}, {"y": FLOAT})
    if version:
        graph = onnx.load(path)
        graph.opset_import.append(helper.make_opsetid(domain, version))
        path.write_bytes(graph.SerializeToString())
    with pytest.raises(BackendError, match=words):
        load(path, ("x",), ("y",))


def test_graphs_of_another_time(tmp_path: Path) -> None:
    """An operator set or a file format that is too new, an operator set that is too old."""
    path = double(tmp_path / "m.onnx")

    def told(operators: int, file_format: int = 9) -> str:
        graph = onnx.load(path)
        graph.opset_import[0].version, graph.ir_version = operators, file_format
        changed = tmp_path / "changed.onnx"
        changed.write_bytes(graph.SerializeToString())
        with pytest.raises(BackendError) as caught:
            load(changed, ("x",), ("y",))
        return str(caught.value)

    assert "written in ONNX operator set 99, which this onnxruntime does not know" in told(99)
    assert "written in version 99 of ONNX's file format" in told(17, 99)
    assert "Install a newer onnxruntime" in told(17, 99)
    assert "cannot compute Add as operator set 1 has it" in told(1)


def test_a_graph_that_is_cut_off(tmp_path: Path) -> None:
    whole = double(tmp_path / "m.onnx").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[:-20])
    with pytest.raises(BackendError, match=r"cut\.onnx is no readable ONNX file .* Fetch the pack"):
        load(path, ("x",), ("y",))


@pytest.mark.parametrize("content", [b"", b"hello, this is no graph", b"\x3a\xff\xff\xff\x0f"])
def test_a_file_that_is_no_graph(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=r"is no readable ONNX file|failed to load"):
        load(path, ("x",), ("y",))


# -------------------------------------------------------------------------- external data


def external(path: Path, location: str, *, where: str = "initializer") -> Path:
    """A graph y = x + w whose w lies in another file, at several places of the protobuf."""
    weights = helper.make_tensor("w", FLOAT, [2], np.ones(2, np.float32))
    weights.ClearField("float_data")
    weights.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "8")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    add = helper.make_node("Add", ["x", "w"], ["y"])
    info = [helper.make_tensor_value_info(n, FLOAT, ["b", 2]) for n in "xy"]
    if where == "initializer":
        graph = helper.make_graph([add], "g", info[:1], info[1:], [weights])
    else:
        constant = helper.make_node("Constant", [], ["w"])
        constant.attribute.append(helper.make_attribute("value", weights))
        graph = helper.make_graph([constant, add], "g", info[:1], info[1:])
    if where == "subgraph":
        yes = helper.make_tensor("yes", TensorProto.BOOL, [], [True])
        inner = helper.make_graph([constant, add], "inner", [], info[1:])
        branch = helper.make_node("If", ["yes"], ["y"], then_branch=inner, else_branch=inner)
        graph = helper.make_graph([branch], "g", info[:1], info[1:], [yes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if where == "function":
        body = helper.make_function(
            "author", "F", ["x"], ["y"], [constant, add], [helper.make_opsetid("", 17)]
        )
        model.functions.append(body)
        del model.graph.node[:]
        model.graph.node.append(helper.make_node("F", ["x"], ["y"], domain="author"))
    if where == "sparse":
        sparse = model.graph.sparse_initializer.add()
        sparse.values.CopyFrom(weights)
        del model.graph.node[0].attribute[:]
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_inside_the_package_is_read(tmp_path: Path) -> None:
    (tmp_path / "w.data").write_bytes(np.array([10, 20], np.float32).tobytes())
    path = external(tmp_path / "m.onnx", "w.data")
    assert check_external_data(path, tmp_path, model="tiny") == ((tmp_path / "w.data").resolve(),)
    with load(path, ("x",), ("y",)) as backend:
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], [[11, 22]])


@pytest.mark.parametrize("where", ["initializer", "constant", "subgraph", "function", "sparse"])
def test_external_data_is_found_wherever_it_hides(tmp_path: Path, where: str) -> None:
    path = external(tmp_path / "m.onnx", "../../etc/passwd", where=where)
    assert external_locations(path) == {"../../etc/passwd"}


@pytest.mark.parametrize(
    "location",
    ["../secret", "/etc/passwd", "sub/../../secret", r"..\secret", r"C:\secret", "link", ""],
)
def test_external_data_may_not_leave_the_package(tmp_path: Path, location: str) -> None:
    """By an absolute path, by "..", in Windows' notation, or through a link."""
    root = tmp_path / "package"
    root.mkdir()
    (tmp_path / "secret").write_bytes(np.ones(2, np.float32).tobytes())
    (root / "link").symlink_to(tmp_path / "secret")
    path = external(root / "m.onnx", location)
    with pytest.raises(BackendError, match=r"outside the package's folder|does not hold"):
        load(path, ("x",), ("y",))


@pytest.mark.parametrize("location", ["absent.data", "*/_ORT_MEM_ADDR_/*"])
def test_external_data_must_be_a_file(tmp_path: Path, location: str) -> None:
    """Also onnxruntime's own mark for an address in memory names no file."""
    with pytest.raises(BackendError, match="which the package does not hold"):
        load(external(tmp_path / "m.onnx", location), ("x",), ("y",))


def test_locations_agree_with_the_onnx_package(tmp_path: Path) -> None:
    """On a graph that the onnx package itself wrote."""
    path = double(tmp_path / "plain.onnx")
    assert external_locations(path) == set()
    weights = numpy_helper.from_array(np.ones(2000, np.float32), "w")
    save(
        path,
        [helper.make_node("Add", ["x", "w"], ["y"])],
        {"x": FLOAT},
        {"y": FLOAT},
        shape=("b", 2000),
        initializers=[weights],
    )
    onnx.save_model(
        onnx.load(path), tmp_path / "m.onnx", save_as_external_data=True, location="w.bin"
    )
    assert external_locations(tmp_path / "m.onnx") == {"w.bin"}


# ---------------------------------------------------------------------------------- seam


def test_ports_read_well() -> None:
    port = TensorPort("x", (1, "height", None), np.dtype("float32"))
    assert str(port) == "x float32 (1, height, ?)"
    assert match_ports("input", ["raw"], [port], model="m") == {"raw": port}
    unknown = TensorPort("x", (1,), None)
    assert cast_for(ONE, unknown, tensor="x", model="m").dtype == np.float32


def test_framework_words_for_memory() -> None:
    for words in ("std::bad_alloc", "CUDA out of memory. Tried", "Failed to allocate memory"):
        error = framework_error(
            RuntimeError(words),
            doing="run",
            model="m",
            weights="w",
            device="cpu",
            facts="",
            hint="",
        )
        assert isinstance(error, OutOfMemoryError)


@pytest.mark.shared
def test_real_graphs_hold_no_external_data(shared: Path) -> None:
    for path in sorted((shared / "models").glob("*/*.onnx")):
        assert external_locations(path) == set()
