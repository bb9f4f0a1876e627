"""`ModelCard`: what a person asks about a model before using it."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from biozoo.files import size_text

from .words import TensorWords, tensor_words

if TYPE_CHECKING:
    from biozoo import ModelPackage

__all__ = ["Citation", "Evaluation", "ModelCard"]

WIDTH = 96

TRUST_WORDS = {
    "built-in": "comes with biozoo",
    "no code": "runs no code of its author",
    "untrusted code": "would run its author's code, which nobody has allowed (zoo trust shows it)",
    "trusted code": "runs its author's code, which was allowed on this machine",
}


@dataclass(frozen=True)
class Citation:
    """What to cite; `url` is an http(s) address or empty."""

    text: str
    url: str = ""


@dataclass(frozen=True)
class Evaluation:
    """A measurement that the description reports.

    Attributes
    ----------
    dataset, role, samples
        On what it was measured; `role` says whether the model had seen those images.
    conditions
        (short name, explanation) of each column.
    rows
        (metric, explanation, one value per condition).
    summary
        The author's reading of it.
    """

    dataset: str
    role: str
    samples: int
    conditions: tuple[tuple[str, str], ...]
    rows: tuple[tuple[str, str, tuple[str, ...]], ...]
    summary: str = ""


@dataclass(frozen=True)
class ModelCard:
    """The facts of one package, in plain words. Make it with `ModelCard.of(package)`."""

    id: str
    version: str
    name: str
    description: str
    task: str
    authors: tuple[str, ...]
    license: str
    citations: tuple[Citation, ...]
    inputs: tuple[TensorWords, ...]
    outputs: tuple[TensorWords, ...]
    weights: tuple[str, ...]
    size: int
    origin: str
    trust: str
    tags: tuple[str, ...] = ()
    trained_on: str = ""
    evaluations: tuple[Evaluation, ...] = ()
    limits: tuple[tuple[str, str], ...] = field(default=())
    documentation: str = ""

    @classmethod
    def of(cls, package: ModelPackage) -> ModelCard:
        """The card of a package, from its raw description (no validation, no bioimageio.spec)."""
        rdf, summary = package.raw, package.summary
        return cls(
            id=package.id,
            version=str(package.version or ""),
            name=summary.name,
            description=summary.description,
            task=summary.task or "",
            authors=tuple(_author(a) for a in _items(rdf.get("authors"))),
            license=str(summary.license or ""),
            citations=tuple(_citation(c) for c in _items(rdf.get("cite"))),
            inputs=tuple(tensor_words(t, is_input=True) for t in _items(rdf.get("inputs"))),
            outputs=tuple(tensor_words(t, is_input=False) for t in _items(rdf.get("outputs"))),
            weights=tuple(summary.weights),
            size=package.size,
            origin=package.origin,
            trust=package.trust,
            tags=tuple(summary.tags),
            trained_on=_dataset(rdf.get("training_data")),
            evaluations=tuple(_evaluation(e) for e in _items(_bioimageio(rdf).get("evaluations"))),
            limits=_limits(_bioimageio(rdf)),
            documentation=package.documentation or "",
        )

    @property
    def dimensions(self) -> str:
        """What a card says: "2D", "3D", "2D and 3D", or "" where no input is an image."""
        return " and ".join(sorted({t.dimensions for t in self.inputs if t.dimensions}))

    @property
    def facts(self) -> tuple[tuple[str, str], ...]:
        """(label, value) of the short facts, in reading order, without the empty ones."""
        rows = (
            ("Task", self.task),
            ("Takes", "; ".join(t.summary for t in self.inputs)),
            ("Gives", "; ".join(f"{t.id}: {t.summary}" for t in self.outputs)),
            ("Licence", self.license),
            ("Authors", ", ".join(self.authors)),
            ("Trained on", self.trained_on),
            ("Weights", ", ".join(self.weights)),
            ("Size", size_text(self.size)),
            ("Version", self.version),
            ("Origin", self.origin),
            ("Safety", TRUST_WORDS.get(self.trust, self.trust)),
        )
        return tuple((label, value) for label, value in rows if value)

    def to_text(self) -> str:
        """The card for a terminal: at most 96 columns, no colour."""
        lines = [self.name, "=" * min(len(self.name), WIDTH), ""]
        lines += textwrap.wrap(self.description, WIDTH)
        lines.append("")
        indent = " " * 12
        for label, value in (("Id", self.id), *self.facts):
            lines += textwrap.wrap(
                f"{label + ':':<12}{value}", WIDTH, subsequent_indent=indent, break_on_hyphens=False
            )
        for evaluation in self.evaluations:
            lines += ["", *_evaluation_text(evaluation)]
        for label, text in self.limits:
            lines += ["", label, *textwrap.wrap(text, WIDTH, **_INDENT)]
        if self.citations:
            lines += ["", "Cite"]
            for cited in self.citations:
                entry = " ".join(part for part in (cited.text, cited.url) if part)
                lines += textwrap.wrap(entry, WIDTH, **_INDENT)
        if self.documentation:
            lines += ["", "Documentation", "", self.documentation.strip()]
        return "\n".join(lines) + "\n"

    def to_html(self, *, image_url: Callable[[str], str | None] | None = None) -> str:
        """The card as an HTML fragment, everything from the package escaped or sanitized.

        Parameters
        ----------
        image_url
            See `render_markdown`: where an image of the package is served.
        """
        from .html import render_card

        return render_card(self, image_url=image_url)


_INDENT: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}


def _items(value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        return []
    return [item for item in value if isinstance(item, Mapping)]


def _author(author: Mapping[str, Any]) -> str:
    # The collection appends ";@handle" to some names.
    name = str(author.get("name") or "").partition(";@")[0].strip()
    affiliation = str(author.get("affiliation") or "").strip()
    return f"{name} ({affiliation})" if affiliation else name


def _citation(cite: Mapping[str, Any]) -> Citation:
    doi, url = str(cite.get("doi") or ""), str(cite.get("url") or "")
    if doi.startswith("10."):
        url = f"https://doi.org/{doi}"
    return Citation(str(cite.get("text") or "").strip(), _web(url))


def _web(url: str) -> str:
    return url if url.lower().startswith(("http://", "https://")) else ""


def _bioimageio(rdf: Mapping[str, Any]) -> Mapping[str, Any]:
    config = rdf.get("config")
    part = config.get("bioimageio") if isinstance(config, Mapping) else None
    return part if isinstance(part, Mapping) else {}


def _dataset(data: Any) -> str:
    if not isinstance(data, Mapping):
        return ""
    return str(data.get("name") or data.get("id") or "").strip()


def _evaluation(entry: Mapping[str, Any]) -> Evaluation:
    def texts(key: str) -> list[str]:
        value = entry.get(key)
        return [str(v) for v in value] if isinstance(value, Sequence) else []

    results = entry.get("results")
    table = [list(r) for r in results] if isinstance(results, Sequence) else []
    return Evaluation(
        dataset=str(entry.get("dataset_id") or ""),
        role=str(entry.get("dataset_role") or "unknown"),
        samples=int(entry.get("sample_count") or 0),
        conditions=tuple(
            zip(texts("evaluation_factors"), texts("evaluation_factors_long"), strict=False)
        ),
        rows=tuple(
            (metric, long, tuple(_number(v) for v in values))
            for metric, long, values in zip(
                texts("metrics"), texts("metrics_long"), table, strict=False
            )
        ),
        summary=str(entry.get("results_summary") or "").strip(),
    )


def _number(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _limits(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    known = config.get("bias_risks_limitations")
    known = known if isinstance(known, Mapping) else {}
    rows = (
        ("Not for", config.get("out_of_scope_use") or known.get("limitations")),
        ("Known biases", known.get("known_biases")),
        ("Risks", known.get("risks")),
        ("Advice", known.get("recommendations")),
    )
    return tuple((label, " ".join(str(text).split())) for label, text in rows if text)


def _evaluation_text(evaluation: Evaluation) -> list[str]:
    lines = [
        f"Measured on {evaluation.samples} images of {evaluation.dataset} ({evaluation.role} data)"
    ]
    if evaluation.rows:
        width = max(len(metric) for metric, _, _ in evaluation.rows)
        heads = [short for short, _ in evaluation.conditions]
        widths = [max(len(h), 6) for h in heads]
        spaces = "  ".join(f"{h:>{w}}" for h, w in zip(heads, widths, strict=True))
        lines.append(f"  {'':{width}}  {spaces}")
        for metric, _, values in evaluation.rows:
            cells = "  ".join(f"{v:>{w}}" for v, w in zip(values, widths, strict=False))
            lines.append(f"  {metric:{width}}  {cells}")
    lines += textwrap.wrap(evaluation.summary, WIDTH, **_INDENT)
    return lines
