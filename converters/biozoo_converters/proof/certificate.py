"""What a proven conversion carries with it: plain values, read and written without any framework.

Layout of `config.biozoo.certificate` (a key in brackets is left out where it says nothing):

    format: 1
    ok: true                       every format below agrees with the original
    reference:                     the original network
      format: pytorch_state_dict   or torchscript, onnx, keras_v3, ...
      name: net.py:Net
      sha256: ...                  of its weights file, "" where it has none
      [seconds_per_megapixel]: 0.81
    proofs:                        one per weights format
      - weights_format: onnx
        ok: true
        [fault]: one sentence, where ok is false
        runs_on: onnxruntime 1.32.0
        files: {weights.onnx: sha256, ...}     every file of these weights
        [strategy]: dynamo         how it was exported
        [optimised]: onnxslim
        [opset]: 18
        [seconds_per_megapixel]: 0.52
        tolerance: {relative: 0.001, absolute: 0.001, per_million: 100}
        worst: {absolute_error: 3.1e-6, relative_error: 2e-6, off_per_million: 0}
        cases: [CASE, ...]         the format against the original
        [batch]: CASE              a batch of two against the same two one by one
        [tiled]: CASE              its tiles against its whole; ok: seamless. Of the network, not of
                                   the conversion: a format may be proven where this is not ok
        [tiled_reference]: CASE    its tiles against the original's tiles
        [description]: [sentence]  what the description allows and the original does not do
        [notes]: [sentence]
    versions: {biozoo: ..., python: ..., torch: ..., onnx: ..., onnxruntime: ..., ...}
    [probes]: {source: certificate.json, sha256: ...}

    CASE:
      shapes: {raw: [1, 1, 64, 64]}
      kind: real | random | batch | tiled
      ok: true
      absolute_error: 3.1e-6       largest |got - expected|
      relative_error: 2e-6         largest |got - expected| / max(|expected|, rms of expected)
      off_per_million: 0
      [draw]: like | normal        of a random input: distributed like the real one, or plain normal
      [seed]: 3
      [scale]: 10                  where the input was redrawn wider or narrower
      [output]: prediction, [at]: {channel: 0, y: 12, x: 63}    where the largest error is
      [fault]: sentence, [note]: sentence
    An error that is no finite number is left out, and the case's fault says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from .proof import Case, FormatProof

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["Case", "Certificate", "FormatProof", "Original", "raw_certificate", "summary_lines"]

FORMAT = 1


@dataclass(frozen=True)
class Original:
    """The network that everything was compared with."""

    format: str
    name: str
    sha256: str = ""
    seconds_per_megapixel: float | None = None

    def __str__(self) -> str:
        sha = f", sha256 {self.sha256[:12]}" if self.sha256 else ""
        return f"{self.name} ({self.format}{sha})"


@dataclass(frozen=True)
class Certificate:
    """All proofs of a package."""

    reference: Original
    proofs: tuple[FormatProof, ...]
    versions: Mapping[str, str]
    probes: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether there are proofs and all of them hold."""
        return bool(self.proofs) and all(p.ok for p in self.proofs)

    def proof(self, weights_format: str) -> FormatProof | None:
        """That of one format."""
        return next((p for p in self.proofs if p.weights_format == weights_format), None)

    def with_probes(self, source: str, sha256: str) -> Certificate:
        """The same with its attachment named."""
        return replace(self, probes={"source": source, "sha256": sha256})

    def to_dict(self) -> dict[str, Any]:
        """What stands in `config.biozoo.certificate`; see the module."""
        reference: dict[str, Any] = {
            "format": self.reference.format,
            "name": self.reference.name,
            "sha256": self.reference.sha256,
        }
        if self.reference.seconds_per_megapixel is not None:
            reference["seconds_per_megapixel"] = self.reference.seconds_per_megapixel
        made: dict[str, Any] = {
            "format": FORMAT,
            "ok": self.ok,
            "reference": reference,
            "proofs": [p.to_dict() for p in self.proofs],
            "versions": dict(self.versions),
        }
        if self.probes:
            made["probes"] = dict(self.probes)
        return made

    @classmethod
    def from_dict(cls, raw: Mapping[str, Any]) -> Certificate:
        """What `to_dict` gave.

        Raises
        ------
        InvalidPackageError
            It is something else, or of a later format.
        """
        from biozoo.errors import InvalidPackageError

        if raw.get("format") != FORMAT:
            raise InvalidPackageError(
                source="config.biozoo.certificate",
                why=f"its format is {raw.get('format')!r}, this biozoo reads {FORMAT}.",
                hint="Use a newer biozoo, or pack the model again.",
            )
        try:
            reference = raw["reference"]
            seconds = reference.get("seconds_per_megapixel")
            return cls(
                reference=Original(
                    str(reference["format"]),
                    str(reference["name"]),
                    str(reference.get("sha256", "")),
                    None if seconds is None else float(seconds),
                ),
                proofs=tuple(map(FormatProof.from_dict, raw["proofs"])),
                versions={str(k): str(v) for k, v in raw["versions"].items()},
                probes={str(k): str(v) for k, v in raw.get("probes", {}).items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as exc:
            raise InvalidPackageError(
                source="config.biozoo.certificate",
                why=f"it cannot be read ({type(exc).__name__}: {exc}).",
                hint="Pack the model again.",
            ) from exc

    @classmethod
    def of(cls, package: ModelPackage) -> Certificate | None:
        """The certificate that a package carries; None where it has none."""
        raw = raw_certificate(package.raw)
        return None if raw is None else cls.from_dict(raw)


def raw_certificate(rdf: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """`config.biozoo.certificate` of a description as written; None where there is none."""
    found: Any = rdf
    for key in ("config", "biozoo", "certificate"):
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None


def summary_lines(rdf: Mapping[str, Any]) -> Sequence[str]:
    """What a person should know of a description's certificate, a line each; none without one."""
    from biozoo.errors import BiozooError

    raw = raw_certificate(rdf)
    if raw is None:
        return ()
    try:
        certificate = Certificate.from_dict(raw)
    except BiozooError as exc:
        return (exc.message,)
    lines = [f"compared with {certificate.reference}", *map(str, certificate.proofs)]
    for p in certificate.proofs:
        if p.tiled is not None and not p.tiled.ok:
            lines.append(
                f"{p.weights_format}: tiles differ from the whole by up to "
                f"{p.tiled.absolute_error:.2g}, in every weights format alike"
            )
    speeds = {"the original": certificate.reference.seconds_per_megapixel}
    speeds |= {p.weights_format: p.seconds_per_megapixel for p in certificate.proofs}
    told = [f"{name} {s:.2g}" for name, s in speeds.items() if s is not None]
    if told:
        lines.append(f"seconds per megapixel where it was made: {', '.join(told)}")
    return [" ".join(line.split()) for line in lines]
