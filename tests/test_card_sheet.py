"""The whole card: one HTML file, Markdown for Hugging Face, JSON and text of the same facts."""

from __future__ import annotations

import json
import re
import shlex
import time
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image
from typer.testing import CliRunner

from biozoo import rdf
from biozoo.package import ModelPackage, builtin_packages
from biozoo.sources import open_package
from biozoo_model_cards import ModelCard, Sheet
from biozoo_model_cards.completeness import CHECKS
from biozoo_model_cards.licence import HUGGING_FACE, licence
from biozoo_model_cards.readme import documentation_text, front_matter, plain_text
from biozoo_ui.cli.app import app
from packages import change_rdf, make_package, zip_package
from test_card_citing import parse_bibtex

DOCS = Path(__file__).parents[1] / "docs" / "model-cards.md"

CERTIFICATE = {
    "format": 1,
    "ok": True,
    "reference": {"format": "pytorch_state_dict", "name": "net.py:Net", "sha256": "a" * 64,
                  "seconds_per_megapixel": 0.81},
    "proofs": [
        {
            "weights_format": "onnx", "ok": True, "runs_on": "onnxruntime 1.32.0",
            "strategy": "dynamo", "optimised": "onnxslim", "opset": 18,
            "seconds_per_megapixel": 0.052,
            "tolerance": {"relative": 0.001, "absolute": 0.001, "per_million": 100},
            "worst": {"absolute_error": 3.1e-6, "relative_error": 2e-6, "off_per_million": 0},
            "cases": [
                {"shapes": {"raw": [1, 1, n, 64]}, "kind": kind, "ok": True,
                 "absolute_error": 1e-6, "relative_error": 1e-6, "off_per_million": 0}
                for n, kind in ((64, "real"), (80, "random"), (96, "random"), (96, "random"))
            ],
            "batch": {"shapes": {"raw": [2, 1, 64, 64]}, "kind": "batch", "ok": True},
            "tiled": {"shapes": {"raw": [1, 1, 128, 128]}, "kind": "tiled", "ok": False},
        },
        {"weights_format": "torchscript", "ok": False, "fault": "wrong at 1 x 1 x 80 x 64"},
    ],
    "versions": {"biozoo": "0.1.0", "torch": "2.14.1"},
}  # fmt: skip


class Page(HTMLParser):
    """What a browser makes of a page: tags with attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text, self._open = "", []
        self.feed(html)
        assert not self._open, f"not closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "img", "br", "hr", "path", "circle"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        if tag not in ("path", "circle"):
            assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self._open:
            self.text += data

    def named(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def assert_alone(html: str) -> Page:
    """A page that needs nothing, runs nothing and is well-formed."""
    page = Page(html)
    forbidden = {"script", "iframe", "object", "embed", "form", "input", "button", "link", "base",
                 "math", "video", "audio", "source", "use", "foreignobject", "image"}  # fmt: skip
    assert not forbidden & {tag for tag, _ in page.tags}
    ids = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(ids) == len(set(ids))
    for tag, attributes in page.tags:
        assert not any(name.startswith("on") or name == "style" for name in attributes), tag
        if (source := attributes.get("src")) is not None:
            assert re.match(r"data:image/(png|jpeg);base64,[A-Za-z0-9+/=]+$", source)
        if (address := attributes.get("href")) is not None:
            ours = address.startswith("#") and address[1:] in ids
            assert ours or re.match(r"(https?://|mailto:)", address), address
        if tag == "img":
            assert attributes.get("alt") is not None
    refresh = [m for m in page.named("meta") if str(m.get("http-equiv")).lower() == "refresh"]
    assert not refresh
    assert len(page.named("h1")) == 1
    return page


def _sheet(folder: Path, **wishes: Any) -> Sheet:
    return Sheet.of(open_package(folder), **wishes)


@pytest.fixture
def rich(tmp_path: Path) -> Path:
    """A package that answers nearly every question."""
    folder = make_package(
        tmp_path / "tiny", inputs=1, channels=2, channel_names=("nuclei", "membrane"), halo=4,
        pixel_size={"y": 0.65, "x": 0.65}, validate=False,
    )  # fmt: skip
    change_rdf(
        folder,
        authors=[{"name": "Ada Lovelace", "affiliation": "EMBL", "orcid": "0000-0001-2345-678X"}],
        cite=[{"text": "A paper", "doi": "10.1000/xyz"}],
        parent={"id": "bioimage-io/affable-shark", "version": "1.2"},
        training_data={"id": "ilastik/cells"},
        config={
            "biozoo": {"certificate": CERTIFICATE},
            "bioimageio": {
                "out_of_scope_use": "Not for diagnosis.", "modality": "fluorescence microscopy",
                "target_structure": ["nuclei"], "task": "instance segmentation",
                "training": {"loss_function": "dice", "training_epochs": 12},
                "evaluations": [{
                    "dataset_id": "cells", "dataset_role": "test", "sample_count": 1234,
                    "dataset_source": "https://example.org/cells",
                    "evaluation_factors": ["all"], "evaluation_factors_long": ["every image"],
                    "metrics": ["AP50"], "metrics_long": ["average precision"],
                    "results": [[0.81234]], "results_summary": "Good enough.",
                }],
            },
        },
    )  # fmt: skip
    (folder / "pic.png").write_bytes((folder / "cover.png").read_bytes())
    text = "# Deep\n\nSee ![it](pic.png) and ![out](../x.png).\n\n" + "About the data. " * 40
    (folder / "README.md").write_text(text)
    change_rdf(folder, documentation={"source": "README.md"})
    return folder


# ------------------------------------------------------------------------------------------- html


def test_the_page_is_one_file_with_everything_in_it(rich: Path) -> None:
    html = _sheet(rich).to_html()
    page = assert_alone(html)
    for words in (
        "Tiny blur", "Not for diagnosis.", "instance segmentation, 2D", "8 + n × 4",
        "nuclei, membrane", "0.65 micrometer", "size of raw.y", "zoo run ./tiny image.tif -o out/",
        "biozoo.open(\"./tiny\")", "0.812", "1,234 images of cells", "Good enough.",
        "ilastik/cells", "bioimage-io/affable-shark 1.2", "dice", "@misc{tiny", "Ada Lovelace",
        "onnx agrees with the original network, net.py:Net (pytorch_state_dict)",
        "wrong at 1 x 1 x 80 x 64", "4 runs, 3 sizes, 1 with a real image", "3.1e-06", "52 ms",
        "810 ms", "a batch agrees with single images", "the network on tiles differs from",
        "dynamo, opset 18, optimised with onnxslim", "torch 2.14.1", "zoo certify ./tiny",
    ):  # fmt: skip
        assert words in page.text, words
    pictures = [i for i in page.named("img") if "Test " in str(i["alt"])]
    assert len(pictures) == 3
    assert "Test input raw, nuclei" in str(pictures[0]["alt"])
    assert sum(i["alt"] == "it" for i in page.named("img")) == 1
    assert len(html) < 200_000


def test_the_pages_policy_lets_its_own_style_in_and_nothing_else(rich: Path) -> None:
    import base64
    import hashlib

    html = _sheet(rich).to_html()
    (policy,) = [str(m["content"]) for m in Page(html).named("meta") if m.get("http-equiv")]
    style = html.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    assert "url(" not in style
    assert "@import" not in style
    for part in ("prefers-color-scheme:dark", "@media print", "size:A4", "max-width:640px"):
        assert part in style


def test_headings_are_an_outline(rich: Path) -> None:
    html = _sheet(rich).to_html()
    levels = [int(level) for level in re.findall(r"<h([1-6])", html)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_page_and_fragment_say_the_same(rich: Path) -> None:
    card = ModelCard.of(open_package(rich))
    fragment, page = Page(card.to_html()).text, Page(_sheet(rich).to_html()).text
    for words in ("0.812", "onnx agrees", "size of raw.y", "@misc{tiny", "Not for diagnosis."):
        assert words in fragment
        assert words in page


def test_the_fragment_shows_pictures_where_a_server_has_them(rich: Path) -> None:
    sheet = _sheet(rich)
    html = sheet.card.to_html(
        pictures=sheet.pictures, picture_url=lambda tensor, n: f"served/{tensor}/{n}"
    )
    assert [i.get("src") for i in Page(html).named("img")][:2] == ["served/raw/0", "served/raw/1"]


def test_the_card_says_whether_it_runs_here_and_names_nobodys_machine(
    rich: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import platform

    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    sheet = _sheet(rich)
    assert sheet.here is not None
    assert sheet.here.ok
    assert "onnx with" in sheet.here.how
    for text in (sheet.to_html(), sheet.to_markdown(), json.dumps(sheet.to_json())):
        assert "2023-11-14" in text
        assert str(rich.parent) not in text
        assert str(Path.home()) not in text
        assert not re.search(rf"\b{re.escape(platform.node())}\b", text) or len(platform.node()) < 4
    assert _sheet(rich).to_html() == sheet.to_html()
    assert _sheet(rich, check=False).here is None
    assert "run here" not in _sheet(rich, check=False).to_html()


def test_a_model_that_cannot_run_here_says_why_and_what_to_do(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    (folder / "net.py").write_text("class Net: ...")
    weights = {"source": "weights.onnx", "architecture": {"callable": "Net", "source": "net.py"}}
    change_rdf(folder, weights={"pytorch_state_dict": weights})
    here = _sheet(folder).here
    assert here is not None
    assert not here.ok
    assert "its author's code" in here.how
    assert any("zoo trust ./tiny" in note for note in here.notes)


def test_a_fault_is_told_without_the_paths_of_this_machine(
    rich: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from biozoo.errors import BackendError
    from biozoo_runners import check_machine

    def fails(*_: object) -> None:
        raise BackendError(f"{rich}/weights.onnx and {Path.home()}/x are bad.")

    monkeypatch.setattr(check_machine, "choose", fails)
    here = _sheet(rich).here
    assert here is not None
    assert (here.ok, here.how) == (False, "the package/weights.onnx and ~/x are bad.")


# ------------------------------------------------------------------------------------------ usage


def test_every_command_of_the_card_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The shell's lines, the Python and the addresses, typed as they stand."""
    import numpy as np
    import tifffile

    make_package(tmp_path / "pair", inputs=2)
    zip_package(make_package(tmp_path / "source" / "tiny one"), tmp_path / "tiny one.zip")
    for file in ("image.tif", "raw.tif", "raw1.tif"):
        tifffile.imwrite(tmp_path / file, np.ones((16, 16), np.float32))
    monkeypatch.chdir(tmp_path)
    for name in ("tiny one.zip", "pair"):
        usage = Sheet.of(open_package(Path(name))).usage
        assert usage.handle == f"./{name}"
        for line in usage.shell.splitlines():
            import shlex

            _, *words = shlex.split(line)
            result = CliRunner().invoke(app, words)
            assert result.exit_code == 0, f"{line}: {result.output}{result.stderr}"
        exec(compile(usage.python, "card", "exec"), {})
        assert "onnx" in capsys.readouterr().out
    assert list((tmp_path / "out").glob("*.ome.tif"))


BASE = "http://127.0.0.1:7860"


def test_the_addresses_of_the_card_are_routes(tmp_path: Path, biozoo_home: Path) -> None:
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from biozoo import Settings, Zoo
    from biozoo_ui.api import ServerSettings, create_app

    settings = Settings(home=biozoo_home, index_url="http://127.0.0.1:9/x", offline=True)
    package = Zoo(settings).add(make_package(tmp_path / "tiny", validate=False))
    usage = Sheet.of(package).usage
    assert "zoo add" not in usage.http
    lines = [shlex.split(line, comments=True) for line in usage.http.splitlines()]
    assert lines.pop(0) == ["zoo", "ui", "--no-browser"]
    upload, new_job, job, card_line = (line[-1].removeprefix(BASE) for line in lines)
    tifffile.imwrite(tmp_path / "image.tif", np.zeros((64, 64), np.uint8))
    server = create_app(ServerSettings(settings), pages=False)
    with TestClient(server, base_url=BASE) as client:
        client.get("/api/health")
        image = client.post(upload, content=(tmp_path / "image.tif").read_bytes()).json()
        asked = lines[1][lines[1].index("--json") + 1].replace("IMAGE", image["id"])
        made = client.post(new_job, json=json.loads(asked)).json()
        while (state := client.get(job.replace("JOB", made["id"])).json())["state"] != "done":
            assert state["state"] in ("waiting", "running"), state["error"]
            time.sleep(0.05)
        assert client.get(state["files"][0]["url"]).status_code == 200
        assert client.get("/api/models/tiny").json()["id"] == "tiny"
        card = client.get(card_line)
        assert_alone(card.text)
        assert "sandbox" in card.headers["content-security-policy"]
        assert client.get("/api/models/tiny/card.md").text.startswith("---\n")
        assert client.get("/api/models/tiny/card.json").json()["id"] == "tiny"
        assert client.get("/api/models/tiny/card.exe").status_code == 422
        assert client.get("/api/models/none/card.html").status_code == 404
        picture = client.get("/api/models/tiny/test-picture?tensor=raw&n=0")
        assert picture.headers["content-type"] == "image/png"
        for wrong in ("tensor=raw&n=9", "tensor=raw&n=-1", "tensor=../x&n=0"):
            assert client.get(f"/api/models/tiny/test-picture?{wrong}").status_code == 404


# --------------------------------------------------------------------------------------- markdown


def _front(markdown: str) -> dict[str, Any]:
    head = markdown.removeprefix("---\n").partition("\n---\n")[0]
    loaded = yaml.safe_load(head)
    assert isinstance(loaded, dict)
    return loaded


def test_markdown_has_hugging_faces_front_matter(rich: Path) -> None:
    markdown = _sheet(rich).to_markdown()
    assert _front(markdown) == {
        "license": "bsd-3-clause",
        "library_name": "bioimageio",
        "tags": ["biology", "bioimage.io", "nuclei", "segmentation"],
        "pipeline_tag": "image-segmentation",
    }
    for words in (
        "# Tiny blur", "| y | `8 + n × 4` |  |  | 0.65 micrometer |", "| AP50 | 0.812 |",
        "```bibtex\n@misc{tiny", "| onnx | yes | 4 runs, 3 sizes | 3.1e-06 | 0 | 52 ms |",
        "[BSD-3-Clause](https://spdx.org/licenses/BSD-3-Clause.html)",
    ):  # fmt: skip
        assert words in markdown, words
    assert "](images/" not in markdown


@pytest.mark.parametrize(
    ("spdx", "front"),
    [
        ("MIT", {"license": "mit"}),
        ("GPL-3.0-only", {"license": "gpl-3.0"}),
        ("CC-BY-NC-1.0", {
            "license": "other", "license_name": "cc-by-nc-1.0",
            "license_link": "https://spdx.org/licenses/CC-BY-NC-1.0.html"}),
        ("Ours: only on Sundays", {"license": "other", "license_name": "ours-only-on-sundays"}),
        ("", {}),
    ],
)  # fmt: skip
def test_a_licence_in_hugging_faces_words(tmp_path: Path, spdx: str, front: dict[str, str]) -> None:
    folder = make_package(tmp_path / "tiny", fields={"license": spdx}, validate=False)
    made = front_matter(ModelCard.of(open_package(folder)))
    assert {k: v for k, v in made.items() if k.startswith("license")} == front


def test_licences_are_spdx_and_hugging_faces_own() -> None:
    from bioimageio.spec._hf_card import HF_KNOWN_LICENSES
    from bioimageio.spec.utils import get_spdx_licenses

    spdx = {entry["licenseId"] for entry in get_spdx_licenses()["licenses"]}
    assert set(HF_KNOWN_LICENSES) >= HUGGING_FACE
    assert {i.lower() for i in spdx} & set(HF_KNOWN_LICENSES) <= HUGGING_FACE
    assert sum(bool(licence(i).url) for i in spdx) > 100
    for name in ("GPL-2.1", "CC-BY-1.5", "MIT License", "BSD-3-Clause-Foo", "Apache-2", "mit"):
        assert not licence(name).url
    assert licence("CC-BY-NC-ND-4.0").note == "no commercial use and no changed versions"


def test_front_matter_has_what_the_specifications_generator_gives() -> None:
    """Ours stands in its place, see `readme`; what a machine reads of it is in ours."""
    from bioimageio.spec._hf_card import create_huggingface_model_card

    package = next(p for p in builtin_packages() if p.id == "nuclei-fluo")
    theirs = _front(create_huggingface_model_card(package.descr, repo_id="me/nuclei")[0])
    ours = _front(Sheet.of(package).to_markdown())
    for key in ("license", "library_name"):
        assert ours[key] == theirs[key]
    assert set(theirs["tags"]) <= set(ours["tags"])


def test_pictures_are_files_beside_the_markdown_where_asked(rich: Path) -> None:
    sheet = _sheet(rich)
    markdown, files = sheet.to_markdown(images="images"), sheet.image_files()
    named = re.findall(r"!\[[^]]*\]\(images/([^)]+)\)", markdown)
    assert sorted(named) == sorted(files) == [
        "input-raw-0.png", "input-raw-1.png", "output-prediction-0.png",
    ]  # fmt: skip


def test_documentation_keeps_its_markdown_where_it_is_harmless() -> None:
    text = "# One\n\nSome *words*, [a link](https://e.org).\n\n```\n# no heading\n```\n\nTwo\n---\n"
    shown = documentation_text(text)
    assert "### One\n" in shown
    assert "#### Two" in shown
    assert "\n# no heading\n" in shown
    assert "[a link](https://e.org)" in shown


# ----------------------------------------------------------------------------------- completeness


def test_completeness_counts_to_100_and_says_what_to_do(rich: Path, tmp_path: Path) -> None:
    assert sum(check.weight for check in CHECKS) == 100
    assert len({check.key for check in CHECKS}) == len(CHECKS)
    complete = _sheet(rich).completeness
    missing = {m.key for m in complete.missing}
    # torchscript differs; the description has 29 letters, two tags, and no range of the output
    assert missing == {"certificate", "description", "tags", "values"}
    assert complete.score == 100 - sum(m.weight for m in complete.missing)
    weights = [m.weight for m in complete.missing]
    assert weights == sorted(weights, reverse=True)

    bare = make_package(tmp_path / "bare", validate=False)
    change_rdf(bare, license="mine", cite=[], authors=[], documentation=None, covers=[])
    poor = _sheet(bare).completeness
    assert {"license", "citation", "authors", "documentation", "cover"} <= {
        m.key for m in poor.missing
    }
    text = _sheet(bare).to_text()
    assert "zoo pack ./bare --license CC-BY-4.0 -o out.zip" in text
    assert f"complete to {poor.score} of 100" in text


def test_a_question_that_does_not_apply_is_answered(tmp_path: Path) -> None:
    fixed = make_package(tmp_path / "fixed", size=16, validate=False)
    assert "halo" not in {m.key for m in _sheet(fixed).completeness.missing}
    tiled = make_package(tmp_path / "tiled", validate=False)
    assert "halo" in {m.key for m in _sheet(tiled).completeness.missing}


def test_the_published_list_is_the_list_that_is_asked() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| (.+?) \|", DOCS.read_text(), re.MULTILINE)
    assert [(key, int(weight), what) for key, weight, what in rows] == [
        (check.key, check.weight, check.what) for check in CHECKS
    ]


@pytest.mark.parametrize("option", sorted({
    word for check in CHECKS for word in re.findall(r"--[a-z-]+", check.todo)
}))  # fmt: skip
def test_the_advice_names_options_that_exist(option: str) -> None:
    for verb in ("pack", "convert"):
        shown = CliRunner().invoke(app, [verb, "--help"], terminal_width=200).output
        if option in shown:
            return
    pytest.fail(f"neither zoo pack nor zoo convert has {option}")


# ------------------------------------------------------------------------------------------- json


def test_json_has_the_keys_that_are_documented(rich: Path) -> None:
    record = _sheet(rich).to_json()
    assert json.loads(json.dumps(record)) == json.loads(json.dumps(record, allow_nan=False))
    documented = re.findall(r"^- `(\w+)`", DOCS.read_text().partition("## JSON")[2], re.MULTILINE)
    assert list(record) == documented
    assert record["inputs"][0]["axes"][2]["rule"] == "8 + n × 4"
    assert record["inputs"][0]["test"]["shape"] == [1, 2, 16, 16]
    assert record["evaluations"][0]["rows"] == [
        {"metric": "AP50", "text": "average precision", "values": ["0.812"]}
    ]
    assert record["certificate"]["ok"] is False
    assert parse_bibtex(record["bibtex"])["tiny"]["title"] == "{Tiny blur}"


# ---------------------------------------------------------------------------------------- hostile

HOSTILE = [
    "<script>alert(1)</script>",
    "</script></style></title><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "{{ 7*7 }} {% include 'x' %} ${7*7}",
    "a: b\n---\nlicense: evil\n- x: [",
    "| --- | [click](javascript:alert(1)) ![x](https://evil.example/p.png) `x` <https://e.org>",
    "```\n# Not a heading\n<b>",
    "\x1b[2J\x1b]0;pwned\x07\u202etxt.exe\x00\u2028end",
    "}}, url = {http://evil}} @misc{x,",
    "x" * 20_000,
]


def _dressed(folder: Path, words: str) -> Path:
    """A package that says the same wherever it may say something."""
    raw = yaml.safe_load((folder / "rdf.yaml").read_text())
    for tensor in (*raw["inputs"], *raw["outputs"]):
        tensor["description"] = words
        for axis in tensor["axes"]:
            if axis["type"] == "channel":
                axis["channel_names"] = [words]
            if axis["type"] == "space":
                axis["unit"] = words
        tensor["data"] = {"type": words, "range": [0, words]}
    raw["inputs"][0]["preprocessing"] = [{"id": words, "kwargs": {words: words}}]
    raw["outputs"][0]["id"] = words
    person = {"name": words, "affiliation": words, "orcid": words, "github_user": words}
    raw |= {
        "name": words, "description": words, "license": words, "tags": [words, words + "2"],
        "version": words, "authors": [person], "git_repo": words, "timestamp": words,
        "cite": [{"text": words, "doi": words, "url": words}],
        "parent": {"id": words, "version": words, "source": f"javascript:{words}"},
        "training_data": {"name": words, "description": words, "source": words, "license": words},
    }  # fmt: skip
    certificate = json.loads(json.dumps(CERTIFICATE).replace("onnx", "weights"))
    certificate["reference"]["name"] = words
    certificate["versions"] = {words: words}
    for proof in certificate["proofs"]:
        proof |= {"weights_format": words, "strategy": words, "fault": words, "notes": [words]}
    entry = dict.fromkeys(
        ("dataset_id", "dataset_role", "dataset_source", "results_summary"), words
    )
    entry |= {k: [words] for k in ("evaluation_factors", "evaluation_factors_long", "metrics",
                                   "metrics_long")}  # fmt: skip
    raw["config"] = {
        "biozoo": {"certificate": certificate},
        "bioimageio": {
            "evaluations": [{**entry, "results": [[words]]}], "out_of_scope_use": words,
            "bias_risks_limitations": {"risks": words}, "modality": words, "task": words,
            "target_structure": [words], "training": {"loss_function": words},
            "architecture_type": words,
        },
    }  # fmt: skip
    (folder / "rdf.yaml").write_text(yaml.safe_dump(raw))
    (folder / "README.md").write_text(words)
    return folder


@pytest.mark.parametrize("words", HOSTILE, ids=lambda w: repr(w)[:18])
def test_a_strangers_words_stay_words(tmp_path: Path, words: str) -> None:
    folder = _dressed(make_package(tmp_path / "tiny", validate=False), words)
    sheet = Sheet.of(ModelPackage.from_folder(folder))

    html = sheet.to_html()
    page = assert_alone(html)
    assert len(html) < 2_000_000
    if words.startswith("<script>"):
        assert words in page.text
    assert_safe_fragment = Page(sheet.card.to_html())
    assert not assert_safe_fragment.named("script")

    markdown = sheet.to_markdown()
    front = _front(markdown)
    assert set(front) <= {"license", "license_name", "library_name", "tags", "pipeline_tag"}
    assert front["license"] == "other"
    body = markdown.partition("\n---\n")[2]
    _assert_harmless_markdown(body)

    record = json.dumps(sheet.to_json())
    assert json.loads(record)["id"]
    parse_bibtex(sheet.card.bibtex)
    for text in (html, markdown, record, sheet.to_text(), sheet.card.to_text()):
        text.encode()
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def _assert_harmless_markdown(body: str) -> None:
    """As GitHub reads it: no HTML but that of sanitized documentation, no link but to http(s)."""
    from markdown_it import MarkdownIt

    environment: dict[str, Any] = {}
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(body, environment)
    assert not environment.get("references")
    for token in [t for top in tokens for t in (top, *(top.children or ()))]:
        assert token.type not in ("html_inline", "image"), token.content
        if token.type == "link_open":
            assert str(token.attrs["href"]).startswith(("https://", "http://")), token.attrs
        if token.type == "html_block":
            for tag, attributes in Page(token.content).tags:
                assert tag not in ("script", "style", "svg", "iframe", "form", "object")
                assert set(attributes) <= {"href", "rel", "target", "title", "alt", "loading"}
    headings = [t.tag for t in tokens if t.type == "heading_open" and t.level == 0]
    assert headings.count("h1") == 1


@pytest.mark.parametrize(
    "text",
    [
        "plain words", "*a* _b_ `c` ~~d~~", "[x](javascript:alert(1))", "<b>x</b> &lt; &#60;",
        "# no", "- no", "1. no", "1) no", "+ no", "=====", "---", "> no", "| a | b |", "\\*x",
        "$x$ @someone https://e.org www.e.org", "![i](x)", "***", "```", "~~~", "a\\", "[a]: b",
    ],
)  # fmt: skip
def test_plain_text_is_shown_by_markdown_as_it_is(text: str) -> None:
    from markdown_it import MarkdownIt

    html = MarkdownIt("gfm-like", {"linkify": False}).render(plain_text(text))
    page = Page(html)
    assert {tag for tag, _ in page.tags} == {"p"}
    assert page.text.strip() == text


def test_huge_documentation_is_cut(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    (folder / "README.md").write_text("word <b>x</b> " * 300_000)
    change_rdf(folder, documentation={"source": "README.md"})
    sheet = Sheet.of(ModelPackage.from_folder(folder), check=False)
    assert len(sheet.to_html()) < 1_000_000
    assert len(sheet.to_markdown()) < 1_000_000
    assert len(sheet.to_text()) < 1_000_000


def test_many_large_pictures_of_a_document_stay_within_bounds(tmp_path: Path) -> None:
    import numpy as np

    folder = make_package(tmp_path / "tiny", validate=False)
    noise = np.random.default_rng(0)
    for i in range(8):
        pixels = noise.integers(0, 255, (900, 900, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png", compress_level=1)
    (folder / "README.md").write_text("\n".join(f"![picture {i}]({i}.png)" for i in range(8)))
    change_rdf(folder, documentation={"source": "README.md"})
    html = Sheet.of(ModelPackage.from_folder(folder), check=False).to_html()
    assert len(html) < 1_500_000
    assert sum("picture" in str(i["alt"]) for i in assert_alone(html).named("img")) >= 1


@pytest.mark.parametrize("value", [None, 3, "x", [], [[]], {}, [{}], {"a": [1]}, True, -1.5])
def test_descriptions_that_make_no_sense_have_cards(tmp_path: Path, value: Any) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    fields = ("authors", "cite", "inputs", "outputs", "weights", "config", "tags", "parent",
              "training_data", "covers", "documentation", "license", "version", "timestamp",
              "test_inputs", "git_repo", "name", "description")  # fmt: skip
    raw = yaml.safe_load((folder / "rdf.yaml").read_text())
    for changed in (fields, *((f,) for f in fields)):
        (folder / "rdf.yaml").write_text(yaml.safe_dump({**raw, **dict.fromkeys(changed, value)}))
        _all_ways(Sheet.of(ModelPackage.from_folder(folder), check=False))
    for path in ("evaluations", "training", "bias_risks_limitations", "certificate"):
        config = {"bioimageio": {path: value}, "biozoo": {path: value, "instances": value}}
        (folder / "rdf.yaml").write_text(yaml.safe_dump({**raw, "config": config}))
        _all_ways(Sheet.of(ModelPackage.from_folder(folder), check=False))


def _all_ways(sheet: Sheet) -> None:
    assert_alone(sheet.to_html())
    _front(sheet.to_markdown())
    json.dumps(sheet.to_json())
    assert sheet.to_text()


# ------------------------------------------------------------------------------------- real models


@pytest.mark.shared
def test_every_published_description_has_a_card_of_every_kind(shared: Path) -> None:
    files = sorted((shared / "corpus" / "rdfs").glob("*.yaml"))
    assert len(files) > 90
    for file in files:
        sheet = Sheet.of(ModelPackage.from_folder(file.parent, rdf=file))
        page = assert_alone(sheet.to_html())
        raw = rdf.read(file)
        for tensor in (*raw["inputs"], *raw["outputs"]):
            assert str(tensor.get("id") or tensor.get("name")) in page.text, file.name
        markdown = sheet.to_markdown()
        assert _front(markdown)["license"], file.name
        _assert_harmless_markdown(markdown.partition("\n---\n")[2])
        assert json.loads(json.dumps(sheet.to_json()))["inputs"]
        assert sheet.card.name in sheet.to_text()
        parse_bibtex(sheet.card.bibtex)
        assert sheet.here is not None
        assert 20 <= sheet.completeness.score <= 95


@pytest.mark.shared
@pytest.mark.parametrize("name", ["nuclei-broad", "multi-tensor", "brain-meshnet3d"])
def test_cards_of_real_packages_show_their_test_tensors(shared: Path, name: str) -> None:
    sheet = Sheet.of(open_package(shared / "models" / name))
    assert all(p.views for p in sheet.pictures)
    page = assert_alone(sheet.to_html())
    assert len([i for i in page.named("img") if "Test" in str(i["alt"])]) >= 2
    assert len(sheet.to_html()) < 600_000


def test_the_built_in_models_cards_are_nearly_complete() -> None:
    for package in builtin_packages():
        sheet = Sheet.of(package)
        assert sheet.completeness.score >= 85, package.id
        assert all(p.views for p in sheet.pictures)
        assert_alone(sheet.to_html())
