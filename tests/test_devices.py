"""What is found out about a machine, and which words name a device."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from biozoo.errors import UsageError
from biozoo_runners import devices, nvidia
from biozoo_runners.devices import (
    CudaDevice,
    Machine,
    Nvidia,
    cuda_index,
    detect,
    is_cuda,
    parse_device,
)


@pytest.mark.parametrize(
    ("text", "device", "cuda"),
    [
        ("auto", "auto", False),
        ("CPU", "cpu", False),
        (" cuda ", "cuda", True),
        ("cuda:1", "cuda:1", True),
    ],
)
def test_devices_people_type(text: str, device: str, cuda: bool) -> None:
    assert parse_device(text) == device
    assert is_cuda(device) == cuda


@pytest.mark.parametrize("text", ["", "gpu", "cuda:", "cuda:-1", "cuda1", "mps", "cpu:0"])
def test_other_words_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="Use auto, cpu, cuda or cuda:1"):
        parse_device(text)


def test_card_number() -> None:
    assert [cuda_index(d) for d in ("cuda", "cuda:0", "cuda:12")] == [0, 0, 12]


def test_this_machine() -> None:
    """Numbers are plausible, and no framework was imported to get them."""
    machine = detect()
    assert 1 <= machine.cores <= machine.threads <= (os.cpu_count() or 1)
    assert 0 < machine.memory_available <= machine.memory
    assert machine.has("onnxruntime") or machine.has("onnxruntime-gpu")
    assert "cores" in str(machine)
    code = (
        "import sys; from biozoo_runners.devices import detect; detect();"
        "print([m for m in ('torch', 'onnxruntime', 'tensorflow') if m in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout.strip() == "[]"


def test_a_container_may_allow_fewer_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits of cgroup 2 and 1 limits are read; none, or nonsense, is no limit."""
    v2, v1 = tmp_path / "cpu.max", tmp_path / "cpu"
    v1.mkdir()
    assert devices._cpu_quota(v2, v1) is None
    (v1 / "cpu.cfs_quota_us").write_text("-1\n")
    (v1 / "cpu.cfs_period_us").write_text("100000\n")
    assert devices._cpu_quota(v2, v1) is None
    (v1 / "cpu.cfs_quota_us").write_text("250000\n")
    assert devices._cpu_quota(v2, v1) == 2.5
    v2.write_text("max 100000\n")
    assert devices._cpu_quota(v2, v1) is None
    v2.write_text("150000 100000\n")
    assert devices._cpu_quota(v2, v1) == 1.5
    v2.write_text("what\n")
    assert devices._cpu_quota(v2, v1) == 2.5
    monkeypatch.setattr(devices, "_cpu_quota", lambda: 0.5)
    assert devices.usable_cores() == (1, 1)


def test_nvidia_smi_is_read() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 81559, 570.86.15\n1, Quadro, [N/A], 570.86.15\nnonsense\n"
    driver, cards = nvidia._parse_smi(text)
    assert driver == "570.86.15"
    assert cards == (
        CudaDevice(0, "NVIDIA H100 80GB HBM3", 81559 * 2**20),
        CudaDevice(1, "Quadro", 0),
    )
    assert nvidia._parse_smi("No devices were found\n") == (None, ())


def test_a_driver_without_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Linux driver's own listing, as in a slim container."""
    monkeypatch.setattr(nvidia.shutil, "which", lambda name: None)
    assert nvidia.look(tmp_path, env={}, program=None).listed == ()
    proc = tmp_path / "proc/driver/nvidia"
    (proc / "gpus/0000:01:00.0").mkdir(parents=True)
    (proc / "gpus/0000:01:00.0/information").write_text("Model: \t\t NVIDIA A40\nIRQ: 1\n")
    (proc / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  x\n")
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidia0").touch()
    found = nvidia.look(tmp_path, env={}, program=None)
    assert (found.driver, found.listed) == ("550.54.14", (CudaDevice(0, "NVIDIA A40"),))

    def refused(command: object) -> Any:
        raise PermissionError("Operation not permitted")

    def unlisted(folder: Path, pattern: str) -> Iterator[Path]:
        return iter(() if folder == tmp_path / "dev" else glob(folder, pattern))

    # Nor may a process start it that is confined; it may not list /dev either.
    glob = Path.glob
    monkeypatch.setattr(Path, "glob", unlisted)
    assert nvidia.look(tmp_path, env={}, program="nvidia-smi", run=refused) == found


CARDS = tuple(CudaDevice(i, name, 0) for i, name in enumerate("abc"))


@pytest.mark.parametrize(
    ("wish", "names"),
    [
        (None, "abc"),
        ("", ""),
        ("-1", ""),
        ("2,0", "ca"),
        ("1", "b"),
        ("0,7,1", "a"),
        ("GPU-5f", "a"),
    ],
)
def test_cuda_visible_devices(wish: str | None, names: str) -> None:
    """Cards are hidden and renumbered as CUDA does it."""
    cards = Nvidia(listed=CARDS, visible=wish).usable
    assert "".join(card.name for card in cards) == names
    assert [card.index for card in cards] == list(range(len(names)))


def test_libraries_are_found_by_metadata() -> None:
    found = devices.installed(["numpy", "no-such-distribution"])
    assert list(found) == ["numpy"]
    assert devices.importable("numpy")
    assert not devices.importable("no_such_module")
    assert str(Machine(cores=2, memory=2**34, cuda=CARDS[:1])) == "2 cores, 16 GiB memory, a"
