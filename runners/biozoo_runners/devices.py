"""What this machine has: cores, memory, graphics cards, installed libraries.

Cheap: no framework is imported. What a framework really uses is asked of the framework after it
has loaded a model (see a backend's `info`), because an installed CUDA build does not mean that
CUDA works.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from biozoo.errors import UsageError

__all__ = [
    "LIBRARIES",
    "ONNX_RUNTIMES",
    "CudaDevice",
    "Machine",
    "cuda_index",
    "detect",
    "importable",
    "installed",
    "is_cuda",
    "parse_device",
    "usable_cores",
]

#: Distributions that all provide the module onnxruntime: one at most may be installed.
ONNX_RUNTIMES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-directml",
    "onnxruntime-openvino",
    "onnxruntime-qnn",
    "onnxruntime-training",
)

#: Distributions that a backend may come from.
LIBRARIES = (*ONNX_RUNTIMES, "openvino", "torch", "tensorflow", "keras")

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A graphics card as CUDA would number it; memory in bytes (0 unknown)."""

    index: int
    name: str
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that decide what can run here.

    Attributes
    ----------
    cores
        Physical cores this process may use (affinity and container limits applied).
    threads
        Logical cores this process may use.
    memory
        Bytes of memory this process may use (container limit applied).
    memory_available
        Bytes free when looked at.
    cuda
        NVIDIA cards visible to this process.
    driver
        The NVIDIA driver's version, or None.
    libraries
        Installed distribution name -> version, of those a backend may need.
    """

    cores: int = 1
    threads: int = 1
    memory: int = 0
    memory_available: int = 0
    cuda: tuple[CudaDevice, ...] = ()
    driver: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)

    def has(self, library: str) -> bool:
        """Whether a distribution is installed."""
        return library in self.libraries

    def __str__(self) -> str:
        cards = ", ".join(card.name for card in self.cuda) or "no NVIDIA card"
        return f"{self.cores} cores, {self.memory / 2**30:.0f} GiB memory, {cards}"


def parse_device(text: str) -> str:
    """The device a person asked for: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises
    ------
    UsageError
        For anything else.
    """
    device = text.strip().lower()
    if _DEVICE.fullmatch(device):
        return device
    raise UsageError(f"No device is called '{text}'. Use auto, cpu, cuda or cuda:1.")


def is_cuda(device: str) -> bool:
    """Whether a parsed device names an NVIDIA card."""
    return device.startswith("cuda")


def cuda_index(device: str) -> int:
    """The card's number in ``cuda:N``; 0 for plain ``cuda``."""
    return int(device.partition(":")[2] or 0)


def detect() -> Machine:
    """Look at this machine; some milliseconds, plus nvidia-smi's time where there is a card."""
    import psutil

    logical, physical = usable_cores()
    memory = psutil.virtual_memory()
    limit = _first_number(
        Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes")
    )
    total = min(memory.total, limit) if limit else memory.total
    driver, cards = _nvidia()
    return Machine(
        cores=physical,
        threads=logical,
        memory=total,
        memory_available=min(memory.available, total),
        cuda=_visible(cards, os.environ.get("CUDA_VISIBLE_DEVICES")),
        driver=driver,
        libraries=installed(LIBRARIES),
    )


def installed(names: Iterable[str]) -> dict[str, str]:
    """Name -> version of those distributions that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def importable(module: str) -> bool:
    """Whether a top-level module could be imported, without importing it."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def usable_cores() -> tuple[int, int]:
    """Usable logical and physical cores: a container or taskset may allow fewer than exist."""
    import psutil

    logical = psutil.cpu_count() or 1
    physical = psutil.cpu_count(logical=False) or logical
    allowed = logical
    if hasattr(os, "sched_getaffinity"):  # not on macOS and Windows
        allowed = min(allowed, len(os.sched_getaffinity(0)))
    if quota := _cpu_quota():
        allowed = min(allowed, max(1, math.ceil(quota)))
    return max(1, allowed), max(1, min(physical, allowed))


def _cpu_quota(
    v2: Path = Path("/sys/fs/cgroup/cpu.max"), v1: Path = Path("/sys/fs/cgroup/cpu")
) -> float | None:
    """Cores that a container's CPU limit allows, or None without a limit."""
    try:
        quota, period = v2.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    except (OSError, ValueError):
        pass
    quota_us = _first_number(v1 / "cpu.cfs_quota_us")
    period_us = _first_number(v1 / "cpu.cfs_period_us")
    return quota_us / period_us if quota_us and period_us else None


def _first_number(*paths: Path) -> int | None:
    """The first positive number that one of the files holds; None for "max", -1 or no file."""
    for path in paths:
        try:
            number = int(path.read_text().strip())
        except (OSError, ValueError):
            continue
        if number > 0:
            return number
    return None


def _nvidia() -> tuple[str | None, tuple[CudaDevice, ...]]:
    """Driver version and cards, from nvidia-smi or else from what the driver shows in /proc."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        fields = "--query-gpu=index,name,memory.total,driver_version"
        try:
            answer = subprocess.run(
                [program, fields, "--format=csv,noheader,nounits"],
                capture_output=True,
                text=True,
                timeout=10,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            pass
        else:
            return _parse_smi(answer.stdout)
    return _from_proc(Path("/proc/driver/nvidia"))


def _parse_smi(text: str) -> tuple[str | None, tuple[CudaDevice, ...]]:
    """Cards from ``index, name, memory in MiB, driver`` lines."""
    cards, driver = [], None
    for line in text.splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) == 4 and parts[0].isdigit():
            memory = int(parts[2]) * 2**20 if parts[2].isdigit() else 0
            cards.append(CudaDevice(int(parts[0]), parts[1], memory))
            driver = parts[3]
    return driver, tuple(cards)


def _from_proc(root: Path) -> tuple[str | None, tuple[CudaDevice, ...]]:
    """Cards that the Linux driver lists, for a container without nvidia-smi."""
    cards = []
    for index, path in enumerate(sorted(root.glob("gpus/*/information"))):
        try:
            model = re.search(r"Model:\s*(.+)", path.read_text())
        except OSError:
            continue
        cards.append(CudaDevice(index, model.group(1).strip() if model else "NVIDIA card"))
    try:
        version = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", (root / "version").read_text())
    except OSError:
        version = None
    return (version.group(1) if version else None), tuple(cards)


def _visible(cards: tuple[CudaDevice, ...], wish: str | None) -> tuple[CudaDevice, ...]:
    """The cards that CUDA_VISIBLE_DEVICES leaves, renumbered as CUDA does."""
    if wish is None:
        return cards
    by_index = {str(card.index): card for card in cards}
    kept: list[CudaDevice] = []
    for entry in wish.split(","):
        entry = entry.strip()
        if entry in by_index:
            card = by_index[entry]
        elif entry.startswith(("GPU-", "MIG-")) and len(kept) < len(cards):
            card = cards[len(kept)]  # by UUID: which one does not matter to the choice of a device
        else:
            break  # CUDA ignores everything after the first invalid entry
        kept.append(CudaDevice(len(kept), card.name, card.memory))
    return tuple(kept)
