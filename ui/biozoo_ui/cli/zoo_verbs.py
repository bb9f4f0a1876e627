"""Verbs about packages: list, search, show, add, remove, verify."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from .options import Json
from .output import emit_json, note, say, shorten, size_text, table, verb

if TYPE_CHECKING:
    from biozoo import ModelPackage

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="Id, folder, .zip, https URL or bioimage.io id.")
]


def _facts(package: ModelPackage) -> dict[str, object]:
    summary = package.summary
    return {
        "id": package.id,
        "version": package.version,
        "name": summary.name,
        "weights": list(summary.weights),
        "size": package.size,
        "origin": package.origin,
        "trust": package.trust,
    }


@verb
def list_models(as_json: Json = False) -> None:
    """The models on this machine: built-in and installed."""
    import biozoo

    rows = [_facts(package) for package in biozoo.list_packages()]
    if as_json:
        emit_json(rows)
        return
    say(
        table(
            ("ID", "VERSION", "NAME", "WEIGHTS", "SIZE", "ORIGIN", "TRUST"),
            [
                (
                    str(r["id"]),
                    str(r["version"] or "-"),
                    shorten(str(r["name"]), 40),
                    ",".join(r["weights"]),  # type: ignore[arg-type]
                    size_text(r["size"]),  # type: ignore[arg-type]
                    str(r["origin"]),
                    str(r["trust"]),
                )
                for r in rows
            ],
        )
    )


@verb
def search(
    words: Annotated[
        list[str] | None, typer.Argument(metavar="WORDS", help="All of them must match.")
    ] = None,
    tag: Annotated[
        list[str] | None, typer.Option(help="Only models with this tag; may be repeated.")
    ] = None,
    axes: Annotated[
        str | None, typer.Option(metavar="yx|zyx", help="Only models of these space axes.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(metavar="FORMAT", help="Only models with these weights.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="For example segmentation, restoration.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Models by words, tags, axes, weights and task: built-in, installed and in the collection."""
    import biozoo

    found = biozoo.search(
        " ".join(words or ()), tags=tuple(tag or ()), axes=axes, weights=weights, task=task
    )
    if as_json:
        emit_json([f.to_dict() for f in found])
    elif found:
        say(
            table(
                ("ID", "NAME", "TASK", "AXES", "WEIGHTS", "WHERE"),
                [
                    (
                        f.summary.id,
                        shorten(f.summary.name, 44),
                        f.summary.task,
                        f.summary.space,
                        ",".join(f.summary.weights),
                        f.origin,
                    )
                    for f in found
                ],
            )
        )
    else:
        note("No model matches. Try fewer words; `zoo list` shows what is on this machine.")
        raise typer.Exit(1)


def register(app: typer.Typer) -> None:
    """Add this module's verbs to the program, in the order of the workflow."""
    app.command("list")(list_models)
    app.command("search")(search)
