"""The card of a package: its facts in plain words, as text and as HTML that is safe to show."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from biozoo.files import size_text
from biozoo.package import ModelPackage, builtin_packages
from biozoo_model_cards import ModelCard, render_markdown, tensor_words
from biozoo_model_cards.words import dimensions
from packages import change_rdf, make_package

DANGEROUS = {"script", "style", "iframe", "object", "embed", "form", "input", "button", "link",
             "meta", "base", "svg", "math", "video", "audio", "source"}  # fmt: skip


class _Seen(HTMLParser):
    """Tags and attributes of a fragment, as a browser would meet them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def _is_safe(html: str) -> bool:
    for tag, attributes in _Seen(html).tags:
        if tag in DANGEROUS or any(name.startswith("on") or name == "style" for name in attributes):
            return False
        source, link = attributes.get("src"), attributes.get("href")
        if source is not None and not source.startswith("served/"):
            return False
        if link is not None and not link.lower().startswith(("http://", "https://", "mailto:")):
            return False
    return True


# ----------------------------------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (
            {"id": "raw", "axes": [
                {"type": "batch"},
                {"type": "channel", "channel_names": ["nuclei"]},
                {"type": "space", "id": "y", "size": {"min": 128, "step": 16}},
                {"type": "space", "size": {"min": 128, "step": 16}}]},
            "one channel (nuclei), 2D, any bit depth, 128 pixels or more in steps of 16",
        ),
        (
            {"id": "raw", "axes": [
                {"type": "space", "id": "z", "size": 16},
                {"type": "space", "id": "y", "size": 64},
                {"type": "space", "id": "x", "size": 64}]},
            "one channel, 3D, any bit depth, z exactly 16 pixels, "
            "y exactly 64 pixels, x exactly 64 pixels",
        ),
        (
            {"name": "raw", "axes": "bcyx", "shape": [1, 3, 256, 256]},
            "three channels, 2D, any bit depth, exactly 256 pixels",
        ),
        (
            {"name": "raw", "axes": "bczyx",
             "shape": {"min": [1, 1, 4, 32, 32], "step": [0, 0, 1, 16, 16]}},
            "one channel, 3D, any bit depth, z 4 pixels or more, y 32 pixels or more in steps of "
            "16, x 32 pixels or more in steps of 16",
        ),
        ({"id": "vector", "axes": [{"type": "batch"}, {"type": "index", "size": 9}]},
         "no image"),
    ],
)  # fmt: skip
def test_an_input_in_plain_words(tensor: dict[str, Any], words: str) -> None:
    assert tensor_words(tensor, is_input=True).summary == words


def test_an_output_names_its_range_and_channels() -> None:
    old = {"name": "out", "axes": "bcyx", "data_type": "float32", "data_range": [0, 1],
           "shape": {"reference_tensor": "raw", "scale": [1, 0, 1, 1],
                     "offset": [0, 1, 0, 0]}}  # fmt: skip
    assert tensor_words(old, is_input=False).summary == "two channels, 2D, values from 0 to 1"
    new = {"id": "out", "axes": [{"type": "channel", "channel_names": ["channel0", "channel1"]}],
           "data": {"type": "uint8"}}  # fmt: skip
    words = tensor_words(new, is_input=False)
    assert (words.summary, words.channels) == ("two channels, uint8", ())


def test_sizes_and_dimensions_are_said_as_people_say_them() -> None:
    assert [size_text(n) for n in (0, 999, 1830, 2_937_387, 5_100_000_000)] == [
        "0 B", "999 B", "1.83 kB", "2.94 MB", "5.1 GB",
    ]  # fmt: skip
    assert dimensions([("batch", "channel", "y", "x"), ("z", "y", "x")]) == "2D and 3D"
    assert dimensions([("batch", "index")]) == ""


# ------------------------------------------------------------------------------------------ card


def test_the_card_of_a_package(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(
        folder,
        authors=[{"name": "Ada;@bioimage-io", "affiliation": "EMBL"}, {"name": "Ben"}],
        cite=[
            {"text": "A paper", "doi": "10.1000/xyz"},
            {"text": "A page", "url": "javascript:alert(1)"},
        ],
        config={"bioimageio": {
            "out_of_scope_use": "Not for diagnosis.",
            "evaluations": [{
                "dataset_id": "cells", "dataset_role": "test", "sample_count": 7,
                "evaluation_factors": ["all"], "evaluation_factors_long": ["every image"],
                "metrics": ["AP50"], "metrics_long": ["average precision"], "results": [[0.81234]],
            }],
        }},
    )  # fmt: skip
    card = ModelCard.of(ModelPackage.from_folder(folder))
    assert card.authors == ("Ada (EMBL)", "Ben")
    assert [c.url for c in card.citations] == ["https://doi.org/10.1000/xyz", ""]
    assert card.evaluations[0].rows == (("AP50", "average precision", ("0.812",)),)
    assert card.limits == (("Not for", "Not for diagnosis."),)
    facts = dict(card.facts)
    assert facts["Takes"].startswith("one channel, 2D, any bit depth, 8 pixels or more")
    assert facts["Safety"] == "runs no code of its author"

    text = card.to_text()
    assert max(len(line) for line in text.splitlines()) <= 96
    for words in ("Tiny blur", "Not for diagnosis.", "0.812", "10.1000/xyz", "Made for tests."):
        assert words in text
    html = card.to_html()
    assert "0.812" in html
    assert "javascript:" not in html
    assert _is_safe(html)


def test_words_of_strangers_are_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script><img src=x onerror=alert(1)>"
    folder = make_package(
        tmp_path / "tiny",
        fields={"name": attack, "description": attack, "license": attack,
                "authors": [{"name": attack}], "cite": [{"text": attack, "url": attack}]},
        validate=False,
    )  # fmt: skip
    (folder / "README.md").write_text(attack)
    html = ModelCard.of(ModelPackage.from_folder(folder)).to_html()
    assert _is_safe(html)
    assert "&lt;script&gt;" in html


def test_a_card_is_made_of_descriptions_that_make_no_sense(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(
        folder,
        authors="me", cite={"text": 1}, inputs=[{"axes": "bcyx", "shape": "?"}, "x"], outputs=[{}],
        config={"bioimageio": {"evaluations": [{"results": 3}], "bias_risks_limitations": "?"}},
    )  # fmt: skip
    card = ModelCard.of(ModelPackage.from_folder(folder))
    assert card.to_text()
    assert _is_safe(card.to_html())


def test_the_built_in_models_have_complete_cards() -> None:
    for package in builtin_packages():
        card = ModelCard.of(package)
        labels = {label for label, _ in card.facts}
        assert {"Task", "Takes", "Gives", "Licence", "Authors", "Trained on"} <= labels
        assert card.evaluations, "a built-in model says how well it works"
        assert {"Not for", "Known biases", "Risks", "Advice"} == {label for label, _ in card.limits}
        assert _is_safe(card.to_html())


@pytest.mark.shared
def test_every_published_description_has_a_card(shared: Path) -> None:
    files = sorted((shared / "corpus" / "rdfs").glob("*.yaml"))
    assert len(files) > 90
    for file in files:
        package = ModelPackage.from_folder(file.parent, rdf=file)
        for key, is_input in (("inputs", True), ("outputs", False)):
            for tensor in package.raw[key]:
                assert tensor_words(tensor, is_input=is_input).summary, file.name
        card = ModelCard.of(package)
        assert card.name in card.to_text()
        assert _is_safe(card.to_html()), file.name


def test_a_card_costs_no_import_of_the_specification() -> None:
    code = (
        "import sys, biozoo_model_cards as m; from biozoo.package import builtin_packages\n"
        "[m.ModelCard.of(p).to_text() for p in builtin_packages()]\n"
        "heavy = {'bioimageio', 'torch', 'onnxruntime', 'gradio', 'fastapi', 'jinja2', 'xarray'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# -------------------------------------------------------------------------------------- markdown


def _served(path: str) -> str | None:
    return f"served/{path}" if path == "in.png" else None


def test_markdown_keeps_what_is_harmless() -> None:
    html = render_markdown(
        "# Title\n\nSome *words* and `code`.\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n"
        "[paper](https://example.org) ![ours](in.png)\n\n<b>bold</b> H<sub>2</sub>O",
        image_url=_served,
    )
    assert "<h4>Title</h4>" in html
    assert 'src="served/in.png"' in html
    assert 'href="https://example.org"' in html
    for part in ("<em>words</em>", "<td>2</td>", "noopener", "<b>bold</b>", "<sub>2</sub>"):
        assert part in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<ScRiPt src=https://evil.example/x.js></ScRiPt>",
        "<img src=x onerror=alert(1)>",
        "<img src='https://evil.example/pixel.png'>",
        "![track](https://evil.example/pixel.png) ![t](//evil.example/p.png) ![d](data:image/x)",
        "![up](../../secret.png) ![abs](/etc/passwd.png)",
        "[x](javascript:alert(1)) [y](JaVaScRiPt:alert(1)) [z](data:text/html,x) [v](vbscript:x)",
        "<a href='javascript:alert(1)'>x</a> <a href=' java\tscript:alert(1)'>y</a>",
        "<iframe src=https://evil.example></iframe><object data=x></object><embed src=x>",
        "<svg onload=alert(1)><script>alert(1)</script></svg><math><mtext></math>",
        "<style>*{background:url(https://evil.example)}</style><p style='background:url(x)'>",
        "<form action=https://evil.example><input name=a><button>Go</button></form>",
        "<base href=https://evil.example><meta http-equiv=refresh content=0><link rel=stylesheet>",
        "[broken](http://[) <http://[>",
    ],
)
def test_markdown_drops_what_could_harm(text: str) -> None:
    assert _is_safe(render_markdown(text, image_url=_served))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["<img ", "src=", "onerror=", "'", '"', ">", "<", "script", "javascript:", "](", "![",
             "[x", ")", "<svg", "/", "https://e.example/", "`", "\n\n", "<!--", "-->", "&#106;"]
        ),
        max_size=14,
    ).map("".join)
)  # fmt: skip
def test_no_mixture_of_pieces_gets_through(text: str) -> None:
    assert _is_safe(render_markdown(text, image_url=_served))
