"""The card as plain values for JSON. The keys are listed in docs/model-cards.md and stay."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .certificate import Certificate
    from .sheet import Sheet

__all__ = ["SCHEMA", "record"]

#: Version of the layout: its first number changes where a key goes or means something else.
SCHEMA = "1.0"


def record(sheet: Sheet) -> dict[str, Any]:
    """Every fact of a sheet; pictures by their captions, without their pixels."""
    card = sheet.card
    return {
        "card": SCHEMA,
        "made": {**asdict(sheet.made), "machine": sheet.here.machine if sheet.here else None},
        "id": card.id,
        "version": card.version,
        "name": card.name,
        "description": card.description,
        "format_version": card.format_version,
        "purpose": {
            "task": card.task,
            "dimensions": card.dimensions,
            "modality": card.modality,
            "structures": list(card.structures),
            "tags": list(card.tags),
            "limits": [{"kind": kind, "text": text} for kind, text in card.limits],
        },
        "inputs": [_tensor(sheet, t.id, asdict(t), is_input=True) for t in card.inputs],
        "outputs": [_tensor(sheet, t.id, asdict(t), is_input=False) for t in card.outputs],
        "usage": asdict(sheet.usage),
        "runs_here": None
        if sheet.here is None
        else {k: v for k, v in asdict(sheet.here).items() if k != "machine"},
        "evaluations": [_evaluation(asdict(e)) for e in card.evaluations],
        "certificate": card.certificate and _certificate(card.certificate),
        "training": {
            "data": asdict(card.training) if card.training else None,
            "how": dict(card.training_facts),
        },
        "lineage": {"parent": card.parent or None, "parent_url": card.parent_url or None},
        "weights": [asdict(w) for w in card.formats],
        "architecture": {"name": card.architecture, "parameters": card.parameters or None},
        "license": asdict(card.licence),
        "authors": [asdict(a) for a in card.people],
        "citations": [asdict(c) for c in card.citations],
        "bibtex": card.bibtex,
        "repository": card.repository or None,
        "date": card.date or None,
        "size": card.size,
        "origin": card.origin,
        "trust": card.trust,
        "completeness": asdict(sheet.completeness),
        "documentation": card.documentation,
    }


def _tensor(sheet: Sheet, name: str, facts: dict[str, Any], *, is_input: bool) -> dict[str, Any]:
    picture = next((p for p in sheet.pictures if p.tensor == name and p.is_input == is_input), None)
    views = picture.views if picture else ()
    facts["test"] = {
        "shape": list(picture.shape) if picture else [],
        "dtype": picture.dtype if picture else "",
        "note": picture.note if picture else "",
        "about": picture.about if picture else "",
        "pictures": [
            {"title": v.title, "caption": v.caption, "width": v.width, "height": v.height}
            for v in views
        ],
    }
    return facts


def _evaluation(facts: dict[str, Any]) -> dict[str, Any]:
    facts["conditions"] = [{"name": n, "text": t} for n, t in facts["conditions"]]
    facts["rows"] = [
        {"metric": m, "text": t, "values": list(values)} for m, t, values in facts["rows"]
    ]
    return facts


def _certificate(proof: Certificate) -> dict[str, Any]:
    return {**asdict(proof), "versions": dict(proof.versions), "ok": proof.ok}
