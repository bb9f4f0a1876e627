"""Verbs that touch images: check, run, test, sample."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import options
from .options import Json
from .output import emit_json, note, say, verb
from .progress import download_bar, progress_bar
from .zoo_verbs import Model

if TYPE_CHECKING:
    from biozoo import ModelPackage
    from biozoo_converters.seams.report import SeamReport
    from biozoo_runners import CheckReport, Progress, Runner
    from biozoo_runners.batch import Large

Out = Annotated[
    str,
    typer.Option(
        "-o",
        "--out",
        metavar="OUT",
        help="A folder for all results, or a file (.ome.tif, .ome.zarr, .npy, .png) for the main "
        "one. Earlier results of the same name are replaced.",
    ),
]
Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGE",
        help="Files, folders or patterns; for a model with several inputs, INPUT=FILE for each.",
    ),
]
Tile = Annotated[
    str | None,
    typer.Option(metavar="y=512,x=512", help="Size of a tile in pixels, halo included."),
]


def _open(model: str) -> ModelPackage:
    import biozoo

    with download_bar("downloading") as progress:
        return biozoo.open(model, progress=progress)


def _inputs(
    package: ModelPackage, images: Sequence[str], command: str
) -> list[Path] | dict[str, Path]:
    """Paths of images to run one by one, or a path per input tensor of a model with several.

    `command` is what was typed before the images, for the advice.
    """
    from biozoo.errors import UsageError
    from biozoo_runners import find_images

    ids = [tensor.id for tensor in package.summary.inputs]
    named = {}
    for text in images:
        tensor, equals, path = text.partition("=")
        if equals and tensor in ids and not Path(text).exists():
            named[tensor] = Path(path)
    if not named and len(ids) == 1:
        return find_images(images)
    if len(named) < len(images):
        wanted = " ".join(f"{i}=FILE" for i in ids)
        several = "one input" if len(ids) == 1 else f"{len(ids)} inputs"
        raise UsageError(
            f"Model '{package.id}' has {several} ({', '.join(ids)}). "
            f"Name one file for each: {command} {wanted}"
        )
    return named


@verb
def check(
    model: Model,
    images: Annotated[
        list[str] | None,
        typer.Argument(metavar="IMAGE", help="One image; without it only the machine is checked."),
    ] = None,
    axes: options.Axes = None,
    channel: options.Channel = None,
    tile: Tile = None,
    device: options.Device = "auto",
    weights: options.Weights = None,
    backend: options.Backend = None,
    seams: Annotated[
        bool,
        typer.Option(
            "--seams",
            help="Run a part of the image whole and in tiles instead, and say where they differ "
            "and why. Measures once how far the model looks, and remembers it.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Will a model run here and fit an image; if not, why?

    Nothing is run (but with --seams), and of a model that is not here its description alone is
    fetched. Each "no" says what to do. Ends with 1 where the answer is no.
    """
    from biozoo.errors import UsageError
    from biozoo.peek import peek
    from biozoo_runners import check as check_model

    if seams:
        package = _open(model)
    else:
        with download_bar("downloading") as progress:
            package = peek(model, progress=progress)
    image: Path | dict[str, Path] | None = None
    if images:
        found = _inputs(package, images, f"zoo check {model}")
        if not isinstance(found, dict) and len(found) > 1:
            raise UsageError(f"{len(found)} images are given; zoo check takes one at a time.")
        image = found if isinstance(found, dict) else found[0]
    wishes: dict[str, Any] = {
        "axes": axes,
        "channel": options.parse_channel(channel),
        "tile": options.parse_tile(tile),
        "device": device,
        "weights": weights,
        "backend": backend,
    }
    report: CheckReport | SeamReport
    if not seams:
        report = check_model(package, image, **wishes)
    elif image is None:
        raise UsageError(
            f"--seams runs a part of an image, and none is given: zoo check --seams {model} IMAGE"
        )
    else:
        from biozoo_converters.seams.checking import check_seams

        with progress_bar("checking seams") as update:
            report = check_seams(package, image, progress=update, **wishes)
    if as_json:
        emit_json(report.to_dict())
    else:
        say(str(report))
    if not report.ok:
        raise typer.Exit(1)


Scale = Annotated[
    str | None,
    typer.Option(
        metavar="0.5|y=0.5,x=0.5|auto",
        help="Show the image to the model smaller (below 1) or larger (above 1); auto: as large as "
        "it was made for, where both pixel sizes are known. Results have the image's own size.",
    ),
]


@verb
def run(
    model: Model,
    images: Images,
    out: Out,
    axes: options.Axes = None,
    scene: options.Scene = None,
    pixel_size: options.PixelSize = None,
    channel: options.Channel = None,
    device: options.Device = "auto",
    weights: options.Weights = None,
    backend: options.Backend = None,
    threads: options.Threads = None,
    precision: options.Precision = "float32",
    tolerance: options.Tolerance = None,
    tile: Tile = None,
    scale: Scale = None,
    min_size: Annotated[
        int | None,
        typer.Option(min=0, metavar="PIXELS", help="Leave out objects smaller than this."),
    ] = None,
    fill_holes: Annotated[
        bool | None,
        typer.Option("--fill-holes/--keep-holes", help="What becomes of holes inside objects."),
    ] = None,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="ome.tif|ome.zarr",
            help="Of the results in a folder. OME-Zarr takes images of any size: memory does not "
            "grow with them.",
        ),
    ] = "ome.tif",
    memory: Annotated[
        str | None,
        typer.Option(
            metavar="1GiB",
            help="For results in OME-Zarr: memory that the run keeps to (default: a quarter of "
            "what is free).",
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="For results in OME-Zarr: go on with a run that was stopped or killed. The result "
            "is the same to the byte.",
        ),
    ] = False,
    dask: Annotated[
        str | None,
        typer.Option(
            metavar="local:4|tcp://HOST:8786|FILE.yaml",
            help="For results in OME-Zarr: run on so many processes, a running dask cluster, or a "
            "batch system (docs/cluster.md).",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print how the images would be tiled; run nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Run a model on images, and report what really ran."""
    from biozoo.errors import UsageError
    from biozoo_runners import load, run_batch

    if form not in ("ome.tif", "ome.zarr"):
        raise UsageError(f"--format {form}: results are written as ome.tif or ome.zarr.")

    told: dict[str, Any] = {
        "axes": axes,
        "scene": scene,
        "pixel_size": options.parse_pixel_size(pixel_size),
    }
    wishes: dict[str, Any] = {
        "channel": options.parse_channel(channel),
        "tile": options.parse_tile(tile),
        "scale": scale,
    }
    package = _open(model)
    found = _inputs(package, images, f"zoo run {model} -o {out}")
    with load(
        package,
        device=device,
        weights=weights,
        threads=threads,
        backend=backend,
        precision=precision,
        tolerance=tolerance,
    ) as runner:
        gc.freeze()  # what is loaded by now stays: later collections need not walk over it
        if dry_run:
            _print_plans(runner, found, told, wishes, as_json=as_json)
            return
        with (
            progress_bar(package.id) as draw,
            _large(memory, dask, runner, resume=resume) as large,
        ):

            def forward(progress: Progress) -> None:
                if draw is not None:
                    draw(progress.stage, progress.done, progress.total)

            batch = run_batch(
                runner,
                [found] if isinstance(found, dict) else found,
                out,
                min_size=min_size,
                fill_holes=fill_holes,
                large=large,
                suffix=f".{form}",
                on_progress=forward,
                **told,
                **wishes,
            )
    if as_json:
        emit_json(batch.to_dict())
    else:
        say(str(batch))
    if batch.failed:
        raise typer.Exit(batch.exit_code)


@contextlib.contextmanager
def _large(
    memory: str | None, dask: str | None, runner: Runner, *, resume: bool
) -> Iterator[Large | None]:
    """How runs out of core are done; None where nothing is asked of them."""
    from biozoo_runners.batch import Large

    amount = None
    if memory is not None:
        from biozoo_runners.out_of_core.budget import read_memory

        amount = read_memory(memory)
    if dask is not None:
        from biozoo_runners.out_of_core.cluster import DaskExecutor

        cuda = runner.info.device.startswith("cuda")
        with DaskExecutor.connect(dask, cuda=cuda) as executor:
            yield Large(amount, resume=resume, executor=executor)
    elif amount is not None or resume:
        yield Large(amount, resume=resume)
    else:
        yield None


def _print_plans(
    runner: Runner,
    found: Sequence[Path] | Mapping[str, Path],
    told: Mapping[str, Any],
    wishes: Mapping[str, Any],
    *,
    as_json: bool,
) -> None:
    from biozoo_runners.batch import opened

    each = [found] if isinstance(found, Mapping) else found
    plans = {_name(image): runner.plan(opened(image, **told), **wishes) for image in each}
    if as_json:
        emit_json({name: {"tiles": len(p), "plan": str(p)} for name, p in plans.items()})
        return
    for name, plan in plans.items():
        say(f"{name}: {plan}")


def _name(image: Path | Mapping[str, Path]) -> str:
    return str(image) if isinstance(image, Path) else ", ".join(map(str, image.values()))


@verb
def test_model(
    model: Model,
    weights: options.Weights = None,
    backend: options.Backend = None,
    device: options.Device = "cpu",
    as_json: Json = False,
) -> None:
    """Does a model give its author's own test output here?

    Ends with 1 where it does not, with 3 where none of its weights can run.
    """
    from biozoo_runners import test_package

    report = test_package(_open(model), weights=weights, device=device, backend=backend)
    if as_json:
        emit_json(report.to_dict())
    else:
        say(str(report))
    if not report.ok:
        raise typer.Exit(1)


@verb
def sample(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="Which sample: nuclei, histology or em.")
    ] = "nuclei",
    out: Annotated[
        str,
        typer.Option(
            "-o",
            "--out",
            metavar="OUT",
            help="The file to write (.ome.tif, .ome.zarr, .npy, .png), or a folder for it.",
        ),
    ] = "cells.ome.tif",
    size: Annotated[
        int, typer.Option(min=64, max=16384, metavar="PIXELS", help="Height and width.")
    ] = 512,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same image.")] = 0,
    labels: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the true labels too, one number per object."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a simulated image with known truth, to try a model on."""
    from biozoo.samples import simulate
    from biozoo_runners import write_image
    from biozoo_runners.batch import is_folder

    simulated = simulate(name, (size, size), seed=seed)
    image, truth = simulated.to_xarray()
    target = Path(out, "cells.ome.tif") if is_folder(out) else Path(out)
    written = [write_image(target, image)]
    if labels is not None:
        written.append(write_image(Path(labels), truth))
    if as_json:
        emit_json({"written": written, "objects": int(simulated.labels.max())})
    else:
        say("\n".join(map(str, written)))
    count = f"{simulated.labels.max()} simulated {simulated.objects}"
    note(f"{count}, {size} x {size} pixels, seed {seed}.")


def register(app: typer.Typer) -> None:
    """Add this module's verbs to the program."""
    app.command("check")(check)
    app.command("run")(run)
    app.command("test")(test_model)
    app.command("sample")(sample)
