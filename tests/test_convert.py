"""Conversions: nothing is kept unproven, nothing half-written, nothing about the machine."""

from __future__ import annotations

import copy
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import biozoo
from biozoo import plugins
from biozoo.consent import grant
from biozoo.errors import (
    ConversionError,
    InvalidPackageError,
    NetworkError,
    StorageError,
    UntrustedCodeError,
    UsageError,
)
from biozoo.files import sha256_of
from biozoo.package import ModelPackage
from biozoo_converters.conversion import convert as converting
from biozoo_converters.conversion.base import Attempt, Converter, Job
from biozoo_converters.conversion.convert import convert, first_proven
from biozoo_converters.conversion.drafts import Draft
from biozoo_converters.conversion.onnx_tidy import tidy
from biozoo_converters.conversion.optimise import optimised
from biozoo_converters.conversion.source_package import attach, copied
from biozoo_converters.conversion.writing import write_package
from biozoo_converters.networks.network import ExportRequest
from biozoo_converters.networks.opening import open_weights
from biozoo_converters.proof.prove import prove
from biozoo_runners import test_package as run_test
from biozoo_runners.base import Availability
from command import run_zoo
from packages import change_rdf, make_package, read_rdf, sha256
from weights_state_dict import add_state_dict
from weights_torch import add_torchscript

zoo = partial(run_zoo, code=None)


# --------------------------------------------------------------------------------------- writing


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return make_package(tmp_path / "tiny", validate=False)


def test_the_same_files_give_the_same_zip(tiny: Path, tmp_path: Path) -> None:
    write_package(tiny, tmp_path / "a.zip")
    other = tmp_path / "elsewhere"
    for path in sorted(tiny.iterdir(), reverse=True):  # other order, dates and permissions
        other.mkdir(exist_ok=True)
        shutil.copyfile(path, other / path.name)
        os.utime(other / path.name, (1e9, 1e9))
        (other / path.name).chmod(0o600)
    (other / ".DS_Store").write_bytes(b"litter")
    (other / "__pycache__").mkdir()
    write_package(other, tmp_path / "b.zip")

    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        infos = archive.infolist()
        names = [i.filename for i in infos]
        assert names == ["rdf.yaml", *sorted(names[1:])]
        assert {i.date_time for i in infos} == {(1980, 1, 1, 0, 0, 0)}
        assert {stat.S_IMODE(i.external_attr >> 16) for i in infos} == {0o644}
        assert all(i.extra == b"" and i.compress_type == zipfile.ZIP_DEFLATED for i in infos)
        assert archive.testzip() is None
    assert biozoo.open(str(tmp_path / "a.zip")).id == "tiny"


def test_what_stands_there_is_replaced_only_by_a_whole_package(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "out"
    place.mkdir()
    (place / "m.zip").write_bytes(b"earlier")
    write_package(tiny, place / "folder")
    before = {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfileobj", interrupted)
        patched.setattr(shutil, "copyfile", interrupted)
        for target in (place / "m.zip", place / "new.zip", place / "folder"):
            with pytest.raises(KeyboardInterrupt):
                write_package(tiny, target)
    assert {p: p.read_bytes() for p in place.rglob("*") if p.is_file()} == before

    (tiny / "README.md").write_text("# New\n")
    write_package(tiny, place / "m.zip")
    write_package(tiny, place / "folder")
    assert (place / "folder" / "README.md").read_text() == "# New\n"
    assert biozoo.open(str(place / "m.zip")).documentation == "# New\n"


def test_a_folder_with_other_files_is_never_replaced(tiny: Path, tmp_path: Path) -> None:
    write_package(tiny, tmp_path / "out")
    (tmp_path / "out" / "thesis.docx").write_text("years of work")
    with pytest.raises(StorageError, match=r"no part of a package \(thesis.docx\)"):
        write_package(tiny, tmp_path / "out")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "a.txt").write_text("")
    with pytest.raises(StorageError, match="would be lost"):
        write_package(tiny, tmp_path / "home")
    with pytest.raises(StorageError, match="is a file"):
        write_package(tiny, tmp_path / "home" / "a.txt")
    (tmp_path / "dir.zip").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        write_package(tiny, tmp_path / "dir.zip")
    assert (tmp_path / "out" / "thesis.docx").read_text() == "years of work"


def test_links_are_no_part_of_a_package(tiny: Path, tmp_path: Path) -> None:
    (tiny / "secret").symlink_to("/etc/passwd")
    with pytest.raises(InvalidPackageError, match="link"):
        write_package(tiny, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


def test_a_copy_keeps_every_field(tiny: Path, tmp_path: Path) -> None:
    change_rdf(tiny, config={"deepimagej": {"a": 1}}, git_repo="https://example.com/")
    (tmp_path / "copy").mkdir()
    draft = copied(ModelPackage.from_folder(tiny), tmp_path / "copy")
    assert draft.raw == read_rdf(tiny)
    assert {p.name for p in draft.root.iterdir()} == {p.name for p in tiny.iterdir()} - {"rdf.yaml"}


def test_attachments_are_named_as_the_format_version_wants() -> None:
    new: dict[str, Any] = {"format_version": "0.5.4", "attachments": [{"source": "a.txt"}]}
    attach(new, "b.json", "00")
    attach(new, "b.json", "11")
    assert new["attachments"] == [{"source": "a.txt"}, {"source": "b.json", "sha256": "11"}]
    old: dict[str, Any] = {"format_version": "0.4.10", "attachments": {"files": ["a.txt"]}}
    attach(old, "b.json", "00")
    assert old["attachments"] == {"files": ["a.txt", "b.json"]}


# ------------------------------------------------------------------------------------------ tidy

SAMPLE = np.ones((1, 1, 8, 12), np.float32)
REQUEST = ExportRequest(
    (SAMPLE,), ("raw",), ("prediction",), ({0: ("batch", 1, 1), 2: ("y", 4, 8), 3: ("x", 4, 8)},)
)


def graph(
    nodes: Iterable[Any], weights: dict[str, Any], *, given: str = "raw", made: str = "prediction"
) -> bytes:
    dims = ["n", 1, "h", "w"]
    model = helper.make_model(
        helper.make_graph(
            list(nodes),
            "main_graph",
            [helper.make_tensor_value_info(given, TensorProto.FLOAT, dims)],
            [helper.make_tensor_value_info(made, TensorProto.FLOAT, ["n", 1, "h", None])],
            [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()],
        ),
        opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("pkg.unused", 1)],
        ir_version=9,
        producer_name="exporter",
    )
    content: bytes = model.SerializeToString()
    return content


def test_a_tidy_graph_says_nothing_of_where_it_was_exported() -> None:
    node = helper.make_node("Mul", ["input_1", "w"], ["5"], name="n", doc_string="/home/ada/net.py")
    model = onnx.load_model_from_string(
        graph([node], {"w": np.float32([2])}, given="input_1", made="5")
    )
    model.metadata_props.add(key="path", value="/home/ada")
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="/home/ada:3")
    model.graph.value_info.append(
        helper.make_tensor_value_info("5", TensorProto.FLOAT, ["n", 1, 8, 12])
    )
    model.graph.initializer[0].doc_string = "/home/ada"
    made = tidy(model.SerializeToString(), REQUEST)
    assert b"ada" not in made
    assert b"exporter" not in made
    assert made == tidy(model.SerializeToString(), REQUEST)

    read = onnx.load_model_from_string(made)
    (given,), (result,) = read.graph.input, read.graph.output
    assert (given.name, result.name) == ("raw", "prediction")
    names = [d.dim_param or d.dim_value for d in given.type.tensor_type.shape.dim]
    assert names == ["batch", 1, "y", "x"]
    ends = [d.dim_param or d.dim_value for d in result.type.tensor_type.shape.dim]
    assert ends == ["batch", 1, "y", "prediction_3"]
    assert [o.domain for o in read.opset_import] == [""]


def test_a_fixed_axis_has_its_size_and_names_make_way() -> None:
    inner = helper.make_node("Mul", ["a", "prediction"], ["raw"])  # both names are taken
    last = helper.make_node("Relu", ["raw"], ["b"])
    content = graph([inner, last], {"prediction": np.float32([2])}, given="a", made="b")
    fixed = ExportRequest((SAMPLE,), ("raw",), ("prediction",), ({},))
    read = onnx.load_model_from_string(tidy(content, fixed))
    shape = [d.dim_value for d in read.graph.input[0].type.tensor_type.shape.dim]
    assert shape == [1, 1, 8, 12]
    from onnx.reference import ReferenceEvaluator

    (made,) = ReferenceEvaluator(read).run(None, {"raw": SAMPLE * 3})
    assert np.array_equal(made, SAMPLE * 6)


@pytest.mark.parametrize(
    ("names", "fault"),
    [((("raw", "mask"), ("prediction",)), "1 inputs"), ((("raw",), ("a", "b")), "1 outputs")],
)
def test_a_graph_with_other_tensors_is_refused(names: Any, fault: str) -> None:
    content = graph([helper.make_node("Relu", ["raw"], ["prediction"])], {})
    request = ExportRequest((SAMPLE,) * len(names[0]), *names)
    with pytest.raises(NetworkError, match=fault):
        tidy(content, request)


def test_an_invalid_graph_is_refused() -> None:
    content = graph([helper.make_node("Relu", ["nowhere"], ["prediction"])], {})
    with pytest.raises(NetworkError, match="not valid"):
        tidy(content, REQUEST)
    with pytest.raises(NetworkError, match="no ONNX graph"):
        tidy(b"no graph at all", REQUEST)


# ------------------------------------------------------------------------------- attempts, proof


def doubled(*, counted: int = 0, shape: tuple[int, ...] = ()) -> bytes:
    """2 x + 1, the factory's "pointwise" network; wrong at sizes other than one, where asked.

    Parameters
    ----------
    counted
        Adds sum(x) / counted - mean(x): nothing where there are so many pixels.
    shape
        Reshapes to this, as an exporter that has traced one size does.
    """
    nodes = [
        helper.make_node("Mul", ["raw", "two"], ["twice"]),
        helper.make_node("Add", ["twice", "one"], ["sum"]),
    ]
    weights: dict[str, Any] = {"two": np.float32([2]), "one": np.float32([1])}
    last = "sum"
    if counted:
        weights |= {"axes": np.int64([2, 3]), "count": np.float32([counted])}
        nodes += [
            helper.make_node("ReduceSum", ["raw", "axes"], ["total"]),
            helper.make_node("Div", ["total", "count"], ["counted"]),
            helper.make_node("ReduceMean", ["raw", "axes"], ["mean"]),
            helper.make_node("Sub", ["counted", "mean"], ["difference"]),
            helper.make_node("Add", [last, "difference"], ["careless"]),
        ]
        last = "careless"
    if shape:
        weights["shape"] = np.int64(shape)
        nodes.append(helper.make_node("Reshape", [last, "shape"], ["reshaped"]))
        last = "reshaped"
    nodes.append(helper.make_node("Identity", [last], ["prediction"]))
    return graph(nodes, weights)


def writes(content: bytes, name: str = "weights.onnx") -> Callable[[Path], dict[str, Any]]:
    def make(folder: Path) -> dict[str, Any]:
        (folder / name).write_bytes(content)
        return {"source": name, "sha256": sha256(folder / name), "opset_version": 18}

    return make


def fails(folder: Path) -> dict[str, Any]:
    (folder / "half-written.onnx").write_bytes(b"half")
    raise NetworkError("aten::strange in encoder.2 has no ONNX form.")


@pytest.fixture
def pointwise(tmp_path: Path) -> ModelPackage:
    """2 x + 1; its test tensors have 16 x 16 pixels."""
    folder = make_package(tmp_path / "pointwise", network="pointwise", validate=False)
    return ModelPackage.from_folder(folder)


def draft_of(package: ModelPackage, folder: Path) -> Draft:
    folder.mkdir()
    draft = copied(package, folder)
    (folder / "weights.onnx").unlink()
    del draft.raw["weights"]["onnx"]
    return draft


def test_what_is_right_at_the_samples_size_and_wrong_at_others_is_not_kept(
    pointwise: ModelPackage, tmp_path: Path
) -> None:
    draft = draft_of(pointwise, tmp_path / "draft")
    before = sorted(p.name for p in draft.root.iterdir())
    attempts = [
        Attempt("careless", writes(doubled(counted=16 * 16), "careless.onnx")),
        Attempt("traced", writes(doubled(shape=(1, 1, 16, 16)))),
        Attempt("broken", fails),
        Attempt("careful", writes(doubled())),
        Attempt("never asked", fails),
    ]
    with open_weights(pointwise, "onnx") as original:
        # At the sample's own size nothing is wrong with the first two.
        real = {"raw": np.load(pointwise.root / "test_raw.npy")}
        for attempt in attempts[:2]:
            entry = attempt.make(draft.root)
            with open_weights(draft.with_weights("onnx", entry), "onnx") as backend:
                made = backend.run(real)["prediction"]
            assert np.allclose(made, original.run(real)["prediction"], atol=1e-5)
            (draft.root / entry["source"]).unlink()
        (draft.root / "rdf.yaml").unlink()

        entry, proof = first_proven(draft, "onnx", attempts, original)
        assert proof.ok
        assert proof.strategy == "careful"
        assert len({tuple(c.shapes["raw"]) for c in proof.cases}) >= 4
        assert {c.shapes["raw"][0] for c in proof.cases} >= {1, 2}
        assert entry["sha256"] == sha256_of(draft.root / "weights.onnx")
        assert sorted(p.name for p in draft.root.iterdir()) == sorted([*before, "weights.onnx"])

        (draft.root / "weights.onnx").unlink()
        with pytest.raises(ConversionError) as caught:
            first_proven(draft, "onnx", attempts[:3], original)
    assert list(caught.value.tried) == ["careless", "traced", "broken"]
    assert "per million" in caught.value.tried["careless"]
    assert "aten::strange in encoder.2" in caught.value.tried["broken"]
    assert sorted(p.name for p in draft.root.iterdir()) == before


def test_a_failed_attempt_leaves_earlier_weights_of_its_name(
    pointwise: ModelPackage, tmp_path: Path
) -> None:
    (tmp_path / "draft").mkdir()
    draft = copied(pointwise, tmp_path / "draft")
    before = {p.name: p.read_bytes() for p in draft.root.iterdir()}
    careless = Attempt("careless", writes(doubled(counted=256)))
    with (
        open_weights(pointwise, "onnx") as original,
        pytest.raises(ConversionError, match="careless"),
    ):
        first_proven(draft, "onnx", [careless], original)
    assert {p.name: p.read_bytes() for p in draft.root.iterdir()} == before


def test_consent_is_not_taken_for_a_failed_strategy(
    pointwise: ModelPackage, tmp_path: Path
) -> None:
    def asks(folder: Path) -> dict[str, Any]:
        raise UntrustedCodeError("nobody has allowed it")

    draft = draft_of(pointwise, tmp_path / "draft")
    attempts = [Attempt("asks", asks), Attempt("careful", writes(doubled()))]
    with open_weights(pointwise, "onnx") as original, pytest.raises(UntrustedCodeError):
        first_proven(draft, "onnx", attempts, original)


def test_optimisation_is_kept_where_it_is_worth_it_and_still_right(
    pointwise: ModelPackage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draft = draft_of(pointwise, tmp_path / "draft")
    with open_weights(pointwise, "onnx") as original:
        entry, proof = first_proven(draft, "onnx", [Attempt("plain", writes(doubled()))], original)
        slim, better = optimised(draft, entry, proof, original)
        assert better.ok
        assert better.optimised.startswith(("onnxslim", "onnxruntime"))
        assert better.strategy == "plain"
        content = (draft.root / "weights.onnx").read_bytes()
        assert slim["sha256"] == sha256(draft.root / "weights.onnx") != entry["sha256"]
        assert "Identity" not in [
            n.op_type for n in onnx.load_model_from_string(content).graph.node
        ]
        assert {o.domain for o in onnx.load_model_from_string(content).opset_import} == {""}

        # An optimiser that is wrong at other sizes is found out, and the proven file stays.
        monkeypatch.setattr(
            "biozoo_converters.conversion.optimise._worthwhile",
            lambda before: [("careless", doubled(counted=256))],
        )
        again, same = optimised(draft, slim, better, original)
    assert (again, same) == (slim, better)
    assert (draft.root / "weights.onnx").read_bytes() == content


# --------------------------------------------------------------------------------------- convert


class Planted(Converter):
    """A stranger's converter: careless first."""

    name: ClassVar[str] = "planted"
    sources: ClassVar[tuple[str, ...]] = ("torchscript",)
    target: ClassVar[str] = "onnx"
    note: ClassVar[str] = "Made by somebody else."

    @classmethod
    def available(cls) -> Availability:
        return Availability(True)

    @classmethod
    def attempts(cls, job: Job) -> Iterable[Attempt]:
        assert job.request.free == ({0: ("batch", 1, 1), 2: ("y", 4, 8), 3: ("x", 4, 8)},)
        assert job.inputs["raw"].shape == (1, 1, 16, 16)
        yield Attempt("careless", writes(tidy(doubled(counted=256), job.request)))
        yield Attempt("careful", writes(tidy(doubled(), job.request)))


@pytest.fixture
def plugged(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its entry point in place of the built-in ones, beside one that does not load."""
    points = [
        EntryPoint("planted", "test_convert_planted:Planted", "biozoo.converters"),
        EntryPoint("gone", "no_such_module_at_all:C", "biozoo.converters"),
    ]
    module = ModuleType("test_convert_planted")
    module.__dict__["Planted"] = Planted
    monkeypatch.setitem(sys.modules, module.__name__, module)
    found = plugins._points
    monkeypatch.setattr(
        plugins, "_points", lambda g: points if g == "biozoo.converters" else found(g)
    )
    plugins.load_group.cache_clear()


@pytest.fixture(autouse=True)
def fresh_plugins() -> Iterable[None]:
    yield
    plugins.load_group.cache_clear()


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    folder = make_package(
        tmp_path / "scripted", network="pointwise", config={"mine": [1, 2]}, validate=False
    )
    return add_torchscript(folder, only=True)


@pytest.mark.usefixtures("plugged")
def test_a_converter_of_another_package_is_found_and_not_believed(
    scripted: Path, tmp_path: Path
) -> None:
    asked = ("convert", scripted, "--to", "onnx", "-o", tmp_path / "out.zip", "--json")
    planned = json.loads(zoo(*asked, "--dry-run").stdout)
    assert planned["ways"] == [{"source": "torchscript", "converter": "planted"}]
    assert planned["free_axes"] == ["raw.y (8 + n*4)", "raw.x (8 + n*4)"]
    assert not (tmp_path / "out.zip").exists()

    done = zoo(*asked)
    assert done.exit_code == 0, done.stderr
    assert "Made by somebody else." in done.stderr
    told = json.loads(done.stdout)
    assert told["proof"]["strategy"] == "careful"

    package = biozoo.open(str(tmp_path / "out.zip"))
    before, after = read_rdf(scripted), copy.deepcopy(package.raw)
    entry = after["weights"].pop("onnx")
    assert entry["parent"] == "torchscript"
    assert entry["sha256"] == sha256(package.root / entry["source"])
    own = after["config"].pop("biozoo")
    (proof,) = own["certificate"]["proofs"]
    assert (proof["weights_format"], proof["strategy"], proof["ok"]) == ("onnx", "careful", True)
    assert own["certificate"]["reference"]["sha256"] == sha256(scripted / "weights.pt")
    names = [a["source"] for a in after.pop("attachments")]
    assert names == ["certificate.json"]
    assert after == before  # every other field as it was
    assert run_test(package).ok

    # The second conversion of the same package: a format that is there.
    again = zoo("convert", tmp_path / "out.zip", "--to", "onnx")
    assert again.exit_code == 2
    assert "has onnx weights already" in again.stderr
    assert "zoo certify" in again.stderr


@pytest.mark.usefixtures("plugged")
def test_nothing_is_written_where_no_way_is_proven(
    scripted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Planted,
        "attempts",
        classmethod(lambda cls, job: iter([Attempt("careless", writes(doubled(counted=256)))])),
    )
    monkeypatch.chdir(tmp_path)
    done = zoo("convert", scripted, "--to", "onnx")
    assert done.exit_code == 1
    assert "from torchscript by careless: " in done.stderr
    assert "Nothing was written" in done.stderr
    assert not list(tmp_path.glob("*.zip"))
    assert not list(tmp_path.glob(".*"))


def test_torchscript_to_onnx_by_torchs_own_exporter(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "two", channels=2, outputs=2, validate=False)
    package = ModelPackage.from_folder(add_torchscript(folder, only=True))
    first = convert(package, "onnx", out=tmp_path / "a.zip", timing=False)
    convert(package, "onnx", out=tmp_path / "b.zip", timing=False)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    assert first.proof.ok
    made = biozoo.open(str(tmp_path / "a.zip"))
    assert run_test(made, "onnx").ok
    content = (made.root / "weights.onnx").read_bytes()
    for here in (str(tmp_path), str(Path(__file__).parent), "biozoo-convert-"):
        assert here.encode() not in content
    with open_weights(made, "torchscript") as original:
        assert prove(made, original, "onnx").ok


def test_a_state_dict_needs_consent_and_then_becomes_torchscript(tmp_path: Path) -> None:
    folder = add_state_dict(make_package(tmp_path / "coded", id="coded", validate=False))
    out = tmp_path / "out.zip"
    asked = ("convert", folder, "--to", "torchscript", "-o", out, "--no-timing")
    refused = zoo(*asked)
    assert refused.exit_code == 3
    assert f"zoo trust {folder}" in refused.stderr
    assert not out.exists()

    grant(biozoo.open(str(folder)))
    done = zoo(*asked)
    assert done.exit_code == 0, done.stderr
    assert "deprecated" in done.stderr
    made = biozoo.open(str(out))
    entry = made.raw["weights"]["torchscript"]
    assert entry["parent"] == "pytorch_state_dict"
    assert "certificate" in made.raw["config"]["biozoo"]
    assert run_test(made, "torchscript").ok
    with zipfile.ZipFile(made.root / entry["source"]) as archive:
        assert not [n for n in archive.namelist() if n.endswith(".debug_pkl")]
        text = b"".join(archive.read(n) for n in archive.namelist())
    assert b"network.py" not in text

    convert(made, "onnx", source="torchscript", out=tmp_path / "both.zip", timing=False)
    raw = biozoo.open(str(tmp_path / "both.zip")).raw
    proofs = raw["config"]["biozoo"]["certificate"]["proofs"]
    assert [p["weights_format"] for p in proofs] == ["torchscript", "onnx"]
    assert "compared with this package's torchscript weights" in proofs[1]["notes"]


@pytest.mark.parametrize(
    ("arguments", "fault"),
    [
        (("--to", "onnx"), "has onnx weights already"),
        (("--to", "torchscript"), "torchscript is made from pytorch_state_dict"),
        (("--to", "onxx"), "Did you mean onnx"),
        (("--to", "torchscript", "--from", "keras_v3"), "has no 'keras_v3' weights; it has onnx"),
        (("--to", "int8", "--from", "torchscript"), "is made of ONNX weights"),
    ],
)
def test_a_wrong_wish_is_told_before_any_work(
    tiny: Path, arguments: tuple[str, ...], fault: str
) -> None:
    done = zoo("convert", tiny, *arguments)
    assert done.exit_code == 2
    assert fault in done.stderr


def test_weights_that_changed_are_not_converted(scripted: Path, tmp_path: Path) -> None:
    with (scripted / "weights.pt").open("ab") as file:
        file.write(b"!")
    done = zoo("convert", scripted, "--to", "onnx", "-o", tmp_path / "out.zip")
    assert done.exit_code == 1
    assert "is not the one described" in done.stderr


def test_planning_imports_no_framework(scripted: Path) -> None:
    code = (
        "import sys, biozoo\n"
        "from biozoo_converters.conversion.convert import targets\n"
        "from biozoo_converters.conversion import onnx_to_torch, precision\n"
        "print(sorted(targets()), [m for m in ('torch', 'onnx', 'onnxruntime', 'keras',"
        " 'tensorflow', 'bioimageio.core') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['onnx', 'torchscript'] []"


def test_the_errors_are_usage_errors() -> None:
    assert issubclass(NetworkError, UsageError)
    assert converting.targets()["onnx"][:2] == ("keras_v3", "keras_hdf5")
