"""The TensorFlow backend: ``tensorflow_saved_model_bundle`` weights, on the CPU, in a child.

Which tensor is which goes by the names in the bundle's signature. A signature has no order, so
tensors whose names the description does not know are taken in the order of those names, numbers
counted as people do (input_2 before input_10); for one input or output that is no question.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from biozoo.errors import BackendError, DeviceError, MissingDependencyError
from biozoo.install import install_line

from .base import Availability
from .devices import Machine, importable, installed, is_cuda
from .isolated.backend import IsolatedBackend, Request
from .saved_model import UnfitBundle, look_into

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["DISTRIBUTIONS", "TensorFlowBackend"]

#: What brings the module tensorflow.
DISTRIBUTIONS = ("tensorflow", "tensorflow-cpu", "tensorflow-macos", "tensorflow-intel")

_CPU_ONLY = "SavedModel bundles are run on the CPU only"


class TensorFlowBackend(IsolatedBackend):
    """Executes SavedModel bundles with TensorFlow, in a child process."""

    name: ClassVar[str] = "tensorflow"
    weights_formats: ClassVar[tuple[str, ...]] = ("tensorflow_saved_model_bundle",)
    executor: ClassVar[str] = "biozoo_runners.executors.tensorflow:TensorFlow"
    load_hint: ClassVar[str] = (
        "TensorFlow may be older or newer than the one it was made with; ask its author for ONNX "
        "weights, or take other weights of the package with --weights."
    )

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether TensorFlow is installed; it is used on the CPU only."""
        if not any(machine.has(name) for name in DISTRIBUTIONS):
            install = install_line("tensorflow")
            return Availability(False, "tensorflow is not installed", install=install)
        why = _CPU_ONLY if machine.cuda else ""
        return Availability(True, why, ("cpu",))

    @classmethod
    def request(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int
    ) -> Request:
        """The zip, after a look into it.

        Raises
        ------
        DeviceError
            Another device than the CPU is asked for.
        MissingDependencyError
            TensorFlow is not installed.
        BackendError
            The zip is no SavedModel, or its graph holds operators that no network needs.
        """
        from biozoo import Settings

        if not (installed(DISTRIBUTIONS) and importable("tensorflow")):
            raise MissingDependencyError(
                what="Running a SavedModel bundle",
                library="tensorflow",
                install=install_line("tensorflow"),
            )
        if is_cuda(device):
            raise DeviceError(device=device, why=_CPU_ONLY)
        path = package.path(package.raw["weights"][weights_format]["source"])
        max_bytes = Settings.from_env().max_bytes
        try:
            look_into(path, max_bytes=max_bytes)
        except UnfitBundle as exc:
            raise BackendError(f"Model '{package.id}' ({path.name}): {exc}") from exc
        facts: dict[str, Any] = {"weights": str(path.resolve()), "max_bytes": max_bytes}
        return Request(facts, readable=(path,), weights_name=path.name)
