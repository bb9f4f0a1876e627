"""The simulator behind ``zoo sample``."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage as ndi

from biozoo.errors import NotFoundError
from biozoo.samples import (
    sample_names,
    simulate,
    simulate_em,
    simulate_histology,
    simulate_nuclei,
)


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
    assert sample_names() == ("nuclei", "histology", "em")
    code = (
        "import sys, biozoo.samples as s; s.sample_names(); "
        "print([m for m in ('numpy', 'scipy') if m in sys.modules])"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert output.stdout.strip() == "[]", output.stderr


@pytest.mark.parametrize("name", ["nuclei", "histology", "em"])
def test_each_sample_is_an_image_with_its_truth(name: str):
    """By its name: one image per seed, labels 1..n, and arrays that say channels and pixel size."""
    first, again, other = (simulate(name, (128, 160), seed=s) for s in (1, 1, 2))
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.labels, again.labels)
    assert not np.array_equal(first.image, other.image)
    image, labels = first.to_xarray()
    assert image.dims == ("channel", "y", "x")
    assert image.sizes["channel"] == len(first.channel_names)
    assert labels.shape == image.shape[1:] == (128, 160)
    assert np.unique(first.labels).tolist() == list(range(int(first.labels.max()) + 1))
    assert first.labels.max() > 3
    assert set(image.attrs["pixel_size"]) == {"y", "x"}


def test_another_name_is_refused():
    """With the names that there are."""
    with pytest.raises(NotFoundError, match="nuclei, histology, em"):
        simulate("histolgy")


def test_stained_nuclei_are_dark_and_blue_on_pink():
    """Haematoxylin takes red away, eosin green; glass is bright, nuclei are dark."""
    sample = simulate_histology((256, 256), seed=4)
    assert sample.image.dtype == np.uint8
    nuclei, tissue = (
        sample.image[:, where].mean(axis=1) for where in (sample.labels > 0, sample.labels == 0)
    )
    assert (nuclei < tissue).all()
    assert nuclei[2] > nuclei[0]  # blue
    assert tissue[1] < min(tissue[0], tissue[2])  # pink
    pale = simulate_histology((256, 256), seed=4, haematoxylin=0.4)
    assert pale.image[0][sample.labels > 0].mean() > nuclei[0] + 20


def test_tissue_without_nuclei():
    """Density 0 is stained tissue only."""
    sample = simulate_histology((64, 64), density=0)
    assert sample.labels.max() == 0
    assert sample.image.std() > 0


def test_membranes_are_dark_lines_between_cells():
    """Every cell is one piece, and what lies between two of them is dark."""
    sample = simulate_em((256, 256), seed=3)
    assert sample.image.dtype == np.uint8
    n = int(sample.labels.max())
    assert n > 25
    assert max(ndi.label(sample.labels == i)[1] for i in range(1, n + 1)) == 1
    lines = sample.labels == 0
    assert 0.1 < lines.mean() < 0.4
    assert sample.image[lines].mean() < sample.image[~lines].mean() - 30
    areas = np.bincount(sample.labels.ravel())[1:]
    assert areas.max() > 10 * np.median(areas)  # few wide ones among many thin
