"""Several images through one loaded model: one bad file does not stop the others.

Where results go (`targets`): a FILE gets the main result (the labels where the package makes
objects, else its only output); a FOLDER gets all of them, as `<image stem>.<tensor id>.ome.tif`
and `<image stem>.labels.ome.tif`. Files are written beside and renamed, so what exists is whole.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo.errors import BiozooError, Cancelled, UsageError

if TYPE_CHECKING:
    from .images import Image
    from .out_of_core.stages import Executor
    from .pipeline import Progress, Runner
    from .prepare import Channel
    from .report import RunReport
    from .rescale import Scale

#: Endings that name an image file; anything else is a folder.
SUFFIXES = (".ome.tif", ".ome.tiff", ".tif", ".tiff", ".ome.zarr", ".zarr", ".npy", ".png")

#: Steps of one image in the progress of a batch.
STEPS = 1000


@dataclass(frozen=True, slots=True)
class FileResult:
    """One image: the files written and the report of its run, or what went wrong."""

    image: Path
    """the (first) file"""
    written: tuple[Path, ...] = ()
    report: RunReport | None = None
    error: str = ""

    @property
    def ok(self) -> bool:
        """Whether its results were written."""
        return not self.error

    def __str__(self) -> str:
        if self.error:
            return f"{self.image}: FAILED: {self.error}"
        return f"{self.image} -> {', '.join(map(str, self.written))}"


@dataclass(frozen=True, slots=True)
class BatchReport:
    """What became of each image."""

    files: tuple[FileResult, ...]

    @property
    def ok(self) -> bool:
        """Whether all were done."""
        return all(f.ok for f in self.files)

    @property
    def failed(self) -> tuple[FileResult, ...]:
        """Those that were not."""
        return tuple(f for f in self.files if not f.ok)

    @property
    def report(self) -> RunReport | None:
        """One report of all that were done, None where none was."""
        from .report import RunReport

        done = [f.report for f in self.files if f.report is not None]
        return RunReport.joined(done) if done else None

    @property
    def exit_code(self) -> int:
        """0 all done, 1 some failed."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "files": [
                asdict(f)
                | {
                    "ok": f.ok,
                    "image": str(f.image),
                    "written": [str(p) for p in f.written],
                    "report": f.report.to_dict() if f.report else None,
                }
                for f in self.files
            ],
        }

    def __str__(self) -> str:
        lines = [str(f) for f in self.files if f.ok]
        if self.report is not None:
            lines.append(str(self.report))
        if len(self.files) > 1:
            done = len(self.files) - len(self.failed)
            lines.append(f"{done} of {len(self.files)} images done")
        return "\n".join([*lines, *map(str, self.failed)])


@dataclass(frozen=True, slots=True)
class Large:
    """How runs out of core are done; see `out_of_core.running.run_out_of_core`."""

    memory: int | None = None
    resume: bool = False
    executor: Executor | None = None


def run_batch(
    runner: Runner,
    images: Sequence[str | Path | Mapping[str, str | Path]],
    out: str | Path,
    *,
    axes: str | Sequence[str] | None = None,
    scene: int | None = None,
    pixel_size: Mapping[str, float] | None = None,
    channel: Channel | Mapping[str, Channel] | None = None,
    tile: Mapping[str, int] | None = None,
    scale: Scale | None = None,
    min_size: int | None = None,
    fill_holes: bool | None = None,
    large: Large | None = None,
    suffix: str = ".ome.tif",
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> BatchReport:
    """Run a model on images and write the results.

    What goes to OME-Zarr is run out of core: memory does not grow with the image, and a run that
    was stopped can go on. Other formats are written of results in memory.

    Parameters
    ----------
    images
        Paths (see `find_images`); for a model with several inputs, a path per input tensor id.
    out
        A file (one image only) or a folder; a folder where it exists as one, ends in a slash, or
        does not end as an image file.
    axes, channel, tile, scale, min_size, fill_holes
        As for `Runner`, the same for all images.
    scene, pixel_size
        As for `open_image`, the same for all images.
    large
        How runs out of core are done.
    suffix
        Of the files in a folder: ".ome.tif" or ".ome.zarr".
    on_progress
        Called with the progress of the whole batch, `STEPS` per image.

    Raises
    ------
    BiozooError
        What went wrong with the image, where there is only one.
    UsageError
        The names of results cannot be settled: several images for one file, several outputs for
        one file, a result in the place of an image; or `large` is given for results of another
        format than OME-Zarr.
    StorageError
        The results may not be written there; nothing was run.
    Cancelled
        Stopped; what was done before is complete.
    """
    from .images import write_image
    from .images.atomic import check_folder
    from .pipeline import Progress

    sources = {_first(image): image for image in images}
    paths = list(sources)
    where = targets(paths, out, runner.outputs, main=runner.main, suffix=suffix)
    if large is not None:
        _check_large(where, scale)
    for folder in {target.parent for made in where.values() for target in made.values()}:
        check_folder(folder)
    results = []
    for number, (path, source) in enumerate(sources.items()):

        def forward(p: Progress, number: int = number, path: Path = path) -> None:
            if on_progress is not None:
                done = number * STEPS + STEPS * p.done // max(p.total, 1)
                on_progress(Progress(done, len(paths) * STEPS, path.name))

        try:
            told: dict[str, Any] = {"axes": axes, "scene": scene, "pixel_size": pixel_size}
            image = opened(source, **told)
            wishes: dict[str, Any] = {
                "channel": channel,
                "tile": tile,
                "min_size": min_size,
                "fill_holes": fill_holes,
                "on_progress": forward,
                "cancelled": cancelled,
            }
            if large is not None or (_all_zarr(where[path]) and scale is None):
                from .out_of_core.running import run_out_of_core, why_in_memory

                if large is not None or not why_in_memory(runner, image, channel):
                    ids = {str(runner.main) if n == MAIN else n: t for n, t in where[path].items()}
                    how = large or Large()
                    done = run_out_of_core(
                        runner,
                        image,
                        ids,
                        opened_with=told,
                        memory=how.memory,
                        resume=how.resume,
                        executor=how.executor,
                        **wishes,
                    )
                    results.append(FileResult(path, tuple(done.paths.values()), done.report))
                    continue
            result = runner(image, scale=scale, **wishes)
            written = []
            for name, target in where[path].items():
                data = result.main if name == MAIN else result[name]
                written.append(write_image(target, data))
            results.append(FileResult(path, tuple(written), result.report))
        except Cancelled:
            raise
        except BiozooError as exc:
            if len(paths) == 1:
                raise
            results.append(FileResult(path, error=exc.message))
        # A file that breaks a reader in a new way must not stop the others.
        except Exception as exc:
            if len(paths) == 1:
                raise
            results.append(FileResult(path, error=f"{type(exc).__name__}: {exc}"))
    return BatchReport(tuple(results))


def opened(
    source: str | Path | Mapping[str, str | Path],
    *,
    axes: str | Sequence[str] | None = None,
    scene: int | None = None,
    pixel_size: Mapping[str, float] | None = None,
) -> Image | dict[str, Image]:
    """An image, or one per input tensor id, opened as the caller says; see `open_image`."""
    from .images import open_image

    def one(path: str | Path) -> Image:
        return open_image(path, axes=axes, scene=scene, pixel_size=pixel_size)

    return {t: one(p) for t, p in source.items()} if isinstance(source, Mapping) else one(source)


def _all_zarr(made: Mapping[str, Path]) -> bool:
    return all(path.name.lower().endswith(".zarr") for path in made.values())


def _check_large(where: Mapping[Path, Mapping[str, Path]], scale: Scale | None) -> None:
    if other := [p for made in where.values() for p in made.values() if not _all_zarr({"": p})]:
        raise UsageError(
            f"--memory, --resume and --dask are for results in OME-Zarr, not for {other[0].name}: "
            "other formats are written of a result in memory. Give -o NAME.zarr, or a folder and "
            "--format ome.zarr."
        )
    if scale is not None:
        raise UsageError(
            "--scale takes the image and the result in memory, so it does not go with --memory, "
            "--resume and --dask. Leave one of them out."
        )


def _first(image: str | Path | Mapping[str, str | Path]) -> Path:
    """The file that names the results."""
    return Path(next(iter(image.values())) if isinstance(image, Mapping) else image)


#: Stands for the main result in `targets`.
MAIN = ""


def targets(
    images: Sequence[Path],
    out: str | Path,
    outputs: Sequence[str],
    *,
    main: str | None = None,
    suffix: str = ".ome.tif",
) -> dict[Path, dict[str, Path]]:
    """Which result of which image goes where, settled before anything runs.

    Parameters
    ----------
    outputs
        What a run gives, "labels" included.
    main
        Which of several one file gets, where that is not "labels".
    suffix
        Of the files in a folder.

    Returns
    -------
    dict
        Per image: output id (`MAIN` for the main result) -> path.

    Raises
    ------
    UsageError
        See `run_batch`.
    """
    target = Path(out).expanduser()
    if is_folder(out):
        if target.exists() and not target.is_dir():
            raise UsageError(
                f"{target} is a file and no image by its name. Name a folder, or a file that ends "
                f"in {', '.join(SUFFIXES)}."
            )
        names = _names(images)
        made = {i: {o: target / f"{names[i]}.{o}{suffix}" for o in outputs} for i in images}
    elif len(images) > 1:
        raise UsageError(
            f"{len(images)} images cannot go into one file {target}. Give a folder: -o results/"
        )
    elif len(outputs) > 1 and "labels" not in outputs and main is None:
        raise UsageError(
            f"The model has {len(outputs)} outputs ({', '.join(outputs)}), which cannot go into "
            f"one file {target}. Give a folder: -o results/"
        )
    else:
        made = {i: {MAIN: target} for i in images}
    sources = {i.resolve() for i in images}
    for paths in made.values():
        if hit := [p for p in paths.values() if p.resolve() in sources]:
            raise UsageError(f"{hit[0]} is one of the images and would be replaced by a result.")
    return made


def is_folder(out: str | Path) -> bool:
    """Whether `-o` names a folder rather than an image file.

    Raises
    ------
    UsageError
        For a new name that ends like a file of another kind: "result.jpg" is no folder's name.
    """
    text = os.fspath(out)
    path = Path(text).expanduser()
    if text.endswith(("/", os.sep)):
        return True
    if path.is_dir():
        return not path.name.lower().endswith(".zarr")
    if path.name.lower().endswith(SUFFIXES):
        return False
    if re.fullmatch(r"\.[A-Za-z]\w{1,4}", path.suffix) and not path.exists():
        raise UsageError(
            f"Results are not written as {path.suffix}: {text}. Expected a file that ends in "
            f"{', '.join(SUFFIXES)}, or a folder: -o {text}/"
        )
    return True


def stem(path: Path) -> str:
    """An image's name without what says its format: "cells.ome.tif" -> "cells"."""
    name = path.name
    ending = next((s for s in SUFFIXES if name.lower().endswith(s)), path.suffix)
    return name[: len(name) - len(ending)] or name


def _names(images: Sequence[Path]) -> dict[Path, str]:
    """A name for each image; one that several share gets what tells them apart."""
    names = {i: stem(i) for i in images}
    choices: tuple[Callable[[Path], str], ...] = (
        lambda i: i.name,
        lambda i: f"{i.resolve().parent.name}-{stem(i)}",
    )
    for choice in choices:
        shared = {n for n, count in Counter(n.lower() for n in names.values()).items() if count > 1}
        names |= {i: choice(i) for i, n in names.items() if n.lower() in shared}
    counts = Counter(n.lower() for n in names.values())
    if clash := [i for i, n in names.items() if counts[n.lower()] > 1]:
        raise UsageError(
            f"The results of {' and '.join(map(str, clash[:2]))} would have one name. "
            "Run them into different folders."
        )
    return names
