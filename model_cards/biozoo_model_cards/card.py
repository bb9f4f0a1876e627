"""`ModelCard`: what a person asks about a model before using it.

From the raw description alone: cheap enough for lists. What needs the package's files or this
machine (pictures, whether it runs here) is in `sheet`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from biozoo.files import size_text
from biozoo.peek import is_here

from .axis_words import scales
from .certificate import Certificate, certificate
from .citing import Citation, bibtex, citations
from .clean import items, lines, mapping, one_line, sequence, web
from .evaluation import Evaluation, evaluations
from .licence import Licence, licence
from .lineage import TrainingData, WeightsFile, parent, training_data, weights_files
from .markdown import MAX_CHARACTERS
from .words import TensorWords, tensor_words

if TYPE_CHECKING:
    from biozoo import ModelPackage

    from .pictures import Picture

__all__ = ["Author", "Citation", "Evaluation", "ModelCard"]

TRUST_WORDS = {
    "built-in": "comes with biozoo",
    "no code": "runs no code of its author",
    "untrusted code": "would run its author's code, which nobody has allowed (zoo trust shows it)",
    "trusted code": "runs its author's code, which was allowed on this machine",
}


@dataclass(frozen=True)
class Author:
    """Who made it; `orcid` and `github` are addresses or empty."""

    name: str
    affiliation: str = ""
    orcid: str = ""
    github: str = ""


@dataclass(frozen=True)
class ModelCard:
    """The facts of one package, in plain words. Make it with `ModelCard.of(package)`.

    Every text is plain: what a terminal obeys is written out, addresses are http(s).
    """

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
    people: tuple[Author, ...] = ()
    licence: Licence = field(default_factory=lambda: Licence(""))
    formats: tuple[WeightsFile, ...] = ()
    certificate: Certificate | None = None
    training: TrainingData | None = None
    training_facts: tuple[tuple[str, str], ...] = ()
    parent: str = ""
    parent_url: str = ""
    modality: str = ""
    structures: tuple[str, ...] = ()
    architecture: str = ""
    parameters: int = 0
    repository: str = ""
    date: str = ""
    format_version: str = ""
    covers: tuple[str, ...] = ()
    tested: bool = False
    documentation_elsewhere: bool = False
    present: bool = True

    @classmethod
    def of(cls, package: ModelPackage) -> ModelCard:
        """The card of a package, from its raw description (no validation, no bioimageio.spec)."""
        rdf, summary, config = package.raw, package.summary, _bioimageio(package.raw)
        known, people = scales(rdf), tuple(_author(a) for a in items(rdf.get("authors")))
        training, (ancestor, ancestor_url) = training_data(rdf), parent(rdf)
        documentation = lines(package.documentation[:MAX_CHARACTERS])
        return cls(
            id=package.id,
            version=one_line(summary.version, 100),
            name=one_line(summary.name, 300) or package.id,
            description=one_line(summary.description),
            task=one_line(config.get("task"), 100) or summary.task,
            authors=tuple(_named(a) for a in people if a.name),
            license=one_line(summary.license, 200),
            citations=citations(rdf),
            inputs=_tensors(rdf, "inputs", known),
            outputs=_tensors(rdf, "outputs", known),
            weights=tuple(one_line(w, 60) for w in summary.weights),
            size=package.size,
            origin=package.origin,
            trust=package.trust,
            tags=tuple(one_line(t, 100) for t in summary.tags[:100]),
            trained_on=training.name if training else "",
            # A retrained model was measured on images that have no web address, which the
            # specification's own place for evaluations demands.
            evaluations=(*evaluations(config), *evaluations(_biozoo(package.raw))),
            limits=_limits(config),
            documentation=documentation,
            people=tuple(a for a in people if a.name),
            licence=licence(one_line(summary.license, 200)),
            formats=weights_files(rdf),
            certificate=certificate(rdf),
            training=training,
            training_facts=_training_facts(mapping(config.get("training"))),
            parent=ancestor,
            parent_url=ancestor_url,
            modality=one_line(config.get("modality"), 200),
            structures=_texts(config.get("target_structure")),
            architecture=one_line(
                config.get("architecture_description") or config.get("architecture_type")
            ),
            parameters=_count(config.get("model_parameter_count")),
            repository=web(rdf.get("git_repo")),
            date=_date(rdf.get("timestamp")),
            format_version=one_line(summary.format_version, 20),
            covers=tuple(filter(None, map(_cover, sequence(rdf.get("covers"))[:20]))),
            tested=_tested(rdf),
            present=any(is_here(package, w) for w in mapping(rdf.get("weights"))),
            documentation_elsewhere=bool(rdf.get("documentation")) and not documentation,
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
            ("Made from", self.parent),
            ("Weights", ", ".join(self.weights)),
            ("Size", size_text(self.size) if self.present else ""),
            ("Version", self.version),
            ("Origin", self.origin),
            ("Safety", TRUST_WORDS.get(self.trust, self.trust)),
        )
        return tuple((label, value) for label, value in rows if value)

    @cached_property
    def bibtex(self) -> str:
        """Entries for the model itself and for what it asks to be cited."""
        return bibtex(
            id=self.id,
            name=self.name,
            version=self.version,
            authors=[a.name for a in self.people],
            year=self.date[:4],
            url=self.repository,
            cited=self.citations,
        )

    def to_text(self) -> str:
        """The card for a terminal: at most 96 columns, no colour."""
        from .text import card_text

        return card_text(self)

    def to_html(
        self,
        *,
        image_url: Callable[[str], str | None] | None = None,
        pictures: tuple[Picture, ...] = (),
        picture_url: Callable[[str, int], str] | None = None,
    ) -> str:
        """The card as an HTML fragment, everything from the package escaped or sanitized.

        Parameters
        ----------
        image_url
            See `render_markdown`: where an image of the package is served.
        pictures, picture_url
            Of the test tensors, and where a server has the n-th one of a tensor.
        """
        from .html import render_card

        return render_card(self, image_url=image_url, pictures=pictures, picture_url=picture_url)


def _tensors(rdf: Mapping[str, Any], key: str, known: Any) -> tuple[TensorWords, ...]:
    is_input = key == "inputs"
    found = items(rdf.get(key))[:100]
    return tuple(tensor_words(t, is_input=is_input, scales=known) for t in found)


def _author(author: Mapping[str, Any]) -> Author:
    # The collection appends ";@handle" to some names.
    name = one_line(author.get("name"), 200).partition(";@")[0].strip()
    orcid = one_line(author.get("orcid"), 40).rpartition("/")[2]
    github = one_line(author.get("github_user"), 60)
    return Author(
        name,
        one_line(author.get("affiliation"), 300),
        f"https://orcid.org/{orcid}" if re.fullmatch(r"(\d{4}-){3}\d{3}[\dX]", orcid) else "",
        f"https://github.com/{github}" if re.fullmatch(r"[A-Za-z0-9-]+", github) else "",
    )


def _named(author: Author) -> str:
    return f"{author.name} ({author.affiliation})" if author.affiliation else author.name


def _bioimageio(rdf: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(rdf.get("config")).get("bioimageio"))


def _biozoo(rdf: Mapping[str, Any]) -> Mapping[str, Any]:
    return mapping(mapping(rdf.get("config")).get("biozoo"))


def _cover(value: Any) -> str:
    return one_line(mapping(value).get("source") or value, 500)


def _texts(value: Any) -> tuple[str, ...]:
    listed = [value] if isinstance(value, str) else sequence(value)
    return tuple(t for t in (one_line(v, 100) for v in listed[:30]) if t)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _date(value: Any) -> str:
    found = re.match(r"\d{4}-\d{2}-\d{2}", one_line(value, 40))
    return found[0] if found else ""


def _tested(rdf: Mapping[str, Any]) -> bool:
    """Whether a test tensor is named for every input and output."""
    for key, old in (("inputs", "test_inputs"), ("outputs", "test_outputs")):
        tensors = items(rdf.get(key))
        named = [t for t in tensors if t.get("test_tensor") or t.get("optional") is True]
        if not tensors or len(named) < len(tensors) > len(sequence(rdf.get(old))):
            return False
    return True


def _limits(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    known = mapping(config.get("bias_risks_limitations"))
    rows = (
        ("Not for", config.get("out_of_scope_use") or known.get("limitations")),
        ("Known biases", known.get("known_biases")),
        ("Risks", known.get("risks")),
        ("Advice", known.get("recommendations")),
    )
    return tuple((label, one_line(text)) for label, text in rows if one_line(text))


def _training_facts(training: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """What `config.bioimageio.training` says of how it was trained."""
    rows = (
        ("Preprocessing", "training_preprocessing"),
        ("Epochs", "training_epochs"),
        ("Batch size", "training_batch_size"),
        ("Learning rate", "initial_learning_rate"),
        ("Schedule", "learning_rate_schedule"),
        ("Loss", "loss_function"),
        ("Optimiser", "optimizer"),
        ("Regularisation", "regularization"),
        ("Hours", "training_duration"),
    )
    return tuple((label, text) for label, key in rows if (text := one_line(training.get(key), 500)))
