"""Citations as BibTeX: a parser of our own reads what is written, whatever a stranger wrote."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biozoo import rdf
from biozoo_model_cards.citing import Citation, bibtex, citations


def parse_bibtex(text: str) -> dict[str, dict[str, str]]:
    """Key -> fields, as BibTeX reads them: braces are counted, also behind a backslash."""
    entries: dict[str, dict[str, str]] = {}
    at = 0
    while (at := text.find("@", at)) >= 0:
        head = re.compile(r"@([a-z]+)\{([^\s,{}\"#%'()=~\\]+),").match(text, at)
        assert head, text[at : at + 60]
        at, fields, key = head.end(), {}, head[2]
        assert key not in entries, f"{key} stands twice"
        while True:
            space = re.compile(r"[\s,]*").match(text, at)
            at = space.end() if space else at
            if text[at] == "}":
                at += 1
                break
            field = re.compile(r"([a-z]+)\s*=\s*\{").match(text, at)
            assert field, text[at : at + 60]
            at = start = field.end()
            depth = 1
            while depth:
                depth += {"{": 1, "}": -1}.get(text[at], 0)
                at += 1
            assert field[1] not in fields
            fields[field[1]] = text[start : at - 1]
        entries[key] = fields
    return entries


def _model(*cited: Citation, **changed: Any) -> dict[str, dict[str, str]]:
    facts: dict[str, Any] = {
        "id": "nuclei", "name": "Nuclei", "version": "1", "authors": ["Ada Lovelace"],
        "year": "2026", "url": "https://example.org/x_y",
    }  # fmt: skip
    return parse_bibtex(bibtex(**{**facts, **changed}, cited=cited))


def test_the_model_and_what_it_cites_have_entries() -> None:
    cite = [
        {"text": "Stringer, C., Wang, T., Michaelos, M. et al. Cellpose: a generalist algorithm "
                 "for cellular segmentation. Nat Methods 18, 100–106 (2021).",
         "doi": "10.1038/s41592-020-01018-x"},
        {"text": "architecture", "doi": "10.1007/978-3-319-24574-4_28"},
        {"text": "data", "url": "https://www.nature.com/a_b%20c#d"},
    ]  # fmt: skip
    found = _model(*citations({"cite": cite}))
    assert found["nuclei"] == {
        "author": "Ada Lovelace",
        "title": "{Nuclei}",
        "year": "2026",
        "howpublished": "bioimage.io model, version 1",
        "url": "https://example.org/x_y",
    }
    assert found["stringer2021"] == {
        "author": "Stringer, C. and Wang, T. and Michaelos, M. and others",
        "title": "{Cellpose: a generalist algorithm for cellular segmentation}",
        "year": "2021",
        "note": "Nat Methods 18, 100–106 (2021).",
        "doi": "10.1038/s41592-020-01018-x",
    }
    assert found["architecture"] == {
        "title": "{architecture}", "doi": "10.1007/978-3-319-24574-4_28"
    }  # fmt: skip
    assert found["data"]["url"] == "https://www.nature.com/a_b%20c#d"


@pytest.mark.parametrize(
    "text",
    [
        "Beuttenmueller, Wagner, N., F., Norlin, N. et al. Deep learning. Nat Methods (2021).",
        "Stringer, Carsen, and Marius Pachitariu. Cellpose3: restoration. bioRxiv (2024).",
        "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks. MICCAI 2015",
        'Krull, A., Buchholz, T.O. and Jug, F., 2019. "Noise2Void - Learning denoising".',
        "Falk et al. Nature Methods 2019",
        "Padovani, F., Su, X.A., Cabianca D. S., Köhler, S. SpotMAX: a framework, bioRxiv (2024)",
    ],
)
def test_authors_are_only_taken_from_a_text_that_leaves_no_doubt(text: str) -> None:
    entry = list(_model(Citation(text)).values())[1]
    assert "author" not in entry
    assert entry["title"].strip("{}").startswith(text[:20])
    assert re.fullmatch(r"20\d\d", entry["year"])


def test_several_years_are_no_year() -> None:
    entry = list(_model(Citation("The 2018 Data Science Bowl, read in 2019")).values())[1]
    assert "year" not in entry


def test_keys_differ_and_are_plain() -> None:
    same = [Citation("Çiçek, Özgün, et al. MICCAI 2016")] * 3 + [Citation("世界")] * 2
    keys = list(_model(*same, Citation("2018 Bowl")))
    assert keys == [
        "nuclei", "cicekozgunet2016", "cicekozgunet2016-2", "cicekozgunet2016-3", "cited",
        "cited-2", "c2018bowl2018",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("Ada Lovelace", "Ada Lovelace"),
        ("biozoo contributors", "{biozoo contributors}"),
        ("Broad Institute, Cambridge", "{Broad Institute, Cambridge}"),
        ("Smith and Sons", "{Smith and Sons}"),
        ("Jean Luc van Houten", "{Jean Luc van Houten}"),
    ],
)
def test_a_name_that_is_no_plain_persons_stays_whole(name: str, written: str) -> None:
    assert _model(authors=[name])["nuclei"]["author"] == written


def test_what_means_something_to_tex_is_spelt_out() -> None:
    entry = _model(name=r"50 % of \input{/etc/passwd} & {$x_1^2$} #~")["nuclei"]
    assert entry["title"] == (
        r"{50 \% of \textbackslash{}input\textbraceleft{}/etc/passwd\textbraceright{} \& "
        r"\textbraceleft{}\$x\_1\textasciicircum{}2\$\textbraceright{} \#\textasciitilde{}}"
    )


@pytest.mark.parametrize(
    ("given", "doi"),
    [
        ("10.1038/s41592-019-0658-6,", "10.1038/s41592-019-0658-6"),
        ("https://doi.org/10.1000/xyz", "10.1000/xyz"),
        ("10.1000/x}, evil = {1", ""),
        ("10.1000/a b", ""),
        ("javascript:alert(1)", ""),
        (None, ""),
        (["10.1000/x"], ""),
    ],
)
def test_only_a_doi_is_a_doi(given: Any, doi: str) -> None:
    (found,) = citations({"cite": [{"text": "x", "doi": given}]})
    assert (found.doi, found.url) == (doi, f"https://doi.org/{doi}" if doi else "")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["{", "}", "\\", "%", "@misc{x,", ",\n", "=", '"', "#", "$", "Smith, A.", " et al. ",
             " and ", "(2019)", ". ", "\u202e", "\x1b", "title", "\ud800", "é"]
        ),
        max_size=20,
    ).map("".join)
)  # fmt: skip
def test_no_text_leaves_its_field(text: str) -> None:
    cited = citations({"cite": [{"text": text, "url": f"https://e.org/{text}", "doi": text}] * 2})
    found = _model(*cited, name=cited[0].text if cited else "x", authors=["Ada Lovelace"])
    assert len(found) == 1 + len(cited)
    bibtex(id="x", name="x", version="", authors=[], year="", url="", cited=cited).encode()


def test_a_hostile_citation_takes_no_time() -> None:
    start = time.process_time()
    for text in ("Aa, B., " * 120 + "x", "A" * 990, "Aa-" * 330, "Aa, A." * 160 + " et al"):
        bibtex(id="x", name="x", version="", authors=[], year="", url="", cited=[Citation(text)])
    assert time.process_time() - start < 5


@pytest.mark.shared
def test_every_published_citation_is_well_formed(shared: Path) -> None:
    files = sorted((shared / "corpus" / "rdfs").glob("*.yaml"))
    for file in files:
        cited = citations(rdf.read(file))
        found = _model(*cited)
        assert len(found) == 1 + len(cited)
        assert all(e.get("title") for e in found.values()), file.name


def test_a_citation_without_words_is_shown_once() -> None:
    address = "https://doi.org/10.1000/x"
    for text in (address, "doi:10.1000/x", "10.1000/x"):
        assert citations({"cite": [{"text": text, "doi": "10.1000/x"}]}) == (
            Citation("", address, "10.1000/x"),
        )
    [entry] = parse_bibtex(bibtex(id="m", name="M", version="", authors=[], year="", url="",
                                  cited=citations({"cite": [{"text": address, "doi": "10.1000/x"}]})
                                  ).split("\n\n")[1]).values()  # fmt: skip
    assert (entry["title"], entry["doi"]) == (f"{{{address}}}", "10.1000/x")
