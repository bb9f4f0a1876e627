"""Verbs about packages: list, search, show, add, remove, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from biozoo.files import size_text

from .options import Json
from .output import emit_json, note, say, shorten, table, verb
from .progress import download_bar

if TYPE_CHECKING:
    from biozoo import ModelPackage

Model = Annotated[
    str,
    typer.Argument(
        metavar="MODEL",
        help="The id of a model here or on bioimage.io, a folder, .zip or https URL.",
    ),
]
Words = Annotated[list[str] | None, typer.Argument(metavar="WORDS", help="All of them must match.")]
Tags = Annotated[
    list[str] | None, typer.Option("--tag", help="Only with this tag; may be repeated.")
]


def _row(package: ModelPackage) -> dict[str, Any]:
    return {
        "id": package.id,
        "version": package.version,
        "name": package.summary.name,
        "weights": list(package.summary.weights),
        "size": package.size,
        "origin": package.origin,
        "trust": package.trust,
    }


@verb
def list_models(as_json: Json = False) -> None:
    """The models on this machine: built-in and installed."""
    import biozoo
    from biozoo.package import installed_packages

    installed, broken = installed_packages(biozoo.Settings.from_env().models)
    rows = [_row(package) for package in (*biozoo.builtin_packages(), *installed)]
    if as_json:
        emit_json(rows)
    else:
        headers = ("ID", "VERSION", "NAME", "WEIGHTS", "SIZE", "ORIGIN", "TRUST")
        cells = [
            (
                row["id"],
                row["version"] or "-",
                shorten(row["name"], 40),
                ",".join(row["weights"]),
                size_text(row["size"]),
                row["origin"],
                row["trust"],
            )
            for row in rows
        ]
        say(table(headers, cells))
    for folder, why in broken.items():
        note(f"zoo: {folder} cannot be read: {why}")


@verb
def search(
    words: Words = None,
    tags: Tags = None,
    axes: Annotated[
        str | None,
        typer.Option(
            metavar="yx|zyx", help="Only models for images with these axes: yx is 2D, zyx 3D."
        ),
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Only with these weights, e.g. onnx.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="For example segmentation, restoration.")
    ] = None,
    refresh: Annotated[
        bool, typer.Option("--refresh", help="Ask the collection anew for its index.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Find models here and in the bioimage.io collection."""
    import biozoo

    with download_bar("reading the collection") as progress:
        found = biozoo.search(
            " ".join(words or ()),
            tags=tuple(tags or ()),
            axes=axes,
            weights=weights,
            task=task,
            refresh=refresh,
            progress=progress,
        )
    if as_json:
        emit_json({"models": [f.to_dict() for f in found], "note": found.note})
    elif found:
        headers = ("ID", "NAME", "TASK", "WEIGHTS", "WHERE")
        cells = [
            (
                f.summary.id,
                shorten(f.summary.name or f.note, 48),
                f.summary.task or "-",
                ",".join(f.summary.weights) or "-",
                f.origin,
            )
            for f in found
        ]
        say(table(headers, cells))
    if found.note and not as_json:
        note(f"zoo: {found.note}")
    if not found:
        note("zoo: no model matches. Use fewer words; zoo list shows what is on this machine.")
        raise typer.Exit(1)


@verb
def show(model: Model, as_json: Json = False) -> None:
    """What a model is for, takes and gives, and how good it is."""
    import biozoo
    from biozoo.consent import typed
    from biozoo_converters.proof.certificate import summary_lines
    from biozoo_model_cards import ModelCard

    with download_bar("downloading") as progress:
        package = biozoo.open(model, progress=progress)
    if as_json:
        import dataclasses

        emit_json({**_row(package), "card": dataclasses.asdict(ModelCard.of(package))})
    else:
        say(ModelCard.of(package).to_text().rstrip())
        if certificate := summary_lines(package.raw):
            say("\nCertificate")
            for line in certificate:
                say(f"  {line}")
            say(f"  Repeat it: zoo certify {typed(package)}")


@verb
def add(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Folder, .zip, https URL or bioimage.io id.")
    ],
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Replace an installed model of the same id and version."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Install a model, verified and whole or not at all.

    The sha256 of every file is compared with the description, and the description is validated.
    """
    import biozoo

    with download_bar("adding") as progress:
        package = biozoo.Zoo().add(source, replace=replace, progress=progress)
    _prepare(package)
    if as_json:
        emit_json(_row(package))
    else:
        say(f"{package} is in the zoo ({size_text(package.size)}, {package.trust}).")
        for mended in package.mended:
            note(f"Its description was mended: {mended}")
        say(f"Next: zoo check {package.id} IMAGE")


def _prepare(package: ModelPackage) -> None:
    """Keep what a run needs of the description: spec is loaded now, the first run need not."""
    from contextlib import suppress

    from biozoo.errors import BiozooError
    from biozoo_runners.program import program_of

    with suppress(BiozooError):  # a model that cannot run here can still be kept
        program_of(package)


@verb
def remove(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Id, or id@version for one version of it.")
    ],
    as_json: Json = False,
) -> None:
    """Remove an installed model: all its versions, or one."""
    import biozoo

    removed = biozoo.Zoo().remove(model)
    if as_json:
        emit_json([{"id": package.id, "version": package.version} for package in removed])
    elif removed:
        say("\n".join(f"{package} is removed." for package in removed))
    else:
        say(f"What was left of {model} is removed.")


@verb
def verify(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Without it, every model here.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Look whether any file of a model has changed.

    The sha256 of every file is taken again. Ends with 1 where one changed.
    """
    import biozoo

    report = biozoo.Zoo().verify(model)
    if as_json:
        emit_json(report.to_dict())
    else:
        say(str(report))
    if not report.ok:
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's verbs to the program."""
    app.command("list")(list_models)
    app.command("search")(search)
    app.command("show")(show)
    app.command("add")(add)
    app.command("remove")(remove)
    app.command("verify")(verify)
