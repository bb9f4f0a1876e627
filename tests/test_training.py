"""The training: it learns, says what it does, can be stopped, and copes with too little memory."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from biozoo.errors import BackendError, OutOfMemoryError, UsageError
from biozoo.package import ModelPackage
from biozoo_runners import load
from biozoo_runners.images.base import Image
from biozoo_trainers.hooks import Checkpoint, End, Hook, Preview, Start, Step
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.network import Differentiable, differentiable, runner_of
from biozoo_trainers.pairs import Pair
from biozoo_trainers.recipe import Recipe
from packages import make_package
from trainable import disc_image, discs, trainable

torch = pytest.importorskip("torch")
for library in ("onnx2pytorch", "monai", "lightning_fabric"):
    pytest.importorskip(library)

from biozoo_trainers.training import Control, Trained, TrainOptions, train  # noqa: E402
from biozoo_trainers.training.average import Average  # noqa: E402
from biozoo_trainers.training.freezing import chosen_parameters  # noqa: E402
from biozoo_trainers.training.options import Epoch  # noqa: E402
from biozoo_trainers.training.plan import Plan, factor_for, smaller  # noqa: E402
from biozoo_trainers.training.polarity import inverted  # noqa: E402
from biozoo_trainers.training.session import Session  # noqa: E402
from biozoo_trainers.training.validation import Validation, kept_aside  # noqa: E402

#: Quick: a few dozen steps of tiny patches on one thread.
QUICK = TrainOptions(
    steps=24, batch=2, patch={"y": 32, "x": 32}, device="cpu", threads=1, learning_rate=0.05
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return trainable(tmp_path_factory.mktemp("package") / "p")


@pytest.fixture(scope="module")
def proven(package: ModelPackage) -> tuple[Differentiable, dict[str, Any]]:
    """The network once: the proof takes longer than a tiny training."""
    made = differentiable(package, recipe_of(package))
    return made, {n: v.clone() for n, v in made.module.state_dict().items()}


@pytest.fixture
def network(proven: tuple[Differentiable, dict[str, Any]]) -> Differentiable:
    """With the weights of the package."""
    made, values = proven
    made.module.load_state_dict(values)
    for parameter in made.module.parameters():
        parameter.requires_grad_(True)
    return made


def recipe_of(package: ModelPackage, **more: Any) -> Recipe:
    values = infer_recipe(package).recipe.model_dump()
    values["augmentations"] = [{"kind": "flip"}]
    return Recipe.model_validate(values | more)


def test_it_learns_and_says_how(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    seen: list[tuple[str, Any]] = []
    found = train(
        package,
        recipe_of(package),
        discs(10),
        folder=tmp_path / "run",
        options=QUICK,
        hooks=[lambda event, info: seen.append((event, info))],
        network=network,
    )
    assert found.outcome == "done"
    assert found.steps == 24
    first, last = (e.losses["bce foreground"] for e in (found.history[0], found.history[-1]))
    assert last < 0.8 * first
    assert found.history[-1].score is not None
    assert found.history[-1].score > 0.8
    assert found.metric == "AP50"
    assert [e.step for e in found.history] == [10, 20, 24]
    assert set(found.history[0].losses) == {"bce foreground", "dice foreground"}
    assert found.parameters_changed > 40
    assert not found.module.training
    # The parent's values are there to go back to.
    name = next(iter(found.before))
    assert not torch.equal(found.before[name], found.module.state_dict()[name])
    kinds = [event for event, _ in seen]
    assert kinds[0] == "start"
    assert kinds[-1] == "end"
    assert kinds.count("step") == 24
    assert kinds.count("preview") == kinds.count("checkpoint") == 3
    start, end = seen[0][1], seen[-1][1]
    assert isinstance(start, Start)
    assert (start.images, start.validation, start.steps) == (8, 2, 24)
    assert isinstance(end, End)
    assert end.outcome == "done"


def test_the_same_seed_gives_the_same_weights(
    package: ModelPackage, proven: tuple[Differentiable, dict[str, Any]], tmp_path: Path
) -> None:
    made, values = proven
    found = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        made.module.load_state_dict(values)
        trained = train(
            package,
            infer_recipe(package).recipe,
            discs(4),
            folder=tmp_path / name,
            options=replace(QUICK, steps=5, seed=seed),
            network=made,
        )
        found.append({n: v.clone() for n, v in trained.module.state_dict().items()})
    assert all(torch.equal(found[0][n], found[1][n]) for n in values)
    assert not all(torch.equal(found[0][n], found[2][n]) for n in values)


def test_a_hook_sees_what_the_network_makes_between_epochs(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    image, labels = disc_image(90, 50)
    counts: list[int] = []

    class Looking(Hook):
        def on_preview(self, preview: Preview) -> None:
            maps = preview.predict(image)
            assert maps.dims == ("channel", "y", "x")
            counts.append(int(preview.labels(maps).max()))

        def on_checkpoint(self, checkpoint: Checkpoint) -> None:
            raise RuntimeError("disk is elsewhere")

    found = train(
        package,
        recipe_of(package),
        discs(4),
        folder=tmp_path,
        options=replace(QUICK, epoch=12),
        hooks=[Looking()],
        network=network,
    )
    assert len(counts) == 1  # the hook failed at the first checkpoint, and was left out
    assert found.outcome == "done"
    told = "hook 'Looking' failed at checkpoint and was not called again: RuntimeError: disk"
    assert any(told in n for n in found.notes)
    assert labels.max() == 5


def test_dark_objects_start_from_the_negative(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    """The network has learned bright objects; without a step the dark ones are found."""
    run(package, network, tmp_path / "bright")
    options = replace(QUICK, steps=1, learning_rate=1e-9)
    pairs = discs(10, dark=True)
    found = train(
        package, recipe_of(package), pairs, folder=tmp_path / "a", options=options, network=network
    )
    assert any("your images are the negative" in n for n in found.notes)
    image, labels = disc_image(50, dark=True)
    with runner_of(found.package, found.differentiable.network) as runner:
        made = runner(image)[recipe_of(package).output].values[0]
    assert made[labels > 0].mean() > made[labels == 0].mean() + 0.1
    network.module.load_state_dict(dict(found.before))
    kept = recipe_of(package, polarity="keep")
    found = train(package, kept, pairs, folder=tmp_path / "b", options=options, network=network)
    assert not any("negative" in n for n in found.notes)


@pytest.mark.parametrize("last", [[], [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}]])
def test_an_inverted_package_sees_the_negative_up_to_the_edges(
    tmp_path: Path, last: list[dict[str, Any]]
) -> None:
    range_ = {"id": "scale_range", "kwargs": {"min_percentile": 0, "max_percentile": 100}}
    package = ModelPackage.from_folder(
        make_package(tmp_path / "p", preprocessing=[range_, *last], kernel=5)
    )
    tensor = package.raw["inputs"][0]["id"]
    made = inverted(package, tensor, 1.0, tmp_path)
    steps = made.raw["inputs"][0]["preprocessing"]
    assert [s["id"] for s in steps] == ["scale_range", "scale_linear", *(s["id"] for s in last)]
    assert package.raw["inputs"][0]["preprocessing"] == [range_, *last]  # its own stay
    image = disc_image(7)[0]
    with load(package) as before, load(made) as after:
        expected, found = before(-image), after(image)
    for name in expected:
        np.testing.assert_allclose(found[name].values, expected[name].values, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "trained"),
    [
        ({"trainable": "head"}, {"last.weight", "last.bias"}),
        ({"freeze": "encoder"}, {"last.weight", "last.bias"}),
        ({"freeze": ["first.*"]}, {"last.weight", "last.bias"}),
        ({"freeze": ["*.bias"]}, {"first.weight", "last.weight"}),
        ({}, {"first.weight", "first.bias", "last.weight", "last.bias"}),
    ],
)
def test_what_is_frozen_stays(
    package: ModelPackage, change: dict[str, Any], trained: set[str]
) -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(1, 2, 3)
            self.last = torch.nn.Conv2d(2, 1, 1)

        def forward(self, x: Any) -> Any:
            return self.last(self.first(x))

    module = Net()
    kept = chosen_parameters(module, recipe_of(package, **change), torch.zeros(1, 1, 8, 8))
    assert {n for n, p in module.named_parameters() if p.requires_grad} == trained
    assert len(kept) == len(trained)
    again = chosen_parameters(module, recipe_of(package, **change), torch.zeros(1, 1, 8, 8))
    assert len(again) == len(trained)


def test_a_pattern_that_fits_nothing_is_told(package: ModelPackage) -> None:
    module = torch.nn.Conv2d(1, 1, 3)
    with pytest.raises(UsageError, match=r"freezes 'encoder\.\*', which fits no parameter"):
        chosen_parameters(module, recipe_of(package, freeze=["encoder.*"]), torch.zeros(1, 1, 8, 8))
    with pytest.raises(UsageError, match="freezes every parameter"):
        chosen_parameters(module, recipe_of(package, freeze=["*"]), torch.zeros(1, 1, 8, 8))


def test_it_can_be_cancelled_and_keeps_what_it_learned(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    control = Control()

    def stop(event: str, info: Any) -> None:
        if isinstance(info, Step) and info.step == 7:
            control.cancel()

    found = run(package, network, tmp_path, hooks=[stop], control=control)
    assert found.outcome == "cancelled"
    assert found.steps == 7
    assert (tmp_path / "checkpoint.pt").is_file()
    assert found.parameters_changed > 0


def test_another_process_pauses_it_through_a_file(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    """The other process has a control of its own with the same file."""
    mine, other = Control(tmp_path / "control"), Control(tmp_path / "control")
    steps: list[int] = []
    reached = threading.Event()

    def listen(event: str, info: Any) -> None:
        if isinstance(info, Step):
            steps.append(info.step)
            if info.step == 3:
                other.pause()
                reached.set()

    worker = threading.Thread(
        target=run,
        args=(package, network, tmp_path / "run"),
        kwargs={"hooks": [listen], "control": mine},
    )
    worker.start()
    assert reached.wait(60)
    worker.join(0.6)
    assert worker.is_alive()
    assert steps == [1, 2, 3]
    other.resume()
    worker.join(60)
    assert not worker.is_alive()
    assert steps[-1] == 24


def run(package: ModelPackage, network: Differentiable, folder: Path, **more: Any) -> Trained:
    return train(
        package,
        recipe_of(package),
        discs(4),
        folder=folder,
        options=more.pop("options", QUICK),
        network=network,
        **more,
    )


def test_memory_that_ends_means_smaller_batches_then_smaller_patches(
    package: ModelPackage,
    network: Differentiable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = Session._loss_of
    cropped = []

    def hungry(self: Session, logits: Any, batch: Any) -> Any:
        if logits.requires_grad and logits.numel() > 40 * 40:
            raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate")
        cropped.append(tuple(logits.shape))
        return real(self, logits, batch)

    monkeypatch.setattr(Session, "_loss_of", hungry)
    options = replace(QUICK, steps=4, batch=2, patch={"y": 64, "x": 64})
    found = run(package, network, tmp_path, options=options)
    assert found.steps == 4
    assert [n for n in found.notes if "memory" in n] == [
        "memory ended at step 1: 1 patches of 64 x 64 in place of 2 of 64 x 64",
        "memory ended at step 1: 1 patches of 32 x 32 in place of 1 of 64 x 64",
    ]
    assert cropped[-1] == (1, 1, 32, 32)


def test_not_even_one_small_patch_fits(
    package: ModelPackage,
    network: Differentiable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def hungry(self: Session, logits: Any, batch: Any) -> Any:
        if logits.requires_grad:
            raise MemoryError
        return logits.sum() * 0 + 1

    monkeypatch.setattr(Session, "_loss_of", hungry)
    with pytest.raises(OutOfMemoryError, match="One patch of 32 x 32 pixels does not fit"):
        run(package, network, tmp_path)


def test_a_loss_that_is_no_number_ends_with_advice(
    package: ModelPackage,
    network: Differentiable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Session, "_loss_of", lambda self, logits, batch: logits.sum() * np.nan)
    with pytest.raises(BackendError, match=r"Use a lower learning rate than 0\.05"):
        run(package, network, tmp_path)


@pytest.mark.parametrize(
    ("scores", "outcome", "steps"),
    [
        ([0.5, 0.6, 0.5, 0.54], "early", 12),  # clearly worse twice: the best is taken
        ([0.5, 0.6, 0.56, 0.5, 0.56, 0.57], "done", 18),  # what a few images say of chance
    ],
)
def test_it_ends_early_where_it_becomes_worse(
    package: ModelPackage,
    network: Differentiable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scores: list[float],
    outcome: str,
    steps: int,
) -> None:
    told = iter(scores)
    monkeypatch.setattr(Validation, "score", lambda self, module, device: next(told))
    options = replace(QUICK, steps=18, epoch=3, patience=2)
    found = train(
        package, recipe_of(package), discs(8), folder=tmp_path, options=options, network=network
    )
    assert (found.outcome, found.steps) == (outcome, steps)
    assert any(f"ended at step {steps} of 18" in n for n in found.notes) == (outcome == "early")
    assert any("weights are those of step 6" in n for n in found.notes) == (outcome == "early")


def test_options_that_cannot_be_used(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    for change, told in (
        ({"steps": 0}, "steps above 0"),
        ({"patch": {"y": 30, "x": 32}}, "multiples of 4. Nearest: 32"),
        ({"patch": {"z": 8}}, "names the axis 'z'"),
        ({"devices": 0}, "1 device or more"),
    ):
        with pytest.raises(UsageError, match=told):
            run(package, network, tmp_path, options=replace(QUICK, **change))


def test_images_smaller_than_the_recipes_patch(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    found = run(
        package, network, tmp_path, options=replace(QUICK, steps=2, patch={"y": 256, "x": 256})
    )
    assert any("smaller than the patches of the recipe: 64 x 64 are used" in n for n in found.notes)


def test_a_network_that_takes_one_size_only(tmp_path: Path) -> None:
    """The description fixes 64, the graph too: no smaller patch is used."""
    package = trainable(tmp_path / "p", size=64)
    fixed = _with_fixed_size(package)
    found = train(
        fixed,
        recipe_of(fixed, patch={"size": {"y": 32, "x": 32}, "multiple": {"y": 32, "x": 32}}),
        discs(4),
        folder=tmp_path / "run",
        options=replace(QUICK, steps=2, batch=4, patch=None),
    )
    assert "the network takes patches of 64 x 64 only: 1 in a step" in found.notes


def _with_fixed_size(package: ModelPackage) -> ModelPackage:
    import onnx
    from onnx import helper, numpy_helper

    import biozoo
    from packages import read_rdf, sha256, write_rdf

    path = package.root / "weights.onnx"
    model = onnx.load(path)
    shape = numpy_helper.from_array(np.array([-1, 1, 64, 64], np.int64), "shape")
    model.graph.initializer.append(shape)
    model.graph.node[0].input[0] = "checked"
    model.graph.node.insert(0, helper.make_node("Reshape", ["raw", "shape"], ["checked"]))
    path.write_bytes(model.SerializeToString())
    rdf = read_rdf(package.root)
    rdf["weights"]["onnx"]["sha256"] = sha256(path)
    write_rdf(package.root, rdf)
    return biozoo.open(package.root)


def test_scribbles_teach_and_the_unpainted_rest_does_not(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    """What is unpainted is labelled wrongly on purpose: it must not matter."""
    pairs = []
    for n in range(4):
        image, labels = disc_image(n)
        rng = np.random.default_rng(n)
        painted = np.where(labels > 0, 2, 1) * (rng.random(labels.shape) < 0.05)
        opened = Image.from_array(image)
        drawn = Image.from_array(painted.astype(np.uint8))
        pairs.append(Pair(f"{n}", opened, drawn, f"{n}" * 64, scribbles=True))
    found = train(
        package, recipe_of(package), pairs, folder=tmp_path, options=QUICK, network=network
    )
    first, last = (e.losses["bce foreground"] for e in (found.history[0], found.history[-1]))
    assert last < 0.8 * first
    assert found.metric == "Dice"  # scribbles do not tell objects apart


def test_few_images_are_all_learned_from() -> None:
    pairs = discs(7)
    assert kept_aside(pairs, 0.15) == (pairs, [])
    learned, aside = kept_aside(discs(20), 0.15)
    assert len(aside) == 3
    assert not {p.digest for p in learned} & {p.digest for p in aside}
    again, same = kept_aside(list(reversed(discs(20))), 0.15)
    assert {p.digest for p in same} == {p.digest for p in aside}
    assert len(again) == 17


def test_the_rate_rises_and_falls() -> None:
    plan = Plan(100, 10, 4, {"y": 64, "x": 64}, {"y": 16, "x": 16}, 1.0, 10, 0)
    rates = [plan.rate(n) for n in range(100)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == max(rates[8:14])
    assert rates[99] == pytest.approx(0.01)
    assert sorted(rates[12:], reverse=True) == rates[12:]


def test_more_images_take_more_steps_within_limits() -> None:
    assert [round(factor_for(n), 2) for n in (2, 10, 20, 40, 1000)] == [0.5, 0.5, 1, 2, 3]


def test_smaller_plans_keep_to_the_multiples() -> None:
    plan: Plan | None = Plan(1, 1, 2, {"y": 96, "x": 96}, {"y": 32, "x": 32}, 1.0, 1, 0)
    seen = []
    while plan is not None:
        seen.append((plan.batch, plan.size["y"]))
        plan = smaller(plan)
    assert seen == [(2, 96), (1, 96), (1, 64), (1, 32)]


def test_the_average_follows_and_gives_the_weights_back() -> None:
    module = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        module.weight.fill_(0.0)
    average = Average(module, 0.9)
    with torch.no_grad():
        module.weight.fill_(1.0)
    for _ in range(3):
        average.update()
    with average.applied():
        inside = float(module.weight.item())
    assert 0.9 < inside <= 1.0
    assert module.weight.item() == 1.0
    assert Epoch(1, 10, 0.5, None, 1e-3, 2.0).losses == {}
