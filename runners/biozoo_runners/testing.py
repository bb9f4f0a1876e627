"""Proof that a model does here what its author saw, and that a backend keeps its contract.

`test_package` gives the package's test tensors to the network as they are (no padding, tiling or
cropping, as bioimageio.core's own test does) and compares with the tolerance that the package
declares. `BackendContract` is a base class for the tests of a backend; see `contract`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from biozoo.errors import (
    BackendError,
    BiozooError,
    InvalidPackageError,
    NoBackendError,
    OutOfMemoryError,
    UntrustedCodeError,
    UsageError,
)

from .contract import BackendContract
from .tolerance import OutputResult, compare, tolerance_for

__all__ = [
    "BackendContract",
    "FormatResult",
    "TestReport",
    "read_test_tensors",
    "run_whole",
    "test_package",
]

if TYPE_CHECKING:
    import xarray as xr
    from bioimageio.spec.model.v0_5 import InputTensorDescr, OutputTensorDescr
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from .base import BackendInfo
    from .pipeline import Runner


@dataclass(frozen=True, slots=True)
class FormatResult:
    """One weights format: what ran and how its outputs compare, or why it did not run.

    `broken` says that it should run here and cannot even be loaded.
    """

    weights_format: str
    ran: BackendInfo | None = None
    outputs: tuple[OutputResult, ...] = ()
    fault: str = ""
    broken: bool = False

    @property
    def ok(self) -> bool:
        """Whether it ran and every output is reproduced."""
        return self.ran is not None and not self.fault and all(o.ok for o in self.outputs)

    def __str__(self) -> str:
        if self.ran is None:
            what = "NOT reproduced" if self.broken else "not tested"
            return f"{self.weights_format}: {what}: {self.fault}"
        head = f"{self.weights_format} on {self.ran.device}, {self.ran.backend} {self.ran.version}"
        return "\n".join(
            [f"{head}: {self.fault}" if self.fault else head, *(f"  {o}" for o in self.outputs)]
        )


@dataclass(frozen=True, slots=True)
class TestReport:
    """Whether a package reproduces its test tensors, per weights format."""

    __test__: ClassVar[bool] = False  # not for pytest

    model: str
    version: str | None
    formats: tuple[FormatResult, ...]

    @property
    def ok(self) -> bool:
        """Whether every format that runs here reproduces every output, and at least one runs."""
        tested = [f for f in self.formats if f.ran is not None or f.broken]
        return bool(tested) and all(f.ok for f in tested)

    @property
    def exit_code(self) -> int:
        """0 reproduced, 1 not."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self) | {"ok": self.ok}
        for made, given in zip(values["formats"], self.formats, strict=True):
            made["ok"] = given.ok
            for output, result in zip(made["outputs"], given.outputs, strict=True):
                output["ok"] = result.ok
        return values

    def __str__(self) -> str:
        verdict = (
            "reproduces its test tensors" if self.ok else "does NOT reproduce its test tensors"
        )
        name = f"{self.model}{f' {self.version}' if self.version else ''}"
        return "\n".join([f"{name} {verdict}", *(str(f) for f in self.formats)])


def test_package(  # its name is for people; pytest is told below that it is no test
    package: ModelPackage | str | Path,
    weights: str | None = None,
    device: str = "cpu",
    backend: str | None = None,
) -> TestReport:
    """Reproduce a package's test tensors.

    Parameters
    ----------
    weights
        One weights format; None tests all that run here, and says why others do not.
    device
        "cpu" gives the same numbers everywhere; "cuda" or "auto" test what a run would use.
    backend
        What executes them; None takes the first that can.

    Raises
    ------
    NoBackendError
        None of the weights can be executed here.
    InvalidPackageError
        The description is not valid, or names no test tensors.
    UntrustedCodeError
        The only format needs the author's code, which nobody has allowed; beside other formats it
        is told as not tested.
    """
    import biozoo

    from .pipeline import known_backends, load

    if isinstance(package, str | Path):
        package = biozoo.open(package)
    formats: tuple[str, ...] = package.summary.weights if weights is None else (weights,)
    if backend is not None and weights is None:  # of all formats, those that it runs
        runs = {b.name: b.weights_formats for b in known_backends()[0].values()}
        formats = tuple(f for f in formats if f in runs.get(backend, ())) or formats
    results = []
    for name in formats:
        try:
            runner = load(package, device=device, weights=name, backend=backend)
        except NoBackendError as exc:
            ways = (name, f"{name} on ")  # one backend for it, or several
            why = [w for c, w in exc.reasons.items() if c == ways[0] or c.startswith(ways[1])]
            results.append(FormatResult(name, fault="; ".join(why) or "no backend for it"))
            continue
        except UntrustedCodeError as exc:
            if len(formats) == 1:
                raise
            results.append(FormatResult(name, fault=exc.message))  # the others need no code
            continue
        except (BackendError, OutOfMemoryError) as exc:
            results.append(FormatResult(name, fault=exc.message, broken=True))
            continue
        with runner:
            results.append(_test_format(package, runner, name))
    if not any(f.ran or f.broken for f in results):
        reasons = {f.weights_format: f.fault for f in results}
        raise NoBackendError(package=package.id, reasons=reasons or {"weights": "it has none"})
    return TestReport(package.id, package.version, tuple(results))


test_package.__dict__["__test__"] = False  # not for pytest


def _test_format(package: ModelPackage, runner: Runner, name: str) -> FormatResult:
    inputs, expected = read_test_tensors(package)
    try:
        got = run_whole(runner, inputs)
    except UsageError:
        raise
    except BiozooError as exc:
        return FormatResult(name, runner.info, fault=exc.message)
    outputs = [
        compare(o, got[o], array, tolerance_for(package.descr, name, o))
        for o, array in expected.items()
    ]
    return FormatResult(name, runner.info, tuple(outputs))


def read_test_tensors(
    package: ModelPackage,
) -> tuple[dict[str, xr.DataArray], dict[str, NDArray[Any]]]:
    """The package's test inputs (dims = axis ids) and expected outputs, by tensor id.

    Raises
    ------
    InvalidPackageError
        One is not declared, cannot be read, or has another number of axes than its description.
    """
    import xarray as xr

    def read(t: InputTensorDescr | OutputTensorDescr) -> NDArray[Any] | None:
        if t.test_tensor is None:
            return None
        path = package.path(t.test_tensor.source)
        try:
            array: NDArray[Any] = np.load(path, allow_pickle=False)
        except (ValueError, OSError, EOFError) as exc:
            raise InvalidPackageError(
                source=package.rdf, fields={f"{t.id}.test_tensor": f"cannot be read: {exc}"}
            ) from exc
        if array.ndim != len(t.axes):
            fault = f"has shape {array.shape}, the tensor has {len(t.axes)} axes"
            raise InvalidPackageError(source=package.rdf, fields={f"{t.id}.test_tensor": fault})
        return array

    def required(t: InputTensorDescr | OutputTensorDescr) -> NDArray[Any]:
        if (array := read(t)) is None:
            fields = {f"{t.id}.test_tensor": "is not given"}
            raise InvalidPackageError(source=package.rdf, fields=fields)
        return array

    inputs = {}
    for tensor in package.descr.inputs:
        if tensor.test_tensor is not None or not tensor.optional:
            dims = [str(a.id) for a in tensor.axes]
            inputs[str(tensor.id)] = xr.DataArray(required(tensor), dims=dims)
    expected = {str(tensor.id): required(tensor) for tensor in package.descr.outputs}
    return inputs, expected


def run_whole(runner: Runner, inputs: Mapping[str, xr.DataArray]) -> dict[str, NDArray[Any]]:
    """Outputs for whole inputs: pre- and postprocessing, but no padding, tiling or cropping.

    Parameters
    ----------
    inputs
        Per input tensor id an array of a size that the network takes, dims = axis ids.

    Returns
    -------
    dict
        Per output tensor id an array, axes as described, batch axis included.
    """
    before, after = runner.preprocessing, runner.postprocessing
    stats = after.collect(inputs, before.collect(inputs))
    feed = {
        i: before.apply(i, data.values, [str(d) for d in data.dims], stats)
        for i, data in inputs.items()
    }
    made = runner.backend.run(feed)
    dims = {t.id: t.dims for t in runner.geometry.outputs}
    outputs = {}
    for o, array in made.items():
        if array.ndim == len(dims[o]):
            array = after.chains[o].finish(array, dims[o], stats)
        outputs[o] = array
    return outputs
