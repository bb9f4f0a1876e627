"""The real files of ../shared: each opens with the axes, sizes and names that it declares."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image as Pillow

from biozoo_runners.images import find_images, open_image, write_image

pytestmark = pytest.mark.shared


def test_imagej_hyperstack(shared: Path) -> None:
    """Two channels of fluorescence, without a pixel size."""
    path = shared / "data/instanseg_examples/Fluorescence_example.tif"
    image = open_image(path)
    assert (image.axes, image.shape) == (("channel", "y", "x"), (2, 450, 450))
    assert image.dtype == np.uint8
    assert image.pixel_size == {}
    assert not image.rgb
    np.testing.assert_array_equal(image.read().values, tifffile.imread(path))


def test_jpeg_compressed_ome_tiff(shared: Path, tmp_path: Path) -> None:
    """H&E: colour, half a micrometer per pixel; a region equals the cut of the whole."""
    path = shared / "data/instanseg_examples/HE_example.tif"
    image = open_image(path)
    assert (image.axes, image.shape) == (("y", "x", "channel"), (1484, 1380, 3))
    assert image.rgb
    assert image.pixel_size == pytest.approx({"x": 0.50008, "y": 0.50008}, rel=1e-4)
    assert image.unit == {"x": "micrometer", "y": "micrometer"}
    whole = image.read()
    assert 150 < float(whole.mean()) < 250  # bright field
    region = image.read({"y": slice(700, 900), "x": slice(500, 555)})
    np.testing.assert_array_equal(region.values, whole.values[700:900, 500:555])
    back = open_image(write_image(tmp_path / "a.ome.tif", whole))
    assert back.pixel_size == image.pixel_size
    np.testing.assert_array_equal(back.read().values, whole.values)


def test_planar_ome_tiff(shared: Path) -> None:
    """Three planes that are the colours of one picture; a time increment of 0 is unknown."""
    image = open_image(shared / "data/ome_tiff/test_image.ome.tif")
    assert (image.axes, image.shape) == (("channel", "y", "x"), (3, 513, 639))
    assert image.channel_names == ("red", "green", "blue")
    assert image.pixel_size == {"x": 1.0, "y": 1.0}
    assert image.unit["x"] == "micrometer"


@pytest.mark.parametrize("kind", ["fluo", "stained"])
def test_nuclei_and_their_labels(shared: Path, kind: str) -> None:
    """PNG and the TIFF of its labels have the same plane; grey is yx, colour yxc."""
    folder = shared / "data/nuclei" / kind
    found = find_images([folder / "images"])
    assert len(found) == (200 if kind == "fluo" else 60)
    for path in found[:5]:
        image = open_image(path)
        assert image.axes == (("y", "x") if kind == "fluo" else ("y", "x", "channel"))
        np.testing.assert_array_equal(image.read().values, np.array(Pillow.open(path)))
        labels = open_image(folder / "labels" / f"{path.stem}.tif")
        assert (labels.axes, labels.dtype) == (("y", "x"), np.dtype("uint16"))
        assert labels.shape == image.shape[:2]
        assert int(labels.read().max()) >= 5


def stores(root: Path) -> list[Path]:
    return sorted(p for p in (root / "data/ome_zarr").rglob("*.ome.zarr") if p.is_dir())


def test_every_ome_zarr(shared: Path) -> None:
    """Axes, shape and pixels as the store's own metadata and zarr have them, for 0.4 and 0.5."""
    found = stores(shared)
    assert len(found) == 10
    for path in found:
        v3 = (path / "zarr.json").is_file()
        facts: dict[str, Any] = json.loads((path / ("zarr.json" if v3 else ".zattrs")).read_text())
        facts = facts["attributes"]["ome"] if v3 else facts
        array: Any = zarr.open_array(path / "0", mode="r")
        image = open_image(path)
        names = {"t": "time", "c": "channel"}
        declared = [names.get(a["name"], a["name"]) for a in facts["multiscales"][0]["axes"]]
        assert list(image.axes) == declared, path
        assert image.shape == array.shape
        assert image.pixel_size == {}
        labels = [c["label"] for c in facts.get("omero", {}).get("channels", [])]
        if labels:
            assert list(image.channel_names) == labels
        np.testing.assert_array_equal(image.read().values, array[...])
        corner = image.read({"y": slice(3, 9), "x": 5})
        np.testing.assert_array_equal(corner.values, array[..., 3:9, 5])


def test_ome_zarr_to_ome_tiff_and_back(shared: Path, tmp_path: Path) -> None:
    """Five dimensions survive the way through both formats."""
    (path,) = [p for p in stores(shared) if p.name.startswith("5d") and "v5" in p.name]
    data = open_image(path).read()
    tiff = open_image(write_image(tmp_path / "a.ome.tif", data))
    assert tiff.axes == ("time", "channel", "z", "y", "x")
    assert tiff.channel_names == ("lynEGFP", "NLStdTomato", "lynEGFP")
    back = open_image(write_image(tmp_path / "b.ome.zarr", tiff.read()))
    np.testing.assert_array_equal(back.read().values, data.values)
    assert back.channel_names == tiff.channel_names
