"""Opening packages from folders, zips and addresses; what is refused, and how it is told."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import biozoo
from biozoo import archive as archives
from biozoo import rdf as rdfs
from biozoo import summary as summaries
from biozoo.errors import (
    BiozooError,
    CollectionError,
    HashMismatchError,
    InvalidPackageError,
    MissingFileError,
    UnsafeArchiveError,
    UsageError,
)
from biozoo.settings import Settings
from biozoo.summary import ModelSummary, package_id, package_version, slug
from biozoo.trust import code_of, trust_of
from loopback import Loopback
from packages import change_rdf, make_package, read_rdf, zip_package


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_package(tmp_path / "tiny")


# ------------------------------------------------------------------------------------- opening


def test_a_folder_opens_with_its_summary_size_trust_and_files(folder: Path) -> None:
    package = biozoo.open(folder)
    assert (package.id, package.version, package.origin) == ("tiny", "1.0", "folder")
    assert package.root == folder
    assert package.size == sum(p.stat().st_size for p in folder.iterdir())
    assert package.trust == "no code"
    assert package.covers == (folder / "cover.png",)
    assert "## Validation" in package.documentation
    assert package.path("weights.onnx") == folder / "weights.onnx"
    assert package.verify().ok


def test_its_descr_is_the_spec_object_whose_files_lie_in_the_folder(folder: Path) -> None:
    package = biozoo.open(folder)
    assert type(package.descr).__name__ == "ModelDescr"
    assert package.descr is package.descr
    assert package.descr.weights.onnx is not None
    assert package.path(package.descr.weights.onnx) == folder / "weights.onnx"
    assert package.path(package.descr.inputs[0].test_tensor) == folder / "test_raw.npy"
    assert Path(str(package.descr.weights.onnx.source.absolute())) == folder / "weights.onnx"


@pytest.mark.parametrize(
    "name", ["rdf.yaml", "bioimageio.yaml", "model.yaml", "tiny.rdf.yaml", "tiny.bioimageio.yaml"]
)
def test_every_usual_name_of_a_description_is_found(folder: Path, name: str) -> None:
    (folder / "rdf.yaml").rename(folder / name)
    assert biozoo.open(folder).rdf.name == name
    assert biozoo.open(folder / name).rdf.name == name
    assert biozoo.open(zip_package(folder)).rdf.name == name


@pytest.mark.parametrize("top", ["", "tiny", "some folder"])
def test_a_zip_opens_flat_or_with_one_folder(folder: Path, top: str) -> None:
    package = biozoo.open(zip_package(folder, top=top))
    assert (package.id, package.origin) == ("tiny", "zip")
    assert package.path("weights.onnx").read_bytes() == (folder / "weights.onnx").read_bytes()
    assert package.verify().ok
    assert package.descr.name == "Tiny blur"


def test_a_zip_is_unpacked_once_into_the_cache(folder: Path, biozoo_home: Path) -> None:
    archive = zip_package(folder)
    first = biozoo.open(archive)
    assert first.root.is_relative_to(biozoo_home / "cache")
    before = (first.root / "weights.onnx").stat().st_mtime_ns
    again = biozoo.open(str(archive))
    assert again.root == first.root
    assert (again.root / "weights.onnx").stat().st_mtime_ns == before


def test_a_cached_zip_that_lost_a_file_is_unpacked_again(folder: Path) -> None:
    archive = zip_package(folder)
    root = biozoo.open(archive).root
    (root / "weights.onnx").unlink()
    package = biozoo.open(archive)
    assert package.root == root
    assert package.verify().ok


def test_a_package_opens_from_an_address_of_a_zip(folder: Path, loopback: Loopback) -> None:
    loopback.files["/tiny.zip"] = zip_package(folder).read_bytes()
    steps: list[tuple[str, int, int | None]] = []
    url = loopback.url("/tiny.zip")
    package = biozoo.open(url, progress=lambda *step: steps.append(step))
    assert (package.id, package.origin, package.source) == ("tiny", "url", url)
    assert package.verify().ok
    size = len(loopback.files["/tiny.zip"])
    assert ("tiny.zip", size, size) in steps
    biozoo.open(url)
    assert loopback.requests == ["/tiny.zip"]  # the second time from the cache
    biozoo.open(url, refresh=True)
    assert loopback.requests == ["/tiny.zip"] * 2


def test_a_package_opens_from_an_address_of_a_description(folder: Path, loopback: Loopback) -> None:
    loopback.serve(folder, "/m")
    package = biozoo.open(loopback.url("/m/rdf.yaml?version=v0"))
    assert package.verify().ok
    assert package.path("weights.onnx").read_bytes() == (folder / "weights.onnx").read_bytes()
    assert "/m/weights.onnx?version=v0" in loopback.requests  # the query goes along


def test_files_given_by_address_are_fetched_and_used_without_a_network(
    folder: Path, loopback: Loopback
) -> None:
    rdf = read_rdf(folder)
    loopback.files["/elsewhere/w.onnx"] = (folder / "weights.onnx").read_bytes()
    source = loopback.url("/elsewhere/w.onnx")
    rdf["weights"]["onnx"]["source"] = source
    change_rdf(folder, weights=rdf["weights"])
    (folder / "weights.onnx").unlink()
    package = biozoo.open(loopback.serve(folder, "/m"))
    assert (package.root / "rdf.yaml").read_bytes() == (folder / "rdf.yaml").read_bytes()
    asked = len(loopback.requests)
    path = package.path(source)
    assert path.is_relative_to(package.root)
    assert package.descr.weights.onnx is not None
    assert package.path(package.descr.weights.onnx) == path
    assert Path(str(package.descr.weights.onnx.source.absolute())) == path
    assert len(loopback.requests) == asked


def test_a_redirect_is_followed(folder: Path, loopback: Loopback) -> None:
    loopback.files["/new.zip"] = zip_package(folder).read_bytes()
    loopback.redirects["/old.zip"] = "/new.zip"
    assert biozoo.open(loopback.url("/old.zip")).id == "tiny"


# ------------------------------------------------------------------------------- what is refused


def _refused(source: str | Path, kind: type[BiozooError], *told: str) -> None:
    """Opening and adding raise the same, tell the same, and leave nothing behind."""
    for act in (biozoo.open, biozoo.Zoo().add):
        with pytest.raises(kind) as caught:
            act(source)
        assert [part for part in told if part not in caught.value.message] == []
        assert ".staging" not in caught.value.message
    home = Settings.from_env().home
    left = [p for p in home.rglob("*") if p.is_file() and "spec" not in p.parts]
    assert left == []
    assert list(home.rglob(".staging*")) == []


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    _refused(tmp_path / "no", MissingFileError, "does not exist", "Give a folder")
    _refused("./no.zip", MissingFileError, "does not exist")


def test_a_file_that_is_no_package(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    _refused(tmp_path / "a.tif", InvalidPackageError, "neither a zip nor a description")


def test_a_folder_without_a_description(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    _refused(tmp_path / "empty", InvalidPackageError, "no description", "rdf.yaml")


def test_a_file_of_the_package_that_is_missing_is_named_by_its_field(folder: Path) -> None:
    (folder / "weights.onnx").unlink()
    _refused(folder, InvalidPackageError, "weights.onnx: file 'weights.onnx' is missing")
    _refused(zip_package(folder), InvalidPackageError, "weights.onnx: file 'weights.onnx'")


def test_a_flipped_byte_is_a_wrong_hash_and_names_the_file(folder: Path) -> None:
    content = bytearray((folder / "weights.onnx").read_bytes())
    content[50] ^= 1
    (folder / "weights.onnx").write_bytes(content)
    _refused(folder, HashMismatchError, "weights.onnx", "sha256")
    _refused(zip_package(folder), HashMismatchError, "weights.onnx", "sha256")


def test_a_truncated_zip(folder: Path) -> None:
    archive = zip_package(folder)
    archive.write_bytes(archive.read_bytes()[:-200])
    _refused(archive, InvalidPackageError, "no complete zip file", "Fetch it again")


def test_a_zip_with_damaged_data(folder: Path) -> None:
    archive = zip_package(folder)
    with zipfile.ZipFile(archive) as opened:
        info = opened.getinfo("weights.onnx")
    content = bytearray(archive.read_bytes())
    content[info.header_offset + 60 : info.header_offset + 70] = b"\0" * 10
    archive.write_bytes(content)
    _refused(archive, InvalidPackageError, "no complete zip file")


def test_a_zip_without_a_description(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/b/rdf.yaml", "type: model")
    _refused(tmp_path / "a.zip", InvalidPackageError, "no description")


def _link(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive.writestr(info, "/etc/passwd")


def _device(archive: zipfile.ZipFile) -> None:
    info = zipfile.ZipInfo("fifo")
    info.external_attr = (stat.S_IFIFO | 0o666) << 16
    archive.writestr(info, "")


def _named(name: str) -> Callable[[zipfile.ZipFile], None]:
    return lambda archive: archive.writestr(zipfile.ZipInfo(name), "x")


@pytest.mark.parametrize(
    ("poison", "told"),
    [
        (_named("../evil"), "would leave the folder"),
        (_named("a/../../evil"), "would leave the folder"),
        (_named("/elsewhere/evil"), "would leave the folder"),
        (_named("C:/evil"), "would leave the folder"),
        (_named("..\\evil"), "would leave the folder"),
        (_named("~/evil"), "would leave the folder"),
        (_named("WEIGHTS.ONNX"), "is there twice"),
        (_named("weights.onnx/inner"), "lies in a file"),
        (_link, "is a link"),
        (_device, "is a special file"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_member_that_may_not_be_written_stops_the_whole_zip(
    folder: Path, poison: Callable[[zipfile.ZipFile], None], told: str
) -> None:
    archive = zip_package(folder)
    with zipfile.ZipFile(archive, "a") as opened:
        poison(opened)
    _refused(archive, UnsafeArchiveError, told, "was not unpacked")
    assert not (folder.parent / "evil").exists()


def test_an_encrypted_member_is_refused(folder: Path) -> None:
    archive = zip_package(folder)
    content = archive.read_bytes()
    at = content.index(b"PK\x01\x02") + 8  # the flags of the first entry in the directory
    archive.write_bytes(content[:at] + struct.pack("<H", 1) + content[at + 2 :])
    _refused(archive, UnsafeArchiveError, "is encrypted")


def test_a_zip_of_too_many_files_or_bytes_is_refused(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zip_package(folder)
    monkeypatch.setenv("BIOZOO_MAX_GB", str(1000 / 2**30))
    _refused(archive, UnsafeArchiveError, "GB allowed (BIOZOO_MAX_GB)")
    monkeypatch.delenv("BIOZOO_MAX_GB")
    few = Settings(Settings.from_env().home, max_files=3)
    with pytest.raises(UnsafeArchiveError, match="beyond the 3 files allowed"):
        biozoo.open(archive, settings=few)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = zip_package(folder)
    monkeypatch.setattr(archives, "BOMB_BYTES", 2**20)
    with zipfile.ZipFile(archive, "a", zipfile.ZIP_DEFLATED) as opened:
        opened.writestr("bomb.bin", b"\0" * 2**22)
    _refused(archive, UnsafeArchiveError, "'bomb.bin'", "a zip bomb")


def test_a_member_larger_than_it_claims_is_refused(folder: Path) -> None:
    archive = zip_package(folder)
    content = bytearray(archive.read_bytes())
    with zipfile.ZipFile(archive) as opened:
        real = opened.getinfo("weights.onnx").file_size
    for signature, offset in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        at = -1
        while (at := content.find(signature, at + 1)) >= 0:
            if struct.unpack("<I", content[at + offset : at + offset + 4])[0] == real:
                content[at + offset : at + offset + 4] = struct.pack("<I", real // 2)
    archive.write_bytes(content)
    _refused(archive, BiozooError)


@pytest.mark.parametrize(
    "source", ["../outside.bin", "/etc/passwd", "C:\\x", "a/../../x", "file:///etc/passwd"]
)
def test_a_description_may_not_point_out_of_its_folder(folder: Path, source: str) -> None:
    (folder.parent / "outside.bin").write_bytes(b"x")
    change_rdf(folder, attachments=[{"source": source}])
    _refused(folder, InvalidPackageError, "attachments.0", "no path below the package folder")
    _refused(zip_package(folder), InvalidPackageError, "attachments.0")
    package = biozoo.ModelPackage.from_folder(folder)
    with pytest.raises(InvalidPackageError):
        package.path(source)


def test_a_link_out_of_the_folder_is_refused(folder: Path) -> None:
    outside = folder.parent / "outside.onnx"
    (folder / "weights.onnx").rename(outside)
    (folder / "weights.onnx").symlink_to(outside)
    with pytest.raises(InvalidPackageError, match="a link out of the package folder"):
        biozoo.open(folder)
    with pytest.raises(UnsafeArchiveError, match="is a link out of the folder"):
        biozoo.Zoo().add(folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no mapping"),
        ("a: [", "not readable YAML"),
        ("- 1", "no mapping"),
        ("type: dataset\nname: x", "type: is 'dataset', expected 'model'"),
        ("type: model\nname: x", "format_version: is missing"),
        ("!!python/object/apply:os.system ['touch evil']", "not readable YAML"),
        ("\xff\xfe", "UTF-8"),
        (
            "a0: &a0 [1,1,1,1,1,1,1,1,1,1]\n"
            + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)),
            "expand without measure",
        ),
    ],
)
def test_a_description_that_cannot_be_read(folder: Path, content: str, told: str) -> None:
    (folder / "rdf.yaml").write_bytes(content.encode("latin-1"))
    _refused(folder, InvalidPackageError, told)
    _refused(zip_package(folder), InvalidPackageError, told)


def test_a_description_that_fails_validation_names_the_fields(folder: Path) -> None:
    rdf = read_rdf(folder)
    rdf["inputs"][0]["axes"][2]["size"] = -3
    change_rdf(folder, inputs=rdf["inputs"], authors=[{"affiliation": "x"}])
    with pytest.raises(InvalidPackageError) as caught:
        _ = biozoo.open(folder).descr
    assert "authors.0.name" in caught.value.fields
    assert any(field.startswith("inputs.0.axes.2") for field in caught.value.fields)
    with pytest.raises(InvalidPackageError, match=r"inputs\.0\.axes\.2"):
        biozoo.Zoo().add(folder)
    assert biozoo.Zoo().packages() == []


def test_a_test_tensor_that_does_not_fit_the_axes_is_refused_by_add(folder: Path) -> None:
    np.save(folder / "test_raw.npy", np.zeros((1, 1, 16), np.float32))
    rdf = read_rdf(folder)
    rdf["inputs"][0]["test_tensor"].pop("sha256")
    change_rdf(folder, inputs=rdf["inputs"])
    with pytest.raises(InvalidPackageError, match="test_tensor"):
        biozoo.Zoo().add(folder)


# -------------------------------------------------------------------------------------- network


def test_plain_http_from_elsewhere_and_other_schemes_are_wrong_use() -> None:
    for url in ("http://example.com/a.zip", "ftp://example.com/a.zip", "file:///etc/passwd"):
        with pytest.raises(UsageError, match="expected https"):
            biozoo.open(url)


def test_what_the_network_does_not_give_whole_leaves_nothing(
    folder: Path, loopback: Loopback
) -> None:
    loopback.files["/tiny.zip"] = zip_package(folder).read_bytes()
    loopback.cut["/tiny.zip"] = 500
    _refused(loopback.url("/tiny.zip"), CollectionError, "Cannot get", "/tiny.zip")
    _refused(loopback.url("/none.zip"), CollectionError, "the server answered 404")
    _refused("http://127.0.0.1:9/a.zip", CollectionError, "Cannot get")
    loopback.serve(folder, "/m")
    del loopback.files["/m/test_raw.npy"]
    _refused(loopback.url("/m/rdf.yaml"), CollectionError, "test_raw.npy", "404")


@pytest.mark.parametrize("told", [True, False])
def test_what_is_larger_than_allowed_is_not_downloaded(
    folder: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    loopback.files["/tiny.zip"] = zip_package(folder).read_bytes()
    if not told:
        loopback.unsized.add("/tiny.zip")
    assert biozoo.open(loopback.url("/tiny.zip")).verify().ok
    monkeypatch.setenv("BIOZOO_MAX_GB", str(1000 / 2**30))
    with pytest.raises(CollectionError, match=r"larger than the .* GB allowed"):
        biozoo.open(loopback.url("/tiny.zip"), refresh=True)


def test_a_model_that_another_is_the_input_of_is_not_looked_up(folder: Path) -> None:
    rdf = read_rdf(folder)
    rdf["inputs"][0]["output_of"] = "affable-shark"
    change_rdf(folder, inputs=rdf["inputs"])
    assert biozoo.open(folder).descr.inputs[0].output_of is None


def test_an_address_may_not_lead_elsewhere_than_https(loopback: Loopback) -> None:
    loopback.redirects["/a.zip"] = "http://example.com/a.zip"
    _refused(loopback.url("/a.zip"), CollectionError, "only https addresses are followed")
    loopback.redirects["/loop.zip"] = "/loop.zip"
    _refused(loopback.url("/loop.zip"), CollectionError, "redirects more than 5 times")


def test_a_local_description_may_not_reach_into_this_machines_servers(
    folder: Path, loopback: Loopback
) -> None:
    loopback.files["/secret"] = b"x"
    change_rdf(folder, attachments=[{"source": loopback.url("/secret")}])
    with pytest.raises(CollectionError, match="only https"):
        biozoo.Zoo().add(folder)
    assert loopback.requests == []


def test_a_file_on_the_network_only_is_told_of_a_folder(folder: Path) -> None:
    source = "https://example.com/files/more.bin"
    change_rdf(folder, attachments=[{"source": source}])
    with pytest.raises(MissingFileError, match="on the network only: zoo add"):
        biozoo.open(folder).path(source)


def test_offline_is_told(folder: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIOZOO_OFFLINE", "1")
    with pytest.raises(CollectionError, match="Unset BIOZOO_OFFLINE"):
        biozoo.open(loopback.url("/a.zip"))


# --------------------------------------------------------------------------- raw descriptions


def test_yaml_is_read_by_the_rules_of_1_2() -> None:
    raw = rdfs.parse(
        b"format_version: 0.5.4\nname: no\ninputs: []\noutputs: []\n"
        b"eps: 1e-05\nbig: 1E6\noff: off\ndate: 2022-01-01\nfloat: .5\nnothing: ~\nn: -7\n"
        b"yes: true\n"
        b"sixty: 1:30\nhex: 608f52cd7f5119f7a7b8272395b0c169714e8be34536eaf159820f72a1d6a5b7\n"
        b"infinite: -.inf\n",
        source="a",
    )
    assert raw == {
        "format_version": "0.5.4",
        "name": "no",
        "inputs": [],
        "outputs": [],
        "eps": 1e-05,
        "big": 1e6,
        "off": "off",
        "date": "2022-01-01",
        "float": 0.5,
        "nothing": None,
        "n": -7,
        "yes": True,
        "sixty": "1:30",
        "hex": "608f52cd7f5119f7a7b8272395b0c169714e8be34536eaf159820f72a1d6a5b7",
        "infinite": float("-inf"),
    }


def test_file_references_of_old_and_new_descriptions() -> None:
    raw: dict[str, Any] = {
        "test_inputs": ["a.npy"],
        "covers": ["c.png", {"source": "d.png", "sha256": "AB"}],
        "icon": "\N{SHARK}",
        "documentation": {"source": "doc.md"},
        "attachments": {"files": ["x.ijm"]},
        "weights": {
            "pytorch_state_dict": {
                "source": "w.pt",
                "sha256": "11",
                "architecture": "unet.py:UNet",
                "architecture_sha256": "22",
                "dependencies": "conda:env.yaml",
                "kwargs": {"source": "no file"},
            },
            "onnx": {"source": "w.onnx", "external_data": {"source": "w.data"}},
        },
        "inputs": [{"test_tensor": {"source": "t.npy"}, "preprocessing": [{"source": "op.py"}]}],
        "config": {"source": "no file"},
    }
    assert {(r.field, r.source, r.sha256) for r in rdfs.file_refs(raw)} == {
        ("test_inputs.0", "a.npy", None),
        ("covers.0", "c.png", None),
        ("covers.1", "d.png", "ab"),
        ("documentation", "doc.md", None),
        ("attachments.files.0", "x.ijm", None),
        ("weights.pytorch_state_dict", "w.pt", "11"),
        ("weights.pytorch_state_dict.architecture", "unet.py", "22"),
        ("weights.pytorch_state_dict.dependencies", "env.yaml", None),
        ("weights.onnx", "w.onnx", None),
        ("weights.onnx.external_data", "w.data", None),
        ("inputs.0.test_tensor", "t.npy", None),
        ("inputs.0.preprocessing.0", "op.py", None),
    }


def test_ids_and_versions_by_which_a_zoo_keeps_a_model() -> None:
    assert package_id({"id": "bioimage-io/affable-shark"}) == "affable-shark"
    assert package_id({"name": "My U-Net (2D)"}) == "my-u-net-2d"
    zenodo = {"id": "10.5281/zenodo.1/2", "config": {"bioimageio": {"nickname": "kind-seashell"}}}
    assert package_id(zenodo) == "kind-seashell"
    assert package_id({"id": "10.5281/zenodo.1"}) == "10.5281-zenodo.1"
    assert package_id({"id": "../../evil", "name": ""}) == "evil"
    assert package_version({"version": 1.2}) == "1.2"
    assert package_version({"version": None}) == "v0"
    assert package_version({"version": "../1"}) == "1"
    assert slug("...") == ""


def test_the_summary_of_a_0_4_description() -> None:
    made = ModelSummary.from_rdf(
        {
            "name": "Old",
            "format_version": "0.4.9",
            "tags": ["denoising"],
            "weights": {"pytorch_script": {}, "onnx": {}},
            "inputs": [
                {
                    "name": "raw",
                    "axes": "bcyx",
                    "shape": {"min": [1, 2, 64, 64], "step": [0, 0, 16, 0]},
                }
            ],
            "outputs": [
                {"name": "out", "axes": "bcyx", "shape": {"reference_tensor": "raw", "scale": [1]}}
            ],
        }
    )
    assert made.weights == ("torchscript", "onnx")
    assert made.task == "restoration"
    (raw,), (out,) = made.inputs, made.outputs
    assert raw == summaries.TensorSummary(
        "raw", ("batch", "channel", "y", "x"), 2, "y 64+n*16, x 64"
    )
    assert out.sizes == "y as raw.y, x as raw.x"


@pytest.mark.parametrize(
    ("raw", "trust"),
    [
        ({"weights": {"onnx": {}}}, "no code"),
        ({"weights": {"pytorch_state_dict": {"architecture": "a.py:B"}}}, "untrusted code"),
        (
            {"weights": {"pytorch_state_dict": {"architecture": {"import_from": "x"}}}},
            "untrusted code",
        ),
        ({"weights": {"pytorch_state_dict": {}, "torchscript": {}}}, "no code"),
        (
            {
                "weights": {"onnx": {}},
                "outputs": [{"id": "o", "postprocessing": [{"id": "custom"}]}],
            },
            "untrusted code",
        ),
        ({"weights": {"onnx": {}}, "inputs": [{"preprocessing": [{"id": "clip"}]}]}, "no code"),
        ({}, "no code"),
    ],
)
def test_trust_is_read_from_the_description(raw: dict[str, Any], trust: str) -> None:
    assert trust_of(raw) == trust
    assert bool(code_of(raw)) == (trust == "untrusted code")
    assert trust_of(raw, built_in=True) == "built-in"


@pytest.mark.shared
def test_every_published_description_has_a_summary_that_survives_json(shared: Path) -> None:
    paths = sorted((shared / "corpus" / "rdfs").glob("*.yaml"))
    assert len(paths) == 101
    for path in paths:
        raw = rdfs.read(path)
        made = ModelSummary.from_rdf(raw)
        assert ModelSummary.from_dict(made.to_dict()) == made
        assert made.id == path.name.partition("__")[0]
        assert made.weights
        assert all(t.axes for t in made.inputs)
        assert all(rdfs.safe_relative(r.source) for r in rdfs.file_refs(raw))


@pytest.mark.shared
def test_the_real_packages_open_and_their_descr_names_their_files(shared: Path) -> None:
    for name in ("nuclei-broad", "brain-meshnet3d", "multi-tensor", "inverter-fails-own-test"):
        package = biozoo.open(shared / "models" / name)
        for tensor in package.descr.inputs:
            assert package.path(tensor.test_tensor).is_file()
        for output in package.descr.outputs:
            assert package.path(output.test_tensor).is_file()
        assert package.trust == "no code"


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    made = Settings.from_env(
        {"BIOZOO_HOME": str(tmp_path), "BIOZOO_OFFLINE": "1", "BIOZOO_MAX_GB": "0.5"}
    )
    assert (made.home, made.offline, made.max_bytes) == (tmp_path, True, 2**29)
    assert Settings.from_env({}).index_url.startswith("https://bioimage-io.github.io/")
    with pytest.raises(UsageError, match="BIOZOO_INDEX_DAYS='soon'"):
        Settings.from_env({"BIOZOO_INDEX_DAYS": "soon"})


# --------------------------------------------------------------------------------------- imports


@pytest.mark.parametrize(
    "code",
    [
        "import biozoo",
        "import biozoo; biozoo.list_packages()",
        "import biozoo; biozoo.open({folder!r}).verify()",
        "import biozoo, os; os.environ['BIOZOO_OFFLINE'] = '1'; biozoo.search('nuclei')",
    ],
)
def test_nothing_heavy_is_imported_for_listing_searching_and_opening(
    folder: Path, code: str
) -> None:
    names = (
        "torch, onnxruntime, gradio, fastapi, bioimageio.core, bioimageio.spec, xarray, scipy, "
        "skimage, numpy, pydantic, httpx, onnx"
    )
    heavy = names.split(", ")
    code = code.format(folder=str(folder))
    code += f"; import sys; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.stdout.strip() == "[]"


def test_search_is_the_function_whatever_was_imported_first() -> None:
    code = "from biozoo.search import Found; import biozoo; assert callable(biozoo.search)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env)


def test_the_public_names_all_resolve() -> None:
    assert [n for n in biozoo.__all__ if not hasattr(biozoo, n)] == []
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(biozoo, "non" + "sense")
