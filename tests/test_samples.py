"""The simulator behind ``zoo sample``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage as ndi

from biozoo.samples import sample_names, simulate_nuclei


def test_a_seed_gives_one_image():
    """The same seed gives the same pixels, another seed others."""
    first, again, other = (simulate_nuclei((96, 128), seed=s, diameter=20) for s in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)


def test_labels_number_whole_nuclei():
    """Labels run 1..n without gaps, and each is one connected object of nuclear size."""
    sample = simulate_nuclei((300, 400), seed=5, diameter=30, density=0.3, clustering=0.8)
    assert sample.image.shape == sample.labels.shape == (300, 400)
    assert (sample.image.dtype, sample.labels.dtype) == (np.uint16, np.int32)
    n = int(sample.labels.max())
    assert np.unique(sample.labels).tolist() == list(range(n + 1))
    assert n > 20
    pieces = [ndi.label(sample.labels == i)[1] for i in range(1, n + 1)]
    assert max(pieces) == 1
    diameters = np.sqrt(np.bincount(sample.labels.ravel())[1:] * 4 / np.pi)
    assert 24 < np.median(diameters) < 34


def test_light_is_where_the_nuclei_are():
    """Nuclei are bright and textured, on a camera offset that few photons stand on."""
    sample = simulate_nuclei((256, 256), seed=2)
    inside, outside = sample.image[sample.labels > 0], sample.image[sample.labels == 0]
    assert inside.mean() > 3 * outside.mean()
    assert 80 < np.percentile(outside, 1) < 150
    assert inside.max() < 65535


def test_clustering_makes_nuclei_touch():
    """More clustering, more touching nuclei at the same density."""

    def touching(clustering: float) -> int:
        labels = simulate_nuclei((400, 400), seed=0, clustering=clustering).labels
        return int(((labels[:, 1:] != labels[:, :-1]) & (labels[:, 1:] * labels[:, :-1] > 0)).sum())

    assert touching(0.9) > 2 * touching(0.0)


def test_no_nuclei():
    """Density 0 is an image of background only."""
    sample = simulate_nuclei((64, 64), density=0)
    assert sample.labels.max() == 0
    assert sample.image.std() > 0


@pytest.mark.parametrize("diameter", [8, 100])
def test_pixel_size_follows_magnification(diameter):
    """The nuclei are the same in micrometres, however many pixels they take."""
    sample = simulate_nuclei((128, 128), diameter=diameter)
    assert sample.pixel_size["x"] * diameter == pytest.approx(11, rel=0.01)


def test_names_and_cheap_import():
    """The list of samples costs no array library."""
    assert "nuclei" in sample_names()
    code = (
        "import sys, biozoo.samples as s; s.sample_names(); "
        "print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.stdout.strip() == "[]", output.stderr
