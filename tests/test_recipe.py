"""The recipe: plain data with a published schema, and clear faults where it is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

import biozoo
from biozoo.errors import InvalidPackageError
from biozoo_trainers.recipe import Recipe, declared, schema
from packages import make_package

DOCS = Path(__file__).parents[1] / "docs"

RECIPE: dict[str, Any] = {
    "version": 1,
    "input": "raw",
    "output": "prediction",
    "target": {"kind": "foreground"},
    "activation": "postprocessing",
    "patch": {"size": {"y": 32, "x": 32}, "multiple": {"y": 4, "x": 4}},
    "losses": [{"kind": "bce", "weight": 2.0, "channels": [0]}],
}


def package(tmp_path: Path, recipe: Any) -> biozoo.ModelPackage:
    config = {"biozoo": {"training": recipe}}
    return biozoo.open(make_package(tmp_path / "p", config=config, validate=False))


def test_the_published_schema_is_that_of_the_code() -> None:
    """`python -m biozoo_trainers.recipe > docs/training.schema.json` writes it."""
    assert (DOCS / "training.schema.json").read_text() == schema()


def test_a_declared_recipe_is_read_and_written_alike(tmp_path: Path) -> None:
    found = declared(package(tmp_path, RECIPE))
    assert found is not None
    assert found.target is not None
    assert found.target.kind == "foreground"
    assert found.losses[0].channels == (0,)
    again = declared(package(tmp_path, found.plain()))
    assert again == found
    # What is as usual is left out, so that a description stays short.
    assert "optimiser" not in found.plain()


def test_a_package_without_a_recipe_has_none(tmp_path: Path) -> None:
    assert declared(biozoo.open(make_package(tmp_path / "p", validate=False))) is None


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"output": "labels"}, "training.output: 'labels' is none of the outputs: prediction"),
        ({"trainable": "maybe"}, "training.trainable"),
        ({"optimiser": {"learning_rate": -1}}, "training.optimiser.learning_rate"),
        ({"code": "import os"}, "training.code"),
        ({"patch": {"size": {"y": 30}, "multiple": {"y": 4}}}, "no multiple of 4"),
        ({"target": None}, "target must be given"),
    ],
)
def test_what_is_wrong_with_a_recipe_is_told_by_field(
    tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    with pytest.raises(InvalidPackageError, match=r"config\.biozoo") as error:
        declared(package(tmp_path, RECIPE | change))
    assert told in str(error.value)


def test_a_package_that_is_not_trainable_says_why() -> None:
    assert Recipe(trainable="no", why="its weights are quantized").why
    with pytest.raises(ValidationError, match="why"):
        Recipe(trainable="no")
