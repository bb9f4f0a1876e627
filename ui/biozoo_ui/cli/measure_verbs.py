"""The verb that measures objects: a label image goes in, a table comes out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .options import Json
from .output import emit_json, note, say, verb


@verb
def measure(
    labels: Annotated[
        str, typer.Argument(metavar="LABELS", help="A label image, such as a run writes.")
    ],
    out: Annotated[
        str, typer.Option("-o", "--out", metavar="FILE.csv", help="The table to write.")
    ],
    image: Annotated[
        str | None,
        typer.Option(metavar="IMAGE", help="The image it was made from, for intensities."),
    ] = None,
    axes: Annotated[
        str | None,
        typer.Option(metavar="AXES", help="The image's axes, where its file does not say them."),
    ] = None,
    scene: options.Scene = None,
    pixel_size: options.PixelSize = None,
    volume: Annotated[
        bool | None,
        typer.Option(
            "--volume/--planes",
            help="Of a stack: whether objects go through the planes, or each plane has numbers of "
            "its own, as a 2D model gives them.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Measure the objects of a label image as CSV, a row each.

    Area or volume, centre, bounding box, perimeter, axes, eccentricity, solidity; with --image the
    mean, least and most of each channel. In pixels, and in micrometres where the pixel size is
    known.
    """
    from biozoo.errors import UsageError
    from biozoo_runners import open_image
    from biozoo_runners.images.atomic import check_folder
    from biozoo_runners.measuring import measure as measured_of
    from biozoo_runners.measuring import write_table

    target = Path(out).expanduser()
    if target.suffix.lower() != ".csv":
        raise UsageError(f"Measurements are written as CSV: {out}. End the name in .csv.")
    check_folder(target.parent)
    size = options.parse_pixel_size(pixel_size)
    found = open_image(labels, pixel_size=size)
    shown = None
    if image is not None:
        shown = open_image(image, axes=axes, scene=scene)
    measured = measured_of(found, shown, volume=volume)
    count = write_table(target, measured)
    if as_json:
        emit_json({"written": target, "objects": count, "columns": measured.columns})
        return
    say(str(target))
    note(f"{count} object{'' if count == 1 else 's'}, {len(measured.columns)} columns.")


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("measure")(measure)
