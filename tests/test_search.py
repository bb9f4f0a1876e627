"""Searching by words, tags, axes, weights format and task, here and in the collection."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

import biozoo
from biozoo import package as packaging
from biozoo.errors import AxesError, NotFoundError
from biozoo.search import Found
from loopback import Loopback
from packages import make_package
from test_collection import lose, publish, serve_real, set_index


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of four models."""
    root = tmp_path_factory.mktemp("models")
    make_package(root / "built" / "blur-built", id="blur-built", name="Blurred", tags=["other"])
    for name, axes, tags in (
        ("flat-cells", "bcyx", ["cells", "instance-segmentation"]),
        ("deep-cells", "bczyx", ["cells", "denoising", "Electron Microscopy"]),
    ):
        make_package(
            root / name, id=name, name=name.title(), axes=axes, tags=tags, size=8, validate=False
        )
    make_package(
        root / "far-nuclei",
        id="far-nuclei",
        name="Far nuclei",
        tags=["nuclei", "cells"],
        validate=False,
        fields={"description": "Blur of nuclei.", "authors": [{"name": "Ada Cell"}]},
    )
    return root


@pytest.fixture
def zoo(models: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> biozoo.Zoo:
    """One built-in, two installed and two indexed models, one of them known by its id only."""
    monkeypatch.setattr(packaging, "BUILTIN", models / "built")
    made = biozoo.Zoo()
    for name in ("flat-cells", "deep-cells"):
        made.add(models / name)
    lost = lose(publish(loopback, models / "far-nuclei", "lost-cells"))
    item = publish(loopback, models / "far-nuclei", "far-nuclei")
    set_index(loopback, item, lost)
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    return made


def ids(found: list[Found]) -> list[str]:
    return [f.id for f in found]


@pytest.mark.usefixtures("zoo")
def test_without_words_everything_is_found_what_is_here_first() -> None:
    found = biozoo.search()
    assert ids(found) == ["blur-built", "deep-cells", "flat-cells", "far-nuclei", "lost-cells"]
    assert [f.origin for f in found] == ["built-in", "installed", "installed"] + ["collection"] * 2
    assert [f.installed for f in found] == [True, True, True, False, False]
    assert [f.trust for f in found] == ["built-in", "no code", "no code", "no code", None]
    assert "404" in found[-1].note
    assert "Of 1 of 2 models only the id is known" in found.note
    assert json.loads(json.dumps([f.to_dict() for f in found]))[0]["origin"] == "built-in"


@pytest.mark.usefixtures("zoo")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("cells", ["deep-cells", "flat-cells", "far-nuclei", "lost-cells"]),
        ("CELLS Deep", ["deep-cells"]),
        ("nuclei", ["far-nuclei"]),
        ("ada cell", ["far-nuclei"]),  # an author
        ("blur", ["blur-built", "far-nuclei"]),  # the id and name before the description
        ("instance segmentation", ["flat-cells"]),  # a tag written with "-"
        ("electron-microscopy", ["deep-cells"]),  # a tag written without
        ("nucle", ["far-nuclei"]),  # part of a word
        ("ell", []),  # too short for a part
        ("restoration", ["deep-cells"]),  # the task
        ("lost", ["lost-cells"]),
        ("nothing at all", []),
    ],
)
def test_all_words_must_be_found_and_the_best_is_first(words: str, expected: list[str]) -> None:
    found = biozoo.search(words)
    assert set(ids(found)) == set(expected)
    if words != "cells":  # four models have that word in places of one weight
        assert ids(found)[:1] == expected[:1]
    assert all(f.score > 0 and f.matched for f in found)


@pytest.mark.usefixtures("zoo")
def test_an_exact_id_comes_first() -> None:
    assert ids(biozoo.search("lost-cells"))[0] == "lost-cells"
    assert biozoo.search("far-nuclei")[0].matched[0] == "id"


@pytest.mark.usefixtures("zoo")
def test_wishes_about_tags_axes_weights_and_task() -> None:
    assert ids(biozoo.search(tags=["Electron-Microscopy"])) == ["deep-cells"]
    assert ids(biozoo.search(tags=["cells", "nuclei"])) == ["far-nuclei"]
    assert ids(biozoo.search("cells", axes="zyx")) == ["deep-cells"]
    assert ids(biozoo.search("cells", axes="yx")) == ["flat-cells", "far-nuclei"]
    assert ids(biozoo.search("cells", axes="bcxy")) == ["flat-cells", "far-nuclei"]
    assert ids(biozoo.search("cells", axes="tyx")) == []
    assert ids(biozoo.search("cells", task="restoration")) == ["deep-cells"]
    assert len(biozoo.search("cells", weights="onnx")) == 3
    assert ids(biozoo.search(weights="torch")) == []
    assert ids(biozoo.search("cells", tags=["cells"], axes="yx", task="segmentation")) == [
        "flat-cells",
    ]


def test_a_wish_that_cannot_be_understood_is_an_error() -> None:
    with pytest.raises(AxesError, match="unknown 'q'"):
        biozoo.search(axes="qx")
    with pytest.raises(AxesError, match="name no space axis"):
        biozoo.search(axes="bc")
    with pytest.raises(NotFoundError, match="Did you mean onnx"):
        biozoo.search(weights="onx")
    with pytest.raises(NotFoundError, match="Known are segmentation"):
        biozoo.search(task="segmenting")


@pytest.mark.usefixtures("zoo")
def test_a_model_that_is_installed_is_found_once(loopback: Loopback) -> None:
    biozoo.Zoo().add("far-nuclei")
    (found,) = biozoo.search("far-nuclei")
    assert (found.origin, found.installed, found.version) == ("installed", True, "v0")


@pytest.mark.usefixtures("zoo")
def test_without_an_index_what_is_here_is_found_with_a_note(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BIOZOO_INDEX_URL", "http://127.0.0.1:9/index.json")
    found = biozoo.search()
    assert ids(found) == ["blur-built", "deep-cells", "flat-cells"]
    assert "Without the public collection: Cannot get http://127.0.0.1:9" in found.note
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    assert "network is switched off" in biozoo.search().note


@pytest.mark.shared
def test_a_search_over_the_real_collection_is_quick_and_works_offline(
    shared: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve_real(loopback, shared)
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    steps: list[tuple[str, int, int | None]] = []
    biozoo.search(progress=lambda *step: steps.append(step))
    assert {what for what, _, _ in steps} == {"descriptions"}
    assert steps[-1][1] == steps[-1][2] == len(steps)
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    start = time.process_time()
    found = biozoo.search("nuclei")
    assert time.process_time() - start < 1.0
    assert len(found) > 10
    assert "affable-shark" in ids(found)
    assert "conscientious-dromedary" in ids(biozoo.search(axes="zyx", task="segmentation"))
    formats = {w for f in biozoo.search(weights="keras") for w in f.summary.weights}
    assert "keras_hdf5" in formats
    assert all(
        {"y", "x"} <= set(f.summary.inputs[0].axes) and "z" not in f.summary.inputs[0].axes
        for f in biozoo.search(axes="yx")
    )
