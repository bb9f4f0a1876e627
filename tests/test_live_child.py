"""A refitted head kept as a package: proven, without torch, and taken by everything."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

import biozoo
from biozoo.errors import ConversionError
from biozoo_runners import load
from biozoo_trainers.lineage import Lineage
from biozoo_trainers.live import ChildFacts, LiveModel, open_live
from livable import INSTANCES, discs, livable, strokes

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

Array = np.ndarray[Any, Any]

#: What a script without torch does: paint, refit, keep, run what was kept.
WITHOUT_TORCH = """
import sys
from pathlib import Path


class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError(f"{name} is not installed")


sys.meta_path.insert(0, NoTorch())
import numpy as np
import xarray as xr

import biozoo
from biozoo_runners import load
from biozoo_trainers.live import ChildFacts, open_live
from livable import discs, strokes

pixels, labels = discs(dark=True)
image = xr.DataArray(pixels, dims=("y", "x"))
with open_live(biozoo.open(sys.argv[1])) as live:
    features = live.features(image)
    head = live.refit(features, strokes(labels))
    shown = live.result(features, head).tensors
    facts = ChildFacts(name="My discs", author="Ada", strokes=4, images=("a" * 64,))
    live.child(head, Path(sys.argv[2]), facts=facts)
with load(biozoo.open(sys.argv[2]), device="cpu") as runner:
    run = runner(image)
for name, array in shown.items():
    np.testing.assert_allclose(run[name], array, atol=1e-5)
assert set(run) == set(shown) == {"prediction", "labels"}
assert run["labels"].max() == labels.max()
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A parent's folder and its child's zip, made where torch cannot be imported."""
    folder = tmp_path_factory.mktemp("family")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BIOZOO_HOME", str(folder / "home"))
        patch.setenv("PYTHONPATH", ":".join(filter(None, sys.path)))
        livable(folder / "parent", channels=2, config={"biozoo": {"instances": INSTANCES}})
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT_TORCH, folder / "parent", folder / "mine.zip"],
            capture_output=True,
            text=True,
        )
    assert not done.returncode, done.stderr
    return folder / "parent", folder / "mine.zip"


def test_it_says_where_it_comes_from(family: tuple[Path, Path]) -> None:
    parent, child = (biozoo.open(str(p)) for p in family)
    raw = child.raw
    assert (raw["name"], raw["id"]) == ("My discs", "my-discs")
    assert raw["parent"]["id"] == parent.id
    assert {"name": "Ada"} in raw["authors"]
    (made,) = Lineage.of(child).rounds
    assert made.method == "live head"
    assert made.parent.id == parent.id
    assert made.trained == ("a" * 64,)
    assert made.facts["strokes"] == 4
    assert made.facts["pixels"] == int((strokes(discs()[1]) >= 0).sum())
    assert "refitted to 4 strokes" in child.documentation
    assert "refitted to 4 strokes" in raw["description"]


def test_it_says_how_its_objects_are_made(family: tuple[Path, Path]) -> None:
    rule = biozoo.open(str(family[1])).raw["config"]["biozoo"]["instances"]
    assert rule["foreground"] == rule["distance"] == "channel0"
    assert rule["min_size"] == INSTANCES["min_size"]


def test_its_certificate_proves_the_graph(family: tuple[Path, Path]) -> None:
    child = biozoo.open(str(family[1]))
    certificate = child.raw["config"]["biozoo"]["certificate"]
    assert certificate["ok"]
    (proof,) = certificate["proofs"]
    assert proof["weights_format"] == "onnx"
    assert len(proof["cases"]) >= 5
    assert certificate["reference"]["name"] == "livable, last layer refitted"
    assert child.verify().ok


def test_bioimageio_core_takes_it(family: tuple[Path, Path]) -> None:
    from bioimageio.core import test_model

    assert test_model(family[1]).status == "passed"


def test_it_can_be_refitted_again(family: tuple[Path, Path], tmp_path: Path) -> None:
    pixels, labels = discs()  # bright again: back to what the parent was for
    image = xr.DataArray(pixels, dims=("y", "x"))
    with open_live(family[1]) as live, open_live(family[0]) as first:
        assert live.parent.weight.shape == first.parent.weight.shape
        features = live.features(image)
        before = live.apply(features).values[0] > 0.5
        head = live.refit(features, strokes(labels))
        after = live.apply(features, head).values[0] > 0.5
        kept = live.child(head, tmp_path / "again", facts=ChildFacts())
    assert (before != (labels > 0)).mean() > 0.5
    assert (after != (labels > 0)).mean() < 0.1
    again = biozoo.open(str(kept))
    assert [r.method for r in Lineage.of(again).rounds] == ["live head"] * 2
    graph = onnx.load(again.root / "weights.onnx").graph
    assert len({t.name for t in graph.initializer}) == len(graph.initializer)
    with load(again, device="cpu") as runner:
        assert ((runner(image)["prediction"].values[0] > 0.5) == after).all()


def test_a_graph_that_is_not_what_was_shown_is_not_kept(
    family: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = LiveModel.with_head

    def off(self: LiveModel, head: Any) -> bytes:
        from dataclasses import replace

        return right(self, replace(head, bias=head.bias + 0.05))

    monkeypatch.setattr(LiveModel, "with_head", off)
    pixels, labels = discs(dark=True)
    with open_live(family[0]) as live:
        features = live.features(xr.DataArray(pixels, dims=("y", "x")))
        head = live.refit(features, strokes(labels))
        with pytest.raises(ConversionError, match="cannot be converted to onnx with proof"):
            live.child(head, tmp_path / "no.zip", facts=ChildFacts())
    assert not (tmp_path / "no.zip").exists()
