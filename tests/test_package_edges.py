"""What strangers, other systems and mistyped names bring: told in a sentence, never a traceback."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import biozoo
from biozoo import package as packaging
from biozoo import store
from biozoo.collection import Collection
from biozoo.errors import (
    BiozooError,
    InvalidPackageError,
    MissingFileError,
    NotFoundError,
    UnsafeArchiveError,
    UsageError,
)
from biozoo.files import Staging
from biozoo.index import entries_of, is_doi
from biozoo.records import RECORD, Record
from biozoo.settings import Settings
from loopback import Loopback
from packages import make_package, read_rdf, zip_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_package(tmp_path / "tiny")


# ------------------------------------------------------------------------------------------ names


def test_a_path_is_never_taken_for_an_id(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who works on a changed copy of a built-in or installed model gets that copy."""
    monkeypatch.setattr(packaging, "BUILTIN", tmp_path)
    biozoo.Zoo().add(make_package(tmp_path / "flat", id="flat", validate=False))
    monkeypatch.chdir(tmp_path)
    for name in ("tiny", "bioimage-io/tiny"):
        assert biozoo.open(name).origin == "built-in"
    for name in ("./tiny", "tiny/", f"../{tmp_path.name}/tiny", str(tmp_path / "tiny"), "./flat"):
        assert biozoo.open(name).origin == "folder"
    with pytest.raises(NotFoundError):
        biozoo.Zoo().get("./flat")


@pytest.mark.parametrize("name", ["", "  "])
def test_an_empty_name_is_wrong_use(name: str) -> None:
    with pytest.raises(UsageError, match="No model is named"):
        biozoo.open(name)


@pytest.mark.parametrize("name", ["C:\\models\\tiny", "models\\tiny", "d:tiny", "gone/", "x.ZIP"])
def test_a_path_of_any_system_that_is_not_there_is_a_missing_file(name: str) -> None:
    with pytest.raises(MissingFileError):
        biozoo.open(name)


@pytest.mark.parametrize("url", ["https://[host/m.zip", "https://", "http://0.0.0.0.example/m.zip"])
def test_an_address_that_is_none_is_wrong_use(url: str) -> None:
    with pytest.raises(UsageError, match="expected https"):
        biozoo.open(url)


@pytest.mark.parametrize("host", ["127.0.0.2", "[::1]", "[::ffff:127.0.0.1]", "a.localhost"])
def test_this_machine_has_many_names(host: str, loopback: Loopback) -> None:
    """None of them may be reached by way of an address elsewhere."""
    from biozoo.download import check_url
    from biozoo.errors import CollectionError

    check_url(f"http://{host}:8000/m.zip")
    with pytest.raises(CollectionError, match="leads to"):
        check_url(f"https://{host}:8000/m.zip", via="https://example.org/m.zip")


def test_this_machine_is_not_asked_through_a_proxy(
    folder: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert biozoo.open(loopback.serve(folder)).id == "tiny"


def test_a_mistyped_path_fetches_no_descriptions(
    folder: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = {"version": "v0", "source": loopback.url("/rdf.yaml")}
    item = {"id": "bioimage-io/tiny", "type": "model", "versions": [version]}
    loopback.files["/index.json"] = json.dumps({"items": [item]}).encode()
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    with pytest.raises(NotFoundError, match="Nor is a file or folder"):
        biozoo.open("models/tiny")
    assert loopback.requests == ["/index.json"]


@pytest.mark.parametrize(
    ("name", "doi"),
    [
        ("10.5281/zenodo.5764892", True),
        ("https://doi.org/10.5281/zenodo.5764892/6", True),
        ("doi:10.5281/zenodo.5764892", True),
        ("bioimage-io/affable-shark", False),
        ("10/x", False),
    ],
)
def test_what_a_doi_is(name: str, doi: bool) -> None:
    assert is_doi(name) is doi


@pytest.mark.parametrize("value", ["inf", "nan", "1e300", "-1", "soon"])
@pytest.mark.parametrize("name", ["BIOZOO_MAX_GB", "BIOZOO_INDEX_DAYS"])
def test_a_setting_that_is_no_usable_number_is_wrong_use(name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"{name}='{value}'"):
        Settings.from_env({name: value})


# -------------------------------------------------------------------------------------- downloads


def test_the_verified_description_is_the_one_that_is_used(folder: Path, loopback: Loopback) -> None:
    """A package's attachment called rdf.yaml does not take the place of its description."""
    rdf = read_rdf(folder)
    rdf["attachments"] = [{"source": "rdf.yaml"}]
    (folder / "other.rdf.yaml").write_text(json.dumps(rdf))
    (folder / "rdf.yaml").write_text(json.dumps({**rdf, "name": "Another"}))
    loopback.serve(folder)
    assert biozoo.open(loopback.url("/other.rdf.yaml")).raw["name"] == rdf["name"]


def test_a_cover_that_cannot_be_had_stops_nothing(folder: Path, loopback: Loopback) -> None:
    rdf = read_rdf(folder)
    rdf["covers"] = [{"source": loopback.url("/gone.png"), "sha256": "0" * 64}]
    (folder / "rdf.yaml").write_text(json.dumps(rdf))
    assert biozoo.open(loopback.serve(folder)).covers == ()


# ------------------------------------------------------------------------------------------- zips


def test_a_model_zipped_out_of_a_zoo_can_be_added(folder: Path, tmp_path: Path) -> None:
    installed = biozoo.Zoo().add(folder)
    archive = tmp_path / "from-zoo.zip"
    with zipfile.ZipFile(archive, "w") as made:
        for path in installed.root.iterdir():
            made.write(path, path.name)
        assert RECORD in made.namelist()
    biozoo.Zoo().remove("tiny")
    assert biozoo.Zoo().add(archive).verify().ok


@pytest.mark.parametrize(
    "compression",
    [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA],
)
def test_a_zip_damaged_anywhere_is_refused_or_whole(tmp_path: Path, compression: int) -> None:
    archive = tmp_path / "m.zip"
    with zipfile.ZipFile(archive, "w", compression) as made:
        for name in ("rdf.yaml", "weights.onnx", "é.npy"):
            made.writestr(name, bytes(range(256)) * 8)
    whole, chance = archive.read_bytes(), random.Random(compression)
    refused = 0
    for i in range(150):
        content = bytearray(whole)
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        archive.write_bytes(content[: chance.randrange(len(content))] if i % 10 == 0 else content)
        (tmp_path / str(i)).mkdir()
        try:
            biozoo.archive.extract(archive, tmp_path / str(i), max_bytes=2**30, max_files=9)
        except (InvalidPackageError, UnsafeArchiveError):
            refused += 1
    assert refused > 30


def test_members_that_claim_the_same_bytes_are_a_bomb(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(biozoo.archive, "BOMB_BYTES", 2**16)
    archive = tmp_path / "m.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as made:
        made.writestr("rdf.yaml", bytes(2**16))
        made.writestr("noise", random.Random(0).randbytes(2**10))
        for i in range(200):  # the directory names one member again and again
            again = zipfile.ZipInfo(f"copy{i}")
            for slot in ("header_offset", "CRC", "compress_type"):
                setattr(again, slot, getattr(made.filelist[0], slot))
            again.compress_size, again.file_size = 2**10, 2**16
            made.filelist.append(again)
    with pytest.raises(UnsafeArchiveError, match="a zip bomb"):
        biozoo.archive.extract(archive, tmp_path, max_bytes=2**30, max_files=999)


@pytest.mark.parametrize("names", [("e\u0301.npy", "\u00e9.npy"), ("STRASSE", "straße")])
def test_names_that_are_one_name_on_other_systems_are_refused(
    folder: Path, names: tuple[str, str]
) -> None:
    archive = zip_package(folder)
    with zipfile.ZipFile(archive, "a") as opened:
        for name in names:
            opened.writestr(name, b"x")
    with pytest.raises(UnsafeArchiveError, match="is there twice"):
        biozoo.open(archive)


@pytest.mark.parametrize("name", ["a:stream", "//[x", "a\x1b[31m", "a\nb"])
def test_a_name_that_means_something_else_elsewhere_is_refused(folder: Path, name: str) -> None:
    archive = zip_package(folder)
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr(name, b"x")
    with pytest.raises(UnsafeArchiveError, match="would leave the folder"):
        biozoo.open(archive)


# ----------------------------------------------------------------------------------- descriptions


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[" * 1_000_000, "nested more than 100 deep"),
        ("- " * 1_000_000, "nested more than 100 deep"),
        ("name: [" + "a, " * 500_000 + "]", "more than 200,000 values"),
    ],
)
def test_a_description_without_measure_is_refused(tmp_path: Path, content: str, told: str) -> None:
    """The C parser of YAML would end the whole process."""
    (tmp_path / "rdf.yaml").write_text(content)
    with pytest.raises(InvalidPackageError, match=told):
        biozoo.open(tmp_path)


@pytest.mark.parametrize("junk", [None, 5, "x", {"a": 1}, [1, None, "x", {"type": "model"}]])
def test_an_index_of_junk_has_no_models(junk: object) -> None:
    item = {"type": "model", "id": "///", "rdf_source": "x", "tags": 5, "authors": 5, "versions": 5}
    for layout in ({"items": junk}, {"collection": junk}, {"items": [{**item, "versions": junk}]}):
        assert list(entries_of(layout)) == []
    assert [e.version for e in entries_of({"collection": [{**item, "id": "m"}]})] == ["v0"]


def test_an_index_nested_without_measure_is_told(
    loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    loopback.files["/index.json"] = b"[" * 100_000
    monkeypatch.setenv("BIOZOO_INDEX_URL", loopback.url("/index.json"))
    with pytest.raises(BiozooError, match="no index of models"):
        Collection().index()


# ------------------------------------------------------------------------------------------ store


def test_adding_the_same_again_does_not_validate_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = biozoo.Zoo().add(folder)
    monkeypatch.setattr(store.Zoo, "_validate", lambda *_: pytest.fail("it was validated"))
    assert biozoo.Zoo().add(folder) == first


def test_a_model_that_is_removed_while_models_are_listed_is_not_listed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = biozoo.Zoo().add(folder).root
    read = Record.read

    def remove_first(place: Path) -> Record:
        shutil.rmtree(root.parent)
        return read(place)

    monkeypatch.setattr(Record, "read", remove_first)
    assert packaging.installed_packages(root.parents[1]) == ([], {})


def test_what_another_process_removes_at_once_was_added(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Staging.place

    def placed_and_removed(staging: Staging, target: Path) -> bool:
        done = place(staging, target)
        shutil.rmtree(target.parent)
        return done

    monkeypatch.setattr(Staging, "place", placed_and_removed)
    assert str(biozoo.Zoo().add(folder)) == "tiny 1.0"


def test_a_removal_amid_placing_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`mkdir` tells FileExistsError where the folder was there and then was not."""
    mkdir, told = Path.mkdir, []

    def gone_again(path: Path, **more: bool) -> None:
        if path.name == "tiny" and not told:
            told.append(path)
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        mkdir(path, **more)

    with Staging(tmp_path) as staging:
        monkeypatch.setattr(Path, "mkdir", gone_again)
        assert staging.place(tmp_path / "tiny" / "1.0")
    assert told


def test_what_a_file_manager_leaves_is_no_change(folder: Path) -> None:
    package = biozoo.Zoo().add(folder)
    for name in (".DS_Store", "Thumbs.db"):
        (package.root / name).write_text("x")
    assert package.verify().ok


def test_a_record_of_a_later_version_is_read(folder: Path) -> None:
    package = biozoo.Zoo().add(folder)
    record = json.loads((package.root / RECORD).read_bytes())
    (package.root / RECORD).write_text(json.dumps({**record, "new": 1}))
    assert biozoo.Zoo().packages() == [package]


def test_a_version_that_cannot_be_read_is_verified_and_removed_with_the_others(
    tmp_path: Path,
) -> None:
    zoo = biozoo.Zoo()
    for version in ("1", "2", "3"):
        package = zoo.add(make_package(tmp_path / version, version=version, validate=False))
        if version != "1":
            (package.root / RECORD).unlink()
    assert [str(p).partition(":")[0] for p in zoo.verify("tiny").problems] == ["tiny 2", "tiny 3"]
    assert zoo.verify("tiny@1").ok
    assert zoo.remove("tiny@3") == ()
    assert [p.version for p in zoo.remove("tiny")] == ["1"]
    assert list(zoo.models.iterdir()) == []


def test_a_file_outside_is_not_hashed(folder: Path) -> None:
    (folder.parent / "outside").write_text("x")
    rdf = read_rdf(folder)
    rdf["attachments"] = [{"source": "../outside", "sha256": "0" * 64}]
    (folder / "rdf.yaml").write_text(json.dumps(rdf))
    (problem,) = biozoo.ModelPackage.from_folder(folder).verify().problems
    assert (problem.what, problem.file) == ("unreadable", "../outside")


# ------------------------------------------------------------------------------------------- home


def test_nothing_is_written_to_the_users_home(tmp_path: Path) -> None:
    """Onnxruntime would keep an id there, to send usage data with, as soon as it is imported."""
    home = tmp_path / "home"
    home.mkdir()
    dropped = ("XDG_", "ORT_", "HOME", "USERPROFILE")
    env = {name: value for name, value in os.environ.items() if not name.startswith(dropped)}
    env |= {"HOME": str(home), "USERPROFILE": str(home), "PYTHONPATH": os.pathsep.join(sys.path)}
    code = (
        "import biozoo_runners, numpy as np\n"
        "with biozoo_runners.load('nuclei-fluo', device='cpu') as model:\n"
        "    model(np.zeros((128, 128), 'uint16'), axes='yx')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=env)
    assert [path for path in home.rglob("*") if path.is_file()] == []
