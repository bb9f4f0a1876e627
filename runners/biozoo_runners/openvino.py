"""The OpenVINO backend: ONNX weights on the CPU, in this process, in the precision they have.

OpenVINO is told to compute float32 as float32 (on newer CPUs it would take bfloat16, which is
wrong in the third digit), and what it really compiled is asked of it afterwards. A lower precision
is for `open_reduced`, and then each layer is asked what it computes in: told to take float16, a
processor without it takes bfloat16, and still says float16 of the whole.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
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
from .precision.variants import variant_file, variants

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["OpenVinoBackend"]

#: The newest ONNX operator set when this was written. OpenVINO reads later ones as the last that
#: it knows and says nothing, which can give wrong numbers.
_OPSET = 28

#: Precision -> what OpenVINO calls it among a processor's abilities, and what the processor needs.
_BY_PROCESSOR = {
    "bfloat16": ("BF16", "AVX512_BF16 or AMX"),
    "float16": ("FP16", "AVX512_FP16 or AMX-FP16"),
}
_HINTS = {"bfloat16": "bf16", "float16": "f16"}
#: What OpenVINO writes beside a layer -> precision.
_RUNTIME = {"f32": "float32", "bf16": "bfloat16", "f16": "float16", "i8": "int8", "u8": "int8"}
#: The layers that take the time.
_HEAVY = frozenset(("Convolution", "Deconvolution", "FullyConnected", "GEMM", "MatMul", "RNNSeq"))

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

    @classmethod
    def precisions(
        cls, package: ModelPackage, weights_format: str, *, device: str
    ) -> Mapping[str, str]:
        """Those that the processor computes in, int8 by a variant; see `Backend.precisions`."""
        able = set(_import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"))
        by_processor = {
            precision: ""
            if known in able
            else f"this processor does not compute in {precision} "
            f"(it has no {parts}), and emulating it would be slow"
            for precision, (known, parts) in _BY_PROCESSOR.items()
        }
        return by_processor | {"int8": variants(package)["int8"]}

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
        """Load the weights, or the int8 variant, to compute so; see `Backend.open_reduced`."""
        source = package.path(weights_entry(package, weights_format, cls)["source"])
        return cls(
            source if precision in _BY_PROCESSOR else variant_file(package, precision),
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
        """Load the graph `path`; its external data must lie inside `root`."""
        self._model, self._path, self._optional = model, path, optional
        self._precision = precision
        self._notes: tuple[str, ...] = ()
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
            notes=self._notes,
            precision=self._precision,
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
            "INFERENCE_PRECISION_HINT": _HINTS.get(self._precision, "f32"),
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
        self._threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        if not self._precision:
            precision = str(compiled.get_property("INFERENCE_PRECISION_HINT").to_dtype())
            self._providers = ("CPU", precision)
            return
        layers = Counter(_layers(compiled))
        low = layers[self._precision]
        if not low:
            got = ", ".join(layers) or "nothing that could be"
            raise BackendError(
                f"Model '{self._model}' ({self._path.name}): openvino would compute it in {got}, "
                f"not in {self._precision}. Use --precision float32."
            )
        self._providers = ("CPU", self._precision)
        if low < layers.total():
            rest = ", ".join(p for p in layers if p != self._precision)
            self._notes = (
                f"openvino computes {low} of {layers.total()} convolutions and matrix products in "
                f"{self._precision}, the others in {rest}",
            )


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


def _layers(compiled: Any) -> Iterator[str]:
    """What each convolution and matrix product of a compiled graph is computed in."""
    for layer in compiled.get_runtime_model().get_ops():
        facts = layer.get_rt_info()
        if "layerType" in facts and _fact(facts, "layerType") in _HEAVY:
            said = _fact(facts, "runtimePrecision")
            yield _RUNTIME.get(said, said)


def _fact(facts: Any, name: str) -> str:
    value = facts[name]
    return str(getattr(value, "value", value))


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
