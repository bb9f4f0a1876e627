"""`zoo pack`: one command from a trained network to a package that any tool opens, or one error."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml

import biozoo
import biozoo_converters
from biozoo.errors import BiozooError, ConversionError, NetworkError, UsageError
from biozoo_converters.packing.packed import PackReport
from biozoo_runners import load
from command import Zoo, run_zoo
from packages import change_rdf, make_package, read_rdf, write_rdf

pytest.importorskip("torch")
pytest.importorskip("onnxscript")


NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, inside=1):
        super().__init__()
        self.first = nn.Conv2d(inside, width, 3, padding=1)
        self.last = nn.Conv2d(width, 2, 1)

    def forward(self, x):
        small = nn.functional.max_pool2d(torch.relu(self.first(x)), 2)
        return torch.sigmoid(self.last(nn.functional.interpolate(small, scale_factor=2)))


class Words(Net):
    def forward(self, x):
        return {"what": "no tensor"}


class Found(Net):
    def forward(self, x):
        return torch.nonzero(super().forward(x) > 0.5).float()
"""

FACTS = {
    "name": "Tiny net",
    "description": "Finds nothing much in noise.",
    "authors": ["A. Uthor; Institute; 0000-0002-1825-0097; github:author"],
    "license": "MIT",
    "cite": ["Uthor: On noise. 10.1234/noise"],
    "tags": ["fluorescence-light-microscopy", "cells", "semantic-segmentation", "unet"],
}
OPTIONS = (
    "--name", "Tiny net", "--description", "Finds nothing much.", "--author", "A. Uthor",
    "--license", "MIT", "--cite", "On noise", "--no-timing",
)  # fmt: skip


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.py, its weights, and two samples."""
    import torch

    folder = tmp_path_factory.mktemp("material")
    (folder / "net.py").write_text(NET)
    namespace: dict[str, Any] = {}
    exec(NET, namespace)
    torch.manual_seed(1)
    torch.save(namespace["Net"](3).state_dict(), folder / "w.pt")
    rng = np.random.default_rng(0)
    image = (rng.random((60, 71)) * 1000).astype(np.uint16)
    np.save(folder / "x.npy", image[None, None])
    tifffile.imwrite(folder / "x.tif", image)
    return folder


@pytest.fixture(scope="module")
def packed(material: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PackReport]:
    """A package of it, with everything that an author can give."""
    folder = tmp_path_factory.mktemp("packed")
    before = os.environ.get("BIOZOO_HOME")
    os.environ["BIOZOO_HOME"] = str(folder / "home")
    (material / "doc.md").write_text("# Tiny\n\n## Validation\n\nCompare with noise.\n")
    try:
        report = biozoo_converters.pack(_values(material), folder / "out.zip", root=material)
    finally:
        os.environ.pop("BIOZOO_HOME")
        if before is not None:
            os.environ["BIOZOO_HOME"] = before
    return folder / "out.zip", report


def _values(material: Path, **others: Any) -> dict[str, Any]:
    sample = {"sample": "x.npy", "axes": "bcyx", "preprocessing": ["zero_mean_unit_variance"]}
    return {
        "source": "net.py:Net",
        "kwargs": {"width": 3},
        "weights": "w.pt",
        "inputs": [sample],
        "documentation": "doc.md",
        "timing": False,
        **FACTS,
        **others,
    }


@pytest.fixture
def zoo(material: Path, monkeypatch: pytest.MonkeyPatch) -> Zoo:
    """Run a verb beside the material."""
    monkeypatch.chdir(material)

    return run_zoo


def rdf_of(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        raw: dict[str, Any] = yaml.safe_load(archive.read("rdf.yaml"))
        return raw


# --------------------------------------------------------------------------------------- the result


def test_the_package_reproduces_its_own_test_outputs_and_carries_a_proof(
    packed: tuple[Path, PackReport],
) -> None:
    path, report = packed
    assert report.certificate is not None
    assert report.certificate.ok
    package = biozoo.open(str(path))
    assert package.trust == "no code"
    assert package.raw["config"]["biozoo"]["certificate"]["ok"] is True
    from biozoo_runners.testing import test_package

    assert test_package(package).ok


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")
def test_bioimageio_core_accepts_it(packed: tuple[Path, PackReport], tmp_path: Path) -> None:
    from bioimageio.core import test_model
    from bioimageio.spec import ValidationContext

    with zipfile.ZipFile(packed[0]) as archive:
        archive.extractall(tmp_path)
    (tmp_path / "rdf.yaml").write_text(  # what spec would ask the network for
        (tmp_path / "rdf.yaml").read_text().replace("  github_user: author\n", "")
    )
    with ValidationContext(log_warnings=False):
        summary = test_model(tmp_path / "rdf.yaml")
    assert summary.status == "passed", summary.format()


def test_nothing_is_left_for_the_author_to_fix(packed: tuple[Path, PackReport]) -> None:
    assert [n for n in packed[1].notes if "bioimageio.spec" in n or "--" in n] == []


def test_every_id_is_written_out_and_sizes_are_those_of_the_network(
    packed: tuple[Path, PackReport],
) -> None:
    raw = rdf_of(packed[0])
    [before], [after] = raw["inputs"], raw["outputs"]
    assert (before["id"], after["id"]) == ("raw", "prediction")
    assert [a["id"] for a in before["axes"]] == ["batch", "channel", "y", "x"]
    assert [a["id"] for a in after["axes"]] == ["batch", "channel", "y", "x"]
    assert before["axes"][2]["size"]["step"] == 2  # max pooling and back
    assert after["axes"][2]["size"] == {"tensor_id": "raw", "axis_id": "y"}
    assert after["axes"][2]["halo"] >= 2
    assert after["data"] == {"type": "float32", "range": [0.0, 1.0]}
    assert [s["id"] for s in before["preprocessing"]] == [
        "ensure_dtype", "zero_mean_unit_variance", "ensure_dtype",
    ]  # fmt: skip
    assert before["preprocessing"][1]["kwargs"]["axes"] == ["channel", "y", "x"]


def test_the_test_output_is_the_original_networks(
    packed: tuple[Path, PackReport], material: Path, tmp_path: Path
) -> None:
    import torch

    with zipfile.ZipFile(packed[0]) as archive:
        archive.extractall(tmp_path)
    raw = np.load(tmp_path / "test_raw.npy")
    assert raw.dtype == np.uint16
    assert raw.shape[2] % 2 == raw.shape[3] % 2 == 0
    values = raw.astype(np.float64)
    feed = ((values - values.mean()) / (values.std() + 1e-6)).astype(np.float32)
    namespace: dict[str, Any] = {}
    exec(NET, namespace)
    net = namespace["Net"](3).eval()
    net.load_state_dict(torch.load(material / "w.pt", weights_only=True))
    with torch.no_grad():
        expected = net(torch.from_numpy(feed)).numpy()
    assert np.abs(np.load(tmp_path / "test_prediction.npy") - expected).max() < 1e-5


def test_the_same_input_gives_the_same_bytes_from_another_folder(
    packed: tuple[Path, PackReport],
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    again = tmp_path / "deep" / "again.zip"
    biozoo_converters.pack(_values(material), again, root=material)
    first, second = (hashlib.sha256(p.read_bytes()).hexdigest() for p in (packed[0], again))
    assert first == second
    assert str(material).encode() not in again.read_bytes()


def test_the_cover_is_input_beside_output(packed: tuple[Path, PackReport], tmp_path: Path) -> None:
    from PIL import Image

    with zipfile.ZipFile(packed[0]) as archive, archive.open("cover.png") as file:
        cover = Image.open(file)
        assert cover.width == 2 * cover.height
        assert np.asarray(cover).std() > 5
    assert packed[0].stat().st_size < 500_000


def test_one_command_line(zoo: Zoo, tmp_path: Path) -> None:
    """With a TIFF that is yx: batch and channel are added, and that is told."""
    out = tmp_path / "cli.zip"
    told = zoo(
        "pack", "net.py:Net", "--kwargs", "width=3", "--weights", "w.pt", "--sample", "x.tif",
        "--preprocessing", "scale_range:min_percentile=1,max_percentile=99.8", *OPTIONS,
        "-o", out, "--json",
    )  # fmt: skip
    facts = json.loads(told.stdout)
    assert facts["certificate"]["ok"] is True
    assert any("yx become bcyx" in note for note in facts["notes"])
    zoo("test", out)
    zoo("run", out, "x.tif", "-o", tmp_path / "result/")
    assert (tmp_path / "result" / "x.prediction.ome.tif").exists()


def test_a_dry_run_tells_and_writes_nothing(zoo: Zoo, material: Path) -> None:
    before = sorted(material.iterdir())
    told = zoo(
        "pack", "net.py:Net", "--kwargs", "width=3", "--weights", "w.pt", "--sample", "x.tif",
        *OPTIONS, "-o", "dry.zip", "--dry-run",
    ).stdout  # fmt: skip
    assert "nothing was written" in told
    assert "output prediction: batch, channel 2" in told
    assert sorted(p for p in material.iterdir() if p.name != "__pycache__") == [
        p for p in before if p.name != "__pycache__"
    ]


# ---------------------------------------------------------------------------------------- bad input

#: Arguments that replace or follow the good ones -> what the message must say.
BAD = [
    (["--license", "Apache 2.0"], ["Apache-2.0"]),
    (["--weights", "nowhere.pt"], ["nowhere.pt", "does not exist"]),
    (["--preprocessing", "zero_mean_unit_varianc"], ["Did you mean zero_mean_unit_variance"]),
    (["--preprocessing", "scale_range:min_percentil=1"], ["min_percentil"]),
    (["--sample", "x.npy", "--axes", "yx"], ["4", "name 2 dimensions"]),
    (["--sample", "x.npy"], ["--axes"]),
    (["--input-axes", "bczyx"], ["x.tif", "z besides"]),
    (["--name", "Nuclei: 2D"], ["Nuclei 2D"]),
    (["--author", "A; 0000-0002-1825-0098"], ["ORCID"]),
    (["--kwargs", "width"], ["NAME=VALUE"]),
    (["--output-id", "My Output"], ["My Output"]),
    (["--id", "My Model"], ["my-model"]),
]


@pytest.mark.parametrize(("arguments", "said"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_a_wrong_fact_is_one_clear_sentence(
    zoo: Zoo, tmp_path: Path, arguments: list[str], said: list[str]
) -> None:
    out = tmp_path / "bad" / "out.zip"
    good = ["--kwargs", "width=3", "--weights", "w.pt", *OPTIONS]
    if "--sample" not in arguments:
        good += ["--sample", "x.tif"]
    told = zoo("pack", "net.py:Net", *good, *arguments, "-o", out, code=2).stderr
    for words in said:
        assert words in told
    assert not out.parent.exists()


def test_everything_that_is_missing_is_asked_for_at_once(zoo: Zoo) -> None:
    told = zoo("pack", "net.py:Net", "--license", "GPL v3", code=2).stderr
    for option in ("--name", "--description", "--author", "--cite", "--sample", "-o OUT.zip"):
        assert option in told
    assert "GPL-3.0-only" in told
    assert "--init" in told


class _Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (os.system, ("touch /tmp/should-never-exist",))


def test_networks_that_cannot_be_packed(zoo: Zoo, tmp_path: Path, material: Path) -> None:
    """Each names what is wrong, ends with 2, and leaves nothing."""
    (material / "evil.pt").write_bytes(pickle.dumps(_Evil()))
    rest = ["--sample", "x.tif", *OPTIONS, "-o", tmp_path / "none" / "out.zip"]
    cases = {
        ("net.py:Net",): ["width"],
        ("net.py:Nett", "--kwargs", "width=3"): ["Net"],
        ("net.py:Net", "--kwargs", "width=4", "--weights", "w.pt"): ["first"],
        ("net.py:Net", "--kwargs", "width=3", "--weights", "evil.pt"): ["evil.pt"],
        ("net.py:Words", "--kwargs", "width=3"): ["not a tensor"],
        ("net.py:Found", "--kwargs", "width=3"): ["data"],
        ("net.py:Net", "--kwargs", "width=3 inside=3"): ["channels"],
        ("missing.py:Net",): ["missing.py"],
    }
    for arguments, said in cases.items():
        told = zoo("pack", *arguments, *rest, code=2).stderr
        for words in said:
            assert words in told, (arguments, told)
    assert not Path("/tmp/should-never-exist").exists()
    assert not (tmp_path / "none").exists()


def test_an_interrupted_pack_leaves_the_earlier_package(
    packed: tuple[Path, PackReport],
    material: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out.zip"
    out.write_bytes(packed[0].read_bytes())

    def stop(what: str, done: int, total: int | None) -> None:
        if what == "making the test tensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        biozoo_converters.pack(_values(material), out, root=material, progress=stop)
    assert out.read_bytes() == packed[0].read_bytes()
    assert os.listdir(tmp_path) in (["out.zip"], ["biozoo-home", "out.zip"])


def test_a_file_that_is_no_package_is_not_replaced(material: Path, tmp_path: Path) -> None:
    out = tmp_path / "thesis.zip"
    out.write_text("my thesis")
    with pytest.raises(UsageError, match="no model package"):
        biozoo_converters.pack(_values(material), out, root=material)
    assert out.read_text() == "my thesis"


# ------------------------------------------------------------------------------- other sources


def test_a_volume_from_an_onnx_file(tmp_path: Path) -> None:
    package = make_package(tmp_path / "made", axes="bczyx", size=16, kernel=3)
    volume = np.random.default_rng(0).random((20, 24, 28)).astype(np.float32)
    np.save(tmp_path / "v.npy", volume)
    report = biozoo_converters.pack(
        {
            **FACTS,
            "source": str(package / "weights.onnx"),
            "inputs": [{"sample": "v.npy", "axes": "zyx", "channels": ["membranes"]}],
            "outputs": [{"id": "blurred", "description": "Blurred."}],
            "timing": False,
        },
        tmp_path / "folder",
        root=tmp_path,
    )
    raw = read_rdf(tmp_path / "folder")
    assert "3d" in raw["tags"]
    assert raw["inputs"][0]["axes"][1]["channel_names"] == ["membranes"]
    assert raw["outputs"][0]["id"] == "blurred"
    assert {a["id"]: a.get("halo") for a in raw["outputs"][0]["axes"]}["z"] == 1
    assert report.certificate is not None
    with load(biozoo.open(str(tmp_path / "folder")), device="cpu") as runner:
        result = runner(tmp_path / "v.npy", axes="zyx")
    assert dict(result["blurred"].sizes)["z"] == 20


def test_an_existing_package_gets_what_it_lacks(tmp_path: Path) -> None:
    package = make_package(tmp_path / "given", halo=0, kernel=5, size=(16, 1))
    raw = read_rdf(package)
    raw.pop("covers")
    raw["outputs"][0].pop("test_tensor")
    for tensor in (*raw["inputs"], *raw["outputs"]):
        for axis in tensor["axes"]:
            if axis["id"] in ("batch", "channel", "x"):
                axis.pop("id")
    write_rdf(package, raw)
    report = biozoo_converters.pack(
        {"source": "given", "timing": False}, tmp_path / "whole.zip", root=tmp_path
    )
    made = rdf_of(tmp_path / "whole.zip")
    assert made["format_version"] == "0.5.12"
    assert [a["id"] for a in made["outputs"][0]["axes"]] == ["batch", "channel", "y", "x"]
    assert made["outputs"][0]["axes"][2]["halo"] == 2
    assert made["covers"]
    assert made["outputs"][0]["test_tensor"]
    assert made["config"]["biozoo"]["certificate"]["ok"] is True
    for name in ("name", "authors", "license", "description", "id", "tags"):
        assert made[name] == raw[name]
    assert any("halo of 2" in line for line in report.added)


def test_what_an_author_declared_is_not_changed(tmp_path: Path) -> None:
    make_package(tmp_path / "given")
    with pytest.raises(UsageError, match="is declared by its author"):
        biozoo_converters.pack(
            {"source": "given", "license": "MIT"}, tmp_path / "whole.zip", root=tmp_path
        )
    assert not (tmp_path / "whole.zip").exists()


def test_a_package_that_fails_its_own_test_is_refused(tmp_path: Path) -> None:
    package = make_package(tmp_path / "given")
    expected = np.load(package / "test_prediction.npy") + 1
    np.save(package / "test_prediction.npy", expected)
    raw = read_rdf(package)
    raw["outputs"][0]["test_tensor"].pop("sha256", None)
    change_rdf(package, outputs=raw["outputs"])
    with pytest.raises(ConversionError, match="NOT reproduced"):
        biozoo_converters.pack(
            {"source": "given", "timing": False}, tmp_path / "o.zip", root=tmp_path
        )
    assert not (tmp_path / "o.zip").exists()


def test_an_output_of_zeros_is_no_test(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Mul", ["a", "zero"], ["b"])],
        "zeros",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 1, "y", "x"])],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, ["n", 1, "y", "x"])],
        [helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9),
         tmp_path / "zeros.onnx")  # fmt: skip
    np.save(tmp_path / "x.npy", np.random.default_rng(0).random((32, 32)).astype(np.float32))
    with pytest.raises(NetworkError, match="all but zero"):
        biozoo_converters.pack(
            {**FACTS, "source": "zeros.onnx", "inputs": [{"sample": "x.npy"}]},
            tmp_path / "o.zip",
            root=tmp_path,
        )


def test_an_unknown_package_is_an_error_of_its_own(tmp_path: Path) -> None:
    with pytest.raises(BiozooError):
        biozoo_converters.pack({"source": "no-such-model"}, tmp_path / "o.zip", root=tmp_path)


def test_the_example_packs(zoo: Zoo, tmp_path: Path) -> None:
    import shutil

    from biozoo_converters import pack
    from biozoo_converters.packing.pack_file import read_pack_file

    shutil.copytree(Path(__file__).parents[1] / "examples" / "pack", tmp_path / "pack")
    zoo("sample", "nuclei", "-o", tmp_path / "pack" / "cells.ome.tif", "--size", 96)
    values = read_pack_file(tmp_path / "pack" / "pack.yaml") | {"timing": False}
    report = pack(values, tmp_path / "edges.zip", root=tmp_path / "pack")
    axes = rdf_of(tmp_path / "edges.zip")["outputs"][0]["axes"]
    assert axes[2]["halo"] >= 5  # what the window of the smoothing and the slope reach
    assert report.certificate is not None
    assert report.certificate.ok
