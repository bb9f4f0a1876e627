"""Tasks of stages in this process: which are done, noted, overlapped, stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from biozoo.errors import BackendError, Cancelled, ImageReadError, StorageError
from biozoo_runners.out_of_core.local import LocalExecutor
from biozoo_runners.out_of_core.stages import JobKeeper, Work, run_stages
from staged import FilesSpec, ListJournal, OneStage, Parts, wait_for


def test_all_stages_are_done_in_order_and_noted(tmp_path: Path) -> None:
    spec, journal = FilesSpec(str(tmp_path), tasks=8), ListJournal()
    told: list[tuple[str, int, int]] = []
    run_stages(spec, spec.open(), journal, LocalExecutor(), on_progress=lambda *p: told.append(p))
    assert (tmp_path / "all-1").read_text().splitlines() == [f"file {i}" for i in range(8)]
    assert journal.marks == [*(("files", i) for i in range(8)), ("joined", 0), ("joined", 1)]
    assert told == [
        *(("files", i, 8) for i in range(9)),
        *(("joined", i, 2) for i in range(3)),
    ]


def test_only_what_is_missing_is_done(tmp_path: Path) -> None:
    spec = FilesSpec(str(tmp_path))
    run_stages(spec, spec.open(), ListJournal([("files", 1), ("files", 3)]), LocalExecutor())
    assert (tmp_path / "run").read_text().split() == ["0", "2"]


@pytest.mark.parametrize(("what", "kind"), [("fail", ImageReadError), ("bug", ZeroDivisionError)])
def test_a_failing_task_is_named_and_what_was_done_is_kept(
    tmp_path: Path, what: str, kind: type[Exception]
) -> None:
    spec, journal = FilesSpec(str(tmp_path), trouble=((2, what),)), ListJournal()
    with pytest.raises(kind) as caught:
        run_stages(spec, spec.open(), journal, LocalExecutor())
    said = "\n".join([str(caught.value), *getattr(caught.value, "__notes__", [])])
    assert "task 2 of 'files'" in said
    assert "--resume" in said
    assert journal.marks == [("files", 0), ("files", 1)]
    assert not (tmp_path / "all-0").exists()


def test_a_stop_is_heard_between_tasks(tmp_path: Path) -> None:
    spec, journal = FilesSpec(str(tmp_path)), ListJournal()
    with pytest.raises(Cancelled) as caught:
        run_stages(
            spec, spec.open(), journal, LocalExecutor(), cancelled=lambda: len(journal.marks) == 2
        )
    assert "task" not in str(caught.value)
    assert journal.marks == [("files", 0), ("files", 1)]


def test_an_executor_that_leaves_tasks_out_is_noticed(tmp_path: Path) -> None:
    class Lazy(LocalExecutor):
        def run(self, work, on_done, cancelled):  # type: ignore[no-untyped-def]
            super().run(Work(work.spec, work.stage, work.tasks[1:]), on_done, cancelled)

    spec = FilesSpec(str(tmp_path))
    with pytest.raises(BackendError, match="1 of 4 tasks of 'files' were not done"):
        run_stages(spec, spec.open(), ListJournal(), Lazy())


# ------------------------------------------------------------------------------------ split stages


def run_parts(parts: Parts, journal: ListJournal, **options: object) -> None:
    spec = FilesSpec("unused")
    run_stages(spec, OneStage([parts]), journal, LocalExecutor(), **options)  # type: ignore[arg-type]


def test_the_parts_of_tasks_follow_one_another() -> None:
    parts, journal = Parts(5), ListJournal()
    run_parts(parts, journal)
    assert parts.written == {i: f"made of read {i}" for i in range(5)}
    assert journal.marks == [("split", i) for i in range(5)]


def test_reading_and_writing_overlap_computing() -> None:
    # Task 1 ends its computing only when task 2 is being read and task 0 is written and noted.
    reading, noted = threading.Event(), threading.Event()
    both: list[bool] = []

    class Noting(ListJournal):
        def mark(self, stage: str, task: int) -> None:
            super().mark(stage, task)
            noted.set()

    parts = Parts(
        3,
        prepare_hook=lambda task: reading.set() if task == 2 else None,
        compute_hook=lambda task: (
            both.append(reading.wait(20) and noted.wait(20)) if task == 1 else None
        ),
    )
    run_parts(parts, Noting())
    assert both == [True]


def test_no_more_is_in_memory_than_two_read_and_two_made() -> None:
    # Each part waits until as much is there as may be, and then some time for more.
    def full(kind: int) -> None:
        end = time.monotonic() + 20
        while parts.alive[kind] < 2 and time.monotonic() < end:
            time.sleep(0.005)
        time.sleep(0.05)

    parts = Parts(
        6,
        compute_hook=lambda task: full(0) if task < 5 else None,
        write_hook=lambda task: full(1) if task < 5 else None,
    )
    run_parts(parts, ListJournal())
    assert parts.most == [2, 2]
    assert len(parts.written) == 6


@pytest.mark.parametrize("part", ["prepare", "compute", "write"])
def test_an_error_in_any_part_comes_once_and_threads_end(part: str) -> None:
    def trouble(task: int) -> None:
        if task == 2:
            raise StorageError(path="out.zarr", why="the disk is full")

    parts, journal = Parts(6), ListJournal()
    setattr(parts, f"{part}_hook", trouble)
    threads = threading.active_count()
    with pytest.raises(StorageError, match=r"disk is full(?s:.*)task 2 of 'split'") as caught:
        run_parts(parts, journal)
    assert str(caught.value).count("This was task") == 1
    assert journal.marks == [("split", 0), ("split", 1)]
    assert threading.active_count() == threads
    assert ("compute", 4) not in parts.log


def test_what_was_written_while_another_task_failed_is_noted() -> None:
    failed = threading.Event()

    def compute(task: int) -> None:
        if task == 1:
            failed.set()
            raise ZeroDivisionError

    parts = Parts(3, compute_hook=compute, write_hook=lambda task: failed.wait(20) and None)
    journal = ListJournal()
    with pytest.raises(ZeroDivisionError):
        run_parts(parts, journal)
    assert journal.marks == [("split", 0)]


def test_a_stop_is_heard_while_waiting_for_the_disk() -> None:
    asked = threading.Event()
    asks: list[bool] = []

    def cancelled() -> bool:
        asks.append(True)
        if len(asks) < 4:  # of stages, of tasks, and once while waiting
            return False
        asked.set()
        return True

    parts = Parts(3, prepare_hook=lambda task: asked.wait(20) and None)
    with pytest.raises(Cancelled):
        run_parts(parts, ListJournal(), cancelled=cancelled)
    assert ("compute", 0) not in parts.log


def test_a_task_that_is_stopped_itself_did_not_fail() -> None:
    def compute(task: int) -> None:
        if task == 1:
            raise Cancelled

    with pytest.raises(Cancelled) as caught:
        run_parts(Parts(3, compute_hook=compute), ListJournal())
    assert str(caught.value) == str(Cancelled())


def test_what_is_written_is_freed_while_the_next_is_computed() -> None:
    alone: list[bool] = []

    def compute(task: int) -> None:
        end = time.monotonic() + 20
        while parts.alive[1] > 1 and time.monotonic() < end:
            time.sleep(0.005)
        alone.append(parts.alive[1] == 1)

    parts = Parts(3, compute_hook=compute)
    run_parts(parts, ListJournal())
    assert alone == [True] * 3


PROGRAM = """
import sys, time
from pathlib import Path
from biozoo_runners.out_of_core.local import LocalExecutor
from biozoo_runners.out_of_core.stages import run_stages
from staged import FilesSpec, ListJournal, OneStage, Parts, wait_for

here = Path(sys.argv[1])
journal = ListJournal()

def compute(task):
    if task == 1:
        (here / "computing").touch()
        time.sleep(60)

def write(task):
    wait_for(here / "computing")
    time.sleep(0.3)

parts = Parts(4, compute_hook=compute, write_hook=write)
try:
    run_stages(FilesSpec(str(here)), OneStage([parts]), journal, LocalExecutor())
except KeyboardInterrupt:
    print(journal.marks, sorted(parts.written))
"""


def test_an_interrupt_ends_it_with_nothing_lost(tmp_path: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        wait_for(tmp_path / "computing")
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=30)
    finally:
        running.kill()
        running.wait()
    assert said.strip() == "[('split', 0)] [0]"


# ----------------------------------------------------------------------------------- the open job


def opened(folder: Path) -> int:
    return len((folder / "opened").read_text().splitlines())


def closed(folder: Path) -> int:
    path = folder / "closed"
    return len(path.read_text().splitlines()) if path.exists() else 0


def test_a_job_is_opened_once_and_closed_for_another(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()
    keeper = JobKeeper()
    for _ in range(3):
        with keeper.using(FilesSpec(str(one))) as job:
            job.stage("files").run(0)
    assert (opened(one), closed(one)) == (1, 0)
    with keeper.using(FilesSpec(str(other))):
        assert closed(one) == 1
        assert not keeper.close()  # in use
    assert closed(other) == 0
    assert keeper.close()
    assert closed(other) == 1


def test_a_job_that_failed_is_opened_anew(tmp_path: Path) -> None:
    keeper, spec = JobKeeper(), FilesSpec(str(tmp_path), trouble=((1, "fail"),))
    with pytest.raises(ImageReadError), keeper.using(spec) as job:
        job.stage("files").run(1)
    assert closed(tmp_path) == 1
    with keeper.using(spec) as job:
        job.stage("files").run(0)
    assert opened(tmp_path) == 2
    keeper.close()
