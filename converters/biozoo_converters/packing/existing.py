"""An existing package gets what it lacks; nothing that its author declared is changed.

What may be added: the newest format and explicit ids, test outputs, ONNX weights with proof, a halo
where none is declared and one was measured, a cover, a tolerance, the certificate, and those facts
of the author that are given now and were missing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import (
    BiozooError,
    ConversionError,
    MissingDependencyError,
    NoBackendError,
    UntrustedCodeError,
    UsageError,
)

from ..conversion.source_package import copied
from ..proof.certificate import raw_certificate
from .build import Progress
from .completing import FACTS, Work, cover, facts, samples, test_outputs, tolerance, upgrade
from .describe import ordered
from .drafting import file_entry
from .finishing import advice, report_of, variant_note, wrote
from .pack_file import PackFile, fold, require

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..proof.certificate import Certificate
    from .packed import PackReport

__all__ = ["pack_existing"]

_WISHES = ("source", "timing", "variants")


def pack_existing(
    values: Mapping[str, Any],
    target: Path | None,
    *,
    root: Path,
    dry_run: bool,
    progress: Progress,
) -> PackReport:
    """Write a copy of a package with what it lacks; for a dry run only tell what that is.

    Raises
    ------
    UsageError
        A wish that is for networks only, or a fact that the author has declared already.
    UntrustedCodeError
        All its weights need its author's code, which nobody has allowed.
    ConversionError
        It cannot be converted with proof, or does not reproduce its own test outputs.
    """
    import biozoo

    source = str(values["source"])
    place = root / Path(source).expanduser()
    progress("opening the package", 0, None)
    package = biozoo.open(str(place) if place.exists() else source)
    file = _wishes(values, root, package)
    if target is None and not dry_run:
        raise UsageError("Where the package goes is not said. Add -o OUT.zip, or --dry-run.")
    with tempfile.TemporaryDirectory(prefix="biozoo-pack-") as folder:
        draft = copied(package, Path(folder))
        work = Work(draft, package)
        upgrade(work)
        facts(work, file)
        test_outputs(work, progress)
        tolerance(work)
        certificate = None
        if dry_run:
            _would(work)
        else:
            original = _original(work)
            _halo(work, original, progress)
            certificate = _weights(work, original, file, progress)
        cover(work)
        samples(work)
        if certificate is not None:
            config = draft.raw.setdefault("config", {})
            config.setdefault("biozoo", {})["certificate"] = certificate.to_dict()
        draft.raw = ordered(draft.raw)
        made = draft.package()
        if dry_run:
            return report_of(draft, target, facts=[], notes=work.notes, added=_told(work), dry=True)
        progress("testing the package", 0, None)
        from .checking import check_finished

        said = check_finished(made)
        assert target is not None
        wrote(draft, target)
        return report_of(
            draft,
            target,
            facts=[],
            notes=[*work.notes, *advice(said, draft.raw)],
            certificate=certificate,
            added=_told(work),
        )


def _told(work: Work) -> list[str]:
    return work.added or ["nothing: it lacks nothing that can be added here"]


def _wishes(values: Mapping[str, Any], root: Path, package: ModelPackage) -> PackFile:
    """The facts and wishes, none of which may be declared already."""
    file, faults = fold(values, root)
    for name in values:
        if name in FACTS and package.raw.get(name) and name != "tags":
            faults[name] = (
                "is declared by its author, and what an author declared is not changed. Leave it "
                "out, or change the description itself"
            )
        elif name not in (*FACTS, *_WISHES):
            faults[name] = "is for packing a network; a package has its own. Leave it out"
    require(faults, what=f"The package '{package.id}' cannot be completed as asked:")
    assert file is not None
    return file


# ------------------------------------------------------------------------------------------ weights


def _would(work: Work) -> None:
    """What a dry run cannot know: it converts and measures nothing."""
    raw = work.draft.raw
    if "onnx" not in raw["weights"]:
        work.added.append("ONNX weights, if they can be proven")
    if raw_certificate(raw) is None:
        work.added.append("a certificate")
    if _without_halo(raw):
        work.added.append("a halo, if one is measured")


def _weights(work: Work, original: str, file: PackFile, progress: Progress) -> Certificate | None:
    """ONNX weights where there are none, and a certificate of all formats that can be run."""
    from ..conversion.source_package import attach
    from ..networks.opening import open_weights
    from ..proof.attest import attest
    from ..proof.certificate import Original
    from ..proof.probes import NAME
    from ..proof.prove import prove
    from ..proof.setting import network_inputs, remembered

    raw = work.draft.raw
    lacks_onnx = "onnx" not in raw["weights"]
    if not lacks_onnx and raw_certificate(raw) is not None and not file.variants:
        return None
    package = work.draft.package()
    real = network_inputs(package)
    weights = work.package.path(raw["weights"][original]["source"])
    with open_weights(work.package, original) as backend:
        reference = remembered(backend)
        proofs = []
        if lacks_onnx:
            proofs.append(_onnx(work, original, reference, real, progress))
        for weights_format in raw["weights"]:
            if weights_format in (original, *(p.weights_format for p in proofs)):
                continue
            try:
                proof = prove(work.draft.package(), reference, weights_format, real=real)
            except (UntrustedCodeError, NoBackendError, MissingDependencyError) as exc:
                work.notes.append(f"{weights_format} was not compared: {_line(exc)}")
                continue
            if not proof.ok:
                work.notes.append(f"its own weights disagree: {proof}")
            proofs.append(proof)
        if not proofs:  # one format only: it is its own original
            proofs.append(prove(work.draft.package(), reference, original, real=real))
        for precision in file.variants:
            from ..conversion.precision import variant

            told = variant(work.draft, precision, reference, real=real, progress=progress)
            (work.added if told.kept else work.notes).append(variant_note(told))
        progress("measuring the speed", 0, None)
        made = attest(
            work.draft.package(),
            reference,
            proofs,
            Original(original, weights.name, file_entry(weights.parent, weights.name)["sha256"]),
            real=real,
            timing=file.timing,
        )
    (work.draft.root / NAME).write_bytes(made.probes)
    attach(work.draft.raw, NAME, made.certificate.probes["sha256"])
    work.added.append("a certificate: " + ", ".join(p.weights_format for p in proofs))
    return made.certificate


def _original(work: Work) -> str:
    """The weights that all others are compared with: those without a parent, if they can run."""
    from ..networks.opening import open_weights

    weights = work.draft.raw["weights"]
    order = sorted(weights, key=lambda f: (bool(weights[f].get("parent")), f == "onnx"))
    refused: BiozooError | None = None
    for weights_format in order:
        try:
            with open_weights(work.package, weights_format):
                return str(weights_format)
        except UntrustedCodeError as exc:
            refused = exc
            if len(order) > 1:
                work.notes.append(
                    f"its {weights_format} weights need its author's code, which nobody has "
                    "allowed (zoo trust): others are taken as the original"
                )
        except BiozooError as exc:
            refused = refused or exc
            work.notes.append(f"its {weights_format} weights cannot be run here: {_line(exc)}")
    assert refused is not None
    raise refused


def _onnx(
    work: Work, original: str, reference: Any, real: Mapping[str, NDArray[Any]], progress: Progress
) -> Any:
    """ONNX weights from the original's, by whichever converter manages with proof."""
    from ..conversion.base import Job, converters
    from ..conversion.optimise import optimised
    from ..conversion.proving import first_proven

    job = Job(work.package, original, real)
    tried: dict[str, str] = {}
    for converter in converters()[0].values():
        if converter.target != "onnx" or original not in converter.sources:
            continue
        if not (able := converter.available()).ok:
            tried[converter.name] = f"{able.reason}. {able.install}"
            continue
        attempts = converter.attempts(job)
        try:
            entry, proof = first_proven(
                work.draft, "onnx", attempts, reference, real=real, progress=progress
            )
        except ConversionError as exc:
            tried |= exc.tried
            continue
        finally:
            if hasattr(attempts, "close"):
                attempts.close()
        entry = {**entry, "parent": original}
        entry, proof = optimised(work.draft, entry, proof, reference, real=real, progress=progress)
        work.draft.raw["weights"]["onnx"] = dict(entry)
        work.added.append(f"ONNX weights from its {original} weights, proven")
        return proof
    raise ConversionError(
        what=f"Model '{work.package.id}'",
        target="onnx",
        tried=tried or {original: "no converter takes such weights"},
    )


def _line(exc: BiozooError) -> str:
    return exc.message.splitlines()[0]


# ------------------------------------------------------------------------------------------- halo


def _without_halo(raw: Mapping[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Output axes that may get a halo, with their tensors; none where one is declared."""
    followers = [
        (tensor, axis)
        for tensor in raw["outputs"]
        for axis in tensor["axes"]
        if axis.get("type") == "space" and "axis_id" in _mapping(axis.get("size"))
    ]
    return [] if any(axis.get("halo") for _, axis in followers) else followers


def _halo(work: Work, original: str, progress: Progress) -> None:
    """A measured halo, where the author declared none and the sizes leave room for it."""
    raw = work.draft.raw
    if not (followers := _without_halo(raw)):
        return
    try:
        halos = _measured_halos(work, original, progress)
    except BiozooError as exc:
        work.notes.append(f"its halo could not be measured: {_line(exc)}")
        return
    for tensor, axis in followers:
        halo = halos.get((tensor["id"], axis["id"]), 0)
        if not halo:
            continue
        least = _least(raw, axis)
        if least is not None and least - 2 * halo < 1:
            work.notes.append(
                f"{tensor['id']}.{axis['id']} needs a halo of {halo} pixels, for which its least "
                f"size of {least} leaves no room: tiles will show seams. Declare a larger size"
            )
            continue
        axis["halo"] = halo
        work.added.append(f"a halo of {halo} for {tensor['id']}.{axis['id']}, measured")


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _least(raw: Mapping[str, Any], axis: Mapping[str, Any]) -> int | None:
    """The output's size where the input axis it refers to is smallest."""
    size = axis["size"]
    for tensor in raw["inputs"]:
        for other in tensor["axes"]:
            if (tensor["id"], other.get("id")) == (size["tensor_id"], size["axis_id"]):
                least = (
                    other["size"] if isinstance(other["size"], int) else other["size"].get("min")
                )
                if least is None:
                    return None
                ratio = float(other.get("scale", 1.0)) / float(axis.get("scale", 1.0))
                return int(least * ratio) + int(size.get("offset", 0))
    return None


def _measured_halos(work: Work, original: str, progress: Progress) -> dict[tuple[str, str], int]:
    import xarray as xr

    from ..networks.package_network import package_network
    from ..probing.probe import probe
    from ..proof.setting import network_inputs

    package = work.draft.package()
    raw = work.draft.raw
    dims = {t["id"]: [a["id"] for a in t["axes"]] for t in raw["inputs"]}
    inputs = {i: xr.DataArray(a, dims=dims[i]) for i, a in network_inputs(package).items()}
    fixed = [
        f"{t['id']}.{a['id']}"
        for t in raw["inputs"]
        for a in t["axes"]
        if isinstance(a.get("size"), int)
    ]
    axes = {t["id"]: [a["id"] for a in t["axes"]] for t in raw["outputs"]}
    with package_network(work.package, original) as network:
        probed = probe(
            network,
            inputs,
            output_ids=[t["id"] for t in raw["outputs"]],
            output_axes=axes,
            fixed=fixed,
            progress=progress,
        )
    return {(t.id, a.id): a.halo for t in probed.geometry.outputs for a in t.axes}
