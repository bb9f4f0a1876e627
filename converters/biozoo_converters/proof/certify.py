"""Repeats a package's certificate on this machine: `zoo certify MODEL`.

What is compared, for every weights format that runs here:

- with the original: the network given by `against`, else its values in `certificate.json`;
- the formats with one another, on every element;
- a batch with its images, tiles with the whole, the package's own test tensors;
- the files with the hashes that the certificate was made for.

A package without a certificate has no original: all else is compared, and the report says so.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from biozoo.errors import (
    BackendError,
    BiozooError,
    InvalidPackageError,
    NoBackendError,
    UsageError,
)

from ..networks.network import Named
from ..networks.opening import open_weights, runs_on, weights_files
from .attest import seconds_per_megapixel
from .certificate import Certificate
from .certify_report import CertifyReport, Check, FormatReport
from .comparing import Comparing, variant_reports
from .probes import Probes
from .prove import first_line
from .setting import Setting, remembered
from .timing import versions

if TYPE_CHECKING:
    from biozoo.package import ModelPackage
    from biozoo_runners.base import Backend
    from biozoo_runners.testing import FormatResult

    from ..networks.network import Network, Progress, Reference

__all__ = ["CertifyReport", "certify"]

#: Formats that others are made from, best first: what stands for the original where none is known.
ORDER = (
    "pytorch_state_dict", "keras_v3", "keras_hdf5", "tensorflow_saved_model_bundle", "torchscript",
    "onnx",
)  # fmt: skip


def certify(
    package: ModelPackage,
    *,
    device: str = "cpu",
    backend: str | None = None,
    against: Network | None = None,
    timing: bool = True,
    progress: Progress | None = None,
) -> CertifyReport:
    """Repeat every comparison of a package's certificate, or all that can be compared without one.

    Parameters
    ----------
    device, backend
        What executes the weights.
    against
        The original network, where it is at hand: every element is compared with it.
    timing
        Whether seconds per megapixel are measured, too.
    progress
        Called with (what, cases done, cases).

    Returns
    -------
    CertifyReport
        `ok` where everything that runs here holds.

    Raises
    ------
    NoBackendError, DeviceError, UntrustedCodeError
        Nothing of it can run here.
    InvalidPackageError
        The description or its certificate cannot be read.
    """
    certificate = Certificate.of(package)
    setting = Setting.of(package)
    probes, faults = _probes(package, certificate)
    notes = list(setting.notes)
    if probes is not None:
        _check_fits(package, setting, probes)
        setting = replace(setting, draws=probes.draws, trials=tuple(c.trial for c in probes.cases))
    with contextlib.ExitStack() as stack:
        opened, unopened = _open(package, stack, device=device, backend=backend)
        reports = {f: _changed(package, certificate, f) for f in package.summary.weights}
        reports |= {
            f: replace(reports[f], fault=_joined(reports[f].fault, first_line(exc)),
                       broken=reports[f].broken or isinstance(exc, BackendError))
            for f, exc in unopened.items()
        }  # fmt: skip
        lead = _lead(package, certificate, list(opened))
        original: Reference | None = None
        if against is not None:
            ids = (t.id for t in setting.model.inputs if t.id in setting.real)
            original = Named(against, tuple(ids), tuple(t.id for t in setting.model.outputs))
            notes += _same_original(against, certificate)
        tests = _tests(package, list(opened), device, backend, notes)
        base = Comparing(setting, certificate, probes, original, faults, notes, progress)
        lead_memory = remembered(opened[lead])
        for name, candidate in opened.items():
            way = lead_memory if name == lead else candidate
            checks = base.original_checks(name, way)
            checks += base.checks(name, way, lead, lead_memory)
            if name in tests:
                checks.append(tests[name])
            reports[name] = replace(reports[name], runs_on=runs_on(candidate), checks=tuple(checks))
        variants = variant_reports(package, base, lead, lead_memory, device, backend)
        if timing:
            ways: dict[str, Reference] = dict(opened)
            for name, speed in seconds_per_megapixel(setting, ways).items():
                reports[name] = replace(reports[name], seconds_per_megapixel=speed)
    if against is not None:
        stands = f"the network {against.name}"
    elif probes is not None and certificate is not None:
        stands = f"values of {certificate.reference} at 64 places of {len(probes.cases)} cases"
    else:
        stands = ""
    return CertifyReport(
        package.id,
        package.version,
        certificate,
        stands,
        (*reports.values(), *variants),
        tuple(dict.fromkeys(faults)),
        tuple(dict.fromkeys(notes)),
        versions(),
    )


# ------------------------------------------------------------------------------ what is compared


def _probes(
    package: ModelPackage, certificate: Certificate | None
) -> tuple[Probes | None, list[str]]:
    """The original's values, and what is wrong with them."""
    if certificate is None:
        return None, []
    if not certificate.proofs:
        return None, ["the certificate proves nothing: it names no weights"]
    source, sha256 = (certificate.probes.get(k, "") for k in ("source", "sha256"))
    if not source:
        return None, ["the certificate has no values of the original: nothing can be repeated"]
    from biozoo.files import sha256_of

    try:
        path = package.path(source)
    except BiozooError as exc:
        return None, [f"the original's values are not there: {first_line(exc)}"]
    if sha256_of(path) != sha256:
        return None, [f"{source} was changed since the certificate was made"]
    return Probes.read(path), []


def _check_fits(package: ModelPackage, setting: Setting, probes: Probes) -> None:
    """Refuse values of another model: tensors or numbers of axes that the description lacks."""
    for n, case in enumerate(probes.cases, start=1):
        for tensor, shape in case.trial.shapes.items():
            known = setting.real.get(tensor)
            if known is None or known.ndim != len(shape) or tensor not in probes.draws:
                raise InvalidPackageError(
                    source=package.path("certificate.json"),
                    why=f"its case {n} has an input '{tensor}' of {len(shape)} axes, the "
                    "description has no such one.",
                    hint="Pack the model again.",
                )
            if not probes.draws[tensor].fits(shape):
                raise InvalidPackageError(
                    source=package.path("certificate.json"),
                    why=f"its case {n} does not fit the description: values of '{tensor}' are "
                    "described for other axes.",
                    hint="Pack the model again.",
                )


def _open(
    package: ModelPackage, stack: contextlib.ExitStack, *, device: str, backend: str | None
) -> tuple[dict[str, Backend], dict[str, BiozooError]]:
    """The formats that can be opened here, and why others cannot.

    Raises
    ------
    BiozooError
        None can, and that is this machine's fault.
    """
    opened: dict[str, Backend] = {}
    failed_: dict[str, BiozooError] = {}
    for name in _able(package, backend):
        try:
            opened[name] = stack.enter_context(
                open_weights(package, name, backend=backend, device=device)
            )
        except BiozooError as exc:
            failed_[name] = exc
    if not opened:
        only = list(failed_.values())
        if len(only) == 1:
            raise only[0]
        reasons = {f: first_line(exc) for f, exc in failed_.items()}
        raise NoBackendError(package=package.id, reasons=reasons or {"weights": "it has none"})
    return opened, failed_


def _able(package: ModelPackage, backend: str | None) -> Sequence[str]:
    """The formats to open: all, or those that the asked backend runs."""
    formats = package.summary.weights
    if backend is None:
        return formats
    from biozoo_runners.pipeline import known_backends

    runs = {b.name: b.weights_formats for b in known_backends()[0].values()}
    if backend not in runs:
        known = ", ".join(sorted(runs))
        raise UsageError(f"No backend is called '{backend}'; there are {known}.")
    return tuple(f for f in formats if f in runs[backend]) or formats


def _changed(package: ModelPackage, certificate: Certificate | None, name: str) -> FormatReport:
    """Whether a format's files are those that were proven, or at least those described."""
    files = weights_files(package, name)
    told = None if certificate is None else certificate.proof(name)
    if certificate is not None and told is None:
        return _unproven(certificate, name, files)
    if told is not None and not told.ok:
        return FormatReport(name, fault=f"not proven by its author: {told.fault}", broken=True)
    if told is not None and not all(c.ok for c in told.counted):
        fault = "the certificate contradicts itself: proven, and a case that differs"
        return FormatReport(name, fault=fault, broken=True)
    if told is not None and not told.files:
        fault = "the certificate does not say of which files it is"
        return FormatReport(name, fault=fault, broken=True)
    if told is not None:
        for source, sha in told.files.items():
            if files.get(source) != sha:
                now = f"is {files[source][:12]}..." if files.get(source) else "is not there"
                fault = f"proven was {source} with sha256 {sha[:12]}..., what is here {now}"
                return FormatReport(name, fault=fault, broken=True)
        return FormatReport(name)
    declared = (package.raw["weights"].get(name) or {}).get("sha256")
    source = next(iter(files), "")
    if declared and files.get(source) and files[source] != str(declared).lower():
        fault = f"{source} is not the file that the description names (its sha256 differs)"
        return FormatReport(name, fault=fault, broken=True)
    return FormatReport(name)


def _unproven(certificate: Certificate, name: str, files: Mapping[str, str]) -> FormatReport:
    """Weights without a proof of their own: the original itself, or some that came later."""
    original = certificate.reference
    if original.format == name and original.sha256:
        if original.sha256 in files.values():
            return FormatReport(name)
        fault = f"these weights are not the original of the certificate ({original})"
        return FormatReport(name, fault=fault, broken=True)
    return FormatReport(name, fault="the certificate has no proof of these weights: compared here")


def _lead(package: ModelPackage, certificate: Certificate | None, names: Sequence[str]) -> str:
    """The format that the others are compared with: the original's own, else what others are made
    from, else the first.
    """
    weights: Mapping[str, Mapping[str, object]] = package.raw["weights"]

    def rank(name: str) -> tuple[bool, bool, int]:
        own = certificate is not None and certificate.reference.format == name
        made = bool((weights.get(name) or {}).get("parent"))
        return (not own, made, ORDER.index(name) if name in ORDER else len(ORDER))

    return min(names, key=rank)


def _tests(
    package: ModelPackage,
    names: Sequence[str],
    device: str,
    backend: str | None,
    notes: list[str],
) -> dict[str, Check]:
    """The package's own test tensors, per format."""
    from biozoo_runners.testing import test_package

    found = {}
    for name in names:
        try:
            report = test_package(package, name, device, backend)
        except BiozooError as exc:
            notes.append(f"{name}: its test tensors were not compared: {first_line(exc)}")
            continue
        found[name] = _test_check(report.formats[0])
    return found


def _test_check(result: FormatResult) -> Check:
    outputs = result.outputs
    faults = [result.fault, *(str(o) for o in outputs if not o.ok)]
    return Check(
        "test tensors",
        1,
        result.ok,
        max((o.absolute_error for o in outputs), default=0.0),
        max((o.relative_error for o in outputs), default=0.0),
        max((o.off_per_million for o in outputs), default=0.0),
        max((o.tolerance.per_million for o in outputs), default=0.0),
        next((f for f in faults if f), ""),
    )


def _same_original(against: Network, certificate: Certificate | None) -> list[str]:
    """Whether the network given is the one that the certificate names."""
    if certificate is None or not (certificate.reference.sha256 and against.sha256):
        return []
    if against.sha256 == certificate.reference.sha256:
        return []
    return [
        f"{against.name} has other weights (sha256 {against.sha256[:12]}...) than the original of "
        f"the certificate ({certificate.reference})"
    ]


def _joined(*parts: str) -> str:
    return "; ".join(re.sub(r"\.$", "", p) for p in parts if p)
