"""Bringing a package into a folder that is being staged: copied, unpacked or downloaded.

Everything is checked on the way: paths and links of a folder, members of a zip, addresses, sizes,
and the sha256 of every file that declares one. What is written is hashed while it is written.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from . import archive
from . import rdf as rdfs
from .download import Client, Progress, beside, file_name
from .errors import (
    BiozooError,
    HashMismatchError,
    InvalidPackageError,
    MissingFileError,
    UnsafeArchiveError,
)
from .files import check_space, copy_file, writing
from .package import ModelPackage, check_files
from .records import FileRecord, Origin, Record
from .settings import Settings
from .summary import ModelSummary, package_id, package_version, slug
from .trust import trust_of

if TYPE_CHECKING:
    from .collection import Entry

__all__ = ["Place", "fill"]

_SKIPPED = ("__pycache__", ".git", ".ipynb_checkpoints")


@dataclass(frozen=True)
class Place:
    """Where a package is that must be brought here first, or copied.

    Attributes
    ----------
    kind
        "folder", "zip", "url" or "collection".
    source
        As the user named it.
    path
        Of the folder or zip; for a folder the description's name may be given.
    rdf
        Name of the description in the folder, where the user named the file.
    url
        Address of a zip or description.
    entry
        What the collection's index says.
    """

    kind: Origin
    source: str
    path: Path | None = None
    rdf: str | None = None
    url: str = ""
    entry: Entry | None = None


def fill(
    place: Place, target: Path, settings: Settings, *, progress: Progress | None = None
) -> Record:
    """Write the whole package into the empty folder `target`, checked; its record, not written.

    Raises
    ------
    BiozooError
        Of many kinds; what was written of `target` is the caller's to remove.
    """
    try:
        return _fill(place, target, settings, progress)
    except InvalidPackageError as exc:  # told of what the user named, not of a staging folder
        raise exc.renamed(place.source) from exc


def _fill(place: Place, target: Path, settings: Settings, progress: Progress | None) -> Record:
    if place.kind == "folder" and place.path is not None:
        rdfs.read(place.path / place.rdf if place.rdf else rdfs.find_rdf(place.path))
        files = _copy_folder(place.path, target, settings)
    elif place.kind == "zip" and place.path is not None:
        files = _unpack(place.path, target, settings, place.source, progress)
    else:
        files = {}
    links: dict[str, str] = {}
    version = None
    with Client(settings, progress=progress) as client:
        if place.url:
            files = _fetch(client, place, target)
            version = place.entry.version if place.entry is not None else None
        rdf = target / place.rdf if place.rdf else rdfs.find_rdf(target)
        raw = rdfs.read(rdf)
        _fetch_urls(client, place, raw, target, files, links)
    from . import __version__

    identity = place.entry.id if place.entry is not None else package_id(raw)
    summary = replace(ModelSummary.from_rdf(raw), id=identity)
    record = Record(
        id=identity,
        version=version or package_version(raw),
        rdf=rdf.name,
        origin=place.kind,
        source=place.source,
        added=datetime.now(UTC).isoformat(timespec="seconds"),
        biozoo=__version__,
        trust=trust_of(raw),
        summary=summary,
        files={name: FileRecord(*files[name]) for name in sorted(files)},
        links=links,
    )
    check_files(ModelPackage.of_record(record, target), hashes=False)
    for ref in rdfs.file_refs(raw):
        name = links.get(ref.source, str(rdfs.safe_relative(ref.source)))
        if ref.sha256 is None or (rdfs.is_url(ref.source) and ref.source not in links):
            continue  # the latter: a cover that could not be had
        if name not in record.files:  # another case than the file's, on a disk that knows none
            fault = f"file '{name}' is missing"
            raise InvalidPackageError(source=place.source, fields={ref.field: fault})
        if record.files[name].sha256 != ref.sha256:
            raise HashMismatchError(
                file=f"{place.source}: {ref.source} ({ref.field})",
                expected=ref.sha256,
                got=record.files[name].sha256,
            )
    return record


def _copy_folder(root: Path, target: Path, settings: Settings) -> dict[str, tuple[int, str]]:
    """Copy a package folder: plain files, hidden ones and caches left out, no links out of it."""
    listed: list[Path] = []
    total = 0
    try:
        for path in sorted(root.rglob("*")):
            relative = path.relative_to(root)
            if any(p.startswith(".") or p in _SKIPPED for p in relative.parts):
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root.resolve()):
                raise UnsafeArchiveError(
                    archive=root, member=str(relative), why="is a link out of the folder"
                )
            if path.is_file():
                listed.append(relative)
                total += path.stat().st_size
            if len(listed) > settings.max_files or total > settings.max_bytes:
                raise UnsafeArchiveError(
                    archive=root,
                    member=str(relative),
                    why=f"is beyond the {settings.max_files:,} files or "
                    f"{settings.max_bytes / 2**30:g} GB allowed (is this folder a package?)",
                )
    except PermissionError as exc:
        raise MissingFileError(what="The package", path=root, hint="It may not be read.") from exc
    check_space(target, total)
    copied = {}
    for relative in listed:
        place = target / relative
        try:
            source = (root / relative).open("rb")
        except OSError as exc:
            raise MissingFileError(
                what="The file", path=root / relative, hint=f"It cannot be read ({exc.strerror})."
            ) from exc
        with source, writing(target):
            place.parent.mkdir(parents=True, exist_ok=True)
            copied[relative.as_posix()] = copy_file(source, place)
    return copied


def _unpack(
    path: Path, target: Path, settings: Settings, source: str, progress: Progress | None
) -> dict[str, tuple[int, str]]:
    def step(done: int, total: int) -> None:
        if progress is not None:
            progress(f"unpacking {path.name}", done, total)

    return archive.extract(
        path,
        target,
        max_bytes=settings.max_bytes,
        max_files=settings.max_files,
        step=step,
        source=source,
    )


def _fetch(client: Client, place: Place, target: Path) -> dict[str, tuple[int, str]]:
    """Download an address: a zip is unpacked, a description's relative files are fetched."""
    settings = client.settings
    hidden = target / f".download-{uuid.uuid4().hex}"  # no member of a zip is called that
    try:
        got = client.download(place.url, hidden, max_bytes=settings.max_bytes)
        entry = place.entry
        if entry is not None and entry.sha256 and got[1] != entry.sha256:
            raise HashMismatchError(
                file=f"{place.source}: {place.url}",
                expected=entry.sha256,
                got=got[1],
                hint="It is not the one in the collection's index. Try again later.",
            )
        if archive.is_zip(hidden):
            return _unpack(hidden, target, settings, place.source, client.progress)
        name = rdfs.NAMES[0]  # whatever it is called there: no file beside it is taken for it
        with writing(target):
            hidden.rename(target / name)
    finally:
        hidden.unlink(missing_ok=True)
    files = {name: got}
    raw = rdfs.read(target / name)
    left = settings.max_bytes - got[0]
    for ref in rdfs.file_refs(raw):
        if rdfs.is_url(ref.source):
            continue
        relative = rdfs.safe_relative(ref.source)
        if relative is None:
            fault = f"'{ref.source}' is no path below the package folder"
            raise InvalidPackageError(source=place.source, fields={ref.field: fault})
        if str(relative) in files:
            continue
        with writing(target):
            (target / relative).parent.mkdir(parents=True, exist_ok=True)
        address = beside(place.url, str(relative))
        files[str(relative)] = client.download(address, target / relative, max_bytes=left)
        left -= files[str(relative)][0]
    return files


def _fetch_urls(
    client: Client,
    place: Place,
    raw: rdfs.Raw,
    target: Path,
    files: dict[str, tuple[int, str]],
    links: dict[str, str],
) -> None:
    """Download what the description refers to by address; `files` and `links` are added to."""
    via = place.url or "https://a.description.invalid"  # it may not lead to this machine
    for ref in rdfs.file_refs(raw):
        if not rdfs.is_url(ref.source):
            continue
        name = slug(file_name(ref.source)) or "file"
        while name in files or (target / name).exists():
            name = f"_{name}"
        left = client.settings.max_bytes - sum(size for size, _ in files.values())
        try:
            files[name] = client.download(ref.source, target / name, max_bytes=left, via=via)
        except BiozooError as exc:
            if ref.field.startswith(("covers", "icon")):  # nothing a run needs
                (target / name).unlink(missing_ok=True)
                continue
            raise exc
        links[ref.source] = name
