"""The verb that adds weights of another format or precision to a package, with proof."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .options import Json
from .output import emit_json, note, say, verb
from .progress import download_bar, progress_bar
from .zoo_verbs import Model


@verb
def convert(
    model: Model,
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="What to make: onnx or torchscript weights, or a float16 or int8 variant of the "
            "ONNX weights.",
        ),
    ],
    source: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FORMAT", help="Which of its weights to convert; default the best."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="The new package: a .zip or a folder. Default ID-FORMAT.zip here.",
        ),
    ] = None,
    timing: Annotated[
        bool,
        typer.Option(
            "--timing/--no-timing",
            help="Whether the certificate says how fast each format is on this machine.",
        ),
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; convert nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Add a weights format to a copy of a model, with proof.

    The new weights are compared with the original's at several sizes, on real and random input;
    what does not agree is not kept. A variant (float16, int8) is kept only where it is also faster
    here. Ends with 1 where nothing was added.
    """
    import biozoo
    from biozoo_converters.conversion import convert as converting
    from biozoo_converters.conversion import precision

    with download_bar("downloading") as progress:
        package = biozoo.open(model, progress=progress)
    if to in precision.PRECISIONS:
        planned = precision.plan(package, to, source=source, out=out)
    else:
        planned = converting.plan(package, to, source=source, out=out)
    for text in planned.notes:
        note(f"zoo: {text}")
    if dry_run:
        if as_json:
            emit_json(planned.to_dict())
        else:
            say(str(planned))
        return
    with progress_bar(f"converting to {to}") as update:
        done: converting.Conversion | precision.Variant
        if to in precision.PRECISIONS:
            done = precision.add_variant(package, to, out=out, progress=update)
        else:
            done = converting.convert(
                package, to, source=source, out=out, timing=timing, progress=update
            )
    if as_json:
        emit_json(done.to_dict())
    else:
        say(str(done))
    if isinstance(done, precision.Variant) and not done.kept:
        note("zoo: nothing was written.")
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("convert")(convert)
