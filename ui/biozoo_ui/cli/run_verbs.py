"""Verbs that touch images: check, run, test, sample, ui."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from . import options
from .options import Json
from .output import emit_json, note, say, verb
from .progress import progress_bar
from .zoo_verbs import Model

Out = Annotated[
    Path,
    typer.Option(
        "-o",
        "--out",
        metavar="OUT",
        help="A file (.ome.tif, .ome.zarr, .npy) for the main result, or a folder for all of them.",
    ),
]


@verb
def check(
    model: Model,
    image: Annotated[str | None, typer.Argument(metavar="IMAGE")] = None,
    axes: options.Axes = None,
    channel: options.Channel = None,
    device: options.Device = "auto",
    weights: options.Weights = None,
    as_json: Json = False,
) -> None:
    """Will the model run here, does it fit the image, and if not why and what to do.

    Ends with 1 where the answer is no.
    """
    import biozoo
    import biozoo_runners

    report = biozoo_runners.check(
        biozoo.open(model),
        image,
        axes=axes,
        channel=options.parse_channel(channel),
        device=device,
        weights=weights,
    )
    if as_json:
        emit_json(report.to_dict())
    else:
        say(str(report))
    if not report.ok:
        raise typer.Exit(1)


@verb
def sample(
    name: Annotated[str, typer.Argument(metavar="NAME", help="nuclei")] = "nuclei",
    out: Out = Path("cells.ome.tif"),
    size: Annotated[int, typer.Option(min=64, metavar="PIXELS", help="Height and width.")] = 512,
    seed: Annotated[int, typer.Option(help="The same seed gives the same image.")] = 0,
    labels: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the true labels too.")
    ] = None,
) -> None:
    """Write a simulated image with known truth, to try a model on."""
    from biozoo.samples import simulate
    from biozoo_runners import write_image

    simulated = simulate(name, (size, size), seed=seed)
    image, truth = simulated.to_xarray()
    say(f"{write_image(out, image)}")
    if labels is not None:
        say(f"{write_image(labels, truth)}")
    note(f"{simulated.labels.max()} simulated {name}, {size} x {size} pixels, seed {seed}.")


def register(app: typer.Typer) -> None:
    """Add this module's verbs to the program, in the order of the workflow."""
    app.command("check")(check)
    app.command("sample")(sample)
