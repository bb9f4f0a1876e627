"""The card as HTML: one template, autoescaped; only the sanitized documentation goes in as HTML."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from .markdown import render_markdown

if TYPE_CHECKING:
    from .card import ModelCard


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("biozoo_model_cards"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render_card(card: ModelCard, *, image_url: Callable[[str], str | None] | None = None) -> str:
    """HTML fragment of a card: facts, measurements, limits, citations, documentation."""
    documentation = Markup(render_markdown(card.documentation, image_url=image_url))
    template = _environment().get_template("card.html")
    return template.render(card=card, documentation=documentation)
