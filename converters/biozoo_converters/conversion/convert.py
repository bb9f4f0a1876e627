"""A weights format more for a package, with proof: what `zoo convert` does.

    done = convert(biozoo.open("model.zip"), "onnx", out=Path("model-onnx.zip"))
    print(done.proof)

A conversion adds to a copy of the package: nothing of the original is changed, and where no way is
proven nothing is written.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from biozoo.errors import (
    ConversionError,
    MissingDependencyError,
    NotFoundError,
    UsageError,
)
from biozoo.files import sha256_of
from biozoo.package import check_files

from ..networks.network import Progress, Reference
from ..networks.opening import open_weights
from ..proof.probes import NAME as PROBES
from ..proof.prove import remembered
from ..proof.setting import network_inputs
from .base import Converter, Job, converters
from .proving import first_proven
from .source_package import attach, copied
from .writing import check_target, write_package

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..proof.certificate import FormatProof
    from .drafts import Draft

__all__ = ["Conversion", "Plan", "convert", "first_proven", "plan", "targets"]


@dataclass(frozen=True)
class Plan:
    """What a conversion would do.

    Attributes
    ----------
    model, target
        The package's id, and the weights format to make.
    ways
        (weights format, converter), in the order in which they are tried.
    out
        Where the package with both formats will be.
    free
        Axes of the inputs whose size stays variable, as ``"raw.y (64 + n*16)"``.
    notes
        What to know before.
    """

    model: str
    target: str
    ways: tuple[tuple[str, str], ...]
    out: Path
    free: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "target": self.target,
            "ways": [{"source": s, "converter": c} for s, c in self.ways],
            "out": str(self.out),
            "free_axes": list(self.free),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        ways = ", then ".join(f"{source} by {name}" for source, name in self.ways)
        free = ", ".join(self.free) or "none"
        return (
            f"{self.model} to {self.target}: {ways}\nvariable sizes: {free}\nwould write {self.out}"
        )


@dataclass(frozen=True)
class Conversion:
    """What was added to a package, and its proof."""

    model: str
    source: str
    target: str
    converter: str
    out: Path
    entry: Mapping[str, Any]
    proof: FormatProof
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "source": self.source,
            "target": self.target,
            "converter": self.converter,
            "out": str(self.out),
            "weights": dict(self.entry),
            "proof": self.proof.to_dict(),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        return f"{self.model}: {self.target} made from {self.source}\n{self.proof}\n{self.out}"


def convert(
    package: ModelPackage,
    to: str,
    *,
    source: str | None = None,
    out: Path | None = None,
    timing: bool = True,
    progress: Progress | None = None,
) -> Conversion:
    """Add weights of the format `to` to a copy of a package, proven.

    Parameters
    ----------
    package
        Must have test tensors: they are what networks are traced with, and the real input of the
        proof.
    to
        A weights format of `targets`.
    source
        The weights to convert from; None takes the best that can be used here, and the next where
        no way from it is proven.
    out
        A path that ends in ``.zip``, or a folder; default ``<id>-<to>.zip`` in the working folder.
    timing
        False leaves the seconds per megapixel out of the certificate.
    progress
        Called with (what, done, total or None).

    Raises
    ------
    UsageError
        The package has such weights, has none to convert from, or nothing makes them.
    UntrustedCodeError
        The package's own code would have to run, and nobody has allowed it.
    MissingDependencyError
        A library is not installed.
    ConversionError
        No way is proven; says of each why.
    StorageError
        The new package cannot be written.
    """
    planned, ways = _plan(package, to, source, out)
    check_target(planned.out)
    check_files(package)
    inputs = network_inputs(package)
    with tempfile.TemporaryDirectory(prefix="biozoo-convert-") as folder:
        draft = copied(package, Path(folder))
        tried: dict[str, str] = {}
        for origin, converter in ways:
            try:
                job = Job(package, origin, inputs)
                done = _converted(job, converter, draft, planned, timing, progress)
            except ConversionError as exc:
                tried |= {f"from {origin} by {way}": why for way, why in exc.tried.items()}
                continue
            write_package(draft.root, planned.out)
            return done
    raise ConversionError(
        what=f"Model '{package.id}'",
        target=to,
        tried=tried,
        hint="Nothing was written: weights that do not agree with the original are not kept.",
    )


def plan(
    package: ModelPackage, to: str, *, source: str | None = None, out: Path | None = None
) -> Plan:
    """What `convert` would do with the same arguments; raises as it does for a wrong wish."""
    planned, _ = _plan(package, to, source, out)
    check_target(planned.out)
    return planned


def targets() -> dict[str, tuple[str, ...]]:
    """Weights formats that can be made here -> those that they can be made from."""
    made: dict[str, tuple[str, ...]] = {}
    for converter in converters()[0].values():
        sources = (*made.get(converter.target, ()), *converter.sources)
        made[converter.target] = tuple(dict.fromkeys(sources))
    return made


def out_path(package: ModelPackage, to: str, out: Path | None) -> Path:
    """Where the new package goes."""
    return out or Path(f"{package.id}-{to}.zip")


def certified(
    draft: Draft,
    source: str,
    proof: FormatProof,
    reference: Reference,
    real: Mapping[str, npt.NDArray[Any]],
    *,
    timing: bool = True,
) -> None:
    """Write a proof into the certificate of a draft that has the proven weights already.

    A certificate that is there keeps its original, its other proofs and its recorded values;
    without one the weights that were converted are the original.
    """
    from ..proof.attest import attest
    from ..proof.certificate import Certificate, Original
    from ..proof.timing import versions

    package = draft.package()
    weights = package.path(package.raw["weights"][source]["source"])
    original = Original(source, weights.name, sha256_of(weights))
    made = attest(package, reference, [proof], original, real=real, timing=timing)
    certificate = made.certificate
    if there := Certificate.of(package):
        kept = [p for p in there.proofs if p.weights_format != proof.weights_format]
        own = certificate.proofs[0]
        if there.reference.sha256 != original.sha256:
            own = replace(own, notes=(*own.notes, f"compared with this package's {source} weights"))
        certificate = replace(there, proofs=(*kept, own), versions={**there.versions, **versions()})
    else:
        (draft.root / PROBES).write_bytes(made.probes)
        attach(draft.raw, PROBES, hashlib.sha256(made.probes).hexdigest())
    config = draft.raw["config"] = dict(draft.raw.get("config") or {})
    config["biozoo"] = {**(config.get("biozoo") or {}), "certificate": certificate.to_dict()}
    draft.package()


def _plan(
    package: ModelPackage, to: str, source: str | None, out: Path | None
) -> tuple[Plan, list[tuple[str, type[Converter]]]]:
    known, failed = converters()
    able = [c for c in known.values() if c.target == to]
    here = package.summary.weights
    if not able:
        why = "".join(f"\n  converter '{name}' failed: {fault}" for name, fault in failed.items())
        raise NotFoundError(
            kind="weights format that can be made here",
            got=to,
            known=(*targets(), "float16", "int8"),
            hint=f"There are {', '.join((*sorted(targets()), 'float16', 'int8'))}.{why}",
        )
    if to in here:
        raise UsageError(
            f"Model '{package.id}' has {to} weights already. To see whether they agree with its "
            f"other weights: zoo certify {package.id}. To make them anew, take the entry "
            f"weights.{to} out of its description first."
        )
    if source is not None and source not in here:
        raise UsageError(
            f"Model '{package.id}' has no '{source}' weights; it has {', '.join(here) or 'none'}. "
            "Leave --from out or name one of those."
        )
    pairs = [
        (origin, converter)
        for converter in able
        for origin in converter.sources
        if origin in here and source in (None, origin)
    ]
    if not pairs:
        takes = list(dict.fromkeys(s for c in able for s in c.sources))
        raise UsageError(
            f"Model '{package.id}' has {', '.join(here) or 'no weights'}; {to} is made from "
            f"{' or '.join(takes)}. Ask its author for those."
        )
    ways = _usable(package, to, pairs)
    notes = tuple(dict.fromkeys(c.note for _, c in ways if c.note))
    named = tuple((origin, converter.name) for origin, converter in ways)
    return Plan(package.id, to, named, out_path(package, to, out), free_axes(package), notes), ways


def _usable(
    package: ModelPackage, to: str, pairs: Sequence[tuple[str, type[Converter]]]
) -> list[tuple[str, type[Converter]]]:
    """The ways whose libraries are here and whose code may run; raises where there is none."""
    from biozoo.code import has_layer_code
    from biozoo.consent import is_trusted, refusal

    ways, refused = [], False
    missing: dict[str, MissingDependencyError] = {}
    for origin, converter in pairs:
        found = converter.available()
        if not found.ok:
            what = f"Converting {origin} to {to}"
            library = found.reason.removesuffix(" is not installed")
            missing[origin] = MissingDependencyError(
                what=what, library=library, install=found.install
            )
        elif (origin == "pytorch_state_dict" or has_layer_code(package, origin)) and not is_trusted(
            package
        ):
            refused = True
        else:
            ways.append((origin, converter))
    if ways:
        return ways
    if refused:
        raise refusal(package)
    raise next(iter(missing.values()))


def free_axes(package: ModelPackage) -> tuple[str, ...]:
    """Axes of the inputs whose size the description leaves open, ``"raw.y (64 + n*16)"``."""
    from biozoo_runners.program import program_of
    from biozoo_runners.sizes import ParameterizedSize, SizeReference

    return tuple(
        f"{tensor.id}.{axis.id} ({axis.size})"
        for tensor in program_of(package).geometry.inputs
        for axis in tensor.axes
        if isinstance(axis.size, ParameterizedSize | SizeReference)
    )


def _converted(
    job: Job,
    converter: type[Converter],
    draft: Draft,
    planned: Plan,
    timing: bool,
    progress: Progress | None,
) -> Conversion:
    """One way: attempts, proof, optimisation; then the draft's description has the weights."""
    to = planned.target
    package, origin, real = job.package, job.source, job.inputs
    attempts = converter.attempts(job)
    with open_weights(package, origin) as backend, contextlib.ExitStack() as ends:
        if hasattr(attempts, "close"):  # a generator may hold a process
            ends.callback(attempts.close)
        reference = remembered(backend)
        entry, proof = first_proven(draft, to, attempts, reference, real=real, progress=progress)
        entry = {**entry, "parent": origin}
        if to == "onnx":
            from .optimise import optimised

            entry, proof = optimised(draft, entry, proof, reference, real=real, progress=progress)
        draft.raw["weights"] = {**draft.raw["weights"], to: entry}
        certified(draft, origin, proof, reference, real, timing=timing)
    return Conversion(
        package.id, origin, to, converter.name, planned.out, entry, proof, planned.notes
    )
