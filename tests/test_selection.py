"""Which backend and device are chosen on machines that are not this one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, ClassVar, Self

import pytest

from biozoo.errors import DeviceError, NoBackendError, UsageError
from biozoo_runners.base import Availability, Backend
from biozoo_runners.devices import CudaDevice, Machine
from biozoo_runners.onnx import OnnxBackend
from biozoo_runners.selection import PREFERENCE, Rejection, Wish, open_selected, select

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


class TorchBackend(Backend):
    """A plug-in that takes two formats, on the CPU only."""

    name: ClassVar[str] = "torch"
    weights_formats: ClassVar[tuple[str, ...]] = ("torchscript", "onnx")

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        return Availability(True, devices=("cpu",))

    @classmethod
    def open(cls, package: Any, weights_format: str, **_: Any) -> Self:
        raise AssertionError("choosing loads nothing")

    def run(self, inputs: Any) -> Any:
        raise AssertionError

    @property
    def info(self) -> Any:
        raise AssertionError

    def close(self) -> None:
        raise AssertionError


def package(*formats: str) -> Any:
    return SimpleNamespace(id="tiny", summary=SimpleNamespace(weights=formats))


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
        (CPU, "auto took the CPU: no NVIDIA card was found"),
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
            {"onnx": "onnxruntime is not installed. Install it: pip install"},
        ),
        (
            ("onnx",),
            GPU_UNUSED,
            Wish(device="cuda"),
            {"onnx": "onnxruntime offers cpu here, cuda was asked for (this onnxruntime"},
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
    with pytest.raises(NoBackendError, match=r'pip install "biozoo\[cpu\]"'):
        select(package("onnx"), BARE, Wish(), BUILT_IN)
    with pytest.raises(NoBackendError, match=r'pip install "biozoo\[gpu\]"'):
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
