"""The program `zoo`: one Typer application; each verb imports what it needs when it runs."""

from __future__ import annotations

from typing import Annotated

import typer

from . import (
    card_verbs,
    certify_verbs,
    compare_verbs,
    convert_verbs,
    measure_verbs,
    pack_verbs,
    page_verbs,
    run_verbs,
    train_verbs,
    trust_verbs,
    user_verbs,
    zoo_verbs,
)

app = typer.Typer(
    name="zoo",
    help="Browse, check, run and test deep-learning models for microscopy images, "
    "on this machine only.\n\n"
    "A first run:  zoo sample nuclei -o cells.ome.tif  &&  "
    "zoo run nuclei-fluo cells.ome.tif -o out/",
    epilog="Exit codes: 0 done, 1 the answer is no, 2 wrong use, 3 cannot run here, 130 stopped.",
    no_args_is_help=True,
    # Plain text: Rich's boxes cost a third of the time that `zoo --help` takes.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"biozoo {version('biozoo')}")
        raise typer.Exit


@app.callback()
def zoo(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print biozoo's version."
        ),
    ] = False,
) -> None:
    """Options of the program itself."""


zoo_verbs.register(app)
trust_verbs.register(app)
run_verbs.register(app)
measure_verbs.register(app)
compare_verbs.register(app)
card_verbs.register(app)
pack_verbs.register(app)
convert_verbs.register(app)
certify_verbs.register(app)
train_verbs.register(app)
page_verbs.register(app)
user_verbs.register(app)
