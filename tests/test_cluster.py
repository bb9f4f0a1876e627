"""Tasks on dask: a real cluster of two processes, dying workers, files that describe clusters."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from biozoo.errors import (
    BackendError,
    BiozooError,
    Cancelled,
    ImageReadError,
    MissingDependencyError,
    MissingFileError,
    UsageError,
)
from biozoo_runners.devices import usable_cores
from biozoo_runners.out_of_core import cluster as cluster_module
from biozoo_runners.out_of_core.cluster import DaskExecutor
from biozoo_runners.out_of_core.cluster_file import close_cluster, read_cluster_file, start_batch
from biozoo_runners.out_of_core.local import LocalExecutor
from biozoo_runners.out_of_core.stages import run_stages
from biozoo_runners.out_of_core.worker import TaskFailure, close_job, run_task
from staged import FilesSpec, ListJournal, wait_for


@pytest.fixture(scope="module")
def executor() -> Iterator[DaskExecutor]:
    pytest.importorskip("distributed")
    with DaskExecutor.connect("local:2") as made:
        yield made


def run(
    spec: FilesSpec,
    executor: DaskExecutor | LocalExecutor,
    *,
    journal: ListJournal | None = None,
    cancelled: Callable[[], bool] | None = None,
) -> ListJournal:
    journal = journal or ListJournal()
    run_stages(spec, spec.open(), journal, executor, cancelled=cancelled)
    return journal


def opened(folder: Path) -> list[tuple[int, str]]:
    """Process and threads of each opening but the first, which is this process's."""
    lines = (folder / "opened").read_text().splitlines()[1:]
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


def texts(folder: Path) -> dict[str, str]:
    return {p.name: p.read_text() for p in [*folder.glob("*.txt"), *folder.glob("all-*")]}


# ------------------------------------------------------------------------------- on a real cluster


def test_workers_do_what_is_missing_and_open_the_job_once(
    tmp_path: Path, executor: DaskExecutor
) -> None:
    journal = ListJournal([("files", 1), ("files", 4)])
    (tmp_path / "1.txt").write_text("file 1")
    (tmp_path / "4.txt").write_text("file 4")
    run(FilesSpec(str(tmp_path), tasks=8), executor, journal=journal)
    assert texts(tmp_path)["all-1"].splitlines() == [f"file {i}" for i in range(8)]
    assert sorted((tmp_path / "run").read_text().split()) == ["0", "2", "3", "5", "6", "7"]
    assert sorted(journal.marks) == [
        *(("files", i) for i in range(8)),
        ("joined", 0),
        ("joined", 1),
    ]
    workers = opened(tmp_path)
    assert len({pid for pid, _ in workers}) == len(workers) <= 2
    assert os.getpid() not in dict(workers)
    assert {threads for _, threads in workers} == {str(max(1, usable_cores()[1] // 2))}
    assert not list(tmp_path.glob("here-*"))


def test_a_failing_task_is_named_with_its_machine(tmp_path: Path, executor: DaskExecutor) -> None:
    journal = ListJournal()
    with pytest.raises(
        ImageReadError, match=r"chunk is damaged.\n.*task 3 of 'files' on"
    ) as caught:
        run(FilesSpec(str(tmp_path), trouble=((3, "fail"),)), executor, journal=journal)
    assert caught.value.path == Path("cells.zarr")
    assert "run_task" in "".join(caught.value.__notes__)  # the worker's traceback
    assert {("files", i) for i in range(2)} <= set(journal.marks)  # the third may be under way
    assert ("files", 3) not in journal.marks


def test_a_stop_is_heard_while_workers_work(tmp_path: Path, executor: DaskExecutor) -> None:
    both = (tmp_path / "0.pid", tmp_path / "1.pid")
    spec = FilesSpec(str(tmp_path), tasks=8, trouble=((0, "wait"), (1, "wait")))
    try:
        with pytest.raises(Cancelled) as caught:
            run(spec, executor, cancelled=lambda: all(p.exists() for p in both))
        end = time.monotonic() + 20
        while any(executor._client.processing().values()):  # the scheduler forgets them
            assert time.monotonic() < end, "tasks of a stopped run are still to be done"
            time.sleep(0.05)
    finally:
        (tmp_path / "go").touch()
    (tmp_path / "next").mkdir()
    run(FilesSpec(str(tmp_path / "next")), executor)
    assert sorted((tmp_path / "run").read_text().split()) == ["0", "1"]
    assert "task" not in str(caught.value)


def test_a_worker_that_is_killed_costs_nothing_but_time(
    tmp_path: Path, executor: DaskExecutor
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    run(FilesSpec(str(here)), LocalExecutor())
    killed = []

    def kill() -> None:
        wait_for(there / "1.pid")
        killed.append(int((there / "1.pid").read_text()))
        assert not (there / "1.txt").exists()  # at work
        os.kill(killed[0], signal.SIGKILL)
        (there / "go").touch()

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        run(FilesSpec(str(there), trouble=((1, "wait"),)), executor)
    finally:
        killer.join()
    assert killed[0] in dict(opened(there))
    assert (there / "run").read_text().split().count("1") == 2
    assert texts(there) == texts(here)
    assert "1 worker died at work" in executor.notes[0]


def test_a_worker_that_cannot_see_the_folder_writes_nothing(
    tmp_path: Path, executor: DaskExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def on_another_disk(folder: str) -> Iterator[str]:
        yield "not-here"

    monkeypatch.setattr(cluster_module, "_token", on_another_disk)
    with pytest.raises(MissingFileError, match="same disk on every machine"):
        run(FilesSpec(str(tmp_path)), executor)
    assert not texts(tmp_path)


def test_a_task_that_kills_its_workers_is_given_up(tmp_path: Path, executor: DaskExecutor) -> None:
    journal = ListJournal()
    with pytest.raises(BackendError, match=r"3 workers died(?s:.*)memory(?s:.*)task 0 of 'files'"):
        run(FilesSpec(str(tmp_path), trouble=((0, "die"),)), executor, journal=journal)
    assert (tmp_path / "run").read_text().split().count("0") == 3
    assert ("files", 0) not in journal.marks


# The last of those that share the cluster.
def test_closing_ends_the_workers(tmp_path: Path, executor: DaskExecutor) -> None:
    run(FilesSpec(str(tmp_path)), executor)
    workers = {pid for pid, _ in opened(tmp_path)}
    assert workers
    executor.close()
    executor.close()
    assert not any(map(psutil.pid_exists, workers))


# ---------------------------------------------------------------------------- what a worker raises


def test_every_error_reaches_the_caller() -> None:
    class Local(Exception):
        """Not known to any other process."""

    for error in (
        MissingFileError(what="The image", path="a.tif"),
        UsageError("Wrong."),
        OSError(28, "No space left on device"),
        KeyError("y"),
    ):
        made = TaskFailure.of(error).error()
        assert type(made) is type(error)
        assert str(made) == str(error)
        assert isinstance(error, BiozooError) or made.args == error.args
    with pytest.raises(BackendError, match="Local: told only as text"):
        raise TaskFailure.of(Local("told only as text")).error()


def test_a_worker_does_a_task_only_in_the_folder_of_the_caller(tmp_path: Path) -> None:
    spec = FilesSpec(str(tmp_path))
    with pytest.raises(TaskFailure, match="working folder"):
        run_task(spec, "files", 0, 1, "token")
    (tmp_path / "token").touch()
    run_task(spec, "files", 0, 3, "token")
    close_job()
    assert texts(tmp_path) == {"0.txt": "file 0"}
    assert (tmp_path / "opened").read_text().split()[1] == "3"
    assert (tmp_path / "closed").exists()


# ------------------------------------------------------------------------------------- connecting


@pytest.mark.parametrize(
    "text", ["local", "local:0", "local:x", "host:8786", "4", "tcp://host", ""]
)
def test_what_is_no_cluster_is_refused_with_what_is_one(text: str) -> None:
    with pytest.raises(UsageError, match=r"--dask .*local:N .*tcp://HOST:8786 .*file.yaml"):
        DaskExecutor.connect(text)


def test_a_scheduler_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setattr(cluster_module, "ANSWER", 1)
    with pytest.raises(BackendError, match=r"No dask scheduler answers at tcp://127.0.0.1:9:"):
        DaskExecutor.connect("tcp://127.0.0.1:9")


def test_dask_is_imported_only_when_it_is_asked_for() -> None:
    program = (
        "import sys, biozoo_runners, biozoo_runners.out_of_core.cluster\n"
        "assert not {'dask', 'distributed', 'dask_jobqueue'} & set(sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", program], check=True, env=env)


@pytest.mark.parametrize("text", ["local:2", "tcp://127.0.0.1:9"])
def test_without_dask_the_install_line_is_told(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"distributed.*\[dask\]"):
        DaskExecutor.connect(text)


def test_several_local_workers_on_cards_need_dask_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setitem(sys.modules, "dask_cuda", None)
    with pytest.raises(MissingDependencyError, match="pip install dask-cuda"):
        DaskExecutor.connect("local:2", cuda=True)


# ---------------------------------------------------------------------------------- batch systems

SLURM = """
slurm: {cores: 8, memory: 32GB, queue: gpu, account: lab, walltime: "02:00:00", interface: lo}
workers: 2
"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "slurm: {cores: 0, memory: 32GB}\nworkers: 1",
            r"slurm.cores: .* greater than or equal to 1",
        ),
        ("slurm: {cores: 8}\nworkers: 1", "slurm.memory: field required"),
        ("slurm: {cores: 8, memory: lots}\nworkers: 1", "slurm.memory: is no amount of memory"),
        ("slurm: {cores: 8, memory: 1GB, walltime: 2:00:00}\nworkers: 1", "needs quotation marks"),
        ("slurm: {cores: 8, memory: 1GB, que: gpu}\nworkers: 1", "slurm.que: extra inputs"),
        ("slurm: {cores: 8, memory: 1GB}", "workers: field required"),
        ("workers: 3", "it names none of slurm, pbs, sge, lsf"),
        (
            "slurm: {cores: 8, memory: 1GB}\npbs: {cores: 8, memory: 1GB}\nworkers: 1",
            "it names slurm and pbs of",
        ),
        ("- 1", "the file: input should be"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_faulty_file_is_told_in_words(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text(text)
    with pytest.raises(UsageError, match=told) as caught:
        DaskExecutor.connect(str(path))
    assert "workers: 10" in str(caught.value)  # the example


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cluster.yaml"
    path.write_text("slurm: {cores: 0}\nworkers: 0")
    with pytest.raises(UsageError, match=r"(?s)slurm.cores.*slurm.memory.*workers"):
        read_cluster_file(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"nowhere.yaml does not exist. (?s:.*)slurm:"):
        DaskExecutor.connect(str(tmp_path / "nowhere.yaml"))


def test_without_dask_jobqueue_the_install_line_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    monkeypatch.setitem(sys.modules, "dask_jobqueue", None)
    path = tmp_path / "cluster.yaml"
    path.write_text(SLURM)
    with pytest.raises(MissingDependencyError, match=r"dask-jobqueue.*\[dask\]"):
        DaskExecutor.connect(str(path))


def batch_system(folder: Path, monkeypatch: pytest.MonkeyPatch, sbatch: str) -> Path:
    """Commands of Slurm that do what the test wants; the file that asks for them."""
    for command, does in (("sbatch", sbatch), ("scancel", "")):
        (folder / command).write_text(f"#!/bin/sh\n{does}\n")
        (folder / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    path = folder / "cluster.yaml"
    path.write_text(SLURM)
    return path


def test_jobs_are_submitted_as_the_file_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    keep = f'cp "$1" "{tmp_path}/job-$$"; echo "Submitted batch job $$"'
    path = batch_system(tmp_path, monkeypatch, keep)
    close_cluster(start_batch(read_cluster_file(path), allowed_failures=2))
    jobs = [p.read_text() for p in tmp_path.glob("job-*")]
    assert len(jobs) == 2
    wanted = "-p gpu", "-A lab", "-t 02:00:00", "--cpus-per-task=8", "--nthreads 8", "PAUSE=False"
    assert [line for line in wanted if line not in jobs[0]] == []


def test_a_refusal_of_the_batch_system_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("dask_jobqueue")
    path = batch_system(tmp_path, monkeypatch, 'echo "invalid partition: gpu" >&2; exit 1')
    with pytest.raises(BackendError, match=r"No jobs can be started on slurm: .*invalid partition"):
        DaskExecutor.connect(str(path))
