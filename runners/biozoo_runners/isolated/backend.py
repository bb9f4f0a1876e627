"""A backend whose framework lives in a confined child process.

A subclass names its executor and says what to hand to it; loading, matching of tensors, calls,
errors, memory and closing are here.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from biozoo.errors import BackendError, DeviceError, OutOfMemoryError

from ..base import (
    Backend,
    BackendInfo,
    TensorPort,
    cast_for,
    check_inputs,
    cpu_only,
    described,
    framework_error,
    match_ports,
    shapes_text,
    weights_entry,
)
from ..devices import cuda_index, is_cuda, usable_cores
from .client import Child, ForeignError, first_line

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["IsolatedBackend", "Request"]


#: "float32" and its like.
_DTYPE = re.compile(r"[<>=|]?[a-z]+[0-9]{0,3}")

ASK = "Ask the package's author."


@dataclass(frozen=True, slots=True)
class Request:
    """What a child needs to load some weights.

    Attributes
    ----------
    facts
        For the executor: plain JSON values. `IsolatedBackend` adds ``device``, ``threads``,
        ``input_ids`` and ``output_ids`` (tensor ids in the order of the description).
    readable
        Files and folders that it may read besides the installed software.
    env
        Environment variables to add.
    weights_name
        The weights' file name, for messages.
    code
        Whether code of the package's author will run, for a backend that does not always run it.
    """

    facts: Mapping[str, Any]
    readable: tuple[Path, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    weights_name: str = "weights"
    code: bool = False


class IsolatedBackend(Backend):
    """All of a backend but `available` and `request`."""

    #: ``"module:Class"`` of the `Executor` in the child.
    executor: ClassVar[str]

    #: What to do where the framework refuses to load, and where it refuses to run.
    load_hint: ClassVar[str] = "Run `zoo verify` on it; another version of the framework may do."
    run_hint: ClassVar[str] = "Give sizes that the network takes, for example with --tile."

    @classmethod
    @abstractmethod
    def request(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int
    ) -> Request:
        """What to hand to the executor; raises where the package cannot or may not be run."""

    @classmethod
    def open(
        cls, package: ModelPackage, weights_format: str, *, device: str, threads: int | None = None
    ) -> Self:
        """Load the package's weights in a child process; see `Backend.open`."""
        weights_entry(package, weights_format, cls)
        threads = threads or usable_cores()[1]
        request = cls.request(package, weights_format, device=device, threads=threads)
        return cls(
            request,
            **described(package),
            weights_format=weights_format,
            device=device,
            threads=threads,
        )

    def __init__(
        self,
        request: Request,
        *,
        model: str,
        weights_format: str,
        input_ids: tuple[str, ...],
        output_ids: tuple[str, ...],
        optional: frozenset[str] = frozenset(),
        device: str = "cpu",
        threads: int = 1,
    ):
        """Start the child and load; see `open`."""
        self._model, self._weights, self._device = model, request.weights_name, device
        self._format, self._threads = weights_format, threads
        self._ids, self._output_ids, self._optional = input_ids, output_ids, optional
        self._foreign = self.runs_code or request.code
        self._open = True
        try:
            self._child = Child.start(
                self.executor,
                {
                    "device": device,
                    "threads": threads,
                    "input_ids": list(input_ids),
                    "output_ids": list(output_ids),
                    **request.facts,
                },
                model=model,
                doing=f"load its weights {self._weights}",
                threads=threads,
                device=device,
                readable=request.readable,
                env=request.env,
            )
        except ForeignError as exc:
            raise self._told(exc, "load", "", self.load_hint) from exc
        try:
            self._child.doing = f"run its weights {self._weights}"
            self._facts = self._child.facts
            self._check_device()
            self._inputs = self._ports("input", input_ids)
            self._outputs = self._ports("output", output_ids)
        except BaseException:
            self.close()
            raise

    @property
    def info(self) -> BackendInfo:
        """What is loaded and where the child says it runs."""
        threads = self._facts.get("threads")
        return BackendInfo(
            backend=self.name,
            version=str(self._facts.get("version", ""))[:80],
            weights_format=self._format,
            device=self._device,
            providers=tuple(str(p)[:80] for p in _list(self._facts.get("providers"))[:8]),
            threads=threads if isinstance(threads, int) and 0 < threads < 2**16 else self._threads,
            notes=self._child.code_notes if self._foreign else (),
        )

    @property
    def unprotected(self) -> tuple[str, ...]:
        """The protections that the child does without on this machine."""
        return self._child.unprotected

    @property
    def peak_host_memory(self) -> int:
        """Most bytes of memory that the child has taken."""
        return self._child.peak_memory

    @property
    def peak_device_memory(self) -> int | None:
        """Most bytes that the child has taken on the graphics card; None on the CPU."""
        return self._child.peak_device_memory if is_cuda(self._device) else None

    def run(self, inputs: Mapping[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Execute the network once; see `Backend.run`."""
        if not self._open:
            raise BackendError(f"Model '{self._model}' is closed. Open it again to run it.")
        check_inputs(inputs, self._ids, self._optional, model=self._model)
        try:
            results = self._child.run(self._arranged(inputs))
        except ForeignError as exc:
            left_out = [i for i in self._ids if i not in inputs]
            absent = f" Left out: {', '.join(left_out)}." if left_out else ""
            given = f"Given: {shapes_text(inputs)}.{absent}{self._declared()}"
            raise self._told(exc, "run", given, self.run_hint) from exc
        return self._named(results)

    def free_cached(self) -> None:
        """Give back what the child and the memory shared with it keep for later calls."""
        if self._open:
            self._child.free_cached()

    def close(self) -> None:
        """End the child; may be called twice."""
        self._open = False
        self._child.close()

    # ------------------------------------------------------------------------------- tensors

    def _ports(self, what: str, ids: tuple[str, ...]) -> list[tuple[str, TensorPort]] | None:
        """The graph's ports in its own order, each with its tensor id ("" for none); None where
        the framework does not say.
        """
        told = self._facts.get(f"{what}s")
        if told is None:
            return None
        ports = [self._port(p) for p in _list(told)]
        matched = match_ports(what, ids, ports, model=self._model)
        tensor = {id(port): i for i, port in matched.items()}
        return [(tensor.get(id(port), ""), port) for port in ports]

    def _port(self, told: Any) -> TensorPort:
        try:
            name, shape, dtype = told
            if not isinstance(shape, list) or len(shape) > 32:
                raise ValueError("no shape")
            if dtype and not (isinstance(dtype, str) and _DTYPE.fullmatch(dtype)):
                raise ValueError("no name of a type")  # numpy would parse, and evaluate, more
            sizes = tuple(map(_size, shape))
            return TensorPort(str(name)[:200], sizes, np.dtype(dtype) if dtype else None)
        except (TypeError, ValueError) as exc:
            raise BackendError(
                f"Model '{self._model}': its process describes a tensor as {str(told)[:200]}, "
                "which cannot be understood."
            ) from exc

    def _arranged(
        self, inputs: Mapping[str, npt.NDArray[Any]]
    ) -> Sequence[npt.NDArray[Any] | None]:
        if self._inputs is None:
            given = [inputs.get(i) for i in self._ids]
            return [
                a if a is None else a.astype(a.dtype.newbyteorder("="), copy=False) for a in given
            ]
        return [
            cast_for(inputs[i], port, tensor=i, model=self._model) if i in inputs else None
            for i, port in self._inputs
        ]

    def _named(self, results: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        ids = self._output_ids if self._outputs is None else [i for i, _ in self._outputs]
        if len(results) < len(ids):
            raise BackendError(
                f"Model '{self._model}' ({self._weights}) gave {len(results)} output(s), its "
                f"description has {len(ids)} ({', '.join(ids)}). They must agree; ask the "
                "package's author."
            )
        by_id = dict(zip(ids, results, strict=False))  # more than described are left
        for i in self._output_ids:
            if by_id[i].dtype.kind == "c":
                raise BackendError(
                    f"Model '{self._model}' ({self._weights}) gave output '{i}' as complex numbers "
                    f"({by_id[i].dtype}); it must be real. Ask the package's author."
                )
        return {i: by_id[i] for i in self._output_ids}

    def _declared(self) -> str:
        if self._inputs is None:
            return ""
        return f" The graph declares: {', '.join(str(port) for _, port in self._inputs)}."

    # ------------------------------------------------------------------------------- failures

    def _check_device(self) -> None:
        used = self._facts.get("device", self._device)
        if not _same_device(str(used), self._device):
            why = f"{self.name} would run the model on {str(used)[:80]} in its place"
            raise DeviceError(device=self._device, why=why)

    def _told(
        self, error: ForeignError, doing: str, facts: str, hint: str
    ) -> BackendError | OutOfMemoryError | DeviceError:
        """The error to raise for what the executor raised."""
        text = error.text
        only = cpu_only(text, self._device)
        if error.kind in ("DeviceRefused", "DeviceError"):
            # biozoo's own error, raised in the child, is a whole sentence: its cause is taken.
            cause = text.removeprefix(f"Device '{self._device}' cannot be used: ")
            cause = cause.removesuffix("Use --device cpu or auto.").strip()
            cause = cause.removesuffix("Else:").strip().rstrip(".")
            return DeviceError(device=self._device, why=cause)
        if error.kind == "NotFitting":
            return BackendError(
                " ".join(p for p in (f"Model '{self._model}' ({self._weights}):", text, facts) if p)
            )
        out = error.kind in ("MemoryError", "OutOfMemoryError", "ResourceExhaustedError")
        shadow = type(error.kind, (MemoryError if out else Exception,), {})
        told = framework_error(
            shadow(text),
            doing=doing,
            model=self._model,
            weights=self._weights,
            device=self._device,
            facts=facts,
            hint=only or hint,
        )
        if not error.where or isinstance(told, OutOfMemoryError):
            return told
        return BackendError(
            f"Model '{self._model}' ({self._weights}) failed to {doing} on {self._device}: its "
            f"author's code ({error.where}) raised {error.kind}: {first_line(text)}. "
            f"{' '.join(p for p in (facts, only) if p) or ASK}"
        )


def _size(told: object) -> int | str | None:
    """A size of a tensor as the child tells it; None where it is none."""
    if isinstance(told, str):
        return told[:80]
    return told if isinstance(told, int) and 0 <= told < 2**62 else None


def _same_device(used: str, asked: str) -> bool:
    if is_cuda(used) != is_cuda(asked):
        return False
    try:
        return not is_cuda(asked) or cuda_index(used) == cuda_index(asked)
    except ValueError:  # "cuda:x"
        return False


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
