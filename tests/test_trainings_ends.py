"""How trainings end that do not end by themselves, and what their processes leave to others."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from biozoo import ModelPackage, Zoo
from biozoo.errors import Cancelled, StorageError
from biozoo_trainers.training import Control
from biozoo_ui.jobs import JobImage
from biozoo_ui.trainings import Choices, Sample, Training, Trainings, TrainingStateError
from biozoo_ui.trainings import process as process_module
from biozoo_ui.trainings.events import Events, Reader
from biozoo_ui.trainings.folder import Folder
from biozoo_ui.trainings.model import ENDED_FULL
from http_jobs import settings_of
from packages import make_package
from scripted_training import Scripted


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    home = tmp_path_factory.mktemp("home")
    zoo = Zoo(settings_of(home))
    zoo.add(make_package(home / "tiny", validate=False))
    return zoo


@pytest.fixture
def package(zoo: Zoo) -> ModelPackage:
    return zoo.get("tiny")


Begin = Callable[[Folder], Any]


@pytest.fixture
def serve(zoo: Zoo, tmp_path: Path) -> Iterator[Callable[[Begin], Trainings]]:
    """Starts a server's trainings, all on one folder."""
    begun: list[Trainings] = []

    def serve(begin: Begin) -> Trainings:
        folder = tmp_path / "trainings"
        begun.append(
            Trainings(
                folder, settings=zoo.settings, install=zoo.add, remove=zoo.remove, begin=begin
            )
        )
        return begun[-1]

    yield serve
    for one in begun:
        one.close()


def ended_with(
    serve: Any, package: ModelPackage, code: int, printed: str = ""
) -> tuple[Trainings, Training]:
    """A training whose process ended with this status and told nothing."""

    def begin(place: Folder) -> Scripted:
        place.log.write_text(printed)
        running = Scripted()
        running.finish(code)
        return running

    trainings = serve(begin)
    return trainings, trainings.wait(trainings.submit(package, [], owner="me").id, 30)


# ------------------------------------------------------------------------------- why it ended


def test_killed_for_its_memory_it_says_what_to_do(serve: Any, package: ModelPackage) -> None:
    _, one = ended_with(serve, package, -9, "a warning of a library\n")
    assert (one.state, one.resumable) == ("interrupted", True)
    assert "the memory was used up: close other programs" in one.error
    assert "a warning" not in one.error


def test_crashed_it_names_the_signal_and_else_its_last_words(
    serve: Any, package: ModelPackage
) -> None:
    _, crashed = ended_with(serve, package, -11)
    assert "(signal 11, SIGSEGV)" in crashed.error
    _, left = ended_with(serve, package, 1, "ImportError: no module named torch\n")
    assert "ended too early (exit status 1: ImportError: no module named torch)" in left.error
    assert left.resumable


def test_a_full_disk_is_told_where_the_process_could_not(serve: Any, package: ModelPackage) -> None:
    _, one = ended_with(serve, package, ENDED_FULL)
    assert (one.state, one.resumable) == ("failed", True)
    assert one.error.startswith("The disk is full, so the training had to stop. Free some space.")


def test_it_does_not_seem_to_run_where_its_end_could_not_be_written(
    serve: Any, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = False
    write = Folder.write

    def refusing(place: Folder, training: Training) -> None:
        if full:
            raise StorageError(path="x", why="no space is left on the disk")
        write(place, training)

    monkeypatch.setattr(Folder, "write", refusing)
    running = Scripted()
    trainings = serve(lambda place: running)
    one = trainings.submit(package, [], owner="me")
    while trainings.get(one.id).state != "running":  # that it runs is written, only its end is not
        threading.Event().wait(0.01)
    full = True
    trainings.cancel(one.id)
    running.finish(0)
    assert trainings.wait(one.id, 30).state == "cancelled"
    assert [t.state for t in trainings.of_owner("me")] == ["cancelled"]
    place = Folder(trainings._folder / one.id)
    assert place.read().state != "cancelled"  # type: ignore[union-attr]
    full = False
    assert trainings.get(one.id).state == "cancelled"
    assert place.read().state == "cancelled"  # type: ignore[union-attr]


# ------------------------------------------------------------------------------- orders


def test_an_order_while_the_process_begins_is_not_lost(serve: Any, package: ModelPackage) -> None:
    running = Scripted()
    cancelling: list[threading.Thread] = []

    def begin(place: Folder) -> Scripted:
        thread = threading.Thread(target=trainings.cancel, args=(place.path.name,))
        thread.start()
        cancelling.append(thread)
        thread.join(0.3)  # it waits now until the process is there
        return running

    trainings = serve(begin)
    one = trainings.submit(package, [], owner="me")
    while not cancelling:
        threading.Event().wait(0.01)
    cancelling[0].join(30)
    assert running.orders == ["cancel"]
    running.finish(0)
    assert trainings.wait(one.id, 30).state == "cancelled"


def test_cancelled_while_it_waits_it_never_begins(serve: Any, package: ModelPackage) -> None:
    begun: list[str] = []
    running = Scripted()

    def begin(place: Folder) -> Scripted:
        begun.append(place.path.name)
        return running

    trainings = serve(begin)
    first, second, third = (trainings.submit(package, [], owner="me").id for _ in range(3))
    assert trainings.cancel(second).state == "cancelled"
    running.finish(0)
    trainings.wait(third, 30)
    assert begun == [first, third]


def test_between_two_things_that_are_done_a_cancelled_one_ends(tmp_path: Path) -> None:
    from biozoo_ui.trainings.work import _Stages

    control = Control()
    events = Events(tmp_path / "events.jsonl")
    stages = _Stages(events, control)
    stages("testing in onnxruntime", 0, None)
    control.cancel()
    with pytest.raises(Cancelled):
        stages("testing in onnxruntime", 1, None)
    events.close()


def test_without_a_server_its_process_is_to_end() -> None:
    control, gone = Control(), threading.Event()
    orders = process_module.Orders(control, io.StringIO("pause\n"), gone.set)
    assert gone.wait(30)
    assert (control.cancelled, orders.why) == (True, "interrupted")


# ------------------------------------------------------------------------------- killed servers


def test_one_whose_server_was_killed_stops_before_it_is_interrupted(
    serve: Any, package: ModelPackage
) -> None:
    running = Scripted()
    first = serve(lambda place: running)
    one = first.submit(package, [], owner="me")
    running.finish(0)
    first.wait(one.id, 30)
    place = Folder(first._folder / one.id)
    place.write(replace(first.get(one.id), state="running", error="", server="killed"))
    other = serve(lambda place: running)
    with place.lock().acquire():  # its process still writes its last checkpoint
        stopping = other.get(one.id)
        assert (stopping.state, stopping.stopping) == ("running", True)
        assert other.cancel(one.id).stopping
        with pytest.raises(TrainingStateError, match="still stopping"):
            other.resume(one.id)
        with pytest.raises(TrainingStateError, match="runs"):
            other.delete(one.id)
    found = other.get(one.id)
    assert (found.state, found.resumable) == ("interrupted", True)
    assert found.error.startswith("The server ended first.")


# ------------------------------------------------------------------------------- events


class _Full:
    """A file on a disk that takes a part of a line and refuses the rest."""

    def __init__(self, file: Any) -> None:
        self._file, self._room = file, 10

    def write(self, data: Any) -> int:
        if not self._room:
            raise OSError(errno.ENOSPC, "No space left on device")
        room, self._room = self._room, 0
        return int(self._file.write(data[:room]))


def test_a_disk_that_was_full_for_a_while_costs_one_event(tmp_path: Path) -> None:
    events = Events(tmp_path / "events.jsonl")
    events.tell("facts", step=1)
    file = events._file
    events._file = _Full(file)  # type: ignore[assignment]
    with pytest.raises(StorageError, match="no space"):
        events.tell("facts", step=2)
    events._file = file
    events.tell("end", state="done", error="")
    events.close()
    progress, end = Reader(tmp_path / "events.jsonl").look()
    assert progress.step == 1
    assert end == {"state": "done", "error": ""}


def test_damaged_lines_hide_no_training(serve: Any, package: ModelPackage) -> None:
    damaged = b'{"event": "stage"}\n{"event": "epoch", "n": 1}\n[]\n7\n\0\0\0\n{"event": "end"}\n'

    def begin(place: Folder) -> Scripted:
        place.events.write_bytes(damaged + b'{"event": "facts", "step": 3}\n')
        running = Scripted()
        running.finish(0)
        return running

    trainings = serve(begin)
    one = trainings.submit(package, [], owner="me")
    assert trainings.wait(one.id, 30).progress.step == 3
    second = trainings.submit(package, [], owner="me")
    assert trainings.wait(second.id, 30).state == "interrupted"  # its turn came


def test_a_process_that_cannot_tell_its_end_says_so_by_its_status(
    serve: Any, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = ModuleType("biozoo_ui.trainings.work")
    work.work = lambda *_: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, work.__name__, work)
    tell = Events.tell

    def refusing(events: Events, event: str, **facts: Any) -> None:
        if event == "end":
            raise StorageError(path="x", why="no space is left on the disk")
        tell(events, event, **facts)

    _, one = ended_with(serve, package, 0)
    path = serve(lambda place: Scripted())._folder / one.id
    assert process_module.main(path, io.StringIO()) == 0
    monkeypatch.setattr(Events, "tell", refusing)
    assert process_module.main(path, io.StringIO()) == ENDED_FULL


# ------------------------------------------------------------------------------- beside others


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="no autogroups here")
def test_it_stands_back_also_as_a_session_of_its_own() -> None:
    """Else its niceness counts among its own threads only."""
    code = (
        "import os; from biozoo_ui.trainings.process import stand_back; stand_back();"
        "print(open('/proc/self/autogroup').read().split()[-1],"
        " open('/proc/self/oom_score_adj').read().strip(), os.nice(0))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, check=True, start_new_session=True, env=os.environ,
    )  # fmt: skip
    group, memory, nice = map(int, done.stdout.split())
    assert (group, memory) == (5, 500)
    assert nice >= 5


def test_two_asked_for_at_once_do_not_call_their_models_the_same(
    serve: Any, package: ModelPackage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both are on their way before either has a name."""
    trainings = serve(lambda place: Scripted())
    keep, both = Folder.keep, threading.Barrier(2, timeout=30)

    def keeping(place: Folder, *given: Any) -> Any:
        both.wait()
        return keep(place, *given)

    monkeypatch.setattr(Folder, "keep", keeping)

    def free() -> Choices:
        number = 1
        while f"mine-{number}" in trainings.claimed():
            number += 1
        return Choices(id=f"mine-{number}")

    def ask() -> None:
        trainings.submit(package, [], free, owner="me")

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert {t.choices.id for t in trainings.of_owner("me")} == {"mine-1", "mine-2"}


def test_what_is_copied_is_not_painted_on_meanwhile(
    serve: Any, package: ModelPackage, tmp_path: Path
) -> None:
    """Else a stroke would be there by half."""
    painted = tmp_path / "labels.ome.zarr"
    painted.mkdir()
    held: list[bool] = []

    @contextlib.contextmanager
    def hold() -> Iterator[None]:
        (painted / "whole").touch()
        yield
        held.append((painted / "whole").exists())
        (painted / "whole").unlink()

    image = JobImage(tmp_path / "a.tif", "a.tif")
    trainings = serve(lambda place: Scripted())
    sample = Sample(image, JobImage(painted, "painted"), "classes", hold)
    [kept] = trainings.submit(package, [sample], owner="me").samples
    assert held == [True]
    assert kept.labels is not None
    assert (kept.labels.path / "whole").exists()
    assert trainings.of_owner("me")[0].samples[0].kind == "classes"
