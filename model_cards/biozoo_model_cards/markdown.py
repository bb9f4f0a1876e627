"""A model's documentation as HTML that is safe to show: it was written by a stranger.

Markdown is rendered with whatever HTML it holds, and then only harmless tags and attributes are
kept. Links lead to http(s) or mail and open elsewhere; no image is fetched from the network: only
images of the package itself are shown, of others the description.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

__all__ = ["harmless_source", "render_markdown"]

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

    cleaned = nh3.clean(
        parser.renderer.render(tokens, parser.options, {}),
        tags=set(TAGS),
        attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
        attribute_filter=keep,
        url_schemes={"http", "https", "mailto"},
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}, "img": {"loading": "lazy"}},
        strip_comments=True,
    )
    return _IMAGE.sub(_described, cleaned)


#: An image as nh3 writes it.
_IMAGE = re.compile(r'<img((?: [a-z-]+="[^"]*")*)>')


def _described(image: re.Match[str]) -> str:
    """With a description, if an empty one: a reader of screens would spell out the address."""
    given = re.findall(r' ([a-z-]+)="', image[1])
    return image[0] if "alt" in given else f'<img alt=""{image[1]}>'


def harmless_source(text: str, *, top_heading: int) -> str | None:
    """Markdown as it stands but for its headings' level, None where it is more than words.

    Parameters
    ----------
    text
        A stranger's Markdown.
    top_heading
        Level that first-level headings get.

    Returns
    -------
    str or None
        None where it has HTML, an image, or a link to anything but http(s) and mail.
    """
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    environment: dict[str, Any] = {}
    tokens = parser.parse(text, environment)
    for token in [t for top in tokens for t in (top, *(top.children or ()))]:
        if token.type in ("html_block", "html_inline", "image"):
            return None
        if token.type == "link_open" and not _leads_out(str(token.attrs.get("href", ""))):
            return None
    if not all(_leads_out(r["href"]) for r in environment.get("references", {}).values()):
        return None
    lines = text.split("\n")
    for i, token in enumerate(tokens):
        if token.type == "heading_open" and token.map is not None:
            level = min(6, int(token.tag[1]) + top_heading - 1)
            if token.level or not token.markup.startswith("#"):
                if token.level or token.map[1] - token.map[0] != 2:  # in a quote, or of many lines
                    return None
                lines[token.map[0] + 1] = ""  # the line below a heading
            lines[token.map[0]] = f"{'#' * level} {tokens[i + 1].content}"
    return "\n".join(lines)


def _leads_out(address: str) -> bool:
    return _scheme(address) in ("http", "https", "mailto")


def _scheme(address: str) -> str:
    try:
        return urlsplit(address).scheme.lower()
    except ValueError:  # "http://[" and the like
        return "unreadable"
