"""The two nucleus models that ship: what they find, in images of any size, kind and bit depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from skimage.transform import rescale

import biozoo_runners
from biozoo.samples import simulate_histology, simulate_nuclei

Finder = Callable[[np.ndarray], np.ndarray]


def finder(name: str) -> Iterator[Finder]:
    """From an image to numbered nuclei, with the package's own settings."""
    with biozoo_runners.load(name, device="cpu", threads=1) as runner:
        yield lambda image: runner(image, axes="yx" if image.ndim == 2 else "cyx")[
            "labels"
        ].to_numpy()


@pytest.fixture(scope="module")
def find() -> Iterator[Finder]:
    yield from finder("nuclei-fluo")


@pytest.fixture(scope="module")
def find_stained() -> Iterator[Finder]:
    yield from finder("nuclei-histology")


def recall(labels_true: np.ndarray, labels: np.ndarray) -> float:
    """Part of the true objects that one found object covers with an IoU of 0.5."""
    n, m = int(labels_true.max()), int(labels.max())
    pairs = np.bincount((labels_true * (m + 1) + labels).ravel(), minlength=(n + 1) * (m + 1))
    overlap = pairs.reshape(n + 1, m + 1)
    union = overlap.sum(1, keepdims=True) + overlap.sum(0, keepdims=True) - overlap
    return float(((overlap / union)[1:, 1:].max(axis=1) >= 0.5).mean())


def scaled(image: np.ndarray, labels: np.ndarray, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """Both at another size."""
    axis = None if image.ndim == 2 else 0
    big = rescale(
        image.astype(np.float32), factor, order=1, anti_aliasing=factor < 1, channel_axis=axis
    )
    nearest = rescale(labels, factor, order=0, preserve_range=True, anti_aliasing=False)
    return big, nearest.astype(np.int32)


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_finds_simulated_nuclei_at_any_size(find: Finder, scale: float):
    """Nuclei are found as they are, and in the same image at half and at twice its size."""
    sample = simulate_nuclei((256, 256), seed=8, diameter=26)
    image, truth = scaled(sample.image, sample.labels, scale)
    labels = find(image)
    assert recall(truth, labels) > 0.85
    assert labels.max() < 1.2 * truth.max()


@pytest.mark.parametrize("scale", [1.0, 0.5, 2.0])
def test_finds_simulated_stained_nuclei_at_any_size(find_stained: Finder, scale: float):
    """The same in stained tissue; there it also sees some that are none (its card says so)."""
    sample = simulate_histology((256, 256), seed=8, diameter=26)
    image, truth = scaled(sample.image, sample.labels, scale)
    labels = find_stained(image)
    assert recall(truth, labels) > 0.75
    assert labels.max() < 1.4 * truth.max()


def test_bit_depth_does_not_matter(find: Finder):
    """8 bit, 16 bit and float of the same image give the same nuclei."""
    image = simulate_nuclei((160, 192), seed=3, diameter=24).image
    low, high = np.percentile(image, [1, 99.8])
    grey = (np.clip((image - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    labels = find(grey)
    assert labels.max() > 5
    assert np.array_equal(labels, find(grey.astype(np.uint16) * 257))
    assert np.array_equal(labels, find(grey.astype(np.float32) * 100))


def test_bit_depth_of_colours_does_not_matter(find_stained: Finder):
    """Colours from 0 to 255, to 65535 and to 1 give the same nuclei."""
    image = simulate_histology((160, 192), seed=3, diameter=24).image
    labels = find_stained(image)
    assert labels.max() > 5
    for other in (image.astype(np.uint16) * 257, image.astype(np.float32) / 255):
        assert (find_stained(other) > 0).sum() == pytest.approx((labels > 0).sum(), rel=0.01)


def test_a_bright_cell_in_the_dark_is_no_stained_nucleus(find_stained: Finder):
    """The models are not each other: fluorescence gives the one for tissue little to find."""
    sample = simulate_nuclei((192, 192), seed=3, diameter=26)
    image = np.repeat(np.clip(sample.image / 4, 0, 255).astype(np.uint8)[None], 3, axis=0)
    assert recall(sample.labels, find_stained(image)) < 0.5


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


@pytest.mark.parametrize("kind", ["glass", "tint"])
def test_nothing_is_found_on_an_empty_slide(find_stained: Finder, kind: str):
    """Bare glass and one tint hold no nuclei. (In tissue without nuclei it sees some: its card.)"""
    rng = np.random.default_rng(1)
    shape = (3, 200, 200)
    image = {
        "glass": 240 + rng.normal(0, 2, shape),
        "tint": np.array([180, 150, 205])[:, None, None] + rng.normal(0, 4, shape),
    }[kind]
    assert find_stained(np.clip(image, 0, 255).astype(np.uint8)).max() == 0
