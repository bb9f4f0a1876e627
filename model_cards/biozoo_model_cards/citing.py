"""What to cite, in words and as BibTeX.

A description gives a citation as one text with a DOI or an address. Authors and title are taken
apart only where the text can be read in one way, `Surname, I., Surname, I. et al. Title. Rest` or
`Surname, I. (2019) Title. Rest`; everything else stays whole, as the title of a `@misc`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from .clean import items, one_line, web

__all__ = ["Citation", "bibtex", "citations"]


@dataclass(frozen=True)
class Citation:
    """What to cite, in words or by an address.

    `url` is an http(s) address or empty, `doi` is empty or well-formed; `text` is empty where it
    would only repeat them.
    """

    text: str
    url: str = ""
    doi: str = ""


def citations(rdf: Mapping[str, Any]) -> tuple[Citation, ...]:
    """The `cite` entries of a raw description."""
    made = []
    for entry in items(rdf.get("cite"))[:100]:
        doi = _doi(entry.get("doi"))
        url = web(f"https://doi.org/{quote(doi, safe='/()-._;:')}") if doi else ""
        url = url or web(entry.get("url"))
        text = one_line(entry.get("text"))
        bare = text == url or (doi and _doi(text) == doi)  # no words, the address again
        made.append(Citation("" if bare else text, url, doi))
    return tuple(c for c in made if c.text or c.url)


def _doi(value: Any) -> str:
    text = one_line(value, 200).rstrip(".,; ")
    text = re.sub(r"^(https?://(dx\.)?doi\.org/|doi:\s*)", "", text, flags=re.IGNORECASE)
    return text if re.fullmatch(r"10\.\d{4,9}/[\w.()/:;<>+-]+", text) else ""


# ------------------------------------------------------------------------------------------ bibtex

_NAME = r"(?<!\w)(?!and )[^\W\d_][\w'’-]+(?: (?!and )[^\W\d_][\w'’-]+)?, (?:[^\W\d_]\.[ -]?){1,4}"
_PARTED = re.compile(
    rf"^(?P<names>{_NAME}(?:(?:,? ?and |,? ?& |, ){_NAME})*)"
    r"(?:(?P<others>,? ?et al\.,?)|(?: ?\((?:19|20)\d\d\)[.,]?))+ *(?P<rest>[^\W\d_].*)$"
)


def bibtex(
    *,
    id: str,
    name: str,
    version: str,
    authors: Sequence[str],
    year: str,
    url: str,
    cited: Iterable[Citation],
) -> str:
    """Entries for the model itself and for each citation, with keys that differ.

    Parameters
    ----------
    id, name, version, authors, year, url
        Of the model; `authors` as people write their names, `year` and `url` may be "".
    cited
        As `citations` gives them.
    """
    keys: set[str] = set()
    about = f"bioimage.io model{f', version {version}' if version else ''}"
    entries = [
        _entry(
            _key(id, "", keys),
            author=" and ".join(_whole_name(a) for a in authors if a),
            title=_protected(name),
            year=year,
            howpublished=_escaped(about),
            url=_address(url),
        )
    ]
    for citation in cited:
        entries.append(_cited(citation, keys))
    return "\n\n".join(entries) + "\n"


def _cited(citation: Citation, keys: set[str]) -> str:
    text = citation.text
    found = _PARTED.match(text) if len(text) < 1000 else None
    year = _year(text)
    names: list[str] = []
    title, note = text, ""
    if found:
        names = re.findall(_NAME, found["names"])
        title, _, note = found["rest"].strip(' "“”').partition(". ")
        title, note = title.strip(' ."“”'), note.strip(' "“”')
        if len(title) < 10:  # a journal, or nothing at all
            names, title, note = [], text, ""
    author = " and ".join(_escaped(n.strip(" ,")) for n in names)
    if names and found and found["others"]:
        author += " and others"
    first = names[0].partition(",")[0] if names else text
    return _entry(
        _key(first, year, keys),
        author=author,
        title=_protected(title or citation.url),
        year=year,
        note=_escaped(note),
        doi=citation.doi,
        url="" if citation.doi else _address(citation.url),
    )


def _entry(key: str, **fields: str) -> str:
    """One `@misc`; empty fields are left out."""
    listed = [f"  {field} = {{{value}}}" for field, value in fields.items() if value]
    return f"@misc{{{key},\n" + ",\n".join(listed) + "\n}"


def _key(words: str, year: str, taken: set[str]) -> str:
    """ASCII letters and digits of the first words, unique among `taken`."""
    plain = unicodedata.normalize("NFKD", words).encode("ascii", "ignore").decode()
    parts = re.findall(r"[A-Za-z0-9]+", plain)[:3]
    stem = ("".join(parts).lower()[:30] or "cited") + year
    if stem[0].isdigit():
        stem = f"c{stem}"
    key, count = stem, 1
    while key in taken:
        count += 1
        key = f"{stem}-{count}"
    taken.add(key)
    return key


def _year(text: str) -> str:
    """The one year that a text names: the one in brackets, or the only one there is."""
    for pattern in (r"\(((?:19|20)\d\d)\)", r"(?<![\d.])((?:19|20)\d\d)(?![\d.]*\d)"):
        years = set(re.findall(pattern, text))
        if len(years) == 1:
            return str(years.pop())
    return ""


def _whole_name(name: str) -> str:
    """A name that BibTeX takes apart only where it is plainly given name and surname."""
    escaped = _escaped(name)
    words = name.split()
    person = len(words) in (2, 3) and all(re.match(r"[A-ZÀ-Þ]", w) for w in words)
    return escaped if person and "," not in name and "and" not in words else f"{{{escaped}}}"


def _protected(title: str) -> str:
    """In a second pair of braces, so that no style changes its letters' case."""
    return f"{{{_escaped(title)}}}" if title else ""


#: BibTeX counts braces even after a backslash, so a single one has to be spelt out.
_SPELT = {
    "\\": r"\textbackslash{}",
    "{": r"\textbraceleft{}",
    "}": r"\textbraceright{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{char: f"\\{char}" for char in "&%$#_"},
}


def _escaped(text: str) -> str:
    return "".join(_SPELT.get(char, char) for char in text)


def _address(url: str) -> str:
    """An address without what ends or unbalances a field; styles print it as it is otherwise."""
    return quote(url, safe="/:?#[]@!$&'()*+,;=%-._~") if url else ""
