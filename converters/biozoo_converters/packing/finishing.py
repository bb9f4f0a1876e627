"""The last part of packing: weights with proof, certificate, checks, and the place it goes to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.summary import package_id

from ..conversion.drafts import RDF, Draft
from ..networks.network import Named, Network
from .build import Measured, Progress
from .drafting import facts_of
from .packed import PackReport
from .plan import Plan
from .tags import missing_tags
from .test_tensors import preprocessed

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ..conversion.precision import Variant
    from ..proof.certificate import Certificate, FormatProof

__all__ = ["advice", "certified", "finish", "report_of", "wrote"]


def finish(
    plan: Plan,
    network: Network,
    found: Measured,
    draft: Draft,
    target: Path | None,
    *,
    dry_run: bool,
    tell: Progress,
) -> PackReport:
    """Convert, prove, check and write; for a dry run only tell what would be.

    Raises
    ------
    ConversionError
        No conversion is proven.
    InvalidPackageError
        bioimageio.spec refuses the result.
    StorageError
        It cannot be written.
    """
    facts = facts_of(draft.raw, found)
    notes = [*found.notes, *plan.metadata.notes]
    if dry_run:
        return report_of(draft, target, facts=facts, notes=_advised(notes, plan, draft), dry=True)
    from ..proof.setting import remembered

    real = network_inputs_of(draft)
    reference = remembered(Named(network, tuple(s.id for s in found.samples), found.output_ids))
    proofs = [_onnx(network, found, draft, reference, real, tell)]
    proofs += _further(plan, network, found, draft, reference, real, tell, notes)
    tell("measuring the speed", 0, None)
    certificate = certified(draft, reference, proofs, network, real, timing=plan.file.timing)
    tell("testing the package", 0, None)
    package = draft.package()
    from .checking import check_finished

    said = check_finished(package)
    notes = _advised([*notes, *advice(said, draft.raw)], plan, draft)
    assert target is not None
    wrote(draft, target)
    return report_of(draft, target, facts=facts, notes=notes, certificate=certificate)


def network_inputs_of(draft: Draft) -> dict[str, NDArray[Any]]:
    """The test inputs as the network takes them."""
    import xarray as xr

    arrays = {}
    for tensor in draft.raw["inputs"]:
        values = np.load(draft.root / tensor["test_tensor"]["source"], allow_pickle=False)
        arrays[tensor["id"]] = xr.DataArray(values, dims=[a["id"] for a in tensor["axes"]])
    return {i: a.values for i, a in preprocessed(draft.raw["inputs"], arrays).items()}


def _onnx(
    network: Network,
    found: Measured,
    draft: Draft,
    reference: Any,
    real: Mapping[str, NDArray[Any]],
    tell: Progress,
) -> FormatProof:
    from ..conversion.optimise import optimised
    from ..conversion.proving import first_proven
    from ..conversion.to_onnx import export_request, onnx_attempts

    request = export_request(found.probed.geometry, real, batch=found.probed.batch)
    attempts = onnx_attempts(network, request)
    entry, proof = first_proven(draft, "onnx", attempts, reference, real=real, progress=tell)
    entry, proof = optimised(draft, entry, proof, reference, real=real, progress=tell)
    draft.raw.setdefault("weights", {})["onnx"] = dict(entry)
    return proof


def _further(
    plan: Plan,
    network: Network,
    found: Measured,
    draft: Draft,
    reference: Any,
    real: Mapping[str, NDArray[Any]],
    tell: Progress,
    notes: list[str],
) -> list[FormatProof]:
    """The formats and precisions that the author asked for beside ONNX."""
    from .further import add_state_dict, add_torchscript, set_parents

    file, proofs = plan.file, []
    if "torchscript" in file.also:
        proofs.append(add_torchscript(network, draft, reference, real, tell))
    if "pytorch_state_dict" in file.also:
        proofs.append(add_state_dict(plan, network, draft, reference, real, tell))
    set_parents(draft.raw["weights"], network.name)
    for precision in file.variants:
        from ..conversion.precision import variant

        told = variant(draft, precision, reference, real=real, progress=tell)
        notes.append(variant_note(told))
    return proofs


def variant_note(told: Variant) -> str:
    """What became of a precision, in a sentence."""
    if not told.kept:
        why = " ".join(told.why.split()) or "it could not be made"
        return f"the {told.precision} variant was not kept: {why}"
    return (
        f"the {told.precision} variant is in the package: it takes {told.ratio:.2g} of float32's "
        f"time here, {told.bytes:,} bytes in place of {told.bytes_before:,}"
    )


def certified(
    draft: Draft,
    reference: Any,
    proofs: list[FormatProof],
    network: Network,
    real: Mapping[str, NDArray[Any]],
    *,
    timing: bool,
) -> Certificate:
    """Put the certificate into the draft, and the original's values beside it."""
    from ..proof.attest import attest, original_of
    from ..proof.probes import NAME

    made = attest(
        draft.package(), reference, proofs, original_of(network), real=real, timing=timing
    )
    (draft.root / NAME).write_bytes(made.probes)
    entry = {"source": NAME, "sha256": made.certificate.probes["sha256"]}
    others = [a for a in draft.raw.get("attachments", ()) if _source(a) != NAME]
    draft.raw["attachments"] = [*others, entry]
    config = draft.raw.setdefault("config", {})
    config.setdefault("biozoo", {})["certificate"] = made.certificate.to_dict()
    return made.certificate


def _source(entry: Any) -> str:
    return str(entry.get("source")) if isinstance(entry, Mapping) else str(entry)


def wrote(draft: Draft, target: Path) -> None:
    """Write the description, then the package to its place."""
    from ..conversion.writing import write_package
    from .describe import ordered

    draft.raw = ordered(draft.raw)
    draft.package()
    write_package(draft.root, target)


def report_of(
    draft: Draft,
    target: Path | None,
    *,
    facts: list[str],
    notes: list[str],
    certificate: Certificate | None = None,
    added: list[str] | None = None,
    dry: bool = False,
) -> PackReport:
    """What to tell of a finished draft."""
    files = {
        p.relative_to(draft.root).as_posix(): p.stat().st_size
        for p in sorted(draft.root.rglob("*"))
        if p.is_file() and (p.name != RDF or not dry)
    }
    size = 0
    if target is not None and not dry:
        size = target.stat().st_size if target.is_file() else sum(files.values())
    return PackReport(
        id=package_id(draft.raw),
        name=str(draft.raw["name"]),
        target=target,
        raw=draft.raw,
        files=files,
        facts=facts,
        certificate=certificate,
        added=added or (),
        notes=notes,
        dry_run=dry,
        size=size,
    )


def _advised(notes: list[str], plan: Plan, draft: Draft) -> list[str]:
    """The notes, and what the author may still add."""
    made = list(notes)
    if plan.file.documentation is None:
        made.append(
            "README.md was written from what was measured. Tell in it how the model was trained "
            "and how good it is: --documentation FILE"
        )
    if absent := missing_tags(draft.raw.get("tags", ())):
        example = " ".join(f"--tag {_EXAMPLE.get(c, t[0])}" for c, t in absent.items())
        made.append(
            f"no tag tells the {_listed(list(absent))}, by which people search: add, for example, "
            f"{example} (all: https://bioimage.io)"
        )
    plain = [i["id"] for i in draft.raw["inputs"] if len(i["preprocessing"]) < 2]
    if plain:
        made.append(
            f"no preprocessing is given for {', '.join(plain)}: the network gets the grey values "
            "as they are. If it was trained on normalised images, say how: --preprocessing "
            "zero_mean_unit_variance"
        )
    return list(dict.fromkeys(made))


_EXAMPLE = {
    "modality": "fluorescence-light-microscopy",
    "content": "nuclei",
    "task": "semantic-segmentation",
    "network": "unet",
}


def _listed(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}" if len(words) > 1 else words[0]


#: Beginnings of bioimageio.spec's advice that is already told in other words, or by more.
_TOLD = ("authors: Missing `maintainers`", "tags: Missing tags")

#: Of a tensor that is no image, or it would be there: nobody can fill it.
_NOT_FOR_ANYONE = ".sample_tensor: Needs to be filled"


def advice(said: list[str], raw: Mapping[str, Any]) -> list[str]:
    """What bioimageio.spec warns of and nothing here has told yet."""
    return [
        f"bioimageio.spec warns of {text}"
        for text in said
        if not any(t.partition(": ")[2] in text for t in _TOLD) and _NOT_FOR_ANYONE not in text
    ]
