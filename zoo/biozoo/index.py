"""The entries of the collection's index, in either layout that it has had.

`items` (since 2024) holds id, versions and hashes; `collection` (2022 to 2024) name, tags and DOIs
but no hash. What cannot be understood is left out.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from .summary import ModelSummary, slug, task_of
from .trust import Trust

__all__ = ["Entry", "entries_of", "is_doi", "is_layout"]


@dataclass(frozen=True)
class Entry:
    """One version of one model in the index.

    Attributes
    ----------
    id
        As a zoo keeps it, without "bioimage-io/".
    url, sha256
        Of its description; sha256 is "" where the index tells none.
    aliases
        Other ids of it.
    summary
        Of its description, or with what the index says where that could not be had.
    trust
        None where the description could not be had.
    note
        Why the description could not be had, "" where it was.
    created
        When it was published, ISO 8601, "" where the index does not tell.
    """

    id: str
    version: str
    url: str
    sha256: str
    summary: ModelSummary
    aliases: tuple[str, ...] = ()
    trust: Trust | None = None
    note: str = ""
    created: str = ""

    @property
    def key(self) -> str:
        """Names what the description says: its hash, or its address where there is none."""
        return self.sha256 or self.url

    def is_called(self, name: str) -> bool:
        """Whether this is the model `name`: an id, with or without "bioimage-io/", or a DOI."""
        doi = name.lower().removeprefix("https://doi.org/").removeprefix("doi:")
        if slug(name.removeprefix("bioimage-io/")) == self.id:
            return True
        names = {self.id, *self.aliases, *self.summary.aliases}
        # a version's DOI record, "10.5281/zenodo.1/2", is named by its concept "10.5281/zenodo.1"
        return any(doi == n.lower() or n.lower().startswith(f"{doi}/") for n in names if "/" in n)


def is_doi(name: str) -> bool:
    """Whether a name is a DOI, as "10.5281/zenodo.5764892" or an address of doi.org."""
    return re.match(r"^(?:https?://(?:dx\.)?doi\.org/|doi:)?10\.\d{4,}/", name.lower()) is not None


def is_layout(value: Any) -> bool:
    """Whether a value read from JSON is an index."""
    return isinstance(value, dict) and any(
        isinstance(value.get(key), list) for key in ("items", "collection")
    )


def entries_of(layout: Mapping[str, Any]) -> Iterator[Entry]:
    """The models of an index in either layout; what cannot be understood is left out."""
    for item in _list(layout.get("items")):
        if not isinstance(item, dict) or item.get("type") != "model":
            continue
        full = str(item.get("id", ""))
        name = slug(full.removeprefix("bioimage-io/"))
        for version in _list(item.get("versions")):
            if name and isinstance(version, dict) and version.get("source"):
                yield Entry(
                    id=name,
                    version=str(version.get("version") or "v0"),
                    url=str(version["source"]),
                    sha256=str(version.get("sha256") or "").lower(),
                    summary=ModelSummary(id=name),
                    aliases=(full,),
                    created=str(version.get("created_at") or ""),
                )
    for item in _list(layout.get("collection")):
        if isinstance(item, dict) and item.get("type") == "model" and item.get("rdf_source"):
            yield _old_entry(item)


def _old_entry(item: Mapping[str, Any]) -> Entry:
    full, nickname = str(item.get("id", "")), str(item.get("nickname") or "")
    versions = _list(item.get("versions")) or ["v0"]
    name = slug(nickname or full)
    tags = tuple(str(t) for t in _list(item.get("tags")))
    title, description = str(item.get("name", "")), str(item.get("description", ""))
    aliases = (full, *(f"{full}/{v}" for v in versions))
    summary = ModelSummary(
        id=name,
        name=title,
        description=description,
        tags=tags,
        license=str(item.get("license", "")),
        authors=tuple(
            str(a["name"])
            for a in _list(item.get("authors"))
            if isinstance(a, dict) and "name" in a
        ),
        task=task_of(tags, title, description),
        icon=str(item.get("nickname_icon") or ""),
        aliases=aliases,
    )
    return Entry(
        id=name,
        version=slug(str(versions[0])) or "v0",
        url=str(item["rdf_source"]),
        sha256="",
        summary=summary,
        aliases=aliases,
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
