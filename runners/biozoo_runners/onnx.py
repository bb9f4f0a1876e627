"""The ONNX backend: ONNX Runtime on the CPU or on an NVIDIA card (see `onnx_session`)."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, BiozooError, MissingDependencyError
from biozoo.install import install_line

from .base import (
    Availability,
    Backend,
    BackendInfo,
    TensorPort,
    cast_for,
    check_inputs,
    described,
    framework_error,
    match_ports,
    shapes_text,
    weights_entry,
)
from .devices import (
    ONNX_RUNTIMES,
    Machine,
    driver_too_old,
    importable,
    is_cuda,
    usable_cores,
)
from .memory import trim_heap
from .nvml import DeviceMemory
from .onnx_external import check_external_data
from .onnx_session import device_error, flavour_fault, open_session
from .precision.variants import variant_file, variants

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["OnnxBackend"]

#: ONNX Runtime's element types as numpy's.
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{
        f"tensor({sign}int{bits})": f"{sign}int{bits}"
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}


class OnnxBackend(Backend):
    """Executes ``onnx`` weights with ONNX Runtime."""

    name: ClassVar[str] = "onnxruntime"
    weights_formats: ClassVar[tuple[str, ...]] = ("onnx",)

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether ONNX Runtime is installed, and for which devices; decided from metadata.

        An installation of both flavours still runs on the CPU, so it is available, and `reason`
        says what is wrong.
        """
        install = install_line("gpu" if machine.cuda else "cpu")
        flavours = [name for name in ONNX_RUNTIMES if machine.has(name)]
        if not flavours:
            return Availability(False, "onnxruntime is not installed", install=install)
        fault = flavour_fault(flavours) or driver_too_old(machine, flavours[0])
        if len(flavours) > 1 or (fault and machine.cuda):
            return Availability(True, fault, ("cpu",), install)
        return Availability(True, "", ("cuda", "cpu") if machine.cuda else ("cpu",))

    @classmethod
    def open(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int | None = None
    ) -> Self:
        """Load the package's ONNX weights; see `Backend.open`."""
        return cls(
            package.path(weights_entry(package, weights_format, cls)["source"]),
            root=package.root,
            **described(package),
            device=device,
            threads=threads,
        )

    @classmethod
    def precisions(
        cls, package: ModelPackage, weights_format: str, *, device: str
    ) -> Mapping[str, str]:
        """Those that the package has converted weights of; see `Backend.precisions`."""
        return variants(package)

    @classmethod
    def open_reduced(
        cls,
        package: ModelPackage,
        weights_format: str,
        precision: str,
        *,
        device: str,
        threads: int | None = None,
    ) -> Self:
        """Load the package's variant of this precision; see `Backend.open_reduced`."""
        return cls(
            variant_file(package, precision),
            root=package.root,
            **described(package),
            device=device,
            threads=threads,
            precision=precision,
        )

    def __init__(
        self,
        path: Path,
        *,
        root: Path,
        model: str,
        input_ids: tuple[str, ...],
        output_ids: tuple[str, ...],
        optional: frozenset[str] = frozenset(),
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "",
    ):
        """Load the graph `path`; its external data must lie inside `root`.

        `precision` is the graph's, for `info`.
        """
        self._model, self._path, self._device = model, path, device
        self._precision = precision
        self._optional = optional
        self._threads = threads or usable_cores()[1]
        check_external_data(path, root, model=model)
        ort = _import_onnxruntime()
        self._version = str(ort.__version__)
        # Before the session, so that what it takes is seen where only the growth can be.
        self._memory = DeviceMemory() if is_cuda(device) else None
        self._open = partial(open_session, ort, path, model, device, self._threads)
        self._session: Any = None
        self._session, self._notes = self._open()
        try:
            self._providers = tuple(map(str, self._session.get_providers()))
            inputs = [_port(arg) for arg in self._session.get_inputs()]
            outputs = [_port(arg) for arg in self._session.get_outputs()]
            self._inputs = match_ports("input", input_ids, inputs, model=model)
            self._outputs = match_ports("output", output_ids, outputs, model=model)
        except BiozooError:
            self.close()
            raise

    @property
    def info(self) -> BackendInfo:
        """What is loaded and where the session says it runs."""
        return BackendInfo(
            backend=self.name,
            version=self._version,
            weights_format="onnx",
            device=self._device,
            providers=self._providers,
            threads=self._threads,
            notes=self._notes,
            precision=self._precision,
        )

    @property
    def peak_device_memory(self) -> int | None:
        """Bytes on the card, CUDA's own included; None on the CPU or where the driver is silent.

        ONNX Runtime keeps what it once took until it is closed, so what it holds now is the most
        that it took.
        """
        if self._memory is None:
            return None
        if self._session is not None:
            self._memory.look()
        return self._memory.peak

    def free_cached(self) -> None:
        """Open the session anew: ONNX Runtime gives memory back in no other way."""
        if self._session is not None:
            self.close()
            self._session, self._notes = self._open()

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the graph once; see `Backend.run`."""
        if self._session is None:
            raise BackendError(f"Model '{self._model}' is closed. Open it again to run it.")
        check_inputs(inputs, self._inputs, self._optional, model=self._model)
        feed = {
            self._inputs[i].name: cast_for(a, self._inputs[i], tensor=i, model=self._model)
            for i, a in inputs.items()
        }
        names = [port.name for port in self._outputs.values()]
        try:
            results = self._session.run(names, feed)
        except Exception as exc:
            if is_cuda(self._device) and (error := device_error(self._device, exc)) is not None:
                raise error from exc
            declared = ", ".join(map(str, self._inputs.values()))
            left_out = [i for i in self._inputs if i not in inputs]
            absent = f" Left out: {', '.join(left_out)}." if left_out else ""
            raise framework_error(
                exc,
                doing="run",
                model=self._model,
                weights=self._path.name,
                device=self._device,
                facts=f"Given: {shapes_text(inputs)}.{absent} The graph declares: {declared}.",
                hint="Give the sizes that the graph declares, for example with --tile.",
            ) from exc
        # onnxruntime's arrays lie in its arena: kept, one of them would keep all of it alive even
        # after `close` (251 MB in place of 68 MB for a small U-Net).
        return {i: np.array(a) for i, a in zip(self._outputs, results, strict=True)}

    def close(self) -> None:
        """Free the session and its memory; may be called twice."""
        if self._session is not None:
            if self._memory is not None:
                self._memory.look()
            self._session = None
            gc.collect()  # the session may sit in a reference cycle of onnxruntime's wrapper
            trim_heap()


def _import_onnxruntime() -> Any:
    """The onnxruntime module, or the error that says how to get it."""
    try:
        import onnxruntime
    except ImportError as exc:
        if importable("onnxruntime"):
            raise BackendError(
                f"onnxruntime is installed but cannot be imported ({exc}). Install it again: "
                f"{install_line('cpu')} or, with an NVIDIA card, {install_line('gpu')}"
            ) from exc
        raise MissingDependencyError(
            what="Running ONNX weights",
            library="onnxruntime",
            install=f"{install_line('cpu')} or, with an NVIDIA card, {install_line('gpu')}",
        ) from exc
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left when one of two overlapping installations was removed.
        raise BackendError(
            "onnxruntime's files are incomplete, as happens when one of onnxruntime and "
            "onnxruntime-gpu was removed while both were installed. Remove what is left and "
            f"install one: {install_line('cpu')} or {install_line('gpu')}"
        )
    return onnxruntime


def _port(arg: Any) -> TensorPort:
    """One graph input or output of a session."""
    name = _DTYPES.get(str(arg.type))
    return TensorPort(str(arg.name), tuple(arg.shape), np.dtype(name) if name else None)
