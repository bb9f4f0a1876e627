"""A trained network as a package: what stays of the parent, what is new, and that it is proven."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
from biozoo.errors import ConversionError, NetworkError, StorageError
from biozoo_runners import load, test_package
from biozoo_trainers.child import BACK, ChildFacts, make_child
from biozoo_trainers.child_text import child_id, child_name, readme
from biozoo_trainers.lineage import RETRAINING, Ancestor, Lineage, Round
from biozoo_trainers.onnx_back import came_from_onnx, written_back
from packages import SIGMOID, ZERO_MEAN, change_rdf, make_package, read_rdf

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnx2pytorch")

#: The parent of most tests: two channels, a sigmoid of the description, an author who evaluated.
PARENT: dict[str, Any] = {
    "out_channels": 2,
    "preprocessing": [ZERO_MEAN],
    "postprocessing": [SIGMOID],
    "fields": {
        "maintainers": [{"name": "Ada", "github_user": "ada"}],
        "version_comment": "first",
    },
    "config": {
        "bioimageio": {"task": "segmentation", "training": {"training_epochs": 3.0}},
        "biozoo": {"certificate": {"format": 1}, "other": "kept"},
    },
}


def facts(parent: biozoo.ModelPackage, **more: Any) -> ChildFacts:
    made = Round(RETRAINING, Ancestor.of(parent), ("a" * 64,), ("b" * 64,), "AP50", {"child": 0.5})
    return ChildFacts(Lineage((made,)), **more)


def network(parent: biozoo.ModelPackage, change: float = 1.5) -> Any:
    """The parent's ONNX graph as a module whose convolution was trained."""
    from biozoo_converters.conversion.onnx_to_torch import module_of

    ids = [tuple(t.id for t in side) for side in (parent.summary.inputs, parent.summary.outputs)]
    made = module_of(onnx.load(parent.root / "weights.onnx"), *ids)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.mul_(change)
    return made


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Any]:
    """A parent's folder, its child's zip, and what making it told."""
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOZOO_HOME", str(folder / "home"))
        parent = biozoo.open(make_package(folder / "tiny", **PARENT))
        report = make_child(
            parent,
            network(parent),
            facts(
                parent,
                author="Grace",
                text=["## Retraining\n\nOn stained nuclei."],
                recipe={"version": 1, "trainable": "full"},
                training={"optimizer": "adamw"},
                evaluations=[{"dataset_id": "mine"}],
            ),
            folder / "mine.zip",
        )
    return folder / "tiny", folder / "mine.zip", report


def test_the_child_computes_what_was_trained(family: tuple[Path, Path, Any]) -> None:
    """By the parent's own processing: only the weights are others."""
    parent, child = biozoo.open(family[0]), biozoo.open(family[1])
    image = np.random.default_rng(3).random((40, 32)).astype(np.float32)
    with load(parent, device="cpu") as runner:
        before = runner(image, axes="yx")["prediction"].values
    with load(child, device="cpu") as runner:
        after = runner(image, axes="yx")["prediction"].values
    logits = np.log(before / (1 - before))
    np.testing.assert_allclose(after, 1 / (1 + np.exp(-1.5 * logits)), atol=1e-4)


def test_the_child_reproduces_its_own_test_output(family: tuple[Path, Path, Any]) -> None:
    assert test_package(family[1]).ok
    changed = np.load(biozoo.open(family[1]).root / "test_prediction.npy")
    assert np.abs(changed - np.load(family[0] / "test_prediction.npy")).max() > 0.01


def test_it_carries_proof_that_the_graph_is_the_trained_network(
    family: tuple[Path, Path, Any],
) -> None:
    certificate = family[2].certificate
    assert certificate.ok
    assert [p.strategy for p in certificate.proofs] == [BACK]
    assert "tiny, retrained" in certificate.reference.name
    raw = biozoo.open(family[1]).raw
    assert raw["config"]["biozoo"]["certificate"]["ok"] is True
    assert raw["attachments"] == [
        {"source": "certificate.json", "sha256": certificate.probes["sha256"]}
    ]


def test_what_the_author_said_stays_and_what_was_true_of_the_parent_goes(
    family: tuple[Path, Path, Any],
) -> None:
    parent, child = read_rdf(family[0]), biozoo.open(family[1]).raw
    for field in ("license", "cite", "tags"):
        assert child[field] == parent[field]
    assert child["description"] == f"{parent['description']} Retrained from tiny on 1 image."
    assert child["inputs"][0]["preprocessing"] == parent["inputs"][0]["preprocessing"]
    assert [a["name"] for a in child["authors"]] == [
        *(a["name"] for a in parent["authors"]),
        "Grace",
    ]
    assert "maintainers" not in child
    config = child["config"]
    assert config["bioimageio"]["training"] == {"optimizer": "adamw"}
    assert config["bioimageio"]["task"] == "segmentation"
    assert config["biozoo"]["other"] == "kept"
    assert config["biozoo"]["evaluations"] == [{"dataset_id": "mine"}]
    assert config["biozoo"]["training"] == {"version": 1, "trainable": "full"}


def test_it_names_its_parent_and_itself(family: tuple[Path, Path, Any]) -> None:
    child = biozoo.open(family[1]).raw
    assert child["id"] == "tiny-mine"
    assert child["name"] == "Tiny blur - retrained"
    assert child["parent"] == {"id": "tiny", "version": "1.0"}
    assert "retraining on 1 image, with biozoo" in child["version_comment"]
    made = Lineage.from_dict(child["config"]["biozoo"]["lineage"]).rounds[-1]
    assert made.parent == Ancestor.of(biozoo.open(family[0]))


def test_its_readme_begins_with_the_retraining(family: tuple[Path, Path, Any]) -> None:
    text = biozoo.open(family[1]).documentation
    assert (
        text.index("## Retraining") < text.index("On stained nuclei") < text.index("Made for tests")
    )
    assert "\n### Tiny\n" in text  # the parent's own heading, lower
    assert "Its scores are not this model's" in text


def test_no_file_of_the_parent_is_left_that_nothing_names(family: tuple[Path, Path, Any]) -> None:
    import zipfile

    with zipfile.ZipFile(family[1]) as archive:
        names = set(archive.namelist())
    assert names == {
        "rdf.yaml", "README.md", "cover.png", "weights.onnx", "certificate.json", "test_raw.npy",
        "test_prediction.npy", "sample_raw.tif", "sample_prediction.tif",
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning")  # the reference leaves them
def test_bioimageio_core_takes_it(family: tuple[Path, Path, Any]) -> None:
    from bioimageio.core import test_model

    summary = test_model(str(biozoo.open(family[1]).root / "rdf.yaml"))
    assert summary.status == "passed", summary.format()


# --------------------------------------------------------------------------------------- weights


def test_trained_values_go_back_to_where_they_came_from(tmp_path: Path) -> None:
    parent = biozoo.open(make_package(tmp_path / "tiny", out_channels=3, validate=False))
    made = network(parent)
    assert came_from_onnx(made)
    graph = onnx.load_model_from_string(written_back(made))
    values = {t.name: onnx.numpy_helper.to_array(t) for t in graph.graph.initializer}
    before = {
        t.name: onnx.numpy_helper.to_array(t)
        for t in onnx.load(tmp_path / "tiny" / "weights.onnx").graph.initializer
    }
    np.testing.assert_allclose(values["weight"], 1.5 * before["weight"], rtol=1e-6)
    np.testing.assert_array_equal(values["gain0"], before["gain0"])


def test_each_of_two_alike_layers_gets_its_own_values(tmp_path: Path) -> None:
    """Two convolutions that start with the same numbers, and a matrix that torch has transposed."""
    from onnx import TensorProto, helper, numpy_helper

    from biozoo_converters.conversion.onnx_to_torch import module_of

    kernel = np.ones((1, 1, 3, 3), np.float32)
    matrix = np.arange(16, dtype=np.float32).reshape(4, 4) / 16
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["a", "second"], ["b"], pads=[1, 1, 1, 1]),
        helper.make_node("Flatten", ["b"], ["flat"]),
        helper.make_node("Gemm", ["flat", "matrix", "offset"], ["y"]),
    ]
    constants = {
        "first": kernel,
        "second": kernel,
        "matrix": matrix,
        "offset": np.ones(4, np.float32),
    }
    graph = helper.make_graph(
        nodes,
        "alike",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, 2, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    made = module_of(model)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter))
    back = written_back(made)
    x = np.random.default_rng(0).random((1, 1, 2, 2)).astype(np.float32)
    import onnxruntime

    session = onnxruntime.InferenceSession(back, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        expected = made(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(session.run(None, {"x": x})[0], expected, rtol=1e-4, atol=1e-4)


def test_a_network_that_is_no_graph_is_exported(tmp_path: Path) -> None:
    """As of a package whose weights were a state dict."""
    parent = biozoo.open(make_package(tmp_path / "tiny"))
    convolution = torch.nn.Conv2d(1, 1, 3, padding=1)
    assert not came_from_onnx(convolution)
    with pytest.raises(NetworkError, match="did not come from an ONNX graph"):
        written_back(convolution)
    report = make_child(parent, convolution, facts(parent), tmp_path / "out.zip")
    assert report.certificate is not None
    assert report.certificate.ok
    assert report.certificate.proofs[0].strategy != BACK
    assert list(biozoo.open(tmp_path / "out.zip").raw["weights"]) == ["onnx"]


def test_a_network_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    class Odd(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.from_numpy(np.cumsum(x.numpy(), axis=-1)) + 1

    parent = biozoo.open(make_package(tmp_path / "tiny"))
    with pytest.raises(ConversionError, match="cannot be converted to onnx with proof"):
        make_child(parent, Odd(), facts(parent), tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


# ----------------------------------------------------------------------------------- test tensors


def silent(parent: biozoo.ModelPackage) -> Any:
    """A network that gives 0 for the parent's test input and something for larger values."""

    class Threshold(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.level = torch.nn.Parameter(torch.tensor(5.0))

        def forward(self, x: Any) -> Any:
            return torch.nn.functional.relu(x - self.level)

    return Threshold()


def test_where_the_test_image_shows_nothing_a_piece_of_the_users_takes_its_place(
    tmp_path: Path,
) -> None:
    parent = biozoo.open(make_package(tmp_path / "tiny"))
    bright = np.load(tmp_path / "tiny" / "test_raw.npy") * 20

    def sample() -> dict[str, xr.DataArray]:
        return {"raw": xr.DataArray(bright, dims=("batch", "channel", "y", "x"))}

    report = make_child(parent, silent(parent), facts(parent, sample=sample), tmp_path / "o.zip")
    assert any("a piece of one of your images" in n for n in report.notes)
    child = biozoo.open(tmp_path / "o.zip")
    np.testing.assert_array_equal(np.load(child.root / "test_raw.npy"), bright)
    assert test_package(child).ok


def test_a_network_that_gives_nothing_at_all_is_refused(tmp_path: Path) -> None:
    parent = biozoo.open(make_package(tmp_path / "tiny"))
    with pytest.raises(NetworkError, match="nothing but zeros in prediction"):
        make_child(parent, silent(parent), facts(parent), tmp_path / "out.zip")
    assert not (tmp_path / "out.zip").exists()


def test_objects_are_made_as_the_target_says(tmp_path: Path) -> None:
    parent = biozoo.open(make_package(tmp_path / "tiny", postprocessing=[SIGMOID]))
    rule = {"output": "prediction", "foreground": 0, "distance": 0, "foreground_threshold": 0.6}
    make_child(parent, network(parent), facts(parent, instances=rule), tmp_path / "out.zip")
    with load(tmp_path / "out.zip", device="cpu") as runner:
        assert runner.outputs == ("prediction", "labels")


def test_a_description_that_leaves_types_out_is_completed(tmp_path: Path) -> None:
    folder = make_package(tmp_path / "tiny")
    outputs = read_rdf(folder)["outputs"]
    del outputs[0]["data"]
    change_rdf(folder, outputs=outputs)
    parent = biozoo.open(folder)
    make_child(parent, network(parent), facts(parent), tmp_path / "out")
    assert read_rdf(tmp_path / "out")["outputs"][0]["data"] == {"type": "float32"}


def test_a_place_that_is_taken_is_told_before_any_work(tmp_path: Path) -> None:
    parent = biozoo.open(make_package(tmp_path / "tiny", validate=False))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    with pytest.raises(StorageError, match="no part of a package"):
        make_child(parent, None, facts(parent), tmp_path / "full")


# ------------------------------------------------------------------------------------------ words


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("stained.zip", "nuclei-fluo-stained"),
        ("My Cells.ZIP", "nuclei-fluo-my-cells"),
        ("nuclei-fluo-mine.zip", "nuclei-fluo-mine"),
        ("nuclei-fluo.zip", "nuclei-fluo-retrained"),
        ("folder", "nuclei-fluo-folder"),
    ],
)
def test_ids_tell_the_parent_and_the_file(target: str, made: str) -> None:
    assert child_id("nuclei-fluo", Path(target)) == made


def test_names_count_the_rounds_and_stay_short() -> None:
    first = child_name("Nuclei", 1)
    assert first == "Nuclei - retrained"
    assert child_name(first, 2) == "Nuclei - retrained 2"
    assert len(child_name("x" * 128, 12)) == 128


def test_headings_within_code_stay(tmp_path: Path) -> None:
    parent = "# Title\n\n```bash\n# a comment\n```\n\n## Part\n"
    text = readme("New", "old 1.0", ["## Mine"], parent)
    assert "### Title" in text
    assert "\n# a comment\n" in text
    assert "#### Part" in text


def test_importing_the_trainers_imports_no_framework() -> None:
    code = (
        "import sys, biozoo_trainers; biozoo_trainers.__dir__(); "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'onnx') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
