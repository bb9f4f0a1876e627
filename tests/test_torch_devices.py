"""torch's part in device truth: which devices, why not, threads; all without a card."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biozoo.errors import DeviceError
from biozoo_runners import load, torch_devices
from biozoo_runners.devices import CudaDevice, Machine
from biozoo_runners.torch_devices import availability, full_float32, resolve, torch_threads
from biozoo_runners.torchscript import TorchScriptBackend
from packages import make_package
from weights_torch import add_torchscript

CARD = Machine(cuda=(CudaDevice(0, "card"),), driver="999.0", libraries={"torch": "2.6"})


# ---------------------------------------------------------------------------------- device


@pytest.mark.parametrize(
    ("libraries", "builds", "cards", "devices", "reason"),
    [
        ({}, {}, 1, (), "torch is not installed"),
        ({"torch": "2.6"}, {"torch": "12.4"}, 0, ("cpu",), ""),
        ({"torch": "2.6"}, {"torch": "12.4"}, 1, ("cuda", "cpu"), ""),
        ({"torch": "2.6"}, {"torch": ""}, 1, ("cpu",), "this torch is built without CUDA"),
        ({"torch": "2.6+cpu"}, {}, 1, ("cpu",), "this torch is built without CUDA"),
        ({"torch": "2.6+cu124"}, {}, 1, ("cuda", "cpu"), ""),
        ({"torch": "2.6"}, {"torch": "13.0"}, 1, ("cpu",), "the NVIDIA driver 550.1 is too old"),
    ],
)
def test_availability(
    libraries: Any, builds: Any, cards: int, devices: tuple[str, ...], reason: str
) -> None:
    """Decided from the names of installed distributions and their files."""
    machine = Machine(
        cuda=tuple(CudaDevice(i, "card") for i in range(cards)),
        driver="550.1",
        libraries=libraries,
        cuda_builds=builds,
    )
    found = TorchScriptBackend.available(machine)
    assert (found.ok, found.devices) == (bool(libraries), devices)
    assert found.reason.startswith(reason)
    assert bool(found.reason) == bool(reason)
    if not libraries:
        assert "[torch]" in found.install
        assert "[keras]" in availability(machine, extra="keras").install


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """A machine with a card and a driver, as far as one can tell without using them."""
    monkeypatch.setattr(torch_devices, "detect", lambda: CARD)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "init", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda index: "GTX 460")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda index: (2, 1))
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_90"])
    return monkeypatch


def test_a_card_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def init() -> None:
        raise RuntimeError("No CUDA GPUs are available")

    monkeypatch.setattr(torch.cuda, "init", init)
    monkeypatch.setattr(torch_devices, "detect", Machine)
    with pytest.raises(DeviceError, match=r"'cuda' cannot be used: .*no NVIDIA"):
        resolve("cuda")
    assert resolve("cpu") == torch.device("cpu")


def test_a_card_and_a_torch_without_cuda(card: pytest.MonkeyPatch) -> None:
    card.setattr(torch.version, "cuda", None)
    with pytest.raises(DeviceError, match=r"built without CUDA: pip uninstall -y torch, then "):
        resolve("cuda")


def test_a_card_that_cuda_does_not_start(card: pytest.MonkeyPatch) -> None:
    """With what torch says; or the driver, where it is known to be too old."""

    def init() -> None:
        raise RuntimeError("CUDA unknown error\nmore")

    card.setattr(torch.cuda, "init", init)
    with pytest.raises(DeviceError, match=r"CUDA could not start .*says CUDA unknown error\. "):
        resolve("cuda")
    old = Machine(
        cuda=CARD.cuda, driver="470.1", libraries=CARD.libraries, cuda_builds={"torch": "13.0"}
    )
    card.setattr(torch_devices, "detect", lambda: old)
    with pytest.raises(DeviceError, match=r"driver 470\.1 is too old.*Update the driver"):
        resolve("cuda")


def test_a_second_card_that_is_not_there(card: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=r"no such card.*cuda:0 \(card\)"):
        resolve("cuda:1")


def test_a_card_that_this_torch_has_no_code_for(card: pytest.MonkeyPatch) -> None:
    def zeros(*args: Any, **more: Any) -> Any:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device")

    card.setattr(torch, "zeros", zeros)
    with pytest.raises(DeviceError, match=r"no code for the card GTX 460 \(sm_21; it has sm_75"):
        resolve("cuda")


def test_auto_goes_on_with_the_cpu_and_says_why(tmp_path: Path, card: pytest.MonkeyPatch) -> None:
    """A card is listed, torch cannot start it: the run goes on, its report tells."""
    import biozoo_runners.devices as devices

    def init() -> None:
        raise RuntimeError("CUDA unknown error")

    card.setattr(torch.cuda, "init", init)
    card.setattr(devices, "detect", lambda: CARD)
    folder = add_torchscript(make_package(tmp_path / "p", validate=False), only=True)
    with load(folder, device="auto") as runner:
        assert runner.info.device == "cpu"
        report = runner(np.ones((16, 16), np.float32), axes="yx").report
    assert any("CUDA could not start" in note for note in report.notes)
    with pytest.raises(DeviceError, match="CUDA could not start"):
        load(folder, device="cuda")


def test_thread_counts_of_two_threads_do_not_mix() -> None:
    """Each has its own number for as long as it wants it; afterwards nothing has changed."""
    before = torch.get_num_threads()
    gate, faults = threading.Barrier(2), []

    def hold(number: int) -> None:
        for _ in range(20):
            gate.wait()
            with torch_threads(number) as told:
                gate.wait()
                if (told, torch.get_num_threads()) != (number, number):
                    faults.append((number, told, torch.get_num_threads()))

    threads = [threading.Thread(target=hold, args=(n,)) for n in (1, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not faults
    assert torch.get_num_threads() == before
    assert torch_devices._in_new_thread(torch.get_num_threads) == before


# ---------------------------------------------------------------------------------- precision

ON_A_CARD = torch.device("cuda", 0)
BACKENDS = torch.backends


def precision() -> list[Any]:
    """Torch's settings of float32 on a card, the older first."""
    settings: list[Any] = [
        lambda: BACKENDS.cudnn.allow_tf32,
        lambda: BACKENDS.cuda.matmul.allow_tf32,
        torch.get_float32_matmul_precision,
    ]
    if hasattr(BACKENDS.cudnn, "conv"):
        owners = (BACKENDS.cudnn.conv, BACKENDS.cudnn.rnn, BACKENDS.cuda.matmul)
        settings += [lambda owner=owner: owner.fp32_precision for owner in owners]
    found = []
    for ask in settings:
        try:
            found.append(ask())
        except RuntimeError:
            found.append("no answer")
    return found


@pytest.fixture
def own_precision() -> Iterator[None]:
    """The settings as torch has them, whatever a test does."""
    yield
    BACKENDS.cudnn.allow_tf32 = True
    torch.set_float32_matmul_precision("highest")
    if hasattr(BACKENDS.cudnn, "conv"):
        BACKENDS.fp32_precision = "none"
        BACKENDS.cudnn.conv.fp32_precision = BACKENDS.cudnn.rnn.fp32_precision = "tf32"
        BACKENDS.cuda.matmul.fp32_precision = "none"


def nothing() -> None:
    """Torch as it is."""


def both() -> None:
    torch.set_float32_matmul_precision("high")


def neither() -> None:
    BACKENDS.cudnn.allow_tf32 = False


def newer() -> None:
    """What torch calls mixing: the older settings have no answer any more."""
    if hasattr(BACKENDS.cudnn, "conv"):
        BACKENDS.cudnn.conv.fp32_precision = "ieee"
        BACKENDS.cuda.matmul.fp32_precision = "tf32"


@pytest.mark.usefixtures("own_precision")
@pytest.mark.parametrize("program", [nothing, both, neither, newer])
def test_a_card_computes_with_all_bits_and_gives_the_setting_back(program: Any) -> None:
    """Whatever the program around had set, and whatever of torch's settings it set."""
    program()
    before = precision()
    with full_float32(torch.device("cpu")):
        assert precision() == before
    with full_float32(ON_A_CARD):
        within = precision()
    assert precision() == before
    assert not {True, "tf32", "high", "medium"}.intersection(within[3:] or within)
    if program is not newer:
        assert within[:3] == [False, False, "highest"]


@pytest.mark.usefixtures("own_precision")
def test_the_last_run_gives_the_setting_back() -> None:
    """Of two that overlap, the first to end must not switch the other's precision."""
    before = precision()
    one, two = full_float32(ON_A_CARD), full_float32(ON_A_CARD)
    one.__enter__()
    two.__enter__()
    one.__exit__(None, None, None)
    assert precision()[0] is False
    two.__exit__(None, None, None)
    assert precision() == before
    with pytest.raises(ValueError, match="fails"), full_float32(ON_A_CARD):
        raise ValueError("a run that fails")
    assert precision() == before
