"""The models that ship: their packages are whole, small and made of what is committed, and they
reach the scores that they publish.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import biozoo
import biozoo_runners
from biozoo.samples import Sample, simulate_em, simulate_histology, simulate_nuclei
from biozoo_runners.comparison.scores import average_precision

BUILT_IN = Path(biozoo.__file__).parent / "builtin"
SOURCES = Path(__file__).resolve().parents[1] / "zoo" / "models"
NAMES = ("em-membrane", "nuclei-fluo", "nuclei-histology")
HALO = {"em-membrane": 80, "nuclei-fluo": 64, "nuclei-histology": 80}
SIMULATED: dict[str, Callable[[], Sample]] = {
    "em-membrane": lambda: simulate_em((320, 288), seed=1),
    "nuclei-fluo": lambda: simulate_nuclei((256, 288), seed=8, diameter=26),
    "nuclei-histology": lambda: simulate_histology((256, 288), seed=8, diameter=26),
}

every = pytest.mark.parametrize("name", NAMES)


@pytest.fixture(scope="module")
def runners() -> Iterator[Callable[[str], biozoo_runners.Runner]]:
    """The runner of a model, loaded once."""
    made: dict[str, biozoo_runners.Runner] = {}

    def of(name: str) -> biozoo_runners.Runner:
        if name not in made:
            made[name] = biozoo_runners.load(BUILT_IN / name, device="cpu", threads=1)
        return made[name]

    yield of
    for runner in made.values():
        runner.close()


@pytest.fixture
def recipes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """The recipe of a model."""
    pytest.importorskip("torch")
    monkeypatch.syspath_prepend(str(SOURCES))
    from common.recipes import load_recipe

    return load_recipe


def rdf(name: str) -> dict[str, Any]:
    """The description as it stands in the file."""
    return yaml.safe_load((BUILT_IN / name / "rdf.yaml").read_text(encoding="utf-8"))


def files_in(entry: object) -> Iterator[dict]:
    """Every {source, sha256} in a description."""
    if isinstance(entry, dict):
        if "sha256" in entry and "source" in entry:
            yield entry
        for key, value in entry.items():
            if key != "certificate":
                yield from files_in(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from files_in(value)


def axes_of(image: np.ndarray) -> str:
    return "yx" if image.ndim == 2 else "cyx"


def ap50(truth: np.ndarray, found: np.ndarray) -> float:
    return float(average_precision(truth, found).average_precision[0])


def test_these_are_the_models_that_ship():
    """Each model that ships has its sources, and each recipe its model."""
    assert tuple(sorted(p.name for p in BUILT_IN.iterdir() if p.is_dir())) == NAMES
    assert tuple(sorted(p.parent.name for p in SOURCES.glob("*/recipe.py"))) == NAMES


@every
def test_package_is_whole_and_small(name: str):
    """Every file is the one described, nothing else lies there, and a wheel can carry it."""
    folder = BUILT_IN / name
    described = {"rdf.yaml"}
    for entry in files_in(rdf(name)):
        described.add(entry["source"])
        found = hashlib.sha256((folder / entry["source"]).read_bytes()).hexdigest()
        assert (entry["source"], found) == (entry["source"], entry["sha256"])
    files = list(folder.iterdir())
    assert {p.name for p in files} == described
    assert sum(p.stat().st_size for p in files) < 3_000_000
    package = biozoo.open(folder)
    assert package.descr.id == name
    assert package.descr.license == "BSD-3-Clause"


@every
def test_nothing_of_the_machine_that_built_it_is_left(name: str):
    """No file mentions a path of the machine it was made on."""
    for path in (BUILT_IN / name).iterdir():
        assert not re.search(rb"/(work|home|root|tmp|usr)/", path.read_bytes()), path.name


@every
def test_every_id_is_written_out(name: str):
    """Other tools refuse a package whose ids are left to defaults."""
    description = rdf(name)
    tensors = description["inputs"] + description["outputs"]
    assert [t["id"] for t in tensors] == ["raw", "probability"]
    for tensor in tensors:
        assert [axis["id"] for axis in tensor["axes"]] == ["batch", "channel", "y", "x"]
    halos = [axis.get("halo") for axis in description["outputs"][0]["axes"]]
    assert halos == [None, None, HALO[name], HALO[name]]


@every
def test_reproduces_its_test_output(name: str):
    """What `zoo test` says of it."""
    report = biozoo_runners.test_package(biozoo.open(BUILT_IN / name), device="cpu")
    assert report.ok, str(report)


@every
def test_is_certified(name: str):
    """The conversion to ONNX is proven, and of the very file that ships."""
    description = rdf(name)
    certificate = description["config"]["biozoo"]["certificate"]
    assert certificate["ok"] is True
    proof = next(p for p in certificate["proofs"] if p["weights_format"] == "onnx")
    weights = description["weights"]["onnx"]
    assert proof["files"][weights["source"]] == weights["sha256"]
    assert len({str(case["shapes"]) for case in proof["cases"]}) >= 4


@every
def test_is_made_of_the_weights_that_are_committed(name: str, recipes: Callable[[str], Any]):
    """The graph computes what the torch network does with `weights.safetensors`."""
    import onnxruntime
    import torch
    from common.weights import load_network

    recipe = recipes(name)
    network = load_network(recipe, SOURCES / name / "weights.safetensors")
    session = onnxruntime.InferenceSession(
        BUILT_IN / name / "weights.onnx", providers=["CPUExecutionProvider"]
    )
    n_in = session.get_inputs()[0].shape[1]
    for shape in [(1, n_in, 160, 96), (2, n_in, 64, 112)]:
        x = torch.rand(shape, generator=torch.Generator().manual_seed(0)) * 1.5 - 0.25
        with torch.inference_mode():
            expected = network(x).numpy()
        (got,) = session.run(None, {"raw": x.numpy()})
        np.testing.assert_allclose(got, expected, atol=1e-4)


@every
def test_says_what_its_sources_say(name: str):
    """The facts of `pack.yaml` and the scores of `evaluation.json` are those of the package."""
    description = rdf(name)
    told = yaml.safe_load((SOURCES / name / "pack.yaml").read_text(encoding="utf-8"))
    results = json.loads((SOURCES / name / "evaluation.json").read_text(encoding="utf-8"))
    for field in ("name", "description", "version", "license"):
        assert description[field] == told[field]
    settings = told["config"]["biozoo"]["instances"]
    assert description["config"]["biozoo"]["instances"] == settings == results["instances"]
    (evaluation,) = description["config"]["bioimageio"]["evaluations"]
    assert evaluation["dataset_role"] == "test"
    scores = results["test"]["scales"]["1.0"]
    assert evaluation["sample_count"] == scores["images"]
    published = [row[0] for row in evaluation["results"]]
    assert set(published) <= {v for v in scores.values() if not isinstance(v, list)}
    text = (BUILT_IN / name / "README.md").read_text(encoding="utf-8")
    assert "## Validation" in text
    for value in published:
        assert f"{value:.3f}" in text
    assert description["training_data"]["cite"][0]["doi"]


@every
def test_is_better_than_what_needs_no_training(name: str):
    """The published score means something: other ways on the same images do worse."""
    test = json.loads((SOURCES / name / "evaluation.json").read_text(encoding="utf-8"))["test"]
    if name == "nuclei-fluo":
        pytest.skip("it was measured without another way")
    own = test["scales"]["1.0"]["ap50_mean"]
    assert test["baselines"]
    assert all(own > 1.2 * other["ap50_mean"] for other in test["baselines"].values())


@every
def test_finds_what_is_simulated(name: str, runners: Callable[[str], biozoo_runners.Runner]):
    """In a simulated image of its kind it finds most objects, and few that are not there."""
    sample = SIMULATED[name]()
    found = runners(name)(sample.image, axes=axes_of(sample.image))["labels"].to_numpy()
    assert ap50(sample.labels, found) > 0.6
    if name == "em-membrane":
        membrane = runners(name)(sample.image, axes="yx")["probability"].sel(channel="membrane")
        lines = sample.labels == 0
        assert membrane.to_numpy()[lines].mean() > 5 * membrane.to_numpy()[~lines].mean()


@every
def test_halo_is_enough_context(name: str, runners: Callable[[str], biozoo_runners.Runner]):
    """Cut into tiles with the halo, an image gives what it gives as a whole."""
    image = SIMULATED[name]().image
    whole = runners(name)(image, axes=axes_of(image))
    tiled = runners(name)(image, axes=axes_of(image), tile={"y": 240, "x": 240})
    assert tiled.report.tiles > 1
    difference = np.abs(tiled["probability"].to_numpy() - whole["probability"].to_numpy())
    assert difference.max() < 0.15
    assert np.percentile(difference, 99.9) < 0.03
    assert tiled["labels"].max() == whole["labels"].max()


@pytest.mark.shared
@every
def test_held_out_score_is_reached(
    name: str,
    shared: Path,
    recipes: Callable[[str], Any],
    runners: Callable[[str], biozoo_runners.Runner],
):
    """The first held-out images get the scores that were published for them."""
    recipe = recipes(name)
    results = json.loads((SOURCES / name / "evaluation.json").read_text(encoding="utf-8"))
    scores = results["test"]["scales"]["1.0"]
    data = shared / Path(*recipe.DATA.parts[recipe.DATA.parts.index("shared") + 1 :])
    pairs = recipe.read_split(data, "test")
    assert len(pairs) == scores["images"]
    measured = "rand_f_each" if name == "em-membrane" else "ap50_each"
    for (image, truth), published in list(zip(pairs, scores[measured], strict=True))[:3]:
        found = runners(name)(image, axes=axes_of(image))["labels"].to_numpy()
        if name == "em-membrane":
            from common.region_scores import rand_f

            assert rand_f(truth, found) == pytest.approx(published, abs=0.01)
        else:
            assert ap50(truth, found) == pytest.approx(published, abs=0.03)


@pytest.mark.shared
@every
def test_no_image_is_in_two_parts(name: str, shared: Path, recipes: Callable[[str], Any]):
    """What is tested on was not trained on."""
    recipe = recipes(name)
    data = shared / Path(*recipe.DATA.parts[recipe.DATA.parts.index("shared") + 1 :])
    parts = [
        {image.tobytes() for image, _ in recipe.read_split(data, part)}
        for part in ("train", "validation", "test")
    ]
    assert all(parts)
    assert sum(map(len, parts)) == len(set().union(*parts))
