"""Killed and resumed: it goes on within an epoch's work and ends with the same weights."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from biozoo.errors import UsageError
from biozoo.package import ModelPackage
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.network import Differentiable, differentiable
from trainable import discs, trainable

torch = pytest.importorskip("torch")
for library in ("onnx2pytorch", "monai", "lightning_fabric"):
    pytest.importorskip(library)

from biozoo_trainers.training import Control, Trained, TrainOptions, train  # noqa: E402

OPTIONS = TrainOptions(
    steps=12,
    batch=2,
    patch={"y": 32, "x": 32},
    device="cpu",
    threads=1,
    epoch=4,
    learning_rate=0.05,
)

#: Trainings in a process of their own, which imports the libraries once: one on two devices, then
#: one that says each step it has done and waits after the tenth.
SCRIPT = """
import sys
from dataclasses import replace
from pathlib import Path
sys.path[:0] = {paths!r}
import biozoo
from biozoo_trainers.inference import infer_recipe
from biozoo_trainers.training import train
from test_training_resume import OPTIONS
from trainable import discs

def tell(event, info):
    if event == "step":
        print(info.step, flush=True)

def wait(event, info):
    if event == "step" and info.step == 10:
        sys.stdin.read()

package = biozoo.open({package!r})
recipe, folder = infer_recipe(package).recipe, Path({folder!r})
found = train(package, recipe, discs(4), folder=folder / "two", hooks=[tell],
              options=replace(OPTIONS, devices=2, steps=4))
print("changed", found.parameters_changed, found.history[-1].step, flush=True)
train(package, recipe, discs(4), folder=folder / "killed", options=OPTIONS, hooks=[tell, wait])
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> ModelPackage:
    return trainable(tmp_path_factory.mktemp("package") / "p")


@pytest.fixture(scope="module")
def proven(package: ModelPackage) -> tuple[Differentiable, dict[str, Any]]:
    made = differentiable(package, infer_recipe(package).recipe)
    return made, {n: v.clone() for n, v in made.module.state_dict().items()}


@pytest.fixture
def network(proven: tuple[Differentiable, dict[str, Any]]) -> Differentiable:
    made, values = proven
    made.module.load_state_dict(values)
    return made


def run(
    package: ModelPackage, network: Differentiable, folder: Path, **more: Any
) -> tuple[Trained, dict[str, Any]]:
    found = train(
        package,
        more.pop("recipe", infer_recipe(package).recipe),
        more.pop("pairs", discs(4)),
        folder=folder,
        options=more.pop("options", OPTIONS),
        network=network,
        **more,
    )
    return found, {n: v.clone() for n, v in found.module.state_dict().items()}


@pytest.fixture(scope="module")
def undisturbed(
    package: ModelPackage,
    proven: tuple[Differentiable, dict[str, Any]],
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[Trained, dict[str, Any]]:
    proven[0].module.load_state_dict(proven[1])
    return run(package, proven[0], tmp_path_factory.mktemp("undisturbed"))


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(torch.equal(one[n], other[n]) for n in one)


@pytest.fixture(scope="module")
def process(
    package: ModelPackage, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[str]]:
    """The folder of a process that was killed after its tenth step, and what it had said."""
    folder = tmp_path_factory.mktemp("process")
    script = SCRIPT.format(
        paths=[p for p in sys.path if p], package=str(package.root), folder=str(folder)
    )
    said: list[str] = []
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(
            [sys.executable, "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=Path(__file__).parent,
        ) as child,
    ):
        assert child.stdout is not None
        for line in child.stdout:
            said.append(line.strip())
            if said[-1] == "10":
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL, (folder / "log").read_text()[-2000:]
    return folder, said


def test_killed_in_the_middle_and_resumed_it_ends_with_the_same_weights(
    package: ModelPackage,
    network: Differentiable,
    undisturbed: tuple[Trained, dict[str, Any]],
    process: tuple[Path, list[str]],
) -> None:
    steps: list[int] = []
    found, weights = run(
        package,
        network,
        process[0] / "killed",
        resume=True,
        hooks=[lambda event, info: steps.append(info.step) if event == "step" else None],
    )
    assert steps[0] == 9  # the second epoch's checkpoint: 4 steps of work at most are done again
    assert steps[-1] == found.steps == 12
    assert same(weights, undisturbed[1])
    assert [e.loss for e in found.history] == [e.loss for e in undisturbed[0].history]


def test_stopped_within_an_epoch_and_resumed(
    package: ModelPackage,
    network: Differentiable,
    undisturbed: tuple[Trained, dict[str, Any]],
    tmp_path: Path,
) -> None:
    control = Control()

    def stop(event: str, info: Any) -> None:
        if event == "step" and info.step == 6:
            control.cancel()

    first, _ = run(package, network, tmp_path, hooks=[stop], control=control)
    assert (first.outcome, first.steps) == ("cancelled", 6)
    network.module.load_state_dict(dict(first.before))
    found, weights = run(package, network, tmp_path, resume=True)
    assert found.outcome == "done"
    assert same(weights, undisturbed[1])
    assert found.seconds > first.seconds
    assert [e.loss for e in found.history] == [e.loss for e in undisturbed[0].history]


def test_what_has_ended_is_not_trained_again(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    first, weights = run(package, network, tmp_path)
    network.module.load_state_dict(dict(first.before))
    steps: list[int] = []
    again, same_weights = run(
        package,
        network,
        tmp_path,
        resume=True,
        hooks=[lambda event, info: steps.append(1) if event == "step" else None],
    )
    assert not steps
    assert same(weights, same_weights)
    assert again.history == first.history
    assert again.rule == first.rule


def test_without_a_checkpoint_it_begins(
    package: ModelPackage,
    network: Differentiable,
    undisturbed: tuple[Trained, dict[str, Any]],
    tmp_path: Path,
) -> None:
    _, weights = run(package, network, tmp_path, resume=True)
    assert same(weights, undisturbed[1])


def test_another_training_is_not_gone_on_with(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    run(package, network, tmp_path, options=replace(OPTIONS, steps=2, epoch=1))
    recipe = infer_recipe(package).recipe
    for change, told in (
        ({"options": replace(OPTIONS, steps=3, epoch=1)}, "options, steps differ"),
        ({"pairs": discs(5)}, "images, labels"),
        ({"recipe": recipe.model_copy(update={"freeze": "encoder"})}, "recipe"),
    ):
        with pytest.raises(UsageError, match="of another training") as error:
            run(package, network, tmp_path, resume=True, **change)
        assert told in str(error.value)


def test_several_devices_train_one_network(process: tuple[Path, list[str]]) -> None:
    """Two processes on the CPU, as two cards would be used; in a child, which may fork itself."""
    said = process[1]
    assert said[:4] == ["1", "2", "3", "4"]  # the first process tells
    assert said[4] == "changed 45 4"
    assert said[5] == "1"  # the next training of the same process


def test_a_damaged_checkpoint_is_told(
    package: ModelPackage, network: Differentiable, tmp_path: Path
) -> None:
    (tmp_path / "checkpoint.pt").write_bytes(b"half of it")
    with pytest.raises(UsageError, match=r"cannot be read .* Remove it"):
        run(package, network, tmp_path, resume=True)
