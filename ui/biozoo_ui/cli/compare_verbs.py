"""The verb that runs several models on one region of an image, side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .options import Json
from .output import emit_json, note, say, verb
from .progress import progress_bar
from .run_verbs import Tile

if TYPE_CHECKING:
    from biozoo_runners import Progress


@verb
def compare(
    image: Annotated[
        str, typer.Argument(metavar="IMAGE", help="One image; a region of it is used.")
    ],
    models: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="MODEL",
            help="Ids, folders, .zip files or https URLs; without any, every model on this machine "
            "that fits the image.",
        ),
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Annotation as large as the image, 0 for background and one number per object (or "
            "a mask). Ranks by AP50; models that give no objects by Dice.",
        ),
    ] = None,
    region: Annotated[
        str | None,
        typer.Option(
            metavar="y=100:612,x=0:512|all",
            help="Which part; default: the 512 x 512 pixels with most to see, of the middle plane.",
        ),
    ] = None,
    scales: Annotated[
        str,
        typer.Option(
            "--scales",
            "--scale",
            metavar="0.5,1,2",
            help="How large the models see the image. Packages carry no pixel size, so the right "
            "scale has to be found.",
        ),
    ] = "0.5,0.71,1,1.41,2",
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="A folder for the contact sheet (compare.png, compare.html) and the table "
            "(compare.csv), or one .png, .html or .csv file. Default: compare-IMAGE/.",
        ),
    ] = None,
    axes: options.Axes = None,
    channel: options.Channel = None,
    device: options.Device = "auto",
    threads: options.Threads = None,
    tile: Tile = None,
    as_json: Json = False,
) -> None:
    """Run several models on one region, and show them side by side.

    Each also sees the region smaller and larger; with --labels they are ranked. Ends with 3 where
    no model fits the image, and says why for each; one that fails does not stop the others.
    """
    from biozoo.errors import UsageError
    from biozoo_runners import compare as compare_models
    from biozoo_runners import find_images
    from biozoo_runners.batch import stem
    from biozoo_runners.comparison import targets
    from biozoo_runners.images.atomic import check_folder

    found = find_images([image])
    if len(found) > 1:
        raise UsageError(
            f"{len(found)} images are given; zoo compare takes one, and models after it."
        )
    source = found[0]
    where = out or f"compare-{stem(source)}"
    inputs = [source, *([Path(labels)] if labels else [])]
    for path in targets(where, inputs).values():  # before the work, not after it
        check_folder(path.parent)
    with progress_bar("comparing") as draw:

        def forward(progress: Progress) -> None:
            if draw is not None:
                draw(progress.stage, progress.done, progress.total)

        def downloading(name: str, done: int, total: int | None) -> None:
            if draw is not None:
                draw(f"downloading {name}", done, total)

        comparison = compare_models(
            source,
            models or None,
            scales=scales.split(","),
            labels=labels,
            region=region,
            axes=axes,
            channel=options.parse_channel(channel),
            tile=options.parse_tile(tile),
            device=device,
            threads=threads,
            on_download=downloading,
            on_progress=forward,
        )
    written = comparison.write(where)
    if as_json:
        emit_json(comparison.to_dict() | {"written": [str(path) for path in written]})
    else:
        say(str(comparison))
        note(f"written: {', '.join(map(str, written))}")
    if all(entry.fault for entry in comparison.entries):
        raise typer.Exit(3)


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("compare")(compare)
