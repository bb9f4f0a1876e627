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
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from biozoo.errors import UsageError

from .device_causes import driver_too_old, no_such_card, what_to_do, why_no_cuda
from .nvidia import CudaDevice, Nvidia, look

__all__ = [
    "LIBRARIES",
    "ONNX_RUNTIMES",
    "CudaDevice",
    "Machine",
    "Nvidia",
    "cuda_index",
    "detect",
    "driver_too_old",
    "importable",
    "installed",
    "is_cuda",
    "no_such_card",
    "parse_device",
    "usable_cores",
    "what_to_do",
    "why_no_cuda",
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
LIBRARIES = (*ONNX_RUNTIMES, "openvino", "torch", "tensorflow", "tensorflow-cpu", "keras")

_DEVICE = re.compile(r"auto|cpu|cuda(:\d+)?")


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
    cuda_builds
        Installed distribution name -> CUDA version that it was built for ("12.8"; "" without
        CUDA), of those that say so in a file.
    nvidia
        What was seen of NVIDIA cards and their driver; `why_no_cuda` reads it.
    system
        `sys.platform`.
    """

    cores: int = 1
    threads: int = 1
    memory: int = 0
    memory_available: int = 0
    cuda: tuple[CudaDevice, ...] = ()
    driver: str | None = None
    libraries: Mapping[str, str] = field(default_factory=dict)
    cuda_builds: Mapping[str, str] = field(default_factory=dict)
    nvidia: Nvidia = field(default_factory=Nvidia)
    system: str = "linux"

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
    nvidia, libraries = look(), installed(LIBRARIES)
    return Machine(
        cores=physical,
        threads=logical,
        memory=total,
        memory_available=min(memory.available, total),
        cuda=nvidia.usable,
        driver=nvidia.driver,
        libraries=libraries,
        cuda_builds=_cuda_builds(libraries),
        nvidia=nvidia,
        system=sys.platform,
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


#: Files that say for which CUDA a library was built, beside the module's own file.
_BUILD_FILES = {"torch": "version.py", "onnxruntime": "capi/build_and_package_info.py"}
_BUILT_FOR = re.compile(r"^cuda(?:_version)?\b[^=\n]*=\s*['\"]([\d.]+)['\"]", re.MULTILINE)


def _cuda_builds(libraries: Iterable[str]) -> dict[str, str]:
    """For which CUDA installed libraries were built, read from their files, not imported."""
    found = {}
    for library in libraries:
        module = "onnxruntime" if library in ONNX_RUNTIMES else library
        if module not in _BUILD_FILES:
            continue
        try:
            spec = importlib.util.find_spec(module)
            text = Path(str(spec and spec.origin)).parent.joinpath(_BUILD_FILES[module]).read_text()
        except (ImportError, ValueError, OSError):
            continue
        said = _BUILT_FOR.search(text)
        found[library] = said.group(1) if said else ""
    return found


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
