"""The verb that writes a model's card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from biozoo.errors import InvalidPackageError, UsageError
from biozoo.files import size_text

from .options import Json
from .output import emit_json, note, say, verb
from .progress import download_bar
from .zoo_verbs import Model

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_model_cards import Sheet

KINDS = {".html": "html", ".htm": "html", ".md": "markdown", ".json": "json", ".txt": "text"}
README, IMAGES = "README.md", "images"


@verb
def card(
    model: Model,
    out: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--out",
            metavar="FILE",
            help="card.html, card.md (Hugging Face), card.json or card.txt; a folder (name/) gets "
            "README.md and its pictures. Without it the card is printed.",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what is there under the name of FILE.")
    ] = False,
    check: Annotated[
        bool,
        typer.Option("--check/--no-check", help="Say whether the model runs on this machine."),
    ] = True,
    description_only: Annotated[
        bool,
        typer.Option(
            "--description-only",
            help="Of a model that is not here, fetch its description alone: no pictures then.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """The card of a model: a page, Markdown or JSON to keep and send.

    What it is for, takes and gives, how good it is, and what the card lacks. The page needs no
    other file, the Markdown is Hugging Face's. Nothing is run for it.
    """
    from biozoo_model_cards import Sheet

    targets = _targets(out, model, force=force) if out is not None else {}
    package = _open(model, description_only=description_only)
    drawn = any(kind in ("html", "folder", "json") for kind in targets.values()) or as_json
    sheet = Sheet.of(package, check=check, pictures=drawn)
    if not targets:
        if as_json:
            emit_json(sheet.to_json())
        else:
            say(sheet.to_text().rstrip())
        return
    written = [file for path, kind in targets.items() for file in _write(sheet, path, kind)]
    score = sheet.completeness.score
    if as_json:
        emit_json({"written": written, "completeness": score})
    else:
        for path in written:
            say(f"{path} ({size_text(path.stat().st_size)})")
        todo = "" if score == 100 else "; zoo card without -o says what is missing"
        note(f"The card is complete to {score} of 100{todo}.")


def _targets(out: str, model: str, *, force: bool) -> dict[Path, str]:
    """The file to write, or the folder, and what kind of card goes there.

    Raises
    ------
    UsageError
        For a kind of file that is no card, one that is there already, or the model itself.
    """
    path = Path(out).expanduser()
    if path.is_dir() or out.endswith(("/", "\\")):
        target, kind = path / README, "folder"
    elif path.suffix.lower() in KINDS:
        target, kind = path, KINDS[path.suffix.lower()]
    else:
        raise UsageError(
            f"A card is not written as {out}. Name a file that ends in .html, .md, .json or .txt, "
            "or a folder (with / at its end)."
        )
    source = Path(model).expanduser()
    inside = source.is_dir() and target.absolute().is_relative_to(source.absolute())
    if source.exists() and (inside or target.absolute() == source.absolute()):
        raise UsageError(f"{target} is a part of the model itself. Choose another place.")
    if target.exists() and not force:
        raise UsageError(f"{target} is there already. Choose another name, or say --force.")
    return {target: kind}


def _open(model: str, *, description_only: bool) -> ModelPackage:
    """The package, or what can be had of it: a description alone has a card too."""
    import biozoo
    from biozoo.peek import peek

    path = Path(model).expanduser()
    bare = path.is_file() and path.suffix.lower() in (".yaml", ".yml")
    try:
        with download_bar("downloading") as progress:
            opened = peek if description_only else biozoo.open
            return opened(model, progress=progress)
    except InvalidPackageError as exc:
        if not (bare and exc.fields):
            raise
        package = biozoo.ModelPackage.from_folder(path.absolute().parent, source=model, rdf=path)
        several = f"{len(exc.fields)} files that {path.name} names are"
        one = f"A file that {path.name} names is"
        note(
            f"zoo: {one if len(exc.fields) == 1 else several} not here or cannot be used; the card "
            "is made of what there is."
        )
        return package


def _write(sheet: Sheet, path: Path, kind: str) -> list[Path]:
    """Write one card, whole or not at all."""
    import json

    from biozoo.files import write_atomic, writing

    if kind == "folder":
        images = sheet.image_files()
        files = {path.parent / IMAGES / name: content for name, content in images.items()}
        files[path] = sheet.to_markdown(images=IMAGES).encode()
    elif kind == "json":
        text = json.dumps(sheet.to_json(), indent=2, ensure_ascii=False)
        files = {path: f"{text}\n".encode()}
    else:
        make = {"html": sheet.to_html, "markdown": sheet.to_markdown, "text": sheet.to_text}[kind]
        files = {path: make().encode()}
    with writing(path):
        for file, content in files.items():
            write_atomic(file, content)
    return [path, *(f for f in files if f != path)]


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("card")(card)
