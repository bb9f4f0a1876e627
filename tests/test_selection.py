"""Which backend and device are chosen on machines that are not this one."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest

from biozoo.errors import DeviceError, NoBackendError, UntrustedCodeError, UsageError
from biozoo.package import ModelPackage
from biozoo_runners.base import Availability, Backend
from biozoo_runners.devices import CudaDevice, Machine
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.selection import PREFERENCE, Rejection, Wish, open_selected, select, weigh
from coded import CodeBackend, TorchBackend, with_code
from packages import change_rdf, make_package, read_rdf

CARDS = (CudaDevice(0, "NVIDIA A"), CudaDevice(1, "NVIDIA B"))
BARE = Machine(cores=4)
CPU = Machine(cores=4, libraries={"onnxruntime": "1.32.0"})
GPU = Machine(cores=4, cuda=CARDS, libraries={"onnxruntime-gpu": "1.32.0"})
GPU_UNUSED = Machine(cores=4, cuda=CARDS, libraries={"onnxruntime": "1.32.0"})
GPU_BUILD_NO_CARD = Machine(cores=4, libraries={"onnxruntime-gpu": "1.32.0"})
BOTH = Machine(
    cores=4, cuda=CARDS, libraries={"onnxruntime": "1.32.0", "onnxruntime-gpu": "1.32.0"}
)

BUILT_IN: dict[str, type[Backend]] = {"onnx": OnnxBackend}


def package(*formats: str) -> Any:
    return SimpleNamespace(
        id="tiny",
        origin="folder",
        source="my models/tiny",
        raw={"weights": {f: {} for f in formats}},
        summary=SimpleNamespace(weights=formats),
    )


@pytest.mark.parametrize(
    ("machine", "wish", "device"),
    [
        (CPU, "auto", "cpu"),
        (CPU, "cpu", "cpu"),
        (GPU, "auto", "cuda"),
        (GPU, "cuda", "cuda"),
        (GPU, "cuda:1", "cuda:1"),
        (GPU, "cpu", "cpu"),
        (GPU_UNUSED, "auto", "cpu"),
        (GPU_BUILD_NO_CARD, "auto", "cpu"),
        (BOTH, "auto", "cpu"),
    ],
)
def test_device(machine: Machine, wish: str, device: str) -> None:
    chosen = select(package("onnx"), machine, Wish(device=wish), BUILT_IN)
    assert (chosen.weights_format, chosen.backend, chosen.device) == ("onnx", OnnxBackend, device)


@pytest.mark.parametrize(
    ("machine", "why"),
    [
        (CPU, "auto took the CPU: this machine has no NVIDIA card"),
        (
            GPU_UNUSED,
            "auto took the CPU: this onnxruntime has no CUDA: pip uninstall -y onnxruntime",
        ),
        (BOTH, "auto took the CPU: onnxruntime and onnxruntime-gpu are both installed"),
        (GPU, ""),
    ],
)
def test_auto_on_the_cpu_says_why(machine: Machine, why: str) -> None:
    chosen = select(package("onnx"), machine, Wish(), BUILT_IN)
    assert chosen.why.startswith(why)
    assert bool(chosen.why) == bool(why)
    assert select(package("onnx"), machine, Wish(device="cpu"), BUILT_IN).why == ""


@pytest.mark.parametrize(
    ("machine", "wish", "message"),
    [
        (CPU, "cuda", "this machine has no NVIDIA card"),
        (
            GPU,
            "cuda:2",
            r"there is no such card. Here are: cuda:0 \(NVIDIA A\), cuda:1 \(NVIDIA B\)",
        ),
    ],
)
def test_a_card_that_is_not_there(machine: Machine, wish: str, message: str) -> None:
    with pytest.raises(DeviceError, match=message):
        select(package("onnx"), machine, Wish(device=wish), BUILT_IN)


@pytest.mark.parametrize(
    ("formats", "machine", "wish", "reasons"),
    [
        (
            ("torchscript", "pytorch_state_dict"),
            CPU,
            Wish(),
            {"torchscript": "no backend for it is installed", "pytorch_state_dict": "no backend"},
        ),
        (
            ("onnx",),
            BARE,
            Wish(),
            {"onnx": "onnxruntime is not installed. Install it: "},
        ),
        (
            ("onnx", "torchscript"),
            CPU,
            Wish(weights="torchscript"),
            {"onnx": "torchscript was asked for", "torchscript": "no backend for it is installed"},
        ),
        ((), CPU, Wish(), {"weights": "the package has none"}),
    ],
)
def test_every_rejection_has_its_reason(
    formats: tuple[str, ...], machine: Machine, wish: Wish, reasons: dict[str, str]
) -> None:
    with pytest.raises(NoBackendError) as caught:
        select(package(*formats), machine, wish, BUILT_IN)
    got = caught.value.reasons
    assert list(got) == list(reasons)
    for candidate, reason in reasons.items():
        assert got[candidate].startswith(reason)
    assert caught.value.exit_code == 3


def test_the_install_line_suits_the_machine() -> None:
    with pytest.raises(NoBackendError, match=r"\[cpu\]"):
        select(package("onnx"), BARE, Wish(), BUILT_IN)
    with pytest.raises(NoBackendError, match=r"\[gpu\]"):
        select(package("onnx"), Machine(cuda=CARDS), Wish(), BUILT_IN)


def test_wished_weights_that_the_package_lacks() -> None:
    with pytest.raises(UsageError, match="has no 'keras_v3' weights; it has onnx, torchscript"):
        select(package("torchscript", "onnx"), CPU, Wish(weights="keras_v3"), BUILT_IN)


def test_onnx_comes_first_and_the_others_are_told() -> None:
    """Two backends for one format, and a second format."""
    backends: dict[str, type[Backend]] = {"torch": TorchBackend, "onnx": OnnxBackend}
    chosen = select(package("torchscript", "onnx", "keras_v3"), GPU, Wish(), backends)
    assert (chosen.weights_format, chosen.backend, chosen.device) == ("onnx", OnnxBackend, "cuda")
    assert chosen.rejected[:2] == (
        Rejection("onnx on torch", "onnx on onnxruntime comes first"),
        Rejection("torchscript", "onnx on onnxruntime comes first"),
    )
    assert chosen.rejected[2].candidate == "keras_v3"
    asked = select(package("torchscript", "onnx"), GPU, Wish(weights="torchscript"), backends)
    assert (asked.backend, asked.device) == (TorchBackend, "cpu")
    fallback = select(package("torchscript", "onnx"), BARE, Wish(), backends)
    assert fallback.backend is TorchBackend
    assert fallback.rejected[0].candidate == "onnx on onnxruntime"
    assert fallback.rejected[0].reason.startswith("onnxruntime is not installed")


def test_a_plug_in_that_failed_to_load_is_named() -> None:
    with pytest.raises(NoBackendError, match="plug-in 'torch' failed: No module named 'torch'"):
        select(package("torchscript"), CPU, Wish(), BUILT_IN, {"torch": "No module named 'torch'"})


def test_unknown_formats_come_last() -> None:
    with pytest.raises(NoBackendError) as caught:
        select(package("brand_new", *reversed(PREFERENCE)), BARE, Wish(), {})
    assert list(caught.value.reasons) == [*PREFERENCE, "brand_new"]


class BrokenCuda(TorchBackend):
    """A card is there, and CUDA does not start."""

    def __init__(self, device: str):
        self.device = device

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        return Availability(True, devices=("cuda", "cpu"))

    @classmethod
    def open(cls, package: Any, weights_format: str, **how: Any) -> Self:
        if how["device"] != "cpu":
            raise DeviceError(device=how["device"], why="cuDNN is missing")
        return cls("cpu")


def test_auto_goes_on_with_the_cpu_where_cuda_does_not_start() -> None:
    """And says why; who asked for the card gets the error."""
    auto = Wish()
    chosen = select(package("onnx"), GPU, auto, {"broken": BrokenCuda})
    assert chosen.device == "cuda"
    backend, why = open_selected(package("onnx"), chosen, auto)
    assert isinstance(backend, BrokenCuda)
    assert backend.device == "cpu"
    assert why.startswith("auto took the CPU: Device 'cuda' cannot be used: cuDNN is missing")
    with pytest.raises(DeviceError, match="cuDNN is missing"):
        open_selected(package("onnx"), chosen, Wish(device="cuda"))


# -------------------------------------------------------------------------------- code, backend

TORCH = Machine(cores=4, libraries={"torch": "2.14"})
WITH_CODE: dict[str, type[Backend]] = {"code": CodeBackend, "torch": TorchBackend}


def test_weights_that_run_code_are_taken_where_it_is_allowed_only() -> None:
    state_dict = package("pytorch_state_dict", "torchscript")
    chosen = select(state_dict, TORCH, Wish(), WITH_CODE)
    assert chosen.backend is TorchBackend
    assert chosen.rejected[0].candidate == "pytorch_state_dict"  # after torchscript in any case
    chosen, rejected = weigh(package("pytorch_state_dict"), TORCH, Wish(), WITH_CODE)
    assert chosen is None
    assert [(r.candidate, r.obstacle) for r in rejected] == [("pytorch_state_dict", "trust")]
    assert rejected[0].reason.endswith("zoo trust 'my models/tiny'")
    allowed = select(package("pytorch_state_dict"), TORCH, Wish(), WITH_CODE, trusted=True)
    assert (allowed.backend, allowed.device) == (CodeBackend, "cpu")


@pytest.mark.parametrize("wish", [Wish(), Wish(weights="pytorch_state_dict")])
def test_code_as_the_one_obstacle_is_its_own_error(tmp_path: Path, wish: Wish) -> None:
    """Weights that nothing runs, or that were not asked for, do not count."""
    folder = with_code(make_package(tmp_path / "p", validate=False))
    weights = read_rdf(folder)["weights"]
    other = "onnx" if wish.weights else "tensorflow_js"
    change_rdf(folder, weights={**weights, other: weights["pytorch_state_dict"]})
    model = ModelPackage.from_folder(folder, source="my models/tiny")
    backends = {**WITH_CODE, "onnx": OnnxBackend}
    with pytest.raises(UntrustedCodeError) as caught:
        select(model, TORCH, wish, backends)
    assert "architecture net.py:Net" in caught.value.message
    assert caught.value.message.endswith("zoo trust 'my models/tiny'")


def test_code_as_one_of_several_obstacles_is_listed() -> None:
    both = package("pytorch_state_dict", "onnx")
    with pytest.raises(NoBackendError) as caught:
        select(both, TORCH, Wish(), {"code": CodeBackend, "onnx": OnnxBackend})
    assert caught.value.reasons["onnx"].startswith("onnxruntime is not installed")
    assert "zoo trust" in caught.value.reasons["pytorch_state_dict"]
    with pytest.raises(NoBackendError, match="torch is not installed"):
        select(package("pytorch_state_dict"), BARE, Wish(), WITH_CODE)  # first things first


def test_a_card_that_no_candidate_can_use_is_a_device_error() -> None:
    with pytest.raises(DeviceError, match="onnxruntime offers cpu here, cuda was asked for") as one:
        select(package("onnx"), GPU_UNUSED, Wish(device="cuda"), BUILT_IN)
    assert "pip uninstall -y onnxruntime" in one.value.message  # the cause, and what to do
    with pytest.raises(DeviceError, match="both installed"):
        select(package("onnx"), BOTH, Wish(device="cuda"), BUILT_IN)
    backends: dict[str, type[Backend]] = {"torch": TorchBackend, "code": CodeBackend}
    unallowed = package("torchscript", "pytorch_state_dict")
    with pytest.raises(NoBackendError) as several:
        select(unallowed, Machine(cuda=CARDS), Wish(device="cuda"), backends)
    assert set(several.value.reasons) == {"torchscript", "pytorch_state_dict"}


def test_a_backend_that_was_asked_for() -> None:
    backends: dict[str, type[Backend]] = {"torch": TorchBackend, "onnx": OnnxBackend}
    chosen = select(package("onnx"), CPU, Wish(backend="torch"), backends)
    assert chosen.backend is TorchBackend
    assert chosen.rejected == (Rejection("onnx on onnxruntime", "torch was asked for"),)
    with pytest.raises(
        UsageError, match="No backend is called 'tvm'; there are onnxruntime, torch"
    ):
        select(package("onnx"), CPU, Wish(backend="tvm"), backends)
    with pytest.raises(UsageError, match="Backend 'onnxruntime' runs onnx; model 'tiny' is asked"):
        select(package("torchscript"), CPU, Wish(backend="onnxruntime"), backends)
    with pytest.raises(NoBackendError, match="onnxruntime is not installed"):
        select(package("onnx"), BARE, Wish(backend="onnxruntime"), backends)
