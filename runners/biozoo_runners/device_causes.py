"""Why a card cannot be used, and what to do about it: sentences from the facts of a `Machine`.

Pure: everything here is decided from facts that `devices.detect` gathered. What only shows when a
framework is loaded (a missing cuDNN, a card that its build has no code for) is told by the backend.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .devices import Machine

__all__ = ["driver_too_old", "no_such_card", "what_to_do", "why_no_cuda"]

#: CUDA's major version -> first NVIDIA driver that runs it (NVIDIA, "CUDA Compatibility", table 1).
DRIVERS = {11: 450, 12: 525, 13: 580}


def why_no_cuda(machine: Machine) -> str:
    """Why no program on this machine can use an NVIDIA card; "" where one can.

    A clause without a full stop, for "auto took the CPU: ..." and "cannot be used: ...".
    """
    return _diagnose(machine)[0]


def what_to_do(machine: Machine) -> str:
    """What makes the machine's cards usable, as whole sentences; "" where they are."""
    return _diagnose(machine)[1]


def no_such_card(machine: Machine, index: int) -> tuple[str, str]:
    """Why ``cuda:index`` is not there, and what to do; ("", "") where it is."""
    if not machine.cuda:
        return _diagnose(machine)
    if index < len(machine.cuda):
        return "", ""
    here = ", ".join(f"cuda:{card.index} ({card.name})" for card in machine.cuda)
    if (hidden := machine.nvidia.visible) is not None:
        why = f"there is no such card among those that CUDA_VISIBLE_DEVICES={hidden} leaves"
        return why, f"Here are: {here}. Name one of them, or change CUDA_VISIBLE_DEVICES."
    return "there is no such card", f"Here are: {here}."


def driver_too_old(machine: Machine, library: str) -> str:
    """Why the driver cannot run the CUDA that an installed library was built for; "" if it can.

    "" also where either version is unknown.
    """
    built = machine.cuda_builds.get(library, "")
    needed = DRIVERS.get(_major(built))
    if not needed or not machine.driver or _major(machine.driver) >= needed:
        return ""
    return (
        f"the NVIDIA driver {machine.driver} is too old: the installed {library} is built for CUDA "
        f"{built}, which needs driver {needed} or newer"
    )


def _major(version: str) -> int:
    found = re.match(r"\d+", version)
    return int(found.group()) if found else 0


_DRIVER = (
    "Install NVIDIA's driver (Linux: the distribution's package, for example nvidia-driver; "
    "Windows: nvidia.com/drivers), restart, and see that nvidia-smi lists the card."
)
_CPU = "Use --device cpu or auto."


def _diagnose(machine: Machine) -> tuple[str, str]:
    """Cause and remedy; ("", "") where a card can be used."""
    n = machine.nvidia
    count = len(n.listed) or n.on_bus or 0
    cards = f"{count} NVIDIA cards" if count > 1 else "an NVIDIA card"
    them, their = ("them", "their") if count > 1 else ("it", "its")
    if machine.cuda:
        return "", ""
    if n.listed:
        names = ", ".join(f"{card.index} ({card.name})" for card in n.listed)
        return (
            f"CUDA_VISIBLE_DEVICES is '{n.visible}', which hides {cards} of this machine: {names}",
            f"Unset CUDA_VISIBLE_DEVICES or set it to a number of that list. Else: {_CPU}",
        )
    if "mismatch" in n.smi:
        return (
            "NVIDIA's driver was updated and its old part is still running (nvidia-smi says: "
            f"{n.smi})",
            f"Restart the machine. Until then: {_CPU}",
        )
    if n.module and not n.nodes:
        return (
            f"the NVIDIA driver {n.module} is loaded, but this process is not given a card: there "
            "is no /dev/nvidia0",
            "In a container, start it with the cards (docker run --gpus all, with NVIDIA's "
            "container toolkit; apptainer exec --nv); on a cluster, ask the scheduler for a card. "
            f"Else: {_CPU}",
        )
    said = f" (nvidia-smi says: {n.smi})" if n.smi else ""
    if n.module or (n.smi and "no devices" in n.smi.lower()):
        return (
            f"NVIDIA's driver{' ' + n.module if n.module else ''} finds no card{said}",
            f"See what the driver reports: dmesg | grep -i nvidia. Else: {_CPU}",
        )
    if n.on_bus:
        other = [driver for driver in n.bound if driver != "nvidia"]
        bound = f", {them} being bound to {' and '.join(other)}, which has no CUDA" if other else ""
        return (
            f"this machine has {cards}, but {their} NVIDIA driver is not loaded{bound}{said}",
            f"{_DRIVER} Else: {_CPU}",
        )
    if n.smi:
        return f"NVIDIA's driver does not answer{said}", f"{_DRIVER} Else: {_CPU}"
    if machine.system == "darwin":
        return "macOS has no CUDA", _CPU
    if n.on_bus is None:
        return (
            "no NVIDIA driver was found on this machine (there is no nvidia-smi)",
            f"If it has an NVIDIA card: {_DRIVER[0].lower()}{_DRIVER[1:]} Else: {_CPU}",
        )
    return "this machine has no NVIDIA card", _CPU
