"""Where a retrained package says it comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

import biozoo
from biozoo.errors import InvalidPackageError
from biozoo_trainers.lineage import LIVE_HEAD, RETRAINING, Ancestor, Lineage, Round
from packages import change_rdf, make_package

FIRST = Round(
    RETRAINING,
    Ancestor("nuclei-fluo", "0.2.0", "ab" * 32),
    trained=("b" * 64, "a" * 64),
    held_out=("c" * 64,),
    metric="AP50",
    scores={"parent": 0.1, "child": 0.61234},
    facts={"steps": 300},
)
SECOND = Round(LIVE_HEAD, Ancestor("nuclei-mine"), held_out=("d" * 64,), facts={"strokes": 5})


def test_rounds_add_up() -> None:
    lineage = Lineage().then(FIRST).then(SECOND)
    assert lineage.held_out == {"c" * 64, "d" * 64}
    assert lineage.trained == {"a" * 64, "b" * 64}
    assert lineage.told(["x", "d" * 64, "c" * 64]) == ["d" * 64, "c" * 64]


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    lineage = Lineage((FIRST, SECOND))
    folder = make_package(tmp_path / "p", config={"biozoo": {"lineage": lineage.to_dict()}})
    read = Lineage.of(biozoo.open(folder))
    assert read.to_dict() == lineage.to_dict()
    assert read.rounds[0].scores == {"parent": 0.1, "child": 0.6123}
    assert read.rounds[1].facts == {"strokes": 5}
    assert "version" not in lineage.to_dict()["rounds"][1]["parent"]


def test_a_package_that_was_never_retrained_has_no_rounds(tmp_path: Path) -> None:
    assert Lineage.of(biozoo.open(make_package(tmp_path / "p", validate=False))) == Lineage()


@pytest.mark.parametrize(
    "raw", [{"format": 2, "rounds": []}, {"format": 1}, {"format": 1, "rounds": [{}]}, "nonsense"]
)
def test_something_else_is_told(tmp_path: Path, raw: object) -> None:
    folder = make_package(tmp_path / "p", validate=False)
    change_rdf(folder, config={"biozoo": {"lineage": raw}})
    with pytest.raises(InvalidPackageError, match=r"config\.biozoo\.lineage"):
        Lineage.of(biozoo.open(folder))


def test_an_ancestor_is_told_by_what_it_computes(tmp_path: Path) -> None:
    package = biozoo.open(make_package(tmp_path / "p", validate=False))
    other = biozoo.open(make_package(tmp_path / "q", kernel=5, validate=False))
    made = Ancestor.of(package)
    assert (made.id, made.version) == ("tiny", "1.0")
    assert made.sha256 == Ancestor.of(package).sha256 != Ancestor.of(other).sha256
