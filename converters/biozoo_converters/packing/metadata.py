"""What only the author can say of a model, turned into the specification's fields or into faults.

Everything is looked at before anything is refused, so that a person corrects all of it in one go.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

from biozoo.summary import slug

from .licences import check_licence
from .pack_file import PackFile

__all__ = ["Metadata", "author", "check_metadata", "citation"]

_NAME = re.compile(r"[A-Za-z0-9_+\- ()]*")
_DOI = re.compile(r"\b10\.\d{4,9}/[^\s;,\"<>]+[^\s;,.\"<>)]")
_URL = re.compile(r"https?://[^\s;,\"<>]+[^\s;,.\"<>)]")
_ORCID = re.compile(r"\b\d{4}-\d{4}-\d{4}-\d{3}[\dX]\b")
_EMAIL = re.compile(r"<?([^\s<>;@]+@[^\s<>;@]+\.[^\s<>;@]+)>?")
_GITHUB = re.compile(r"(?:github:|https://github\.com/)([A-Za-z0-9-]+)/?")
_VERSION = re.compile(r"\d+(\.\d+){0,2}([-+.a-zA-Z0-9]*)")

#: A citation must have a DOI or an address: where the author gives neither, one that finds it.
_SEARCH = "https://search.crossref.org/search/works?q={}&from_ui=yes"


@dataclass(frozen=True)
class Metadata:
    """The checked facts of the author, as they stand in a description.

    Attributes
    ----------
    fields
        Top-level fields of the description but files, tensors, weights and config.
    notes
        Sentences for the author: what was assumed, what would make the package better.
    """

    fields: Mapping[str, Any]
    notes: tuple[str, ...] = ()


@dataclass
class _Found:
    fields: dict[str, Any] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def check_metadata(pack: PackFile) -> tuple[Metadata, dict[str, str]]:
    """The author's facts, and field -> what is missing or wrong, with the option that gives it."""
    found = _Found()
    _names(pack, found)
    _people(pack, found)
    _licence(pack, found)
    _citations(pack, found)
    _identity(pack, found)
    _lineage(pack, found)
    _files(pack, found)
    return Metadata(found.fields, tuple(found.notes)), found.faults


# ------------------------------------------------------------------------------------------ parts


def _names(pack: PackFile, found: _Found) -> None:
    name = " ".join((pack.name or "").split())
    if not name:
        found.faults["name"] = "is missing. Give --name 'Nuclei in fluorescence images (2D U-Net)'"
    elif not _NAME.fullmatch(name):
        odd = " ".join(dict.fromkeys(c for c in name if not _NAME.fullmatch(c)))
        better = " ".join(re.sub(r"[^A-Za-z0-9_+\- ()]", " ", name).split())
        found.faults["name"] = (
            f"may hold letters, digits and _+- () only, not {odd} ; write --name '{better}'"
        )
    elif len(name) > 128:
        found.faults["name"] = f"has {len(name)} characters, 128 at most are allowed. Shorten it"
    else:
        if len(name) < 5:
            longer = f"{name} model"
            found.notes.append(
                f"the specification asks for a name of 5 characters at least: '{name}' is "
                f"written '{longer}'"
            )
            name = longer
        found.fields["name"] = name
    text = " ".join((pack.description or "").split())
    if not text:
        found.faults["description"] = (
            "is missing. Give --description 'What it finds, in which images'"
        )
    elif len(text) > 1024:
        found.faults["description"] = (
            f"has {len(text)} characters, 1024 at most are allowed. Put more into --documentation"
        )
    else:
        if len(text) > 512:
            found.notes.append(
                f"the description has {len(text)} characters; bioimage.io recommends 512 at most"
            )
        found.fields["description"] = text


def _people(pack: PackFile, found: _Found) -> None:
    authors = _each(pack.authors, "authors", author, found)
    if not pack.authors:
        found.faults["author"] = (
            "is missing. Give --author 'Name; affiliation; orcid; github:user', once for each"
        )
    elif authors:
        found.fields["authors"] = authors
    if packers := _each(pack.packaged_by, "packaged_by", author, found):
        found.fields["packaged_by"] = packers
    maintainers = _each(pack.maintainers, "maintainers", _maintainer, found)
    if maintainers:
        found.fields["maintainers"] = maintainers
    elif authors and not any(a.get("github_user") for a in authors):
        found.notes.append(
            "nobody is named with a GitHub account, whom bioimage.io would ask: add it to an "
            "author (--author 'Name; github:user') or give --maintainer USER"
        )


def _each(values: list[Any], name: str, make: Any, found: _Found) -> list[dict[str, Any]]:
    made = []
    for i, value in enumerate(values):
        try:
            made.append(make(value))
        except ValueError as exc:
            found.faults[name if len(values) == 1 else f"{name}.{i}"] = str(exc)
    return made


def author(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """An author from "Name", "Name <email>", "Name; affiliation; orcid; github:user", in any order
    after the name, or the specification's mapping.

    Raises
    ------
    ValueError
        Says which part cannot be used.
    """
    if isinstance(value, Mapping):
        made = dict(value)
        if not str(made.get("name") or "").strip():
            raise ValueError("has no name")
        return _person(made)
    made = {}
    first, *rest = [part.strip() for part in value.split(";")]
    if mail := _EMAIL.search(first):
        made["email"], first = mail[1], first.replace(mail[0], "").strip()
    if not first:
        raise ValueError(f"'{value}' has no name. Write 'Name; affiliation; orcid'")
    made["name"] = first.strip(",")
    other = []
    for part in filter(None, rest):
        if user := _GITHUB.fullmatch(part):
            made["github_user"] = user[1]
        elif orcid := _ORCID.search(part):
            made["orcid"] = orcid[0]
        elif mail := _EMAIL.fullmatch(part):
            made["email"] = mail[1]
        else:
            other.append(part)
    if other:
        made["affiliation"] = "; ".join(other)
    order = ("name", "affiliation", "email", "github_user", "orcid")
    return _person({key: made[key] for key in order if key in made})


def _person(made: dict[str, Any]) -> dict[str, Any]:
    name = str(made.get("name") or "")
    if "/" in name or "\\" in name:
        raise ValueError(f"the name '{name}' may hold no slash")
    orcid = made.get("orcid")
    if orcid and not _orcid_holds(str(orcid)):
        raise ValueError(f"'{orcid}' is no valid ORCID iD (its last digit is a checksum)")
    return made


def _orcid_holds(orcid: str) -> bool:
    """ISO 7064 11,2, as ORCID has it."""
    digits = orcid.rpartition("/")[2].replace("-", "")
    if not re.fullmatch(r"\d{15}[\dX]", digits):
        return False
    total = 0
    for digit in digits[:-1]:
        total = (total + int(digit)) * 2
    check = (12 - total % 11) % 11
    return digits[-1] == ("X" if check == 10 else str(check))


def _maintainer(value: str | Mapping[str, Any]) -> dict[str, Any]:
    if isinstance(value, Mapping):
        if not value.get("github_user"):
            raise ValueError("needs a github_user")
        return _person(dict(value))
    user = re.sub(r"^(@|github:|https://github\.com/)", "", value.strip())
    if not re.fullmatch(r"[A-Za-z0-9-]+", user):
        raise ValueError(f"'{value}' is no GitHub user name")
    return {"github_user": user}


def _licence(pack: PackFile, found: _Found) -> None:
    if not (pack.license or "").strip():
        found.faults["license"] = (
            "is missing. Give --license and an SPDX id, for example MIT, BSD-3-Clause, CC-BY-4.0"
        )
        return
    licence = check_licence(pack.license or "")
    if licence.fault:
        found.faults["license"] = licence.fault
    else:
        found.fields["license"] = licence.id
    if licence.note:
        found.notes.append(licence.note)


def _citations(pack: PackFile, found: _Found) -> None:
    if not pack.cite:
        found.faults["cite"] = (
            "is missing. Give --cite 'Author: Title. Journal, year. 10.1234/doi', once for each; "
            "a DOI or an address alone will do"
        )
        return
    made = _each(pack.cite, "cite", citation, found)
    for entry in made:
        if entry.get("url", "").startswith(_SEARCH.partition("{")[0]):
            found.notes.append(
                f"the citation '{entry['text']}' has no DOI or address, and the specification "
                "wants one: a search for its text stands there. Add a DOI if there is one"
            )
    if made:
        found.fields["cite"] = made


def citation(value: str | Mapping[str, Any]) -> dict[str, Any]:
    """A citation from a text that may hold a DOI or an address, or the specification's mapping.

    A text alone gets an address that searches for it: the specification takes none without.

    Raises
    ------
    ValueError
        It is empty.
    """
    if isinstance(value, Mapping):
        made = {k: v for k, v in value.items() if v}
        if not (made.get("text") or made.get("doi") or made.get("url")):
            raise ValueError("needs a text and a doi or url")
        if made.get("doi"):
            made["doi"] = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:)", "", str(made["doi"]))
            if not _DOI.fullmatch(made["doi"]):
                raise ValueError(f"'{made['doi']}' is no DOI; one looks like 10.1234/abc")
        elif not made.get("url"):
            return citation(str(made["text"]))
        made.setdefault("text", _address(made))
        return {k: made[k] for k in ("text", "doi", "url") if k in made}
    text = " ".join(value.split())
    if not text:
        raise ValueError("is empty")
    if doi := _DOI.search(text):
        rest = re.sub(
            r"(https?://(dx\.)?doi\.org/|doi:\s*)?" + re.escape(doi[0]), "", text, count=1
        )
        return {"text": _trimmed(rest) or f"https://doi.org/{doi[0]}", "doi": doi[0]}
    if url := _URL.search(text):
        return {"text": _trimmed(text.replace(url[0], "", 1)) or url[0], "url": url[0]}
    return {"text": text, "url": _SEARCH.format(quote(text, safe=""))}


def _address(made: Mapping[str, Any]) -> str:
    return f"https://doi.org/{made['doi']}" if made.get("doi") else str(made["url"])


def _trimmed(text: str) -> str:
    return " ".join(text.split()).strip(" .;,()")


def _identity(pack: PackFile, found: _Found) -> None:
    name = found.fields.get("name", "")
    if pack.id is not None and not re.fullmatch(r"[a-z0-9_\-.]+", pack.id):
        found.faults["id"] = (
            f"'{pack.id}' may hold small letters, digits and _-. only; write --id "
            f"{slug(pack.id) or 'my-model'}"
        )
    elif pack.id or name:
        found.fields["id"] = pack.id or slug(re.sub(r"[()+]", " ", name)) or "model"
    if pack.version is not None:
        if _VERSION.fullmatch(pack.version):
            found.fields["version"] = pack.version
        else:
            found.faults["version"] = f"'{pack.version}' is no version; one looks like 0.1.0"
    if pack.version_comment:
        found.fields["version_comment"] = pack.version_comment
    stamp = pack.timestamp
    if stamp is None and os.environ.get("SOURCE_DATE_EPOCH", "").isdigit():
        stamp = datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), UTC).isoformat()
    if stamp is not None:
        try:
            found.fields["timestamp"] = datetime.fromisoformat(stamp).isoformat()
        except ValueError:
            found.faults["timestamp"] = f"'{stamp}' is no time; one looks like 2026-01-31T12:00:00"
    if pack.git_repo:
        if _URL.fullmatch(pack.git_repo):
            found.fields["git_repo"] = pack.git_repo
        else:
            found.faults["git_repo"] = f"'{pack.git_repo}' is no address; one starts with https://"
    if pack.links:
        found.fields["links"] = list(pack.links)
    for short in ("id_emoji", "icon"):
        if value := getattr(pack, short):
            if len(value) <= 2:
                found.fields[short] = value
            else:
                found.faults[short] = "has 2 characters at most: an emoji"


def _lineage(pack: PackFile, found: _Found) -> None:
    for name in ("parent", "training_data"):
        value = getattr(pack, name)
        if isinstance(value, str):
            if re.fullmatch(r"[a-z0-9_\-./]+", value) and value.strip("/") == value:
                found.fields[name] = {"id": value}
            else:
                found.faults[name] = f"'{value}' is no id; one looks like affable-shark"
        elif value:
            found.fields[name] = dict(value)
    if isinstance(pack.training_data, dict):
        data = found.fields["training_data"]
        if "id" not in data or "name" in data:
            data.setdefault("type", "dataset")
            data.setdefault("format_version", "0.3.0")


def _files(pack: PackFile, found: _Found) -> None:
    """Every file that is named must be there, whatever else is wrong."""
    named: list[tuple[str, Path | None]] = [
        ("weights", pack.weights),
        ("documentation", pack.documentation),
        ("environment", pack.environment),
        *(
            (f"cover{'' if len(pack.covers) == 1 else f'.{i}'}", c)
            for i, c in enumerate(pack.covers)
        ),
        *((f"attachments.{i}", a) for i, a in enumerate(pack.attachments)),
    ]
    for name, path in named:
        if path is not None and not path.is_file():
            kind = "is a folder, a file was expected" if path.is_dir() else "does not exist"
            found.faults[name] = f"{path} {kind}{_similar(path)}"
    if pack.documentation is not None and "documentation" not in found.faults:
        if pack.documentation.suffix.lower() != ".md":
            found.faults["documentation"] = f"{pack.documentation} must be a Markdown file (.md)"
        elif not re.search("#.*[vV]alidation", pack.documentation.read_text("utf-8", "replace")):
            found.notes.append(
                "the documentation has no section '## Validation': bioimage.io asks there how to "
                "check the model on images of one's own"
            )
    for path in pack.covers:
        if path.is_file() and path.suffix.lower() not in (".png", ".jpg", ".jpeg", ".gif", ".svg"):
            found.faults["cover"] = f"{path} is no .png, .jpg, .gif or .svg"


def _similar(path: Path) -> str:
    import difflib

    try:
        near = difflib.get_close_matches(path.name, [p.name for p in path.parent.iterdir()], n=2)
    except OSError:
        return f", nor does its folder {path.parent}"
    return f"; did you mean {' or '.join(near)}?" if near else ""
