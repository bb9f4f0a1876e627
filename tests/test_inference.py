"""Recipes of packages that declare none: guessed from the description, every guess told."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from bioimageio.spec.model.v0_5 import ModelDescr

import biozoo
from biozoo.package import ModelPackage
from biozoo_trainers.inference import infer_recipe, recipe_of
from biozoo_trainers.targets.base import make_target
from packages import SIGMOID, change_rdf, make_package, read_rdf, write_rdf
from trainable import trainable


def named(tmp_path: Path, names: list[str], tags: list[str], **options: Any) -> ModelPackage:
    """A package whose output has these channels."""
    folder = make_package(
        tmp_path / "p", out_channels=len(names), tags=tags, validate=False, **options
    )
    rdf = read_rdf(folder)
    for axis in rdf["outputs"][0]["axes"]:
        if axis["type"] == "channel":
            axis["channel_names"] = names
    write_rdf(folder, rdf)
    return biozoo.open(folder)


@pytest.mark.parametrize(
    ("names", "tags", "kind", "options"),
    [
        (["probability"], ["nuclei"], "foreground", {}),
        (["membrane"], ["cell-membrane"], "classes", {"activation": "sigmoid"}),
        (["a"], ["semantic-segmentation"], "classes", {"activation": "sigmoid"}),
        (["channel0", "channel1"], ["instance-segmentation"], "foreground-boundary", {}),
        (["foreground", "distance"], ["x"], "foreground-distance", {}),
        (
            ["boundary", "foreground"],
            ["x"],
            "foreground-boundary",
            {"channels": ["boundary", "foreground"]},
        ),
        (["F", "C", "Dc"], ["x"], "foreground-distance-boundary", {}),
        (["a", "b", "c"], ["tissue"], "classes", {"activation": "sigmoid"}),
    ],
)
def test_channels_tags_and_activation_tell_the_target(
    tmp_path: Path, names: list[str], tags: list[str], kind: str, options: dict[str, Any]
) -> None:
    found = infer_recipe(named(tmp_path, names, tags, postprocessing=[SIGMOID]))
    target = found.recipe.target
    assert target is not None
    assert target.kind == kind
    assert {k: target.options.get(k) for k in options} == options
    assert found.recipe.activation == "postprocessing"
    assert found.reasons[0] == "Its postprocessing applies the sigmoid."
    assert all(r.endswith(".") for r in found.reasons)
    assert len(make_target(kind, target.options).channels(2)) == len(names)


def test_classes_of_a_softmax(tmp_path: Path) -> None:
    softmax = {"id": "softmax", "kwargs": {"axis": "channel"}}
    package = named(tmp_path, ["sky", "cell"], ["nuclei"], postprocessing=[softmax])
    target = infer_recipe(package).recipe.target
    assert target is not None
    assert target.options == {"names": ["sky", "cell"], "activation": "softmax"}


def test_what_the_package_says_of_its_objects_comes_first(tmp_path: Path) -> None:
    config = {
        "biozoo": {
            "instances": {
                "output": "prediction",
                "foreground": "inner",
                "distance": "depth",
                "seed_threshold": 0.7,
            }
        }
    }
    package = trainable(tmp_path / "p", channels=3, names=["inner", "depth", "rest"], config=config)
    found = infer_recipe(package)
    assert found.recipe.target is not None
    assert found.recipe.target.options == {
        "channels": ["foreground", "distance", "background"],
        "decoding": {"seed_threshold": 0.7},
    }
    assert "inner is foreground, depth is distance" in found.reasons[0]


def test_values_of_the_test_output_tell_probabilities_from_logits(tmp_path: Path) -> None:
    assert infer_recipe(trainable(tmp_path / "a")).recipe.activation == "network"
    # 2 * x + 1 of numbers up to 1: no probabilities, and nothing turns them into some.
    package = biozoo.open(make_package(tmp_path / "b", network="pointwise", validate=False))
    found = infer_recipe(package)
    assert found.recipe.activation == "none"
    assert "taken as logits" in found.reasons[0]


@pytest.mark.parametrize(
    ("size", "expected", "multiple"),
    [((16, 4), 192, 4), ((20, 16), 196, 4), (512, 192, 32), (100, 100, 100), ((144, 16), 192, 16)],
)
def test_patches_are_of_a_size_that_the_input_allows(
    tmp_path: Path, size: Any, expected: int, multiple: int
) -> None:
    package = biozoo.open(
        make_package(tmp_path / "p", size=size, network="pointwise", validate=False)
    )
    patch = infer_recipe(package).recipe.patch
    assert patch is not None
    assert patch.size == {"y": expected, "x": expected}
    assert patch.multiple == {"y": multiple, "x": multiple}


def test_a_volume_gets_shallow_patches(tmp_path: Path) -> None:
    patch = infer_recipe(trainable(tmp_path / "p", axes="bczyx")).recipe.patch
    assert patch is not None
    assert patch.size == {"z": 32, "y": 64, "x": 64}


def test_denoising_keeps_the_intensities_as_they_are(tmp_path: Path) -> None:
    tags = ["denoising", "Noise2Void"]
    recipe = infer_recipe(named(tmp_path, ["0"], tags)).recipe
    assert recipe.target is not None
    assert recipe.target.kind == "blind-spot"
    assert {a.kind for a in recipe.augmentations} == {"flip", "turn"}
    recipe = infer_recipe(named(tmp_path, ["0"], ["image-to-image"])).recipe
    assert recipe.target is not None
    assert recipe.target.kind == "image"
    assert recipe.polarity == "keep"


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"inputs": 2}, "takes 2 inputs at once (raw, raw1)"),
        ({"scale": 2}, "another pixel size than the input (0.5 pixels for one)"),
        ({"axes": "btcyx"}, "has an axis 'time'"),
    ],
)
def test_what_cannot_be_retrained_says_why(
    tmp_path: Path, options: dict[str, Any], told: str
) -> None:
    found = infer_recipe(biozoo.open(make_package(tmp_path / "p", validate=False, **options)))
    assert found.recipe.trainable == "no"
    assert told in found.recipe.why


def test_weights_that_cannot_be_trained(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", validate=False)
    change_rdf(folder, weights={"keras_hdf5": {"source": "weights.onnx"}})
    package = biozoo.open(folder)
    # The tiny file is no real Keras weights; what is inferred depends on the description alone.
    found = infer_recipe(package)
    assert "its weights are keras_hdf5" in found.recipe.why


def test_what_a_package_declares_is_not_guessed(tmp_path: Path) -> None:
    own = infer_recipe(trainable(tmp_path / "a")).recipe
    config = {"biozoo": {"training": {**own.plain(), "freeze": "encoder"}}}
    found = recipe_of(trainable(tmp_path / "b", config=config))
    assert found.declared
    assert found.recipe.freeze == "encoder"


def test_the_built_in_models_mean_their_own_channels() -> None:
    kinds = {}
    for name in ("nuclei-fluo", "nuclei-histology", "em-membrane"):
        target = infer_recipe(biozoo.open(name)).recipe.target
        assert target is not None
        kinds[name] = (target.kind, target.options.get("channels"))
    assert kinds == {
        "nuclei-fluo": ("foreground-distance-boundary", None),
        "nuclei-histology": ("foreground-distance-boundary", None),
        "em-membrane": ("foreground-distance", ["background", "foreground", "distance"]),
    }


@pytest.mark.shared
def test_published_descriptions_all_get_an_answer(shared: Path) -> None:
    """101 descriptions without their files; each is trainable in a way, or says why not."""
    kinds: Counter[str] = Counter()
    for path in sorted((shared / "corpus" / "rdfs").glob("*.yaml")):
        found = infer_recipe(ModelPackage.from_folder(path.parent, rdf=path))
        target = found.recipe.target
        kinds[target.kind if target else "no"] += 1
        assert found.reasons
    assert kinds.total() == 101
    assert kinds["no"] < 32
    assert kinds["foreground-boundary"] >= 25


@pytest.mark.shared
def test_a_real_package_that_is_not_ours(shared: Path) -> None:
    """`nuclei-broad`: one channel, logits, a fixed size that is no limit of the network."""
    recipe = infer_recipe(biozoo.open(shared / "models" / "nuclei-broad")).recipe
    assert recipe.target is not None
    assert recipe.target.kind == "foreground"
    assert recipe.activation == "postprocessing"
    assert recipe.weights == ("onnx", "torchscript")
    assert recipe.patch is not None
    assert recipe.patch.size == {"y": 192, "x": 192}


def test_ids_of_outputs_are_those_of_the_description(tmp_path: Path) -> None:
    package = biozoo.open(make_package(tmp_path / "p", outputs=2, validate=False))
    found = infer_recipe(package)
    assert isinstance(package.descr, ModelDescr)
    assert found.recipe.output == "prediction"
    assert any("Of its 2 outputs 'prediction' is taught" in r for r in found.reasons)
