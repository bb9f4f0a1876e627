"""How complete a card is: a published list of questions, each with its weight, and what to do.

The list stands in docs/model-cards.md too; a test compares the two. It asks what a reader needs
before trusting a model with images, not what the specification demands: a description may be valid
and answer half of it. A question that does not apply to a model counts as answered.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .axis_words import SPACE

if TYPE_CHECKING:
    from .card import ModelCard

__all__ = ["CHECKS", "Check", "Completeness", "Missing", "completeness"]

#: Documentation shorter than this says less than the description.
DOCUMENTATION = 300
#: Letters of a description that is a sentence.
DESCRIPTION = 30


@dataclass(frozen=True)
class Check:
    """One question.

    Attributes
    ----------
    key
        Stable name, for JSON.
    weight
        Points of 100.
    what
        What a complete card has.
    todo
        What to do where it is missing; `{model}` is what names the package in a command.
        "pack.yaml:" begins a field of that file.
    has
        Whether a card has it.
    """

    key: str
    weight: int
    what: str
    todo: str
    has: Callable[[ModelCard], bool]


@dataclass(frozen=True)
class Missing:
    """What a card lacks, the points for it, and the exact thing to do."""

    key: str
    weight: int
    what: str
    todo: str


@dataclass(frozen=True)
class Completeness:
    """Points of 100, and what is missing, the most important first."""

    score: int
    missing: tuple[Missing, ...]


def completeness(card: ModelCard, handle: str) -> Completeness:
    """Ask every question; `handle` names the package in the commands of the answer."""
    missing = [c for c in CHECKS if not c.has(card)]
    listed = tuple(
        Missing(c.key, c.weight, c.what, c.todo.replace("{model}", handle))
        for c in sorted(missing, key=lambda c: -c.weight)
    )
    return Completeness(100 - sum(c.weight for c in missing), listed)


def _images(card: ModelCard) -> bool:
    return any(t.dimensions for t in card.inputs)


def _varies(card: ModelCard) -> bool:
    """Whether an input takes more than one size, so that tiles can be cut."""
    return any(a.id in SPACE and a.count is None for t in card.inputs for a in t.axes)


def _halo(card: ModelCard) -> bool:
    outputs = [t for t in card.outputs if t.dimensions]
    axes = [a for t in outputs for a in t.axes if a.id in SPACE]
    return not _varies(card) or not axes or any(a.halo for a in axes)


def _pixel_size(card: ModelCard) -> bool:
    axes = [a for t in card.inputs for a in t.axes if a.id in SPACE]
    return not axes or any(a.pixel not in ("", "unknown") for a in axes)


def _channels(card: ModelCard) -> bool:
    """Names wherever there is more than one channel to confuse."""
    several = [
        t
        for t in (*card.inputs, *card.outputs)
        if any(a.id == "channel" and (a.count or 0) > 1 for a in t.axes)
    ]
    return all(t.named_channels for t in several)


def _values(card: ModelCard) -> bool:
    return bool(card.outputs) and all(t.values for t in card.outputs)


def _described(card: ModelCard) -> bool:
    tensors = (*card.inputs, *card.outputs)
    return bool(tensors) and all(t.description for t in tensors)


def _lineage(card: ModelCard) -> bool:
    made = [w for w in card.formats if w.made_from]
    return len(card.formats) < 2 or len(made) >= len(card.formats) - 1


#: Every question, in the order of a card. The weights add up to 100.
CHECKS: tuple[Check, ...] = (
    Check(
        "description", 6, f"a description of {DESCRIPTION} letters or more",
        "zoo pack {model} --description \"What it finds, in which images.\" -o out.zip",
        lambda c: len(c.description) >= DESCRIPTION,
    ),
    Check(
        "documentation", 10, f"documentation of {DOCUMENTATION} letters or more",
        "zoo pack {model} --documentation README.md -o out.zip",
        lambda c: len(c.documentation) >= DOCUMENTATION or c.documentation_elsewhere,
    ),
    Check(
        "limits", 8, "what it is not for, or known biases and risks",
        "pack.yaml: config: {bioimageio: {out_of_scope_use: \"Not for ...\"}}",
        lambda c: bool(c.limits),
    ),
    Check(
        "evaluation", 10, "a measurement on named images",
        "pack.yaml: evaluations: [{dataset_id: ..., dataset_role: test, sample_count: ..., "
        "metrics: [...], results: [[...]]}]",
        lambda c: any(e.rows and e.dataset for e in c.evaluations),
    ),
    Check(
        "certificate", 8, "a proof that its weights agree with the original network",
        "zoo pack {model} -o out.zip",
        lambda c: c.certificate is not None and c.certificate.ok,
    ),
    Check(
        "portable", 10, "weights that run without the author's code",
        "zoo convert {model} --to onnx -o out.zip",
        lambda c: any(not w.needs_code for w in c.formats),
    ),
    Check(
        "test_tensors", 8, "a test tensor for each input and output",
        "zoo pack {model} --sample IMAGE --axes AXES -o out.zip",
        lambda c: c.tested,
    ),
    Check(
        "tensors", 3, "a line about each input and output",
        "pack.yaml: inputs: [{description: ...}] and outputs: [{description: ...}]",
        _described,
    ),
    Check(
        "channels", 3, "names of the channels, where there are several",
        "zoo pack {model} --channels ID=NAME,NAME -o out.zip",
        _channels,
    ),
    Check(
        "values", 3, "the range or the meaning of each output's values",
        "pack.yaml: outputs: [{data: {type: float32, range: [0, 1]}}]",
        _values,
    ),
    Check(
        "pixel_size", 5, "the pixel size of the images it was made for",
        "pack.yaml: inputs: [{pixel_size: {y: 0.65, x: 0.65}, unit: micrometer}]",
        lambda c: not _images(c) or _pixel_size(c),
    ),
    Check(
        "halo", 3, "the halo, where images are cut into tiles",
        "zoo pack {model} --halo 32 -o out.zip",
        _halo,
    ),
    Check(
        "training_data", 5, "the data it was trained with",
        "zoo pack {model} --training-data ID -o out.zip",
        lambda c: c.training is not None,
    ),
    Check(
        "license", 5, "a licence by its SPDX id",
        "zoo pack {model} --license CC-BY-4.0 -o out.zip",
        lambda c: bool(c.licence.spdx),
    ),
    Check(
        "authors", 3, "its authors",
        "zoo pack {model} --author \"Name; affiliation; orcid\" -o out.zip",
        lambda c: bool(c.authors),
    ),
    Check(
        "citation", 5, "a citation with a DOI or an address",
        "zoo pack {model} --cite \"Authors: Title. Year. doi:10....\" -o out.zip",
        lambda c: any(s.url for s in c.citations),
    ),
    Check(
        "cover", 2, "a cover image",
        "zoo pack {model} --cover cover.png -o out.zip",
        lambda c: bool(c.covers),
    ),
    Check(
        "tags", 1, "three tags or more",
        "zoo pack {model} --tag nuclei --tag fluorescence -o out.zip",
        lambda c: len(c.tags) >= 3,
    ),
    Check(
        "lineage", 2, "which weights were made from which, where there are several",
        "rdf.yaml: weights: {onnx: {parent: pytorch_state_dict}}",
        _lineage,
    ),
)  # fmt: skip
