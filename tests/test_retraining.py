"""Retraining from images to a package that is better, or to a refusal; with a network of 9 weights.

The parent marks what is bright. The images hold dark discs on bright ground, so it finds none of
them, and a few steps teach it. Shuffled labels teach it nothing.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import biozoo
from biozoo.errors import Cancelled, IncompleteError, NotTrainableError, UsageError
from biozoo_runners import load, test_package
from biozoo_trainers import Control, Hook, Naming, TrainOptions, curve, recipe_of, retrain
from biozoo_trainers.lineage import Lineage
from biozoo_trainers.scores import score_instances
from packages import SIGMOID, ZERO_MEAN, make_package

pytest.importorskip("torch")
pytest.importorskip("onnx2pytorch")
pytest.importorskip("lightning_fabric")
pytest.importorskip("monai")

OPTIONS = TrainOptions(steps=12, batch=2, device="cpu", threads=1, learning_rate=0.05)


def discs(number: int, size: int = 64) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Four dark discs on bright ground at places of their own, and their labels."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size]
    image = np.ones((size, size), np.float32)
    labels = np.zeros((size, size), np.int32)
    for n, (cy, cx) in enumerate(((16, 16), (16, 48), (48, 16), (48, 48)), start=1):
        at = (y - cy - rng.integers(-8, 9)) ** 2 + (x - cx - rng.integers(-8, 9)) ** 2
        labels[at < rng.integers(25, 50)] = n
    image[labels > 0] = 0.2
    return image + rng.normal(0, 0.02, image.shape).astype(np.float32), labels


def material(count: int, start: int = 0) -> tuple[list[NDArray[Any]], list[NDArray[Any]]]:
    made = [discs(n) for n in range(start, start + count)]
    return [i for i, _ in made], [t for _, t in made]


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> biozoo.ModelPackage:
    folder = tmp_path_factory.mktemp("parent") / "tiny"
    make_package(
        folder,
        size=(16, 16),
        test_size=48,
        halo=2,
        preprocessing=[ZERO_MEAN],
        postprocessing=[SIGMOID],
        channel_names=None,
        config={
            "biozoo": {
                "instances": {
                    "output": "prediction",
                    "foreground": 0,
                    "distance": 0,
                    "foreground_threshold": 0.6,
                }
            }
        },
    )
    return biozoo.open(folder)


@pytest.fixture(scope="module")
def done(
    parent: biozoo.ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path, list[str]]:
    """A retraining that went well, its package, and the stages that were told."""
    out = tmp_path_factory.mktemp("done") / "mine.zip"
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOZOO_HOME", str(out.parent / "home"))
        report = retrain(
            parent,
            *material(10),
            axes="yx",
            output=out,
            options=OPTIONS,
            naming=Naming(author="Grace"),
            progress=lambda what, at, total: told.append(what),
        )
    # What is imported by now stays: each closing backend would look through all of it again.
    gc.collect()
    gc.freeze()
    return report, out, told


def test_the_child_is_better_and_is_a_package(done: tuple[Any, Path, list[str]]) -> None:
    report, out, _ = done
    assert report.passed
    assert report.gate.child.mean > report.gate.parent.mean + 0.5
    assert report.package.target == out
    assert test_package(out).ok
    image, labels = discs(99)
    with load(out, device="cpu") as runner:
        found = runner(image, axes="yx")["labels"].values
    assert score_instances(labels, found)["AP50"] >= 0.8
    assert ((found > 0) == (labels > 0)).mean() > 0.95


def test_the_gate_measured_what_the_package_gives(
    done: tuple[Any, Path, list[str]], parent: biozoo.ModelPackage
) -> None:
    """The child's score as a module, before it is packed, is that of the package."""
    report, out, _ = done
    named = {f"image {n + 1}": discs(n) for n in range(10)}
    for stands, source in ((report.gate.parent, parent), (report.gate.child, out)):
        with load(source, device="cpu") as runner:
            scores = [
                score_instances(named[name][1], runner(named[name][0], axes="yx")["labels"].values)[
                    "AP50"
                ]
                for name in report.held_out
            ]
        assert stands.values == pytest.approx(scores)


def test_the_child_makes_its_objects_by_its_own_rule(
    parent: biozoo.ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds may be chosen anew by a training; here by one that lets nothing through."""
    from biozoo_trainers import training

    really = training.train

    def train(*given: Any, **wishes: Any) -> Any:
        made = really(*given, **wishes)
        return replace(made, rule=made.rule.model_copy(update={"min_size": 10**6}))

    monkeypatch.setattr(training, "train", train)
    report = retrain(parent, *material(4), axes="yx", options=OPTIONS, interpolate=1)
    assert report.gate.child.mean == 0
    assert report.gate.child.objects == 0


def test_no_image_is_on_both_sides(done: tuple[Any, Path, list[str]]) -> None:
    report, out, _ = done
    assert not set(report.images) & set(report.held_out)
    assert len(report.images) + len(report.held_out) == 10
    made = Lineage.of(biozoo.open(out)).rounds[-1]
    assert not set(made.trained) & set(made.held_out)
    assert len(made.held_out) == len(report.held_out) == len(report.gate.child.values)


def test_the_package_says_what_was_done(
    done: tuple[Any, Path, list[str]], parent: biozoo.ModelPackage
) -> None:
    report, out, _ = done
    raw = biozoo.open(out).raw
    ours = raw["config"]["biozoo"]
    assert raw["parent"] == {"id": "tiny", "version": "1.0"}
    assert ours["lineage"]["rounds"][0]["scores"]["child"] == pytest.approx(
        report.gate.child.mean, abs=1e-4
    )
    assert ours["training"] == report.recipe.plain()
    assert ours["evaluations"][0]["metrics"][0] == "AP50"
    assert ours["evaluations"][0]["sample_count"] == len(report.held_out)
    assert ours["certificate"]["ok"] is True
    assert ours["instances"]["output"] == "prediction"
    text = biozoo.open(out).documentation
    assert f"Measured on {len(report.held_out)} image" in text
    assert "| AP50 |" in text


def test_what_it_tells_is_plain(done: tuple[Any, Path, list[str]]) -> None:
    report, _, told = done
    facts = json.loads(json.dumps(report.to_dict(), default=str))
    assert facts["passed"] is True
    assert set(facts["seconds"]) == {"network", "parent", "training", "child", "packing", "total"}
    assert len(facts["history"]) >= 1
    text = str(report)
    assert "before" in text
    assert "passed: It is better than its parent" in text
    stages = list(dict.fromkeys(t.partition(",")[0] for t in told))
    order = ["reading the images", "measuring the parent", "training", "measuring the child"]
    assert [s for s in stages if s in order] == order


def test_shuffled_labels_are_refused_and_nothing_is_written(
    parent: biozoo.ModelPackage, tmp_path: Path
) -> None:
    """Each image with the labels of another."""
    images, labels = material(8)
    report = retrain(
        parent,
        images,
        [*labels[1:], labels[0]],
        axes="yx",
        output=tmp_path / "bad.zip",
        options=OPTIONS,
    )
    assert not report.passed
    assert report.exit_code == 1
    assert report.package is None
    assert not list(tmp_path.glob("bad*"))
    assert "REFUSED" in str(report)


def test_a_second_round_keeps_what_was_held_out(
    done: tuple[Any, Path, list[str]], tmp_path: Path
) -> None:
    first, out, _ = done
    images, labels = material(14)
    report = retrain(
        out, images, labels, axes="yx", output=tmp_path / "again.zip", options=OPTIONS,
        held_out=0.5, interpolate=1,
    )  # fmt: skip
    before = Lineage.of(biozoo.open(out)).rounds[-1]
    assert set(first.held_out) <= set(report.held_out)
    assert not set(first.images) & set(report.held_out)
    earlier = [f for f in report.gate.forgetting if "earlier round" in f.on]
    assert len(earlier) == 1
    assert len(before.held_out) == len(first.held_out)
    if report.passed:
        again = biozoo.open(tmp_path / "again.zip")
        assert len(Lineage.of(again).rounds) == 2
        assert str(again.raw["name"]).endswith("- retrained 2")
        assert str(again.raw["description"]).count("Retrained from") == 1


def test_images_that_it_did_well_on_are_learned_along(
    parent: biozoo.ModelPackage, tmp_path: Path
) -> None:
    images, labels = material(6)
    old = [1.2 - i for i in material(6, start=50)[0]]
    out = tmp_path / "mine.zip"
    report = retrain(
        parent, images, labels, axes="yx", options=OPTIONS, replay=old, interpolate=1, output=out
    )
    assert [f.on for f in report.gate.forgetting][-1] == "1 of the images given to be kept"
    own = 6 - len(report.held_out)
    assert len(report.images) == own  # the person's
    child = biozoo.open(out)
    assert "also learned 5 images with its parent's own results" in child.documentation
    assert str(child.raw["description"]).endswith(f"on {own} images.")
    assert len(Lineage.of(child).rounds[-1].trained) == own + 5  # none is held out later


def test_a_mixture_is_taken_where_it_is_asked_for(
    done: tuple[Any, Path, list[str]], parent: biozoo.ModelPackage
) -> None:
    report = retrain(
        parent, *material(6), axes="yx", options=OPTIONS, interpolate=0.5, held_out=0.3
    )
    assert report.share == 0.5
    assert any("50% of the new weights" in n for n in report.notes)
    with pytest.raises(UsageError, match="above 0 and at most 1"):
        retrain(parent, *material(6), axes="yx", interpolate=1.5)


def test_hooks_hear_of_the_training(parent: biozoo.ModelPackage) -> None:
    heard: list[str] = []

    class Broken(Hook):
        def on_step(self, step: Any) -> None:
            raise ZeroDivisionError("mine")

    report = retrain(
        parent,
        *material(4),
        axes="yx",
        options=replace(OPTIONS, steps=4),
        hooks=[lambda event, info: heard.append(event), Broken()],
        interpolate=1,
    )
    assert heard[0] == "start"
    assert heard[-1] == "end"
    assert heard.count("step") == 4
    assert any("Broken" in n and "mine" in n for n in report.notes)


def test_a_stopped_training_goes_on(parent: biozoo.ModelPackage, tmp_path: Path) -> None:
    control = Control()
    seen: list[int] = []

    def stop(event: str, info: Any) -> None:
        if event == "step":
            seen.append(info.step)
            if info.step == 6:
                control.cancel()

    wishes: dict[str, Any] = {
        "axes": "yx", "options": replace(OPTIONS, epoch=3), "folder": tmp_path / "kept",
        "output": tmp_path / "o.zip", "hooks": [stop], "interpolate": 1,
    }  # fmt: skip
    with pytest.raises(Cancelled, match="training was stopped"):
        retrain(parent, *material(4), control=control, **wishes)
    assert max(seen) <= 7
    assert not (tmp_path / "o.zip").exists()
    seen.clear()
    report = retrain(parent, *material(4), resume=True, **wishes | {"hooks": [stop][:0]})
    assert report.steps == OPTIONS.steps
    with pytest.raises(UsageError, match="folder must be given"):
        retrain(parent, *material(4), axes="yx", resume=True)


# -------------------------------------------------------------------------------------- bad input


def test_a_package_that_cannot_be_trained_says_why_at_once(tmp_path: Path) -> None:
    why = {"trainable": "no", "why": "its output is a table"}
    folder = make_package(tmp_path / "p", config={"biozoo": {"training": why}})
    with pytest.raises(NotTrainableError, match=r"its output is a table.*[Ll]ive mode"):
        retrain(folder, tmp_path / "nowhere", tmp_path / "nowhere")


def test_bad_labels_are_told_before_anything_is_trained(parent: biozoo.ModelPackage) -> None:
    images, labels = material(4)
    labels[1] = labels[1][:40]
    labels[2] = labels[2] + np.float32(0.5)
    with pytest.raises(IncompleteError) as told:
        retrain(parent, images, labels, axes="yx", options=OPTIONS)
    assert len(told.value.faults) == 2


def test_a_place_that_holds_something_else_is_told_first(
    parent: biozoo.ModelPackage, tmp_path: Path
) -> None:
    (tmp_path / "thesis.zip").write_text("precious")
    with pytest.raises(UsageError, match="no model package"):
        retrain(parent, *material(4), axes="yx", output=tmp_path / "thesis.zip")


# ------------------------------------------------------------------------------------------ curve


def test_a_curve_measures_all_sizes_on_the_same_rest(
    parent: biozoo.ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []
    learned: list[list[str]] = []
    from biozoo_trainers.curves import learn as really

    def learn(ready: Any, train_on: Any, *rest: Any) -> Any:
        learned.append([p.digest for p in train_on])
        return really(ready, train_on, *rest)

    monkeypatch.setattr("biozoo_trainers.curves.learn", learn, raising=True)
    report = curve(
        parent,
        *material(9),
        axes="yx",
        sizes=(4, 2),
        options=OPTIONS,
        output=tmp_path / "most.zip",
        on_row=lambda row: rows.append(row.size),
        interpolate=1,
    )
    assert rows == [r.size for r in report.rows] == [0, 2, 4]
    assert len(report.held_out) == 5
    assert {r.measured.names for r in report.rows} == {report.held_out}
    assert report.rows[0].measured.mean < 0.3 < report.rows[2].measured.mean
    assert report.forecast is not None
    assert learned[0] == learned[1][:2]  # the larger holds the smaller
    made = Lineage.of(biozoo.open(tmp_path / "most.zip")).rounds[-1]
    assert len(made.trained) == 4
    assert len(made.held_out) == 5


@pytest.mark.parametrize(
    ("sizes", "told"), [((2, 8), r"leaves 1 to measure on.*--curve"), ((0,), "1 or more")]
)
def test_a_curve_that_leaves_nothing_to_measure_on_is_told(
    parent: biozoo.ModelPackage, sizes: Sequence[int], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        curve(parent, *material(9), axes="yx", sizes=sizes, options=OPTIONS)


def test_the_recipe_is_inferred_with_reasons(parent: biozoo.ModelPackage) -> None:
    found = recipe_of(parent)
    assert found.recipe.trainable == "full"
    assert not found.declared
    assert found.reasons
