"""The comparisons of one package, format by format, for `certify`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, InvalidPackageError, OutOfMemoryError
from biozoo.files import sha256_of
from biozoo_runners.tolerance import Tolerance

from ..networks.opening import open_weights, runs_on, with_weights
from .certify_report import Check, FormatReport, check_of
from .inputs import Trial, digest
from .proof import Case, FormatProof
from .prove import TOLERANCE, compare_networks, failed, first_line, with_result
from .setting import Setting, remembered

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

    from ..networks.network import Progress, Reference
    from .certificate import Certificate
    from .probes import Probes

__all__ = ["Comparing", "variant_reports"]


class Comparing:
    """The comparisons of one package; faults and notes of the package are gathered on the way."""

    def __init__(
        self,
        setting: Setting,
        certificate: Certificate | None,
        probes: Probes | None,
        original: Reference | None,
        faults: list[str],
        notes: list[str],
        progress: Progress | None,
    ) -> None:
        self._setting, self._certificate, self._probes = setting, certificate, probes
        self._original = None if original is None else remembered(original)
        self._faults, self._notes, self._progress = faults, notes, progress

    def original_checks(self, name: str, candidate: Reference) -> list[Check]:
        """A format against the original: every element where it is at hand, else its values."""
        empty = self._empty(name)
        allowed = empty.tolerance.per_million
        if self._original is not None:
            proof = compare_networks(
                self._setting, self._original, candidate, empty, progress=self._progress
            )
            self._gather(proof)
            if not proof.counted:
                return [Check("the original", 0, False, fault=proof.fault)]
            return [check_of("the original", proof.counted, allowed)]
        if self._probes is None:
            return []
        cases = [c for c in self._probed(candidate, empty) if c is not None]
        if not cases:
            why = "none of its inputs can be made again on this machine"
            return [Check("the original's values", 0, False, fault=why)]
        return [check_of("the original's values", cases, allowed)]

    def checks(
        self, name: str, candidate: Reference, lead: str, lead_network: Reference
    ) -> list[Check]:
        """A format against the leading one, its batches and its tiles."""
        empty = self._empty(name)
        allowed = empty.tolerance.per_million
        setting = self._setting
        if self._certificate is None:  # many published graphs take one image at a time
            single = tuple(t for t in setting.trials if setting.images(t) == 1)
            several = _taken(setting, candidate, self._notes, name)
            setting = replace(setting, trials=(*single, *several))
        memory = remembered(lead_network)
        proof = compare_networks(setting, memory, candidate, empty, progress=self._progress)
        self._gather(proof)
        found = []
        if name != lead:
            cases = (*proof.cases, *filter(None, [proof.tiled_reference]))
            found.append(check_of(f"{lead} weights", cases, allowed))
        elif not proof.cases:
            found.append(Check("running", 0, False, fault=proof.fault))
        elif self._original is None and self._probes is None:
            found.append(check_of("nothing, it runs", proof.cases, allowed))
        if proof.batch is not None:
            found.append(check_of("a batch with its images", [proof.batch], allowed))
        if proof.tiled is not None:
            told = self._certificate and self._certificate.proof(name)
            counts = bool(told and told.seamless)  # what was seamless has to be so here
            found.append(
                check_of("its tiles with the whole", [proof.tiled], allowed, counts=counts)
            )
        return found

    def variant_check(
        self, candidate: Reference, lead: str, lead_network: Reference, tolerance: Tolerance
    ) -> Check:
        """Weights of another precision against the original, else against the leading format."""
        empty = FormatProof("onnx", "", tolerance)
        if self._original is None and self._probes is not None:
            cases = [c for c in self._probed(candidate, empty) if c is not None]
            return check_of("the original's values", cases, tolerance.per_million)
        known = self._original or remembered(lead_network)
        what = f"{lead} weights" if self._original is None else "the original"
        trials = tuple(t for t in self._setting.trials if self._setting.images(t) == 1)
        setting = replace(self._setting, trials=trials)
        proof = compare_networks(setting, known, candidate, empty, progress=self._progress)
        return check_of(what, proof.counted, tolerance.per_million)

    def _gather(self, proof: FormatProof) -> None:
        known = {d for p in (self._certificate.proofs if self._certificate else ()) for d in
                 p.description}  # fmt: skip
        self._faults += [d for d in proof.description if d not in known]
        self._notes += proof.notes

    def _empty(self, name: str) -> FormatProof:
        told = self._certificate and self._certificate.proof(name)
        return FormatProof(name, "", stricter(told.tolerance) if told else TOLERANCE)

    def _probed(self, candidate: Reference, empty: FormatProof) -> Sequence[Case | None]:
        assert self._probes is not None
        return [self._probed_case(n, candidate, empty) for n in range(len(self._probes.cases))]

    def _probed_case(self, n: int, candidate: Reference, empty: FormatProof) -> Case | None:
        assert self._probes is not None
        probe = self._probes.cases[n]
        trial = probe.trial
        case = Case(trial.shapes, trial.kind, trial.seed, draw=trial.draw, scale=trial.scale)
        try:
            inputs = self._setting.inputs(trial)
        except (KeyError, ValueError, IndexError) as exc:
            raise InvalidPackageError(
                source="certificate.json",
                why=f"its case {n + 1} does not fit the description ({exc}).",
                hint="Pack the model again.",
            ) from exc
        if digest(inputs) != dict(probe.inputs):
            if trial.kind == "random":
                self._notes.append(f"case {n + 1}: its random input came out otherwise here")
                return None
            self._notes.append(
                f"case {n + 1}: its real input is not bit for bit what it was (preprocessing "
                "rounds otherwise here, or the test input was changed)"
            )
        try:
            got = candidate.run(inputs)
        except OutOfMemoryError as exc:
            self._notes.append(f"case {n + 1} was left out: {first_line(exc)}")
            return None
        except BiozooError as exc:
            return failed(case, exc)
        return with_result(case, probe.compare(got, empty.tolerance))


def stricter(told: Tolerance) -> Tolerance:
    """A tolerance that a stranger wrote, nowhere wider than that of a proof."""

    def least(own: float, most: float) -> float:
        return own if 0 <= own <= most else most  # no number is no tolerance, either

    return Tolerance(
        least(told.relative, TOLERANCE.relative),
        least(told.absolute, TOLERANCE.absolute),
        least(told.per_million, TOLERANCE.per_million),
    )


def variant_reports(
    package: ModelPackage,
    comparing: Comparing,
    lead: str,
    lead_network: Reference,
    device: str,
    backend: str | None,
) -> list[FormatReport]:
    """The same for every `config.biozoo.variants`: hash, then values."""
    found: Any = package.raw
    for key in ("config", "biozoo", "variants"):
        found = found.get(key) if isinstance(found, Mapping) else None
    reports = []
    for precision, entry in (found if isinstance(found, Mapping) else {}).items():
        report = FormatReport(f"onnx, {precision}")
        try:
            path = package.path(entry["source"])
            tolerance = FormatProof.from_dict(entry["proof"]).tolerance
            if sha256_of(path) != entry["sha256"]:
                fault = f"{entry['source']} was changed since it was proven"
                report = replace(report, fault=fault, broken=True)
            variant = with_weights(package, "onnx", path)
            with open_weights(variant, "onnx", backend=backend, device=device) as candidate:
                check = comparing.variant_check(candidate, lead, lead_network, tolerance)
                report = replace(report, runs_on=runs_on(candidate), checks=(check,))
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            fault = f"its entry in config.biozoo.variants cannot be read ({exc})"
            report = replace(report, fault=fault, broken=True)
        except BiozooError as exc:
            report = replace(report, fault=report.fault or first_line(exc), broken=True)
        reports.append(report)
    return reports


def _taken(
    setting: Setting, candidate: Reference, notes: list[str], name: str
) -> tuple[Trial, ...]:
    """The trials of several images that a format takes."""
    found = []
    for trial in setting.trials:
        if (count := setting.images(trial)) == 1:
            continue
        try:
            candidate.run(setting.inputs(trial))
            found.append(trial)
        except BiozooError:
            notes.append(
                f"{name} takes no batch of {count} images, which the description allows (biozoo "
                "gives one at a time)"
            )
    return tuple(found)
