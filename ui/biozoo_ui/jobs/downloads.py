"""A job's results in other formats: made when first asked for, kept in the job's folder.

Of `cells.labels.ome.tif` these are `cells.labels.ome.zarr.zip` and, of labels, `cells.labels.csv`;
`all.zip` holds everything. Two that ask for one file at once get the one that is made.
"""

from __future__ import annotations

import re
import shutil
import tempfile
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from biozoo.errors import BiozooError, MissingFileError, NotFoundError, StorageError
from biozoo.files import writing

from .commands import python_code, shell_command
from .images import open_images
from .model import Job, JobFile

if TYPE_CHECKING:
    from biozoo_runners import Image

FOLDER = "downloads"
ALL = "all.zip"

_TIFF = ".ome.tif"
_ZARR = ".ome.zarr.zip"
_TABLE = ".csv"


@dataclass(frozen=True)
class Format:
    """A way to get a result: what it is called, the file's name, whether it has to be made."""

    label: str
    name: str
    made: bool = True


def formats(file: JobFile) -> tuple[Format, ...]:
    """The ways to get a file of a result, itself first."""
    found = [Format("OME-TIFF", file.name, made=False)]
    if file.name.endswith(_TIFF):
        stem = file.name.removesuffix(_TIFF)
        found.append(Format("OME-Zarr (zip)", stem + _ZARR))
        if file.kind == "labels":
            found.append(Format("CSV of objects", stem + _TABLE))
    return tuple(found)


class Downloads:
    """Makes the files that were asked for; `folder` holds a folder per job."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._making: dict[tuple[str, str], threading.Lock] = {}
        self._waiting: Counter[tuple[str, str]] = Counter()

    def get(self, job: Job, name: str) -> Path:
        """The file of this name of a job that is done; made where it is not there yet.

        Raises
        ------
        MissingFileError
            The job has none of this name, or its results have gone.
        StorageError
            It cannot be written: the disk is full, say. Nothing half-written stays.
        """
        if name != ALL and name not in (f.name for file in job.files for f in formats(file)):
            raise MissingFileError(what="The file", path=name)
        if not job.files:
            raise MissingFileError(what="The result of job", path=job.id)
        path = self._folder / job.id / FOLDER / name
        with self._alone(job.id, name):
            if not path.is_file():
                self._make(job, name, path)
        return path

    @contextmanager
    def _alone(self, job_id: str, name: str) -> Iterator[None]:
        """One at a time for each file."""
        key = (job_id, name)
        with self._lock:
            lock = self._making.setdefault(key, threading.Lock())
            self._waiting[key] += 1
        try:
            with lock:
                yield
        finally:
            with self._lock:
                self._waiting[key] -= 1
                if not self._waiting[key]:
                    del self._waiting[key], self._making[key]

    def _make(self, job: Job, name: str, path: Path) -> None:
        parent = path.parent
        try:
            with writing(parent):
                parent.mkdir(exist_ok=True)  # not the job's own folder: it may be deleted
                with tempfile.TemporaryDirectory(prefix=".part-", dir=parent) as part:
                    made = Path(part) / name
                    self._write(job, name, made, Path(part))
                    made.replace(path)
        except StorageError as exc:  # of the file that the user knows, not of a hidden one
            parts = rf"{re.escape(str(parent))}(/\.part-\w+)?(/[^:]*)?"
            exc.args = (re.sub(parts, name, exc.message),)
            raise
        except FileNotFoundError as exc:
            if isinstance(exc, BiozooError):
                raise
            raise NotFoundError(
                kind="job", got=job.id, known=(), hint="It was deleted meanwhile."
            ) from exc

    def _write(self, job: Job, name: str, made: Path, scratch: Path) -> None:
        results = self._folder / job.id / "results"
        if name == ALL:
            self._write_all(job, made, results)
            return
        stem = name.removesuffix(_ZARR) if name.endswith(_ZARR) else name.removesuffix(_TABLE)
        source = results / f"{stem}{_TIFF}"
        if name.endswith(_ZARR):
            _write_zarr(source, made, scratch)
        else:
            file = next(f for f in job.files if f.name == source.name)
            _write_table(job, file, source, made)

    def _write_all(self, job: Job, made: Path, results: Path) -> None:
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as packed:
            for file in job.files:
                # OME-TIFFs are compressed already, and real numbers hardly shrink.
                packed.write(results / file.name, file.name, zipfile.ZIP_STORED)
                for other in formats(file):
                    if other.name.endswith(_TABLE):
                        packed.write(self.get(job, other.name), other.name)
            packed.writestr("report.txt", _report(job))


def _write_zarr(source: Path, made: Path, scratch: Path) -> None:
    from biozoo_runners import open_image, write_image

    top = made.name.removesuffix(".zip")
    folder = write_image(scratch / top, open_image(source).read())
    with zipfile.ZipFile(made, "w", zipfile.ZIP_STORED) as packed:  # chunks are compressed
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                packed.write(path, f"{top}/{path.relative_to(folder).as_posix()}")
    shutil.rmtree(folder, ignore_errors=True)


def _write_table(job: Job, file: JobFile, source: Path, made: Path) -> None:
    from biozoo_runners import open_image
    from biozoo_runners.measuring import measure, write_table

    labels = open_image(source)
    image = _image_of(job, labels) if file.scale is None else None
    write_table(made, measure(labels, image, volume=file.volume))


def _image_of(job: Job, labels: Image) -> Image | None:
    """The image that was run, for intensities; None where it has gone or is of another size."""
    try:
        opened = open_images(job.images, job.choices.region)
    except BiozooError:
        return None
    image = next(iter(opened.values())) if isinstance(opened, dict) else opened
    same = all(image.sizes.get(a, 1) == labels.sizes.get(a, 1) for a in ("time", "z", "y", "x"))
    return image if same else None


def _report(job: Job) -> str:
    told = (job.report or {}).get("text", "")
    parts = [
        str(told),
        f"The same on the command line:\n\n{shell_command(job)}" if shell_command(job) else "",
        f"The same as Python:\n\n{python_code(job)}",
    ]
    return "\n\n".join(filter(None, parts))
