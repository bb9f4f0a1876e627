"""An existing package as the start of a conversion: a copy of it."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biozoo import rdf as rdfs
from biozoo.errors import InvalidPackageError

from .drafts import RDF, Draft

if TYPE_CHECKING:
    from biozoo.package import ModelPackage

__all__ = ["attach", "copied"]


def copied(package: ModelPackage, folder: Path) -> Draft:
    """A copy of a package in an empty folder, whose description may be changed.

    Every field stays as it is written. The files that the description names come along, and of a
    package that biozoo keeps all others too; what was downloaded for an address in the description
    is named in its place, so that the copy is whole.

    Raises
    ------
    MissingFileError, InvalidPackageError
        A file is missing, or lies outside the package.
    """
    raw = copy.deepcopy(dict(package.raw))
    links = dict(package.record.links) if package.record is not None else {}
    for field in {r.field.partition(".")[0] for r in rdfs.file_refs(raw) if r.source in links}:
        raw[field] = _local(raw[field], links)
    names = {r.source for r in rdfs.file_refs(raw) if not rdfs.is_url(r.source)}
    if package.record is not None:
        names |= set(package.record.files)
    for name in sorted(names - {package.rdf.name}):
        source, target = package.path(name), folder / name
        if name == RDF:  # the description of the copy goes there
            raise InvalidPackageError(source=package.rdf, why=f"it has a second '{RDF}'.")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    return Draft(folder, raw)


def attach(raw: dict[str, Any], name: str, sha256: str) -> None:
    """Name a file as an attachment in a description of any format version."""
    there = raw.get("attachments")
    if isinstance(there, Mapping) or str(raw.get("format_version", "0.5")) < "0.5":
        files = list((there or {}).get("files") or []) if isinstance(there, Mapping) else []
        raw["attachments"] = {**(there or {}), "files": [*(f for f in files if f != name), name]}
        return
    others = [a for a in there or [] if not (isinstance(a, Mapping) and a.get("source") == name)]
    raw["attachments"] = [*others, {"source": name, "sha256": sha256}]


def _local(value: Any, links: Mapping[str, str]) -> Any:
    """A part of a description with addresses replaced by the files that they were kept in."""
    if isinstance(value, dict):
        return {key: _local(v, links) for key, v in value.items()}
    if isinstance(value, list):
        return [_local(v, links) for v in value]
    return links.get(value, value) if isinstance(value, str) else value
