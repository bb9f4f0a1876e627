"""Measurements of objects: true numbers in named units, of planes, volumes and series."""

from __future__ import annotations

import csv
import errno
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr

from biozoo.errors import (
    AxesError,
    ImageMismatchError,
    ImageReadError,
    MissingFileError,
    StorageError,
    UsageError,
)
from biozoo_runners import write_image
from biozoo_runners.images import atomic
from biozoo_runners.measuring import measure, write_table
from command import run_zoo

Array = np.ndarray[Any, Any]


def image(pixels: Array, dims: str, names: tuple[str, ...] = (), **um: float) -> xr.DataArray:
    letters = {"t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}
    return xr.DataArray(
        pixels,
        dims=[letters[d] for d in dims],
        coords={"channel": list(names)} if names else {},
        attrs={"pixel_size": um, "unit": dict.fromkeys(um, "micrometer")},
    )


def rows(labels: xr.DataArray, *args: Any, **options: Any) -> list[dict[str, float]]:
    measured = measure(labels, *args, **options)
    return [dict(zip(measured.columns, row, strict=True)) for row in measured.rows]


@pytest.fixture
def disk_and_box() -> Array:
    """A disk of radius 20 as number 3, a box of 4 x 10 as number 7."""
    y, x = np.mgrid[:100, :120]
    labels = np.where((y - 40) ** 2 + (x - 30) ** 2 <= 400, 3, 0).astype(np.int32)
    labels[80:84, 60:70] = 7
    return labels


def test_shape_and_place_of_known_objects(disk_and_box: Array) -> None:
    disk, box = rows(image(disk_and_box, "yx", y=0.5, x=0.5))
    assert (disk["label"], box["label"]) == (3, 7)
    assert disk["area_px"] == (disk_and_box == 3).sum()
    assert disk["area_um2"] == disk["area_px"] / 4
    assert (disk["centroid_y_px"], disk["centroid_x_px"]) == (40, 30)
    assert (disk["centroid_y_um"], disk["centroid_x_um"]) == (20, 15)
    assert disk["perimeter_px"] == pytest.approx(2 * math.pi * 20, rel=0.05)
    assert disk["perimeter_um"] == disk["perimeter_px"] / 2
    assert disk["eccentricity"] == pytest.approx(0, abs=0.1)
    assert disk["solidity"] > 0.95
    assert (box["area_px"], box["solidity"]) == (40, 1)
    assert [box[f"bbox_{c}_px"] for c in ("min_y", "min_x", "max_y", "max_x")] == [80, 60, 84, 70]
    assert box["major_axis_px"] > 2 * box["minor_axis_px"]
    assert box["eccentricity"] > 0.9


def test_intensities_per_channel_are_named_after_it(disk_and_box: Array) -> None:
    pixels = np.zeros((2, 100, 120), np.uint16)
    pixels[0, disk_and_box == 7] = 40
    pixels[1, disk_and_box == 7] = np.arange(40)
    _, box = rows(image(disk_and_box, "yx"), image(pixels, "cyx", ("DAPI", "my GFP")))
    assert box["intensity_mean_DAPI"] == 40
    found = [box[f"intensity_{kind}_my_GFP"] for kind in ("mean", "min", "max")]
    assert found == [19.5, 0, 39]
    alone = rows(image(disk_and_box, "yx"), image(pixels[0], "yx"))[1]
    assert alone["intensity_max"] == 40


def test_no_micrometres_without_a_pixel_size_and_no_lengths_of_oblong_pixels(
    disk_and_box: Array,
) -> None:
    bare = measure(image(disk_and_box, "yx")).columns
    assert not [column for column in bare if "_um" in column]
    oblong = measure(image(disk_and_box, "yx", y=1.0, x=0.5)).columns
    assert {"area_um2", "centroid_x_um"} <= set(oblong)
    assert "perimeter_um" not in oblong
    of_image = measure(image(disk_and_box, "yx"), image(disk_and_box, "yx", y=2, x=2)).columns
    assert "perimeter_um" in of_image


def test_planes_and_time_points_are_measured_each_by_itself(disk_and_box: Array) -> None:
    stack = np.stack([disk_and_box, disk_and_box * 0, disk_and_box])
    found = rows(image(np.stack([stack, stack]), "tzyx"), volume=False)
    assert [(r["time"], r["z"], r["label"]) for r in found] == [
        (t, z, n) for t in (0, 1) for z in (0, 2) for n in (3, 7)
    ]
    series = rows(image(stack, "tyx"))
    assert [(r["time"], r["label"]) for r in series] == [(0, 3), (0, 7), (2, 3), (2, 7)]


def test_a_volume_has_volumes_and_nothing_that_is_of_a_plane() -> None:
    labels = np.zeros((10, 20, 20), np.uint16)
    labels[2:6, 5:10, 5:15] = 1
    pixels = np.zeros(labels.shape, np.uint8)
    pixels[3, labels[3] == 1] = 8
    [one] = rows(image(labels, "zyx", z=2.0, y=0.5, x=0.5), image(pixels, "zyx"), volume=True)
    assert (one["volume_px"], one["volume_um3"]) == (200, 100)
    assert (one["centroid_z_px"], one["centroid_z_um"]) == (3.5, 7)
    assert (one["bbox_min_z_px"], one["bbox_max_z_px"]) == (2, 6)
    assert one["intensity_mean"] == 2
    assert not {"area_px", "perimeter_px", "eccentricity", "solidity"} & set(one)


def test_what_several_planes_are_has_to_be_said(disk_and_box: Array) -> None:
    with pytest.raises(UsageError, match=r"has 2 planes\. Say whether an object goes through them"):
        measure(image(np.stack([disk_and_box] * 2), "zyx"))


@pytest.mark.parametrize("number", [2**32 - 1, 2**63])
def test_a_huge_number_takes_no_huge_memory(number: int) -> None:
    """Regionprops alone would make a list as long as the largest number."""
    labels = np.zeros((30, 30), np.uint64)
    labels[5:10, 5:10], labels[20:25, 20:25] = number, 4
    found = rows(image(labels, "yx"))
    assert [(r["label"], r["area_px"]) for r in found] == [(4, 25), (number, 25)]


def test_no_objects_and_a_pixel_alone(tmp_path: Path) -> None:
    assert rows(image(np.zeros((5, 5), np.uint8), "yx")) == []
    dot = np.zeros((5, 5), np.uint8)
    dot[2, 2] = 1
    assert [r["area_px"] for r in rows(image(dot, "yx"))] == [1]
    assert [r["area_px"] for r in rows(image(np.ones((5, 5), np.uint8), "yx"))] == [25]


def test_what_does_not_fit_is_a_sentence(disk_and_box: Array) -> None:
    labels = image(disk_and_box, "yx")
    with pytest.raises(
        ImageMismatchError, match=r"has 90 positions along x, the labels .* have 120"
    ):
        measure(labels, image(disk_and_box[:, :90], "yx"))
    with pytest.raises(ImageMismatchError, match="has 3 positions along z"):
        measure(labels, image(np.stack([disk_and_box] * 3), "zyx"))
    with pytest.raises(ImageReadError, match="labels are whole numbers"):
        measure(image(disk_and_box.astype(float), "yx"))
    with pytest.raises(ImageReadError, match="numbers below 0"):
        rows(image(-disk_and_box, "yx"))
    with pytest.raises(AxesError, match=r"labels are planes \(y, x\)"):
        measure(image(np.stack([disk_and_box] * 2), "cyx"))
    with pytest.raises(MissingFileError):
        measure("nowhere.tif")


def test_a_full_disk_leaves_no_half_table(
    disk_and_box: Array, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    with pytest.raises(StorageError, match="the disk is full"):
        write_table(tmp_path / "a.csv", measure(image(disk_and_box, "yx")))
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------ on the command line


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk_and_box: Array) -> None:
    monkeypatch.chdir(tmp_path)
    write_image("labels.ome.tif", image(disk_and_box, "yx"))
    write_image("cells.ome.tif", image(disk_and_box.astype(np.uint8) * 2, "yx"))
    write_image("stack.ome.tif", image(np.stack([disk_and_box] * 2), "zyx"))


def test_zoo_measure_writes_the_table(files: None) -> None:
    options = ("--image", "cells.ome.tif", "--pixel-size", "0.5", "-o", "out.csv")
    assert run_zoo("measure", "labels.ome.tif", *options).stdout == "out.csv\n"
    with open("out.csv", encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["label"] for row in found] == ["3", "7"]
    assert (found[1]["area_um2"], found[1]["intensity_mean"]) == ("10", "14")


def test_zoo_measure_asks_what_planes_are(files: None) -> None:
    told = run_zoo("measure", "stack.ome.tif", "-o", "a.csv", code=2).stderr
    assert "2 planes. Say whether" in told
    assert not Path("a.csv").exists()
    run_zoo("measure", "stack.ome.tif", "-o", "a.csv", "--planes")
    assert len(Path("a.csv").read_text().splitlines()) == 5
    run_zoo("measure", "stack.ome.tif", "-o", "a.csv", "--volume")
    assert len(Path("a.csv").read_text().splitlines()) == 3
    assert (
        "End the name in .csv" in run_zoo("measure", "stack.ome.tif", "-o", "a.txt", code=2).stderr
    )


@pytest.mark.parametrize("size", ["0", "-1", "y=0.5,q=1", "wide", "y=0.5,y=0.5", "nan", "z=inf"])
def test_a_wrong_pixel_size_is_wrong_use(files: None, size: str) -> None:
    arguments = ("measure", "labels.ome.tif", "-o", "a.csv", f"--pixel-size={size}")
    assert "cannot be understood. Give micrometres" in run_zoo(*arguments, code=2).stderr
