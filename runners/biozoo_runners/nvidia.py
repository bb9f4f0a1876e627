"""What can be seen of NVIDIA cards from outside CUDA: the bus, the driver, its device files.

Nothing of CUDA is loaded: programs that only ask must not take memory on a card. `look` gathers
facts; what they mean is told by `device_causes`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["CudaDevice", "Nvidia", "look"]

#: Number of the maker NVIDIA on the PCI bus, and how classes of display devices begin.
_MAKER, _DISPLAY = "0x10de", "0x03"

#: Cards of one machine whose device files are looked for.
_MOST = 64

Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A graphics card as CUDA would number it; memory in bytes (0 unknown)."""

    index: int
    name: str
    memory: int = 0


@dataclass(frozen=True, slots=True)
class Nvidia:
    """Facts about NVIDIA cards and their driver.

    Attributes
    ----------
    on_bus
        Cards on the PCI bus; None where the system does not list its bus there (Windows, WSL).
    bound
        Kernel drivers that those cards are bound to ("nvidia", "nouveau", "vfio-pci", ...).
    module
        Version of the driver that the kernel has loaded, or None.
    nodes
        Whether the driver's device files (``/dev/nvidia0``) are there: a container may lack them.
    smi
        What nvidia-smi answered where it failed; "" where it worked or is not installed.
    driver
        The driver's version as nvidia-smi or the kernel tells it, or None.
    listed
        All cards that the driver lists.
    visible
        The value of CUDA_VISIBLE_DEVICES, or None.
    """

    on_bus: int | None = 0
    bound: tuple[str, ...] = ()
    module: str | None = None
    nodes: bool = False
    smi: str = ""
    driver: str | None = None
    listed: tuple[CudaDevice, ...] = ()
    visible: str | None = None

    @property
    def usable(self) -> tuple[CudaDevice, ...]:
        """The cards that CUDA_VISIBLE_DEVICES leaves, renumbered as CUDA does."""
        if self.visible is None:
            return self.listed
        by_index = {str(card.index): card for card in self.listed}
        kept: list[CudaDevice] = []
        for entry in self.visible.split(","):
            entry = entry.strip()
            if entry in by_index:
                card = by_index[entry]
            elif entry.startswith(("GPU-", "MIG-")) and len(kept) < len(self.listed):
                card = self.listed[len(kept)]  # by UUID: which one does not matter for a choice
            else:
                break  # CUDA ignores everything after the first invalid entry
            kept.append(CudaDevice(len(kept), card.name, card.memory))
        return tuple(kept)


def look(
    root: Path = Path("/"),
    *,
    env: Mapping[str, str] = os.environ,
    program: str | None = None,
    run: Run | None = None,
) -> Nvidia:
    """Look for NVIDIA cards; some milliseconds, plus nvidia-smi's time where it is installed.

    Parameters
    ----------
    root
        Where ``sys``, ``proc`` and ``dev`` lie.
    env
        Where CUDA_VISIBLE_DEVICES is looked up.
    program
        nvidia-smi; None looks for it on the path.
    run
        Executes nvidia-smi.
    """
    on_bus, bound = _bus(root / "sys/bus/pci/devices")
    proc = root / "proc/driver/nvidia"
    module = _module(proc / "version")
    # By their names: a confined process may not list the folder.
    nodes = any((root / f"dev/nvidia{number}").exists() for number in range(_MOST))
    smi, driver, cards = _ask_smi(program or shutil.which("nvidia-smi"), run or _run)
    if not cards and not smi and nodes:  # a slim container without nvidia-smi
        cards = _from_proc(proc)
    return Nvidia(
        on_bus=on_bus,
        bound=bound,
        module=module,
        nodes=nodes,
        smi=smi,
        driver=driver or module,
        listed=cards,
        visible=env.get("CUDA_VISIBLE_DEVICES"),
    )


def _run(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)


def _ask_smi(program: str | None, run: Run) -> tuple[str, str | None, tuple[CudaDevice, ...]]:
    """What went wrong, the driver's version and the cards."""
    if program is None:
        return "", None, ()
    fields = "--query-gpu=index,name,memory.total,driver_version"
    try:
        answer = run([program, fields, "--format=csv,noheader,nounits"])
    except subprocess.TimeoutExpired:
        return "it gave no answer within 10 seconds", None, ()
    except PermissionError:  # a confined process: as where it is not installed
        return "", None, ()
    except OSError as exc:
        return str(exc), None, ()
    driver, cards = _parse_smi(answer.stdout)
    if cards:
        return "", driver, cards
    lines = (line.strip() for line in (answer.stdout + "\n" + answer.stderr).splitlines())
    return next(filter(None, lines), "nothing")[:300], driver, ()


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


def _from_proc(root: Path) -> tuple[CudaDevice, ...]:
    """Cards that the Linux driver lists."""
    cards = []
    for index, path in enumerate(sorted(root.glob("gpus/*/information"))):
        try:
            model = re.search(r"Model:\s*(.+)", path.read_text())
        except OSError:
            continue
        cards.append(CudaDevice(index, model.group(1).strip() if model else "NVIDIA card"))
    return tuple(cards)


def _module(path: Path) -> str | None:
    """Version of the loaded kernel driver."""
    try:
        found = re.search(r"\b(\d+\.\d+(?:\.\d+)?)\b", path.read_text())
    except OSError:
        return None
    return found.group(1) if found else None


def _bus(devices: Path) -> tuple[int | None, tuple[str, ...]]:
    """How many NVIDIA cards are on the PCI bus, and the kernel drivers they are bound to."""
    if not devices.is_dir():
        return None, ()
    count, bound = 0, set()
    for device in devices.iterdir():
        try:
            maker = (device / "vendor").read_text().strip().lower()
            kind = (device / "class").read_text().strip()
        except OSError:
            continue
        if maker == _MAKER and kind.startswith(_DISPLAY):
            count += 1
            driver = device / "driver"
            if driver.exists():
                bound.add(driver.resolve().name)
    return count, tuple(sorted(bound))
