"""A torch module as an ONNX graph, in three ways; pure functions that run in any process.

"dynamo"
    torch.export follows the network with symbols for the free sizes; what needs a fixed size is
    seen, and refused here.
"torchscript"
    The older exporter. It records one run, in which the network's own decisions freeze; where it
    sees such a decision the network is compiled by torch.jit.script instead, which keeps them.
"trace"
    torch.jit.trace, then the older exporter: what one run did, decisions frozen. Whether that
    holds at other sizes only a comparison tells, as for every way.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from biozoo.errors import BiozooError, MissingDependencyError, NetworkError, OutOfMemoryError
from biozoo.install import install_line
from biozoo_runners.base import ran_out_of_memory
from biozoo_runners.torch_devices import import_torch

from ..networks.author_code import said
from ..networks.network import ExportRequest
from ..networks.returned import chosen, flat, not_a_tensor
from .diagnosis import ExportError, diagnose

__all__ = ["DYNAMO", "TORCHSCRIPT", "TRACE", "examples", "export_onnx", "strategies_of"]

DYNAMO, TORCHSCRIPT, TRACE = "dynamo", "torchscript", "trace"

#: What an ONNX file can hold without files beside it: a protobuf message of 2 GB.
_MOST_BYTES = 2**31 - 2**24

_LOGGERS = (
    "torch.onnx", "torch.export", "torch._export", "torch._dynamo", "torch.fx", "torch._functorch",
    "onnxscript", "onnx_ir", "torch",
)  # fmt: skip


def strategies_of(module: Any) -> tuple[str, ...]:
    """The ways a module can be exported, best first: torch.export does not read TorchScript."""
    import torch

    if isinstance(module, torch.jit.ScriptModule):
        return (TORCHSCRIPT, TRACE)
    return (DYNAMO, TORCHSCRIPT, TRACE)


def export_onnx(
    module: Any,
    request: ExportRequest,
    strategy: str,
    *,
    outputs: Sequence[int | str] | None = None,
    doubts: list[str] | None = None,
) -> bytes:
    """A module as an ONNX graph with its weights inside.

    Parameters
    ----------
    module
        In evaluation mode on the CPU.
    request
        What the graph has to look like.
    strategy
        One of `strategies_of`.
    outputs
        Which outputs of the module the graph has; None: all.
    doubts
        Gets what makes it doubtful that the graph holds at other sizes: decisions of the network
        that it has frozen. Only a comparison tells; these tell why it failed.

    Raises
    ------
    ExportError
        This way does not manage; a `NetworkError` that carries its `Diagnosis`.
    NetworkError
        The graph cannot be one ONNX file (2 GB), or the network's outputs are not those asked for.
    OutOfMemoryError
        Memory ended.
    MissingDependencyError
        onnx or onnxscript is not installed.
    """
    _check(module, request, strategy)
    from ..networks.graph_names import with_names
    from .export_dynamo import by_dynamo
    from .export_script import by_torchscript, by_trace

    how = {DYNAMO: by_dynamo, TORCHSCRIPT: by_torchscript, TRACE: by_trace}[strategy]
    shown = _Shown(module, outputs, len(request.output_names))
    tries = examples(request)
    for last, arrays in ((i == len(tries) - 1, a) for i, a in enumerate(tries)):
        try:
            with quiet(), exporting():
                proto = how(shown, arrays, request)
        except BiozooError:
            raise
        except Exception as exc:
            if ran_out_of_memory(exc):
                raise OutOfMemoryError(f"Memory ended during the export ({said(exc)}).") from exc
            if refused := shown.refuses(arrays):
                if not last:
                    continue  # the sizes made up for the export do not suit this network
                raise refused from exc
            raise ExportError(diagnose(exc, module)) from exc
        if doubts is not None:
            doubts += shown.doubts
        return with_names(proto, request)
    raise AssertionError("no example")


class _Shown:
    """How exporters get to see a network: tensors in, a tuple of the kept tensors out."""

    def __init__(self, module: Any, outputs: Sequence[int | str] | None, count: int):
        torch: Any = import_torch("Exporting to ONNX", extra="pack")
        who = type(module).__name__
        base: Any = torch.nn.Module

        class Flat(base):  # type: ignore[misc]
            def __init__(self, network: Any) -> None:
                super().__init__()
                self.network = network

            def forward(self, *inputs: Any) -> Any:
                named = flat(self.network(*inputs))
                kept = chosen(named, outputs, who)
                for number, (name, value) in enumerate(kept):
                    if not isinstance(value, torch.Tensor):
                        raise not_a_tensor(who, number, name, value, len(named))
                if len(kept) != count:
                    raise NetworkError(
                        f"{who} gives {len(kept)} outputs, {count} are described. They must agree."
                    )
                return tuple(value for _, value in kept)

        self.network, self.outputs = module, outputs
        self.doubts: list[str] = []
        self._wrapper: Any = Flat
        self.flat = self.around(module)

    def around(self, network: Any) -> Any:
        """The wrapper around the network in another form, compiled."""
        return self._wrapper(network).eval()

    def tensors(self, arrays: Sequence[npt.NDArray[Any]]) -> tuple[Any, ...]:
        """Tensors of the network's floating type."""
        from ..networks.torch_network import tensors_of

        return tuple(tensors_of(arrays, self.network))

    def refuses(self, arrays: Sequence[npt.NDArray[Any]]) -> NetworkError | None:
        """What the network itself says to such inputs; None where it takes them."""
        from ..networks.torch_network import TorchNetwork

        try:
            TorchNetwork(self.network, sha256="-").call(arrays)
        except NetworkError as exc:
            return exc
        except BiozooError:
            return None
        return None


# ------------------------------------------------------------------------------------- examples


def examples(request: ExportRequest) -> list[tuple[npt.NDArray[Any], ...]]:
    """What to export with, best first.

    An exporter takes sizes that are equal for the same size, and a size of 1 for a constant. So
    first the free axes get sizes that differ (each later one a step more), batches of two; then,
    in case a network refuses those, the inputs as they are with batches of two, and as they are.
    """
    spread = tuple(_spread(a, f, apart=True) for a, f in _with_free(request))
    batched = tuple(_spread(a, f, apart=False) for a, f in _with_free(request))
    made: list[tuple[npt.NDArray[Any], ...]] = []
    for arrays in (spread, batched, request.inputs):
        if all([a.shape for a in arrays] != [b.shape for b in other] for other in made):
            made.append(arrays)
    return made


def _with_free(request: ExportRequest) -> Iterator[tuple[npt.NDArray[Any], Any]]:
    free = request.free or tuple({} for _ in request.inputs)
    return zip(request.inputs, free, strict=True)


def _spread(array: npt.NDArray[Any], free: Any, *, apart: bool) -> npt.NDArray[Any]:
    shape = list(array.shape)
    wide = [axis for axis in sorted(free) if free[axis][0] != "batch"]
    for axis in free:
        if axis not in wide:
            shape[axis] = max(2, shape[axis])
    for number, axis in enumerate(wide):
        _, step, least = free[axis]
        size = max(shape[axis], least)
        size += step if size == 1 else 0
        shape[axis] = size + (number * step if apart else 0)
    if tuple(shape) == array.shape:
        return array
    pads = [(0, new - old) for new, old in zip(shape, array.shape, strict=True)]
    return np.pad(array, pads, mode="wrap")


# ----------------------------------------------------------------------------------- conditions


def _check(module: Any, request: ExportRequest, strategy: str) -> None:
    for library in ("onnx", *(("onnxscript",) if strategy == DYNAMO else ())):
        try:
            __import__(library)
        except ImportError as exc:
            raise MissingDependencyError(
                what="Exporting to ONNX", library=library, install=install_line("pack")
            ) from exc
    if strategy not in strategies_of(module):
        ways = " and ".join(strategies_of(module))
        raise NetworkError(f"A network of this kind is not exported by {strategy}, but by {ways}.")
    size = sum(t.numel() * t.element_size() for t in (*module.parameters(), *module.buffers()))
    if size > _MOST_BYTES:
        raise NetworkError(
            f"{type(module).__name__} has {size / 2**30:.1f} GB of weights; one ONNX file holds 2 "
            "GB. Give a smaller network, or float16 weights, or keep it as TorchScript."
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of what the exporters warn, log and print: their advice is for their developers."""
    import torch

    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    printed = io.StringIO()
    # The older exporter switches this log of its own on and never off.
    log = getattr(torch._C, "_jit_onnx_log", None)
    try:
        if log is not None:
            torch._C._jit_onnx_log = lambda *_: None
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(printed),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        if log is not None:
            torch._C._jit_onnx_log = log
            torch._C._jit_set_onnx_log_enabled(False)
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """Attention as plain operators: its fused form on the CPU has no ONNX operator."""
    import torch

    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.no_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
