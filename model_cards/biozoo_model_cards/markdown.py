"""A model's documentation as HTML that is safe to show: it was written by a stranger.

Markdown is rendered with whatever HTML it holds, and then only harmless tags and attributes are
kept. Links lead to http(s) or mail and open elsewhere; no image is fetched from the network: only
images of the package itself are shown, of others the description.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

__all__ = ["render_markdown"]

MAX_CHARACTERS = 200_000
"""Longer documentation is cut: it would only freeze the page."""

TAGS = frozenset(
    ("a", "abbr", "b", "blockquote", "br", "caption", "code", "dd", "del", "details", "dl", "dt",
     "em", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img", "kbd", "li", "ol", "p", "pre", "q", "s",
     "small", "strong", "sub", "summary", "sup", "table", "tbody", "td", "tfoot", "th", "thead",
     "tr", "u", "ul")
)  # fmt: skip

ATTRIBUTES = {
    "a": {"href", "title"},
    "abbr": {"title"},
    "img": {"src", "alt", "title", "width", "height"},
    "ol": {"start"},
    "td": {"colspan", "rowspan"},
    "th": {"colspan", "rowspan"},
}


def render_markdown(
    text: str, *, image_url: Callable[[str], str | None] | None = None, top_heading: int = 4
) -> str:
    """Markdown as sanitized HTML.

    Parameters
    ----------
    text
        The documentation, Markdown with or without HTML in it.
    image_url
        Turns the path of an image inside the package into the address it is served at, or into
        None where there is no such image. Without it images are shown as their description.
    top_heading
        Level that the text's first-level headings get, so that the page keeps one outline.

    Returns
    -------
    str
        HTML without scripts, styles, frames, forms, event handlers, ids or foreign requests.
    """
    import nh3
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(text[:MAX_CHARACTERS])
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            token.tag = f"h{min(6, int(token.tag[1]) + top_heading - 1)}"

    def keep(tag: str, attribute: str, value: str) -> str | None:
        if (tag, attribute) == ("img", "src"):
            outside = bool(_scheme(value)) or value.startswith(("/", "\\"))
            return image_url(value) if image_url and not outside else None
        if (tag, attribute) == ("a", "href"):  # a path inside the package leads nowhere here
            return value if _scheme(value) else None
        return value

    return nh3.clean(
        parser.renderer.render(tokens, parser.options, {}),
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "img": {"loading": "lazy"}},
        strip_comments=True,
    )


def _scheme(address: str) -> str:
    try:
        return urlsplit(address).scheme.lower()
    except ValueError:  # "http://[" and the like
        return "unreadable"
