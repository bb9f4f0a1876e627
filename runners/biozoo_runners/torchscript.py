"""The TorchScript backend: torch on the CPU or on an NVIDIA card, in this process.

Threads, gradient mode and the executor are set for the calling thread and the time of one call. Of
torch's process-wide settings one is changed, on a card and during a run: `full_float32`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, DeviceError

from .base import (
    Availability,
    Backend,
    BackendInfo,
    TensorPort,
    check_inputs,
    cpu_only,
    described,
    framework_error,
    match_ports,
    shapes_text,
    weights_entry,
)
from .devices import Machine, usable_cores
from .torch_devices import (
    availability,
    computed_in,
    full_float32,
    import_torch,
    peak_memory,
    release_memory,
    reset_peak,
    resolve,
    torch_threads,
    trim_heap,
)
from .torchscript_loading import load_archive, prepacked

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["TorchScriptBackend"]

#: Code that looks at how a tensor lies in memory, and InstanceNorm, which channels_last slows
#: down (1.20 s against 0.97 s for a U-Net on 544 x 544).
_LAYOUT = frozenset(
    f"aten::{name}"
    for name in (
        *("view", "view_as", "_unsafe_view", "_reshape_alias", "view_as_complex", "view_as_real"),
        *("as_strided", "as_strided_", "stride", "is_contiguous", "storage_offset"),
        *("resize_", "set_", "instance_norm"),
    )
)
#: What autocast computes in a lower precision, of what takes the time of networks for images.
_AUTOCAST = frozenset(
    f"aten::{name}"
    for name in (
        *("conv1d", "conv2d", "conv3d", "_convolution", "linear", "matmul", "bmm", "addmm"),
        *("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"),
        *("baddbmm", "scaled_dot_product_attention"),
    )
)
_CONV_2D = frozenset({"aten::conv2d", "aten::_convolution", "aten::conv_transpose2d"})
_CONV_3D = frozenset({"aten::conv3d", "aten::_convolution", "aten::conv_transpose3d"})


class TorchScriptBackend(Backend):
    """Executes ``torchscript`` weights with torch."""

    name: ClassVar[str] = "torch"
    weights_formats: ClassVar[tuple[str, ...]] = ("torchscript",)

    @classmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether torch is installed, and for which devices; decided from metadata."""
        return availability(machine)

    @classmethod
    def open(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int | None = None
    ) -> Self:
        """Load the package's TorchScript weights; see `Backend.open`."""
        return cls(
            package.path(weights_entry(package, weights_format, cls)["source"]),
            **described(package),
            device=device,
            threads=threads,
        )

    @classmethod
    def precisions(
        cls, package: ModelPackage, weights_format: str, *, device: str
    ) -> Mapping[str, str]:
        """Those that the processor or the card computes in; see `Backend.precisions`."""
        return computed_in(device)

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
        """Load float32 weights to compute in `precision` with them; see `Backend.open_reduced`.

        torch's autocast: convolutions and matrix products are in `precision`, what loses much by
        it (sums, norms, exponentials) stays in float32. Results are float32.
        """
        return cls(
            package.path(weights_entry(package, weights_format, cls)["source"]),
            **described(package),
            device=device,
            threads=threads,
            precision=precision,
        )

    def __init__(
        self,
        path: Path,
        *,
        model: str,
        input_ids: tuple[str, ...],
        output_ids: tuple[str, ...],
        optional: frozenset[str] = frozenset(),
        device: str = "cpu",
        threads: int | None = None,
        precision: str = "",
    ):
        """Load the archive `path`, once it and its operators have been looked at."""
        self._model, self._path, self._device = model, path, device
        self._ids, self._output_ids, self._optional = input_ids, output_ids, optional
        self._torch = import_torch("Running TorchScript weights")
        self._version = str(self._torch.__version__)
        self._on = resolve(device)
        self._precision = precision
        self._peak: int | None = None
        self._module: Any = None
        try:
            with torch_threads(threads or usable_cores()[1]) as self._threads:
                loaded = load_archive(
                    path, self._on, model=model, device=device, autocast=bool(precision)
                )
                self._module = loaded.module
                self._arguments = self._match()
                self._floats = self._float_type(loaded.constants)
                if precision:
                    self._check_autocast(loaded.operators)
                self._providers = self._prepare(loaded.operators)
                if precision:
                    self._providers += (f"autocast {precision}",)
                del loaded
                trim_heap()  # of the weights as they were in the archive
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> BackendInfo:
        """What is loaded and where its weights lie."""
        return BackendInfo(
            backend=self.name,
            version=self._version,
            weights_format="torchscript",
            device=self._device,
            providers=self._providers,
            threads=self._threads,
            precision=self._precision,
        )

    @property
    def peak_device_memory(self) -> int | None:
        """Most bytes that torch held on the card during a run; None on the CPU."""
        return self._peak

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the network once; see `Backend.run`."""
        if self._module is None:
            raise BackendError(f"Model '{self._model}' is closed. Open it again to run it.")
        check_inputs(inputs, self._ids, self._optional, model=self._model)
        reset_peak(self._on)
        try:
            with self._running():
                made = self._module.forward(**self._feed(inputs))
                found = _flat(made)
                return self._named({i: self._array(t) for i, t in found.items()})
        except BackendError:
            raise
        except Exception as exc:
            left_out = [i for i in self._ids if i not in inputs]
            absent = f" Left out: {', '.join(left_out)}." if left_out else ""
            raise framework_error(
                _last_words(exc),
                doing="run",
                model=self._model,
                weights=self._path.name,
                device=self._device,
                facts=f"Given: {shapes_text(inputs)}.{absent} The code takes {self._signature()}.",
                hint=cpu_only(str(exc), self._device)
                or "Give sizes that the network takes, for example with --tile, and its type: "
                "preprocessing should end with ensure_dtype.",
            ) from exc
        finally:
            used = peak_memory(self._on)
            self._peak = used if self._peak is None else max(self._peak, used or 0)

    def free_cached(self) -> None:
        """Give back what torch keeps for later calls; see `Backend.free_cached`."""
        release_memory(self._on)

    def close(self) -> None:
        """Free the weights and give memory back; may be called twice."""
        if self._module is not None:
            self._module = None
            release_memory(self._on)

    # --------------------------------------------------------------------------------- loading

    def _match(self) -> dict[str, Any]:
        """Tensor id -> argument of ``forward``: by name where all ids are names, else by order."""
        arguments = self._module._c._get_method("forward").schema.arguments[1:]  # less self
        names = {a.name for a in arguments}
        given = names.intersection(self._ids) if names.issuperset(self._ids) else None
        ports = {
            a.name: TensorPort(a.name, (None,), None)
            for k, a in enumerate(arguments)
            if (a.name in given if given is not None else k < len(self._ids))
            or not a.has_default_value()
        }
        matched = match_ports("input", self._ids, list(ports.values()), model=self._model)
        by_name = {a.name: a for a in arguments}
        return {i: by_name[port.name] for i, port in matched.items()}

    def _float_type(self, constants: Sequence[Any]) -> Any:
        """The one floating type of all weights, or None: what a network computes in.

        A network that was frozen has its weights among the constants of its code.
        """
        weights = list(self._tensors()) or [t for t in constants if t.dim() > 1]
        kinds = {t.dtype for t in weights if t.is_floating_point()}
        return kinds.pop() if len(kinds) == 1 else None

    def _prepare(self, operators: frozenset[str]) -> tuple[str, ...]:
        """Check where the weights lie, order them for speed, and say what was done."""
        torch = self._torch
        elsewhere = {str(t.device) for t in self._tensors()} - {str(self._on)}
        if elsewhere:
            why = f"torch put weights on {', '.join(sorted(elsewhere))} in its place"
            raise DeviceError(device=self._device, why=why)
        where = f"torch {self._version} {self._on}"
        if self._on.type == "cuda":
            return (f"{where} {torch.cuda.get_device_name(self._on)}",)
        if not torch.backends.mkldnn.is_available() or self._floats != torch.float32:
            return (where,)
        sizes = {p.dim() for p in self._module.parameters()}
        prepack = not self._precision  # of prepacked float32 weights nothing is left to be cast
        if prepack and 5 in sizes and operators & _CONV_3D and "prim::SetAttr" not in operators:
            # A 3D U-Net of 16 channels on 32 x 64 x 64: 0.22 s in place of 0.43 s.
            made = prepacked(self._module)
            if made is self._module:
                return (where,)
            self._module = made
            return (where, "prepacked for oneDNN")
        if 4 in sizes and 5 not in sizes and operators & _CONV_2D and not operators & _LAYOUT:
            # A 2D U-Net of 32 channels on 544 x 544: 0.78 s in place of 1.01 s.
            self._module.to(memory_format=torch.channels_last)
            return (where, "channels_last")
        return (where,)

    def _tensors(self) -> Iterator[Any]:
        yield from self._module.parameters()
        yield from self._module.buffers()

    # --------------------------------------------------------------------------------- running

    @contextmanager
    def _running(self) -> Iterator[None]:
        """Threads, no gradients, the plain executor, for this thread; all bits of float32.

        The profiling executor that torch would use spends the first two calls on measuring (2.5
        and 1.3 times a later one) and is then no faster for such networks; on a card it would
        compile anew for new tile sizes.
        """
        torch = self._torch
        with (
            torch_threads(self._threads),
            torch.inference_mode(),
            torch.jit.optimized_execution(False),
            full_float32(self._on),
            self._autocast(),
        ):
            yield

    def _check_autocast(self, operators: frozenset[str]) -> None:
        """Refuse a network in which autocast would leave everything as it is."""
        if self._floats == self._torch.float32 and operators & _AUTOCAST:
            return
        raise BackendError(
            f"Model '{self._model}': {self._path.name} has no float32 convolution or matrix "
            f"product that torch could compute in {self._precision}. Leave --precision out."
        )

    def _autocast(self) -> Any:
        torch = self._torch
        kind = getattr(torch, self._precision) if self._precision else None
        return torch.autocast(self._on.type, kind, enabled=kind is not None)

    def _feed(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, Any]:
        """Arguments of ``forward`` by name; what was left out is None or the code's default."""
        feed = {}
        for i, argument in self._arguments.items():
            if i in inputs:
                feed[argument.name] = self._tensor(inputs[i])
            elif not argument.has_default_value():
                feed[argument.name] = None
        return feed

    def _tensor(self, array: npt.NDArray[Any]) -> Any:
        """A tensor of its own memory: code may write into its input.

        Between floating types the network's own decides, as for ONNX; others are given as they
        are, since TorchScript does not say what it takes.
        """
        native = np.array(array, dtype=array.dtype.newbyteorder("="), order="C")
        tensor = self._torch.from_numpy(native)
        if self._floats is not None and tensor.is_floating_point():
            tensor = tensor.to(self._floats)
        return tensor.to(self._on)

    def _array(self, value: Any) -> npt.NDArray[Any] | None:
        """An array of its own memory, in C order; None for what is no tensor."""
        torch = self._torch
        if not isinstance(value, torch.Tensor):
            return None
        tensor = value.detach().cpu().resolve_conj().resolve_neg()
        # numpy has no bfloat16; of a reduced precision the results have the network's own type.
        if tensor.dtype == torch.bfloat16 or (self._precision and tensor.is_floating_point()):
            tensor = tensor.float()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        return np.array(tensor.numpy(), order="C")

    def _named(self, found: Mapping[str, npt.NDArray[Any] | None]) -> dict[str, npt.NDArray[Any]]:
        """Outputs by tensor id: by name where the code names them all, else by order."""
        ids, told = self._output_ids, f"Model '{self._model}' ({self._path.name})"
        if len(found) < len(ids):
            raise BackendError(
                f"{told} gave {len(found)} output(s), its description has {len(ids)} "
                f"({', '.join(ids)}). They must agree; ask the package's author."
            )
        values = (
            found if all(i in found for i in ids) else dict(zip(ids, found.values(), strict=False))
        )
        made = {}
        for i in ids:
            if (array := values[i]) is None:
                raise BackendError(
                    f"{told} gave no tensor for output '{i}'. Its code should return one tensor "
                    "per output; ask the package's author."
                )
            made[i] = array
        return made

    def _signature(self) -> str:
        return ", ".join(f"{a.name} ({a.type})" for a in self._arguments.values())


def _flat(made: Any) -> dict[str, Any]:
    """What ``forward`` returned, as name -> value; numbers are names where it gave none."""
    if isinstance(made, dict):
        return {str(k): v for k, v in made.items()}
    if isinstance(made, tuple | list):
        names: Sequence[Any] = getattr(made, "_fields", range(len(made)))
        return {str(n): v for n, v in zip(names, made, strict=True)}
    return {"0": made}


def _last_words(error: Exception) -> Exception:
    """TorchScript tells the cause on the last line of a trace of its own."""
    text = str(error)
    if "TorchScript interpreter" not in text:
        return error
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return RuntimeError(lines[-1].removeprefix("RuntimeError: "))
