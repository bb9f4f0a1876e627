"""Compares the weights of one format with the network that they were made from.

    proof = prove(package, Named(network, ("raw",), ("prediction",)), "onnx")

Only the networks are compared: what goes in is preprocessed already, and nothing is made of what
comes out. `cases` says which inputs, `agreement` when two outputs are equal, `tiled` how tiles are
compared with the whole. What is measured is in `docs/design/certificate.md`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biozoo.errors import (
    BiozooError,
    DeviceError,
    MissingDependencyError,
    NoBackendError,
    OutOfMemoryError,
    UntrustedCodeError,
)
from biozoo_runners.tolerance import Tolerance

from .agreement import Agreement, agree, nothing_alike, rms_of
from .evidence import Dead, idle_outputs, unprovable
from .inputs import Trial
from .proof import Case, FormatProof
from .setting import Remembered, Setting, remembered
from .tiled import Cut, run_plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from biozoo.package import ModelPackage

    from ..networks.network import Progress, Reference

__all__ = ["TOLERANCE", "prove", "remembered"]

#: What a conversion without loss may differ by; `agreement` says of what the absolute one is.
TOLERANCE = Tolerance(relative=1e-3, absolute=1e-3, per_million=100.0)

#: A random input is tried wider and narrower where the outputs do not vary.
SCALES = (0.1, 10.0)

#: What says nothing of the weights: they cannot be tried on this machine.
NOT_HERE = (NoBackendError, MissingDependencyError, UntrustedCodeError, DeviceError)

Arrays = Mapping[str, "NDArray[Any]"]


def prove(
    package: ModelPackage,
    reference: Reference,
    weights_format: str,
    *,
    real: Arrays | None = None,
    strategy: str = "",
    optimised: str = "",
    tolerance: Tolerance | None = None,
    backend: str | None = None,
    weights: Path | None = None,
    candidate: Reference | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
) -> FormatProof:
    """Compare one weights format of a package with the original network.

    Parameters
    ----------
    package
        Its description says which sizes have to work; its weights are what is tried.
    reference
        The original network, by tensor ids. Give one made by `remembered` where several formats
        are compared with it: it then runs once per input.
    weights_format
        Which weights.
    real
        Per input tensor id an array as the network takes it (preprocessed, batch and channel axes
        included). None takes the package's own test input.
    strategy, optimised
        How the weights were made, for the certificate.
    tolerance
        Default `TOLERANCE`. Its absolute part is in units of min(1, rms of the output).
    backend, device
        What executes the weights, and where.
    weights
        Another file in the package's folder in place of that of the description: a variant.
    candidate
        What is compared, in place of the package's weights: for a format that cannot be opened
        here without its author's consent.
    progress
        Called with (format, cases done, cases).

    Returns
    -------
    FormatProof
        With `ok` False and a `fault` where the weights cannot be loaded, refuse a size that the
        description allows and the original takes, or give other results.

    Raises
    ------
    InvalidPackageError
        The description is not valid.
    NoBackendError, MissingDependencyError, UntrustedCodeError, DeviceError
        Nothing here may or can run such weights: that says nothing of them.
    """
    from ..networks.opening import open_weights, runs_on, weights_files, with_weights

    allowed = tolerance or TOLERANCE
    variant = with_weights(package, weights_format, weights)
    files = weights_files(variant, weights_format)
    proof = FormatProof(
        weights_format,
        next(iter(files.values()), ""),
        allowed,
        strategy=strategy,
        optimised=optimised,
        opset=_opset(variant, weights_format),
        files=files,
    )
    setting = Setting.of(package, real)
    memory = remembered(reference)
    with contextlib.ExitStack() as stack:
        if candidate is None:
            try:
                opened = open_weights(variant, weights_format, backend=backend, device=device)
            except NOT_HERE:
                raise
            except BiozooError as exc:
                return replace(proof, fault=f"the weights cannot be loaded: {first_line(exc)}")
            candidate = stack.enter_context(opened)
            proof = replace(proof, runs_on=runs_on(opened))
        return compare_networks(setting, memory, candidate, proof, progress=progress)


def compare_networks(
    setting: Setting,
    reference: Remembered,
    candidate: Reference,
    proof: FormatProof,
    *,
    progress: Progress | None = None,
) -> FormatProof:
    """`proof` with all comparisons and the verdict."""
    cases: list[Case] = []
    description: list[str] = []
    notes: list[str] = list(setting.notes)
    total = len(setting.trials)
    dead = Dead(setting)
    absent: set[str] = set()
    for done, (trial, inputs, expected) in enumerate(
        judged(setting, reference, description, notes)
    ):
        if progress is not None:
            progress(proof.weights_format, done, total)
        absent |= setting.dims.keys() - expected.keys()
        dead.look(expected)
        cases.append(_case(setting, trial, inputs, expected, candidate, proof.tolerance))
    proof = replace(proof, cases=tuple(cases))
    if not cases:
        why = description[0] if description else "there is no input to try"
        return replace(proof, fault=f"nothing could be compared: {why}")
    if why := unprovable(absent, dead):
        told = tuple(dict.fromkeys(description))
        return replace(proof, fault=why, description=told, notes=tuple(dict.fromkeys(notes)))
    if all(c.ok for c in cases):
        seams, equal = _tiled(setting, reference, candidate, proof.tolerance, notes)
        proof = replace(
            proof,
            batch=_batch(setting, reference, candidate, proof.tolerance, description),
            tiled=seams,
            tiled_reference=equal,
        )
    wrong = [c for c in proof.counted if not c.ok]
    fault = ""
    if wrong:
        fault = f"{wrong[0].what}: {wrong[0].fault}"
        if len(cases) > 1:
            fault = f"{len(wrong)} of {len(proof.counted)} cases differ, the first with {fault}"
    return replace(
        proof,
        ok=not wrong,
        fault=fault,
        description=tuple(dict.fromkeys(description)),
        notes=tuple(dict.fromkeys(notes)),
    )


def judged(
    setting: Setting, reference: Remembered, description: list[str], notes: list[str]
) -> Iterator[tuple[Trial, dict[str, NDArray[Any]], dict[str, NDArray[Any]]]]:
    """Every trial with its inputs and what the original makes of them.

    Parameters
    ----------
    description, notes
        Sentences are added: what the description allows and the original refuses, and what makes
        a case say less than it seems to.
    """
    for trial in setting.trials:
        try:
            inputs = setting.inputs(trial)
            expected = reference.run(inputs)
        except OutOfMemoryError as exc:
            notes.append(f"left out {sizes_text(trial.shapes)}: {first_line(exc)}")
            continue
        except BiozooError as exc:
            description.append(
                f"the description allows {sizes_text(trial.shapes)}, the original does not take "
                f"it: {first_line(exc)}"
            )
            continue
        description += setting.misdescribed(trial.shapes, expected)
        idle = idle_outputs(setting, expected)
        for scale in SCALES if idle and trial.kind == "random" and trial.scale == 1 else ():
            wider = replace(trial, scale=scale)
            other = setting.inputs(wider)
            made = reference.run(other)
            if len(left := idle_outputs(setting, made)) < len(idle):
                trial, inputs, expected, idle = wider, other, made, left
        if idle:
            notes.append(
                f"outputs do not vary: {', '.join(idle)} with {sizes_text(trial.shapes)} "
                f"({trial.kind} input); equal constants prove little"
            )
        yield trial, inputs, expected


def _case(
    setting: Setting,
    trial: Trial,
    inputs: Arrays,
    expected: Arrays,
    candidate: Reference,
    tolerance: Tolerance,
) -> Case:
    case = Case(trial.shapes, trial.kind, trial.seed, draw=trial.draw, scale=trial.scale)
    try:
        got = candidate.run(inputs)
    except BiozooError as exc:
        return failed(case, exc)
    return with_result(case, agree(got, expected, tolerance, setting.dims))


def failed(case: Case, error: BiozooError) -> Case:
    """The case of a candidate that refused."""
    fault = f"it does not run: {first_line(error)}"
    return with_result(case, nothing_alike(fault))


def with_result(case: Case, found: Agreement) -> Case:
    """The case with what was measured."""
    return replace(
        case,
        absolute_error=found.absolute_error,
        relative_error=found.relative_error,
        off_per_million=found.off_per_million,
        ok=found.ok,
        fault=found.fault,
        output=found.output,
        at=found.at,
    )


# ---------------------------------------------------------------------------------- batch, tiles


def _batch(
    setting: Setting,
    reference: Remembered,
    candidate: Reference,
    tolerance: Tolerance,
    description: list[str],
) -> Case | None:
    """A batch of two against the same two one by one; None where there is no batch, or where the
    original itself does not take or mixes batches.
    """
    trial = next((t for t in setting.trials if setting.images(t) == 2), None)
    if trial is None:
        return None
    inputs = setting.inputs(trial)
    try:
        own = batch_agreement(setting, inputs, reference, tolerance)
    except BiozooError:  # told among the cases
        return None
    if not own.ok:
        description.append(
            "the original gives other results for two images at once than for each alone "
            f"({own.fault}); the description should fix the batch axis at 1"
        )
        return None
    case = Case(trial.shapes, "batch", trial.seed, draw=trial.draw, scale=trial.scale)
    try:
        return with_result(case, batch_agreement(setting, inputs, candidate, tolerance))
    except BiozooError as exc:
        return failed(case, exc)


def batch_agreement(
    setting: Setting, inputs: Arrays, network: Reference, tolerance: Tolerance
) -> Agreement:
    """A network's results for a batch against those for its images, joined.

    Raises
    ------
    BiozooError
        It takes no batch.
    """
    together = network.run(inputs)
    count = 2
    singles = [network.run(setting.image(inputs, n)) for n in range(count)]
    joined = {}
    for o in together:
        if (axis := setting.batch_axis(o)) is not None:
            joined[o] = np.concatenate([s[o] for s in singles], axis=axis)
    return agree(together, joined, tolerance, setting.dims)


def _tiled(
    setting: Setting,
    reference: Remembered,
    candidate: Reference,
    tolerance: Tolerance,
    notes: list[str],
) -> tuple[Case | None, Case | None]:
    """The candidate's tiles against its whole, and against the original's tiles; of several cuts
    the worst.
    """
    if not setting.cuts:
        notes.append(f"tiles were not compared with the whole: {setting.why_uncut}")
        return None, None
    seams, equal = [], []
    for cut in setting.cuts:
        pixels = setting.grown(cut.shapes)
        case = Case(
            cut.shapes, "tiled", note=f"cut along {', '.join(cut.axes)}: {cut.tiles.summary}"
        )
        try:
            expected = run_plan(reference, cut.tiles, pixels)
        except BiozooError as exc:
            notes.append(f"tiles were not compared: the original does not run: {first_line(exc)}")
            continue
        try:
            tiles = run_plan(candidate, cut.tiles, pixels)
        except BiozooError as exc:
            equal.append(failed(case, exc))
            continue
        equal.append(with_result(case, agree(tiles, expected, tolerance, setting.dims)))
        with contextlib.suppress(BiozooError):  # only the whole is too large: nothing to say
            seams.append(seam_case(setting, cut, candidate, tiles, tolerance))
    return _worst(seams), _worst(equal)


def seam_case(
    setting: Setting, cut: Cut, network: Reference, tiles: Arrays, tolerance: Tolerance
) -> Case:
    """A network's tiles against its whole."""
    whole = run_plan(network, cut.whole, setting.grown(cut.shapes))
    case = Case(cut.shapes, "tiled", note=f"cut along {', '.join(cut.axes)}: {cut.tiles.summary}")
    # What a halo has to be is measured on the whole output: a faint channel has seams of its own.
    level = {o: rms_of(a) for o, a in whole.items()}
    found = with_result(case, agree(tiles, whole, tolerance, setting.dims, level))
    return replace(found, fault=found.fault.replace("the original gives", "the whole gives"))


def _worst(cases: Sequence[Case]) -> Case | None:
    return max(cases, key=lambda c: (not c.ok, c.relative_error), default=None)


# ------------------------------------------------------------------------------------------ words


def first_line(error: BiozooError) -> str:
    """What an error says, without what a framework wrote below it."""
    return next((line.strip() for line in error.message.splitlines() if line.strip()), "")[:600]


def sizes_text(shapes: Mapping[str, Sequence[int]]) -> str:
    """``raw 1 x 1 x 64 x 64``."""
    return ", ".join(f"{i} {' x '.join(map(str, s))}" for i, s in shapes.items())


def _opset(package: ModelPackage, weights_format: str) -> int | None:
    entry = package.raw["weights"].get(weights_format) or {}
    opset = entry.get("opset_version")
    return opset if isinstance(opset, int) else None
