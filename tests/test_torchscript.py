"""The TorchScript backend: what it computes, what it refuses to load, what it leaves untouched."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
import warnings
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple, Optional

import numpy as np
import pytest
import torch

import biozoo
from biozoo.errors import (
    BackendError,
    MissingDependencyError,
    OutOfMemoryError,
)
from biozoo_runners import Backend, torch_devices
from biozoo_runners.devices import CudaDevice, Machine, usable_cores
from biozoo_runners.testing import BackendContract, test_package
from biozoo_runners.torchscript import TorchScriptBackend
from biozoo_runners.torchscript_loading import _no_tf32
from biozoo_runners.torchscript_safety import nodes_of
from packages import make_package
from weights_torch import add_torchscript, save_torchscript

Tensor = torch.Tensor
ONE = np.array([[1.0, 2.0]], np.float32)
CARD = Machine(cuda=(CudaDevice(0, "card"),), driver="999.0", libraries={"torch": "2.6"})


def opened(
    network: Any, folder: Path, ids: str = "x", out: str = "y", **more: Any
) -> TorchScriptBackend:
    """A compiled module as an open backend; tensor ids are the words of `ids` and `out`."""
    path = network if isinstance(network, Path) else save_torchscript(network, folder / "m.pt")
    return TorchScriptBackend(
        path, model="tiny", input_ids=tuple(ids.split()), output_ids=tuple(out.split()), **more
    )


# -------------------------------------------------------------------------------- contract


class Contract(BackendContract):
    @pytest.fixture
    def backend_class(self) -> type[Backend]:
        return TorchScriptBackend


class TestKeepsTheContract(Contract):
    @pytest.fixture(params=["2d", "3d", "two inputs and outputs, frozen"])
    def package(self, request: pytest.FixtureRequest, tmp_path: Path) -> biozoo.ModelPackage:
        two, axes = "two" in request.param, "bczyx" if request.param == "3d" else "bcyx"
        n = 2 if two else 1
        folder = make_package(tmp_path / "p", validate=False, axes=axes, inputs=n, outputs=n)
        return biozoo.open(add_torchscript(folder, only=True, frozen=two))


# -------------------------------------------------------------------------- on a card


@pytest.mark.parametrize("frozen", [False, True])
def test_traced_convolutions_lose_the_tf32_they_were_traced_with(
    tmp_path: Path, frozen: bool
) -> None:
    """The setting is written into a trace; in the code of a branch too, where it was frozen."""

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = torch.nn.Conv2d(1, 2, 3)
            self.b = torch.nn.ConvTranspose2d(2, 1, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.b(self.a(x))

    class Branches(torch.nn.Module):
        def __init__(self, inner: Any) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            if x.sum() > 0:
                x = self.inner(x)
            return self.inner(x)

    image = torch.rand(1, 1, 9, 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        network = torch.jit.trace(Net().eval(), (image,))
        made = torch.jit.script(Branches(network).eval())
        (torch.jit.freeze(made) if frozen else made).save(str(tmp_path / "m.pt"))
    unit = torch._C.CompilationUnit()
    loaded = torch._C.import_ir_module(unit, str(tmp_path / "m.pt"), torch.device("cpu"), {}, False)
    functions = unit.get_functions()

    def allowed() -> list[bool]:
        return [
            list(node.inputs())[-1].toIValue()
            for function in functions
            for node in nodes_of(function.graph)
            if node.kind() == "aten::_convolution"
        ]

    before = allowed()
    assert before == [True] * (4 if frozen else 2)
    _no_tf32(functions)
    assert allowed() == [False] * len(before)
    expected = network(network(image))
    torch.testing.assert_close(loaded._get_method("forward")(image), expected)


def test_code_that_makes_tensors_on_the_cpu_is_told(tmp_path: Path, monkeypatch: Any) -> None:
    """It fails on a card whatever the size: another device is what helps."""
    with opened(Subtract(), tmp_path, "a b") as backend:
        monkeypatch.setattr(backend, "_device", "cuda")

        def forward(**given: Any) -> Any:
            raise RuntimeError(
                "Expected all tensors to be on the same device, but got index is on cpu, different "
                "from other tensors on cuda:0"
            )

        monkeypatch.setattr(backend, "_module", SimpleNamespace(forward=forward))
        with pytest.raises(BackendError, match=r"tensors on the CPU.*--device cpu") as caught:
            backend.run({"a": ONE, "b": ONE})
    assert "--tile" not in caught.value.message


@pytest.mark.cuda
class TestKeepsTheContractOnACard(Contract):
    device = "cuda"

    @pytest.fixture(params=["bcyx", "bczyx"])
    def package(self, request: pytest.FixtureRequest, tmp_path: Path) -> biozoo.ModelPackage:
        folder = make_package(tmp_path / "p", validate=False, axes=request.param)
        return biozoo.open(add_torchscript(folder, only=True))

    def test_memory_on_the_card_is_told_and_given_back(self, package: biozoo.ModelPackage) -> None:
        before = torch.cuda.memory_allocated()
        with self.open(TorchScriptBackend, package) as backend:
            backend.run(self.feed(package))
            assert backend.peak_device_memory
            assert "cuda:0" in backend.info.providers[0]
        assert torch.cuda.memory_allocated() == before


@pytest.mark.parametrize(
    "kind",
    [
        {"axes": "byxc", "channels": 3, "out_channels": 2},
        {"axes": "bczyx", "size": 16, "halo": 2},
        {"inputs": 2, "outputs": 2, "dtype": "uint8"},
        {"scale": 2},
        {"axes": "yx"},
        {"network": "pointwise"},
    ],
    ids=str,
)
def test_packages_of_every_shape_reproduce_their_test_tensors(
    tmp_path: Path, kind: dict[str, Any]
) -> None:
    """The whole way: selection, preprocessing, network, comparison."""
    folder = add_torchscript(make_package(tmp_path / "p", validate=False, **kind))
    report = test_package(folder)
    assert report.ok, str(report)
    assert {f.ran.backend for f in report.formats if f.ran} == {"onnxruntime", "torch"}


# ---------------------------------------------------------------------------- in and out


class Subtract(torch.nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a - b


def test_inputs_go_by_name_else_by_order(tmp_path: Path) -> None:
    given = {"a": 3 * ONE, "b": ONE}
    with opened(Subtract(), tmp_path, "b a") as backend:
        np.testing.assert_array_equal(backend.run(given)["y"], 2 * ONE)
    with opened(Subtract(), tmp_path, "b z") as backend:  # z is no name: the order counts
        np.testing.assert_array_equal(backend.run({"b": 3 * ONE, "z": ONE})["y"], 2 * ONE)
    with pytest.raises(BackendError, match=r"description has 1 input\(s\) \(a\), the graph decl"):
        opened(Subtract(), tmp_path, "a")
    with pytest.raises(BackendError, match="description has 3 input"):
        opened(Subtract(), tmp_path, "a b c")


class Optionals(torch.nn.Module):
    def forward(self, x: Tensor, mask: Optional[Tensor], gain: float = 2.0) -> Tensor:  # noqa: UP045
        return x * gain if mask is None else x * mask


def test_optional_inputs_may_be_left_out(tmp_path: Path) -> None:
    """They are None for the code; its own defaults stand; what is required is asked for."""
    with opened(Optionals(), tmp_path, "x mask", optional=frozenset({"mask"})) as backend:
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], 2 * ONE)
        np.testing.assert_array_equal(backend.run({"x": ONE, "mask": 3 * ONE})["y"], 3 * ONE**2)
        with pytest.raises(BackendError, match="needs the input 'x', which was not given"):
            backend.run({"mask": ONE})
    with (
        opened(Subtract(), tmp_path, "a b", optional=frozenset({"b"})) as backend,
        pytest.raises(BackendError, match=r"Left out: b\. The code takes a \(Tensor\), b"),
    ):
        backend.run({"a": ONE})


class Pair(NamedTuple):
    twice: Tensor
    once: Tensor


class AsTuple(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x + x


class AsList(torch.nn.Module):
    def forward(self, x: Tensor) -> list[Tensor]:
        return [x, x + x]


class AsDict(torch.nn.Module):
    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"twice": x + x, "once": x}


class AsNamed(torch.nn.Module):
    def forward(self, x: Tensor) -> Pair:
        return Pair(x + x, x)


class Nested(torch.nn.Module):
    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        return [x], x


@pytest.mark.parametrize("network", [AsTuple, AsList, AsDict, AsNamed])
def test_outputs_come_as_code_gives_them(tmp_path: Path, network: Any) -> None:
    """Tuples and lists in their order; names count where they are the tensor ids."""
    with opened(network(), tmp_path, out="once twice") as backend:
        got = backend.run({"x": ONE})
    assert list(got) == ["once", "twice"]
    np.testing.assert_array_equal(got["once"], ONE)
    np.testing.assert_array_equal(got["twice"], 2 * ONE)
    with opened(network(), tmp_path, out="y") as backend:  # more than described are left
        assert list(backend.run({"x": ONE})) == ["y"]
    with (
        opened(network(), tmp_path, out="o p q") as backend,
        pytest.raises(BackendError, match=r"gave 2 output\(s\), its description has 3"),
    ):
        backend.run({"x": ONE})


def test_what_is_no_tensor_is_told(tmp_path: Path) -> None:
    with (
        opened(Nested(), tmp_path, out="a b") as backend,
        pytest.raises(BackendError, match="gave no tensor for output 'a'"),
    ):
        backend.run({"x": ONE})


class Constant(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1, 2))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x.mul_(2)
        return x, self.weight, x[:, 1:]


def test_neither_inputs_nor_weights_leak_through_the_results(tmp_path: Path) -> None:
    """Code that writes into its input, and returns it or a weight."""
    given = ONE.copy()
    with opened(Constant(), tmp_path, out="x weight part") as backend:
        got = backend.run({"x": given})
        np.testing.assert_array_equal(given, ONE)
        for array in got.values():
            assert array.flags.owndata
            array[...] = 9
        np.testing.assert_array_equal(backend.run({"x": given})["weight"], [[1, 1]])


class Convolve(torch.nn.Module):
    def __init__(self, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(1, 1, 3, dtype=dtype)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def test_between_floating_types_the_network_decides(tmp_path: Path) -> None:
    """Others are given as they are; where the code does not take one, what to do is told."""
    image = np.random.default_rng(0).random((1, 1, 8, 8))
    with opened(Convolve(), tmp_path) as backend:
        expected = backend.run({"x": image.astype(np.float32)})["y"]
        for dtype in (np.float64, np.float16):
            got = backend.run({"x": image.astype(dtype)})["y"]
            assert got.dtype == np.float32
            np.testing.assert_allclose(got, expected, atol=1e-2 if dtype == np.float16 else 1e-6)
        with pytest.raises(BackendError, match="should end with ensure_dtype"):
            backend.run({"x": (image * 255).astype(np.uint8)})
    with opened(Convolve(torch.bfloat16), tmp_path) as backend:
        got = backend.run({"x": image.astype(np.float32)})["y"]
    assert got.dtype == np.float32
    with opened(AsList(), tmp_path) as backend:  # no weights: nothing decides
        assert backend.run({"x": ONE.astype(np.float64)})["y"].dtype == np.float64
        assert backend.run({"x": ONE.astype(np.uint8)})["y"].dtype == np.uint8


def test_a_wrong_size_tells_what_was_given_and_the_cause(tmp_path: Path) -> None:
    """The cause stands at the end of TorchScript's own trace; only it is told."""
    with opened(Convolve(), tmp_path) as backend, pytest.raises(BackendError) as caught:
        backend.run({"x": np.zeros((1, 4, 8, 8), np.float32)})
    text = str(caught.value)
    assert "'tiny' (m.pt) failed to run on cpu. Given: x float32 (1, 4, 8, 8)." in text
    assert "to have 1 channels, but got 4 channels" in text
    assert "--tile" in text
    assert "\n" not in text
    assert "Traceback" not in text
    assert caught.value.__cause__ is not None


def test_memory_that_ends_is_its_own_error(tmp_path: Path, monkeypatch: Any) -> None:
    with opened(AsTuple(), tmp_path) as backend:
        module = backend._module

        def no_memory(**arguments: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

        backend._module = SimpleNamespace(forward=no_memory)
        with pytest.raises(OutOfMemoryError, match="smaller tile"):
            backend.run({"x": ONE})
        backend._module = module
        backend.free_cached()
        np.testing.assert_array_equal(backend.run({"x": ONE})["y"], ONE)


# ----------------------------------------------------------------------------- what it does


class Net(torch.nn.Module):
    def __init__(self, norm: str = "batch", dims: int = 2) -> None:
        super().__init__()
        conv = torch.nn.Conv2d if dims == 2 else torch.nn.Conv3d
        norms: dict[str, Any] = {
            "batch": torch.nn.BatchNorm2d if dims == 2 else torch.nn.BatchNorm3d,
            "instance": torch.nn.InstanceNorm2d,
        }
        self.first, self.norm, self.second = conv(1, 8, 3), norms[norm](8), conv(8, 2, 3)
        self.up = torch.nn.Upsample(scale_factor=2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.up(self.second(torch.relu(self.norm(self.first(x))))))


class Viewing(Net):
    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        return y.view(y.shape[0], -1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("traced", [True, False])
def test_results_are_those_of_torch_itself(tmp_path: Path, dims: int, traced: bool) -> None:
    """At any size, however the tensors are laid out for speed."""
    torch.manual_seed(0)
    network = Net(dims=dims).eval()
    example = (torch.rand(1, 1, *[12] * dims),) if traced else ()
    path = save_torchscript(network, tmp_path / "net.pt", example=example)
    with opened(path, tmp_path) as backend:
        assert backend.info.providers[1:] == (
            ("channels_last",) if dims == 2 else ("prepacked for oneDNN",)
        )
        for size in (12, 17, 12):
            image = torch.rand(2, 1, *[size] * dims)
            with torch.no_grad():
                expected = network(image).numpy()
            np.testing.assert_allclose(backend.run({"x": image.numpy()})["y"], expected, atol=1e-6)


def test_code_that_looks_at_the_layout_keeps_its_own(tmp_path: Path) -> None:
    """`view` fails on channels_last, InstanceNorm is slower with it."""
    image = np.random.default_rng(0).random((1, 1, 12, 12)).astype(np.float32)
    for network in (Viewing(), Net("instance")):
        with opened(network.eval(), tmp_path) as backend:
            assert "channels_last" not in backend.info.providers
            backend.run({"x": image})


class Squeeze(torch.nn.Module):
    """What 3D networks are made of: skips, strides, groups, transposed and squeezed parts."""

    def __init__(self, norm: Any, act: Any) -> None:
        super().__init__()
        self.first, self.norm, self.act = torch.nn.Conv3d(1, 16, 3, padding=1), norm(16), act
        self.wide = torch.nn.Conv3d(16, 16, 3, padding=2, dilation=2, groups=16)
        self.down = torch.nn.Conv3d(16, 24, (1, 3, 3), stride=2, padding=(0, 1, 1), bias=False)
        self.up = torch.nn.ConvTranspose3d(24, 16, 2, stride=2)
        self.weigh = torch.nn.Linear(16, 16)
        self.last = torch.nn.Conv3d(32, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.act(self.norm(self.first(x)))
        a = self.wide(a) + a
        b = self.up(self.act(self.down(a)))
        weight = torch.sigmoid(self.weigh(b.mean((2, 3, 4)))).view(b.shape[0], 16, 1, 1, 1)
        return torch.softmax(self.last(torch.cat([a, b * weight], 1)), 1)


@pytest.mark.parametrize(
    ("norm", "act"),
    [
        (torch.nn.BatchNorm3d, torch.nn.ReLU(inplace=True)),
        (torch.nn.InstanceNorm3d, torch.nn.LeakyReLU(0.1)),
        (lambda n: torch.nn.GroupNorm(4, n), torch.nn.SiLU()),
    ],
    ids=["batch", "instance", "group"],
)
def test_prepacked_networks_compute_the_same(tmp_path: Path, norm: Any, act: Any) -> None:
    torch.manual_seed(0)
    network = Squeeze(norm, act)
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm3d):
            part.running_mean.normal_()
            part.running_var.uniform_(0.01, 2)
    network = network.eval()
    with opened(network, tmp_path) as backend:
        assert "prepacked for oneDNN" in backend.info.providers
        for size in ((1, 1, 8, 16, 12), (2, 1, 4, 8, 20), (1, 1, 8, 16, 12)):
            image = torch.randn(size)
            given = image.numpy().copy()
            with torch.no_grad():
                expected = network(image.clone()).numpy()
            np.testing.assert_allclose(backend.run({"x": given})["y"], expected, atol=2e-6)
            np.testing.assert_array_equal(given, image.numpy())


class Counting(torch.nn.Module):
    """A network with a memory."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv3d(1, 1, 1)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.conv(x) * 0 + self.calls


def test_code_that_cannot_be_prepacked_runs_as_it_is(tmp_path: Path) -> None:
    with opened(Counting(), tmp_path) as backend:
        assert len(backend.info.providers) == 1
        image = np.ones((1, 1, 2, 2, 2), np.float32)
        assert [backend.run({"x": image})["y"].max() for _ in range(3)] == [1, 2, 3]


def test_it_is_in_evaluation_mode_without_gradients(tmp_path: Path) -> None:
    class Drop(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop = torch.nn.Dropout(0.5)
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: Tensor) -> Tensor:
            return self.drop(x) * self.weight

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.script(Drop().train()), tmp_path / "m.pt")
    image = np.ones((1, 1000), np.float32)
    with opened(tmp_path / "m.pt", tmp_path) as backend:
        np.testing.assert_array_equal(backend.run({"x": image})["y"], image)
    assert torch.is_grad_enabled()


def test_info_tells_torch_and_where_the_weights_lie(tmp_path: Path) -> None:
    with opened(AsTuple(), tmp_path, threads=1) as backend:
        info = backend.info
    assert (info.backend, info.weights_format, info.device) == ("torch", "torchscript", "cpu")
    assert info.version == torch.__version__
    assert info.providers == (f"torch {torch.__version__} cpu",)
    assert info.threads == 1
    with opened(AsTuple(), tmp_path) as backend:
        assert backend.info.threads == usable_cores()[1]


def test_the_embedding_program_keeps_its_settings(tmp_path: Path) -> None:
    """Threads, gradients, executor, warning filters and sys.stdout are as before, also within."""
    filters = list(warnings.filters)
    before = (torch.get_num_threads(), torch.is_inference_mode_enabled())
    executor = torch._C._get_graph_executor_optimize()
    seen: list[int] = []
    with opened(AsTuple(), tmp_path, threads=3) as backend:
        forward = backend._module.forward

        def looking(**arguments: Any) -> Any:
            seen.append(torch.get_num_threads())
            thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
            thread.start()
            thread.join()
            return forward(**arguments)

        backend._module = SimpleNamespace(forward=looking)
        backend.run({"x": ONE})
    assert seen == [3, before[0]]  # a thread that starts meanwhile has its own number
    assert (torch.get_num_threads(), torch.is_inference_mode_enabled()) == before
    assert torch._C._get_graph_executor_optimize() == executor
    assert warnings.filters == filters


def test_closing_gives_memory_back(tmp_path: Path) -> None:
    """Weights of 160 MB are gone from the process once the backend is closed."""

    class Heavy(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = torch.nn.ModuleList(torch.nn.Linear(512, 512) for _ in range(160))

        def forward(self, x: Tensor) -> Tensor:
            for part in self.parts:
                x = part(x)
            return x

    path = save_torchscript(Heavy(), tmp_path / "m.pt")
    code = f"""
        import sys, psutil, numpy as np, pathlib
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_torchscript import opened
        def megabytes():
            return psutil.Process().memory_info().rss / 2**20
        def turn(look=lambda: None):
            backend = opened(pathlib.Path({str(path)!r}), None)
            backend.run({{"x": np.ones((1, 512), np.float32)}})
            open_ = megabytes()
            backend.close()
            return open_
        turn()  # what torch loads once and keeps
        before = megabytes()
        during = turn()
        print(during - before, megabytes() - before)
    """
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        check=True,
    )
    taken, kept = map(float, answer.stdout.split())
    assert taken > 120
    assert kept < 0.2 * taken


def test_no_warning_reaches_the_user(tmp_path: Path) -> None:
    """Torch announces the end of TorchScript at every load; a reader of models cannot help it."""
    path = save_torchscript(AsTuple(), tmp_path / "m.pt")
    read_only = ONE.copy()
    read_only.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with opened(path, tmp_path) as backend:
            backend.run({"x": read_only[:, ::-1]})


# ------------------------------------------------------------------------ missing, broken


def test_without_torch_the_install_line_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = save_torchscript(AsTuple(), tmp_path / "m.pt")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependencyError, match=r"TorchScript weights needs torch.*\["):
        opened(archive, tmp_path)
    monkeypatch.setattr(torch_devices, "importable", lambda module: True)
    with pytest.raises(BackendError, match="torch is installed but cannot be imported"):
        opened(archive, tmp_path)
    monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))
    with pytest.raises(BackendError, match="torch's files are incomplete"):
        opened(archive, tmp_path)


def test_importing_the_backend_imports_no_framework() -> None:
    code = (
        "import sys, biozoo_runners.torchscript, biozoo_runners.openvino, biozoo_runners.testing;"
        "print([m for m in ('onnxruntime', 'onnx', 'torch', 'openvino', 'bioimageio', 'pytest')"
        " if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.shared
def test_real_packages_reproduce_their_test_tensors(shared: Path) -> None:
    assert test_package(shared / "models" / "multi-tensor").ok
    assert test_package(shared / "models" / "nuclei-broad", weights="torchscript").ok
    assert not test_package(shared / "models" / "inverter-fails-own-test").ok
