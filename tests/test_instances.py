"""Numbered objects from output channels: what a user sees in the label image."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from pydantic import ValidationError
from scipy import ndimage as ndi

from biozoo_runners.instances import InstancesConfig, instances, read_instances_config

CONFIG = InstancesConfig(
    output="probability", foreground="foreground", distance="distance", seed_threshold=0.6
)
NAMES = ["foreground", "distance"]


def prediction_of(mask: np.ndarray, centres: list[tuple[int, ...]], dims: str) -> xr.DataArray:
    """Perfect channels for round objects: the mask, and a bump of height 1 at each centre."""
    seeds = np.ones(mask.shape, bool)
    for centre in centres:
        seeds[centre] = False
    away = ndi.distance_transform_edt(seeds)
    distance = np.clip(1 - away / 8, 0, 1) * mask
    return xr.DataArray(
        np.stack([mask, distance]).astype(np.float32),
        dims=["channel", *dims],
        coords={"channel": NAMES},
    )


def disks(shape: tuple[int, ...], centres: list[tuple[int, ...]], radius: float) -> np.ndarray:
    """Filled circles or balls."""
    grids = np.indices(shape)
    mask = np.zeros(shape, bool)
    for centre in centres:
        mask |= sum((g - c) ** 2 for g, c in zip(grids, centre, strict=True)) <= radius**2
    return mask


@pytest.mark.parametrize(
    ("shape", "centres"),
    [
        ((40, 60), [(15, 15), (15, 27), (30, 50)]),
        ((30, 40, 60), [(12, 15, 15), (12, 15, 27), (18, 30, 50)]),
    ],
)
def test_touching_objects_are_separated_in_2d_and_3d(shape, centres):
    """Two objects that share an edge, and a third, get three numbers."""
    dims = "zyx"[-len(shape) :]
    mask = disks(shape, centres, 7)
    labels = instances(prediction_of(mask, centres, dims), CONFIG)
    assert labels.dtype == np.int32
    assert labels.dims == tuple(dims)
    assert sorted({int(labels.values[c]) for c in centres}) == [1, 2, 3]
    assert np.array_equal(labels.values > 0, mask)


def test_splits_as_a_watershed_over_the_whole_image_does():
    """Flooding part by part changes nothing."""
    from skimage.segmentation import watershed

    rng = np.random.default_rng(0)
    foreground = ndi.gaussian_filter(rng.normal(size=(200, 300)), 6)
    distance = ndi.gaussian_filter(rng.normal(size=(200, 300)), 3)
    foreground, distance = foreground / foreground.std(), distance / distance.std()
    config = CONFIG.model_copy(update={"foreground_threshold": 0.0, "fill_holes": False})
    stack = xr.DataArray(
        np.stack([foreground, distance]).astype(np.float32),
        dims=["channel", "y", "x"],
        coords={"channel": NAMES},
    )
    seeds, _ = ndi.label((stack[0].values > 0) & (stack[1].values > config.seed_threshold))
    expected = watershed(-stack[1].values, seeds, mask=stack[0].values > 0)
    labels = instances(stack, config).values
    pairs = np.unique(np.stack([expected.ravel(), labels.ravel()]), axis=1)
    assert labels.max() > 20
    assert pairs.shape[1] == labels.max() + 1 == len(np.unique(expected))


def test_boundary_alone_separates_too():
    """A package may ship a boundary channel instead of a distance channel."""
    mask = np.zeros((20, 41), bool)
    mask[5:15, 5:36] = True
    boundary = np.zeros_like(mask)
    boundary[:, 19:22] = True
    stack = xr.DataArray(np.stack([mask, boundary]).astype(np.float32), dims=["channel", "y", "x"])
    labels = instances(stack, InstancesConfig(output="p", foreground=0, boundary=1))
    assert labels.max() == 2
    assert labels[10, 6] != labels[10, 34]
    assert np.array_equal(labels.values > 0, mask)


def test_each_batch_item_is_counted_from_one():
    """Numbers start anew per item, the channel axis goes, the other coordinates stay."""
    one = prediction_of(disks((40, 40), [(20, 20)], 7), [(20, 20)], "yx")
    two = prediction_of(disks((40, 40), [(10, 10), (30, 30)], 7), [(10, 10), (30, 30)], "yx")
    stack = xr.concat([one, two], dim="batch").transpose("batch", "y", "x", "channel")
    stack = stack.assign_coords(y=np.arange(40) * 0.5)
    labels = instances(stack, CONFIG)
    assert labels.dims == ("batch", "y", "x")
    assert [int(item.max()) for item in labels] == [1, 2]
    assert float(labels.y[-1]) == 19.5


def test_empty_and_unknown_pixels():
    """No signal gives no object; NaN, as where a tile is missing, counts as background."""
    empty = xr.DataArray(
        np.zeros((2, 30, 30), np.float32), dims=["channel", "y", "x"], coords={"channel": NAMES}
    )
    assert instances(empty, CONFIG).max() == 0
    assert instances(xr.full_like(empty, np.nan), CONFIG).max() == 0
    half = prediction_of(disks((40, 40), [(20, 20)], 9), [(20, 20)], "yx")
    half[:, :, 25:] = np.nan
    labels = instances(half, CONFIG)
    assert labels.max() == 1
    assert labels[:, 25:].max() == 0


def test_small_objects_go_and_numbers_stay_consecutive():
    """`min_size` counts pixels and can be replaced by the caller."""
    centres = [(10, 10), (10, 30), (30, 20)]
    mask = disks((45, 45), centres[::2], 6) | disks((45, 45), centres[1:2], 2)
    prediction = prediction_of(mask, centres, "yx")
    assert instances(prediction, CONFIG).max() == 3
    labels = instances(prediction, CONFIG, min_size=20)
    assert np.unique(labels).tolist() == [0, 1, 2]
    assert labels[10, 30] == 0


def test_tiny_seeds_cut_nothing_but_small_objects_keep_theirs():
    """A speck over the threshold is no second object; a small object's only seed still counts."""
    centres = [(15, 15), (15, 21), (40, 40)]
    mask = disks((50, 50), centres[:2], 9) | disks((50, 50), centres[2:], 2)
    prediction = prediction_of(mask, centres[::2], "yx")
    prediction[1, 15, 25] = 0.9  # one pixel: the speck
    assert instances(prediction, CONFIG).max() == 3
    labels = instances(prediction, CONFIG.model_copy(update={"min_seed_size": 30}))
    assert labels.max() == 2
    assert labels[15, 25] == labels[15, 15]
    assert labels[40, 40] > 0


def test_holes_inside_one_object_are_filled_but_not_gaps_between_objects():
    """A nucleolus belongs to its nucleus; background enclosed by several nuclei stays."""
    centres = [(12, 12), (12, 38), (38, 12), (38, 38)]
    mask = disks((50, 50), centres, 13.5)
    mask[12, 15] = mask[11, 15] = False
    prediction = prediction_of(mask, centres, "yx")
    enclosed = ndi.binary_fill_holes(mask)[25, 25]
    labels = instances(prediction, CONFIG)
    assert enclosed
    assert labels[12, 15] == labels[12, 12]
    assert labels[25, 25] == 0
    assert instances(prediction, CONFIG, fill_holes=False)[12, 15] == 0


def test_errors_say_what_is_there():
    """A wrong channel or a missing axis is named, with what the array has."""
    stack = xr.DataArray(
        np.zeros((2, 5, 5), np.float32), dims=["channel", "y", "x"], coords={"channel": NAMES}
    )
    with pytest.raises(ValueError, match=r"'nuclei' is not in .*foreground, distance"):
        instances(stack, CONFIG.model_copy(update={"foreground": "nuclei"}))
    with pytest.raises(ValueError, match="2 without names"):
        instances(stack.drop_vars("channel"), CONFIG)
    with pytest.raises(ValueError, match="'channel' axis"):
        instances(stack.rename(channel="c"), CONFIG)


def test_config_refuses_what_it_does_not_know():
    """A misspelt field or a missing core channel must not pass in silence."""
    with pytest.raises(ValidationError, match="seed_treshold"):
        InstancesConfig(output="p", foreground=0, distance=1, seed_treshold=0.5)
    with pytest.raises(ValidationError, match="'distance'"):
        InstancesConfig(output="p", foreground=0)


def test_config_is_read_from_a_package_and_checked_against_it(builtin_nuclei):
    """Channel names become indices; wrong names are errors; no entry is no error."""
    config = read_instances_config(builtin_nuclei)
    assert (config.output, config.foreground, config.distance) == ("probability", 0, 1)

    entry = dict(builtin_nuclei.config.model_dump()["biozoo"]["instances"])
    for wrong, message in [
        ({"output": "labels"}, "'labels' is no output .* has probability"),
        ({"foreground": "cells"}, "'cells' is not in .*foreground, distance, boundary"),
        ({"seed_threshold": "high"}, "seed_threshold"),
    ]:
        changed = builtin_nuclei.config.model_copy(update={"biozoo": {"instances": entry | wrong}})
        with pytest.raises(ValueError, match=message):
            read_instances_config(builtin_nuclei.model_copy(update={"config": changed}))
    bare = builtin_nuclei.config.model_copy(update={"biozoo": None})
    assert read_instances_config(builtin_nuclei.model_copy(update={"config": bare})) is None


@pytest.fixture(scope="module")
def builtin_nuclei():
    """Description of the package that ships."""
    from pathlib import Path

    import yaml
    from bioimageio.spec import ValidationContext
    from bioimageio.spec.model.v0_5 import ModelDescr

    import biozoo.samples

    folder = Path(biozoo.samples.__file__).parent / "builtin" / "nuclei-fluo"
    with ValidationContext(root=folder, perform_io_checks=False):
        return ModelDescr.load(yaml.safe_load((folder / "rdf.yaml").read_text()))
