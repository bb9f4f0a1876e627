"""Pieces of HTML: jinja templates, autoescaped, since most words come from strangers' packages.

They reach Gradio as the *value* of `gr.HTML`. Never as its `html_template`: Gradio fills that with
Handlebars and then runs the outcome as a JavaScript template, so `${...}` in a model's name would
be executed.
"""

from __future__ import annotations

from functools import cache
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("biozoo_ui.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["path"] = lambda text: quote(str(text), safe="/")
    environment.globals["icon"] = icon
    return environment


def render(template: str, /, **values: Any) -> str:
    """The template `name.html` filled with values; every text among them is escaped."""
    return _environment().get_template(f"{template}.html").render(**values)


ICONS = {
    "yes": "M5 12.5l4.5 4.5L19 7.5",
    "no": "M6.5 6.5l11 11M17.5 6.5l-11 11",
    "note": "M12 3.5a8.5 8.5 0 1 1 0 17a8.5 8.5 0 0 1 0-17M12 8v.1M12 11.8v4.4",
    "search": "M10.5 4a6.5 6.5 0 1 1 0 13a6.5 6.5 0 0 1 0-13M15.4 15.4L20 20",
    "download": "M12 4v11M7.5 11l4.5 4.5L16.5 11M5 19.5h14",
    "image": "M4 5h16v14H4zM4 16l4.5-5l4 4.5l2.5-2.5l5 5M15.5 9.2v.1",
}
"""Paths of line drawings on a 24 x 24 field: no font of symbols is needed."""


def icon(name: str) -> Markup:
    """A line drawing that takes the colour of the text, hidden from screen readers."""
    return Markup(
        '<svg class="icon" viewBox="0 0 24 24" aria-hidden="true" focusable="false">'
        '<path d="{}"/></svg>'
    ).format(ICONS[name])


def seconds_words(seconds: float) -> str:
    """A duration as one says it: 4.2 -> "4 seconds", 130 -> "2 minutes"."""
    whole = round(seconds)
    if whole < 1:
        return "less than a second"
    if whole < 90:
        return f"{whole} second{'' if whole == 1 else 's'}"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} minutes"
    return f"{seconds / 3600:.1f} hours"
