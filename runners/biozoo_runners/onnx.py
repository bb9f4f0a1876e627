"""The ONNX backend: ONNX Runtime on the CPU or on an NVIDIA card.

What runs is asked of the session after loading: ONNX Runtime falls back to the CPU in silence
where CUDA cannot start, and here that is an error.
"""

from __future__ import annotations

import gc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, BiozooError, DeviceError, MissingDependencyError

from .base import (
    Availability,
    Backend,
    BackendInfo,
    TensorPort,
    cast_for,
    framework_error,
    match_ports,
    shapes_text,
)
from .devices import (
    ONNX_RUNTIMES,
    Machine,
    cuda_index,
    importable,
    installed,
    is_cuda,
    usable_cores,
)
from .onnx_external import check_external_data

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["OnnxBackend"]

INSTALL_CPU = 'pip install "biozoo[cpu]"'
INSTALL_GPU = 'pip install "biozoo[gpu]"'
_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

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
        install = INSTALL_GPU if machine.cuda else INSTALL_CPU
        flavours = [name for name in ONNX_RUNTIMES if machine.has(name)]
        if not flavours:
            return Availability(False, "onnxruntime is not installed", install=install)
        if len(flavours) > 1:
            return Availability(True, _clash(flavours), ("cpu",), install)
        if flavours == ["onnxruntime-gpu"] and machine.cuda:
            return Availability(True, "", ("cuda", "cpu"))
        if machine.cuda:
            return Availability(
                True,
                f"this onnxruntime has no CUDA: pip uninstall -y onnxruntime, then {INSTALL_GPU}",
                ("cpu",),
                INSTALL_GPU,
            )
        return Availability(True, "", ("cpu",))

    @classmethod
    def open(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int | None = None
    ) -> Self:
        """Load the package's ONNX weights; see `Backend.open`."""
        from .program import program_of

        weights = package.raw["weights"].get(weights_format)
        if weights_format not in cls.weights_formats or weights is None:
            raise BackendError(
                f"Model '{package.id}' has no {weights_format} weights that {cls.name} can load."
            )
        model = program_of(package).geometry
        return cls(
            package.path(weights["source"]),
            root=package.root,
            model=package.id,
            input_ids=tuple(t.id for t in model.inputs),
            output_ids=tuple(t.id for t in model.outputs),
            optional=frozenset(t.id for t in model.inputs if t.optional),
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
        self._model, self._path, self._device = model, path, device
        self._optional = optional
        self._threads = threads or usable_cores()[1]
        check_external_data(path, root, model=model)
        ort = _import_onnxruntime()
        self._version = str(ort.__version__)
        self._session: Any = _open_session(ort, path, model, device, self._threads)
        try:
            self._providers = tuple(map(str, self._session.get_providers()))
            _check_device(device, self._providers)
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
        )

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the graph once; see `Backend.run`."""
        if self._session is None:
            raise BackendError(f"Model '{self._model}' is closed. Open it again to run it.")
        if unknown := [i for i in inputs if i not in self._inputs]:
            raise BackendError(
                f"Model '{self._model}' has no input {', '.join(map(repr, unknown))}; it takes "
                f"{', '.join(self._inputs)}."
            )
        missing = [i for i in self._inputs if i not in inputs and i not in self._optional]
        if missing:
            raise BackendError(
                f"Model '{self._model}' needs the input {', '.join(map(repr, missing))}, which "
                f"was not given; it takes {', '.join(self._inputs)}."
            )
        feed = {
            self._inputs[i].name: cast_for(a, self._inputs[i], tensor=i, model=self._model)
            for i, a in inputs.items()
        }
        names = [port.name for port in self._outputs.values()]
        try:
            results = self._session.run(names, feed)
        except Exception as exc:
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
            self._session = None
            gc.collect()  # the session may sit in a reference cycle of onnxruntime's wrapper


def _import_onnxruntime() -> Any:
    """The onnxruntime module, or the error that says how to get it."""
    try:
        import onnxruntime
    except ImportError as exc:
        if importable("onnxruntime"):
            raise BackendError(
                f"onnxruntime is installed but cannot be imported ({exc}). Install it again: "
                f"{INSTALL_CPU} or, with an NVIDIA card, {INSTALL_GPU}"
            ) from exc
        raise MissingDependencyError(
            what="Running ONNX weights",
            library="onnxruntime",
            install=f"{INSTALL_CPU} or, with an NVIDIA card, {INSTALL_GPU}",
        ) from exc
    if not hasattr(onnxruntime, "InferenceSession"):
        # What is left when one of two overlapping installations was removed.
        raise BackendError(
            "onnxruntime's files are incomplete, as happens when one of onnxruntime and "
            "onnxruntime-gpu was removed while both were installed. Remove what is left and "
            f"install one: {INSTALL_CPU} or {INSTALL_GPU}"
        )
    return onnxruntime


def _clash(flavours: Iterable[str]) -> str:
    """What is wrong with several builds of ONNX Runtime at once, and what to do."""
    names = list(flavours)
    return (
        f"{' and '.join(names)} are both installed and overwrite each other's files, which can "
        f"remove CUDA. Remove both, then install one: pip uninstall -y {' '.join(names)}, then "
        f"{INSTALL_CPU} or {INSTALL_GPU}"
    )


def _providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    """The execution providers to ask for, with options."""
    if not is_cuda(device):
        return [(_CPU, {})]
    # HEURISTIC: the exhaustive default search costs seconds for every new tile shape.
    # kSameAsRequested: the default doubles the arena and takes memory that other tiles need.
    options = {
        "device_id": str(cuda_index(device)),
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
    }
    return [(_CUDA, options), (_CPU, {})]


def _open_session(ort: Any, path: Path, model: str, device: str, threads: int) -> Any:
    """An inference session on `device` and nothing else."""
    if is_cuda(device):
        if _CUDA not in ort.get_available_providers():
            flavours = installed(ONNX_RUNTIMES)
            why = (
                _clash(flavours) if len(flavours) > 1 else "this onnxruntime is built without CUDA"
            )
            raise DeviceError(
                device=device,
                why=why,
                hint=f"Use --device cpu, or pip uninstall -y onnxruntime, then {INSTALL_GPU}",
            )
        if hasattr(ort, "preload_dlls"):  # CUDA and cuDNN that came as nvidia-* wheels
            ort.preload_dlls()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The memory pattern adds a second copy of all activations (251 MB against 163 MB for a small
    # U-Net on 512 x 512) and saves no time; without the arena a run takes 20 % longer.
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # fatal only: warnings about a graph help nobody who runs it
    try:
        return ort.InferenceSession(str(path), sess_options=options, providers=_providers(device))
    except Exception as exc:
        raise framework_error(
            exc,
            doing="load",
            model=model,
            weights=path.name,
            device=device,
            facts=f"onnxruntime {ort.__version__}.",
            hint="Run `zoo verify` on it; a newer onnxruntime may know more operators.",
        ) from exc


def _check_device(device: str, providers: tuple[str, ...]) -> None:
    """Raise where the session does not run on what was asked for."""
    wanted = _CUDA if is_cuda(device) else _CPU
    if not providers or providers[0] != wanted:
        got = ", ".join(providers) or "nothing"
        raise DeviceError(
            device=device,
            why=(
                f"onnxruntime would run the model on {got} in its place. Its CUDA part could not "
                "start: no such card, a driver that is too old, or CUDA or cuDNN missing"
                if is_cuda(device)
                else f"onnxruntime would run the model on {got} in its place"
            ),
        )


def _port(arg: Any) -> TensorPort:
    """One graph input or output of a session."""
    name = _DTYPES.get(str(arg.type))
    return TensorPort(str(arg.name), tuple(arg.shape), np.dtype(name) if name else None)
