"""The seam between a package and the framework that executes its weights.

A backend takes one numpy array per input tensor id and returns one per output tensor id; nothing
of the framework crosses it, neither types nor exceptions. What all backends share is here: which
graph input belongs to which tensor, what may be cast, and how a failure is told.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypedDict

import numpy as np
import numpy.typing as npt

from biozoo.closing import Closing
from biozoo.errors import BackendError, OutOfMemoryError

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from .devices import Machine

__all__ = [
    "Availability",
    "Backend",
    "BackendInfo",
    "Described",
    "TensorPort",
    "cast_for",
    "check_inputs",
    "cpu_only",
    "described",
    "framework_error",
    "match_ports",
    "ran_out_of_memory",
    "shapes_text",
    "weights_entry",
]


@dataclass(frozen=True, slots=True)
class Availability:
    """Whether a backend can work on a machine, and if not why and what to install."""

    ok: bool
    reason: str = ""
    devices: tuple[str, ...] = ()
    install: str = ""


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """What really runs: facts asked of the framework after loading, never repeated wishes."""

    backend: str
    version: str
    weights_format: str
    device: str
    providers: tuple[str, ...]
    threads: int
    notes: tuple[str, ...] = ()
    """What a user should know of how it runs, for the report: what fell to the CPU, ..."""
    precision: str = ""
    """What it computes in where that is not the weights' own: "bfloat16", "float16", "int8"."""


@dataclass(frozen=True, slots=True)
class TensorPort:
    """One input or output as the loaded graph declares it.

    `shape` holds a number for a fixed axis, and a name or None for a free one; `dtype` is None
    where the framework does not say.
    """

    name: str
    shape: tuple[int | str | None, ...]
    dtype: np.dtype[Any] | None

    def __str__(self) -> str:
        sizes = ", ".join("?" if s is None else str(s) for s in self.shape)
        return f"{self.name} {self.dtype.name if self.dtype else 'any type'} ({sizes})"


class Backend(Closing, ABC):
    """Executes one weights format on one device: numpy in, numpy out.

    Made by `open`, used as a context manager or ended with `close`. One backend runs one call at
    a time; open another for another thread.
    """

    name: ClassVar[str]
    weights_formats: ClassVar[tuple[str, ...]]

    #: Whether the package's own code runs: such a backend is chosen for trusted packages only.
    runs_code: ClassVar[bool] = False

    @classmethod
    @abstractmethod
    def available(cls, machine: Machine) -> Availability:
        """Whether this backend can work on `machine`; imports no framework."""

    @classmethod
    @abstractmethod
    def open(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int | None = None
    ) -> Self:
        """Load the package's weights.

        Parameters
        ----------
        package
            The model; its description gives the tensor ids and the weights file.
        weights_format
            One of `weights_formats`.
        device
            ``"cpu"``, ``"cuda"`` or ``"cuda:N"``; ``"auto"`` is resolved before.
        threads
            Threads for one operation; None takes the usable physical cores.

        Raises
        ------
        MissingDependencyError
            The framework is not installed.
        DeviceError
            Something other than `device` would be used.
        BackendError
            The weights cannot be loaded.
        """

    @classmethod
    def precisions(
        cls, package: ModelPackage, weights_format: str, *, device: str
    ) -> Mapping[str, str]:
        """Precisions below float32 that this backend knows: "" or why not of these weights here.

        Those that the hardware computes in itself, and those that the package has weights of. May
        import the framework; asked only where a person wants another precision than float32.
        """
        return {}

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
        """As `open`, to compute in a precision for which `precisions` says "".

        Raises
        ------
        BackendError
            As `open` does, and where the framework would compute in something else.
        """
        raise BackendError(f"{cls.name} computes {weights_format} weights as they are only.")

    @abstractmethod
    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the network once.

        Parameters
        ----------
        inputs
            Per input tensor id one array, axes in the order of the description. An optional
            input may be left out.

        Returns
        -------
        dict
            Per output tensor id, in the order of the description, one array as the network made
            it (its own dtype; halo not cropped).

        Raises
        ------
        BackendError
            A missing or unknown input, a type that cannot be cast without loss, or a failure of
            the framework.
        OutOfMemoryError
            The arrays do not fit in the device's memory.
        """

    @property
    @abstractmethod
    def info(self) -> BackendInfo:
        """What is loaded and where it runs."""

    @property
    def peak_device_memory(self) -> int | None:
        """Most bytes taken on the graphics card so far; None on the CPU or where unknown."""
        return None

    @property
    def peak_host_memory(self) -> int:
        """Most bytes of memory taken so far by processes that this backend started."""
        return 0

    def free_cached(self) -> None:
        """Give memory back that is kept for later calls; called before a run is tried with smaller
        tiles. The backend stays open.
        """

    @abstractmethod
    def close(self) -> None:
        """Free the weights and the framework's memory; may be called twice."""


class Described(TypedDict):
    """What every backend needs of a description."""

    model: str
    input_ids: tuple[str, ...]
    output_ids: tuple[str, ...]
    optional: frozenset[str]


def described(package: ModelPackage) -> Described:
    """The model's id, and the ids of its tensors in the order of the description."""
    from .program import program_of

    model = program_of(package).geometry
    return Described(
        model=package.id,
        input_ids=tuple(t.id for t in model.inputs),
        output_ids=tuple(t.id for t in model.outputs),
        optional=frozenset(t.id for t in model.inputs if t.optional),
    )


def weights_entry(
    package: ModelPackage, weights_format: str, backend: type[Backend]
) -> Mapping[str, Any]:
    """The description's entry of the weights that a backend is to load.

    Raises
    ------
    BackendError
        The package has no such weights, or the backend does not take them.
    """
    weights = package.raw["weights"].get(weights_format)
    if weights_format not in backend.weights_formats or weights is None:
        raise BackendError(
            f"Model '{package.id}' has no {weights_format} weights that {backend.name} can load."
        )
    return dict(weights)


def match_ports(
    what: str, ids: Sequence[str], ports: Sequence[TensorPort], *, model: str
) -> dict[str, TensorPort]:
    """Which graph input or output is which tensor.

    By name where every tensor id is the name of a port: an exporter may have changed the order,
    and a name cannot mislead then. Otherwise by order, as bioimageio.core does.

    Parameters
    ----------
    what
        ``"input"`` or ``"output"``, for messages.
    ids
        The tensor ids, in the order of the description.
    ports
        What the graph declares, in its order.
    model
        The model's id, for messages.

    Raises
    ------
    BackendError
        Fewer ports than tensors, or an input that the description does not know.
    """
    if len(ports) < len(ids) or (what == "input" and len(ports) > len(ids)):
        raise BackendError(
            f"Model '{model}': the description has {len(ids)} {what}(s) ({', '.join(ids)}), the "
            f"graph declares {len(ports)} ({', '.join(map(str, ports))}). They must agree; ask "
            "the package's author to correct the description or the weights."
        )
    by_name = {port.name: port for port in ports}
    if all(i in by_name for i in ids):
        return {i: by_name[i] for i in ids}
    return dict(zip(ids, ports, strict=False))


def check_inputs(
    given: Iterable[str], takes: Collection[str], optional: Collection[str], *, model: str
) -> None:
    """Raise where an input is unknown, or one that is not optional was left out.

    Parameters
    ----------
    given, takes, optional
        Tensor ids: those of a call, those of the description, and which of these may be absent.
    model
        The model's id, for messages.

    Raises
    ------
    BackendError
        Names the inputs.
    """
    here = set(given)
    if unknown := [i for i in given if i not in takes]:
        raise BackendError(
            f"Model '{model}' has no input {', '.join(map(repr, unknown))}; it takes "
            f"{', '.join(takes)}."
        )
    if missing := [i for i in takes if i not in here and i not in optional]:
        raise BackendError(
            f"Model '{model}' needs the input {', '.join(map(repr, missing))}, which was not "
            f"given; it takes {', '.join(takes)}."
        )


def cast_for(
    array: npt.NDArray[Any], port: TensorPort, *, tensor: str, model: str
) -> npt.NDArray[Any]:
    """`array` in the port's dtype, contiguous.

    Between floating types the network's own precision decides. Any other change must keep every
    value: bioimage.io describes a tensor's dtype, and a silent rounding would be a wrong result.

    Raises
    ------
    BackendError
        Values would be lost.
    """
    wanted = port.dtype
    if wanted is None or array.dtype == wanted:
        return np.ascontiguousarray(array)
    both_floating = array.dtype.kind == "f" and wanted.kind == "f"
    with np.errstate(all="ignore"):
        cast = np.ascontiguousarray(array, dtype=wanted)
    if both_floating or np.can_cast(array.dtype, wanted, "safe") or np.array_equal(cast, array):
        return cast
    raise BackendError(
        f"Model '{model}': input '{tensor}' is {array.dtype}, the graph takes {wanted.name}, and "
        f"the values do not survive that ({array.min()} to {array.max()}). Its preprocessing "
        f"should end with ensure_dtype {wanted.name}; ask the package's author to add it."
    )


def shapes_text(arrays: Mapping[str, npt.NDArray[Any]]) -> str:
    """``raw float32 (1, 1, 64, 64), ...`` for messages."""
    return ", ".join(f"{i} {a.dtype} {a.shape}" for i, a in arrays.items())


#: What frameworks write when memory ends; few have an exception type of their own for it.
_MEMORY_WORDS = (
    "bad_alloc", "bad allocation", "out of memory", "not enough memory", "failed to allocate",
    "unable to allocate", "can't allocate memory", "cannot allocate memory", "cuda_oom",
    "oom when allocating", "alloc_failed", "resource_exhausted", "resourceexhausted",
)  # fmt: skip


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an exception, of whatever framework, says that memory ended."""
    text = f"{type(error).__name__}: {error}".lower()
    return isinstance(error, MemoryError) or any(word in text for word in _MEMORY_WORDS)


def cpu_only(text: str, device: str) -> str:
    """What to do where a network's code makes tensors on the CPU wherever it runs itself; or ""."""
    if device == "cpu" or "all tensors to be on the same device" not in text:
        return ""
    return "Its own code makes tensors on the CPU, so it runs there only: use --device cpu."


def framework_error(
    error: Exception,
    *,
    doing: str,
    model: str,
    weights: str,
    device: str,
    facts: str,
    hint: str,
) -> BackendError | OutOfMemoryError:
    """The error to raise from a framework's exception, with what was asked of it.

    Parameters
    ----------
    error
        What the framework raised.
    doing
        ``"load"`` or ``"run"``.
    model, weights, device
        What was being executed and where.
    facts
        What was given and what the graph declares.
    hint
        What to do about it.
    """
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    cause = f"{type(error).__name__}: {first[:600]}"
    if ran_out_of_memory(error):
        loading = "Close other programs that use it, or take a model with smaller weights."
        smaller = "Use a smaller tile, for example --tile y=256,x=256."
        return OutOfMemoryError(
            f"Model '{model}' ({weights}) ran out of memory on {device}. {facts} "
            f"{loading if doing == 'load' else smaller} The framework says {cause}"
        )
    return BackendError(
        f"Model '{model}' ({weights}) failed to {doing} on {device}. {facts} {hint} "
        f"The framework says {cause}"
    )
