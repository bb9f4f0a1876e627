"""The author's code: what it is, that it runs for exactly what was allowed, and `zoo trust`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import biozoo
from biozoo.code import code_items, described, needs_code, unseen
from biozoo.consent import consent_of, grant, is_trusted, key_of, refusal, require, withdraw
from biozoo.errors import (
    HashMismatchError,
    InvalidPackageError,
    MissingFileError,
    UntrustedCodeError,
    UsageError,
)
from biozoo.package import ModelPackage
from biozoo.settings import Settings
from biozoo.visible import visible
from coded import SOURCE, with_code, with_step
from command import run_zoo as zoo
from packages import change_rdf, make_package, read_rdf, sha256, zip_package


def change(folder: Path, source: str) -> ModelPackage:
    """Change the architecture and its declared hash; the package read anew."""
    (folder / "net.py").write_text(source)
    weights = read_rdf(folder)["weights"]
    weights["pytorch_state_dict"]["architecture"]["sha256"] = sha256(folder / "net.py")
    change_rdf(folder, weights=weights)
    return ModelPackage.from_folder(folder)


@pytest.fixture
def coded(tmp_path: Path) -> Path:
    """A package that only runs by its author's code."""
    return with_code(make_package(tmp_path / "coded", id="coded", validate=False))


# ----------------------------------------------------------------------------------------- items


def test_an_architecture_is_its_file_as_it_is_now(coded: Path) -> None:
    (item,) = code_items(ModelPackage.from_folder(coded))
    assert (item.kind, item.where, item.weights) == (
        "architecture",
        "weights.pytorch_state_dict",
        "pytorch_state_dict",
    )
    assert (item.callable, item.source, item.text) == ("Net", "net.py", SOURCE)
    assert item.sha256 == hashlib.sha256(SOURCE.encode()).hexdigest()
    assert str(item) == "weights.pytorch_state_dict: architecture net.py:Net"


@pytest.mark.parametrize(
    ("raw", "source", "name", "kwargs"),
    [
        ({"architecture": "unet.py:UNet2d", "kwargs": {"depth": 4}}, "unet.py", "UNet2d", 4),
        ({"architecture": "plantseg.models.UNet3D"}, "module plantseg.models", "UNet3D", None),
        ({"architecture": "https://a.org/u.py:U"}, "https://a.org/u.py", "U", None),
        (
            {
                "architecture": {
                    "import_from": "monai.nets",
                    "callable": "B",
                    "kwargs": {"depth": 2},
                }
            },
            "module monai.nets",
            "B",
            2,
        ),
        ({"architecture": {"source": "module x.py", "callable": "B"}}, "./module x.py", "B", None),
        ({}, "old.py", "Old", 7),  # 0.3: at the top of the description
    ],
)
def test_every_format_version_names_its_architecture(
    raw: dict[str, Any], source: str, name: str, kwargs: int | None
) -> None:
    top = {"source": "old.py::Old", "kwargs": {"depth": 7}}
    (item,) = described({**top, "weights": {"pytorch_state_dict": raw}})
    assert (item.source, item.callable, item.kwargs.get("depth")) == (source, name, kwargs)


def test_a_custom_step_is_code_whatever_the_weights(tmp_path: Path) -> None:
    folder = with_step(make_package(tmp_path / "p", validate=False))
    package = ModelPackage.from_folder(folder)
    (item,) = code_items(package)
    assert (item.kind, item.where, item.weights) == (
        "processing",
        "outputs.prediction.postprocessing.1",
        None,
    )
    assert item.kwargs == {"threshold": 0.5}
    assert package.trust == "untrusted code"


def test_a_source_that_is_not_the_described_one_is_an_error(coded: Path) -> None:
    (coded / "net.py").write_text(SOURCE + "import os\n")
    package = ModelPackage.from_folder(coded)
    with pytest.raises(HashMismatchError, match=r"net\.py is not the one described"):
        code_items(package)
    assert not is_trusted(package)
    assert isinstance(refusal(package), HashMismatchError)
    (coded / "net.py").unlink()
    with pytest.raises(MissingFileError):
        require(package)


def test_a_source_outside_the_package_is_never_read(coded: Path) -> None:
    weights = read_rdf(coded)["weights"]
    for source in ("../net.py", str(coded / "net.py"), "~/net.py"):
        weights["pytorch_state_dict"]["architecture"]["source"] = source
        change_rdf(coded, weights=weights)
        with pytest.raises(InvalidPackageError, match="no path below the package folder"):
            code_items(ModelPackage.from_folder(coded))


def test_sources_are_read_as_python_reads_them(coded: Path) -> None:
    latin = "# -*- coding: latin-1 -*-\nname = 'Zürich'\n"
    with_code_again(coded, latin.encode("latin-1"))
    assert code_items(ModelPackage.from_folder(coded))[0].text == latin
    with_code_again(coded, b"x = '\xff'\n")
    with pytest.raises(InvalidPackageError, match="no text that Python reads"):
        code_items(ModelPackage.from_folder(coded))
    with_code_again(coded, b"#" * (9 * 2**20))
    with pytest.raises(InvalidPackageError, match="larger than 8 MB"):
        code_items(ModelPackage.from_folder(coded))


def with_code_again(folder: Path, source: bytes) -> None:
    (folder / "net.py").write_bytes(source)
    weights = read_rdf(folder)["weights"]
    weights["pytorch_state_dict"]["architecture"]["sha256"] = sha256(folder / "net.py")
    change_rdf(folder, weights=weights)


# ----------------------------------------------------------------------------------------- keras


def layer(name: str, **more: Any) -> dict[str, Any]:
    return {"class_name": name, "config": {"name": f"my_{name.lower()}"}, **more}


KERAS = {"module": "keras.layers", "registered_name": None}
CODED = {"class_name": "__lambda__", "config": {"code": "4wEA", "defaults": None}}
FUNCTION = {"class_name": "function", "module": "builtins", "config": "Mine>act"}
LAMBDA = {
    "class_name": "Lambda",
    "config": {"name": "double", "function": CODED},
    **KERAS,
}


def network(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"name": "net", "layers": list(layers)}, **KERAS}


def write_keras(path: Path, content: Mapping[str, Any]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(content))
        archive.writestr("metadata.json", "{}")


def write_hdf5(path: Path, content: Mapping[str, Any]) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(content)


def with_keras(folder: Path, content: Mapping[str, Any], weights: str = "keras_v3") -> ModelPackage:
    """A package whose only weights are Keras'."""
    name = {"keras_v3": "net.keras", "keras_hdf5": "net.h5"}[weights]
    {"keras_v3": write_keras, "keras_hdf5": write_hdf5}[weights](folder / name, content)
    entry = {"source": name, "sha256": sha256(folder / name)}
    change_rdf(folder, weights={weights: entry})
    return ModelPackage.from_folder(folder)


@pytest.mark.parametrize("weights", ["keras_v3", "keras_hdf5"])
def test_a_lambda_layer_is_code(tmp_path: Path, weights: str) -> None:
    folder = make_package(tmp_path / "p", validate=False)
    package = with_keras(folder, network(layer("Conv2D", **KERAS), LAMBDA), weights)
    (item,) = code_items(package)
    assert (item.kind, item.where, item.callable, item.weights) == (
        "layer",
        f"weights.{weights}: layer 'double'",
        "Lambda",
        weights,
    )
    assert "4wEA" in item.text
    assert package.trust == "untrusted code"
    grant(package)
    assert package.trust == "trusted code"
    other = {**LAMBDA, "config": {**LAMBDA["config"], "function": "gelu"}}
    changed = with_keras(folder, network(layer("Conv2D", **KERAS), other), weights)
    assert changed.trust == "untrusted code"


@pytest.mark.parametrize(
    ("part", "name"),
    [
        (layer("Net", module="my_lib.layers", registered_name="Net"), "my_lib.layers.Net"),
        (layer("Net", module=None, registered_name="Mine>Net"), "Mine>Net"),
        (layer("Net"), "Net"),  # HDF5 holds no module
        (layer("Mine>Net"), "Mine>Net"),
        (layer("TorchModuleWrapper", **KERAS), "TorchModuleWrapper"),
        (
            layer("TimeDistributed", **KERAS) | {"config": {"name": "t", "layer": LAMBDA}},
            "Lambda",
        ),
        (layer("Dense", **KERAS) | {"config": {"activation": FUNCTION}}, "Mine>act"),
        (layer("Dense", **KERAS) | {"config": {"activation": CODED}}, "__lambda__"),
    ],
)  # fmt: skip
def test_what_is_not_of_keras_is_code(tmp_path: Path, part: dict[str, Any], name: str) -> None:
    package = with_keras(make_package(tmp_path / "p", validate=False), network(part))
    assert [i.callable for i in code_items(package)] == [name]


def test_networks_of_keras_alone_are_no_code(tmp_path: Path) -> None:
    known = [
        "Conv2D",
        "Conv3DTranspose",
        "BatchNormalization",
        "MaxPooling2D",
        "InputLayer",
        "ReLU",
    ]
    glorot = {"class_name": "GlorotUniform", "config": {"seed": None}}
    dense = {"class_name": "Dense", "config": {"name": "d", "kernel_initializer": glorot}}
    content = network(*map(layer, known), dense, layer("Dropout", **KERAS))
    content["compile_config"] = {"loss": CODED}  # how it was trained is not loaded
    folder = make_package(tmp_path / "p", validate=False)
    for weights in ("keras_v3", "keras_hdf5"):
        package = with_keras(folder, content, weights)
        assert code_items(package) == ()
        assert package.trust == "no code"
        assert not is_trusted(package)


def test_a_file_is_looked_at_as_what_it_is(tmp_path: Path) -> None:
    """Keras goes by the name's ending, and one file can be a zip and HDF5 at once."""
    folder = make_package(tmp_path / "p", validate=False)
    write_keras(folder / "harmless.zip", network(layer("Conv2D", **KERAS)))
    package = with_keras(folder, network(LAMBDA), "keras_hdf5")
    both = (folder / "net.h5").read_bytes() + (folder / "harmless.zip").read_bytes()
    (folder / "net.h5").write_bytes(both)
    assert [i.callable for i in code_items(package)] == ["Lambda"]


def test_a_package_that_needs_no_code_of_its_keras_weights(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "p", validate=False)
    onnx = read_rdf(folder)["weights"]
    package = with_keras(folder, network(LAMBDA))
    change_rdf(folder, weights={**onnx, **package.raw["weights"]})
    package = ModelPackage.from_folder(folder)
    assert package.trust == "no code"
    assert not needs_code(package)
    assert len(code_items(package)) == 1


def test_hdf5_without_h5py_is_told_as_not_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = with_keras(make_package(tmp_path / "p", validate=False), network(), "keras_hdf5")
    assert unseen(package) == ()
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert "h5py" in unseen(package)[0]


def test_damaged_keras_weights_are_no_crash(tmp_path: Path) -> None:
    package = with_keras(make_package(tmp_path / "p", validate=False), network())
    path = package.path("net.keras")
    for content in (b"", b"PK\x03\x04 no zip", os.urandom(1000), path.read_bytes()[:-10]):
        path.write_bytes(content)
        assert code_items(package) == ()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[" * 100_000)
    assert code_items(package) == ()
    assert "not readable" in unseen(package)[0]


# --------------------------------------------------------------------------------------- consent


def test_a_state_dict_before_and_after_trust(coded: Path) -> None:
    package = ModelPackage.from_folder(coded)
    assert package.trust == "untrusted code"
    assert not is_trusted(package)
    with pytest.raises(UntrustedCodeError, match=f"architecture net.py:Net.*zoo trust {coded}"):
        require(package)
    consent = grant(package)
    assert package.trust == "trusted code"
    assert is_trusted(package)
    assert [i.text for i in require(package)] == [SOURCE]
    assert consent_of(package) == consent
    assert withdraw(package)
    assert not withdraw(package)
    assert package.trust == "untrusted code"


def test_it_is_for_the_code_and_not_for_where_it_lies_or_its_version(
    coded: Path, tmp_path: Path
) -> None:
    grant(ModelPackage.from_folder(coded))
    change_rdf(coded, version="2.0", description="Another text.")
    assert ModelPackage.from_folder(coded).trust == "trusted code"
    assert biozoo.open(zip_package(coded)).trust == "trusted code"
    installed = biozoo.Zoo().add(coded)
    assert installed.trust == "trusted code"
    assert biozoo.list_packages()[-1].trust == "trusted code"


def test_a_changed_byte_or_argument_asks_again(coded: Path) -> None:
    package = ModelPackage.from_folder(coded)
    grant(package)
    changed = change(coded, SOURCE + " ")
    assert changed.trust == "untrusted code"
    with pytest.raises(UntrustedCodeError, match="not the code that was allowed before"):
        require(changed)
    assert change(coded, SOURCE).trust == "trusted code"
    weights = read_rdf(coded)["weights"]
    architecture = weights["pytorch_state_dict"]["architecture"]
    for key, value in (
        ("kwargs", {"depth": 2}),
        ("kwargs", {"depth": 2.0}),
        ("kwargs", {"depth": True}),
        ("kwargs", {1: "a"}),
        ("kwargs", {"1": "a"}),
        ("callable", "Other"),
    ):
        weights["pytorch_state_dict"]["architecture"] = {**architecture, key: value}
        change_rdf(coded, weights=weights)
        other = ModelPackage.from_folder(coded)
        assert other.trust == "untrusted code", value
        grant(other)


def test_another_step_asks_again_and_every_item_counts(coded: Path) -> None:
    grant(ModelPackage.from_folder(coded))
    assert ModelPackage.from_folder(with_step(coded)).trust == "untrusted code"


def test_consent_for_one_package_is_none_for_another(coded: Path, tmp_path: Path) -> None:
    grant(ModelPackage.from_folder(coded))
    other = with_code(make_package(tmp_path / "other", id="other", validate=False))
    assert ModelPackage.from_folder(other).trust == "untrusted code"


def test_what_is_allowed_is_what_was_shown(coded: Path) -> None:
    """A source that changes while the person reads is not the one that they allow."""
    package = ModelPackage.from_folder(coded)
    shown = code_items(package)
    changed = change(coded, SOURCE + "import os\n")
    grant(package, shown)
    assert changed.trust == "untrusted code"
    assert change(coded, SOURCE).trust == "trusted code"


def test_a_damaged_or_forged_consent_is_none(coded: Path, tmp_path: Path) -> None:
    package = ModelPackage.from_folder(coded)
    consent = grant(package)
    path = Settings.from_env().home / "trust" / f"{consent.key}.json"
    genuine = path.read_bytes()
    values = json.loads(genuine)
    other = with_code(make_package(tmp_path / "other", id="other", validate=False), "import os\n")
    foreign = json.loads(
        path.with_name(f"{grant(ModelPackage.from_folder(other)).key}.json").read_bytes()
    )
    for forged in (
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        genuine[:-20],
        json.dumps({**values, "items": []}).encode(),
        json.dumps({**values, "id": "other"}).encode(),
        json.dumps(foreign).encode(),
        json.dumps({**foreign, "key": consent.key}).encode(),
        b"[" * 100_000,
    ):
        path.write_bytes(forged)
        assert not is_trusted(package), forged[:80]
        with pytest.raises(UntrustedCodeError):
            require(package)
    path.write_bytes(genuine)
    assert is_trusted(package)
    path.rename(path.with_name("0" * 64 + ".json"))
    assert not is_trusted(package)


def test_a_package_without_code_is_never_trusted_and_reads_no_file(
    tmp_path: Path, coded: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant(ModelPackage.from_folder(coded))
    package = ModelPackage.from_folder(make_package(tmp_path / "p", validate=False))
    monkeypatch.setattr(Path, "open", lambda *_: pytest.fail("a file was read"))
    assert not is_trusted(package)
    assert package.trust == "no code"
    with pytest.raises(UsageError, match="nothing to allow"):
        grant(package)


def test_torchscript_beside_a_state_dict_needs_no_trust(tmp_path: Path) -> None:
    folder = with_code(make_package(tmp_path / "p", validate=False), keep=("onnx",))
    package = ModelPackage.from_folder(folder)
    assert package.trust == "no code"
    with pytest.raises(UntrustedCodeError):
        require(package)  # who runs the state dict all the same
    grant(package)
    assert package.trust == "no code"
    assert is_trusted(package)


def test_tensorflow_js_is_no_way_without_code(tmp_path: Path) -> None:
    folder = with_code(make_package(tmp_path / "p", validate=False))
    weights = read_rdf(folder)["weights"]
    js = {k: weights["pytorch_state_dict"][k] for k in ("source", "sha256")}
    change_rdf(folder, weights={**weights, "tensorflow_js": js})
    assert ModelPackage.from_folder(folder).trust == "untrusted code"


def test_the_key_takes_the_whole_item() -> None:
    raw = {"weights": {"pytorch_state_dict": {"architecture": "a.py:B", "kwargs": {"x": [1, 2]}}}}
    one = described(raw)
    assert key_of("a", one) == key_of("a", one)
    assert len({key_of("a", one), key_of("b", one), key_of("a", ()), key_of("a", one * 2)}) == 4


# ------------------------------------------------------------------------------------------ verb


def at_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from biozoo_ui.cli import trust_verbs

    monkeypatch.setattr(trust_verbs, "_someone_is_there", lambda: True)


def test_it_shows_the_source_and_asks(coded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    at_terminal(monkeypatch)
    shown = zoo("trust", coded, text="\n", code=1)
    for line in SOURCE.splitlines():
        assert line in shown.output
    assert sha256(coded / "net.py") in shown.output
    assert "weights.pytorch_state_dict" in shown.output
    assert "[y/N]" in shown.stderr
    assert "Nothing was allowed" in shown.stderr
    for answer in ("n\n", "", "yep\n"):
        zoo("trust", coded, text=answer, code=1)
        assert ModelPackage.from_folder(coded).trust == "untrusted code"
    assert "may run this code" in zoo("trust", coded, text="y\n").output
    assert ModelPackage.from_folder(coded).trust == "trusted code"
    again = zoo("trust", coded).output
    assert "Exactly this code was allowed on 20" in again
    assert f"zoo trust {coded} --withdraw" in again
    assert "may no longer run" in zoo("trust", coded, "--withdraw").output
    assert "No code of" in zoo("trust", coded, "--withdraw").output
    assert ModelPackage.from_folder(coded).trust == "untrusted code"


def test_without_a_terminal_yes_must_be_said(coded: Path) -> None:
    refused = zoo("trust", coded, text="y\n", code=2)
    assert SOURCE.splitlines()[0] in refused.output  # it is shown all the same
    assert f"zoo trust {coded} --yes" in refused.stderr
    assert ModelPackage.from_folder(coded).trust == "untrusted code"
    assert SOURCE.splitlines()[0] in zoo("trust", coded, "--yes").output
    assert ModelPackage.from_folder(coded).trust == "trusted code"
    zoo("trust", coded, "--yes", "--withdraw", code=2)


def test_its_facts_as_json(coded: Path) -> None:
    facts = json.loads(zoo("trust", coded, "--json").output)
    assert (facts["id"], facts["trust"], facts["allowed"]) == ("coded", "untrusted code", None)
    (item,) = facts["code"]
    assert (item["text"], item["sha256"]) == (SOURCE, sha256(coded / "net.py"))
    assert ModelPackage.from_folder(coded).trust == "untrusted code"
    facts = json.loads(zoo("trust", coded, "--json", "--yes").output)
    assert facts["trust"] == "trusted code"
    assert facts["allowed"]
    assert json.loads(zoo("trust", coded, "--json", "--withdraw").output)["withdrawn"]


def test_a_model_without_code_needs_no_trust() -> None:
    assert "nothing to allow" in zoo("trust", "nuclei-fluo").output
    assert json.loads(zoo("trust", "nuclei-fluo", "--json", "--yes").output)["code"] == []


def test_weights_that_need_none_of_it_are_told(tmp_path: Path) -> None:
    folder = with_code(make_package(tmp_path / "p", validate=False), keep=("onnx",))
    assert "runs the model by its onnx weights" in zoo("trust", folder, "--yes").output


def test_a_changed_source_is_not_shown_as_the_described_one(coded: Path) -> None:
    (coded / "net.py").write_text("import os\n")
    assert "is not the one described" in zoo("trust", coded, "--yes", code=1).stderr


def test_a_zip_and_an_installed_model(coded: Path) -> None:
    archive = zip_package(coded)
    assert f"zoo trust {archive} --yes" in zoo("trust", archive, code=2).stderr
    zoo("trust", archive, "--yes")
    added = zoo("add", archive).output
    assert "trusted code" in added
    assert "trusted code" in zoo("list").output
    assert "which was allowed on this machine" in zoo("show", "coded").output
    zoo("trust", "coded", "--withdraw")
    assert "untrusted code" in zoo("list").output
    assert "nobody has allowed" in zoo("show", "coded").output
    assert "zoo trust coded" in zoo("check", "coded", code=1).output


def test_of_several_versions_the_command_names_the_one(coded: Path) -> None:
    biozoo.Zoo().add(coded)
    change_rdf(coded, version="2.0")
    biozoo.Zoo().add(coded)
    old = biozoo.open("coded@1.0")
    assert refusal(old).message.endswith("zoo trust coded@1.0")
    assert refusal(biozoo.open("coded")).message.endswith("zoo trust coded")


TRICKS = (
    "a = 1  # \x1b[2J\x1b[1;1Hharmless\r"
    "b = 2 \u202e# \u2066;c = 3\u2069\n"
    "d = 4\x0c e = '\x07\x9b31m\u200b\u05d0'\n"
    "f = 5" + " " * 300 + "; import os\n"
)


def test_a_source_cannot_fool_the_terminal(coded: Path) -> None:
    """No control character, direction mark or invisible one of it reaches the terminal."""
    weights = read_rdf(coded)["weights"]
    (coded / "net.py").write_bytes(TRICKS.encode())
    weights["pytorch_state_dict"]["architecture"] |= {
        "sha256": sha256(coded / "net.py"),
        "callable": "Net\x1b[2J",
        "kwargs": {"x\x1b[2J": "\u202e"},
    }
    change_rdf(coded, weights=weights)
    for shown in (
        zoo("trust", coded, code=2),
        zoo("trust", coded, "--json"),
        zoo("check", coded, code=1),
        zoo("run", coded, coded / "cover.png", "-o", coded / "out", code=3),
    ):
        text = shown.output + shown.stderr
        assert not {c for c in text if not c.isprintable()} - {"\n"}
    listed = zoo("trust", coded, code=2).output
    assert r"1 !| a = 1  # \x1b[2J\x1b[1;1Hharmless" in listed
    assert r"2 !| b = 2 \u202e# \u2066;c = 3\u2069" in listed  # \r ends a line, as for Python
    assert r"3 !| d = 4\x0c e = '\x07\x9b31m\u200b\u05d0'" in listed
    assert "; import os" in listed


def test_letters_that_pass_for_others_are_told(coded: Path) -> None:
    """In names and in the source; writings that look otherwise are nobody's trick."""
    weights = read_rdf(coded)["weights"]
    (coded / "n\u0435t.py").write_text("# \u6838, 3 \xb5m, Z\xfcrich\n\u0435val = 1\n", "utf-8")
    weights["pytorch_state_dict"]["architecture"] |= {
        "source": "n\u0435t.py",
        "sha256": sha256(coded / "n\u0435t.py"),
    }
    change_rdf(coded, weights=weights)
    shown = zoo("trust", coded, "--yes").output
    assert "CYRILLIC SMALL LETTER IE" in shown
    assert "can pass for plain ones: line 2\n" in shown


def test_what_was_allowed_is_taken_back_also_without_the_model(coded: Path) -> None:
    zoo("trust", coded, "--yes")
    package = biozoo.open(coded)
    coded.rename(coded.with_name("elsewhere"))
    zoo("trust", coded, "--withdraw", code=2)
    assert "may no longer run" in zoo("trust", "coded", "--withdraw").output
    zoo("trust", "coded", "--withdraw", code=2)
    coded.with_name("elsewhere").rename(coded)
    assert not is_trusted(package)


def test_lines_are_cut_for_a_terminal_so_that_none_passes_for_another() -> None:
    from biozoo_ui.cli.listing import listing

    source = "x = 1" + " " * 30 + "2  | y = 2\n" + "\n".join(f"z{i}" for i in range(9))
    lines = list(listing(source, width=40, limit=3))
    assert all(len(line) <= 40 for line in lines)
    assert lines[1].lstrip().startswith(":")
    assert [line.split("|")[0].strip() for line in lines if "|" in line[:8]] == ["1", "2", "3"]
    assert visible("Zürich µm 核") == "Zürich µm 核"


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminal")
def test_on_a_real_terminal_a_long_source_is_cut_and_says_so(coded: Path) -> None:
    import pty

    change(coded, "".join(f"x{i} = {i}\n" for i in range(1000)))
    master, slave = pty.openpty()
    command = [sys.executable, "-c", "from biozoo_ui.cli import main; main()", "trust", str(coded)]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        shown = b""
        while b"[y/N]" not in shown:
            shown += os.read(master, 65536)
        os.write(master, b"y\n")
        try:
            while more := os.read(master, 65536):
                shown += more
        except OSError:  # the other side is closed
            pass
        os.close(master)
        assert process.wait(60) == 0, shown.decode()
    text = shown.decode()
    assert "x399 = 399" in text
    assert "x400 = 400" not in text
    assert "600 MORE LINES ARE NOT SHOWN" in text
    assert str(coded / "net.py") in text
    assert ModelPackage.from_folder(coded).trust == "trusted code"


# ------------------------------------------------------------------------------------------ load


def test_load_refuses_and_names_what_would_run(coded: Path) -> None:
    from biozoo_runners import load

    with pytest.raises(UntrustedCodeError, match=r"architecture net\.py:Net") as caught:
        load(coded)
    assert caught.value.message.endswith(f"zoo trust {coded}")
    assert (caught.value.exit_code, caught.value.http_status) == (3, 403)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
def test_refused_then_allowed_then_run_then_changed(tmp_path: Path) -> None:
    """The whole way, with real weights, on the command line."""
    from weights_state_dict import add_state_dict

    folder = add_state_dict(make_package(tmp_path / "real", id="real"))
    arguments = ("run", folder, folder / "test_raw.npy", "--axes", "bcyx", "-o", tmp_path / "out")
    assert f"zoo trust {folder}" in zoo(*arguments, code=3).stderr
    assert "zoo trust" in zoo("test", folder, code=3).stderr
    zoo("trust", folder, "--yes")
    assert "pytorch_state_dict on cpu" in zoo(*arguments).output
    shown = zoo("check", folder).output
    assert "protections hold" in shown
    assert "as allowed on 20" in shown
    source = folder / code_items(ModelPackage.from_folder(folder))[0].source
    weights = read_rdf(folder)["weights"]
    source.write_text(source.read_text() + "\n")
    weights["pytorch_state_dict"]["architecture"]["sha256"] = sha256(source)
    change_rdf(folder, weights=weights)
    assert "not the code that was allowed before" in zoo(*arguments, code=3).stderr


def test_the_page_says_it(coded: Path) -> None:
    from biozoo_ui.api.models import Catalog

    biozoo.Zoo().add(coded)
    with contextlib.closing(Catalog(Settings.from_env())) as catalog:
        badge = catalog.entry("coded").badge
        assert badge.state == "trust"
        assert badge.todo == "zoo trust coded"
        grant(biozoo.open("coded"))
        assert catalog.entry("coded").badge.state != "trust"


def test_trust_imports_no_framework(coded: Path) -> None:
    code = (
        "import sys\n"
        "from biozoo.package import ModelPackage\n"
        "from biozoo.consent import grant, require\n"
        f"package = ModelPackage.from_folder(__import__('pathlib').Path({str(coded)!r}))\n"
        "grant(package), require(package), package.trust\n"
        "heavy = {'torch', 'keras', 'onnxruntime', 'h5py', 'numpy', 'bioimageio.spec'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
