"""The Keras backend: ``keras_v3`` and ``keras_hdf5`` weights on Keras 3, in a confined child.

Keras computes on an engine: torch where it gives the numbers that the network was made with, else
TensorFlow, else JAX. The engine belongs to a whole process, so each one that is tried is a child of
its own. Layers that are code of the author (Lambda, classes of others) run for trusted packages
only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from biozoo.errors import BackendError, DeviceError, MissingDependencyError
from biozoo.install import install_line

from .base import Availability
from .devices import Machine, detect, importable, installed, is_cuda
from .isolated.backend import IsolatedBackend, Request
from .isolated.client import ForeignError
from .torch_devices import availability as torch_availability

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["KerasBackend", "engines"]

#: Engine -> distributions that bring it, the engine that is tried first first.
ENGINES = {
    "torch": ("torch",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-intel"),
    "jax": ("jax",),
}

_NO_ENGINE = "Keras is installed without an engine (torch, tensorflow or jax)"


class KerasBackend(IsolatedBackend):
    """Executes ``keras_v3`` and ``keras_hdf5`` weights with Keras 3, in a child process."""

    name: ClassVar[str] = "keras"
    weights_formats: ClassVar[tuple[str, ...]] = ("keras_v3", "keras_hdf5")
    executor: ClassVar[str] = "biozoo_runners.executors.keras:Keras"

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether Keras 3 and an engine are installed; a card is used with torch only."""
        install = install_line("keras")
        if not machine.has("keras"):
            return Availability(False, "keras is not installed", install=install)
        version = machine.libraries["keras"]
        if version.partition(".")[0] in ("0", "1", "2"):
            return Availability(False, f"keras {version} is installed, 3 is needed", (), install)
        if machine.has("torch"):
            return torch_availability(machine, extra="keras")
        if not _with_engine(machine.libraries):
            return Availability(False, _NO_ENGINE, install=install)
        why = "Keras uses a card with the torch engine only, and torch is not installed"
        return Availability(True, why if machine.cuda else "", ("cpu",), install)

    @classmethod
    def request(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int
    ) -> Request:
        """The weights file, the engines to try, and which layers that are code may run.

        Raises
        ------
        UntrustedCodeError
            The network holds layers that are code, and nobody has allowed them.
        DeviceError
            There is no card.
        MissingDependencyError
            Keras or an engine is not installed.
        """
        if is_cuda(device) and not detect().cuda:  # before a process imports torch to say so
            why = "this machine has no NVIDIA card, or no driver for it"
            raise DeviceError(device=device, why=why)
        entry = package.raw["weights"][weights_format]
        path = package.path(entry["source"])
        made_with = entry.get("backend") or ("tensorflow",)
        hint = str(made_with[0] if isinstance(made_with, list | tuple) else made_with)
        tried = engines(device, hint)
        allowed = _allowed(package, weights_format)
        facts = {
            "weights": str(path.resolve()),
            "engines": tried,
            "made_with": hint,
            "allowed": allowed,
        }
        return Request(facts, readable=(path,), weights_name=path.name, code=bool(allowed))

    def __init__(self, request: Request, **more: Any):
        """Load with the first engine that can have the network; see `open`."""
        refused: dict[str, str] = {}
        for engine in request.facts["engines"]:
            native = engine == request.facts["made_with"]
            facts = {**request.facts, "engine": engine, "native": native}
            try:
                super().__init__(replace(request, facts=facts), **more)
            except BackendError as exc:
                why = exc.__cause__
                if not (isinstance(why, ForeignError) and why.kind == "EngineUnfit"):
                    raise
                refused[engine] = why.text.rstrip(".")
            else:
                return
        raise _not_loaded(more["model"], request.weights_name, more["device"], refused)


def engines(device: str, hint: str = "") -> list[str]:
    """The installed engines for a device, in the order in which they are tried.

    Parameters
    ----------
    device
        ``"cpu"``, ``"cuda"`` or ``"cuda:N"``: only torch is used on a card.
    hint
        The engine that the network was made with.

    Raises
    ------
    MissingDependencyError
        Keras is not installed, or no engine for the device.
    """
    what, install = "Running Keras weights", install_line("keras")
    if not (installed(("keras",)) and importable("keras")):
        raise MissingDependencyError(what=what, library="keras", install=install)
    here = _with_engine(installed(name for names in ENGINES.values() for name in names))
    if is_cuda(device):
        if "torch" not in here:
            what = f"Running Keras weights on {device}"
            raise MissingDependencyError(what=what, library="torch", install=install)
        return ["torch"]
    if not here:
        library = "an engine (torch, tensorflow or jax)"
        raise MissingDependencyError(what=what, library=library, install=install)
    return sorted(here, key=lambda engine: (engine != "torch", engine != hint))


def _with_engine(libraries: Mapping[str, str]) -> list[str]:
    return [name for name, brought_by in ENGINES.items() if any(d in libraries for d in brought_by)]


def _allowed(package: ModelPackage, weights_format: str) -> list[str]:
    """sha256 of the networks of these weights whose code may run; empty where they hold none."""
    from biozoo.code import has_layer_code
    from biozoo.consent import require

    if not has_layer_code(package, weights_format):
        return []
    items = require(package)
    return sorted({i.sha256 for i in items if i.kind == "layer" and i.weights == weights_format})


def _not_loaded(model: str, weights: str, device: str, refused: Mapping[str, str]) -> BackendError:
    """The error where no engine can have the network."""
    causes: dict[str, list[str]] = {}
    for engine, why in refused.items():
        causes.setdefault(why, []).append(engine)
    told = "; ".join(f"with the {' and the '.join(e)} engine: {w}" for w, e in causes.items())
    more = ""
    if "tensorflow" not in refused and not is_cuda(device):
        more = f" With TensorFlow it may load: {install_line('tensorflow')}"
    elif is_cuda(device):
        more = " On the CPU another engine may have it: --device cpu."
    return BackendError(f"Model '{model}' ({weights}) failed to load on {device}: {told}.{more}")
