"""What every backend on torch shares: is torch here, which device will it use, how many threads.

`availability` decides from files and metadata and imports no torch. `resolve` asks torch itself,
because an installed CUDA build and a card do not mean that CUDA works, and says the cause where it
does not: nothing here ever takes the CPU in place of a card that was asked for.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from biozoo.errors import BackendError, DeviceError, MissingDependencyError
from biozoo.install import install_line

from .base import Availability
from .devices import (
    Machine,
    cuda_index,
    detect,
    driver_too_old,
    importable,
    is_cuda,
    no_such_card,
)
from .memory import trim_heap

if TYPE_CHECKING:
    import torch

__all__ = [
    "availability",
    "computed_in",
    "full_float32",
    "import_torch",
    "peak_memory",
    "release_memory",
    "reset_peak",
    "resolve",
    "torch_threads",
    "trim_heap",
]


def availability(machine: Machine, *, extra: str = "torch") -> Availability:
    """Whether torch is installed, and for which devices; decided from metadata.

    Parameters
    ----------
    machine
        What `devices.detect` found.
    extra
        The extra that brings torch for the caller's backend, for the install line.
    """
    if not machine.has("torch"):
        return Availability(False, "torch is not installed", install=install_line(extra))
    if not machine.cuda:
        return Availability(True, "", ("cpu",))
    if not _cuda_build(machine):
        return Availability(True, _no_cuda_build(machine, extra), ("cpu",))
    if fault := driver_too_old(machine, "torch"):
        return Availability(True, fault, ("cpu",))
    return Availability(True, "", ("cuda", "cpu"))


def computed_in(device: str) -> dict[str, str]:
    """Precisions below float32 for torch on a device: "" where it computes in them, else why not.

    On a processor those that it has instructions for: torch takes bfloat16 on any with AVX512 and
    converts to and fro. On a card bfloat16 from compute capability 8.0 on, float16 from 7.0 on
    (https://docs.nvidia.com/cuda/cuda-programming-guide, tensor cores).
    """
    torch = import_torch("Running in another precision")
    if is_cuda(device):
        index = cuda_index(device)
        if not torch.cuda.is_available():
            return {}
        major = torch.cuda.get_device_capability(index)[0]
        name = torch.cuda.get_device_name(index)
        return {
            precision: "" if major >= needed else f"{name} has no tensor cores for {precision}"
            for precision, needed in (("bfloat16", 8), ("float16", 7))
        }
    has = any(
        getattr(torch.cpu, question, lambda: False)()
        for question in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    )
    lacking = (
        "this processor does not compute in bfloat16 (it has no AVX512_BF16 or AMX), and emulating "
        "it would be slow"
    )
    return {"bfloat16": "" if has else lacking}


def import_torch(what: str, *, extra: str = "torch") -> Any:
    """The torch module.

    Parameters
    ----------
    what
        What needs it, as the beginning of a sentence: "Running TorchScript weights".

    Raises
    ------
    MissingDependencyError
        It is not installed.
    BackendError
        It is installed and cannot be imported.
    """
    try:
        import torch
    except ImportError as exc:
        if importable("torch"):
            raise BackendError(
                f"torch is installed but cannot be imported ({exc}). Install it again: "
                f"pip uninstall -y torch, then {install_line(extra)}"
            ) from exc
        raise MissingDependencyError(
            what=what, library="torch", install=install_line(extra)
        ) from exc
    if not hasattr(torch, "Tensor"):  # a leftover folder imports as an empty module
        raise BackendError(
            f"torch's files are incomplete. Remove what is left and install it again: "
            f"{install_line(extra)}"
        )
    return torch


def resolve(device: str, *, extra: str = "torch") -> torch.device:
    """The torch device for ``"cpu"``, ``"cuda"`` or ``"cuda:N"``, proven to work.

    Raises
    ------
    DeviceError
        torch cannot use the card; says why: a build without CUDA, no or too old a driver, no such
        card, a card that this build holds no code for, no memory left on it.
    """
    torch = import_torch("Running on torch", extra=extra)
    if not is_cuda(device):
        return torch.device("cpu")  # type: ignore[no-any-return]
    index = cuda_index(device)
    try:
        if torch.version.cuda is None:
            raise RuntimeError("built without CUDA")
        torch.cuda.init()
        if index >= torch.cuda.device_count():
            raise RuntimeError(f"torch sees {torch.cuda.device_count()} card(s)")
    except Exception as exc:  # RuntimeError, AssertionError: no driver, too old, broken
        why, todo = _no_start(torch, index, exc, extra)
        raise DeviceError(device=device, why=why, hint=todo) from exc
    try:
        # One kernel: a card too old or too new for this build shows only then.
        (torch.zeros(1, device=f"cuda:{index}") + 1).item()
    except Exception as exc:
        raise DeviceError(device=device, why=_no_kernel(torch, index, exc)) from exc
    return torch.device("cuda", index)  # type: ignore[no-any-return]


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 on a card with all its bits for as long as this lasts.

    torch by itself rounds to 10 bits in convolutions on a card (TF32), which the CPU does not, and
    in matrix products where the program asks for it. These settings are those of the process, so
    the first run that begins changes them and the last one that ends puts them back.
    """
    if device.type != "cuda":
        yield
        return
    _precision.begin()
    try:
        yield
    finally:
        _precision.end()


_setting = threading.Lock()


@contextmanager
def torch_threads(threads: int) -> Iterator[int]:
    """Run with so many CPU threads in this thread, and give the old number back.

    torch keeps one number per calling thread, and one more that a thread takes when it first uses
    torch. Both are put back; the second at once, so that a thread which another part of the
    program starts during the run is not held to our number.

    Yields
    ------
    int
        The threads that torch says it uses: the asked ones where its build can be told.
    """
    import torch

    before = torch.get_num_threads()
    if threads == before:
        yield before
        return
    _set_threads(torch, threads)
    try:
        yield torch.get_num_threads()
    finally:
        _set_threads(torch, before)


def _set_threads(torch: Any, threads: int) -> None:
    """Set the calling thread's number and no other: torch also sets that of threads to come."""
    with _setting:
        default = _in_new_thread(torch.get_num_threads)
        torch.set_num_threads(threads)
        _in_new_thread(lambda: torch.set_num_threads(default))


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that torch held on the card since it was last reset; None on the CPU."""
    if device.type != "cuda":
        return None
    import torch

    return int(torch.cuda.max_memory_allocated(device))


def reset_peak(device: torch.device) -> None:
    """Begin to count `peak_memory` anew."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def release_memory(device: torch.device) -> None:
    """Give memory that torch and the C library keep for later back to card and system."""
    import gc

    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
    trim_heap()


class _Precision:
    """torch's settings of float32 on a card, which all threads share."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._runs = 0
        self._before: list[tuple[Callable[[Any], None], Any]] = []

    def begin(self) -> None:
        with self._lock:
            self._runs += 1
            if self._runs == 1:
                self._before = _without_tf32()

    def end(self) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                for put, value in self._before:
                    put(value)


_precision = _Precision()


def _without_tf32() -> list[tuple[Callable[[Any], None], Any]]:
    """Switch TF32 off; what puts each setting back, with its value."""
    import torch

    backends, found = torch.backends, []
    settings: list[tuple[Callable[[], Any], Callable[[Any], None], tuple[Any, ...]]] = [
        (*_attribute(backends.cudnn, "allow_tf32"), (False,)),
        (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, ("highest",)),
    ]
    if hasattr(backends.cudnn, "conv"):  # since torch 2.9 each has a setting of its own as well
        settings += [
            (*_attribute(owner, "fp32_precision"), ("ieee", "none"))
            for owner in (backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul)
        ]
    for get, put, full in settings:
        try:
            found.append((put, get(), full))
        except RuntimeError:  # the program has set the newer ones so that the older have no answer
            continue
    changed = [(put, value, full[0]) for put, value, full in found if value not in full]
    for put, _, wanted in changed:
        put(wanted)
    return [(put, value) for put, value, _ in changed]


def _attribute(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return partial(getattr, owner, name), partial(setattr, owner, name)


# --------------------------------------------------------------------------------------- causes


def _cuda_build(machine: Machine) -> bool:
    """Whether the installed torch was built with CUDA, by its files, else by its version's tail."""
    built = machine.cuda_builds.get("torch")
    if built is not None:
        return bool(built)
    return not machine.libraries["torch"].endswith("+cpu")


def _no_cuda_build(machine: Machine, extra: str) -> str:
    line = install_line(extra)
    if machine.system == "win32":  # PyPI has a torch with CUDA for Linux only
        line += " --extra-index-url https://download.pytorch.org/whl/cu130"
    return f"this torch is built without CUDA: pip uninstall -y torch, then {line}"


def _no_start(torch: Any, index: int, error: Exception, extra: str) -> tuple[str, str]:
    """Why CUDA did not start, from the machine's facts and what torch says; and what to do."""
    machine = detect()
    why, todo = no_such_card(machine, index)
    if why:
        return why, todo
    if torch.version.cuda is None:
        return _no_cuda_build(machine, extra), ""
    if why := driver_too_old(machine, "torch"):
        return why, "Update the driver, or install a torch for an older CUDA."
    said = str(error).strip().partition("\n")[0][:300]
    built = f"this torch is built for CUDA {torch.version.cuda}, the driver is {machine.driver}"
    return f"CUDA could not start ({built}). torch says {said}", ""


def _no_kernel(torch: Any, index: int, error: Exception) -> str:
    """Why a card that CUDA lists did not compute."""
    name = torch.cuda.get_device_name(index)
    first = str(error).strip().partition("\n")[0][:300]
    if "no kernel image" in first:
        major, minor = torch.cuda.get_device_capability(index)
        known = ", ".join(torch.cuda.get_arch_list())
        return (
            f"this torch has no code for the card {name} (sm_{major}{minor}; it has {known}). "
            "Install a torch that has"
        )
    return f"the card {name} did not compute: {first}"


def _in_new_thread(work: Callable[[], Any]) -> Any:
    """What `work` returns in a thread that has not used torch yet."""
    made: list[Any] = []
    thread = threading.Thread(target=lambda: made.append(work()))
    thread.start()
    thread.join()
    return made[0]
