"""The card as HTML, as a fragment of a page and as one file that needs no other.

Both are made of the same parts (`templates/parts`), autoescaped; only the sanitized documentation
goes in as HTML. The file holds its style and its pictures, has no script, and its
Content-Security-Policy lets a browser fetch nothing and run nothing.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from collections.abc import Callable
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .certificate import seconds_text
from .markdown import render_markdown
from .pictures import DOCUMENT_BYTES, data_uri, package_image

if TYPE_CHECKING:
    from .card import ModelCard
    from .pictures import Picture
    from .sheet import Sheet

__all__ = ["render_card", "render_page"]

Address = Callable[[str, int], str]


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("biozoo_model_cards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["seconds_text"] = seconds_text
    return environment


@cache
def _style() -> str:
    file = files("biozoo_model_cards").joinpath("templates", "page.css")
    return file.read_text(encoding="utf-8").strip()


def render_card(
    card: ModelCard,
    *,
    image_url: Callable[[str], str | None] | None = None,
    pictures: tuple[Picture, ...] = (),
    picture_url: Address | None = None,
) -> str:
    """HTML fragment of a card, for a page that has its own style and says its name."""
    documentation = Markup(render_markdown(card.documentation, image_url=image_url))
    return (
        _environment()
        .get_template("card.html")
        .render(
            card=card,
            facts=card.facts,
            pictures=_shown(pictures, picture_url),
            documentation=documentation,
            handle=card.id,
            stepped=_stepped(card),
            whole=False,
            ids="about-",
            h="h3",
            sub="h4",
            blank=Markup(' target="_blank"'),
        )
    )


def render_page(sheet: Sheet) -> str:
    """The whole card as one file."""
    card, style = sheet.card, _style()
    images = _Embedded(sheet.root)
    documentation = images.fill(
        render_markdown(card.documentation, image_url=images.place, top_heading=3)
    )
    pictures = _shown(sheet.pictures)
    drawn = any(p["views"] for p in pictures)
    cover = "" if drawn else _cover(sheet)
    hidden = ("Weights", "Origin", "Made from", *(() if sheet.here else ("Safety",)))
    return (
        _environment()
        .get_template("page.html")
        .render(
            card=card,
            facts=[fact for fact in card.facts if fact[0] not in hidden],
            chips=[c for c in (card.task, card.dimensions, card.license) if c],
            contents=_contents(
                sheet, drawn=drawn or bool(cover), documented=bool(documentation.strip())
            ),
            pictures=pictures if drawn else [],
            cover=cover,
            documentation=Markup(documentation),
            usage=sheet.usage,
            handle=sheet.usage.handle,
            here=sheet.here,
            made=sheet.made,
            stepped=_stepped(card),
            completeness=sheet.completeness,
            pack_notes=any("pack.yaml: " in m.todo for m in sheet.completeness.missing),
            style=Markup(style),
            style_hash=base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
            whole=True,
            ids="",
            h="h2",
            sub="h3",
            blank="",
        )
    )


def _trained(card: ModelCard) -> bool:
    """Whether there is anything about where the weights come from."""
    facts = (card.training, card.training_facts, card.parent, card.formats, card.architecture)
    return any(facts)


def _stepped(card: ModelCard) -> bool:
    """Whether a size has steps, which are then explained."""
    return any(" n × " in a.rule for t in (*card.inputs, *card.outputs) for a in t.axes)


def _shown(pictures: tuple[Picture, ...], address: Address | None = None) -> list[dict[str, Any]]:
    """What the template shows: addresses in place of contents."""
    return [
        {
            "tensor": p.tensor,
            "is_input": p.is_input,
            "shape": " × ".join(map(str, p.shape)),
            "dtype": p.dtype,
            "note": p.note,
            "about": p.about,
            "views": [
                {
                    "src": address(p.tensor, n) if address else data_uri(v.content, v.media),
                    "alt": p.alt(v),
                    "title": v.title,
                    "caption": v.caption,
                    "width": v.width,
                    "height": v.height,
                    "enlarged": v.enlarged,
                }
                for n, v in enumerate(p.views)
            ],
        }
        for p in pictures
    ]


def _contents(sheet: Sheet, *, drawn: bool, documented: bool) -> list[tuple[str, str]]:
    card = sheet.card
    rows = (
        ("pictures", "Pictures", drawn),
        ("purpose", "What it is for", card.task or card.modality or card.structures or card.tags),
        ("limits", "Limits", card.limits),
        ("tensors", "Inputs and outputs", card.inputs or card.outputs),
        ("usage", "How to run it", True),
        ("here", "Does it run here?", sheet.here),
        ("evaluation", "How well it works", card.evaluations),
        ("certificate", "Certificate", card.certificate),
        ("training", "Training and lineage", _trained(card)),
        ("citing", "Licence and citation", True),
        ("completeness", "Completeness", True),
        ("documentation", "Documentation", documented),
    )
    return [(anchor, title) for anchor, title, there in rows if there]


class _Embedded:
    """Pictures of the package that its documentation shows, put into the page.

    The sanitizer lets no `data:` address through, and shall not: it gets a name that no document
    can have guessed, in whose place the picture is put afterwards.
    """

    def __init__(self, root: Path) -> None:
        self._root, self._left, self._secret = root, DOCUMENT_BYTES, secrets.token_hex(8)
        self._found: dict[str, str] = {}

    def place(self, source: str) -> str | None:
        """A name for an image of the package, None for anything else or beyond the limit."""
        made = package_image(self._root, source)
        if made is None or len(made[0]) > self._left:
            return None
        self._left -= len(made[0])
        name = f"image-{self._secret}-{len(self._found)}"
        self._found[name] = data_uri(*made)
        return name

    def fill(self, html: str) -> str:
        """The names replaced by the images."""
        for name, uri in self._found.items():
            html = html.replace(f'src="{name}"', f'src="{uri}"')
        return html


def _cover(sheet: Sheet) -> str:
    """The author's cover, where no test tensor can be drawn."""
    for source in sheet.card.covers:
        if (made := package_image(sheet.root, source)) is not None:
            return data_uri(*made)
    return ""
