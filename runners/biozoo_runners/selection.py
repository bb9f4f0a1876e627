"""Which weights, backend and device run a package here, and why every other choice fell away.

`select` is a pure function of facts: the package's weights formats, the machine, the person's wish
and the known backends; nothing is loaded or tried. `open_selected` then loads, and is where an
``auto`` that cannot have the card it chose goes on with the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from biozoo.errors import DeviceError, NoBackendError, UsageError

from .base import Availability, Backend
from .devices import Machine, cuda_index, is_cuda, parse_device

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["PREFERENCE", "Rejection", "Selection", "Wish", "open_selected", "select"]

#: Weights formats, best first. ONNX holds no code and needs no heavy framework.
PREFERENCE = (
    "onnx",
    "torchscript",
    "pytorch_state_dict",
    "keras_v3",
    "keras_hdf5",
    "tensorflow_saved_model_bundle",
    "tensorflow_js",
)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for; None and ``"auto"`` leave the choice to biozoo."""

    device: str = "auto"
    weights: str | None = None
    threads: int | None = None


@dataclass(frozen=True, slots=True)
class Rejection:
    """A candidate that was not taken: ``format`` or ``format on backend``, and why."""

    candidate: str
    reason: str


@dataclass(frozen=True, slots=True)
class Selection:
    """What will run. `why` tells how an ``auto`` device came to be; "" for an explicit one."""

    weights_format: str
    backend: type[Backend]
    device: str
    rejected: tuple[Rejection, ...] = ()
    why: str = ""


def select(
    package: ModelPackage,
    machine: Machine,
    wish: Wish,
    backends: Mapping[str, type[Backend]],
    failed: Mapping[str, str] | None = None,
) -> Selection:
    """Choose weights format, backend and device.

    Parameters
    ----------
    package
        Its id and the weights formats of its summary are read.
    machine
        What `devices.detect` found.
    wish
        What the person asked for.
    backends
        Name -> class, as `biozoo.plugins` loads the group ``biozoo.backends``.
    failed
        Name -> reason of backend plug-ins that could not be loaded.

    Returns
    -------
    Selection
        The first candidate that fits, formats in the order of `PREFERENCE`.

    Raises
    ------
    UsageError
        The package has no weights of the wished format.
    DeviceError
        The wished graphics card does not exist.
    NoBackendError
        No candidate is left; it lists the reason of each.
    """
    device = parse_device(wish.device)
    formats = sorted(package.summary.weights, key=_rank)
    if wish.weights is not None and wish.weights not in formats:
        raise UsageError(
            f"Model '{package.id}' has no '{wish.weights}' weights; it has "
            f"{', '.join(formats) or 'none'}. Leave --weights out or name one of those."
        )
    if is_cuda(device):
        _require_card(device, machine)
    rejected: list[Rejection] = []
    chosen: Selection | None = None
    for weights in formats:
        if wish.weights not in (None, weights):
            rejected.append(Rejection(weights, f"{wish.weights} was asked for"))
            continue
        able = [b for _, b in sorted(backends.items()) if weights in b.weights_formats]
        if not able:
            rejected.append(Rejection(weights, _nothing_for(backends, failed or {})))
        for backend in able:
            candidate = weights if len(able) == 1 else f"{weights} on {backend.name}"
            availability = backend.available(machine)
            taken = _device_for(device, availability)
            if chosen is not None:
                reason = f"{chosen.weights_format} on {chosen.backend.name} comes first"
                rejected.append(Rejection(candidate, reason))
            elif taken is None:
                rejected.append(Rejection(candidate, _why_not(device, backend, availability)))
            else:
                why = _why_cpu(availability, machine) if device == "auto" else ""
                chosen = Selection(weights, backend, taken, why=why)
    if chosen is None:
        reasons = {r.candidate: r.reason for r in rejected}
        raise NoBackendError(
            package=package.id, reasons=reasons or {"weights": "the package has none"}
        )
    return Selection(
        chosen.weights_format, chosen.backend, chosen.device, tuple(rejected), chosen.why
    )


def open_selected(package: ModelPackage, chosen: Selection, wish: Wish) -> tuple[Backend, str]:
    """Load what was selected.

    Returns
    -------
    Backend, str
        The open backend, and why an ``auto`` device became what it is ("" where nothing is to be
        told): a card may be there and its libraries not, which shows only on loading.

    Raises
    ------
    DeviceError
        The asked device would not be used. With ``auto`` the CPU is taken instead.
    BackendError
        The weights cannot be loaded.
    """
    threads = wish.threads

    def load(device: str) -> Backend:
        return chosen.backend.open(package, chosen.weights_format, device=device, threads=threads)

    try:
        return load(chosen.device), chosen.why
    except DeviceError as exc:
        if parse_device(wish.device) != "auto" or chosen.device == "cpu":
            raise
        return load("cpu"), f"auto took the CPU: {exc}"


def _rank(weights: str) -> tuple[int, str]:
    known = weights in PREFERENCE
    return (PREFERENCE.index(weights) if known else len(PREFERENCE), weights)


def _require_card(device: str, machine: Machine) -> None:
    """Raise where the machine has no such card, whatever is installed."""
    if not machine.cuda:
        raise DeviceError(device=device, why="this machine has no NVIDIA card, or no driver for it")
    if cuda_index(device) >= len(machine.cuda):
        cards = ", ".join(f"cuda:{card.index} ({card.name})" for card in machine.cuda)
        raise DeviceError(device=device, why="there is no such card", hint=f"Here are: {cards}.")


def _device_for(device: str, availability: Availability) -> str | None:
    """The device a backend would take for a wish, or None."""
    if not availability.ok or not availability.devices:
        return None
    if device == "auto":
        return availability.devices[0]
    kind = "cuda" if is_cuda(device) else device
    return device if kind in availability.devices else None


def _nothing_for(backends: Mapping[str, type[Backend]], failed: Mapping[str, str]) -> str:
    """Why no backend takes a format: which there are, and which failed to load."""
    here = ", ".join(f"{'/'.join(b.weights_formats)} ({b.name})" for b in backends.values())
    text = (
        f"no backend for it is installed; weights that can be run here are {here or 'none'}. "
        "Ask the model's author for those, or install a plug-in that runs these"
    )
    return text + "".join(f"; plug-in '{name}' failed: {why}" for name, why in failed.items())


def _why_not(device: str, backend: type[Backend], availability: Availability) -> str:
    """Why an able backend was not taken."""
    install = f". Install it: {availability.install}" if availability.install else ""
    if not availability.ok:
        return f"{availability.reason}{install}"
    has = ", ".join(availability.devices) or "no device"
    reason = f" ({availability.reason})" if availability.reason else ""
    return f"{backend.name} offers {has} here, {device} was asked for{reason}"


def _why_cpu(availability: Availability, machine: Machine) -> str:
    """Why ``auto`` took the CPU; "" where it took something else."""
    if availability.devices[0] != "cpu":
        return ""
    if not machine.cuda:
        return "auto took the CPU: no NVIDIA card was found"
    return f"auto took the CPU: {availability.reason or 'the backend offers nothing else'}"
