"""`zoo card`: what it writes where, what it refuses, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from command import Zoo, run_zoo
from loopback import Loopback
from packages import change_rdf, make_package, zip_package


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """Run a verb in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return run_zoo


def test_a_card_is_printed(zoo: Zoo) -> None:
    shown = zoo("card", "nuclei-fluo").stdout
    assert max(map(len, shown.partition("\nDocumentation\n")[0].splitlines())) <= 96
    for words in (
        "Input raw", " + n × ", "zoo run nuclei-fluo image.tif -o out/", "Runs here? Yes",
        "This card is complete to", "Not for", "Documentation",
    ):  # fmt: skip
        assert words in shown, words


def test_the_suffix_decides(zoo: Zoo, tmp_path: Path) -> None:
    begins = {
        "card.html": "<!doctype html>",
        "card.md": "---\nlicense: bsd-3-clause",
        "card.json": '{\n  "card": "1.0"',
        "card.txt": "Nuclei in",
        "UP.HTML": "<!doctype html>",
    }
    for name, start in begins.items():
        shown = zoo("card", "nuclei-fluo", "-o", f"new/{name}")
        assert Path("new", name).read_text(encoding="utf-8").startswith(start)
        assert shown.stdout.startswith(str(Path("new", name)))
        assert "complete to" in shown.stderr
    assert sorted(p.name for p in Path("new").iterdir()) == sorted(begins)


@pytest.mark.parametrize("out", ["made/", "there"])
def test_a_folder_gets_the_markdown_and_its_pictures(zoo: Zoo, out: str) -> None:
    Path("there").mkdir()
    zoo("card", "nuclei-fluo", "-o", out)
    markdown = Path(out, "README.md").read_text(encoding="utf-8")
    images = sorted(p.name for p in Path(out, "images").iterdir())
    assert images
    assert all(f"](images/{name})" in markdown for name in images)


def test_folders_zips_and_descriptions_alone_have_cards(zoo: Zoo, tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    for i, source in enumerate((folder, zip_package(folder), folder / "rdf.yaml")):
        zoo("card", source, "-o", f"{i}.html")
        assert "Test input raw" in Path(f"{i}.html").read_text(encoding="utf-8")
    alone = tmp_path / "alone" / "affable__v0.yaml"
    alone.parent.mkdir()
    alone.write_bytes((folder / "rdf.yaml").read_bytes())
    shown = zoo("card", alone, "-o", "alone.html")
    assert "files that affable__v0.yaml names are not here" in shown.stderr
    page = Path("alone.html").read_text(encoding="utf-8")
    assert "data:image" not in page
    assert "its weights were not at hand" in page
    assert "<dt>Size</dt>" not in page


def test_a_collections_description_is_enough_where_asked(
    zoo: Zoo, tmp_path: Path, loopback: Loopback
) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    address = loopback.serve(folder, "/m")
    zoo("card", address, "--description-only", "-o", "card.md")
    text = Path("card.md").read_text(encoding="utf-8")
    assert "# Tiny blur" in text
    assert f"zoo run {address} image.tif -o out/" in text


def test_json_on_stdout_and_of_what_was_written(zoo: Zoo) -> None:
    facts = json.loads(zoo("card", "nuclei-fluo", "--json").stdout)
    assert facts["id"] == "nuclei-fluo"
    assert facts["inputs"][0]["test"]["pictures"]
    zoo("card", "nuclei-fluo", "-o", "card.json")
    written = json.loads(Path("card.json").read_text(encoding="utf-8"))
    assert written == facts
    said = json.loads(zoo("card", "nuclei-fluo", "-o", "card.html", "--json").stdout)
    assert said == {"written": ["card.html"], "completeness": facts["completeness"]["score"]}


def test_nothing_is_replaced_unless_told(zoo: Zoo) -> None:
    Path("card.html").write_text("mine")
    shown = zoo("card", "nuclei-fluo", "-o", "card.html", code=2)
    assert "card.html is there already" in shown.stderr
    assert Path("card.html").read_text() == "mine"
    zoo("card", "nuclei-fluo", "-o", "card.html", "--force")
    assert Path("card.html").read_text(encoding="utf-8").startswith("<!doctype")
    assert [p.name for p in Path().iterdir() if p.name.startswith(".")] == []


def test_the_model_itself_is_never_written_to(zoo: Zoo, tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    before = sorted(folder.iterdir())
    for out in (folder, folder / "card.html", f"{folder}/new/"):
        shown = zoo("card", folder, "-o", out, "--force", code=2)
        assert "is a part of the model itself" in shown.stderr
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("out", ["card.pdf", "card", "card.htmlx"])
def test_another_kind_of_file_is_refused(zoo: Zoo, out: str) -> None:
    shown = zoo("card", "nuclei-fluo", "-o", out, code=2)
    assert "Name a file that ends in .html, .md, .json or .txt" in shown.stderr
    assert not Path(out).exists()


def test_a_place_that_cannot_be_written_is_a_sentence(zoo: Zoo) -> None:
    Path("file").write_text("")
    assert "Cannot write" in zoo("card", "nuclei-fluo", "-o", "file/card.html", code=3).stderr


def test_unknown_and_broken_models_are_sentences(zoo: Zoo, tmp_path: Path) -> None:
    zoo("card", "nucle-fluo", code=2)
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(folder, documentation={"source": "../../etc/passwd"})
    zoo("card", folder, "-o", "card.html", code=1)
    assert not Path("card.html").exists()


def test_what_a_terminal_obeys_is_written_out(zoo: Zoo, tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny", validate=False)
    change_rdf(folder, name="a\x1b[2Jb\u202ec", description="x\x9b31m")
    shown = zoo("card", folder).stdout
    assert "\x1b" not in shown
    assert "\\x1b[2Jb\\u202ec" in shown


def test_a_card_imports_no_framework_and_no_specification() -> None:
    code = (
        "import sys, json\n"
        "import biozoo_model_cards\n"
        "light = {'numpy', 'jinja2', 'PIL', 'yaml', 'nh3', 'markdown_it', 'xarray'}\n"
        "assert not light & set(sys.modules), light & set(sys.modules)\n"
        "from biozoo.package import builtin_packages\n"
        "for package in builtin_packages():\n"
        "    sheet = biozoo_model_cards.Sheet.of(package)\n"
        "    sheet.to_html(), sheet.to_markdown(), json.dumps(sheet.to_json()), sheet.to_text()\n"
        "heavy = {'bioimageio.spec', 'bioimageio.core', 'torch', 'onnx', 'onnxruntime', 'gradio',\n"
        "         'fastapi', 'tensorflow', 'keras', 'openvino', 'skimage', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
