"""The verb that opens the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from biozoo.errors import MissingDependencyError

from .output import verb


@verb
def ui(
    port: Annotated[
        int, typer.Option(metavar="N", help="Where to listen; 0 takes a free one.")
    ] = 7860,
    host: Annotated[
        str, typer.Option(help="Address to listen on; one that others can reach demands a token.")
    ] = "127.0.0.1",
    token: Annotated[
        str | None,
        typer.Option(
            envvar="BIOZOO_TOKEN",
            help="The secret word that visitors from other machines must give.",
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
        host=host, port=port, open_browser=browser, token=token, image_folders=tuple(images or ())
    )


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("ui")(ui)
