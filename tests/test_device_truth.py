"""Where a model really runs, and the cause where that is not where it was asked to.

No card is needed: machines, drivers, builds of ONNX Runtime and its sessions are made up.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

import biozoo_runners
from biozoo.errors import BiozooError, DeviceError, OutOfMemoryError
from biozoo_runners import devices, nvidia, nvml, onnx_session
from biozoo_runners import onnx as onnx_backend
from biozoo_runners.base import BackendInfo, ran_out_of_memory
from biozoo_runners.devices import (
    CudaDevice,
    Machine,
    Nvidia,
    driver_too_old,
    no_such_card,
    what_to_do,
    why_no_cuda,
)
from biozoo_runners.executors.frameworks import quieten
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.onnx_session import _cudnn_fault as cudnn_fault
from biozoo_runners.report import Asked, RunReport
from packages import make_package

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
CARD = CudaDevice(0, "NVIDIA A40", 45 * 2**30)
LISTED = "0, NVIDIA A40, 46068, 550.54.14\n1, NVIDIA T4, 15360, 550.54.14\n"
MISMATCH = "Failed to initialize NVML: Driver/library version mismatch\n"
NO_ANSWER = (
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that "
    "the latest NVIDIA driver is installed and running.\n"
)


# ----------------------------------------------------------------------- what a machine tells


def fake_root(
    root: Path,
    *,
    cards: Sequence[str] = (),
    sound: bool = False,
    module: str | None = None,
    nodes: int = 0,
    bus: bool = True,
) -> Path:
    """A system's sys, proc and dev; `cards` are the kernel drivers that the cards are bound to."""
    devices_folder = root / "sys/bus/pci/devices"
    if bus:
        devices_folder.mkdir(parents=True)
        for number, driver in enumerate(("e1000", *cards)):
            one = devices_folder / f"0000:0{number}:00.0"
            one.mkdir()
            (one / "vendor").write_text("0x10de\n" if number else "0x8086\n")
            (one / "class").write_text("0x030000\n" if number else "0x020000\n")
            if driver:
                made = root / "sys/bus/pci/drivers" / driver
                made.mkdir(parents=True, exist_ok=True)
                (one / "driver").symlink_to(made)
    if sound:  # a card's sound function is no card
        (devices_folder / "0000:09:00.1").mkdir()
        (devices_folder / "0000:09:00.1" / "vendor").write_text("0x10de\n")
        (devices_folder / "0000:09:00.1" / "class").write_text("0x040300\n")
    if module:
        (root / "proc/driver/nvidia").mkdir(parents=True)
        (root / "proc/driver/nvidia/version").write_text(
            f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {module}  Thu Feb 22\n"
        )
    (root / "dev").mkdir()
    for n in range(nodes):
        (root / "dev" / f"nvidia{n}").touch()
    return root


def smi(answer: str | Exception) -> Callable[[Sequence[str]], Any]:
    """An nvidia-smi that answers so; it fails where it lists no cards."""

    def run(command: Sequence[str]) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return SimpleNamespace(stdout=answer, stderr="", returncode=int(answer[:1] != "0"))

    return run


def machine_at(
    root: Path, said: str | Exception | None = None, visible: str | None = None, **more: Any
) -> Machine:
    env = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    program = None if said is None else "/usr/bin/nvidia-smi"
    found = nvidia.look(root, env=env, program=program, run=smi(said or ""))
    return Machine(cuda=found.usable, driver=found.driver, nvidia=found, **more)


@pytest.fixture(autouse=True)
def no_real_smi(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)


CAUSES: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({}, {}, "this machine has no NVIDIA card", "--device cpu or auto"),
    ({"sound": True}, {}, "this machine has no NVIDIA card", "--device cpu or auto"),
    (
        {"cards": [""]},
        {},
        "this machine has an NVIDIA card, but its NVIDIA driver is not loaded",
        "Install NVIDIA's driver",
    ),
    (
        {"cards": ["nouveau", "nouveau"]},
        {},
        "has 2 NVIDIA cards, but their NVIDIA driver is not loaded, them being bound to nouveau",
        "Install NVIDIA's driver",
    ),
    (
        {"cards": [""]},
        {"said": NO_ANSWER},
        "driver is not loaded (nvidia-smi says: NVIDIA-SMI has failed because it couldn't",
        "nvidia-smi lists the card",
    ),
    (
        {"cards": ["nvidia"], "module": "550.54.14"},
        {},
        "driver 550.54.14 is loaded, but this process is not given a card: there is no "
        "/dev/nvidia0",
        "docker run --gpus all",
    ),
    (
        {"cards": ["nvidia"], "module": "550.54.14", "nodes": 1},
        {"said": MISMATCH},
        "driver was updated and its old part is still running (nvidia-smi says: Failed to "
        "initialize NVML: Driver/library version mismatch)",
        "Restart the machine",
    ),
    (
        {"cards": ["nvidia"], "module": "550.54.14", "nodes": 1},
        {"said": "No devices were found\n"},
        "driver 550.54.14 finds no card (nvidia-smi says: No devices were found)",
        "dmesg",
    ),
    (
        {"cards": ["nvidia"], "module": "550.54.14", "nodes": 1},
        {"said": LISTED, "visible": "-1"},
        "CUDA_VISIBLE_DEVICES is '-1', which hides 2 NVIDIA cards of this machine: 0 (NVIDIA",
        "Unset CUDA_VISIBLE_DEVICES",
    ),
    (
        {"bus": False},
        {},
        "no NVIDIA driver was found on this machine (there is no nvidia-smi)",
        "If it has an NVIDIA card: install NVIDIA's driver",
    ),
    (
        {"bus": False},
        {"said": subprocess.TimeoutExpired("nvidia-smi", 10)},
        "driver does not answer (nvidia-smi says: it gave no answer within 10 seconds)",
        "Install NVIDIA's driver",
    ),
    ({"bus": False}, {"system": "darwin"}, "macOS has no CUDA", "--device cpu or auto"),
]


@pytest.mark.parametrize(("root", "machine", "why", "todo"), CAUSES)
def test_the_cause_of_no_card_is_told(
    tmp_path: Path, root: dict[str, Any], machine: dict[str, Any], why: str, todo: str
) -> None:
    found = machine_at(fake_root(tmp_path, **root), **machine)
    assert found.cuda == ()
    assert why in why_no_cuda(found)
    assert todo in what_to_do(found)
    assert not why_no_cuda(found).endswith(".")
    assert what_to_do(found).endswith(".")


def test_a_card_that_can_be_used_has_no_cause(tmp_path: Path) -> None:
    root = fake_root(tmp_path, cards=["nvidia"], module="550.54.14", nodes=2)
    found = machine_at(root, LISTED, visible="1")
    assert [c.name for c in found.cuda] == ["NVIDIA T4"]
    assert found.driver == "550.54.14"
    assert (why_no_cuda(found), what_to_do(found)) == ("", "")
    assert no_such_card(found, 0) == ("", "")
    why, todo = no_such_card(found, 1)
    assert "among those that CUDA_VISIBLE_DEVICES=1 leaves" in why
    assert "Here are: cuda:0 (NVIDIA T4)" in todo


def test_a_container_that_sees_the_driver_but_no_device_has_no_card(tmp_path: Path) -> None:
    """The kernel lists the host's cards to every container, with access or without."""
    root = fake_root(tmp_path, cards=["nvidia"], module="550.54.14")
    info = root / "proc/driver/nvidia/gpus/0000:01:00.0/information"
    info.parent.mkdir(parents=True)
    info.write_text("Model: \t\t NVIDIA A40\n")
    assert machine_at(root).cuda == ()
    (root / "dev/nvidia0").touch()
    assert machine_at(root).cuda == (CudaDevice(0, "NVIDIA A40"),)


@pytest.mark.parametrize(
    ("driver", "built", "needed"),
    [
        ("535.104.05", "13.0", "580"),
        ("470.82", "12.8", "525"),
        ("580.65", "13.0", ""),
        ("535.1", "12.8", ""),
        (None, "13.0", ""),
        ("470.82", "", ""),
        ("470.82", "99.1", ""),
    ],
)
def test_a_driver_too_old_for_a_build(driver: str | None, built: str, needed: str) -> None:
    machine = Machine(cuda=(CARD,), driver=driver, cuda_builds={"torch": built})
    told = driver_too_old(machine, "torch")
    assert bool(told) == bool(needed)
    if needed:
        assert f"driver {driver} is too old" in told
        assert f"CUDA {built}, which needs driver {needed} or newer" in told


def test_for_which_cuda_a_library_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read from its files, so nothing is imported."""
    files = {
        "torch/version.py": "from typing import Optional\n__version__ = '2.9'\n"
        "cuda: Optional[str] = '13.0'\nhip: Optional[str] = None\n",
        "onnxruntime/capi/build_and_package_info.py": "package_name = 'onnxruntime-gpu'\n"
        "cuda_version = '12.8'\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text(text)

    def find(module: str) -> Any:
        return SimpleNamespace(origin=str(tmp_path / module / "__init__.py"))

    monkeypatch.setattr("importlib.util.find_spec", find)
    asked = ["torch", "onnxruntime-gpu", "keras", "openvino"]
    assert devices._cuda_builds(asked) == {"torch": "13.0", "onnxruntime-gpu": "12.8"}
    (tmp_path / "torch/version.py").write_text("cuda: Optional[str] = None\n")
    (tmp_path / "onnxruntime/capi/build_and_package_info.py").write_text("__version__ = '1'\n")
    assert devices._cuda_builds(asked) == {"torch": "", "onnxruntime-gpu": ""}
    (tmp_path / "torch/version.py").unlink()
    assert devices._cuda_builds(["torch"]) == {}


# -------------------------------------------------------------------- what a session tells


class FakeSession:
    """A session that says what it runs on, and refuses to run."""

    providers: tuple[str, ...] = (CPU,)
    nodes: tuple[tuple[str, str], ...] = ()
    refuses: Exception | None = None
    asked: list[Any]
    options: Any

    def __init__(self, path: str, sess_options: Any, providers: list[Any], enable_fallback: int):
        assert enable_fallback == 0  # or ONNX Runtime itself goes on with the CPU
        if self.refuses is not None:
            raise self.refuses
        type(self).asked, type(self).options = providers, sess_options

    def get_providers(self) -> list[str]:
        return list(self.providers)

    def get_provider_graph_assignment_info(self) -> list[Any]:
        def part(provider: str, op: str) -> Any:
            node = SimpleNamespace(op_type=op)
            return SimpleNamespace(ep_name=provider, get_nodes=lambda: [node])

        return [part(p, op) for p, op in self.nodes]

    def get_inputs(self) -> list[Any]:
        return [SimpleNamespace(name="x", shape=["b", "n"], type="tensor(float)")]

    def get_outputs(self) -> list[Any]:
        return [SimpleNamespace(name="y", shape=["b", "n"], type="tensor(float)")]

    def run(self, names: list[str], feed: dict[str, Any]) -> list[Any]:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 8589934592")


class FakeOptions(SimpleNamespace):
    def add_session_config_entry(self, key: str, value: str) -> None:
        setattr(self, key, value)


HERE = Machine(
    cuda=(CARD,), driver="550.54.14", libraries={"onnxruntime-gpu": "9.9"},
    cuda_builds={"onnxruntime-gpu": "12.8"},
)  # fmt: skip


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """onnxruntime-gpu on a machine with a card; what it says of itself is for the test to set."""
    library = tmp_path / "onnxruntime" / "capi" / "libonnxruntime_providers_cuda.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"not a library")
    module = SimpleNamespace(
        __version__="9.9",
        __file__=str(tmp_path / "onnxruntime" / "__init__.py"),
        InferenceSession=type("Session", (FakeSession,), {}),
        SessionOptions=FakeOptions,
        get_available_providers=lambda: [CUDA, CPU],
        preload_dlls=lambda: print("Failed to load libcudnn.so.9: cannot open shared object file"),
        library=library,
    )
    monkeypatch.setattr(onnx_backend, "_import_onnxruntime", lambda: module)
    monkeypatch.setattr(onnx_session, "detect", lambda: HERE)
    monkeypatch.setattr(onnx_session, "installed", lambda names: {"onnxruntime-gpu": "9.9"})
    monkeypatch.setattr(onnx_session, "cuda_start_error", lambda: "")
    monkeypatch.setattr(onnx_session, "_cudnn_fault", lambda: "")
    return module


def graph(path: Path) -> Path:
    """A graph of one node."""
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ("b", "n"))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ("b", "n"))],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def opened(folder: Path, device: str) -> OnnxBackend:
    path = graph(folder / "m.onnx")
    return OnnxBackend(
        path, root=folder, model="tiny", input_ids=("x",), output_ids=("y",), device=device
    )


def refused(folder: Path, device: str = "cuda") -> str:
    with pytest.raises(DeviceError) as caught:
        opened(folder, device)
    assert caught.value.exit_code == 3
    return caught.value.message


def test_cuda_that_lands_on_the_cpu_is_an_error(
    tmp_path: Path, fake: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """onnxruntime-gpu falls back in silence; the session's own providers tell, the library why."""
    told = refused(tmp_path)
    assert f"would run the model on {CPU} in its place: the CUDA part of onnxruntime 9.9" in told
    assert "(built for CUDA 12.8) cannot be loaded:" in told
    assert "onnxruntime-gpu[cuda,cudnn]" in told
    assert capsys.readouterr() == ("", "")  # what the library prints is for no one's output


def test_a_missing_library_is_named(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(name: str, **more: Any) -> Any:
        raise OSError("libcublasLt.so.12: cannot open shared object file: No such file")

    fault = onnx_session._library_fault(fake.library.parent, load)
    assert fault == "it needs libcublasLt.so.12, which is not here or of another version"
    fake.library.unlink()
    assert "libonnxruntime_providers_cuda.so is missing" in refused(tmp_path)


def test_what_onnxruntime_prints_is_the_last_resort(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its library loads and the driver starts, only the preloading may have said more."""
    monkeypatch.setattr(onnx_session, "_library_fault", lambda folder: "")
    assert "onnxruntime says Failed to load libcudnn.so.9" in refused(tmp_path)
    fake.preload_dlls = lambda: None
    assert "why is not known" in refused(tmp_path)
    monkeypatch.setattr(onnx_session, "cuda_start_error", lambda: "error 803, a driver mismatch")
    assert "error 803, a driver mismatch" in refused(tmp_path)


def test_a_driver_too_old_comes_before_libraries(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Machine(cuda=(CARD,), driver="470.82", cuda_builds={"onnxruntime-gpu": "12.8"})
    monkeypatch.setattr(onnx_session, "detect", lambda: old)
    told = refused(tmp_path)
    assert "driver 470.82 is too old" in told
    assert "Update the driver" in told


def test_two_builds_at_once_are_told(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    both = {"onnxruntime": "9.9", "onnxruntime-gpu": "9.9"}
    monkeypatch.setattr(onnx_session, "installed", lambda names: both)
    told = refused(tmp_path)
    assert "onnxruntime and onnxruntime-gpu are both installed and overwrite each other" in told
    assert "pip uninstall -y onnxruntime onnxruntime-gpu" in told
    notes = opened(tmp_path, "cpu").info.notes  # on the CPU it works, and is told all the same
    assert "are both installed" in notes[0]


def test_a_build_without_cuda(tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refused before a session is made; a machine without a card is told first."""
    fake.get_available_providers = lambda: [CPU]
    monkeypatch.setattr(onnx_session, "installed", lambda names: {"onnxruntime": "9.9"})
    told = refused(tmp_path)
    assert "this onnxruntime has no CUDA: pip uninstall -y onnxruntime, then" in told
    assert "[gpu]" in told
    monkeypatch.setattr(onnx_session, "detect", lambda: Machine())
    assert "this machine has no NVIDIA card" in refused(tmp_path)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        ("CUDA failure 101: invalid device ordinal ; GPU=7 ; hostname=x", "no such card"),
        ("CUDA_PATH is set but CUDA wasn't able to be loaded.", "CUDA_PATH is set but"),
        ("CUDNN failure 4: CUDNN_STATUS_INTERNAL_ERROR ; GPU=0", "CUDNN failure 4"),
    ],
)
def test_a_card_that_refuses_is_a_device_error(
    tmp_path: Path, fake: Any, error: str, told: str
) -> None:
    """While loading, and while running."""
    fake.InferenceSession.refuses = RuntimeError(error)
    assert told in refused(tmp_path, "cuda:7" if "101" in error else "cuda")
    fake.InferenceSession.refuses = None
    fake.InferenceSession.providers = (CUDA, CPU)

    def run(self: Any, names: Any, feed: Any) -> Any:
        raise RuntimeError(error)

    fake.InferenceSession.run = run
    backend = opened(tmp_path, "cuda:7" if "101" in error else "cuda")
    with pytest.raises(DeviceError, match=told):
        backend.run({"x": np.ones((1, 2), np.float32)})


def test_a_session_that_starts_without_cudnn_is_refused(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would fail at the first convolution, when `auto` can no longer take the CPU."""
    fake.InferenceSession.providers = (CUDA, CPU)
    asked = []

    def load(name: str) -> None:
        asked.append(name)
        if name != "libcudnn.so.8":
            raise OSError(f"{name}: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(onnx_session.sys, "platform", "linux")
    assert cudnn_fault(load) == ""
    assert asked == ["libcudnn.so.9", "libcudnn.so.8"]
    fault = cudnn_fault(lambda name: load(name.replace("8", "7")))
    assert fault.endswith("libcudnn.so.9 is not here")
    monkeypatch.setattr(onnx_session, "_cudnn_fault", lambda: fault)
    told = refused(tmp_path)
    assert fault in told
    assert "onnxruntime-gpu[cuda,cudnn]" in told
    fake.InferenceSession.providers = (CPU,)
    opened(tmp_path, "cpu")  # is not asked


def test_memory_that_ends_is_its_own_error(tmp_path: Path, fake: Any) -> None:
    """Of the card and of the host, while loading and while running."""
    fake.InferenceSession.providers = (CUDA, CPU)
    with pytest.raises(OutOfMemoryError, match=r"ran out of memory on cuda.*smaller tile"):
        opened(tmp_path, "cuda").run({"x": np.ones((1, 2), np.float32)})
    fake.InferenceSession.refuses = RuntimeError("CUDA failure 2: out of memory ; GPU=0")
    with pytest.raises(OutOfMemoryError, match="Close other programs") as caught:
        opened(tmp_path, "cuda")
    assert "tile" not in caught.value.message  # tiles have nothing to do with weights


@pytest.mark.parametrize(
    "text",
    [
        "std::bad_alloc",
        "CUDA out of memory. Tried to allocate 20.00 GiB",
        "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes",
        "OOM when allocating tensor with shape[1,64]",
        "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
        "Failed to allocate memory for requested buffer of size 8",
        "Unable to allocate 8.00 GiB for an array with shape (1,)",
    ],
)
def test_how_frameworks_say_that_memory_ended(text: str) -> None:
    assert ran_out_of_memory(RuntimeError(text))
    assert not ran_out_of_memory(RuntimeError("Got invalid dimensions for input: x"))


def test_keras_on_a_card_sees_the_card(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorFlow is kept from cards; Keras on torch in the same process is not."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")  # so that it is put back
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "0")
    quieten(on_card=True)
    assert "CUDA_VISIBLE_DEVICES" not in os.environ
    quieten()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "-1"


def test_what_is_asked_of_a_session(tmp_path: Path, fake: Any) -> None:
    fake.InferenceSession.providers = (CUDA, CPU)
    backend = opened(tmp_path, "cuda:1")
    assert backend.info.device == "cuda:1"
    assert backend.info.providers == (CUDA, CPU)
    (name, options), cpu = fake.InferenceSession.asked
    assert name == CUDA
    first = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
    assert options == {**first, "device_id": "1"}
    assert cpu == (CPU, {})
    opened(tmp_path, "cuda")  # ONNX Runtime would warn of the number
    assert fake.InferenceSession.asked[0] == (CUDA, first)
    fake.InferenceSession.providers = (CPU,)
    opened(tmp_path, "cpu")
    assert fake.InferenceSession.asked == [(CPU, {})]
    fake.InferenceSession.providers = ("AzureExecutionProvider", CPU)
    assert "would run the model on AzureExecutionProvider" in refused(tmp_path, "cpu")


@pytest.mark.parametrize(
    ("on_cpu", "on_cuda", "verdict"),
    [
        ((), ("Conv", "Relu"), ""),
        (("Shape", "Gather", "Concat", "Mul"), ("Conv",), ""),
        (("NonMaxSuppression",), ("Conv", "Relu", "Conv"), "note"),
        (("RoiAlign", "Conv", "Conv"), ("Conv", "Shape", "Shape", "Shape"), "error"),
        (("Add", "Mul"), (), "error"),
    ],
)
def test_nodes_that_fell_to_the_cpu(
    tmp_path: Path, fake: Any, on_cpu: tuple[str, ...], on_cuda: tuple[str, ...], verdict: str
) -> None:
    """CUDA in the list of providers says nothing of the nodes; arithmetic on shapes may stay."""
    fake.InferenceSession.providers = (CUDA, CPU)
    fake.InferenceSession.nodes = tuple((CPU, op) for op in on_cpu) + tuple(
        (CUDA, op) for op in on_cuda
    )
    if verdict == "error":
        assert f"{len(on_cpu)} of" in refused(tmp_path)
        assert "would run on the CPU in its place" in refused(tmp_path)
        return
    backend = opened(tmp_path, "cuda")
    assert getattr(fake.InferenceSession.options, onnx_session._RECORD_NODES) == "1"
    told = " ".join(backend.info.notes)
    expected = "1 of 4 computing nodes of the graph (NonMaxSuppression) run on the CPU"
    assert (expected in told) == (verdict == "note")
    assert bool(told) == (verdict == "note")


def test_real_onnxruntime_tells_where_nodes_run(tmp_path: Path) -> None:
    """The question that is asked of it on a card exists and is answered."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(onnx_session._RECORD_NODES, "1")
    session = onnxruntime.InferenceSession(
        str(graph(tmp_path / "m.onnx")), options, providers=[CPU], enable_fallback=0
    )
    with pytest.raises(DeviceError, match=r"1 of 1 computing nodes of the graph \(Add\)"):
        onnx_session._check_nodes(session, "cuda")
    assert onnx_session._check_nodes(session, "cpu") == ()


@pytest.mark.parametrize(
    ("libraries", "card", "ok", "where", "reason"),
    [
        ((), False, False, (), "onnxruntime is not installed"),
        (("onnxruntime",), False, True, ("cpu",), ""),
        (("onnxruntime",), True, True, ("cpu",), "this onnxruntime has no CUDA"),
        (("onnxruntime-directml",), True, True, ("cpu",), "this onnxruntime-directml has no CUDA"),
        (("onnxruntime-gpu",), False, True, ("cpu",), ""),
        (("onnxruntime-gpu",), True, True, ("cuda", "cpu"), ""),
        (("onnxruntime", "onnxruntime-gpu"), True, True, ("cpu",), "onnxruntime and onnxruntime-"),
        (("onnxruntime", "onnxruntime-gpu"), False, True, ("cpu",), "onnxruntime and onnxruntime-"),
    ],
)
def test_availability(
    libraries: tuple[str, ...], card: bool, ok: bool, where: tuple[str, ...], reason: str
) -> None:
    """Decided from the names of installed distributions."""
    machine = Machine(cuda=(CARD,) if card else (), libraries=dict.fromkeys(libraries, "1.0"))
    found = OnnxBackend.available(machine)
    assert (found.ok, found.devices) == (ok, where)
    assert found.reason.startswith(reason)
    assert bool(found.reason) == bool(reason)


def test_a_driver_too_old_is_known_before_anything_is_loaded() -> None:
    machine = Machine(
        cuda=(CARD,), driver="470.82", libraries={"onnxruntime-gpu": "1"},
        cuda_builds={"onnxruntime-gpu": "12.8"},
    )  # fmt: skip
    found = OnnxBackend.available(machine)
    assert found.devices == ("cpu",)
    assert "driver 470.82 is too old" in found.reason


# ------------------------------------------------------------------------- through the runner


@pytest.fixture
def landing_on_the_cpu(fake: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime-gpu whose sessions work, but on the CPU whatever is asked."""
    import onnxruntime

    def session(path: str, sess_options: Any, providers: Any, **more: Any) -> Any:
        return onnxruntime.InferenceSession(path, sess_options, providers=[CPU], **more)

    fake.InferenceSession, fake.SessionOptions = session, onnxruntime.SessionOptions
    monkeypatch.setattr(devices, "detect", lambda: HERE)


@pytest.mark.usefixtures("landing_on_the_cpu")
def test_auto_says_in_the_report_why_it_took_the_cpu(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny")
    with pytest.raises(DeviceError, match="cannot be loaded"):
        biozoo_runners.load(folder, device="cuda")
    with biozoo_runners.load(folder, device="auto") as model:
        report = model(np.ones((16, 16), np.float32), axes="yx").report
    assert report.ran.device == "cpu"
    assert report.ran.providers == (CPU,)
    assert report.notes[0].startswith("auto took the CPU: Device 'cuda' cannot be used")
    assert "the CUDA part of onnxruntime 9.9" in report.notes[0]
    assert report.notes[0] in str(report)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (Machine(libraries={"onnxruntime": "1"}), "this machine has no NVIDIA card"),
        (
            Machine(libraries={"onnxruntime": "1"}, nvidia=Nvidia(on_bus=1, bound=("nouveau",))),
            "it being bound to nouveau",
        ),
        (Machine(cuda=(CARD,), libraries={"onnxruntime": "1"}), "this onnxruntime has no CUDA"),
    ],
)
def test_asked_and_auto_tell_the_same_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: Machine, why: str
) -> None:
    folder = make_package(tmp_path / "tiny")
    monkeypatch.setattr(devices, "detect", lambda: machine)
    with pytest.raises(BiozooError, match=why) as caught:
        biozoo_runners.load(folder, device="cuda")
    assert caught.value.exit_code == 3
    with biozoo_runners.load(folder) as model:
        notes = model(np.ones((16, 16), np.float32), axes="yx").report.notes
    assert notes[0].startswith("auto took the CPU: ")
    assert why in notes[0]


def test_auto_takes_the_cpu_where_the_card_is_full(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By other programs: the weights do not fit, which no smaller tile helps."""
    import onnxruntime

    def session(path: str, sess_options: Any, providers: Any, **more: Any) -> Any:
        if providers[0][0] == CUDA:
            raise RuntimeError("CUDA failure 2: out of memory ; GPU=0")
        return onnxruntime.InferenceSession(path, sess_options, providers=[CPU], **more)

    fake.InferenceSession, fake.SessionOptions = session, onnxruntime.SessionOptions
    monkeypatch.setattr(devices, "detect", lambda: HERE)
    folder = make_package(tmp_path / "tiny")
    with pytest.raises(OutOfMemoryError, match="Close other programs"):
        biozoo_runners.load(folder, device="cuda")
    with biozoo_runners.load(folder) as model:
        report = model(np.ones((16, 16), np.float32), axes="yx").report
    assert report.ran.device == "cpu"
    assert "auto took the CPU: Model 'tiny' (weights.onnx) ran out of memory on cuda" in str(report)


# ------------------------------------------------------------------------ memory on the card


class FakeNvml:
    """The driver's library: per card the bytes in use and the processes with theirs."""

    def __init__(self, cards: list[tuple[int, dict[int, int]]], *, init: int = 0) -> None:
        self.cards, self.init = cards, init

    def nvmlInit_v2(self) -> int:
        return self.init

    def nvmlDeviceGetCount_v2(self, count: Any) -> int:
        count._obj.value = len(self.cards)
        return 0

    def nvmlDeviceGetHandleByIndex_v2(self, index: int, handle: Any) -> int:
        handle._obj.value = index + 1
        return 0

    def nvmlDeviceGetMemoryInfo(self, handle: Any, memory: Any) -> int:
        memory._obj.used = self.cards[handle.value - 1][0]
        return 0

    def nvmlDeviceGetComputeRunningProcesses_v3(self, handle: Any, count: Any, rows: Any) -> int:
        processes = self.cards[handle.value - 1][1]
        for row, (pid, used) in zip(rows, processes.items(), strict=False):
            row.pid, row.used = pid, used
        count._obj.value = len(processes)
        return 0


def test_memory_of_this_process_over_all_cards() -> None:
    nvml_library = FakeNvml([(9000, {7: 100, 8: 5000}), (500, {7: 30})])
    memory = nvml.DeviceMemory(lambda name: nvml_library, pid=7)
    assert memory.look() == 130
    nvml_library.cards[0][1][7] = 700
    assert memory.look() == 730
    nvml_library.cards[0][1][7] = 10
    assert memory.look() == 40
    assert memory.peak == 730


@pytest.mark.parametrize("processes", [{}, {8: 400}, {7: nvml._UNKNOWN}])
def test_where_the_driver_does_not_know_the_process_growth_is_told(
    processes: dict[int, int],
) -> None:
    library = FakeNvml([(1000, processes)])
    memory = nvml.DeviceMemory(lambda name: library, pid=7)
    assert memory.look() == 0
    library.cards[0] = (1700, processes)
    assert memory.look() == 700
    library.cards[0] = (600, processes)
    assert (memory.look(), memory.peak) == (0, 700)


def test_rows_lie_as_the_driver_lays_them() -> None:
    assert (ctypes.sizeof(nvml._Memory), ctypes.sizeof(nvml._Process)) == (24, 24)


def test_without_a_driver_memory_is_not_known() -> None:
    def none(name: str) -> Any:
        raise OSError(f"{name}: cannot open shared object file")

    for load in (none, lambda name: FakeNvml([], init=9)):
        memory = nvml.DeviceMemory(load)
        assert (memory.look(), memory.peak) == (None, None)
    assert "cannot be loaded" in nvml.cuda_start_error(none)


@pytest.mark.parametrize(("code", "said"), [(0, ""), (803, "error 803, system has unsupported")])
def test_what_the_driver_answers_to_cuda(code: int, said: str) -> None:
    def describe(number: int, text: Any) -> int:
        text._obj.value = b"system has unsupported display driver / cuda driver combination"
        return 0

    library = SimpleNamespace(cuInit=lambda flags: code, cuGetErrorString=describe)
    told = nvml.cuda_start_error(lambda name: library)
    assert said in told
    assert bool(told) == bool(code)


def test_memory_on_the_card_is_measured_by_the_onnx_backend(
    tmp_path: Path, fake: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = FakeNvml([(10, {})])
    monkeypatch.setattr(
        onnx_backend, "DeviceMemory", lambda: nvml.DeviceMemory(lambda name: library, pid=7)
    )
    fake.InferenceSession.providers = (CUDA, CPU)
    backend = opened(tmp_path, "cuda")
    library.cards[0] = (10, {7: 2**30})
    assert backend.peak_device_memory == 2**30
    library.cards[0] = (10, {7: 2**31})
    backend.close()
    library.cards[0] = (10, {})
    assert backend.peak_device_memory == 2**31
    fake.InferenceSession.providers = (CPU,)
    assert opened(tmp_path, "cpu").peak_device_memory is None


# ---------------------------------------------------------------------------- in the report


def report(**more: Any) -> RunReport:
    facts: dict[str, Any] = {
        "model": "tiny", "version": None, "asked": Asked(), "plan": "1 tile", "tiles": 1,
        "items": 1, "megapixels": 1.0, "peak_memory": 400_000_000,
        "ran": BackendInfo("onnxruntime", "9.9", "onnx", "cuda", (CUDA, CPU), 2),
        "seconds": {"load": 0.0, "read": 0.0, "compute": 0.0, "total": 1.0},
    }  # fmt: skip
    return RunReport(**facts | more)


def test_the_report_names_every_memory() -> None:
    text = str(
        report(added_memory=90_000_000, child_memory=812_000_000, device_memory=1_300_000_000)
    )
    assert f"onnxruntime 9.9 ({CUDA}, {CPU})" in text
    assert "400 MB in this process (this run added 90 MB)" in text
    assert "812 MB in its child process" in text
    assert "1.3 GB on cuda" in text
    assert "on cuda not known" in str(report())
    on_cpu = report(ran=BackendInfo("x", "1", "onnx", "cpu", (CPU,), 1))
    assert str(on_cpu).count("400 MB in this process") == 1
    assert "cuda" not in str(on_cpu)


def test_the_report_joins_memories_by_their_largest() -> None:
    one = report(added_memory=5, child_memory=7, device_memory=None)
    two = report(added_memory=3, child_memory=9, device_memory=11)
    joined = RunReport.joined([one, two])
    assert (joined.added_memory, joined.child_memory, joined.device_memory) == (5, 9, 11)
    facts = joined.to_dict()
    assert facts["device_memory"] == 11
    assert facts["added_memory"] == 5
    assert facts["ran"]["providers"] == (CUDA, CPU)


def test_prints_of_other_threads_pass(capsys: pytest.CaptureFixture[str]) -> None:
    with onnx_session._own_prints() as caught:
        print("of the library")
        thread = threading.Thread(target=lambda: print("of the program"))
        thread.start()
        thread.join()
    assert caught.getvalue() == "of the library\n"
    assert capsys.readouterr().out == "of the program\n"
