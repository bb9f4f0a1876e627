"""Which weights, backend and device run a package here, and why every other choice fell away.

`select` is a pure function of facts: the package, the machine, the person's wish, the known
backends, and whether the package's code may run; nothing is loaded or tried. `open_selected` then
loads, and is where an ``auto`` that cannot have the card it chose goes on with the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from biozoo.code import has_layer_code
from biozoo.consent import refusal, typed
from biozoo.errors import (
    BiozooError,
    DeviceError,
    NoBackendError,
    OutOfMemoryError,
    UsageError,
)

from .base import Availability, Backend
from .devices import Machine, cuda_index, is_cuda, no_such_card, parse_device, why_no_cuda

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = [
    "BACKENDS",
    "PREFERENCE",
    "Obstacle",
    "Rejection",
    "Selection",
    "Wish",
    "backend_rank",
    "format_rank",
    "open_selected",
    "select",
    "weigh",
]

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

#: Backends of one format, first choice first: the one whose numbers the package was made with.
BACKENDS = ("onnxruntime", "openvino")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a person asked for; None and ``"auto"`` leave the choice to biozoo."""

    device: str = "auto"
    weights: str | None = None
    threads: int | None = None
    backend: str | None = None


#: What stood against a candidate: something else was asked for, another comes first, nothing runs
#: such weights, a library is missing, the device, code that nobody has allowed.
Obstacle = Literal["asked", "later", "backend", "library", "device", "trust"]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A candidate that was not taken: ``format`` or ``format on backend``, and why.

    `install` is what to type where a library is the obstacle.
    """

    candidate: str
    reason: str
    obstacle: Obstacle = field(default="backend", compare=False)
    install: str = field(default="", compare=False)


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
    *,
    trusted: bool = False,
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
    trusted
        Whether the package's own code may run (`biozoo.consent`).

    Returns
    -------
    Selection
        The first candidate that fits: formats in the order of `PREFERENCE`, for each the backends
        in the order of `BACKENDS`, others by name.

    Raises
    ------
    UsageError
        The package has no weights of the wished format.
    DeviceError
        The wished graphics card does not exist, or no candidate can use it; it says why.
    UntrustedCodeError
        Nothing but code that nobody has allowed stands against a run.
    NoBackendError
        No candidate is left for several reasons; it lists that of each.
    """
    chosen, rejected = weigh(package, machine, wish, backends, failed, trusted=trusted)
    if chosen is None:
        raise _nothing_left(package, parse_device(wish.device), rejected)
    return chosen


def weigh(
    package: ModelPackage,
    machine: Machine,
    wish: Wish,
    backends: Mapping[str, type[Backend]],
    failed: Mapping[str, str] | None = None,
    *,
    trusted: bool = False,
) -> tuple[Selection | None, tuple[Rejection, ...]]:
    """As `select`, with None and every rejection where no candidate is left.

    Raises
    ------
    UsageError, DeviceError
        The wish names what does not exist.
    """
    device = parse_device(wish.device)
    formats = sorted(package.summary.weights, key=format_rank)
    _check_wish(package, formats, wish, backends)
    if is_cuda(device):
        _require_card(device, machine)
    rejected: list[Rejection] = []
    chosen: Selection | None = None
    for weights in formats:
        takers = (b for b in backends.values() if weights in b.weights_formats)
        able = sorted(takers, key=backend_rank)
        if wish.weights not in (None, weights):
            rejected.append(Rejection(weights, f"{wish.weights} was asked for", "asked"))
            continue
        if not able:
            rejected.append(Rejection(weights, _nothing_for(backends, failed or {}), "backend"))
        for backend in able:
            candidate = weights if len(able) == 1 else f"{weights} on {backend.name}"
            availability = backend.available(machine)
            taken = _device_for(device, availability)
            if wish.backend not in (None, backend.name):
                rejected.append(Rejection(candidate, f"{wish.backend} was asked for", "asked"))
            elif chosen is not None:
                reason = f"{chosen.weights_format} on {chosen.backend.name} comes first"
                rejected.append(Rejection(candidate, reason, "later"))
            elif not availability.ok:
                reason = _why_not(device, backend, availability)
                rejected.append(Rejection(candidate, reason, "library", availability.install))
            elif taken is None:
                reason = _why_not(device, backend, availability)
                rejected.append(Rejection(candidate, reason, "device"))
            elif not trusted and _runs_code(backend, package, weights):
                rejected.append(Rejection(candidate, _untrusted(package), "trust"))
            else:
                why = _why_cpu(availability, machine) if device == "auto" else ""
                chosen = Selection(weights, backend, taken, why=why)
    return (None if chosen is None else replace(chosen, rejected=tuple(rejected))), tuple(rejected)


def open_selected(
    package: ModelPackage, chosen: Selection, wish: Wish, *, precision: str = ""
) -> tuple[Backend, str]:
    """Load what was selected; in a lower `precision`, where one is given.

    Returns
    -------
    Backend, str
        The open backend, and why an ``auto`` device became what it is ("" where nothing is to be
        told): a card may be there and its libraries not, which shows only on loading.

    Raises
    ------
    DeviceError
        The asked device would not be used. With ``auto`` the CPU is taken instead.
    OutOfMemoryError
        The weights do not fit in the device's memory; with ``auto`` as above.
    BackendError
        The weights cannot be loaded.
    """
    threads = wish.threads

    def load(device: str) -> Backend:
        weights, opener = chosen.weights_format, chosen.backend
        if precision:
            return opener.open_reduced(package, weights, precision, device=device, threads=threads)
        return opener.open(package, weights, device=device, threads=threads)

    try:
        return load(chosen.device), chosen.why
    except (DeviceError, OutOfMemoryError) as exc:
        if parse_device(wish.device) != "auto" or chosen.device == "cpu":
            raise
        why = f"auto took the CPU: {exc}"
    # Only here: the exception keeps alive what was loaded on the card.
    return load("cpu"), why


def format_rank(weights: str) -> tuple[int, str]:
    """Sorts weights formats, best first."""
    known = weights in PREFERENCE
    return (PREFERENCE.index(weights) if known else len(PREFERENCE), weights)


def backend_rank(backend: type[Backend]) -> tuple[int, str]:
    """Sorts backends, first choice first."""
    known = backend.name in BACKENDS
    return (BACKENDS.index(backend.name) if known else len(BACKENDS), backend.name)


def _check_wish(
    package: ModelPackage,
    formats: Sequence[str],
    wish: Wish,
    backends: Mapping[str, type[Backend]],
) -> None:
    """Raise for weights that the package lacks, and for a backend that is not known or takes none
    of them.
    """
    if wish.weights is not None and wish.weights not in formats:
        raise UsageError(
            f"Model '{package.id}' has no '{wish.weights}' weights; it has "
            f"{', '.join(formats) or 'none'}. Leave --weights out or name one of those."
        )
    if wish.backend is None:
        return
    named = {b.name: b for b in backends.values()}
    if wish.backend not in named:
        known = ", ".join(sorted(named)) or "none"
        raise UsageError(f"No backend is called '{wish.backend}'; there are {known}.")
    takes = named[wish.backend].weights_formats
    asked = formats if wish.weights is None else [wish.weights]
    if asked and not set(asked) & set(takes):
        raise UsageError(
            f"Backend '{wish.backend}' runs {', '.join(takes)}; model '{package.id}' is asked to "
            f"run {', '.join(asked)}. Leave --backend out or name another."
        )


def _runs_code(backend: type[Backend], package: ModelPackage, weights: str) -> bool:
    """Whether the author's code runs where this backend executes these weights."""
    if backend.runs_code:
        return True
    try:
        return has_layer_code(package, weights)
    except BiozooError:  # the file is missing: the backend tells that
        return False


def _untrusted(package: ModelPackage) -> str:
    return (
        "it would run its author's code, which nobody has allowed. Look at it: "
        f"zoo trust {typed(package)}"
    )


def _nothing_left(package: ModelPackage, device: str, rejected: Sequence[Rejection]) -> BiozooError:
    """The error for a package without a candidate: of the one obstacle, where there is one."""
    left = [r for r in rejected if r.obstacle != "asked"]
    # Weights that nothing can run stand against nobody's wish while others could run.
    kinds = {r.obstacle for r in left} - {"backend"}
    if kinds == {"trust"}:
        return refusal(package)
    if kinds == {"device"} and is_cuda(device):
        causes = [f"{r.candidate}: {r.reason}" for r in left if r.obstacle == "device"]
        return DeviceError(device=device, why="; ".join(causes))
    reasons = {r.candidate: r.reason for r in rejected}
    return NoBackendError(
        package=package.id, reasons=reasons or {"weights": "the package has none"}
    )


def _require_card(device: str, machine: Machine) -> None:
    """Raise where the machine has no such card, whatever is installed."""
    why, todo = no_such_card(machine, cuda_index(device))
    if why:
        raise DeviceError(device=device, why=why, hint=todo)


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
    cause = why_no_cuda(machine) or availability.reason or "the backend offers nothing else"
    return f"auto took the CPU: {cause}"
