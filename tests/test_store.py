"""Installing, removing and verifying; what a second process, a kill or a full disk leaves."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import biozoo
from biozoo import store
from biozoo.errors import (
    BiozooError,
    Cancelled,
    HashMismatchError,
    InvalidPackageError,
    NotFoundError,
    StorageError,
    UsageError,
)
from biozoo.files import Staging
from biozoo.package import builtin_packages, version_key
from biozoo.records import RECORD, Record
from loopback import Loopback
from packages import change_rdf, make_package, zip_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_package(tmp_path / "tiny")


def left_behind(home: Path) -> list[str]:
    """Everything in the zoo's models folder that is no installed model."""
    models = home / "models"
    found = models.iterdir() if models.is_dir() else ()
    return sorted(p.name for p in found if p.name.startswith("."))


# ----------------------------------------------------------------------------------------- adding


@pytest.mark.parametrize("kind", ["folder", "zip", "url of a zip", "url of a description"])
def test_add_installs_every_file_with_a_record(
    folder: Path, biozoo_home: Path, loopback: Loopback, kind: str
) -> None:
    archive = zip_package(folder)
    loopback.files["/t.zip"] = archive.read_bytes()
    sources: dict[str, str | Path] = {
        "folder": folder,
        "zip": archive,
        "url of a zip": loopback.url("/t.zip"),
        "url of a description": loopback.serve(folder, "/m"),
    }
    source = sources[kind]
    package = biozoo.Zoo().add(source)
    assert package.root == biozoo_home / "models" / "tiny" / "1.0"
    assert (package.origin, package.source) == ("installed", str(source))
    names = {p.name for p in folder.iterdir()}
    assert {p.name for p in package.root.iterdir()} == names | {RECORD}
    record = Record.read(package.root)
    assert set(record.files) == names
    assert record.trust == "no code"
    assert record.biozoo == biozoo.__version__
    assert biozoo.open("tiny") == package
    assert biozoo.Zoo().packages() == [package]
    assert package.verify().ok
    assert package.size == sum(p.stat().st_size for p in folder.iterdir())
    assert left_behind(biozoo_home) == []


def test_litter_of_a_folder_is_not_installed(folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__" / "a.pyc").write_text("x")
    (folder / "sub").mkdir()
    (folder / "sub" / "notes.txt").write_text("kept")
    package = biozoo.Zoo().add(folder)
    assert package.record is not None
    assert "sub/notes.txt" in package.record.files
    assert not any("git" in name or "pycache" in name for name in package.record.files)


def test_versions_stand_side_by_side_and_the_newest_is_meant(tmp_path: Path) -> None:
    zoo = biozoo.Zoo()
    for version in ("2.0", "10.0", "9.1"):
        zoo.add(make_package(tmp_path / version, version=version, validate=False))
    assert [p.version for p in zoo.packages()] == ["2.0", "9.1", "10.0"]
    assert zoo.get("tiny").version == "10.0"
    assert zoo.get("tiny", "2.0").version == "2.0"
    assert biozoo.open("tiny@9.1").version == "9.1"
    with pytest.raises(NotFoundError, match=r"There is 2\.0, 9\.1, 10\.0"):
        zoo.get("tiny", "3.0")


def test_a_package_without_id_and_version_gets_a_slug_and_v0(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "x", id=None, version=None, name="Nuclei (2D)")
    package = biozoo.Zoo().add(folder)
    assert (package.id, package.version) == ("nuclei-2d", "v0")


def test_adding_the_same_again_changes_nothing(folder: Path) -> None:
    first = biozoo.Zoo().add(folder)
    added = Record.read(first.root).added
    assert biozoo.Zoo().add(zip_package(folder)).root == first.root
    assert Record.read(first.root).added == added


def test_other_content_of_the_same_version_is_refused_unless_it_shall_replace(
    folder: Path, biozoo_home: Path
) -> None:
    zoo = biozoo.Zoo()
    zoo.add(folder)
    change_rdf(folder, description="Changed.")
    with pytest.raises(UsageError, match="installed with other content"):
        zoo.add(folder)
    assert zoo.get("tiny").summary.description == "A box filter, made for tests."
    assert zoo.add(folder, replace=True).summary.description == "Changed."
    assert len(zoo.packages()) == 1
    assert left_behind(biozoo_home) == []


def test_adding_a_damaged_model_again_mends_it(folder: Path) -> None:
    package = biozoo.Zoo().add(folder)
    (package.root / "weights.onnx").write_bytes(b"x")
    assert biozoo.Zoo().add(folder).verify().ok
    (package.root / RECORD).write_text("{")
    assert biozoo.Zoo().packages() == []
    assert biozoo.Zoo().add(folder).verify().ok


def test_adding_what_is_here_gives_it_back(folder: Path) -> None:
    package = biozoo.Zoo().add(folder)
    assert biozoo.Zoo().add("tiny") == package


# ---------------------------------------------------------------------------------------- removing


def test_remove_takes_one_version_or_all(tmp_path: Path, biozoo_home: Path) -> None:
    zoo = biozoo.Zoo()
    for version in ("1", "2", "3"):
        zoo.add(make_package(tmp_path / version, version=version, validate=False))
    assert [p.version for p in zoo.remove("tiny@2")] == ["2"]
    assert [p.version for p in zoo.packages()] == ["1", "3"]
    assert len(zoo.remove("tiny")) == 2
    assert list((biozoo_home / "models").iterdir()) == []
    with pytest.raises(NotFoundError, match="No installed model is called 'tiny'"):
        zoo.remove("tiny")


def test_a_built_in_model_cannot_be_removed(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr(
        store, "builtin_packages", lambda: [biozoo.ModelPackage.from_folder(folder)]
    )
    with pytest.raises(UsageError, match="comes with biozoo"):
        biozoo.Zoo().remove("tiny")


def test_a_model_whose_record_is_damaged_can_be_removed(folder: Path, biozoo_home: Path) -> None:
    package = biozoo.Zoo().add(folder)
    (package.root / RECORD).write_text("{}")
    assert list(biozoo.Zoo().broken()) == [package.root]
    biozoo.Zoo().remove("tiny")
    assert biozoo.Zoo().broken() == {}


def test_an_unknown_id_offers_the_closest(folder: Path) -> None:
    biozoo.Zoo().add(folder)
    for ask in (biozoo.Zoo().get, biozoo.open):
        with pytest.raises(NotFoundError, match="Did you mean tiny"):
            ask("tinny")


# --------------------------------------------------------------------------------------- verifying


def test_verify_finds_a_flipped_byte_and_names_the_file(folder: Path) -> None:
    zoo = biozoo.Zoo()
    package = zoo.add(folder)
    path = package.root / "README.md"  # a file whose hash no description declares
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    report = zoo.verify("tiny")
    assert not report.ok
    assert [(p.file, p.what) for p in report.problems] == [("README.md", "changed")]
    assert "tiny 1.0: README.md is changed: sha256" in str(report)
    assert not zoo.verify().ok
    assert json.loads(json.dumps(report.to_dict()))["problems"][0]["file"] == "README.md"


def test_verify_names_missing_extra_and_unreadable_files(folder: Path) -> None:
    package = biozoo.Zoo().add(folder)
    (package.root / "weights.onnx").unlink()
    (package.root / "more.py").write_text("x")
    (package.root / "README.md").unlink()
    (package.root / "README.md").mkdir()
    told = {(p.file, p.what) for p in biozoo.Zoo().verify("tiny").problems}
    assert told == {
        ("weights.onnx", "missing"),
        ("more.py", "extra"),
        ("README.md", "unreadable"),
    }
    (package.root / RECORD).write_text("{}")
    assert [p.file for p in biozoo.Zoo().verify().problems] == [RECORD]


def test_every_built_in_model_is_as_described() -> None:
    packages = builtin_packages()
    assert packages
    for package in packages:
        assert package.verify().ok, str(package.verify())
        assert package.trust == "built-in"
        assert package.descr.name


def test_versions_sort_as_people_count() -> None:
    ordered = ["", "v0", "v2", "v10", "1.9rc1", "1.9-rc2", "1.9", "1.9.1", "1.10"]
    for versions in (ordered, ordered[::-1], ordered[4:] + ordered[:4]):
        assert sorted(versions, key=version_key) == ordered


# ------------------------------------------------------------------------- processes, kills, disks

# A process that was itself started in the background ignores Ctrl-C, and its children with it.
ADD = (
    "import signal, sys, biozoo; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "print(biozoo.Zoo().add(sys.argv[1]).root)"
)


def _process(source: str | Path, code: str = ADD) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(source)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_that_add_the_same_both_succeed_and_leave_one_good_copy(
    folder: Path, biozoo_home: Path, loopback: Loopback
) -> None:
    loopback.files["/t.zip"] = zip_package(folder).read_bytes()
    stall = loopback.stall("/t.zip")  # both are in the middle before either can finish
    both = [_process(loopback.url("/t.zip")) for _ in range(2)]
    assert stall.reached.wait(60)
    _wait_for(lambda: loopback.requests.count("/t.zip") == 2, both)
    stall.release.set()
    told = [process.communicate(timeout=60) for process in both]
    assert [process.returncode for process in both] == [0, 0], told
    assert told[0][0] == told[1][0]
    (package,) = biozoo.Zoo().packages()
    assert package.verify().ok
    assert left_behind(biozoo_home) == []


def test_a_kill_in_the_middle_leaves_nothing_half_installed(
    folder: Path, biozoo_home: Path, loopback: Loopback
) -> None:
    loopback.files["/t.zip"] = zip_package(folder).read_bytes()
    stall = loopback.stall("/t.zip")
    process = _process(loopback.url("/t.zip"))
    assert stall.reached.wait(60)
    _wait_for(lambda: list(biozoo_home.glob("models/.staging-*/.download-*")), [process])
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    assert biozoo.Zoo().packages() == []
    assert biozoo.Zoo().broken() == {}
    litter = left_behind(biozoo_home)
    assert [n for n in litter if not n.endswith(".lock")] == [litter[0]]
    assert len(list((biozoo_home / "models" / litter[0]).iterdir())) == 1  # half a zip
    stall.release.set()
    del loopback.stalls["/t.zip"]
    assert biozoo.Zoo().add(loopback.url("/t.zip")).verify().ok
    assert left_behind(biozoo_home) == []


def test_who_adds_does_not_clean_what_another_is_adding(
    folder: Path, tmp_path: Path, biozoo_home: Path, loopback: Loopback
) -> None:
    loopback.files["/t.zip"] = zip_package(folder).read_bytes()
    stall = loopback.stall("/t.zip")
    process = _process(loopback.url("/t.zip"))
    assert stall.reached.wait(60)
    biozoo.Zoo().add(make_package(tmp_path / "other", id="other", validate=False))
    stall.release.set()
    told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    assert [p.id for p in biozoo.Zoo().packages()] == ["other", "tiny"]
    assert left_behind(biozoo_home) == []


def test_ctrl_c_leaves_nothing(folder: Path, biozoo_home: Path, loopback: Loopback) -> None:
    loopback.files["/t.zip"] = zip_package(folder).read_bytes()
    stall = loopback.stall("/t.zip")
    process = _process(loopback.url("/t.zip"))
    assert stall.reached.wait(60)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in told
    assert left_behind(biozoo_home) == []
    assert biozoo.Zoo().packages() == []


def test_a_progress_callback_can_stop_it_and_leaves_nothing(
    folder: Path, biozoo_home: Path, loopback: Loopback
) -> None:
    def stop(*_: object) -> None:
        raise Cancelled("The download")

    loopback.files["/t.zip"] = zip_package(folder).read_bytes()
    for act in (biozoo.Zoo().add, biozoo.open):
        with pytest.raises(Cancelled, match="The download was stopped"):
            act(loopback.url("/t.zip"), progress=stop)
    assert left_behind(biozoo_home) == []
    assert list((biozoo_home / "cache" / "packages").iterdir()) == []


def test_a_kill_between_taking_away_and_replacing_gives_the_old_one_back(
    folder: Path, tmp_path: Path, biozoo_home: Path
) -> None:
    package = biozoo.Zoo().add(folder)
    package.root.rename(biozoo_home / "models" / ".replaced-1")  # where the kill came
    biozoo.Zoo().add(make_package(tmp_path / "other", id="other", validate=False))
    assert [p.id for p in biozoo.Zoo().packages()] == ["other", "tiny"]
    assert left_behind(biozoo_home) == []


def _wait_for(true: Any, processes: list[subprocess.Popen[str]]) -> None:
    """Until a condition holds; fails as soon as a process has ended instead."""
    import time

    while not true():
        assert all(process.poll() is None for process in processes)
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("number", "told"),
    [
        (errno.ENOSPC, "no space is left on the disk. Free some space"),
        (errno.EDQUOT, "no space is left on the disk"),
        (errno.EACCES, "not a folder one may write to"),
        (errno.EROFS, "not a folder one may write to"),
        (errno.EIO, "Input/output error"),
    ],
)
def test_a_disk_that_refuses_in_the_middle_is_told_and_leaves_nothing(
    folder: Path, biozoo_home: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    archive = zip_package(folder)
    real = Path.open
    opened: list[Path] = []

    def refuse(self: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        if mode == "xb":
            opened.append(self)
            if len(opened) == 3:
                raise OSError(number, os.strerror(number), str(self))
        return real(self, mode, *args, **kwargs)

    monkeypatch.setattr(Path, "open", refuse)
    for source in (archive, folder):
        opened.clear()
        with pytest.raises(StorageError, match=told) as caught:
            biozoo.Zoo().add(source)
        assert caught.value.exit_code == 3
        assert left_behind(biozoo_home) == []
    opened.clear()
    with pytest.raises(StorageError, match=told):
        biozoo.open(archive)
    assert biozoo.Zoo().packages() == []


def test_too_little_space_is_told_before_anything_is_written(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(folder)._replace(free=100)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    for source in (folder, zip_package(folder)):
        with pytest.raises(StorageError, match="MB are needed, 0 MB are free"):
            biozoo.Zoo().add(source)


def test_a_home_that_is_no_folder_is_told(folder: Path, biozoo_home: Path) -> None:
    biozoo_home.write_text("a file")
    with pytest.raises(StorageError, match="BIOZOO_HOME"):
        biozoo.Zoo().add(folder)
    with pytest.raises(StorageError, match="BIOZOO_HOME"):
        biozoo.open(zip_package(folder))
    assert biozoo.Zoo().packages() == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_without_permission_is_told(folder: Path, biozoo_home: Path) -> None:
    biozoo_home.mkdir()
    biozoo_home.chmod(0o500)
    with pytest.raises(StorageError, match="may write"):
        biozoo.Zoo().add(folder)


@pytest.mark.parametrize("fault", ["hash", "validation"])
def test_a_package_that_is_refused_late_leaves_nothing(
    folder: Path, biozoo_home: Path, fault: str
) -> None:
    kind: type[BiozooError]
    if fault == "hash":
        (folder / "weights.onnx").write_bytes(b"x")
        kind = HashMismatchError
    else:
        change_rdf(folder, license=3)
        kind = InvalidPackageError
    with pytest.raises(kind) as caught:
        biozoo.Zoo().add(folder)
    assert str(folder) in caught.value.message
    assert ".staging" not in caught.value.message
    assert biozoo.Zoo().packages() == []
    assert left_behind(biozoo_home) == []


def test_staging_removes_what_was_not_placed(tmp_path: Path) -> None:
    def fail() -> None:
        with Staging(tmp_path / "a") as staging:
            (staging.path / "f").write_text("x")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((tmp_path / "a").iterdir()) == []


def test_listing_reads_records_only_and_is_quick(tmp_path: Path, biozoo_home: Path) -> None:
    folder = make_package(tmp_path / "t", validate=False)
    package = biozoo.Zoo().add(folder)
    for i in range(200):
        shutil.copytree(package.root, biozoo_home / "models" / f"m{i}" / "1")
        (biozoo_home / "models" / f"m{i}" / "1" / "rdf.yaml").unlink()
    import time

    start = time.process_time()
    assert len(biozoo.Zoo().packages()) == 201
    assert time.process_time() - start < 0.5


@pytest.mark.shared
def test_the_real_packages_can_be_added(shared: Path) -> None:
    zoo = biozoo.Zoo()
    for name in ("nuclei-broad", "brain-meshnet3d", "multi-tensor", "inverter-fails-own-test"):
        assert zoo.add(shared / "models" / name).verify().ok
    assert {p.id for p in zoo.packages()} == {
        "unet-2d-nuclei-broad",
        "brain-meshnet-3d",
        "multi-tensor",
        "test42",
    }
