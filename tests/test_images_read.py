"""Reading images: what a user gets for each format, and what they are told when it fails."""

from __future__ import annotations

import errno
import json
import logging
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from numpy.typing import NDArray
from PIL import Image as Pillow

from biozoo.errors import (
    AxesError,
    ImageReadError,
    MissingFileError,
    UsageError,
)
from biozoo_runners.images import Image, find_images, is_image, open_image
from biozoo_runners.images.units import MICROMETERS, SYMBOLS, unit_word


def pixels(*shape: int, dtype: str = "uint16", seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


# --- plain TIFF -----------------------------------------------------------------------------------


def test_plain_2d_tiff_is_yx(tmp_path: Path) -> None:
    """A plain TIFF of one plane needs no axes."""
    array = pixels(20, 30)
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert (image.axes, image.shape, image.axes_source) == (("y", "x"), (20, 30), "format")
    assert image.channel_names == ()
    assert image.pixel_size == {}
    np.testing.assert_array_equal(image.read().values, array)


def test_rgb_tiff_is_yxc(tmp_path: Path) -> None:
    """A colour TIFF has channels red, green and blue, last as stored."""
    array = pixels(20, 30, 3, dtype="uint8")
    tifffile.imwrite(tmp_path / "a.tif", array, photometric="rgb", metadata=None)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == ("y", "x", "channel")
    assert image.rgb
    assert image.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(image.read().values, array)
    assert list(image.read().coords["channel"].values) == ["red", "green", "blue"]


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_alpha_of_a_tiff_is_left_out_with_a_note(tmp_path: Path, planar: str) -> None:
    """Transparency is no channel of the specimen."""
    array = pixels(*((20, 30, 4) if planar == "contig" else (4, 20, 30)), dtype="uint8")
    tifffile.imwrite(
        tmp_path / "a.tif",
        array,
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"],
        metadata=None,
    )
    image = open_image(tmp_path / "a.tif")
    assert image.sizes["channel"] == 3
    assert "transparency" in image.notes[0]
    expected = array[..., :3] if planar == "contig" else array[:3]
    np.testing.assert_array_equal(image.read().values, expected)
    np.testing.assert_array_equal(
        image.read({"channel": 1}).values, array[..., 1] if planar == "contig" else array[1]
    )


def test_plain_stack_asks_for_axes_and_says_the_shape(tmp_path: Path) -> None:
    """Whether 5 planes are z, time or channels is never guessed."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(5, 20, 30), photometric="minisblack", metadata=None)
    with pytest.raises(AxesError, match=r"5 x 20 x 30.*--axes zyx"):
        open_image(tmp_path / "a.tif")
    image = open_image(tmp_path / "a.tif", axes="tyx")
    assert (image.axes, image.axes_source) == (("time", "y", "x"), "given")


def test_axes_of_the_wrong_number_are_refused(tmp_path: Path) -> None:
    """The message has the given axes and the shape."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(20, 30))
    with pytest.raises(AxesError, match=r"'zyx' name 3 dimensions, the image has 2: 20 x 30"):
        open_image(tmp_path / "a.tif", axes="zyx")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "uint32", "float16", "float32", "f8"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_of_number_and_byte_order(
    tmp_path: Path, dtype: str, order: Literal["<", ">"]
) -> None:
    """Values arrive unchanged, in this machine's byte order; booleans as 0 and 1."""
    array = (pixels(9, 20, 30) % 2).astype(dtype)
    if dtype != "bool":
        array = (array * 7).astype(np.dtype(dtype).newbyteorder(order))
    tifffile.imwrite(
        tmp_path / "a.tif", array, byteorder=order, metadata={"axes": "ZYX"},
        photometric="minisblack",
    )  # fmt: skip
    image = open_image(tmp_path / "a.tif")
    data = image.read()
    assert data.dtype == image.dtype == (np.uint8 if dtype == "bool" else np.dtype(dtype))
    assert data.dtype.isnative
    np.testing.assert_array_equal(data.values, array)
    np.testing.assert_array_equal(image.read({"z": 4, "x": slice(3, 9)}).values, array[4, :, 3:9])


def test_complex_numbers_are_refused(tmp_path: Path) -> None:
    """There is no way to show a network a complex image; the message says what to save."""
    tifffile.imwrite(tmp_path / "a.tif", np.ones((5, 5), np.complex64))
    with pytest.raises(ImageReadError, match=r"complex64.*magnitude"):
        open_image(tmp_path / "a.tif")


# --- regions --------------------------------------------------------------------------------------

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "strips": {"compression": "zlib", "rowsperstrip": 7},
    "one strip": {"compression": "zlib", "rowsperstrip": 1000},
    "tiles": {"tile": (32, 48)},
    "compressed tiles": {"tile": (32, 48), "compression": "lzw", "predictor": 2},
    "sparse tiles": {"tile": (32, 48), "compression": "zlib"},
}
SELECTIONS: list[dict[str, int | slice]] = [
    {},
    {"z": 1},
    {"z": -1, "y": slice(10, 20)},
    {"y": slice(33, 97), "x": slice(40, 50)},
    {"y": slice(0, 90, 4), "x": slice(120, None, 3)},
    {"z": slice(1, 3), "y": 64, "x": slice(0, 10)},
    {"y": 99, "x": 129},
    {"y": slice(5, 5)},
]


def cut(array: NDArray[Any], axes: str, selection: dict[str, int | slice]) -> NDArray[Any]:
    return array[tuple(selection.get({"c": "channel"}.get(a, a), slice(None)) for a in axes)]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("samples", ["", "contig", "separate"])
def test_a_region_equals_the_same_cut_of_the_whole(
    tmp_path: Path, layout: str, samples: str
) -> None:
    """For every way to lay out a TIFF, strips and tiles, with and without colour."""
    axes = {"": "zyx", "contig": "zyxc", "separate": "zcyx"}[samples]
    shape = [{"z": 3, "y": 100, "x": 130, "c": 3}[a] for a in axes]
    array = pixels(*shape, dtype="uint8")
    if layout == "sparse tiles":
        array[...] = 0
        array[..., :3, :3] = 9
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        array,
        ome=True,
        photometric="rgb" if samples else "minisblack",
        planarconfig=samples or None,
        metadata={"axes": axes.upper().replace("C", "S")},
        **LAYOUTS[layout],
    )
    image = open_image(path)
    assert image.shape == array.shape
    wanted = SELECTIONS + ([{"channel": 1, "y": slice(50, 60)}] if samples else [])
    for selection in wanted:
        got = image.read(selection)
        np.testing.assert_array_equal(got.values, cut(array, axes, selection), str(selection))
        left = [a for a in image.axes if not isinstance(selection.get(a), int)]
        assert list(got.dims) == left


def test_a_region_decodes_only_the_tiles_it_overlaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A corner of a large image costs a corner's time and memory."""
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, pixels(4, 512, 512), tile=(64, 64), compression="zlib", ome=True,
                     photometric="minisblack", metadata={"axes": "TYX"})  # fmt: skip
    image = open_image(path)
    read = []
    original = tifffile.FileHandle.read_segments

    def spy(self: Any, offsets: Any, counts: Any, *args: Any, **options: Any) -> Any:
        read.extend(offsets)
        return original(self, offsets, counts, *args, **options)

    monkeypatch.setattr(tifffile.FileHandle, "read_segments", spy)
    image.read({"time": 2, "y": slice(60, 70), "x": slice(0, 10)})
    assert len(read) == 2


def test_a_wrong_selection_is_named() -> None:
    """An unknown axis, a position beyond the end, a negative step."""
    image = Image.from_array(pixels(3, 4), name="cells")
    with pytest.raises(AxesError, match=r"'cells' has no axis 'z': its axes are y, x"):
        image.read({"z": 0})
    with pytest.raises(AxesError, match=r"y 3 does not exist; axis 'y' has 3 positions, 0 to 2"):
        image.read({"y": 3})
    with pytest.raises(UsageError, match="step -1"):
        image.read({"y": slice(None, None, -1)})


def test_reading_is_possible_from_several_threads(tmp_path: Path) -> None:
    """Tiles may be read ahead while others are computed."""
    array = pixels(4, 128, 128)
    tifffile.imwrite(tmp_path / "a.tif", array, tile=(32, 32), compression="zlib",
                     photometric="minisblack", metadata={"axes": "ZYX"})  # fmt: skip
    image = open_image(tmp_path / "a.tif")
    wrong = []

    def work(z: int) -> None:
        for y in range(0, 128, 16):
            got = image.read({"z": z, "y": slice(y, y + 16)}).values
            if not np.array_equal(got, array[z, y : y + 16]):
                wrong.append((z, y))

    threads = [threading.Thread(target=work, args=(z,)) for z in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


# --- ImageJ and OME-TIFF --------------------------------------------------------------------------


@pytest.mark.parametrize("unit", ["micron", "um", "\\u00B5m"])
def test_imagej_hyperstack(tmp_path: Path, unit: str) -> None:
    """Axes, pixel size from pixels per unit, z spacing and frame interval."""
    array = pixels(2, 3, 4, 20, 30)
    metadata = {"axes": "TZCYX", "spacing": 2.5, "finterval": 30.0, "unit": unit}
    tifffile.imwrite(tmp_path / "a.tif", array, imagej=True, resolution=(4, 2), metadata=metadata)
    image = open_image(tmp_path / "a.tif")
    assert image.axes == ("time", "z", "channel", "y", "x")
    assert image.pixel_size == {"x": 0.25, "y": 0.5, "z": 2.5, "time": 30.0}
    assert image.unit == {
        "x": "micrometer", "y": "micrometer", "z": "micrometer", "time": "second",
    }  # fmt: skip
    assert image.channel_names == ("0", "1", "2", "3")
    np.testing.assert_array_equal(image.read({"time": 1, "channel": 2}).values, array[1, :, 2])


def test_imagej_without_unit_has_no_pixel_size(tmp_path: Path) -> None:
    """ImageJ then measures in pixels, which says nothing."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 20, 30), imagej=True, resolution=(4, 4),
                     metadata={"axes": "CYX"})  # fmt: skip
    assert open_image(tmp_path / "a.tif").pixel_size == {}


def ome(path: Path, array: NDArray[Any], axes: str, **metadata: Any) -> Path:
    tifffile.imwrite(path, array, ome=True, photometric="minisblack",
                     metadata={"axes": axes, **metadata})  # fmt: skip
    return path


def test_ome_tiff(tmp_path: Path) -> None:
    """Axes, physical sizes with units, time increment and channel names."""
    path = ome(
        tmp_path / "a.ome.tif", pixels(2, 3, 20, 30), "TCYX",
        PhysicalSizeX=65.0, PhysicalSizeXUnit="nm", PhysicalSizeY=0.1, TimeIncrement=2.0,
        TimeIncrementUnit="min", Channel={"Name": ["DAPI", "β-actin", "GFP"]},
    )  # fmt: skip
    image = open_image(path)
    assert image.axes == ("time", "channel", "y", "x")
    assert image.axes_source == "metadata"
    assert image.pixel_size == {"x": 65.0, "y": 0.1, "time": 2.0}
    assert image.unit == {"x": "nanometer", "y": "micrometer", "time": "minute"}
    assert image.channel_names == ("DAPI", "β-actin", "GFP")
    assert image.name == "a"
    data = image.read({"time": 1, "channel": 1})
    assert data.attrs["pixel_size"] == {"x": 65.0, "y": 0.1}
    assert data.attrs["channel"] == "β-actin"


def test_axes_given_win_over_the_files(tmp_path: Path) -> None:
    """What the file says of a dimension is kept only where both agree what it is."""
    path = ome(tmp_path / "a.ome.tif", pixels(4, 20, 30), "ZYX", PhysicalSizeX=0.5,
               PhysicalSizeZ=2.0)  # fmt: skip
    image = open_image(path, axes="tyx")
    assert image.axes == ("time", "y", "x")
    assert image.axes_source == "given"
    assert image.pixel_size == {"x": 0.5}


def test_series_are_scenes(tmp_path: Path) -> None:
    """The first is read, a note lists all, a wrong number is answered with what exists."""
    path = tmp_path / "a.ome.tif"
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(pixels(20, 30), metadata={"axes": "YX", "Name": "overview"})
        writer.write(pixels(3, 8, 9), photometric="minisblack",
                     metadata={"axes": "CYX", "Name": "detail", "PhysicalSizeX": 0.5})  # fmt: skip
    image = open_image(path)
    assert image.shape == (20, 30)
    assert image.scenes == ("overview", "detail")
    assert "0 (overview), 1 (detail)" in image.notes[0]
    detail = open_image(path, scene=1)
    assert (detail.shape, detail.pixel_size, detail.notes) == ((3, 8, 9), {"x": 0.5}, ())
    with pytest.raises(UsageError, match=r"no scene 2. It holds 2: 0 \(overview\), 1 \(detail\)"):
        open_image(path, scene=2)


def multi_file_ome(folder: Path) -> tuple[Path, NDArray[Any]]:
    """An OME-TIFF of two files, one plane each."""
    array = pixels(2, 20, 30)
    uuids = [f"urn:uuid:00000000-0000-0000-0000-00000000000{i}" for i in (1, 2)]
    data = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="z{z}.ome.tif">'
        f"{uuids[z]}</UUID></TiffData>"
        for z in (0, 1)
    )
    for z in (0, 1):
        xml = (
            '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="{uuids[z]}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="30" SizeY="20" SizeZ="2" SizeC="1" SizeT="1" '
            f'PhysicalSizeZ="3"><Channel ID="Channel:0:0"/>{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(folder / f"z{z}.ome.tif", array[z], description=xml, metadata=None,
                         compression="zlib", rowsperstrip=4)  # fmt: skip
    return folder / "z0.ome.tif", array


def test_ome_tiff_of_several_files(tmp_path: Path) -> None:
    """Planes come from their files; a missing file is an error, not a black plane."""
    path, array = multi_file_ome(tmp_path)
    image = open_image(path)
    assert (image.axes, image.shape) == (("z", "y", "x"), (2, 20, 30))
    np.testing.assert_array_equal(image.read().values, array)
    np.testing.assert_array_equal(image.read({"y": slice(3, 5)}).values, array[:, 3:5])
    (tmp_path / "z1.ome.tif").unlink()
    with pytest.raises(ImageReadError, match=r"planes is missing.*several files"):
        open_image(path).read()


# --- damaged TIFF ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flavour", "layout"),
    [("imagej", "plain")]
    + [(f, k) for f in ("shaped", "ome") for k in ("plain", "strips", "compressed tiles")],
)
@pytest.mark.parametrize("keep", [0.02, 0.5, 0.9, "all but 9 bytes"])
def test_a_truncated_tiff_is_an_error(
    tmp_path: Path,
    layout: str,
    flavour: str,
    keep: float | str,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Never zeros, never fewer planes, and no library's messages on the screen."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(3, 200, 200), photometric="minisblack",
                     **({flavour: True} if flavour != "shaped" else {}),  # type: ignore[arg-type]
                     metadata={"axes": "ZYX"}, **LAYOUTS[layout])  # fmt: skip
    whole = path.read_bytes()
    assert open_image(path).read().shape == (3, 200, 200)
    end = len(whole) - 9 if isinstance(keep, str) else int(len(whole) * keep)
    path.write_bytes(whole[:end])
    caplog.clear()
    if layout == "plain" and flavour != "ome" and isinstance(keep, str):
        # Only the directory of a later page is lost, which plainly stored pixels do not need.
        np.testing.assert_array_equal(open_image(path).read().values, pixels(3, 200, 200))
    else:
        with pytest.raises(ImageReadError, match=r"truncated|damaged"):
            open_image(path).read()
    assert capfd.readouterr().err == ""
    assert not [r for r in caplog.records if r.name == "tifffile"]


@pytest.mark.parametrize("layout", ["plain", "compressed tiles"])
def test_a_truncated_tiff_is_told_when_it_is_opened(tmp_path: Path, layout: str) -> None:
    """Before any pixel is read, with both sizes: a batch can skip it at once."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(200, 200), **LAYOUTS[layout])
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size - 1000])
    with pytest.raises(ImageReadError, match=rf"truncated.*byte {size:,}.* has {size - 1000:,}"):
        open_image(path)


def test_other_readers_log_messages_are_left_alone(tmp_path: Path) -> None:
    """Only what tifffile says during our reads is kept off the screen."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(20, 30))
    open_image(tmp_path / "a.tif").read()
    assert logging.getLogger("tifffile").filters == []


def test_damaged_pixels_are_an_error(tmp_path: Path) -> None:
    """A compressed strip that cannot be decoded names the file."""
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, pixels(200, 200), compression="zlib")
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 300] = bytes(300)
    path.write_bytes(data)
    with pytest.raises(ImageReadError, match=r"a\.tif: .*cannot be decoded"):
        open_image(path).read()


# --- pictures -------------------------------------------------------------------------------------


def test_grey_pictures_are_yx_and_colour_yxc(tmp_path: Path) -> None:
    """PNG and JPEG, 8 and 16 bits."""
    grey, deep, colour = (
        pixels(20, 30, dtype="u1"),
        pixels(20, 30) * 300,
        pixels(20, 30, 3, dtype="u1"),
    )
    for name, array in (("grey", grey), ("deep", deep), ("colour", colour)):
        Pillow.fromarray(array).save(tmp_path / f"{name}.png")
        image = open_image(tmp_path / f"{name}.png")
        assert image.axes == (("y", "x", "channel") if name == "colour" else ("y", "x"))
        assert image.dtype == array.dtype
        np.testing.assert_array_equal(image.read().values, array)
    Pillow.fromarray(grey).save(tmp_path / "grey.jpg")
    Pillow.fromarray(colour).save(tmp_path / "colour.jpeg")
    assert open_image(tmp_path / "grey.jpg").axes == ("y", "x")
    picture = open_image(tmp_path / "colour.jpeg")
    assert picture.channel_names == ("red", "green", "blue")
    np.testing.assert_array_equal(
        picture.read({"channel": 1, "y": slice(3, 9)}).values, picture.read().values[3:9, :, 1]
    )


def test_16_bit_colour_png_stays_16_bit(tmp_path: Path) -> None:
    """Pillow would halve it to 8 bits without a word."""
    import imagecodecs

    array = pixels(20, 30, 3) * 300
    (tmp_path / "a.png").write_bytes(imagecodecs.png_encode(array))
    image = open_image(tmp_path / "a.png")
    assert image.dtype == np.uint16
    np.testing.assert_array_equal(image.read().values, array)


@pytest.mark.parametrize("mode", ["LA", "RGBA", "P", "1"])
def test_unusual_pictures(tmp_path: Path, mode: str) -> None:
    """Transparency is left out with a note, a palette becomes colours, a bit 0 or 255."""
    colour = Pillow.fromarray(pixels(20, 30, 3, dtype="u1"))
    picture = colour.convert(mode)
    picture.save(tmp_path / "a.png")
    image = open_image(tmp_path / "a.png")
    data = image.read().values
    if mode in ("LA", "1"):
        assert image.axes == ("y", "x")
        np.testing.assert_array_equal(data, np.array(picture.convert("L")))
    else:
        assert image.axes == ("y", "x", "channel")
        np.testing.assert_array_equal(data, np.array(picture.convert("RGB")))
    assert bool(image.notes) == mode.endswith("A")
    assert image.dtype == np.uint8


def test_a_camera_rotation_is_applied(tmp_path: Path) -> None:
    """The image lies as every viewer shows it, and a note says that it was turned."""
    array = np.zeros((16, 32), np.uint8)
    array[:, :16] = 255
    exif = Pillow.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    Pillow.fromarray(array).save(tmp_path / "a.jpg", exif=exif, quality=95)
    image = open_image(tmp_path / "a.jpg")
    assert image.shape == (32, 16)
    assert "turned" in image.notes[0]
    data = image.read().values
    assert data[:15].min() > 200
    assert data[17:].max() < 50


@pytest.mark.parametrize("name", ["a.png", "a.jpg"])
def test_a_truncated_picture_is_an_error(tmp_path: Path, name: str) -> None:
    """Half a picture is not filled up with grey."""
    Pillow.fromarray(pixels(200, 200, dtype="u1")).save(tmp_path / name)
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageReadError, match="truncated"):
        open_image(tmp_path / name).read()


# --- npy and arrays -------------------------------------------------------------------------------


def test_npy(tmp_path: Path) -> None:
    """Two dimensions are yx; more need axes."""
    np.save(tmp_path / "a.npy", pixels(20, 30))
    assert open_image(tmp_path / "a.npy").axes == ("y", "x")
    array = pixels(2, 3, 20, 30).astype(">u2")
    np.save(tmp_path / "b.npy", array)
    with pytest.raises(AxesError, match=r"2 x 3 x 20 x 30.*--axes czyx"):
        open_image(tmp_path / "b.npy")
    image = open_image(tmp_path / "b.npy", axes="tcyx")
    np.testing.assert_array_equal(image.read({"time": 1, "x": slice(4)}).values, array[1, :, :, :4])
    assert image.read().dtype.isnative


def test_npy_of_python_objects_is_not_unpickled(tmp_path: Path) -> None:
    """Unpickling would run code of the file."""
    np.save(tmp_path / "a.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ImageReadError, match="objects"):
        open_image(tmp_path / "a.npy")


def test_from_array() -> None:
    """A DataArray brings its axes, names and sizes; a numpy array needs axes."""
    array = xr.DataArray(
        pixels(2, 20, 30),
        dims=("channel", "y", "x"),
        coords={"channel": ["DAPI", "GFP"]},
        attrs={"pixel_size": {"x": 0.5}, "unit": {"x": "micrometer"}, "name": "cells"},
    )
    image = Image.from_array(array)
    assert (image.axes, image.channel_names) == (("channel", "y", "x"), ("DAPI", "GFP"))
    assert (image.pixel_size, image.name) == ({"x": 0.5}, "cells")
    xr.testing.assert_identical(image.read().drop_attrs(), array.drop_attrs().rename("cells"))
    assert image.read().attrs["unit"] == {"x": "micrometer"}
    with pytest.raises(AxesError, match="2 x 20 x 30"):
        Image.from_array(array.values)
    assert Image.from_array(array.values, "tyx").axes == ("time", "y", "x")


# --- OME-Zarr -------------------------------------------------------------------------------------


def ome_zarr(path: Path, array: NDArray[Any], axes: list[Any], version: str = "0.5",
             scale: list[float] | None = None, **more: Any) -> Path:  # fmt: skip
    """An image as other software writes it, with one level."""
    v3 = version == "0.5"
    group: Any = zarr.open_group(path, mode="w", zarr_format=3 if v3 else 2)
    group.create_array("0", data=array, chunks=tuple(min(n, 16) for n in array.shape))
    transform = [{"type": "scale", "scale": scale or [1.0] * array.ndim}]
    facts = {
        "multiscales": [
            {"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": transform}]}
        ],
        **more,
    }
    group.attrs.update({"ome": {"version": "0.5", **facts}} if v3 else facts)
    return path


CZYX = [
    {"name": "c", "type": "channel"},
    {"name": "z", "type": "space", "unit": "micrometer"},
    {"name": "y", "type": "space", "unit": "micrometer"},
    {"name": "x", "type": "space", "unit": "micrometer"},
]


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path: Path, version: str) -> None:
    """Axes, pixel size, unit and channel names of both versions; regions are read lazily."""
    array = pixels(2, 3, 20, 30)
    path = ome_zarr(tmp_path / "a.ome.zarr", array, CZYX, version, [1.0, 2.0, 0.5, 0.5],
                    omero={"channels": [{"label": "DAPI"}, {"label": "GFP"}]})  # fmt: skip
    image = open_image(path)
    assert image.axes == ("channel", "z", "y", "x")
    assert image.channel_names == ("DAPI", "GFP")
    assert image.pixel_size == {"z": 2.0, "y": 0.5, "x": 0.5}
    assert image.unit["z"] == "micrometer"
    np.testing.assert_array_equal(image.read().values, array)
    for selection in ({"channel": 1, "y": slice(3, 19, 5)}, {"z": -1}, {"x": 29, "y": slice(4, 4)}):
        got = image.read(selection)  # type: ignore[arg-type]
        np.testing.assert_array_equal(got.values, cut(array, "czyx", selection))  # type: ignore[arg-type]


def test_ome_zarr_scale_one_without_unit_is_unknown(tmp_path: Path) -> None:
    """A scale of 1 without a unit is what software writes that knows nothing."""
    axes = [{"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    path = ome_zarr(tmp_path / "a.zarr", pixels(8, 9), axes, scale=[1.0, 0.5])
    image = open_image(path)
    assert image.pixel_size == {"x": 0.5}
    assert image.unit == {}


def test_ome_zarr_scales_of_level_and_image_are_multiplied(tmp_path: Path) -> None:
    """Both may be given; 0.5 names the second one as the place for what all levels share."""
    path = ome_zarr(tmp_path / "a.zarr", pixels(8, 9), CZYX[2:], scale=[1.0, 2.0])
    node = json.loads((path / "zarr.json").read_text())
    common = [{"type": "scale", "scale": [0.25, 0.25]}]
    node["attributes"]["ome"]["multiscales"][0]["coordinateTransformations"] = common
    (path / "zarr.json").write_text(json.dumps(node))
    assert open_image(path).pixel_size == {"y": 0.25, "x": 0.5}


def test_ome_zarr_axis_that_biozoo_does_not_know(tmp_path: Path) -> None:
    """An angle is no z; the axes can be given."""
    axes = [{"name": "angle"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]
    path = ome_zarr(tmp_path / "a.zarr", pixels(4, 8, 9), axes)
    with pytest.raises(AxesError, match=r"4 x 8 x 9.*angle"):
        open_image(path)
    assert open_image(path, axes="zyx").axes == ("z", "y", "x")


def test_bioformats2raw_series_are_scenes(tmp_path: Path) -> None:
    """Each numbered group is a scene."""
    root = tmp_path / "a.zarr"
    group: Any = zarr.open_group(root, mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    yx = CZYX[2:]
    ome_zarr(root / "0", pixels(8, 9), yx, "0.4")
    ome_zarr(root / "1", pixels(5, 6), yx, "0.4")
    assert open_image(root).shape == (8, 9)
    assert open_image(root).scenes == ("0", "1")
    assert open_image(root, scene=1).shape == (5, 6)


def test_what_is_no_ome_zarr_image_says_what_to_name(tmp_path: Path) -> None:
    """A plate, a list of labels, a bare array, an empty folder, missing pixels."""
    path = ome_zarr(tmp_path / "a.zarr", pixels(8, 9), CZYX[2:])
    with pytest.raises(
        ImageReadError, match=r"bare Zarr array. Name the folder above it, .*a\.zarr"
    ):
        open_image(path / "0")
    plate: Any = zarr.open_group(tmp_path / "p.zarr", mode="w", zarr_format=2)
    plate.attrs["plate"] = {"wells": [{"path": "B/03"}]}
    with pytest.raises(ImageReadError, match=r"plate of 1 wells.*p\.zarr/B/03/0"):
        open_image(tmp_path / "p.zarr")
    labels: Any = zarr.open_group(path / "labels", mode="w", zarr_format=3)
    labels.attrs["ome"] = {"labels": ["nuclei"]}
    with pytest.raises(ImageReadError, match="labels/nuclei"):
        open_image(path / "labels")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ImageReadError, match="without OME-Zarr metadata"):
        open_image(tmp_path / "empty")
    (path / "0").rename(path / "gone")
    with pytest.raises(ImageReadError, match="missing"):
        open_image(path)
    (path / "zarr.json").write_text("{not json")
    with pytest.raises(ImageReadError, match=r"metadata cannot be understood"):
        open_image(path)


# --- finding and refusing files -------------------------------------------------------------------


def test_a_missing_file_offers_similar_names(tmp_path: Path) -> None:
    """A typing mistake is the usual cause."""
    np.save(tmp_path / "cells_01.npy", pixels(3, 3))
    with pytest.raises(MissingFileError, match=r"cells_1\.npy does not exist.*cells_01\.npy"):
        open_image(tmp_path / "cells_1.npy")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tif", b"", "empty"),
        ("a.tif", b"<!DOCTYPE html><html>", "web page"),
        ("a.png", b"hello", r"its name ends in \.png"),
        ("a.dv", b"hello", r"\.dv.*TIFF, OME-TIFF.*CZI, LIF, ND2.*Fiji"),
        ("a", b"hello", "kind is not known"),
        ("a.tif", b"II*\0", "truncated"),
    ],
)
def test_what_is_no_image_is_refused_with_a_reason(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    """The reason is in plain words."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ImageReadError, match=says):
        open_image(tmp_path / name)


def test_a_file_is_read_by_its_content(tmp_path: Path) -> None:
    """A PNG that is called .tif is still a PNG."""
    Pillow.fromarray(pixels(20, 30, dtype="u1")).save(tmp_path / "a.tif", format="PNG")
    assert open_image(tmp_path / "a.tif").shape == (20, 30)


def test_find_images(tmp_path: Path) -> None:
    """Files, folders and globs; hidden files and other files are left out, each image once."""
    for name in ("b.tif", "a.png", ".hidden.tif", "notes.txt", "c.labels.ome.tif"):
        (tmp_path / name).write_bytes(b"x")
    ome_zarr(tmp_path / "z.ome.zarr", pixels(8, 9), CZYX[2:])
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "d.npy").write_bytes(b"x")
    listed = [p.name for p in find_images([tmp_path])]
    assert listed == ["a.png", "b.tif", "c.labels.ome.tif", "z.ome.zarr"]
    assert [p.name for p in find_images([tmp_path / "*.tif", tmp_path / "b.tif"])] == [
        "b.tif", "c.labels.ome.tif",
    ]  # fmt: skip
    assert find_images([tmp_path / "notes.txt"]) == [tmp_path / "notes.txt"]  # opening says why not
    everything = [p.name for p in find_images([str(tmp_path / "**" / "*")])]
    assert everything == ["a.png", "b.tif", "c.labels.ome.tif", "d.npy", "z.ome.zarr"]
    assert is_image(tmp_path / "z.ome.zarr")
    assert not is_image(tmp_path / "sub")
    assert not is_image(tmp_path / "gone.tif")


def test_find_images_that_finds_nothing_says_what_was_looked_for(tmp_path: Path) -> None:
    """A missing file, an empty folder, a glob without a match."""
    for pattern, says in (
        ("gone.tif", "gone.tif does not exist"),
        (".", "An image in the folder .* does not exist. Folders in it are not searched"),
        (
            "*.tif",
            r"An image that matches .*\*\.tif does not exist. Names of images end in .*\.npy",
        ),
    ):
        with pytest.raises(MissingFileError, match=says):
            find_images([tmp_path / pattern])


def test_a_folder_that_may_not_be_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a folder of images nor an image in it gives a traceback."""

    def refuse(self: Path, **kwargs: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", refuse)
    for act in (lambda p: find_images([p]), open_image):
        with pytest.raises(ImageReadError, match="there is no permission to read it"):
            act(tmp_path / "secret" / "cells.png")


def test_a_file_name_with_brackets_is_no_glob(tmp_path: Path) -> None:
    """Microscopes write such names."""
    np.save(tmp_path / "cells [1].npy", pixels(3, 3))
    assert find_images([tmp_path / "cells [1].npy"]) == [tmp_path / "cells [1].npy"]


# --- units and imports ----------------------------------------------------------------------------


def test_units_are_those_of_the_spec() -> None:
    """Every word of bioimageio.spec has a symbol, and every symbol leads back to its word."""
    from typing import get_args

    from bioimageio.spec.model import v0_5

    assert set(SYMBOLS) == {*get_args(v0_5.SpaceUnit), *get_args(v0_5.TimeUnit)}
    for word, symbol in SYMBOLS.items():
        assert unit_word(symbol) == unit_word(word) == word
    assert unit_word("pixel") is None
    assert unit_word("") is None
    assert set(MICROMETERS) < set(get_args(v0_5.SpaceUnit))
    some = {"meter": 1e6, "centimeter": 1e4, "micrometer": 1, "nanometer": 1e-3, "picometer": 1e-6}
    assert {word: MICROMETERS[word] for word in some} == some


def test_reading_a_tiff_imports_no_heavy_library(tmp_path: Path) -> None:
    """zarr, scipy, scikit-image and the like cost start-up time that a TIFF does not need."""
    tifffile.imwrite(tmp_path / "a.tif", pixels(3, 64, 64), tile=(32, 32), compression="zlib",
                     photometric="minisblack", metadata={"axes": "ZYX"})  # fmt: skip
    code = (
        "import sys; from biozoo_runners.images import open_image\n"
        "assert not {'xarray', 'tifffile', 'PIL'} & set(sys.modules)\n"
        f"image = open_image({str(tmp_path / 'a.tif')!r})\n"
        "assert 'xarray' not in sys.modules\n"
        "image.read(); image.read({'z': 1, 'y': slice(0, 9)})\n"
        "heavy = {'zarr', 'numcodecs', 'scipy', 'skimage', 'torch', 'PIL', 'bioimageio'}\n"
        # where dask is installed ([bioio]), xarray imports it, and dask scipy
        "heavy -= {'scipy'} if 'dask' in sys.modules else set()\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False,
                          env={"PYTHONPATH": ":".join(p for p in sys.path if p)})  # fmt: skip
    assert done.stdout.strip() == "[]", done.stderr


def test_a_plug_in_reader_is_asked_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point of biozoo.images opens what no built-in reader claims."""
    from biozoo import plugins
    from biozoo_runners.images import readers

    class Reader:
        suffixes = (".xyz",)

        def claims(self, path: Path, head: bytes) -> bool:
            return head.startswith(b"XYZ")

        def open(self, path: Path, *, axes: object, scene: object) -> Image:
            return Image.from_array(pixels(4, 5))

    found = plugins.Plugins({"xyz": Reader(), "odd": object()}, {"bad": "it has a bug"})
    monkeypatch.setattr(plugins, "load_group", lambda group: found)
    readers._plugins.cache_clear()
    try:
        (tmp_path / "a.xyz").write_bytes(b"XYZ")
        assert open_image(tmp_path / "a.xyz").shape == (4, 5)
        assert find_images([tmp_path]) == [tmp_path / "a.xyz"]
        (tmp_path / "a.qqq").write_bytes(b"QQQ")
        with pytest.raises(
            ImageReadError, match=r"bad could not be loaded: it has a bug.*plug-in odd"
        ):
            open_image(tmp_path / "a.qqq")
    finally:
        readers._plugins.cache_clear()


def test_metadata_json_of_a_store_may_hold_no_attributes(tmp_path: Path) -> None:
    """An empty Zarr group is no image, and is said to be none."""
    (tmp_path / "a.zarr").mkdir()
    (tmp_path / "a.zarr" / "zarr.json").write_text(json.dumps({"node_type": "group"}))
    with pytest.raises(ImageReadError, match="without OME-Zarr metadata"):
        open_image(tmp_path / "a.zarr")


def test_names_given_for_an_array_are_kept() -> None:
    image = Image.from_array(np.zeros((2, 5, 6)), "cyx", channel_names=("DAPI", "actin"))
    assert image.channel_names == ("DAPI", "actin")
    assert image.axes_source == "given"
