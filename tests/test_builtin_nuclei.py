"""The nucleus model that ships: what it finds, and that its package is whole."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import xarray as xr
import yaml
from bioimageio.spec import ValidationContext
from bioimageio.spec.model.v0_5 import ModelDescr
from skimage.transform import rescale

import biozoo.samples
from biozoo_runners.instances import instances, read_instances_config

FOLDER = Path(biozoo.samples.__file__).parent / "builtin" / "nuclei-fluo"
HALO, STEP = 64, 16
Finder = Callable[[np.ndarray], np.ndarray]


@pytest.fixture(scope="module")
def rdf() -> dict:
    """The description as it stands in the file."""
    return yaml.safe_load((FOLDER / "rdf.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def model(rdf: dict) -> ModelDescr:
    """The description, checked by bioimageio.spec without the network."""
    with ValidationContext(root=FOLDER, perform_io_checks=False):
        return ModelDescr.load(rdf)


@pytest.fixture(scope="module")
def network() -> Callable[[np.ndarray], np.ndarray]:
    """The network alone: preprocessed images (b 1 y x) to maps (b 3 y x)."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 2
    session = onnxruntime.InferenceSession(
        FOLDER / "weights.onnx", options, providers=["CPUExecutionProvider"]
    )
    return lambda x: session.run(["probability"], {"raw": x.astype(np.float32)})[0]


@pytest.fixture(scope="module")
def find(model: ModelDescr, network: Callable[[np.ndarray], np.ndarray]) -> Finder:
    """From an image (y x) to numbered nuclei, with the package's own settings."""
    config = read_instances_config(model)

    def run(image: np.ndarray) -> np.ndarray:
        y, x = image.shape
        pad = ((HALO, HALO + -y % STEP), (HALO, HALO + -x % STEP))
        maps = network(np.pad(preprocess(image), pad, mode="symmetric")[None, None])
        maps = maps[..., HALO : HALO + y, HALO : HALO + x]
        return instances(xr.DataArray(maps, dims=["batch", "channel", "y", "x"]), config)[0].values

    return run


def preprocess(image: np.ndarray) -> np.ndarray:
    """Percentiles 1 and 99.8 of the image become 0 and 1, cut to -1..3."""
    low, high = np.percentile(image, [1, 99.8])
    return np.clip((image.astype(np.float32) - low) / (high - low + 1e-6), -1, 3)


def recall(labels_true: np.ndarray, labels: np.ndarray) -> float:
    """Part of the true objects that one found object covers with an IoU of 0.5."""
    n, m = int(labels_true.max()), int(labels.max())
    pairs = np.bincount((labels_true * (m + 1) + labels).ravel(), minlength=(n + 1) * (m + 1))
    overlap = pairs.reshape(n + 1, m + 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0, keepdims=True) - overlap
    return float(((overlap / union)[1:, 1:].max(axis=1) >= 0.5).mean())


def files_in(entry: object) -> Iterator[dict]:
    """Every {source, sha256} in a description."""
    if isinstance(entry, dict):
        if "sha256" in entry:
            yield entry
        for value in entry.values():
            yield from files_in(value)
    elif isinstance(entry, list):
        for value in entry:
            yield from files_in(value)


def test_package_is_whole_and_small(rdf: dict, model: ModelDescr):
    """Every file is the one described, nothing else lies there, and a wheel can carry it."""
    described = {"rdf.yaml"}
    for entry in files_in(rdf):
        described.add(entry["source"])
        found = hashlib.sha256((FOLDER / entry["source"]).read_bytes()).hexdigest()
        assert (entry["source"], found) == (entry["source"], entry["sha256"])
    files = list(FOLDER.iterdir())
    assert {p.name for p in files} == described
    assert sum(p.stat().st_size for p in files) < 3_000_000
    assert model.id == "nuclei-fluo"
    assert model.license == "BSD-3-Clause"
    assert "## Validation" in (FOLDER / "README.md").read_text(encoding="utf-8")


def test_nothing_of_the_machine_that_built_it_is_left():
    """No file mentions a path of the machine it was made on."""
    for path in FOLDER.iterdir():
        assert not re.search(rb"/(work|home|root|tmp|usr)/", path.read_bytes()), path.name


def test_every_id_is_written_out(rdf: dict):
    """Other tools refuse a package whose ids are left to defaults."""
    for tensor in rdf["inputs"] + rdf["outputs"]:
        assert [axis["id"] for axis in tensor["axes"]] == ["batch", "channel", "y", "x"]
    assert [t["id"] for t in rdf["inputs"] + rdf["outputs"]] == ["raw", "probability"]
    halos = [axis.get("halo") for axis in rdf["outputs"][0]["axes"]]
    assert halos == [None, None, HALO, HALO]


def test_reproduces_its_test_output(network: Callable[[np.ndarray], np.ndarray]):
    """The network gives the shipped output for the shipped input."""
    image, expected = np.load(FOLDER / "test_input.npy"), np.load(FOLDER / "test_output.npy")
    assert image.dtype == np.uint16
    maps = network(preprocess(image[0, 0])[None, None])
    np.testing.assert_allclose(maps, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_finds_simulated_nuclei_at_any_size(find: Finder, scale: float):
    """Nuclei are found as they are, and in the same image at half and at twice its size."""
    sample = biozoo.samples.simulate_nuclei((256, 256), seed=8, diameter=26)
    image = rescale(sample.image.astype(np.float32), scale, order=1, anti_aliasing=scale < 1)
    truth = rescale(sample.labels, scale, order=0, preserve_range=True, anti_aliasing=False)
    truth = truth.astype(np.int32)
    labels = find(image)
    assert recall(truth, labels) > 0.85
    assert labels.max() < 1.2 * truth.max()


def test_bit_depth_does_not_matter(find: Finder):
    """8 bit, 16 bit and float of the same image give the same nuclei."""
    sample = biozoo.samples.simulate_nuclei((160, 192), seed=3, diameter=24)
    grey = (preprocess(sample.image).clip(0, 1) * 255).astype(np.uint8)
    labels = find(grey)
    assert labels.max() > 5
    assert np.array_equal(labels, find(grey.astype(np.uint16) * 257))
    assert np.array_equal(labels, find(grey.astype(np.float32) * 100))


@pytest.mark.parametrize("kind", ["counts", "read noise", "gradient", "flat", "zero"])
def test_nothing_is_found_in_nothing(find: Finder, kind: str):
    """Noise, a gradient and flat images hold no nuclei, however the contrast is stretched."""
    rng = np.random.default_rng(1)
    shape = (200, 200)
    image = {
        "counts": rng.poisson(20, shape),
        "read noise": 100 + rng.normal(0, 5, shape),
        "gradient": 200 + np.linspace(0, 50, 200)[:, None] + rng.normal(0, 8, shape),
        "flat": np.full(shape, 1234),
        "zero": np.zeros(shape),
    }[kind]
    assert find(image.astype(np.uint16)).max() == 0


def test_halo_is_enough_context(network: Callable[[np.ndarray], np.ndarray]):
    """A tile cut with the halo gives what the whole image gives there."""
    image = preprocess(biozoo.samples.simulate_nuclei((384, 384), seed=6).image)[None, None]
    whole = network(image)
    tile = slice(128, 256)
    cut = slice(128 - HALO, 256 + HALO)
    part = network(image[..., cut, cut])[..., HALO:-HALO, HALO:-HALO]
    difference = np.abs(part - whole[..., tile, tile])
    assert difference.max() < 0.02


def test_batch_items_do_not_meet(network: Callable[[np.ndarray], np.ndarray]):
    """Two images in one batch give what each gives alone, at sizes other than the test tensor's."""
    images = [biozoo.samples.simulate_nuclei((144, 176), seed=s, diameter=20).image for s in (1, 2)]
    batch = np.stack([preprocess(i)[None] for i in images])
    together = network(batch)
    alone = np.concatenate([network(batch[i : i + 1]) for i in range(2)])
    np.testing.assert_allclose(together, alone, atol=1e-4)
