"""Pieces of HTML: jinja templates, autoescaped, since most words come from strangers' packages.

They reach Gradio as the *value* of `gr.HTML`. Never as its `html_template`: Gradio fills that with
Handlebars and then runs the outcome as a JavaScript template, so `${...}` in a model's name would
be executed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("biozoo_ui.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, /, **values: Any) -> str:
    """The template `name.html` filled with values; every text among them is escaped."""
    return _environment().get_template(f"{template}.html").render(**values)
