"""The OpenVINO backend: ONNX weights on the CPU, in this process, in the precision they have.

OpenVINO is told to compute float32 as float32 (on newer CPUs it would take bfloat16, which is
wrong in the third digit), and what it really compiled is asked of it afterwards.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, DeviceError, MissingDependencyError
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
from .devices import Machine, importable, usable_cores
from .memory import trim_heap
from .onnx_external import check_external_data, opset_version

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["OpenVinoBackend"]

#: The newest ONNX operator set when this was written. OpenVINO reads later ones as the last that
#: it knows and says nothing, which can give wrong numbers.
_OPSET = 28

_TELEMETRY = "openvino_telemetry"
_importing = threading.Lock()


class OpenVinoBackend(Backend):
    """Executes ``onnx`` weights with OpenVINO on the CPU."""

    name: ClassVar[str] = "openvino"
    weights_formats: ClassVar[tuple[str, ...]] = ("onnx",)

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether OpenVINO is installed; it runs on the CPU only here."""
        if not machine.has("openvino"):
            install = install_line("openvino")
            return Availability(False, "openvino is not installed", install=install)
        reason = "openvino runs on the CPU only" if machine.cuda else ""
        return Availability(True, reason, ("cpu",))

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
    ):
        """Load the graph `path`; its external data must lie inside `root`."""
        self._model, self._path, self._optional = model, path, optional
        if device != "cpu":
            why = "openvino runs on the CPU only"
            raise DeviceError(device=device, why=why, hint="Use --device cpu, or --weights onnx")
        check_external_data(path, root, model=model)
        if (opset := opset_version(path)) > _OPSET:
            raise BackendError(
                f"Model '{model}': {path.name} is written in ONNX operator set {opset}, openvino "
                f"is known to read up to {_OPSET}. Use --backend onnxruntime, or ask the "
                "package's author to export with an older operator set."
            )
        openvino = _import_openvino()
        self._version = str(openvino.__version__).partition("-")[0]
        self._request: Any = None
        try:
            compiled = self._compile(openvino, threads or usable_cores()[1])
            self._check(compiled)
            inputs = [_port(p, input_ids) for p in compiled.inputs]
            outputs = [_port(p, output_ids) for p in compiled.outputs]
            self._inputs = match_ports("input", input_ids, inputs, model=model)
            matched = match_ports("output", output_ids, outputs, model=model)
            # Positions: names of a graph's ports may be absent or shared.
            self._feed_at = {i: _place(port, inputs) for i, port in self._inputs.items()}
            self._take_at = {i: _place(port, outputs) for i, port in matched.items()}
            self._request = compiled.create_infer_request()
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> BackendInfo:
        """What is loaded and what OpenVINO says that it compiled it for."""
        return BackendInfo(
            backend=self.name,
            version=self._version,
            weights_format="onnx",
            device="cpu",
            providers=self._providers,
            threads=self._threads,
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the graph once; see `Backend.run`."""
        if self._request is None:
            raise BackendError(f"Model '{self._model}' is closed. Open it again to run it.")
        check_inputs(inputs, self._inputs, self._optional, model=self._model)
        declared = ", ".join(map(str, self._inputs.values()))
        if left_out := [i for i in self._inputs if i not in inputs]:
            # It would take what the last call gave.
            raise BackendError(
                f"Model '{self._model}': openvino cannot leave out an optional input "
                f"({', '.join(left_out)}). Give it, or use --backend onnxruntime."
            )
        feed = {
            self._feed_at[i]: cast_for(a, self._inputs[i], tensor=i, model=self._model)
            for i, a in inputs.items()
        }
        try:
            results = self._request.infer(feed).to_tuple()
        except Exception as exc:
            raise framework_error(
                _last_words(exc),
                doing="run",
                model=self._model,
                weights=self._path.name,
                device="cpu",
                facts=f"Given: {shapes_text(inputs)}. The graph declares: {declared}.",
                hint="Give the sizes that the graph declares, for example with --tile.",
            ) from exc
        return {i: np.array(results[at]) for i, at in self._take_at.items()}

    def close(self) -> None:
        """Free the compiled graph and its memory; may be called twice."""
        if self._request is not None:
            self._request = None
            gc.collect()
            trim_heap()

    def _compile(self, openvino: Any, threads: int) -> Any:
        """The graph compiled for the CPU."""
        from openvino.frontend import FrontEndManager

        options = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": "f32",
            "EXECUTION_MODE_HINT": "ACCURACY",
            # Pinned threads of two runners would share the same cores.
            "ENABLE_CPU_PINNING": False,
        }
        try:
            # The reader of ONNX by name: asked by file, OpenVINO also tries all its others.
            reader = FrontEndManager().load_by_framework("onnx")
            graph = reader.convert(reader.load(str(self._path)))
            return openvino.Core().compile_model(graph, "CPU", options)
        except Exception as exc:
            raise framework_error(
                _last_words(exc),
                doing="load",
                model=self._model,
                weights=self._path.name,
                device="cpu",
                facts=f"openvino {self._version}.",
                hint="It may lack an operator of this graph: use --backend onnxruntime.",
            ) from exc

    def _check(self, compiled: Any) -> None:
        """Ask the compiled graph where, how precisely and with how many threads it runs."""
        devices = [str(d) for d in compiled.get_property("EXECUTION_DEVICES")]
        if devices != ["CPU"]:
            why = f"openvino would run the model on {', '.join(devices) or 'nothing'} in its place"
            raise DeviceError(device="cpu", why=why)
        precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_dtype())
        self._threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        self._providers = ("CPU", precision)


def _import_openvino() -> Any:
    """The openvino module, or the error that says how to get it.

    Importing openvino alone reports the fact to its makers and leaves two files in the home
    folder; without the library that does so, its converter takes a stub of its own.
    """
    try:
        with _importing:
            hidden = "openvino" not in sys.modules and _TELEMETRY not in sys.modules
            if hidden:
                sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
            try:
                import openvino
            finally:
                if hidden:
                    del sys.modules[_TELEMETRY]
    except ImportError as exc:
        if importable("openvino"):
            raise BackendError(
                f"openvino is installed but cannot be imported ({exc}). Install it again: "
                f"pip uninstall -y openvino, then {install_line('openvino')}"
            ) from exc
        raise MissingDependencyError(
            what="Running ONNX weights on OpenVINO",
            library="openvino",
            install=install_line("openvino"),
        ) from exc
    return openvino


def _port(port: Any, ids: Sequence[str]) -> TensorPort:
    """One input or output of a compiled graph; of its names the one that is a tensor id."""
    names = set(port.get_names())
    name = next((i for i in ids if i in names), min(names, default="?"))
    shape = tuple(
        size.get_length() if size.is_static else None for size in port.get_partial_shape()
    )
    try:
        dtype = np.dtype(port.get_element_type().to_dtype())
    except (RuntimeError, TypeError):  # a type that numpy has not
        dtype = None
    return TensorPort(name, shape, dtype)


def _place(port: TensorPort, ports: Sequence[TensorPort]) -> int:
    return next(k for k, other in enumerate(ports) if other is port)


def _last_words(error: Exception) -> Exception:
    """OpenVINO tells where in its sources it failed, line by line, and the cause last."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [
        line
        for line in lines
        if not line.startswith(("Exception from ", "FrontEnd API failed", "Summary:"))
        and " failed at src/" not in line
    ]
    return error if isinstance(error, MemoryError) else RuntimeError(" ".join(told or lines))
