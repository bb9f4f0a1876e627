"""A model's documentation as HTML that is safe to show: it was written by a stranger.

Only what the Markdown renderer itself writes comes out. HTML inside the text is dropped, links
lead to http(s) or mail only and open elsewhere, and no image is fetched from the network: images
of the package are served by the caller, others become links.
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from markdown_it import MarkdownIt
from markdown_it.token import Token

MAX_CHARACTERS = 200_000
"""Longer documentation is cut: it would only freeze the page."""

OUTSIDE = ("http", "https", "mailto")


def render_markdown(
    text: str, *, image_url: Callable[[str], str | None] | None = None, top_heading: int = 3
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
        HTML without scripts, styles, frames, event handlers or foreign requests.
    """
    # html=True only so that tags are recognised; their tokens are dropped and never rendered.
    parser = MarkdownIt("commonmark", {"html": True, "linkify": False}).enable(
        ["table", "strikethrough"]
    )
    tokens = parser.parse(text[:MAX_CHARACTERS])
    return str(parser.renderer.render(_clean(tokens, image_url, top_heading), parser.options, {}))


def _clean(
    tokens: list[Token], image_url: Callable[[str], str | None] | None, top_heading: int
) -> list[Token]:
    kept: list[Token] = []
    for token in tokens:
        if token.type in ("html_block", "html_inline"):
            continue
        if token.type in ("heading_open", "heading_close"):
            level = min(6, int(token.tag[1]) + top_heading - 1)
            token.tag = f"h{level}"
        elif token.type == "link_open":
            _clean_link(token)
        elif token.type == "image":
            kept.extend(_clean_image(token, image_url))
            continue
        if token.children is not None:
            token.children = _clean(token.children, image_url, top_heading)
        kept.append(token)
    return kept


def _clean_link(token: Token) -> None:
    address = str(token.attrs.get("href", ""))
    if _scheme(address) in OUTSIDE:
        token.attrs = {"href": address, "target": "_blank", "rel": "noopener noreferrer nofollow"}
    else:  # a path inside the package, or a scheme that runs something
        token.attrs = {}


def _clean_image(token: Token, image_url: Callable[[str], str | None] | None) -> list[Token]:
    source = str(token.attrs.get("src", ""))
    served = image_url(source) if image_url and not _leaves(source) else None
    if served is not None:
        token.attrs = {"src": served, "alt": token.attrs.get("alt", ""), "loading": "lazy"}
        return [token]
    words = Token("text", "", 0, content=token.content or "image")
    if _scheme(source) not in ("http", "https"):
        return [words]
    opened = Token("link_open", "a", 1, attrs={"href": source})
    _clean_link(opened)
    return [opened, words, Token("link_close", "a", -1)]


def _scheme(address: str) -> str:
    try:
        return urlsplit(address).scheme.lower()
    except ValueError:  # "http://[" and the like
        return "unreadable"


def _leaves(source: str) -> bool:
    return bool(_scheme(source)) or source.startswith(("/", "\\"))
