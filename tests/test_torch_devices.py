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
from biozoo_runners.torch_devices import availability, resolve, torch_threads
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
