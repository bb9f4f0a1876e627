"""Writing images: what was written is what is read back, and nothing half-written is left."""

from __future__ import annotations

import builtins
import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow

from biozoo.errors import AxesError, ImageMismatchError, StorageError, UsageError
from biozoo_runners.images import open_image, preview, write_image
from biozoo_runners.images.units import SYMBOLS

AXES = ("time", "channel", "z", "y", "x")
NO_LENGTH = ("day", "hour", "minute")
LENGTHS = sorted(w for w in SYMBOLS if not w.endswith("second") and w not in NO_LENGTH)
TIMES = sorted(set(SYMBOLS) - set(LENGTHS))
OME_TYPES = ["uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"]


@st.composite
def images(draw: st.DrawFn, dtypes: list[str]) -> xr.DataArray:
    """Images over any axes in any order, with what is known about them."""
    planes = [AXES[:2] + AXES[3:], AXES[1:2] + AXES[3:], AXES[:1] + AXES[3:]]  # tcyx, cyx, tyx
    some = [AXES[i:] for i in range(4)] + planes
    axes = draw(st.permutations(draw(st.sampled_from(some))))
    shape = [draw(st.integers(2, 4)) for _ in axes]
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(0, 100, shape)
    data = xr.DataArray(values.astype(draw(st.sampled_from(dtypes))), dims=axes)
    if "channel" in axes and draw(st.booleans()):
        name = st.text(st.characters(exclude_categories=["Cs", "Cc", "Cn"]), min_size=1, max_size=9)
        names = st.lists(name.filter(str.strip), min_size=data.sizes["channel"],
                         max_size=data.sizes["channel"])  # fmt: skip
        data = data.assign_coords(channel=[n.strip() for n in draw(names)])
    sizes, units = {}, {}
    for axis in set(axes) - {"channel"}:
        if draw(st.booleans()):
            sizes[axis] = draw(st.floats(1e-6, 1e6).filter(lambda v: v != 1))
            units[axis] = draw(st.sampled_from(TIMES if axis == "time" else LENGTHS))
    data.attrs.update(name="β cells", pixel_size=sizes, unit=units)
    return data


def assert_same(written: xr.DataArray, read: xr.DataArray) -> None:
    np.testing.assert_array_equal(read.transpose(*written.dims).values, written.values)
    assert read.dtype == written.dtype
    assert read.attrs["pixel_size"] == pytest.approx(written.attrs["pixel_size"])
    assert read.attrs["unit"] == written.attrs["unit"]
    if "channel" in written.dims:
        names = written.coords["channel"] if "channel" in written.coords else range(99)
        expected = [str(getattr(n, "item", lambda n=n: n)()) for n in names]
        assert list(read.coords["channel"].values) == expected[: written.sizes["channel"]]


FIXTURE = [HealthCheck.function_scoped_fixture]


@given(data=images(OME_TYPES))
@settings(max_examples=50, deadline=None, suppress_health_check=FIXTURE)
def test_ome_tiff_read_back_is_what_was_written(tmp_path: Path, data: xr.DataArray) -> None:
    """Values, type, pixel size, unit and channel names; and tifffile agrees."""
    path = write_image(tmp_path / "a.ome.tif", data)
    image = open_image(path)
    assert list(image.axes) == [a for a in AXES if a in data.dims]
    assert_same(data, image.read())
    ordered = data.transpose(*image.axes).values
    np.testing.assert_array_equal(tifffile.imread(path), ordered)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "".join(a[0].upper() for a in image.axes)
        ElementTree.fromstring(tif.ome_metadata or "")


@given(data=images([*OME_TYPES, "int64", "uint64", "float16"]))
@settings(max_examples=20, deadline=None, suppress_health_check=FIXTURE)
def test_ome_zarr_read_back_is_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, data: xr.DataArray
) -> None:
    """As OME-TIFF; the metadata keep the rules of NGFF 0.5."""
    path = write_image(tmp_path_factory.mktemp("zarr") / "a.ome.zarr", data)
    image = open_image(path)
    assert list(image.axes) == [a for a in AXES if a in data.dims]
    assert_same(data, image.read())
    check_ngff(path)


def check_ngff(path: Path) -> dict[str, Any]:
    """The rules of https://ngff.openmicroscopy.org/0.5/ that a single image must keep."""
    node = json.loads((path / "zarr.json").read_text())
    assert (node["zarr_format"], node["node_type"]) == (3, "group")
    facts: dict[str, Any] = node["attributes"]["ome"]
    assert facts["version"] == "0.5"
    (multiscale,) = facts["multiscales"]
    types = [a["type"] for a in multiscale["axes"]]
    assert 2 <= len(types) <= 5
    assert 2 <= types.count("space") <= 3
    order = {"time": 0, "channel": 1, "space": 2}
    assert types == sorted(types, key=order.__getitem__)
    assert types.count("time") <= 1
    assert types.count("channel") <= 1
    names = [a["name"] for a in multiscale["axes"]]
    sizes = []
    for dataset in multiscale["datasets"]:
        array = json.loads((path / dataset["path"] / "zarr.json").read_text())
        assert array["node_type"] == "array"
        assert array["dimension_names"] == names
        kinds = [t["type"] for t in dataset["coordinateTransformations"]]
        assert kinds in (["scale"], ["scale", "translation"])
        for transform in dataset["coordinateTransformations"]:
            assert len(transform[transform["type"]]) == len(names)
        sizes.append(np.prod(array["shape"]))
    assert sizes == sorted(sizes, reverse=True)
    if "omero" in facts:
        channels = array["shape"][names.index("c")]
        assert len(facts["omero"]["channels"]) == channels
        assert all({"color", "label", "window"} <= set(c) for c in facts["omero"]["channels"])
        assert all(
            {"min", "max", "start", "end"} == set(c["window"]) for c in facts["omero"]["channels"]
        )
    return facts


def image(*shape: int, dims: str = "yx", dtype: str = "uint16", **attrs: Any) -> xr.DataArray:
    ids = {"b": "batch", "t": "time", "c": "channel", "z": "z", "y": "y", "x": "x"}
    values = np.random.default_rng(0).integers(0, 200, shape).astype(dtype)
    return xr.DataArray(values, dims=[ids[d] for d in dims], attrs=attrs)


# --- OME-TIFF -------------------------------------------------------------------------------------


def test_colour_is_written_as_colour(tmp_path: Path) -> None:
    """Viewers show a picture, not three grey channels."""
    data = image(3, 20, 30, dims="cyx", dtype="uint8").assign_coords(
        channel=["red", "green", "blue"]
    )
    back = open_image(write_image(tmp_path / "a.ome.tif", data))
    assert back.rgb
    np.testing.assert_array_equal(back.read().transpose(*data.dims).values, data.values)
    with tifffile.TiffFile(back.path or "") as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.RGB
    stack = image(2, 20, 30, 3, dims="zyxc", dtype=">u2").assign_coords(channel=data.channel)
    back = open_image(write_image(tmp_path / "b.ome.tif", stack))
    assert back.axes == ("z", "y", "x", "channel")
    np.testing.assert_array_equal(back.read().values, stack.values)


def test_the_name_of_the_only_channel_is_kept(tmp_path: Path) -> None:
    """OME-TIFF cannot tell one channel from none, but its name is carried over."""
    data = image(1, 20, 30, dims="cyx").assign_coords(channel=["DAPI"])
    back = open_image(write_image(tmp_path / "a.ome.tif", data))
    assert (back.axes, back.channel_names, back.channel) == (("y", "x"), (), "DAPI")
    again = open_image(write_image(tmp_path / "b.ome.tif", back.read()))
    assert again.channel == "DAPI"


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [("int64", "int32"), ("uint64", "int32"), ("float16", "float32"), ("bool", "uint8")],
)
def test_types_that_ome_lacks_are_widened_without_loss(
    tmp_path: Path, dtype: str, stored: str
) -> None:
    """Labels of skimage and scipy are int64."""
    data = image(20, 30, dtype=dtype)
    back = open_image(write_image(tmp_path / "a.ome.tif", data)).read()
    assert back.dtype == stored
    np.testing.assert_array_equal(back.values, data.values)


def test_values_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    """Not cut off in silence."""
    data = xr.DataArray(np.array([[0, 2**40]]), dims=("y", "x"))
    with pytest.raises(ImageMismatchError, match=r"32 bits.*0 to 1099511627776.*\.ome\.zarr"):
        write_image(tmp_path / "a.ome.tif", data)
    high = write_image(tmp_path / "b.ome.tif", data // 2**9)
    assert open_image(high).dtype == np.uint32
    assert open_image(write_image(tmp_path / "a.ome.zarr", data)).read().values.max() == 2**40
    with pytest.raises(ImageMismatchError, match="complex"):
        write_image(tmp_path / "c.ome.tif", data.astype(complex))


def test_a_large_image_is_tiled(tmp_path: Path) -> None:
    """So that a viewer, or our own next run, reads a corner without the rest."""
    data = image(2, 2100, 700, dims="cyx")
    path = write_image(tmp_path / "a.ome.tif", data)
    with tifffile.TiffFile(path) as tif:
        assert tif.pages.first.tile == (512, 512)
    np.testing.assert_array_equal(open_image(path).read().values, data.values)
    region = open_image(path).read({"channel": 1, "y": slice(1000, 1100), "x": slice(600, None)})
    np.testing.assert_array_equal(region.values, data.values[1, 1000:1100, 600:])


def test_axes_that_ome_does_not_know(tmp_path: Path) -> None:
    """A batch of one is left out, a larger one needs a decision."""
    one = image(1, 20, 30, dims="byx")
    assert open_image(write_image(tmp_path / "a.ome.tif", one)).axes == ("y", "x")
    for name in ("a.ome.tif", "a.ome.zarr"):
        with pytest.raises(ImageMismatchError, match=r"2 positions along batch.*\.npy"):
            write_image(tmp_path / name, image(2, 20, 30, dims="byx"))
        with pytest.raises(ImageMismatchError, match="needs y and x"):
            write_image(tmp_path / name, image(2, 20, dims="cx"))
    assert open_image(write_image(tmp_path / "a.npy", image(2, 3, 4, dims="byx")), axes="byx")


@pytest.mark.parametrize("name", ["a.ome.tif", "a.ome.zarr"])
def test_names_that_no_xml_can_hold(tmp_path: Path, name: str) -> None:
    """Markup is kept, control characters become question marks."""
    names = ['<"a" & b>', "x\x00y", "µ\ud800"]
    data = image(3, 8, 9, dims="cyx").assign_coords(channel=names)
    back = open_image(write_image(tmp_path / name, data))
    assert back.channel_names == ('<"a" & b>', "x?y", "µ?")


def test_a_size_without_unit_stays_without_unit(tmp_path: Path) -> None:
    """OME assumes micrometers where nothing else is said."""
    data = image(20, 30, pixel_size={"x": 0.5, "y": 1.0}, unit={})
    for name in ("a.ome.tif", "a.ome.zarr"):
        back = open_image(write_image(tmp_path / name, data))
        assert back.pixel_size == {"x": 0.5}
        assert back.unit == {}


# --- OME-Zarr -------------------------------------------------------------------------------------


def test_a_large_ome_zarr_has_smaller_levels(tmp_path: Path) -> None:
    """Intensities are averaged; every level says where its pixels lie."""
    data = image(2, 2050, 1100, dims="cyx", dtype="float32", pixel_size={"y": 0.5, "x": 0.5},
                 unit={"y": "micrometer", "x": "micrometer"})  # fmt: skip
    path = write_image(tmp_path / "a.ome.zarr", data.assign_coords(channel=["DAPI", "GFP"]))
    facts = check_ngff(path)
    sets = facts["multiscales"][0]["datasets"]
    shapes = [zarr.open_array(path / s["path"]).shape for s in sets]
    assert shapes == [(2, 2050, 1100), (2, 1025, 550), (2, 512, 275)]
    assert sets[2]["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 2.0, 2.0]},
        {"type": "translation", "translation": [0.0, 0.75, 0.75]},
    ]
    half: Any = zarr.open_array(path / "1")[...]
    expected = data.values[:, :2050].reshape(2, 1025, 2, 550, 2).mean((2, 4))
    np.testing.assert_allclose(half, expected, rtol=1e-5)


def test_smaller_levels_of_labels_hold_only_labels(tmp_path: Path) -> None:
    """The mean of object 2 and object 4 is not object 3."""
    data = image(1100, 1100, dtype="uint16", name="cells.labels") * 2
    data.attrs["name"] = "cells.labels"
    path = write_image(tmp_path / "a.ome.zarr", data)
    half: Any = zarr.open_array(path / "1")[...]
    np.testing.assert_array_equal(half, data.values[::2, ::2])


def test_an_existing_ome_zarr_is_replaced_whole(tmp_path: Path) -> None:
    """No chunk or level of the old one is left."""
    path = tmp_path / "a.ome.zarr"
    write_image(path, image(1100, 1100))
    write_image(path, image(20, 30, dtype="uint8"))
    assert open_image(path).shape == (20, 30)
    assert not (path / "1").exists()
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".a")] == []


def test_a_folder_that_is_no_zarr_is_not_replaced(tmp_path: Path) -> None:
    """A slip of the keyboard must not delete a person's folder."""
    precious = tmp_path / "a.zarr"
    precious.mkdir()
    (precious / "thesis.txt").write_text("42")
    with pytest.raises(StorageError, match="no Zarr image"):
        write_image(precious, image(20, 30))
    (tmp_path / "b.tif").mkdir()
    with pytest.raises(StorageError, match="is a folder"):
        write_image(tmp_path / "b.tif", image(20, 30))
    assert (precious / "thesis.txt").read_text() == "42"


# --- npy, PNG, preview ----------------------------------------------------------------------------


def test_npy_keeps_the_array_as_it_is(tmp_path: Path) -> None:
    """Its own order of axes, its own type."""
    data = image(20, 30, 3, dims="xyc", dtype="int64")
    np.testing.assert_array_equal(np.load(write_image(tmp_path / "a.npy", data)), data.values)


def test_png_is_an_8_bit_picture(tmp_path: Path) -> None:
    """16 bits are stretched, 8 bits kept, colour kept; a stack is refused."""
    dim = image(20, 30) + 10_000
    shown = np.array(Pillow.open(write_image(tmp_path / "a.png", dim)))
    assert shown.dtype == np.uint8
    assert shown.shape == (20, 30)
    assert (shown.min(), shown.max()) == (0, 255)
    kept = image(1, 20, 30, dims="byx", dtype="uint8")
    np.testing.assert_array_equal(
        np.array(Pillow.open(write_image(tmp_path / "b.png", kept))), kept.values[0]
    )
    colour = image(20, 30, 3, dims="yxc", dtype="uint8").assign_coords(
        channel=["red", "green", "blue"]
    )
    np.testing.assert_array_equal(
        open_image(write_image(tmp_path / "c.png", colour)).read().values, colour.values
    )
    with pytest.raises(ImageMismatchError, match=r"axes zyx. Choose one position along z"):
        write_image(tmp_path / "d.png", image(2, 20, 30, dims="zyx"))


def test_preview_is_small_and_reduces_by_whole_factors() -> None:
    """At most 1024 pixels a side."""
    assert preview(image(3000, 1500)).shape == (1000, 500)
    assert preview(image(1024, 10)).shape == (1024, 10)
    assert preview(image(3, 4, 2100, 10, dims="tzyx")).shape == (700, 3)


def test_preview_of_labels_gives_each_object_its_colour() -> None:
    """The same colour in every picture, black outside."""
    labels = xr.DataArray(np.array([[0, 1, 2], [0, 2, 70_000]], np.int32), dims=("y", "x"))
    shown = preview(labels)
    assert shown.shape == (2, 3, 3)
    assert (shown[:, 0] == 0).all()
    assert (shown[0, 2] == shown[1, 1]).all()
    assert len({tuple(c) for c in (shown[0, 1], shown[0, 2], shown[1, 2])}) == 3
    assert shown[labels.values > 0].max(axis=-1).min() > 100


def test_preview_of_channels_adds_their_colours() -> None:
    """One is green, two is magenta, both is white."""
    values = np.zeros((2, 1, 4), np.uint8)
    values[0, 0, :2] = 255
    values[1, 0, 1:3] = 255
    shown = preview(xr.DataArray(values, dims=("channel", "y", "x")))
    assert shown[0].tolist() == [[0, 255, 0], [255, 255, 255], [255, 0, 255], [0, 0, 0]]


def test_preview_of_odd_values() -> None:
    """Not-a-number, infinity and a constant image are shown, without a warning."""
    values = np.linspace(0, 1, 40_000, dtype=np.float32).reshape(200, 200)
    values[0, 0], values[0, 1] = np.nan, np.inf
    shown = preview(xr.DataArray(values, dims=("y", "x")))
    assert (shown[0, 0], shown[0, 1], shown[-1, -1]) == (0, 255, 255)
    for constant in (0.0, 7.0, np.nan):
        assert not preview(xr.DataArray(np.full((4, 4), constant), dims=("y", "x"))).any()
    lonely = xr.DataArray(np.zeros((100, 100)), dims=("y", "x"))
    lonely[5, 5] = 1
    assert preview(lonely)[5, 5] == 255


# --- written beside, then renamed -----------------------------------------------------------------

ENDINGS = ["a.ome.tif", "a.ome.zarr", "a.npy", "a.png"]


@pytest.fixture(params=ENDINGS)
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file in a folder that must hold nothing else in the end."""
    folder = tmp_path / "out"
    yield folder / request.param
    left = [p.name for p in folder.iterdir()] if folder.exists() else []
    assert left in ([], [request.param])


def test_missing_folders_are_made(target: Path) -> None:
    """An output folder need not exist."""
    assert write_image(target, image(20, 30)) == target
    assert target.exists()


@pytest.mark.parametrize(
    ("failure", "raised", "says"),
    [
        (OSError(errno.ENOSPC, "No space"), StorageError, "disk is full.*Free some space"),
        (OSError("65536 requested and 8 written"), StorageError, "disk is full.*Free some space"),
        (OSError(errno.EFBIG, "File too large"), StorageError, "larger than a file may be here"),
        (OSError(errno.EROFS, "ro"), StorageError, "can only be read. Choose another folder"),
        (KeyboardInterrupt("stop"), KeyboardInterrupt, "stop"),
        (RuntimeError("a bug"), RuntimeError, "a bug"),
    ],
)
def test_a_failed_write_leaves_the_old_output_and_nothing_else(
    target: Path,
    failure: BaseException,
    raised: type[BaseException],
    says: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A full disk or Ctrl-C in the middle of writing."""
    write_image(target, image(20, 30, dtype="uint8"))
    before = open_image(target).read()

    replace = os.replace

    def break_at_the_end(source: Path, to: Path) -> None:
        if target in (source, to):
            raise failure
        replace(source, to)

    monkeypatch.setattr(os, "replace", break_at_the_end)
    monkeypatch.setattr(os, "rename", break_at_the_end)
    with pytest.raises(raised, match=says):
        write_image(target, image(40, 50, dtype="uint8"))
    monkeypatch.undo()
    xr.testing.assert_identical(open_image(target).read(), before)


def test_a_failure_while_pixels_are_written(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The half-written file or folder is removed."""
    library: Any = {
        ".tif": (tifffile.TiffWriter, "close"), "zarr": (zarr.Group, "create_array"),
        ".npy": (np, "save"), ".png": (Pillow.Image, "save"),
    }[target.name[-4:]]  # fmt: skip

    def full(*args: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    owner, name = library
    monkeypatch.setattr(owner, name, full)
    with pytest.raises(StorageError, match="disk is full"):
        write_image(target, image(20, 30, dtype="uint8"))


def test_no_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the path and offers a way out."""

    def refuse(*args: object, **options: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(builtins, "open", refuse)
    with pytest.raises(StorageError, match=r"a\.npy: there is no permission.*another folder"):
        write_image(tmp_path / "a.npy", image(20, 30))


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    """The parent is a file."""
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError, match="is a file, not a folder"):
        write_image(tmp_path / "out" / "a.npy", image(20, 30))


def test_overwrite_false_keeps_the_old(target: Path) -> None:
    """And says so."""
    write_image(target, image(20, 30))
    with pytest.raises(StorageError, match="exists already"):
        write_image(target, image(40, 50), overwrite=False)
    assert open_image(target).sizes["x"] == 30


def test_wrong_use_is_named(tmp_path: Path) -> None:
    """An unknown ending, unnamed dimensions, an empty image."""
    with pytest.raises(UsageError, match=r"a\.jpg: end its name in \.ome\.tif"):
        write_image(tmp_path / "a.jpg", image(20, 30))
    with pytest.raises(AxesError, match="unknown 'dim_0'"):
        write_image(tmp_path / "a.tif", xr.DataArray(np.zeros((3, 4))))
    with pytest.raises(ImageMismatchError, match="no pixels"):
        write_image(tmp_path / "a.tif", image(0, 30))
    assert list(tmp_path.glob("*a.*")) == []


def test_a_file_may_be_written_over_the_one_it_is_read_from(tmp_path: Path) -> None:
    """The pixels come from a map of the old file until the new one takes its place."""
    path = write_image(tmp_path / "a.ome.tif", image(3, 20, 30, dims="zyx", dtype="float32"))
    data = open_image(path).read()
    write_image(path, data + 1)
    np.testing.assert_array_equal(open_image(path).read().values, data.values + 1)
