"""The verb that opens the web page."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from biozoo.errors import MissingDependencyError, UsageError

from .output import verb


@verb
def ui(
    port: Annotated[
        int, typer.Option(metavar="N", help="Where to listen; 0 takes a free one.")
    ] = 7860,
    host: Annotated[
        str,
        typer.Option(
            help="Address to listen on; one that others can reach demands --users or --token."
        ),
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="BIOZOO_TOKEN",
            help="The secret word that visitors must give; beside --users, programs.",
        ),
    ] = None,
    users: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Who may sign in, each with images and jobs of their own; zoo user add makes it.",
        ),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="Images in this folder of this machine may be opened by their path, without "
            "an upload. May be repeated; without it none may.",
        ),
    ] = None,
    max_upload: Annotated[
        str, typer.Option(metavar="SIZE", help="The largest file that is taken.")
    ] = "8GB",
    keep_uploads: Annotated[
        float,
        typer.Option(
            metavar="HOURS",
            help="After so many hours without a look at it an uploaded image is removed.",
        ),
    ] = 24.0,
    browser: Annotated[
        bool,
        typer.Option("--browser/--no-browser", help="Open a browser where there is a display."),
    ] = True,
) -> None:
    """Open the web page: the same steps in a browser. Ctrl-C ends it."""
    try:
        from biozoo_ui.web import serve
    except ImportError as exc:
        raise MissingDependencyError(
            what="The web page", library=exc.name or "gradio", install='pip install "biozoo[ui]"'
        ) from exc
    serve(
        host=host,
        port=port,
        open_browser=browser,
        token=token,
        users=users,
        image_folders=tuple(images or ()),
        max_upload=parse_size(max_upload),
        keep_hours=keep_uploads,
    )


_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def parse_size(text: str) -> int:
    """Bytes of a size as people write it; "GB" and "GiB" are told apart.

    >>> parse_size("8GB"), parse_size("1.5 MiB"), parse_size("300")
    (8000000000, 1572864, 300)

    Raises
    ------
    UsageError
        It is none.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)(i?)b?\s*", text, re.IGNORECASE)
    if not found or (found[3] and not found[2]) or not float(found[1]):
        raise UsageError(f"'{text}' is no size. Write it as 500MB or 8GB.")
    unit = _UNITS[found[2].lower()]
    if found[3]:
        unit = 2 ** (10 * list(_UNITS).index(found[2].lower()))
    return int(float(found[1]) * unit)


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("ui")(ui)
