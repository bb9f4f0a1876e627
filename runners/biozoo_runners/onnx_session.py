"""A session of ONNX Runtime on one device and nothing else, or the error that says why not.

ONNX Runtime falls back to the CPU in silence where CUDA cannot start, graph by graph and node by
node. So its own fallback is switched off, the session is asked what it runs on, and where that is
not what was asked the cause is looked for: two builds at once, a build without CUDA, a library of
CUDA or cuDNN that cannot be loaded, the driver.
"""

from __future__ import annotations

import ctypes
import io
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

from biozoo.errors import DeviceError
from biozoo.install import install_line

from .base import framework_error, ran_out_of_memory
from .devices import (
    ONNX_RUNTIMES,
    Machine,
    cuda_index,
    detect,
    driver_too_old,
    installed,
    is_cuda,
    no_such_card,
)
from .nvml import cuda_start_error
from .onnx_faults import load_hint

__all__ = ["CPU", "CUDA", "device_error", "flavour_fault", "open_session"]

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

#: Operators that work on shapes and single numbers: ONNX Runtime leaves them to the CPU on purpose.
_SHAPE_WORK = frozenset(
    (
        "Add", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div", "Equal", "Expand",
        "Floor", "Gather", "Identity", "Max", "Min", "Mod", "Mul", "Neg", "Range", "ReduceProd",
        "Reshape", "Shape", "Size", "Slice", "Squeeze", "Sub", "Unsqueeze", "Where",
    )
)  # fmt: skip

#: How ONNX Runtime begins to tell what CUDA, cuDNN or cuBLAS answered.
_CARD_WORDS = r"(CU\w+ failure|CUDA_PATH is set|cudaSetDevice|cuDNN is unavailable)[^\n;]*"

_RECORD_NODES = "session.record_ep_graph_assignment_info"


def flavour_fault(names: Iterable[str]) -> str:
    """What is wrong with the installed builds of ONNX Runtime for CUDA, and what to do; or ""."""
    flavours = list(names)
    line = install_line("gpu")
    if len(flavours) > 1:
        return (
            f"{' and '.join(flavours)} are both installed and overwrite each other's files, which "
            f"can remove CUDA. Remove both, then install one: pip uninstall -y "
            f"{' '.join(flavours)}, then {line} or {install_line('cpu')}"
        )
    if flavours and flavours != ["onnxruntime-gpu"]:
        name = flavours[0]
        return f"this {name} has no CUDA: pip uninstall -y {name}, then {line}"
    return ""


def open_session(
    ort: Any, path: Path, model: str, device: str, threads: int
) -> tuple[Any, tuple[str, ...]]:
    """An inference session on `device`, and what a user should know of it.

    Raises
    ------
    DeviceError
        It would run on something else, or for the most part; says why.
    OutOfMemoryError
        The weights do not fit in the device's memory.
    BackendError
        The graph cannot be loaded.
    """
    printed = ""
    if is_cuda(device):
        printed = _prepare_cuda(ort, device)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # The memory pattern adds a second copy of all activations (251 MB against 163 MB for a small
    # U-Net on 512 x 512) and saves no time; without the arena a run takes 20 % longer.
    options.enable_mem_pattern = False
    options.log_severity_level = 4  # fatal only: warnings about a graph help nobody who runs it
    if is_cuda(device):
        options.add_session_config_entry(_RECORD_NODES, "1")
    try:
        session = ort.InferenceSession(
            str(path), sess_options=options, providers=_providers(device), enable_fallback=0
        )
    except Exception as exc:
        if is_cuda(device) and (error := device_error(device, exc, loading=True)) is not None:
            raise error from exc
        raise framework_error(
            exc,
            doing="load",
            model=model,
            weights=path.name,
            device=device,
            facts=f"onnxruntime {ort.__version__}.",
            hint=load_hint(str(exc)),
        ) from exc
    if hasattr(session, "disable_fallback"):  # of a run, which would go on with the CPU
        session.disable_fallback()
    _check_device(ort, device, tuple(map(str, session.get_providers())), printed)
    if is_cuda(device) and (why := _cudnn_fault()):
        raise DeviceError(device=device, why=why, hint=f"Install it: {_reinstall()}")
    flavours = installed(ONNX_RUNTIMES)
    clash = (flavour_fault(flavours),) if len(flavours) > 1 else ()
    return session, (*clash, *_check_nodes(session, device))


def device_error(device: str, error: Exception, *, loading: bool = False) -> DeviceError | None:
    """The card's failure in an exception of ONNX Runtime; None where it is about something else.

    While `loading`, a card that is not there is the cause whatever the exception says.
    """
    if ran_out_of_memory(error):
        return None
    said = re.search(_CARD_WORDS, str(error))
    if said is None and not loading:
        return None
    machine = detect()
    why, todo = no_such_card(machine, cuda_index(device))
    why = why or driver_too_old(machine, "onnxruntime-gpu")
    if not why and said is not None:
        why = f"CUDA failed. ONNX Runtime says {said.group().strip()[:300]}"
    return DeviceError(device=device, why=why, hint=todo) if why else None


def _providers(device: str) -> list[tuple[str, dict[str, Any]]]:
    """The execution providers to ask for, with options."""
    if not is_cuda(device):
        return [(CPU, {})]
    # HEURISTIC: the exhaustive default search costs 0.4 s for every new tile shape, not 0.1 s,
    # and finds nothing faster (a small U-Net on an H100).
    # kSameAsRequested: the default doubles the arena and takes memory that other tiles need.
    # use_tf32: the default rounds float32 to 10 bits in convolutions, which a package's tolerance
    # (0.001) does not always allow, and which the CPU does not do.
    options = {
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
    }
    # The first card is the default. From 1.26 on ONNX Runtime warns on standard error of any number
    # that it is given, in words that sound as if CUDA were not there.
    if index := cuda_index(device):
        options["device_id"] = str(index)
    return [(CUDA, options), (CPU, {})]


def _prepare_cuda(ort: Any, device: str) -> str:
    """Load CUDA and cuDNN that came as nvidia-* wheels; what was printed meanwhile."""
    if CUDA not in ort.get_available_providers():
        raise _not_started(ort, device, "")
    if not hasattr(ort, "preload_dlls"):
        return ""
    with _own_prints() as said:
        ort.preload_dlls()
    return said.getvalue()


def _check_device(ort: Any, device: str, providers: tuple[str, ...], printed: str) -> None:
    """Raise where the session does not run on what was asked for."""
    wanted = CUDA if is_cuda(device) else CPU
    if providers and providers[0] == wanted:
        return
    if is_cuda(device):
        raise _not_started(ort, device, printed, providers)
    got = ", ".join(providers) or "nothing"
    raise DeviceError(
        device=device, why=f"onnxruntime would run the model on {got} in its place", hint="Ask for "
        "another device, or install onnxruntime again: " + install_line("cpu"),
    )  # fmt: skip


def _not_started(
    ort: Any, device: str, printed: str, providers: tuple[str, ...] = ()
) -> DeviceError:
    """Why this onnxruntime does not offer or start CUDA, as the error to raise."""
    machine = detect()
    landed = f"onnxruntime would run the model on {', '.join(providers)} in its place: "
    start = landed if providers else ""
    for why, todo in _causes(ort, machine, device, printed):
        if why:
            return DeviceError(device=device, why=start + why, hint=todo)
    return DeviceError(
        device=device,
        why=f"{start}its CUDA part could not start, and why is not known",
        hint="See `python -c 'import onnxruntime; onnxruntime.print_debug_info()'`. "
        "Use --device cpu or auto.",
    )


def _causes(ort: Any, machine: Machine, device: str, printed: str) -> Iterator[tuple[str, str]]:
    """What can keep CUDA from starting, likeliest first: cause ("" if not it) and remedy."""
    yield no_such_card(machine, cuda_index(device))
    yield flavour_fault(installed(ONNX_RUNTIMES)), "Until then use --device cpu or auto."
    too_old = driver_too_old(machine, "onnxruntime-gpu")
    yield too_old, "Update the driver, or install an onnxruntime-gpu for an older CUDA."
    reinstall = _reinstall()
    fault = _library_fault(Path(str(getattr(ort, "__file__", ""))).parent / "capi")
    if fault:
        built = machine.cuda_builds.get("onnxruntime-gpu", "")
        for_cuda = f" (built for CUDA {built})" if built else ""
        why = f"the CUDA part of onnxruntime {ort.__version__}{for_cuda} cannot be loaded: {fault}"
        yield why, f"Install the libraries of CUDA and cuDNN that it needs: {reinstall}"
    yield cuda_start_error(), "See that nvidia-smi works; restarting the machine often helps."
    lines = [line.strip() for line in printed.splitlines() if line.strip()]
    if lines:
        yield f"onnxruntime says {lines[0][:300]}", f"Install what is missing: {reinstall}"


def _reinstall() -> str:
    return f'{sys.executable} -m pip install "onnxruntime-gpu[cuda,cudnn]"'


def _cudnn_fault(load: Callable[..., Any] = ctypes.CDLL) -> str:
    """What is wrong with cuDNN; "" where it is here.

    Newer builds of ONNX Runtime start without it, and fail at the first convolution.
    """
    names = ("cudnn64_{}.dll" if sys.platform == "win32" else "libcudnn.so.{}").format
    for version in (9, 8):
        with suppress(OSError):
            load(names(version))
            return ""
    return f"onnxruntime needs cuDNN for convolutions on a card, and {names(9)} is not here"


def _library_fault(folder: Path, load: Callable[..., Any] = ctypes.CDLL) -> str:
    """Why the library that holds ONNX Runtime's CUDA part cannot be loaded; "" if it can."""
    pattern = "onnxruntime_providers_{}.dll" if sys.platform == "win32" else (
        "libonnxruntime_providers_{}.so"
    )  # fmt: skip
    shared, cuda = (folder / pattern.format(part) for part in ("shared", "cuda"))
    if not cuda.is_file():
        return f"its file {cuda.name} is missing"
    try:
        if shared.is_file():
            load(str(shared), mode=ctypes.RTLD_GLOBAL)  # as ONNX Runtime does: cuda needs it
        load(str(cuda))
    except OSError as exc:
        text = str(exc)
        missing = re.search(r"(lib[\w+.-]*\.so[\w.]*): cannot open shared object", text)
        if missing is None:
            return text[:300]
        return f"it needs {missing.group(1)}, which is not here or of another version"
    return ""


def _check_nodes(session: Any, device: str) -> tuple[str, ...]:
    """Which nodes of the graph do not run on the card.

    Raises
    ------
    DeviceError
        More than half of the graph's work would be done on the CPU.
    """
    if not is_cuda(device) or not hasattr(session, "get_provider_graph_assignment_info"):
        return ()
    try:
        parts = session.get_provider_graph_assignment_info()
        nodes = [(str(p.ep_name), str(n.op_type)) for p in parts for n in p.get_nodes()]
    except Exception:  # an onnxruntime that does not know the question
        return ()
    work = [n for n in nodes if n[1] not in _SHAPE_WORK] or nodes
    left = Counter(op for provider, op in work if provider != CUDA)
    count = left.total()
    if not count:
        return ()
    names = ", ".join(op for op, _ in left.most_common(5))
    what = f"{count} of {len(work)} computing nodes of the graph ({names})"
    if 2 * count > len(work):
        raise DeviceError(
            device=device,
            why=f"{what} would run on the CPU in its place: onnxruntime has no CUDA code for them",
        )
    return (f"{what} run on the CPU: onnxruntime has no CUDA code for them",)


class _Prints(io.StringIO):
    """Keeps what this thread prints, and passes on what others do."""

    def __init__(self, beyond: TextIO) -> None:
        super().__init__()
        self._beyond, self._thread = beyond, threading.get_ident()

    def write(self, text: str) -> int:
        if threading.get_ident() != self._thread:
            return self._beyond.write(text)
        return super().write(text)


@contextmanager
def _own_prints() -> Iterator[io.StringIO]:
    """Catch what a library prints: a program's output is not the place for it."""
    beyond = sys.stdout
    sys.stdout = caught = _Prints(beyond)
    try:
        yield caught
    finally:
        if sys.stdout is caught:  # nobody else replaced it meanwhile
            sys.stdout = beyond
