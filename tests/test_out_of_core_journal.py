"""The journal of a run: what is noted is found again, whenever and however the run ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from biozoo.errors import StorageError, UsageError
from biozoo_runners.out_of_core.journal import Journal

IDENTITY = {"model": "a1", "image": "b2", "plan": "c3"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "out.ome.zarr.part"


def begin(folder: Path, *, resume: bool = False, **other: str) -> Journal:
    return Journal.begin(folder, IDENTITY | other, resume=resume)


def test_what_was_noted_is_found_again(folder: Path) -> None:
    """By stage, also of stages whose names have several words; marks may come in any order."""
    with begin(folder) as journal:
        assert not journal.resumed
        for task in (3, 0, 7):
            journal.mark("results", task)
        journal.mark("labels level-1", 5)
        journal.mark("results", 3)
        assert journal.count == 4
    with begin(folder, resume=True) as journal:
        assert journal.resumed
        assert journal.notes == ()
        assert journal.done("results") == {0, 3, 7}
        assert journal.done("labels level-1") == {5}
        assert journal.done("levels") == frozenset()
        assert journal.count == 4
        with pytest.raises(ValueError, match="cannot be noted"):
            journal.mark("two\nlines", 1)


def test_an_unfinished_run_is_not_overwritten(folder: Path) -> None:
    """Hours of work: the message says how far it is and what to do."""
    with begin(folder) as journal:
        for task in range(12):
            journal.mark("results", task)
    with pytest.raises(UsageError, match=r"12 of its tasks done.*--resume, or remove this folder"):
        begin(folder)
    with begin(folder, resume=True) as journal:
        assert journal.count == 12


def test_another_run_is_not_continued(folder: Path) -> None:
    """The parts that differ are named as a user knows them."""
    begin(folder).close()
    with pytest.raises(UsageError, match=r"differs from this one in: image\. Resume with"):
        begin(folder, resume=True, image="other")
    with pytest.raises(UsageError, match=r"in: model, image and options\."):
        begin(folder, resume=True, image="other", model="other", options="new")
    begin(folder, resume=True).close()


def test_resume_without_a_run_begins_one(folder: Path) -> None:
    """And says so, since a wrong name of the output is a likely cause."""
    with begin(folder, resume=True) as journal:
        assert not journal.resumed
        assert "a new one is begun" in journal.notes[0]


def test_a_folder_of_something_else_is_left_alone(folder: Path) -> None:
    """Whatever is in it."""
    folder.mkdir()
    (folder / "thesis.txt").write_text("42")
    with pytest.raises(StorageError, match="is of no run"):
        begin(folder, resume=True)
    assert (folder / "thesis.txt").read_text() == "42"


def test_a_folder_killed_before_it_was_begun_counts_as_none(folder: Path) -> None:
    """Without run.json nothing counts: whose journal would it be?"""
    begin(folder).close()
    (folder / "done").write_text("results 4\n")
    (folder / "run.json").unlink()
    (folder / ".run.json.1234.part").write_text("{")
    with begin(folder) as journal:
        assert journal.count == 0


def test_two_runs_into_one_output(folder: Path) -> None:
    """The second is told who works there; the first goes on."""
    with begin(folder) as journal:
        with pytest.raises(StorageError, match=f"another run works there.*process {os.getpid()}"):
            begin(folder, resume=True)
        journal.mark("results", 1)
    begin(folder, resume=True).close()


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(kept=st.integers(0, 60), more=st.integers(0, 999))
def test_a_torn_last_line_does_not_count(
    tmp_path_factory: pytest.TempPathFactory, kept: int, more: int
) -> None:
    """And what is noted next is a line of its own."""
    folder = tmp_path_factory.mktemp("torn") / "a.part"
    tasks = [5, 17, 123, 1234]
    with begin(folder) as journal:
        for task in tasks:
            journal.mark("results", task)
    text = (folder / "done").read_bytes()
    (folder / "done").write_bytes(text[:kept])
    whole = set(tasks[: text[:kept].count(b"\n")])
    with begin(folder, resume=True) as journal:
        assert journal.done("results") == whole
        journal.mark("results", more)
    with begin(folder, resume=True) as journal:
        assert journal.done("results") == whole | {more}


def test_lines_that_say_nothing_are_passed_over(folder: Path) -> None:
    """A loss of power may leave zeros in a file."""
    with begin(folder) as journal:
        journal.mark("results", 1)
    with (folder / "done").open("ab") as file:
        file.write(b"\0\0\0\0\n\xff 3\nresults 2\n")
    with begin(folder, resume=True) as journal:
        assert journal.done("results") == {1, 2}


def test_a_disk_that_is_full_in_the_middle_of_a_line(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system writes what fits and reports no error: the task does not count."""
    write = os.write
    with begin(folder) as journal:
        journal.mark("results", 1)
        monkeypatch.setattr(os, "write", lambda file, line: write(file, line[:-3]))
        with pytest.raises(StorageError, match=r"the disk is full.*Free some space"):
            journal.mark("results", 234)
        monkeypatch.undo()
    with begin(folder, resume=True) as journal:
        assert journal.done("results") == {1}


def test_a_damaged_identity_is_told(folder: Path) -> None:
    """Not a traceback."""
    begin(folder).close()
    for text in ("", "[]", '{"of": 3}'):
        (folder / "run.json").write_text(text)
        with pytest.raises(UsageError, match=r"damaged.*Remove the folder"):
            begin(folder, resume=True)


# --- the end --------------------------------------------------------------------------------------


def results(folder: Path) -> dict[Path, Path]:
    """Two results in the folder, and their places, one of which is taken."""
    moves = {}
    for name in ("a", "b"):
        source = folder / "results" / f"{name}.zarr"
        source.mkdir(parents=True)
        (source / "zarr.json").write_text(f"new {name}")
        moves[source] = folder.parent / "out" / f"{name}.zarr"
    old = moves[folder / "results" / "b.zarr"]
    old.mkdir(parents=True)
    (old / "zarr.json").write_text("old b")
    (old / "1").write_text("a level that is gone")
    return moves


def in_place(folder: Path) -> dict[str, str]:
    out = folder.parent / "out"
    return {str(p.relative_to(out)): p.read_text() for p in out.rglob("*") if p.is_file()}


NEW = {"a.zarr/zarr.json": "new a", "b.zarr/zarr.json": "new b"}


def test_results_are_moved_and_nothing_else_is_left(folder: Path) -> None:
    """Existing outputs are replaced whole."""
    with begin(folder) as journal:
        journal.finish(results(folder))
        assert journal.finished
    assert in_place(folder) == NEW
    assert [p.name for p in folder.parent.iterdir()] == ["out"]
    with begin(folder) as journal:
        assert journal.count == 0


@pytest.mark.parametrize("moment", range(12))
def test_a_killed_end_is_brought_to_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, moment: int
) -> None:
    """Before any of the calls that change names; at no moment is an output without its old self."""
    journal = begin(folder)
    journal.mark("results", 1)
    moves = results(folder)
    calls = 0

    class Killed(BaseException):
        pass

    def dying(name: str) -> None:
        own = getattr(os, name)

        def call(*args: object, **options: object) -> object:
            nonlocal calls
            if calls >= moment:  # nothing works after the kill, no tidying either
                raise Killed
            calls += 1
            return own(*args, **options)

        monkeypatch.setattr(os, name, call)

    for name in ("rename", "replace", "rmdir", "unlink", "mkdir"):
        dying(name)
    with contextlib.suppress(Killed):
        journal.finish(moves)
    monkeypatch.undo()
    journal._lock.release()  # as the system does
    if not folder.exists():
        assert in_place(folder) == NEW
        return
    if not (folder / "moves.json").exists():  # not yet begun: the run calls it again
        assert in_place(folder)["b.zarr/zarr.json"] == "old b" or in_place(folder) == NEW
        with begin(folder, resume=True) as again:
            assert again.done("results") == ({1} if again.resumed else set())
            again.finish(moves)
    else:
        again = begin(folder, resume=True)
        assert again.finished or not again.resumed
        again.close()
    assert in_place(folder) == NEW


def test_a_place_that_cannot_be_taken_keeps_what_it_had(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the run can be ended once the reason is gone."""
    journal = begin(folder)
    moves = results(folder)
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(target).name == "b.zarr" and "results" in str(source):
            raise PermissionError(13, "Permission denied")
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with journal, pytest.raises(StorageError, match=r"b\.zarr: there is no permission"):
        journal.finish(moves)
    monkeypatch.undo()
    assert in_place(folder)["b.zarr/zarr.json"] == "old b"
    assert begin(folder, resume=True).finished
    assert in_place(folder) == NEW


# --- a real kill ----------------------------------------------------------------------------------

WORKER = """
import json, sys
from pathlib import Path
import numpy as np
from biozoo_runners.out_of_core.journal import Journal
from biozoo_runners.out_of_core.store import ResultStore
folder, final = Path(sys.argv[1]), Path(sys.argv[2])
with Journal.begin(folder, {"model": "a"}, resume=True) as journal:
    path = folder / "results" / "a.ome.zarr"
    path.parent.mkdir(exist_ok=True)
    if (path / "zarr.json").exists():
        store = ResultStore.open(path)
    else:
        store = ResultStore.create(path, axes=("y", "x"), shape=(640, 640), chunks=(64, 64),
                                   shards=(64, 64), dtype=np.dtype("uint16"))
    for task in sorted(set(range(100)) - journal.done("results")):
        y, x = (64 * i for i in divmod(task, 10))
        values = np.random.default_rng(task).integers(0, 999, (64, 64)).astype("uint16")
        store.write((slice(y, y + 64), slice(x, x + 64)), values)
        print(task, flush=True)
        journal.mark("results", task)
    store.finish()
    journal.finish({path: final})
"""


def test_killed_and_resumed_is_the_same_and_computes_nothing_twice(tmp_path: Path) -> None:
    """SIGKILL, three times, at moments of its own choosing."""

    def bytes_of(path: Path) -> dict[str, bytes]:
        return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tmp_path / f"{name}.part"), str(tmp_path / name)],
            stdout=subprocess.PIPE,
        )

    whole = start("whole")
    assert whole.communicate()[0].split() == [str(i).encode() for i in range(100)]
    done: list[int] = []
    for after in (5, 22, 41):
        process = start("killed")
        assert process.stdout is not None
        for _ in range(after):
            done.append(int(process.stdout.readline()))
        time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        done += map(int, process.stdout.read().split())
        process.wait()
        process.stdout.close()
        assert not (tmp_path / "killed").exists()
    last = start("killed")
    done += map(int, last.communicate()[0].split())
    assert last.returncode == 0
    assert set(done) == set(range(100))
    assert len(done) <= 103  # one at each kill may have been written and not noted
    assert bytes_of(tmp_path / "killed") == bytes_of(tmp_path / "whole")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["killed", "whole"]
    assert json.loads((tmp_path / "killed" / "zarr.json").read_text())["attributes"]["ome"]
