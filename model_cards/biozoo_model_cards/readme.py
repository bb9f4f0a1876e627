"""The card as Markdown with the front matter of a Hugging Face model card.

Written here and not by `bioimageio.spec.create_huggingface_model_card`, which needs a description
that validates and files that are all at hand (it reads the weights for their size), writes names
and texts of the package unescaped into YAML and Markdown, and says nothing of certificates,
completeness or whether a model runs. What Hugging Face reads is the same: `license`, `tags`,
`library_name`, `base_model`, and `pipeline_tag` besides; a test compares the two.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import yaml

from .axis_words import AxisWords
from .certificate import Certificate, seconds_text
from .evaluation import Evaluation
from .pictures import image_name

if TYPE_CHECKING:
    from .card import ModelCard
    from .sheet import Sheet
    from .words import TensorWords

__all__ = ["front_matter", "plain_text", "render_readme"]

#: Task -> Hugging Face's `pipeline_tag`, where the two surely mean the same.
PIPELINES = {
    "segmentation": "image-segmentation",
    "instance segmentation": "image-segmentation",
    "semantic segmentation": "image-segmentation",
    "restoration": "image-to-image",
    "denoising": "image-to-image",
    "translation": "image-to-image",
}


def front_matter(card: ModelCard) -> dict[str, Any]:
    """What Hugging Face reads of a card."""
    made: dict[str, Any] = {}
    if card.licence.name:
        made["license"] = card.licence.hugging_face
        if card.licence.hugging_face == "other":
            made["license_name"] = re.sub(r"[^a-z0-9.]+", "-", card.licence.name.lower())[:100]
            if card.licence.url:
                made["license_link"] = card.licence.url
    made["library_name"] = "bioimageio"
    made["tags"] = list(dict.fromkeys(("biology", "bioimage.io", *(t.lower() for t in card.tags))))
    if (pipeline := PIPELINES.get(card.task.lower())) and card.dimensions:
        made["pipeline_tag"] = pipeline
    for key, name in (("base_model", card.parent), ("datasets", card.trained_on)):
        if re.fullmatch(r"huggingface/[\w.-]+/[\w.-]+", name):
            identity = name.removeprefix("huggingface/")
            made[key] = [identity] if key == "datasets" else identity
    return made


def render_readme(sheet: Sheet, *, images: str = "") -> str:
    """The whole card; `images` is the folder of its pictures, "" leaves them out."""
    card = sheet.card
    head = yaml.safe_dump(front_matter(card), sort_keys=False, allow_unicode=True, width=1000)
    parts = [f"---\n{head}---", f"# {plain_text(card.name)}", plain_text(card.description)]
    parts += _pictures(sheet, images) if images else []
    parts += _purpose(card)
    parts += ["## Inputs and outputs"] if card.inputs or card.outputs else []
    parts += [p for t in card.inputs for p in _tensor(t, "Input")]
    parts += [p for t in card.outputs for p in _tensor(t, "Output")]
    parts += _usage(sheet)
    parts += [p for e in card.evaluations for p in _evaluation(e)]
    parts += _certificate(card.certificate, sheet.usage.handle) if card.certificate else []
    parts += _training(card)
    parts += _citing(card)
    parts += _completeness(sheet)
    where = f" on {plain_text(sheet.here.machine)}" if sheet.here else ""
    parts.append(f"*Made on {sheet.made.date} by biozoo {sheet.made.version}{where}.*")
    if text := documentation_text(card.documentation):  # last: what it leaves open ends there
        parts += ["## The author's documentation", text]
    return "\n\n".join(p for p in parts if p) + "\n"


# ------------------------------------------------------------------------------------- strangers


def plain_text(text: str) -> str:
    """Words that Markdown shows as they are: no markup, no HTML, no link, no table cell's end."""
    shown = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    shown = re.sub(r"([\\`*_{}\[\]|~#!$])", r"\\\1", shown)
    shown = re.sub(r"^([-+=])", r"\\\1", shown)  # a list, or the line below a heading
    shown = re.sub(r"^(\d+)([.)])(?=\s|$)", r"\1\\\2", shown)
    # GitHub and Hugging Face make links of bare addresses and of names after "@".
    return re.sub(r"(?i)\b(https?|ftp|www)(?=[:.])|@", lambda m: _unlinked(m[0]), shown)


def _unlinked(text: str) -> str:
    return "&#64;" if text == "@" else f"{text[:-1]}&#{ord(text[-1])};"


def _code(text: str, *, cell: bool = False) -> str:
    """A code span of any text; in a cell of a table a bar would end it."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence, shown = "`" * (longest + 1), text.replace("|", "\\|") if cell else text
    pad = " " if shown[:1] == "`" or shown[-1:] == "`" else ""
    return f"{fence}{pad}{shown}{pad}{fence}" if shown.strip() else ""


def _block(text: str, language: str) -> str:
    """A block of code that its own text cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _link(text: str, url: str) -> str:
    """A link to an http(s) address."""
    if not url:
        return plain_text(text)
    target = quote(url, safe="/:?#@!$&'*+,;=%-._~")
    return f"[{plain_text(text)}]({target})" if text != url else f"<{target}>"


def documentation_text(text: str) -> str:
    """A stranger's Markdown, with no HTML that a page obeys and nothing fetched from elsewhere.

    Where it holds no HTML, no image and no link but to http(s) and mail it stays as it is, its
    headings below those of the card. Else it is replaced by the harmless HTML of
    `render_markdown`, which Markdown shows as it is as long as no empty line interrupts it.
    """
    from .markdown import MAX_CHARACTERS, harmless_source, render_markdown

    plain = harmless_source(text[:MAX_CHARACTERS], top_heading=3)
    if plain is not None:
        return plain.strip()
    html = re.sub(r"\n[ \t]*(?=\n)", "&#10;", render_markdown(text, top_heading=3).strip())
    return f"<div>\n{html}\n</div>" if html else ""


# --------------------------------------------------------------------------------------- sections


def _list(rows: list[tuple[str, str]]) -> str:
    return "\n".join(f"- **{label}:** {text}" for label, text in rows if text)


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _pictures(sheet: Sheet, images: str) -> list[str]:
    shown = []
    for picture in sheet.pictures:
        for n, view in enumerate(picture.views):
            alt = plain_text(picture.alt(view))
            shown.append(f"![{alt}]({quote(images)}/{quote(image_name(picture, n))})")
            shown.append(f"*{alt}*")
    return ["## What goes in, what comes out", *shown] if shown else []


def _purpose(card: ModelCard) -> list[str]:
    rows = [
        ("Task", plain_text(", ".join(t for t in (card.task, card.dimensions) if t))),
        ("Finds", plain_text(", ".join(card.structures))),
        ("In", plain_text(card.modality)),
        ("Takes", "; ".join(plain_text(t.summary) for t in card.inputs)),
        ("Version", plain_text(card.version)),
    ]
    parts = ["## What it is for", _list(rows)]
    if card.limits:
        parts += ["## What it is not for, and its limits"]
        parts += [_list([(label, plain_text(text)) for label, text in card.limits])]
    return parts


def _tensor(tensor: TensorWords, kind: str) -> list[str]:
    told = [_code(tensor.dtype), plain_text(tensor.values), "optional" if tensor.optional else ""]
    parts = [f"### {kind} {_code(tensor.id)}", plain_text(tensor.description)]
    parts.append(", ".join(t for t in told if t))
    if tensor.axes:
        heads = ["Axis", "Size", "Channels", "Halo", "Pixel size"]
        parts.append(_table(heads, [_axis(a, named=tensor.named_channels) for a in tensor.axes]))
    if tensor.steps:
        when = "Before the network" if kind == "Input" else "After the network"
        parts.append(f"{when}: {', then '.join(map(_code, tensor.steps))}")
    return parts


def _axis(axis: AxisWords, *, named: bool) -> list[str]:
    shown = axis.names[:24] if named else ()
    names = ", ".join(map(plain_text, shown)) + (", …" if shown and len(axis.names) > 24 else "")
    halo = str(axis.halo) if axis.halo else ""
    return [
        plain_text(axis.id),
        _code(axis.rule or "any", cell=True),
        names,
        halo,
        plain_text(axis.pixel),
    ]


def _usage(sheet: Sheet) -> list[str]:
    use = sheet.usage
    parts = ["## How to run it"]
    if use.where:
        parts.append(f"{_code(use.handle)}: {plain_text(use.where)}.")
    parts += [_block(use.shell, "sh"), _block(use.python, "python"), _block(use.http, "sh")]
    parts.append(plain_text(use.http_note))
    if sheet.here is not None:
        answer = "Yes" if sheet.here.ok else "No"
        parts += ["## Does it run here?", f"**{answer}**, {plain_text(sheet.here.how)}."]
        parts.append("\n".join(f"- {plain_text(n)}" for n in sheet.here.notes))
        parts.append(f"“Here” is {plain_text(sheet.here.machine)}, on {sheet.made.date}.")
    return parts


def _evaluation(evaluation: Evaluation) -> list[str]:
    parts = ["## How well it works", f"Measured on {plain_text(evaluation.on)}."]
    if evaluation.source:
        parts[-1] += f" {_link('The images', evaluation.source)}"
    if evaluation.rows:
        heads = ["Measure", *(plain_text(short) for short, _ in evaluation.conditions)]
        blank = [""] * len(evaluation.conditions)
        rows = [
            [plain_text(m), *[*map(plain_text, values), *blank][: len(blank)]]
            for m, _, values in evaluation.rows
        ]
        parts.append(_table(heads, rows))
        told = [(plain_text(m), plain_text(t)) for m, t, _ in evaluation.rows if t]
        told += [(plain_text(s), plain_text(t)) for s, t in evaluation.conditions if t]
        parts.append(_list(told))
    return [*parts, plain_text(evaluation.summary)]


def _certificate(proof: Certificate, handle: str) -> list[str]:
    heads = ["Weights", "Agrees", "Compared", "Largest error", "Per million off", "Per megapixel"]
    rows = [
        [
            plain_text(p.weights),
            "yes" if p.ok else "no",
            f"{p.cases} runs, {p.shapes} sizes",
            "" if p.absolute is None else f"{p.absolute:.2g}",
            "" if p.off is None else f"{p.off:.3g}",
            seconds_text(p.seconds) if p.seconds else "",
        ]
        for p in proof.proofs
    ]
    faults = [f"- {plain_text(p.weights)}: {plain_text(p.fault)}" for p in proof.proofs if p.fault]
    parts = ["## Certificate", f"{plain_text(proof.sentence)}.", _table(heads, rows)]
    repeat = f"To repeat it: {_code(f'zoo certify {handle}')}"
    return [*parts, "\n".join(faults), repeat]


def _training(card: ModelCard) -> list[str]:
    data, weights = card.training, []
    for w in card.formats:
        made = f", made from {plain_text(w.made_from)}" if w.made_from else ""
        weights.append(f"{plain_text(w.name)}{made}")
    parameters = f"{card.parameters:,} parameters" if card.parameters else ""
    rows = [
        ("Training data", _link(data.name, data.url) if data else ""),
        *((label, plain_text(text)) for label, text in card.training_facts),
        ("Parent", _link(card.parent, card.parent_url) if card.parent else ""),
        ("Network", ", ".join(p for p in (plain_text(card.architecture), parameters) if p)),
        ("Weights", "; ".join(weights)),
    ]
    listed = _list(rows)
    return ["## Training and lineage", listed] if listed else []


def _citing(card: ModelCard) -> list[str]:
    people = [
        plain_text(f"{a.name}, {a.affiliation}" if a.affiliation else a.name)
        + (f" ({_link('ORCID', a.orcid)})" if a.orcid else "")
        for a in card.people
    ]
    licence = _link(card.licence.name, card.licence.url) if card.licence.name else "none is named"
    rows = [
        ("Licence", licence),
        ("Authors", "; ".join(people)),
        ("Source", _link(card.repository, card.repository) if card.repository else ""),
    ]
    cites = "\n".join(
        f"- {plain_text(c.text)} {_link(c.url, c.url) if c.url else ''}".rstrip()
        for c in card.citations
    )
    parts = ["## Licence, authors and citation", _list(rows), cites]
    return [*parts, _block(card.bibtex, "bibtex")]


def _completeness(sheet: Sheet) -> list[str]:
    complete = sheet.completeness
    parts = ["## How complete this card is", f"{complete.score} of 100."]
    missing = [f"- {plain_text(m.what)} ({m.weight}): {_code(m.todo)}" for m in complete.missing]
    return [*parts, "\n".join(missing)]
