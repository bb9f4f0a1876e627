"""Jobs outlive the server that ran them, and say what became of them whatever happens."""

from __future__ import annotations

import errno
import json
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import biozoo
import biozoo_runners
from biozoo import ModelPackage, Settings, Zoo
from biozoo.errors import MissingFileError, NotFoundError, StorageError, UsageError
from biozoo.samples import simulate
from biozoo_runners import Runner, open_image, write_image
from biozoo_runners.images import atomic
from biozoo_ui.jobs import Choices, Job, JobImage, Jobs, JobsBusyError, JobStateError
from biozoo_ui.jobs.images import cut_region
from biozoo_ui.jobs.store import JobStore
from packages import make_package

Array = np.ndarray[Any, Any]
TILE = Choices(tile={"y": 16, "x": 16})
TOTAL = 16  # tiles of `cells` with TILE: their starts lie 12 apart
ME, OTHER = "session-of-mine", "session-of-another"


class Gate:
    """Loads models whose networks count their tiles, and wait before the one of number `hold`."""

    def __init__(self) -> None:
        self.tiles, self.hold = 0, 10**9
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, package: ModelPackage) -> Runner:
        runner = biozoo_runners.load(package, device="cpu")
        run = runner.backend.run

        def counted(inputs: Mapping[str, Array]) -> dict[str, Array]:
            if self.tiles == self.hold:
                self.reached.set()
                assert self.go.wait(30)
            self.tiles += 1
            return run(inputs)

        runner.backend.run = counted  # type: ignore[method-assign,assignment]
        return runner

    def close_at(self, tile: int) -> None:
        self.hold = self.tiles + tile
        self.reached.clear()
        self.go.clear()

    def open(self) -> None:
        self.hold = 10**9
        self.go.set()

    def since(self) -> int:
        tiles, self.tiles = self.tiles, 0
        return tiles


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path / "home", index_url="http://127.0.0.1:9/x", offline=True)


@pytest.fixture
def zoo(settings: Settings, tmp_path: Path) -> Zoo:
    zoo = Zoo(settings)
    zoo.add(make_package(tmp_path / "tiny", halo=1, validate=False))
    return zoo


@pytest.fixture
def tiny(zoo: Zoo) -> ModelPackage:
    return zoo.get("tiny")


@pytest.fixture
def cells(tmp_path: Path) -> JobImage:
    path = tmp_path / "cells.tif"
    tifffile.imwrite(path, np.random.default_rng(3).random((50, 50), np.float32))
    return JobImage(path, "my cells.tif")


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def serve(settings: Settings, zoo: Zoo, gate: Gate) -> Iterator[Callable[..., Jobs]]:
    """Start servers over one folder; all are closed in the end."""
    started: list[Jobs] = []

    def start(**options: Any) -> Jobs:
        started.append(Jobs(settings.home / "jobs", find=zoo.get, load=gate, **options))
        return started[-1]

    yield start
    gate.open()
    for jobs in started:
        jobs.close()


@pytest.fixture
def jobs(serve: Callable[..., Jobs]) -> Jobs:
    return serve()


def expected(package: ModelPackage, image: JobImage) -> Array:
    with biozoo_runners.load(package, device="cpu") as runner:
        found: Array = runner(image.path, tile=TILE.tile)["prediction"].values
    return found


def result(jobs: Jobs, job: Job) -> Array:
    path = jobs.file(job.id, job.files[0].name)
    return open_image(path).read().values.reshape(1, 50, 50)


def stopped(jobs: Jobs, gate: Gate, package: ModelPackage, image: JobImage, at: int = 5) -> Job:
    """A job that was cancelled while it computed a tile."""
    gate.close_at(at)
    job = jobs.submit(package, image, TILE, owner=ME)
    assert gate.reached.wait(30)
    jobs.cancel(job.id)
    gate.open()
    job = jobs.wait(job.id, 30)
    gate.since()
    return job


# ------------------------------------------------------------------------------------ one server


def test_a_job_is_run_and_keeps_its_result_and_report(
    jobs: Jobs, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    made = jobs.submit(tiny, cells, TILE, owner=ME)
    assert (made.state, made.model, made.version) == ("waiting", "tiny", "1.0")
    job = jobs.wait(made.id, 30)
    assert (job.state, job.error, job.tiles_done, job.tiles_total) == ("done", "", TOTAL, TOTAL)
    assert [file.name for file in job.files] == ["my cells.prediction.ome.tif"]
    np.testing.assert_array_equal(result(jobs, job), expected(tiny, cells))
    assert job.report is not None
    assert job.report["tiles"] == TOTAL
    assert str(job.report["text"]).startswith("tiny 1.0\n")
    assert job.started is not None
    assert job.ended is not None
    assert job.created <= job.started <= job.ended
    assert not (settings.home / "jobs" / job.id / "tiles").exists()


def test_what_is_known_of_a_job_survives_the_server(
    serve: Callable[..., Jobs], tiny: ModelPackage, cells: JobImage
) -> None:
    first = serve()
    choices = Choices(channel="0", scale={"y": 0.5, "x": 0.5}, region={"y": (3, 40)})
    cells = replace(cells, axes="yx", pixel_size={"y": 0.5, "x": 0.5}, id="i1")
    job = first.wait(first.submit(tiny, cells, choices, owner=ME).id, 30)
    first.close()
    again = serve().get(job.id, ME)
    assert again == job
    assert (again.state, again.images, again.choices) == ("done", {"": cells}, choices)


def test_jobs_run_one_after_the_other_and_a_waiting_one_is_cancelled_at_once(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    gate.close_at(2)
    first, second, third = (jobs.submit(tiny, cells, TILE, owner=ME) for _ in range(3))
    assert gate.reached.wait(30)
    running = jobs.get(first.id)
    assert (running.state, running.tiles_done, running.tiles_total) == ("running", 2, TOTAL)
    assert jobs.get(second.id).state == "waiting"
    assert jobs.cancel(second.id).state == "cancelled"
    assert [job.id for job in jobs.of_owner(ME)] == [third.id, second.id, first.id]
    gate.open()
    assert jobs.wait(third.id, 30).state == "done"
    assert jobs.get(second.id).state == "cancelled"
    assert gate.tiles == 2 * TOTAL


def test_a_cancelled_job_goes_on_with_the_tiles_it_lacks(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    job = stopped(jobs, gate, tiny, cells, at=5)
    assert (job.state, job.tiles_done) == ("cancelled", 6)  # the tile at hand is ended and kept
    assert job.error == (
        "The job was cancelled. 6 of 16 tiles are kept: resume it to compute the others."
    )
    assert jobs.resume(job.id).state == "waiting"
    done = jobs.wait(job.id, 30)
    assert (done.state, done.tiles_kept, gate.tiles) == ("done", 6, TOTAL - 6)
    np.testing.assert_array_equal(result(jobs, done), expected(tiny, cells))


def test_two_tabs_on_one_job(jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage) -> None:
    """Both may cancel and both may resume, at the same moment: it happens once."""

    def both(ask: Callable[[str], Job]) -> set[str]:
        barrier, answers = threading.Barrier(8), []

        def tab() -> None:
            barrier.wait()
            answers.append(ask(job.id))

        tabs = [threading.Thread(target=tab) for _ in range(8)]
        for one in tabs:
            one.start()
        for one in tabs:
            one.join(30)
        assert len(answers) == 8
        return {answer.state for answer in answers}

    gate.close_at(4)
    job = jobs.submit(tiny, cells, TILE, owner=ME)
    assert gate.reached.wait(30)
    assert both(jobs.cancel) == {"running"}
    assert jobs.get(job.id).stopping
    gate.open()
    assert jobs.wait(job.id, 30).state == "cancelled"
    assert both(jobs.cancel) == {"cancelled"}
    gate.since()
    gate.close_at(0)
    assert both(jobs.resume) <= {"waiting", "running"}
    gate.open()
    assert jobs.wait(job.id, 30).state == "done"
    assert gate.tiles == TOTAL - 5
    with pytest.raises(JobStateError, match=r"is done\. Start a new job"):
        jobs.resume(job.id)
    assert jobs.cancel(job.id).state == "done"


def test_a_cancelled_and_resumed_waiting_job_runs_once(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    gate.close_at(0)
    jobs.submit(tiny, cells, TILE, owner=ME)
    second = jobs.submit(tiny, cells, TILE, owner=ME)
    for _ in range(3):
        jobs.cancel(second.id)
        jobs.resume(second.id)
    gate.open()
    assert jobs.wait(second.id, 30).state == "done"
    assert gate.tiles == 2 * TOTAL


def test_the_time_left_is_told_and_counts_no_kept_tile(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    job = stopped(jobs, gate, tiny, cells, at=5)
    gate.close_at(1)
    jobs.resume(job.id)
    assert gate.reached.wait(30)
    assert jobs.get(job.id).seconds_left is None  # 7 are there, 1 was computed: nothing to go by
    gate.hold += 2
    gate.go.set()
    while (left := jobs.get(job.id).seconds_left) is None:
        time.sleep(0.001)
    assert 0 <= left < 60


def test_another_session_sees_nothing(jobs: Jobs, tiny: ModelPackage, cells: JobImage) -> None:
    job = jobs.wait(jobs.submit(tiny, cells, TILE, owner=ME).id, 30)
    assert jobs.of_owner(OTHER) == []
    asks: list[Callable[..., Any]] = [jobs.get, jobs.cancel, jobs.resume, jobs.delete]
    for ask in asks:
        with pytest.raises(NotFoundError, match="No job is called"):
            ask(job.id, OTHER)
    with pytest.raises(NotFoundError):
        jobs.file(job.id, job.files[0].name, OTHER)
    assert jobs.get(job.id, ME).state == "done"
    for name in ("../../jobs.db", "nothing.tif", ""):
        with pytest.raises(MissingFileError):
            jobs.file(job.id, name, ME)


def test_deleting_takes_the_files_and_a_running_job_is_kept(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    gate.close_at(1)
    first, second = (jobs.submit(tiny, cells, TILE, owner=ME) for _ in range(2))
    assert gate.reached.wait(30)
    with pytest.raises(JobStateError, match="Cancel it first"):
        jobs.delete(first.id)
    jobs.delete(second.id)
    gate.open()
    jobs.wait(first.id, 30)
    jobs.delete(first.id)
    assert jobs.of_owner(ME) == []
    assert {path.name for path in (settings.home / "jobs").iterdir()} == {"jobs.db", "servers"}
    assert gate.tiles == TOTAL


def test_the_oldest_jobs_make_room(
    serve: Callable[..., Jobs], tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    jobs = serve(kept=2)
    other = jobs.wait(jobs.submit(tiny, cells, TILE, owner=OTHER).id, 30)
    made = [jobs.wait(jobs.submit(tiny, cells, TILE, owner=ME).id, 30) for _ in range(4)]
    assert [job.id for job in jobs.of_owner(ME)] == [made[3].id, made[2].id]
    assert not (settings.home / "jobs" / made[0].id).exists()
    assert jobs.get(other.id).state == "done"


def test_an_upload_stays_with_its_job(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    image = expected(tiny, cells)
    job = stopped(jobs, gate, tiny, replace(cells, keep=True))
    cells.path.unlink()
    jobs.resume(job.id)
    np.testing.assert_array_equal(result(jobs, jobs.wait(job.id, 30)), image)


def test_only_the_region_is_run(jobs: Jobs, tiny: ModelPackage, cells: JobImage) -> None:
    choices = replace(TILE, region={"y": (10, 40), "x": (5, 35)})
    job = jobs.wait(jobs.submit(tiny, cells, choices, owner=ME).id, 30)
    assert (job.state, job.error) == ("done", "")
    with biozoo_runners.load(tiny, device="cpu") as runner:
        part = tifffile.imread(cells.path)[10:40, 5:35]
        whole = runner(part, tile=TILE.tile)["prediction"].values
    got = open_image(jobs.file(job.id, job.files[0].name)).read().values
    np.testing.assert_array_equal(got.reshape(whole.shape), whole)
    assert job.report is not None
    assert "only the region y 10 to 40, x 5 to 35 was run" in job.report["notes"]


def test_a_region_outside_the_image_is_a_sentence(cells: JobImage) -> None:
    image = open_image(cells.path)
    with pytest.raises(UsageError, match="y 10 to 90 is not inside the image, which has 50"):
        cut_region(image, {"y": (10, 90)})
    with pytest.raises(UsageError, match="names the axis 'z'"):
        cut_region(image, {"z": (0, 1)})
    part = cut_region(image, {"y": (10, 30)})
    np.testing.assert_array_equal(
        part.read({"y": slice(1, 9, 3), "x": 4}).values, image.read().values[11:19:3, 4]
    )


# ------------------------------------------------------------------------------ servers that end

SERVER = """
import sys
from functools import partial
from pathlib import Path
import biozoo_runners
from biozoo import Settings, Zoo
from biozoo_ui.jobs import Choices, JobImage, Jobs
home, image, tile = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
zoo = Zoo(Settings(home=home, offline=True))
load = partial(biozoo_runners.load, device="cpu")
jobs = Jobs(home / "jobs", find=zoo.get, load=load)
choices = Choices(tile={"y": tile, "x": tile})
job = jobs.submit(zoo.get("nuclei-fluo"), JobImage(image, "cells.tif"), choices, owner="me")
print(job.id, flush=True)
waiting = jobs.submit(zoo.get("nuclei-fluo"), JobImage(image, "cells.tif"), owner="me")
done = -1
while True:
    now = jobs.get(job.id).tiles_done
    if now != done:
        done = now
        print(done, flush=True)
"""


def test_a_killed_server_loses_no_finished_tile(
    settings: Settings, gate: Gate, tmp_path: Path
) -> None:
    """With kill -9 in the middle: interrupted at the next start, resumed, equal to the last bit."""
    image = tmp_path / "cells.tif"
    write_image(image, simulate("nuclei", (300, 300)).to_xarray()[0])
    zoo, tile = Zoo(settings), {"y": 208, "x": 208}
    args = [sys.executable, "-c", SERVER, str(settings.home), str(image), "208"]
    with subprocess.Popen(args, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        job_id = server.stdout.readline().strip()
        while (done := int(server.stdout.readline())) < 4:
            pass
        server.send_signal(signal.SIGKILL)
    kept = len([*(settings.home / "jobs" / job_id / "tiles").rglob("[0-9]*.npz")])
    assert kept >= done

    with Jobs(settings.home / "jobs", find=zoo.get, load=gate) as jobs:
        first, found = jobs.of_owner("me")[0], jobs.get(job_id, "me")
        assert (first.state, found.state) == ("interrupted", "interrupted")
        assert f"{kept} of 16 tiles are kept: resume the job to compute" in found.error
        assert (found.tiles_done, found.tiles_total) == (kept, 16)
        assert kept < 16
        assert gate.tiles == 0
        jobs.resume(job_id, "me")
        job = jobs.wait(job_id, 120)
        assert (job.state, job.error) == ("done", "")
        assert (job.tiles_kept, gate.tiles) == (kept, 16 - kept)
        with biozoo_runners.load("nuclei-fluo", device="cpu") as runner:
            whole = runner(image, tile=tile)
        for file, tensor in zip(job.files, ("labels", "probability"), strict=True):
            assert file.name == f"cells.{tensor}.ome.tif"
            got = open_image(jobs.file(job_id, file.name)).read().values
            np.testing.assert_array_equal(got, whole[tensor].values)
        assert job.report is not None
        assert job.report["objects"] == whole.report.objects


def test_a_server_that_is_closed_leaves_its_jobs_to_be_resumed(
    serve: Callable[..., Jobs], gate: Gate, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    first = serve()
    gate.close_at(3)
    running, waiting = (first.submit(tiny, cells, TILE, owner=ME) for _ in range(2))
    assert gate.reached.wait(30)
    closing = threading.Thread(target=first.close)
    closing.start()
    while not first.get(running.id).stopping:
        time.sleep(0.001)
    gate.open()
    closing.join(30)
    with pytest.raises(JobStateError, match="server is ending"):
        first.submit(tiny, cells, TILE, owner=ME)
    gate.since()
    second = serve()
    assert len([*(settings.home / "jobs" / "servers").iterdir()]) == 1
    assert [job.state for job in second.of_owner(ME)] == ["interrupted"] * 2
    assert second.get(running.id).error.endswith(
        "4 of 16 tiles are kept: resume it to compute the others."
    )
    for job in (running, waiting):
        second.resume(job.id)
        assert second.wait(job.id, 30).state == "done"
    assert gate.tiles == 2 * TOTAL - 4


def test_the_jobs_of_a_server_that_lives_are_left_alone(
    serve: Callable[..., Jobs], gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    first = serve()
    gate.close_at(3)
    job = first.submit(tiny, cells, TILE, owner=ME)
    assert gate.reached.wait(30)
    second = serve()
    assert second.get(job.id).state == "running"
    assert second.resume(job.id).state == "running"
    for ask in (second.cancel, second.delete):
        with pytest.raises(JobStateError):
            ask(job.id)
    gate.open()
    assert first.wait(job.id, 30).state == "done"
    assert second.get(job.id).state == "done"
    assert gate.tiles == TOTAL


# --------------------------------------------------------------------------------- what goes wrong


def test_a_model_removed_while_it_runs(
    jobs: Jobs, zoo: Zoo, gate: Gate, tiny: ModelPackage, cells: JobImage, tmp_path: Path
) -> None:
    """What runs ends, what comes later says what to do, and goes on once the model is back."""
    before = stopped(jobs, gate, tiny, cells, at=4)
    gate.close_at(2)
    running, waiting = (jobs.submit(tiny, cells, TILE, owner=ME) for _ in range(2))
    assert gate.reached.wait(30)
    zoo.remove("tiny")
    gate.open()
    assert jobs.wait(running.id, 30).state == "done"
    jobs.resume(before.id)
    for job_id in (waiting.id, before.id):
        job = jobs.wait(job_id, 30)
        assert job.state == "failed"
        assert job.error.startswith("No model is called 'tiny'. It was removed after this job")
    zoo.add(tmp_path / "tiny")
    gate.since()
    jobs.resume(before.id)
    done = jobs.wait(before.id, 30)
    assert (done.state, done.error, gate.tiles) == ("done", "", TOTAL - 5)


def test_another_model_of_the_same_name_does_not_go_on(
    jobs: Jobs, zoo: Zoo, gate: Gate, tiny: ModelPackage, cells: JobImage, tmp_path: Path
) -> None:
    job = stopped(jobs, gate, tiny, cells)
    zoo.add(make_package(tmp_path / "new", halo=1, outputs=2, validate=False), replace=True)
    jobs.resume(job.id)
    job = jobs.wait(job.id, 30)
    assert job.state == "failed"
    assert "was replaced, and tiles of both would not fit together. Start a new job." in job.error


def test_a_missing_image_is_a_sentence(jobs: Jobs, tiny: ModelPackage, cells: JobImage) -> None:
    cells.path.unlink()
    job = jobs.wait(jobs.submit(tiny, cells, TILE, owner=ME).id, 30)
    assert job.state == "failed"
    assert "cells.tif does not exist" in job.error


def test_an_upload_that_has_gone_makes_no_job(
    jobs: Jobs, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    cells.path.unlink()
    with pytest.raises(MissingFileError, match=r"my cells.tif does not exist.* open it again"):
        jobs.submit(tiny, replace(cells, keep=True), TILE, owner=ME)
    assert jobs.of_owner(ME) == []
    assert {path.name for path in (settings.home / "jobs").iterdir()} == {"jobs.db", "servers"}


def test_what_nobody_foresaw_ends_the_job_too(
    serve: Callable[..., Jobs], tiny: ModelPackage, cells: JobImage
) -> None:
    def write(*_: Any) -> Any:
        raise ZeroDivisionError("oh")

    jobs = serve(write=write)
    job = jobs.wait(jobs.submit(tiny, cells, TILE, owner=ME).id, 30)
    assert job.state == "failed"
    assert "nobody foresaw: ZeroDivisionError: oh" in job.error


@pytest.mark.parametrize("what", ["tile", "result"])
def test_a_full_disk_fails_the_job_which_goes_on_when_there_is_space(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage, monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:  # fmt: skip
    rename = atomic.os.replace

    def full(source: Any, target: Any) -> None:
        if Path(target).name == ("6.npz" if what == "tile" else "my cells.prediction.ome.tif"):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(atomic.os, "replace", full)
        job = jobs.wait(jobs.submit(tiny, cells, TILE, owner=ME).id, 30)
    assert job.state == "failed"
    assert "the disk is full. Free some space" in job.error
    there = 6 if what == "tile" else TOTAL
    gate.since()
    jobs.resume(job.id)
    done = jobs.wait(job.id, 30)
    assert (done.state, done.error, gate.tiles) == ("done", "", TOTAL - there)
    np.testing.assert_array_equal(result(jobs, done), expected(tiny, cells))


def test_a_disk_too_full_for_the_list_hides_no_job(
    jobs: Jobs, gate: Gate, tiny: ModelPackage, cells: JobImage, settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Its end is told from memory, and written down as soon as that is possible."""
    gate.close_at(1)
    job = jobs.submit(tiny, cells, TILE, owner=ME)
    assert gate.reached.wait(30)
    connect = sqlite3.connect

    def full(*args: Any, **options: Any) -> sqlite3.Connection:
        db = connect(*args, **options)
        db.execute("PRAGMA query_only = 1")
        return db

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", full)
        gate.open()
        assert jobs.wait(job.id, 30).state == "done"
        assert [one.state for one in jobs.of_owner(ME)] == ["done"]
        with pytest.raises(StorageError, match=r"Cannot write .*jobs.db"):
            jobs.submit(tiny, cells, TILE, owner=ME)
    stored = JobStore(settings.home / "jobs" / "jobs.db")
    assert [one.state for one in stored.of_owner(ME)] == ["running"]
    jobs.of_owner(ME)
    assert [one.state for one in stored.of_owner(ME)] == ["done"]


LOCKER = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("BEGIN EXCLUSIVE")
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_list_that_another_program_holds(
    serve: Callable[..., Jobs], gate: Gate, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    """What runs goes on and is seen; what needs the list is told so soon, and later works."""
    jobs = serve(patience=0.1)
    gate.close_at(1)
    job = jobs.submit(tiny, cells, TILE, owner=ME)
    assert gate.reached.wait(30)
    path = settings.home / "jobs" / "jobs.db"
    args = [sys.executable, "-c", LOCKER, str(path)]
    with subprocess.Popen(args, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as locker:
        assert locker.stdout is not None
        assert locker.stdout.readline() == "locked\n"
        start = time.monotonic()
        for ask in (
            lambda: jobs.submit(tiny, cells, TILE, owner=ME),
            lambda: jobs.of_owner(ME),
            lambda: jobs.get("unknown"),
        ):
            with pytest.raises(JobsBusyError, match="another program holds the list"):
                ask()
        assert time.monotonic() - start < 5
        assert jobs.get(job.id, ME).state == "running"
        gate.open()
        assert jobs.wait(job.id, 30).state == "done"
        second = serve(patience=0.1)  # a server starts all the same
        locker.communicate("")
    assert [one.state for one in second.of_owner(ME)] == ["running"]  # the first one lives
    assert [one.state for one in jobs.of_owner(ME)] == ["done"]
    assert [one.state for one in second.of_owner(ME)] == ["done"]


def test_a_damaged_list_is_a_sentence_and_a_new_one_is_begun(
    jobs: Jobs, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    path = settings.home / "jobs" / "jobs.db"
    path.write_bytes(b"this is no database, not at all" * 100)
    with pytest.raises(StorageError, match=r"the list of jobs is damaged\. Move this file away"):
        jobs.of_owner(ME)
    path.unlink()
    job = jobs.submit(tiny, cells, TILE, owner=ME)
    assert jobs.wait(job.id, 30).state == "done"


# ------------------------------------------------------------------------------ lists of before

#: As the first version of this list wrote it, through the standard library.
FIRST_TABLE = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    owner TEXT NOT NULL, model TEXT NOT NULL, version TEXT, digest TEXT NOT NULL,
    image TEXT NOT NULL, choices TEXT NOT NULL, state TEXT NOT NULL,
    created TEXT NOT NULL, started TEXT, ended TEXT,
    tiles_done INTEGER NOT NULL, tiles_total INTEGER NOT NULL, tiles_kept INTEGER NOT NULL,
    error TEXT NOT NULL, report TEXT, files TEXT NOT NULL, server TEXT NOT NULL
)"""


def test_a_list_of_the_first_version_is_read_and_its_jobs_go_on(
    serve: Callable[..., Jobs], cells: JobImage, settings: Settings
) -> None:
    folder = settings.home / "jobs"
    folder.mkdir(parents=True)
    image = {
        "path": {"": str(cells.path)}, "name": "my cells.tif", "id": "i1", "axes": "yx",
        "pixel_size": {"y": 0.5}, "keep": False,
    }  # fmt: skip
    file = {"name": "a.ome.tif", "label": "A", "size": 3, "kind": "labels"}
    rows = [
        ("old", "done", json.dumps({"objects": 3}), json.dumps([file])),
        ("half", "cancelled", None, "[]"),
    ]
    with sqlite3.connect(folder / "jobs.db") as db:
        db.execute(FIRST_TABLE)
        db.execute("CREATE INDEX jobs_of_owner ON jobs (owner)")
        for job_id, state, report, files in rows:
            db.execute(
                "INSERT INTO jobs VALUES (NULL, ?, ?, 'tiny', '1.0', '', ?, '{}', ?, "
                "'2026-01-02T03:04:05+00:00', NULL, NULL, 0, 0, 0, '', ?, ?, 's')",
                [job_id, ME, json.dumps(image), state, report, files],
            )
        db.execute("PRAGMA user_version = 1")
    db.close()
    jobs = serve()
    half, old = jobs.of_owner(ME)
    assert (old.id, old.state, old.report, old.created.year) == (
        "old",
        "done",
        {"objects": 3},
        2026,
    )
    assert (old.files[0].name, old.files[0].kind, old.files[0].scale) == (
        "a.ome.tif",
        "labels",
        None,
    )
    assert old.image == replace(cells, id="i1", axes="yx", pixel_size={"y": 0.5})
    jobs.resume(half.id)
    assert jobs.wait(half.id, 30).state == "done"


def test_a_list_of_a_newer_biozoo_is_left_alone(
    jobs: Jobs, tiny: ModelPackage, cells: JobImage, settings: Settings
) -> None:
    jobs.wait(jobs.submit(tiny, cells, TILE, owner=ME).id, 30)
    path = settings.home / "jobs" / "jobs.db"
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(StorageError, match=r"made by a newer biozoo\. Install the newest"):
        JobStore(path).of_owner(ME)


# ---------------------------------------------------------------------------------- several inputs


def test_a_model_of_several_images_gets_each_as_it_was_described(
    jobs: Jobs, zoo: Zoo, cells: JobImage, tmp_path: Path
) -> None:
    package = zoo.add(make_package(tmp_path / "two", id="two", inputs=2, halo=1, validate=False))
    other = tmp_path / "other.tif"
    tifffile.imwrite(other, np.zeros((50, 50, 2), np.float32), photometric="minisblack")
    images = {"raw": replace(cells, keep=True), "raw1": JobImage(other, "other.tif", axes="yxc")}
    job = jobs.wait(jobs.submit(package, images, Choices(channel={"raw1": 1}), owner=ME).id, 30)
    assert (job.state, job.error) == ("done", "")
    assert [image.name for image in job.images.values()] == ["my cells.tif", "other.tif"]
    assert job.files[0].name == "my cells.prediction.ome.tif"
    assert jobs.get(job.id).images["raw1"].axes == "yxc"


# ------------------------------------------------------------------------------------------ routes


@pytest.fixture
def client(jobs: Jobs, zoo: Zoo, cells: JobImage) -> Iterator[Any]:
    pytest.importorskip("fastapi")
    from fastapi import FastAPI, Request
    from fastapi.responses import JSONResponse
    from fastapi.testclient import TestClient

    from biozoo.errors import BiozooError
    from biozoo_ui.api.jobs import job_routes

    def find_image(image_id: str, owner: str) -> JobImage:
        if (image_id, owner) != ("i1", ME):
            raise NotFoundError(kind="image", got=image_id, known=())
        return replace(cells, id=image_id)

    def no_image(*_: object) -> dict[str, Any]:
        raise AssertionError("nothing is looked at here")

    app = FastAPI()
    session: Callable[[Request], str] = lambda request: request.headers["x-session"]  # noqa: E731
    app.include_router(
        job_routes(
            jobs,
            session=session,
            find_image=find_image,
            find_model=zoo.get,
            open_file=no_image,
            open_image=no_image,
        )
    )

    @app.exception_handler(BiozooError)
    async def told(_: Request, exc: BiozooError) -> JSONResponse:
        return JSONResponse({"error": exc.message}, status_code=exc.http_status)

    with TestClient(app, headers={"x-session": ME}) as client:
        yield client


NEW = {"model": "tiny", "image": "i1", "tile": TILE.tile}


def test_a_job_by_http_from_beginning_to_end(
    client: Any, gate: Gate, tiny: ModelPackage, cells: JobImage
) -> None:
    gate.close_at(4)
    made = client.post("/api/jobs", json=NEW)
    assert made.status_code == 201
    url = f"/api/jobs/{made.json()['id']}"
    assert gate.reached.wait(30)
    running = client.get(url).json()
    assert running["state"] == "running"
    assert running["tiles"] == {"done": 4, "total": TOTAL, "kept": 0}
    assert (running["image"], running["choices"]) == (
        {"id": "i1", "name": "my cells.tif"},
        {"tile": TILE.tile},
    )
    assert client.delete(url).status_code == 409
    assert client.post(f"{url}/cancel").json()["stopping"] is True
    gate.open()
    told = list(_told(client, url))
    assert (told[-1]["state"], told[-1]["resumable"]) == ("cancelled", True)
    assert client.post(f"{url}/resume").json()["state"] in ("waiting", "running")
    done = list(_told(client, url))[-1]
    assert (done["state"], done["tiles"]["kept"]) == ("done", 5)
    assert done["report"]["tiles"] == TOTAL
    listed = client.get("/api/jobs").json()["jobs"]
    assert [(job["id"], job["state"]) for job in listed] == [(done["id"], "done")]
    assert listed[0]["report"] is None
    file = client.get(done["files"][0]["url"])
    assert len(file.content) == done["files"][0]["size"]
    assert client.post(f"{url}/resume").status_code == 409
    assert client.delete(url).status_code == 204
    assert client.get(url).status_code == 404
    assert str(cells.path.parent) not in json.dumps([running, told, listed])


def _told(client: Any, url: str) -> Iterator[dict[str, Any]]:
    with client.stream("GET", f"{url}/events") as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def test_by_http_another_session_sees_nothing_and_mistakes_are_told(client: Any) -> None:
    url = f"/api/jobs/{client.post('/api/jobs', json=NEW).json()['id']}"
    theirs = {"x-session": OTHER}
    assert client.get("/api/jobs", headers=theirs).json() == {"jobs": []}
    for method, path in (
        ("GET", url), ("GET", f"{url}/events"), ("GET", f"{url}/files/x"), ("DELETE", url),
        ("POST", f"{url}/cancel"), ("POST", f"{url}/resume"),
    ):  # fmt: skip
        answer = client.request(method, path, headers=theirs)
        assert (answer.status_code, list(answer.json())) == (404, ["error"]), path
    for wrong, status in (
        ({"image": "i2"}, 404), ({"model": "tny"}, 404), ({"tile": {"y": 0}}, 422),
        ({"region": {"y": [1]}}, 422), ({"colour": "red"}, 422),
    ):  # fmt: skip
        assert client.post("/api/jobs", json=NEW | wrong).status_code == status, wrong


def test_the_package_is_light() -> None:
    """A server that starts imports no array library for its jobs."""
    code = "import sys, biozoo_ui.jobs; print([m for m in ('numpy', 'xarray') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert biozoo.__all__
