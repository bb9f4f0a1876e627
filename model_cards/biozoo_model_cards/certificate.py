"""The proof that a package carries (`config.biozoo.certificate`), as far as it can be read.

It is written by `zoo pack` and `zoo convert`; its layout stands in docs/design/certificate.md. Here
it is data of a stranger: what does not look like a certificate is left out, and a card says how to
repeat it (`zoo certify`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .axis_words import number_text
from .clean import items, mapping, number, one_line, sequence

__all__ = ["Certificate", "Proof", "certificate", "seconds_text"]


@dataclass(frozen=True)
class Proof:
    """One weights format against the original network.

    Attributes
    ----------
    weights, how
        Which format; how it was made and on what it ran, in words.
    ok, fault
        Whether it agreed in every case, and where not.
    cases, shapes, real
        How many comparisons, with how many sizes of input, and how many with a real image.
    absolute, relative
        Largest error over all cases; None where it is not told.
    off
        Largest number of values outside the tolerance, per million.
    tolerance
        What counts as equal, in words.
    batch, tiled
        "agrees", "differs", or "" where it was not compared: a batch with single images, tiles
        with the whole (a statement about the network, not about the conversion).
    seconds
        Per megapixel, None where not measured.
    notes
        Sentences for the reader.
    """

    weights: str
    how: str
    ok: bool
    fault: str = ""
    cases: int = 0
    shapes: int = 0
    real: int = 0
    absolute: float | None = None
    relative: float | None = None
    off: float | None = None
    tolerance: str = ""
    batch: str = ""
    tiled: str = ""
    seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """What the package claims about its weights.

    Attributes
    ----------
    reference
        The original network, in words.
    reference_seconds
        Its seconds per megapixel, None where not measured.
    versions
        (library, version) of what it was made with.
    """

    proofs: tuple[Proof, ...]
    reference: str = ""
    reference_seconds: float | None = None
    versions: tuple[tuple[str, str], ...] = ()

    @property
    def ok(self) -> bool:
        """Whether every format is said to agree."""
        return all(p.ok for p in self.proofs)

    @property
    def sentence(self) -> str:
        """The whole in a line."""
        agree = [p.weights for p in self.proofs if p.ok]
        differ = [p.weights for p in self.proofs if not p.ok]
        of = f" with the original network{f', {self.reference}' if self.reference else ''}"
        told = [f"{' and '.join(agree)} agree{'s' if len(agree) == 1 else ''}{of}"] if agree else []
        if differ:
            of = "" if agree else of.replace("with", "from")
            told.append(f"{' and '.join(differ)} differ{'s' if len(differ) == 1 else ''}{of}")
        return "; ".join(told)


def seconds_text(seconds: float) -> str:
    """Seconds per megapixel as people say them: 0.0123 -> "12 ms"."""
    return f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def certificate(rdf: Mapping[str, Any]) -> Certificate | None:
    """The certificate of a raw description, None where it has none that can be read."""
    given = mapping(mapping(mapping(rdf.get("config")).get("biozoo")).get("certificate"))
    made = tuple(p for p in map(_proof, items(given.get("proofs"))[:20]) if p.weights)
    if not made:
        return None
    reference = mapping(given.get("reference"))
    name, kind = one_line(reference.get("name"), 120), one_line(reference.get("format"), 60)
    versions = list(mapping(given.get("versions")).items())[:30]
    return Certificate(
        proofs=made,
        reference=f"{name} ({kind})" if name and kind else name or kind,
        reference_seconds=_seconds(reference),
        versions=tuple((one_line(k, 60), one_line(v, 60)) for k, v in versions),
    )


def _proof(entry: Mapping[str, Any]) -> Proof:
    cases = items(entry.get("cases"))[:1000]
    ways = [one_line(entry.get("strategy"), 80)]
    if entry.get("opset") is not None:
        ways.append(f"opset {one_line(entry['opset'], 10)}")
    if entry.get("optimised"):
        ways.append(f"optimised with {one_line(entry['optimised'], 80)}")
    if entry.get("runs_on"):
        ways.append(f"run by {one_line(entry['runs_on'], 80)}")
    told = [*sequence(entry.get("description"))[:10], *sequence(entry.get("notes"))[:10]]
    return Proof(
        weights=one_line(entry.get("weights_format"), 60),
        how=", ".join(w for w in ways if w),
        ok=entry.get("ok") is True,
        fault=one_line(entry.get("fault")),
        cases=len(cases),
        shapes=len({repr(_shape(c)) for c in cases}),
        real=sum(c.get("kind") == "real" for c in cases),
        absolute=_largest(entry, cases, "absolute_error"),
        relative=_largest(entry, cases, "relative_error"),
        off=_largest(entry, cases, "off_per_million"),
        tolerance=_tolerance(entry.get("tolerance")),
        batch=_agrees(entry.get("batch")),
        tiled=_agrees(entry.get("tiled")),
        seconds=_seconds(entry),
        notes=tuple(n for n in map(one_line, told) if n),
    )


def _shape(case: Mapping[str, Any]) -> list[Any]:
    shapes = mapping(case.get("shapes"))
    return [(one_line(k, 100), sequence(v)[:10]) for k, v in shapes.items()]


def _largest(entry: Mapping[str, Any], cases: list[Mapping[str, Any]], key: str) -> float | None:
    """The worst of all: what the certificate says it is, and what its cases say."""
    numbers = (number(c.get(key)) for c in (mapping(entry.get("worst")), *cases))
    return max((n for n in numbers if n is not None and n == n), default=None)


def _agrees(case: Any) -> str:
    ok = mapping(case).get("ok")
    return "" if ok is None else "agrees" if ok is True else "differs"


def _seconds(entry: Mapping[str, Any]) -> float | None:
    found = number(entry.get("seconds_per_megapixel"))
    return found if found is not None and 0 < found < 1e9 else None


def _tolerance(value: Any) -> str:
    facts = mapping(value)
    parts = [
        f"{label} {number_text(facts[key])}"
        for key, label in (("relative", "relative"), ("absolute", "absolute"))
        if number(facts.get(key)) is not None
    ]
    if number(facts.get("per_million")) is not None:
        parts.append(f"{number_text(facts['per_million'])} values per million may be off")
    return ", ".join(parts)
