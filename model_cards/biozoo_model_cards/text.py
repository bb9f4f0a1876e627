"""The card for a terminal: plain lines of at most 96 columns."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from .certificate import seconds_text
from .completeness import completeness
from .evaluation import evaluation_text

if TYPE_CHECKING:
    from .card import ModelCard
    from .sheet import Sheet
    from .words import TensorWords

__all__ = ["card_text", "sheet_text"]

WIDTH = 96
_INDENT: dict[str, Any] = {"initial_indent": "  ", "subsequent_indent": "  "}


def card_text(card: ModelCard) -> str:
    """What `zoo show` prints."""
    score = completeness(card, card.id).score
    complete = ["", f"This card is complete to {score} of 100; zoo card says what is missing"]
    lines = [*_head(card), *_measured(card), *_cited(card), *(complete if score < 100 else [])]
    return _joined([*lines, *_documentation(card)])


def sheet_text(sheet: Sheet) -> str:
    """What `zoo card` prints: the same, and everything else that a card holds."""
    card, lines = sheet.card, _head(sheet.card)
    for kind, tensors in (("Input", card.inputs), ("Output", card.outputs)):
        for tensor in tensors:
            lines += ["", f"{kind} {tensor.id}", *_tensor(tensor)]
    lines += ["", "How to run it"]
    lines += [f"  {line}" for line in sheet.usage.shell.splitlines()]
    if sheet.usage.where:
        lines += textwrap.wrap(f"({sheet.usage.where})", WIDTH, **_INDENT)
    if sheet.here is not None:
        answer = "Yes" if sheet.here.ok else "No"
        lines += ["", f"Runs here? {answer} ({sheet.here.machine}, {sheet.made.date})"]
        for text in (sheet.here.how, *sheet.here.notes):
            lines += textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    lines += [*_measured(card), *_certificate(card), *_cited(card)]
    lines += ["", f"This card is complete to {sheet.completeness.score} of 100"]
    for missing in sheet.completeness.missing:
        text = f"{missing.what} ({missing.weight}): {missing.todo}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return _joined([*lines, *_documentation(card)])


def _joined(lines: list[str]) -> str:
    return "\n".join(lines) + "\n"


def _head(card: ModelCard) -> list[str]:
    lines = [*textwrap.wrap(card.name, WIDTH), "=" * min(len(card.name), WIDTH), ""]
    lines += textwrap.wrap(card.description, WIDTH)
    lines.append("")
    for label, value in (("Id", card.id), *card.facts):
        lines += textwrap.wrap(
            f"{label + ':':<12}{value}", WIDTH, subsequent_indent=" " * 12, break_on_hyphens=False
        )
    return lines


def _tensor(tensor: TensorWords) -> list[str]:
    lines = textwrap.wrap(tensor.description, WIDTH, **_INDENT)
    told = [tensor.dtype, tensor.values, "optional" if tensor.optional else ""]
    lines += textwrap.wrap(", ".join(t for t in told if t), WIDTH, **_INDENT)
    for axis in tensor.axes:
        parts = [axis.rule or "any"]
        if axis.names and tensor.named_channels:
            parts.append(", ".join(axis.names[:12]) + (", …" if len(axis.names) > 12 else ""))
        if axis.halo:
            parts.append(f"halo {axis.halo}")
        if axis.pixel:
            parts.append(f"pixel size {axis.pixel}")
        text = f"{axis.id + ':':<10}{'; '.join(parts)}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent=" " * 12)
    for step in tensor.steps:
        lines += textwrap.wrap(f"step: {step}", WIDTH, **_INDENT)
    return lines


def _measured(card: ModelCard) -> list[str]:
    lines = []
    for evaluation in card.evaluations:
        lines += ["", *evaluation_text(evaluation, WIDTH)]
    for label, text in card.limits:
        lines += ["", label, *textwrap.wrap(text, WIDTH, **_INDENT)]
    return lines


def _certificate(card: ModelCard) -> list[str]:
    proof = card.certificate
    if proof is None:
        return []
    lines = ["", "Certificate", *textwrap.wrap(proof.sentence, WIDTH, **_INDENT)]
    for p in proof.proofs:
        parts = [f"{p.cases} cases, {p.shapes} sizes" if p.cases else ""]
        parts.append(f"largest error {p.absolute:.2g}" if p.absolute is not None else "")
        parts.append(f"tiles against whole: {p.tiled}" if p.tiled else "")
        parts.append(f"{seconds_text(p.seconds)} per megapixel" if p.seconds else "")
        text = f"{p.weights}: {'; '.join(t for t in (*parts, p.fault) if t)}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  - ", subsequent_indent="    ")
    return [*lines, "  Repeat it: zoo certify"]


def _cited(card: ModelCard) -> list[str]:
    lines = ["", "Cite"] if card.citations else []
    for cited in card.citations:
        entry = " ".join(part for part in (cited.text, cited.url) if part)
        lines += textwrap.wrap(entry, WIDTH, **_INDENT)
    return lines


def _documentation(card: ModelCard) -> list[str]:
    text = card.documentation.strip()
    return ["", "Documentation", "", text] if text else []
