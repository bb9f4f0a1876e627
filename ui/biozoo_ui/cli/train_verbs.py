"""The verb that trains a model on with a person's own labelled images."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .options import Json
from .output import emit_json, note, say, verb
from .progress import download_bar, progress_bar
from .train_stopping import Watch, folder_beside, stoppable, tell_kept
from .zoo_verbs import Model

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_trainers import CurveReport, Recipe, RetrainReport
    from biozoo_trainers.curves import CurveRow

Images = Annotated[
    Path | None,
    typer.Argument(
        metavar="IMAGES", help="Folder of your images, of any format that zoo run reads."
    ),
]
Labels = Annotated[
    Path | None,
    typer.Argument(
        metavar="LABELS",
        help="Folder of their labels, files of the same names: numbered objects, classes or clean "
        "images, as the model needs. Leave it out for a model that learns from images alone.",
    ),
]
Out = Annotated[
    Path | None,
    typer.Option(
        "-o",
        "--out",
        metavar="OUT.zip|FOLDER",
        help="Where the new model goes, if it is better than MODEL.",
    ),
]


@verb
def train(
    model: Model,
    images: Images = None,
    labels: Labels = None,
    out: Out = None,
    channel: options.Channel = None,
    axes: options.Axes = None,
    show_recipe: Annotated[
        bool,
        typer.Option(
            "--recipe", help="Print how MODEL would be trained, and why so, as YAML; train nothing."
        ),
    ] = False,
    recipe_file: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Train by this recipe (what --recipe printed, changed)."),
    ] = None,
    scribbles: Annotated[
        bool,
        typer.Option(
            "--scribbles",
            help="The labels are painted in part: 0 unpainted, 1 background, 2 object.",
        ),
    ] = False,
    split_masks: Annotated[
        bool,
        typer.Option(
            "--split-masks", help="Labels that only say where objects are: number their parts."
        ),
    ] = False,
    held_out: Annotated[
        float,
        typer.Option(
            min=0.01, max=0.9, metavar="0.2", help="Part of the images kept for measuring."
        ),
    ] = 0.2,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Training steps (default: the recipe's).")
    ] = None,
    batch: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Pieces of images per step.")
    ] = None,
    patch: Annotated[
        str | None,
        typer.Option(metavar="y=192,x=192", help="Size of such a piece in pixels."),
    ] = None,
    learning_rate: Annotated[
        float | None,
        typer.Option(min=1e-9, max=1.0, metavar="RATE", help="Highest learning rate."),
    ] = None,
    seed: Annotated[
        int, typer.Option(min=0, metavar="N", help="The same seed gives the same model on a CPU.")
    ] = 0,
    device: options.Device = "auto",
    devices: Annotated[int, typer.Option(min=1, metavar="N", help="How many cards.")] = 1,
    precision: Annotated[
        str,
        typer.Option(metavar="32-true|bf16-mixed|16-mixed", help="Numbers that are computed with."),
    ] = "32-true",
    threads: options.Threads = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Images that MODEL does well on, without labels: its own results on them are "
            "learned too, so that less is forgotten.",
        ),
    ] = None,
    interpolate: Annotated[
        str,
        typer.Option(
            metavar="auto|0..1",
            help="Part of the new weights in the result, the rest being MODEL's; auto mixes only "
            "where too much would be forgotten.",
        ),
    ] = "auto",
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="5,10,20",
            help="Train with so many images each, print the table, and say how much more labels "
            "would help.",
        ),
    ] = None,
    hook: Annotated[
        list[str] | None,
        typer.Option(
            "--hook", metavar="NAME", help="An installed plug-in to tell of the training."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What the new model is called.")
    ] = None,
    id: Annotated[str | None, typer.Option(metavar="ID", help="Its id; default MODEL-OUT.")] = None,
    author: Annotated[
        str | None, typer.Option(metavar="NAME", help="Added to MODEL's authors.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where a stopped training of the same OUT was.")
    ] = False,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Replace OUT even if it is no package; an earlier package always is."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Train a model further on your own images; keep it if it is better.

    A part of the images is never trained on: MODEL and the new one are both measured on it, and
    only a better one is written. Files are paired by name. Ctrl-C stops after the step at work;
    --resume goes on from there. Ends with 1 where the new model is refused.

    For example: zoo train nuclei-fluo images/ labels/ --channel gray -o mine.zip
    """
    import biozoo
    from biozoo.errors import BiozooError, Cancelled, UsageError
    from biozoo_trainers import Control, Naming, TrainOptions, retrain
    from biozoo_trainers import curve as curve_of

    with download_bar("downloading") as progress:
        package = biozoo.open(model, progress=progress)
    if show_recipe:
        _print_recipe(package, as_json=as_json)
        return
    if images is None:
        raise UsageError(
            "The folder of images is missing: zoo train MODEL IMAGES LABELS -o OUT.zip. To see how "
            f"this model would be trained: zoo train {model} --recipe"
        )
    sizes = None if curve is None else _numbers(curve)
    if out is None and sizes is None:
        raise UsageError("Where the new model goes is not said. Add -o OUT.zip.")
    if sizes is not None and replay is not None:
        raise UsageError("--replay and --curve do not go together. Leave one out.")
    folder = None if out is None else folder_beside(out)
    if resume and (folder is None or not folder.is_dir()):
        raise UsageError(
            f"There is no stopped training to go on with{f' in {folder}' if folder else ''}. Leave "
            "--resume out."
        )
    if folder is not None and folder.is_dir() and not resume:
        note(f"zoo: {folder} holds a stopped training. This one begins anew; --resume goes on.")
    recipe = None if recipe_file is None else _recipe_in(recipe_file)
    if recipe is None:
        _tell_recipe(package, model)
    control, watch = Control(), Watch(several=devices > 1)
    wishes: dict[str, Any] = {
        "output": out,
        "recipe": recipe,
        "options": TrainOptions(
            steps=steps,
            batch=batch,
            patch=_patch(patch),
            learning_rate=learning_rate,
            seed=seed,
            device=device,
            devices=devices,
            precision=_precision(precision),
            threads=threads,
        ),
        "hooks": [*(hook or []), watch],
        "channel": options.parse_channel(channel),
        "axes": axes,
        "scribbles": scribbles,
        "split_masks": split_masks,
        "interpolate": interpolate,
        "folder": folder,
        "resume": resume,
        "control": control,
        "overwrite": force,
        "naming": Naming(name=name or "", id=id or "", author=author or ""),
    }
    done: CurveReport | RetrainReport
    try:
        with stoppable(control, watch), progress_bar("training") as draw:
            if sizes is not None:
                done = curve_of(
                    package,
                    images,
                    labels,
                    sizes=sizes,
                    progress=draw,
                    on_row=_tell_row,
                    **wishes,
                )
            else:
                done = retrain(
                    package,
                    images,
                    labels,
                    held_out=held_out,
                    replay=replay,
                    progress=draw,
                    **wishes,
                )
    except (Cancelled, KeyboardInterrupt):
        note("zoo: the training was stopped; no model was written.")
        tell_kept(folder)
        raise typer.Exit(130) from None
    except BiozooError:
        if watch.kept:  # learned by this command, before what is now reported
            tell_kept(folder)
        raise
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        emit_json(done.to_dict())
    else:
        say(str(done))
        for text in done.notes:
            note(f"zoo: {text}")
    if done.exit_code:
        raise typer.Exit(done.exit_code)


def _patch(text: str | None) -> dict[str, int] | None:
    from biozoo.errors import UsageError

    try:
        return options.parse_tile(text)
    except UsageError:
        raise UsageError(f"--patch {text}: write for example --patch y=192,x=192.") from None


def _tell_row(row: CurveRow) -> None:
    """A row of the curve as soon as it is there: all of them take long."""
    size = f"{row.size} images" if row.size else "before"
    note(f"zoo: {size}: {row.measured.metric} {row.measured.mean:.3f}")


def _numbers(text: str) -> list[int]:
    """`5,10,20` as numbers."""
    from biozoo.errors import UsageError

    parts = [p.strip() for p in text.split(",")]
    if not all(p.isdigit() and int(p) > 0 for p in parts):
        raise UsageError(f"--curve {text}: numbers of images are expected, as --curve 5,10,20.")
    return [int(p) for p in parts]


def _precision(text: str) -> Any:
    from biozoo.errors import UsageError

    known = ("32-true", "bf16-mixed", "16-mixed")
    if text not in known:
        raise UsageError(f"--precision {text} is not known. Choose {', '.join(known)}.")
    return text


def _recipe_in(path: Path) -> Recipe:
    """A recipe of a YAML or JSON file."""
    import yaml
    from pydantic import ValidationError

    from biozoo.errors import IncompleteError, MissingFileError, UsageError
    from biozoo_trainers import Recipe

    if not path.is_file():
        raise MissingFileError(what="The recipe", path=path)
    try:
        return Recipe.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise UsageError(
            f"The recipe {path} is no YAML: {' '.join(str(exc).split())}. zoo train MODEL --recipe "
            "prints one."
        ) from exc
    except ValidationError as exc:
        faults = {".".join(map(str, e["loc"])) or "the file": e["msg"] for e in exc.errors()}
        raise IncompleteError(
            what=f"The recipe {path} cannot be used:",
            faults=faults,
            hint="zoo train MODEL --recipe prints one that can.",
        ) from exc


def _print_recipe(package: ModelPackage, *, as_json: bool) -> None:
    """How a package would be trained; what was guessed stands above it."""
    from biozoo_trainers import recipe_of

    found = recipe_of(package)
    recipe = found.recipe.model_dump(mode="json", exclude_none=True)
    if as_json:
        emit_json({"recipe": recipe, "reasons": found.reasons, "declared": found.declared})
    else:
        import yaml

        for reason in found.reasons:
            say(f"# {reason}")
        say(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True, width=96).rstrip())
    if found.recipe.trainable == "no":
        raise typer.Exit(1)


def _tell_recipe(package: ModelPackage, model: str) -> None:
    """Before long work: what was guessed of how to train."""
    from biozoo_trainers import recipe_of

    found = recipe_of(package)
    if found.declared or found.recipe.trainable == "no":
        return
    note(f"zoo: {package.id} does not say how it is trained; from its description:")
    for reason in found.reasons:
        note(f"  {reason}")
    note(
        f"If that is wrong: zoo train {model} --recipe > recipe.yaml, change it, and add "
        "--recipe-file recipe.yaml."
    )


def register(app: typer.Typer) -> None:
    """Add this module's verb to the program."""
    app.command("train")(train)
