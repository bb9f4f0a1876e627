"""From what a user names to a package: built-in, installed, folder, zip, address, collection id.

`open_package` gives a package where it lies, or brings it into the cache, which it enters whole or
not at all: cache/packages/<content hash>/, found again by cache/sources/<hash of what was named>.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import unquote

from . import archive
from . import rdf as rdfs
from .download import Progress, check_url
from .errors import (
    CollectionError,
    InvalidPackageError,
    MissingFileError,
    NotFoundError,
    UsageError,
)
from .files import Staging, check_space, copy_file, sha256_of, write_atomic, writing
from .filling import Place, fill
from .package import (
    ModelPackage,
    builtin_packages,
    check_files,
    installed_packages,
    is_called,
    version_key,
)
from .records import RECORD, Record
from .settings import Settings
from .summary import slug

__all__ = ["copy_cached", "find_cached", "find_here", "locate", "open_package"]


def open_package(
    source: str | Path | ModelPackage,
    *,
    settings: Settings | None = None,
    refresh: bool = False,
    progress: Progress | None = None,
) -> ModelPackage:
    """The package that `source` names, ready to run, nothing installed.

    Parameters
    ----------
    source
        In this order: a built-in id, an installed id, a folder (or the description in it), a zip,
        an https address of a zip or a description, a bioimage.io id ("affable-shark",
        "bioimage-io/affable-shark", a Zenodo DOI). Ids take "@version".
    refresh
        True: what the cache holds of an address or collection id is not used.
    progress
        Called with (file, bytes done, bytes in all or None) while something is downloaded.

    Raises
    ------
    NotFoundError
        For an unknown id; it offers the closest known ones.
    MissingFileError, InvalidPackageError, HashMismatchError, UnsafeArchiveError, CollectionError,
    StorageError
    """
    if isinstance(source, ModelPackage):
        return source
    settings = settings or Settings.from_env()
    found = locate(source, settings)
    if isinstance(found, ModelPackage):
        return found
    if found.kind == "folder":
        root = found.path or Path()
        package = ModelPackage.from_folder(
            root, source=found.source, rdf=root / found.rdf if found.rdf else None
        )
        check_files(package)
        return package
    return _cached(found, settings, refresh=refresh, progress=progress)


def locate(source: str | Path, settings: Settings) -> ModelPackage | Place:
    """The package itself where it is built in or installed, else where to get it.

    Raises
    ------
    UsageError, MissingFileError, InvalidPackageError, NotFoundError
    """
    text = str(source).strip()
    if not text:
        raise UsageError(
            "No model is named. Expected an id, a folder, a .zip or an address: zoo list shows ids."
        )
    name, _, version = text.partition("@")
    if not isinstance(source, Path):
        if named := _named_by_page(text):
            text = named
            name, _, version = text.partition("@")
        elif re.match(r"^[A-Za-z][A-Za-z0-9+.-]+://", text):
            check_url(text)
            return Place("url", text, url=text)
        if here := find_here(name, version or None, settings):
            return here
    path = Path(source).expanduser()
    if path.is_dir():
        return Place("folder", text, path=path.absolute())
    if path.is_file():
        if rdfs.is_rdf_name(path.name) or path.suffix in (".yaml", ".yml"):
            return Place("folder", text, path=path.absolute().parent, rdf=path.name)
        if archive.is_zip(path):
            return Place("zip", text, path=path.absolute())
        raise InvalidPackageError(
            source=text,
            why="it is neither a zip nor a description (rdf.yaml).",
            hint="Give the folder, the .zip or the rdf.yaml of a bioimage.io model.",
        )
    if isinstance(source, Path) or _looks_like_path(text):
        raise MissingFileError(
            what="The package", path=text, hint="Give a folder, a .zip, an address or a model's id."
        )
    return _in_collection(text, name, version or None, settings)


def find_here(name: str, version: str | None, settings: Settings) -> ModelPackage | None:
    """The built-in or installed package of this id; the newest where no version is given."""
    for package in builtin_packages():
        if is_called(package, name) and version in (None, package.version):
            return package
    found = [p for p in installed_packages(settings.models)[0] if is_called(p, name)]
    found = [p for p in found if version in (None, p.version, p.summary.version)]
    return max(found, key=lambda p: version_key(p.version), default=None)


def _named_by_page(text: str) -> str:
    """The id in the address of a page that people copy, "" for any other address."""
    for page in (
        r"^https?://(?:dx\.)?doi\.org/(10\.\d+/\S+)$",
        r"^https://bioimage\.io/#/\S*[?&]id=([^&\s]+)",
        r"^https://bioimage\.io/#/artifacts/([^?&\s]+)",
    ):
        if found := re.match(page, text):
            return unquote(found[1])
    return ""


def _looks_like_path(text: str) -> bool:
    return (
        text.startswith(("/", ".", "~"))
        or text.lower().endswith((".zip", ".yaml", ".yml", "/"))
        or "\\" in text
        or re.match(r"^[A-Za-z]:", text) is not None
    )


def _in_collection(text: str, name: str, version: str | None, settings: Settings) -> Place:
    from .collection import Collection

    known = {p.id for p in (*builtin_packages(), *installed_packages(settings.models)[0])}
    collection = Collection(settings)
    try:
        entry = collection.find(name, version)
    except CollectionError as exc:
        raise NotFoundError(
            kind="model",
            got=text,
            known=sorted(known),
            hint=f"Only the built-in and installed models are known: {exc.message}",
        ) from exc
    if entry is None:
        ids = collection.ids()
        if versions := ids.get(slug(name.removeprefix("bioimage-io/"))):
            raise NotFoundError(
                kind=f"version of '{name}'",
                got=version or "",
                known=versions,
                hint=f"There is {', '.join(versions)}.",
            )
        raise NotFoundError(
            kind="model",
            got=text,
            known=sorted(known | set(ids)),
            hint="Nor is a file or folder; zoo search WORDS finds models.",
        )
    return Place("collection", text, url=entry.url, entry=entry)


# ------------------------------------------------------------------------------------------ cache


def _cached(
    place: Place, settings: Settings, *, refresh: bool, progress: Progress | None
) -> ModelPackage:
    """The package of an archive or address, unpacked in the cache, which it enters at most once."""
    packages = settings.cache / "packages"
    pointer = settings.cache / "sources" / f"{_source_key(place, settings)}.json"
    if not refresh and (known := _pointed(pointer, packages)) is not None:
        return replace(known, source=place.source, origin=place.kind)
    with Staging(packages) as staging:
        record = fill(place, staging.path, settings, progress=progress)
        key = _content_key(record)
        with writing(packages):
            (staging.path / RECORD).write_bytes(record.to_json())
        while not staging.place(packages / key):
            if _whole(packages / key) is not None:  # another process has just made the same
                break
            shutil.rmtree(packages / key, ignore_errors=True)
    write_atomic(pointer, json.dumps({"source": place.source, "key": key}).encode())
    return ModelPackage.from_record(packages / key)


def find_cached(place: Place, settings: Settings) -> ModelPackage | None:
    """The whole package of an archive or address in the cache, None where it is not there."""
    pointer = settings.cache / "sources" / f"{_source_key(place, settings)}.json"
    known = _pointed(pointer, settings.cache / "packages")
    return None if known is None else replace(known, source=place.source, origin=place.kind)


def copy_cached(place: Place, target: Path, settings: Settings) -> Record | None:
    """Fill `target` from the cache where it holds this version of a collection's model, whole and
    as it was; None, and nothing of use in `target`, where not.

    Other addresses are not taken from the cache to be installed: what is behind them may change.
    """
    if place.entry is None or not place.entry.sha256:
        return None
    pointer = settings.cache / "sources" / f"{_source_key(place, settings)}.json"
    package = _pointed(pointer, settings.cache / "packages")
    if package is None or package.record is None:
        return None
    check_space(target, package.size)
    with writing(target):
        for name, file in package.record.files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            with (package.root / name).open("rb") as source:
                if copy_file(source, target / name) != (file.size, file.sha256):
                    shutil.rmtree(target)
                    target.mkdir()
                    return None
    return replace(
        package.record,
        source=place.source,
        added=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def _source_key(place: Place, settings: Settings) -> str:
    """Names what a place stands for: an archive's content, an address, an entry's hash."""
    if place.kind == "zip" and place.path is not None:
        try:
            return sha256_of(place.path)
        except OSError as exc:
            raise MissingFileError(what="The package", path=place.path) from exc
    entry = place.entry
    told = f"{place.url} {entry.sha256 if entry else ''}"
    return hashlib.sha256(told.encode()).hexdigest()


def _content_key(record: Record) -> str:
    listed = sorted((name, f.sha256) for name, f in record.files.items())
    return hashlib.sha256(json.dumps([record.id, record.version, listed]).encode()).hexdigest()


def _pointed(pointer: Path, packages: Path) -> ModelPackage | None:
    """The cached package that a pointer leads to, None where one of both is gone or damaged."""
    try:
        key = json.loads(pointer.read_bytes())["key"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return _whole(packages / key)


def _whole(folder: Path) -> ModelPackage | None:
    """The cached package of a folder, None where a file is gone or of another size."""
    try:
        package = ModelPackage.from_record(folder)
        files = package.record.files if package.record else {}
        sizes = {name: (folder / name).stat().st_size for name in files}
    except (OSError, InvalidPackageError):
        return None
    return package if all(sizes[name] == f.size for name, f in files.items()) else None
