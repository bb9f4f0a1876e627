"""The verb that repeats a model's certificate on this machine."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import options
from .options import Json
from .output import emit_json, note, say, table, verb
from .progress import download_bar, progress_bar
from .zoo_verbs import Model

if TYPE_CHECKING:
    from biozoo_converters.networks.network import Network


@verb
def certify(
    model: Model,
    against: Annotated[
        str | None,
        typer.Option(
            metavar="NETWORK",
            help="The original network to compare with: net.py:Net, package.module:Net, a "
            "TorchScript or an ONNX file. Its Python code runs. Without it, the values that the "
            "certificate holds of it are used.",
        ),
    ] = None,
    kwargs: Annotated[
        list[str] | None,
        typer.Option(
            "--kwargs",
            metavar="NAME=VALUE",
            help="An argument of that network's class, as for zoo pack; may be repeated.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="That network's weights (.pt, .pth, .safetensors)."),
    ] = None,
    device: options.Device = "cpu",
    backend: options.Backend = None,
    no_timing: Annotated[
        bool, typer.Option("--no-timing", help="Measure no seconds per megapixel.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Does a model compute what its author's network computed?

    It makes the inputs of the model's certificate again, runs every weights format, and compares
    with the original's values, the formats with one another, batches with single images, tiles with
    the whole, and the test tensors. A model without a certificate is compared with itself only.
    Ends with 1 where something does not hold, with 3 where nothing of it runs here.
    """
    import biozoo
    from biozoo.errors import UsageError
    from biozoo_converters.proof.certify import certify as repeat

    if against is None and (kwargs or weights):
        raise UsageError("--kwargs and --weights are of the network that --against names. Name it.")
    with download_bar("downloading") as progress:
        package = biozoo.open(model, progress=progress)
    with contextlib.ExitStack() as stack:
        network = None
        if against is not None:
            network = stack.enter_context(_network(against, kwargs or [], weights))
        update = stack.enter_context(progress_bar("certifying"))
        report = repeat(
            package,
            device=device,
            backend=backend,
            against=network,
            timing=not no_timing,
            progress=update,
        )
    if as_json:
        emit_json(report.to_dict())
    else:
        say(report.headline)
        if report.compared_with:
            say(f"compared with {report.compared_with}")
        headers, cells = report.rows()
        if cells:
            say(table(headers, cells))
        for line in report.lines():
            say(line)
        for line in report.notes:
            note(f"zoo: {line}")
    if not report.ok:
        raise typer.Exit(report.exit_code)


def _network(source: str, kwargs: list[str], weights: str | None) -> Network:
    from biozoo_converters.networks.torch_source import open_network
    from biozoo_converters.packing.pack_options import parse_kwargs

    return open_network(
        source,
        callable_kwargs=parse_kwargs(kwargs),
        weights=None if weights is None else Path(weights),
    )


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("certify")(certify)
