"""Trainings as processes: in order, paused, cancelled, killed, resumed, kept and undone."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from biozoo import ModelPackage, Zoo
from biozoo.errors import MissingFileError, NotFoundError
from biozoo_ui.jobs import JobImage
from biozoo_ui.trainings import Choices, Sample, Seen, Training, Trainings, TrainingStateError
from biozoo_ui.trainings.events import Events, Reader
from biozoo_ui.trainings.folder import Folder
from http_jobs import settings_of
from packages import make_package, zip_package
from training_process import begin_fake, held_at, let

LONG = Choices(seed=3)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A parent's folder, and beside it the zip of its child."""
    home = tmp_path_factory.mktemp("made")
    make_package(home / "tiny", validate=False)
    child = make_package(
        home / "child", id="tiny-mine", kernel=5, fields={"parent": {"id": "tiny"}}
    )
    zip_package(child)
    return home


@pytest.fixture
def zoo(tmp_path: Path, made: Path) -> Zoo:
    zoo = Zoo(settings_of(tmp_path))
    zoo.add(made / "tiny")
    return zoo


@pytest.fixture
def package(zoo: Zoo) -> ModelPackage:
    return zoo.get("tiny")


@pytest.fixture
def start(zoo: Zoo, made: Path, tmp_path: Path) -> Iterator[Callable[[], Trainings]]:
    """Starts a server's trainings on one folder, again and again."""
    begun: list[Trainings] = []

    def start() -> Trainings:
        one = Trainings(
            tmp_path / "trainings",
            settings=zoo.settings,
            install=zoo.add,
            remove=zoo.remove,
            begin=begin_fake(made / "child.zip"),
        )
        begun.append(one)
        return one

    yield start
    for one in begun:
        one.close()


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    paths = [tmp_path / name for name in ("a.tif", "b.tif")]
    for path in paths:
        tifffile.imwrite(path, np.zeros((64, 64), np.uint8))
    return [Sample(JobImage(p, p.name, id=p.stem), JobImage(paths[0], "labels")) for p in paths]


def until(look: Callable[[], Any], wanted: Callable[[Any], bool]) -> Any:
    limit = time.monotonic() + 60
    while not wanted(found := look()):
        assert time.monotonic() < limit, found
        time.sleep(0.01)
    return found


def stepped(trainings: Trainings, one: Training, tmp_path: Path, steps: int) -> Training:
    """Once the process has done so many steps."""
    let(tmp_path / "trainings" / one.id, steps)
    found: Training = until(lambda: trainings.get(one.id), lambda t: t.progress.step == steps)
    return found


# ------------------------------------------------------------------------------- what a training is


def test_it_tells_its_curves_its_verdict_and_its_child(
    start: Any, package: ModelPackage, samples: list[Sample]
) -> None:
    trainings = start()
    asked = trainings.submit(package, samples, owner="me")
    assert asked.active
    done = trainings.wait(asked.id, 60)
    assert (done.state, done.error) == ("done", "")
    now = done.progress
    assert [(e.number, e.step, e.score) for e in now.epochs] == [(1, 3, 0.1 * 3), (2, 6, 0.1 * 6)]
    assert (now.step, now.steps, now.metric, now.reasons) == (6, 6, "AP50", ("One channel.",))
    assert now.gate is not None
    assert (now.gate["passed"], now.gate["gain"]) == (True, None)
    assert now.gate["why"] == "It is better than its parent."
    assert now.child == "child.zip"


def test_they_run_one_after_the_other_and_each_is_its_owners(
    start: Any, package: ModelPackage, tmp_path: Path
) -> None:
    trainings = start()
    first = trainings.submit(package, [], LONG, owner="me")
    second = trainings.submit(package, [], owner="me")
    stepped(trainings, first, tmp_path, 2)
    assert trainings.get(second.id).state == "waiting"
    assert [t.id for t in trainings.of_owner("me")] == [second.id, first.id]
    assert trainings.of_owner("other") == []
    with pytest.raises(NotFoundError):
        trainings.get(first.id, "other")
    with pytest.raises(NotFoundError):
        trainings.get("../" + first.id)
    trainings.cancel(first.id)
    assert trainings.wait(second.id, 60).state == "done"


def test_failures_are_told(start: Any, package: ModelPackage) -> None:
    trainings = start()
    words = trainings.submit(package, [], Choices(seed=1), owner="me")
    other = trainings.submit(package, [], Choices(seed=2), owner="me")
    assert trainings.wait(words.id, 60).state == "failed"
    assert trainings.get(words.id).error.startswith("All labels are empty.")
    assert "nobody foresaw: ZeroDivisionError: oh" in trainings.wait(other.id, 60).error


def test_images_that_go_with_the_server_are_kept_and_paint_is_copied(
    start: Any, package: ModelPackage, samples: list[Sample], tmp_path: Path
) -> None:
    paint = tmp_path / "labels.ome.zarr"
    paint.mkdir()
    (paint / "0").write_bytes(b"first")
    image = JobImage(tmp_path / "a.tif", "a.tif", keep=True)
    painted = Sample(image, JobImage(paint, "painted"), "classes")
    trainings = start()
    trainings.submit(package, [], LONG, owner="me")  # keeps the next one waiting
    asked = trainings.submit(package, [painted], owner="me", seen=Seen(image, {"y": (0, 8)}))
    (paint / "0").write_bytes(b"second")
    (tmp_path / "a.tif").unlink()
    [kept] = trainings.get(asked.id).samples
    assert kept.image.path.is_relative_to(tmp_path / "trainings")
    assert kept.image.path.exists()
    assert kept.labels is not None
    assert (kept.labels.path / "0").read_bytes() == b"first"
    seen = trainings.get(asked.id).seen
    assert seen is not None
    assert seen.image.path.exists()
    assert seen.region == {"y": (0, 8)}
    with pytest.raises(MissingFileError, match=r"a\.tif"):
        trainings.submit(package, [painted], owner="me")
    assert len(trainings.of_owner("me")) == 2


# ------------------------------------------------------------------- paused, killed, resumed


def test_paused_it_does_no_step_and_goes_on(
    start: Any, package: ModelPackage, tmp_path: Path
) -> None:
    trainings = start()
    one = trainings.submit(package, [], LONG, owner="me")
    stepped(trainings, one, tmp_path, 4)
    assert trainings.pause(one.id).state == "paused"
    assert trainings.pause(one.id).state == "paused"
    folder = tmp_path / "trainings" / one.id
    until(lambda: held_at(folder), lambda steps: steps is not None)  # the order has come
    let(folder, 9)
    until(lambda: held_at(folder), lambda steps: steps == 9)  # it saw that, and waits
    assert trainings.get(one.id).progress.step == 4
    assert trainings.resume(one.id).state == "running"
    stepped(trainings, one, tmp_path, 9)
    assert trainings.cancel(one.id).stopping
    ended = trainings.wait(one.id, 60)
    assert (ended.state, ended.stopping) == ("cancelled", False)
    assert ended.error.startswith("The training was cancelled.")


def test_killed_it_is_interrupted_and_goes_on_from_its_checkpoint(
    start: Any, package: ModelPackage, tmp_path: Path
) -> None:
    trainings = start()
    one = trainings.submit(package, [], LONG, owner="me")
    stepped(trainings, one, tmp_path, 5)
    os.kill(trainings._queue.get(one.id).running.pid, signal.SIGKILL)
    killed = trainings.wait(one.id, 60)
    assert killed.state == "interrupted"
    assert "ended from outside (signal 9)" in killed.error
    assert killed.resumable
    trainings.resume(one.id)
    again = stepped(trainings, one, tmp_path, 7)
    assert (again.state, again.error) == ("running", "")
    assert [e.step for e in again.progress.epochs] == [3, 6]
    steps = [line for line in _lines(tmp_path, one) if '"loss"' in line and '"facts"' in line]
    assert len(steps) == 7  # none was done twice


def test_a_training_ends_with_its_server_and_the_next_one_finds_it(
    start: Any, package: ModelPackage, tmp_path: Path
) -> None:
    trainings = start()
    one = trainings.submit(package, [], LONG, owner="me")
    waiting = trainings.submit(package, [], owner="me")
    stepped(trainings, one, tmp_path, 3)
    trainings.close()
    with pytest.raises(TrainingStateError, match="server is ending"):
        trainings.submit(package, [], owner="me")
    place = Folder(tmp_path / "trainings" / one.id)
    assert not place.lives()
    other = start()
    for found in (other.get(one.id), other.get(waiting.id)):
        assert found.state == "interrupted"
        assert found.error.startswith("The server ended first.")
    assert other.get(one.id).progress.step == 3
    other.resume(waiting.id)
    assert other.wait(waiting.id, 60).state == "done"


def test_a_server_that_was_killed_leaves_no_process_behind(
    start: Any, package: ModelPackage, tmp_path: Path
) -> None:
    """What its process holds of it is a pipe, which the system closes."""
    trainings = start()
    one = trainings.submit(package, [], LONG, owner="me")
    stepped(trainings, one, tmp_path, 3)
    place = Folder(tmp_path / "trainings" / one.id)
    assert place.lives()
    other = start()
    assert other.get(one.id).state == "running"  # of a server that lives
    with pytest.raises(TrainingStateError, match="another biozoo server"):
        other.resume(one.id)
    with pytest.raises(TrainingStateError, match="another biozoo server"):
        other.cancel(one.id)
    trainings._queue.get(one.id).running._process.stdin.close()
    until(place.lives, lambda lives: not lives)
    ended = until(lambda: other.get(one.id), lambda t: t.state == "interrupted")
    assert ended.resumable


def test_a_torn_line_and_an_epoch_that_comes_twice(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    events = Events(path)
    events.tell("epoch", number=1, step=3, loss=0.5, score=None)
    events.tell("epoch", number=2, step=6, loss=0.4, score=None)
    events.close()
    with path.open("ab") as file:
        file.write(b'{"event": "epoch", "number": 3')
    reader = Reader(path)
    assert [e.number for e in reader.look()[0].epochs] == [1, 2]
    events = Events(path)
    events.tell("epoch", number=2, step=6, loss=float("nan"), score=0.7)
    events.tell("end", state="done", error="")
    events.close()
    progress, end = reader.look()
    assert [(e.number, e.loss, e.score) for e in progress.epochs] == [
        (1, 0.5, None),
        (2, None, 0.7),
    ]
    assert end == {"state": "done", "error": ""}


# ------------------------------------------------------------------------------------- what becomes


def test_kept_the_child_is_in_the_zoo_and_undone_it_is_not(
    start: Any, package: ModelPackage, zoo: Zoo
) -> None:
    trainings = start()
    one = trainings.submit(package, [], owner="me")
    with pytest.raises(TrainingStateError, match="no new model"):
        trainings.keep(one.id)
    trainings.wait(one.id, 60)
    for _ in range(2):
        kept = trainings.keep(one.id)
        assert (kept.decision, kept.kept) == ("kept", "tiny-mine")
    assert zoo.get("tiny-mine").id == "tiny-mine"
    with pytest.raises(TrainingStateError, match="Undo that first"):
        trainings.discard(one.id)
    undone = trainings.undo(one.id)
    assert (undone.decision, undone.kept) == ("", "")
    with pytest.raises(NotFoundError):
        zoo.get("tiny-mine")
    with pytest.raises(TrainingStateError, match="Nothing of this training"):
        trainings.undo(one.id)
    assert start().keep(one.id).kept == "tiny-mine"  # a later server may decide
    trainings.undo(one.id)
    assert trainings.discard(one.id).decision == "discarded"
    assert trainings.discard(one.id).decision == "discarded"
    with pytest.raises(TrainingStateError, match="no new model"):
        trainings.keep(one.id)


def test_a_child_that_the_gate_refuses_cannot_be_kept(start: Any, package: ModelPackage) -> None:
    trainings = start()
    one = trainings.submit(package, [], Choices(seed=4), owner="me")
    done = trainings.wait(one.id, 60)
    assert done.state == "done"
    assert done.progress.gate is not None
    assert not done.progress.gate["passed"]
    with pytest.raises(TrainingStateError, match="no new model"):
        trainings.keep(one.id)


def test_deleted_its_files_go_and_a_running_one_is_not_deleted(
    start: Any, package: ModelPackage, tmp_path: Path
) -> None:
    trainings = start()
    long = trainings.submit(package, [], LONG, owner="me")
    waiting = trainings.submit(package, [], owner="me")
    stepped(trainings, long, tmp_path, 1)
    with pytest.raises(TrainingStateError, match="Cancel it first"):
        trainings.delete(long.id)
    trainings.delete(waiting.id)
    trainings.cancel(long.id)
    trainings.wait(long.id, 60)
    trainings.delete(long.id)
    assert trainings.of_owner("me") == []
    assert [p.name for p in (tmp_path / "trainings").iterdir()] == ["servers"]


def test_only_the_last_ones_of_an_owner_stay(
    zoo: Zoo, package: ModelPackage, tmp_path: Path
) -> None:
    with Trainings(
        tmp_path / "trainings", settings=zoo.settings, install=zoo.add, remove=zoo.remove,
        begin=begin_fake(), kept=2,
    ) as trainings:  # fmt: skip
        made = []
        for _ in range(3):
            made.append(trainings.submit(package, [], Choices(seed=1), owner="me").id)
            trainings.wait(made[-1], 30)
        assert [t.id for t in trainings.of_owner("me")] == made[:0:-1]


def _lines(tmp_path: Path, one: Training) -> list[str]:
    return (tmp_path / "trainings" / one.id / "events.jsonl").read_text().splitlines()
