"""A package to look at before it is downloaded: its description, where its files are not here.

A check needs the description and nothing else. So of an address or an id of the collection only
that is fetched, a few kilobytes, into `<cache>/descriptions/<key>/`, with what the server tells of
the weights' sizes beside it. What is on this machine already is opened as ever.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import rdf as rdfs
from .download import Client, Progress, beside
from .errors import BiozooError, HashMismatchError, InvalidPackageError
from .files import write_atomic
from .filling import Place
from .package import ModelPackage
from .settings import Settings
from .sources import find_cached, locate, open_package

__all__ = ["is_here", "peek", "weights_size"]

_SIZES = "sizes.json"
_SIZE_TIMEOUT = 5.0  # seconds without an answer: it is good to know, no more


def peek(
    source: str | Path | ModelPackage,
    *,
    settings: Settings | None = None,
    progress: Progress | None = None,
) -> ModelPackage:
    """The package that `source` names, as `biozoo.open` takes it, without downloading its files.

    Of a package whose files are not on this machine, `path` raises MissingFileError for them. An
    address of a zip is downloaded: its description is within.

    Raises
    ------
    NotFoundError, MissingFileError, InvalidPackageError, HashMismatchError, CollectionError,
    UnsafeArchiveError, StorageError
    """
    if isinstance(source, ModelPackage):
        return source
    settings = settings or Settings.from_env()
    found = locate(source, settings)
    if isinstance(found, ModelPackage):
        return found
    if not found.url or found.url.partition("?")[0].lower().endswith(".zip"):
        return open_package(source, settings=settings, progress=progress)
    known = find_cached(found, settings)
    return known if known is not None else _described(found, settings)


def is_here(package: ModelPackage, weights: str) -> bool:
    """Whether the file of these weights is on this machine."""
    source = _source(package.raw, weights)
    try:
        return source is not None and package.path(source).is_file()
    except BiozooError:
        return False


def weights_size(package: ModelPackage, weights: str) -> int | None:
    """Bytes of the file of these weights, here or as its server told; None where unknown."""
    source = _source(package.raw, weights)
    if source is None:
        return None
    try:
        return package.path(source).stat().st_size
    except (BiozooError, OSError):
        pass
    try:
        size = json.loads((package.root / _SIZES).read_bytes())[weights]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return size if isinstance(size, int) else None


def _described(place: Place, settings: Settings) -> ModelPackage:
    """A package of the description alone."""
    declared = place.entry.sha256 if place.entry is not None else ""
    key = hashlib.sha256(f"{place.url} {declared}".encode()).hexdigest()
    folder = settings.cache / "descriptions" / key
    if not (declared and _is(folder / rdfs.NAMES[0], declared)):
        with Client(settings) as client:
            content = client.get(place.url, max_bytes=rdfs.MAX_RDF_BYTES)
            got = hashlib.sha256(content).hexdigest()
            if declared and got != declared:
                raise HashMismatchError(
                    file=f"{place.source}: {place.url}",
                    expected=declared,
                    got=got,
                    hint="It is not the one in the collection's index. Try again later.",
                )
            try:
                raw = rdfs.parse(content, source=place.source)
            except InvalidPackageError as exc:
                raise exc.renamed(place.source) from exc
        with Client(settings, timeout=_SIZE_TIMEOUT) as client:
            sizes = _sizes(client, place.url, raw)
        write_atomic(folder / _SIZES, json.dumps(sizes).encode())
        write_atomic(folder / rdfs.NAMES[0], content)
    package = ModelPackage.from_folder(
        folder, origin=place.kind, source=place.source, rdf=folder / rdfs.NAMES[0]
    )
    if place.entry is None:
        return package
    summary = replace(package.summary, id=place.entry.id)
    version = place.entry.version or package.version
    return replace(package, id=place.entry.id, version=version, summary=summary)


def _is(path: Path, sha256: str) -> bool:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest() == sha256
    except OSError:
        return False


def _sizes(client: Client, url: str, raw: Mapping[str, Any]) -> dict[str, int]:
    """Weights format -> bytes, where the server tells."""
    found = {}
    weights = raw.get("weights")
    for name in weights if isinstance(weights, Mapping) else ():
        source = _source(raw, str(name))
        if source is None or not (rdfs.is_url(source) or rdfs.safe_relative(source)):
            continue
        address = source if rdfs.is_url(source) else beside(url, source)
        if (size := client.size(address, via=url)) is not None:
            found[str(name)] = size
    return found


def _source(raw: Mapping[str, Any], weights: str) -> str | None:
    """The file of these weights as the description names it."""
    entries = raw.get("weights")
    entry = entries.get(weights) if isinstance(entries, Mapping) else None
    source = entry.get("source") if isinstance(entry, Mapping) else None
    return str(source) if source else None
